"""What `pzc prune` and `pzc plan` are asked to do: their options as one frozen value, and the model that they name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pzc.cli import options
from pzc.compiler.load import load

if TYPE_CHECKING:
    from pzc.runtime.models.layers import Layers
    from pzc.runtime.models.loading import Loaded
    from pzc.runtime.pruning.request import Request
    from pzc.runtime.streaming.model import Shell


@dataclass(frozen=True)
class Asked:
    """The options by the names that click gives them."""

    metric: str
    settings: dict[str, float]
    model: str
    device: str
    dtype: str | None
    trust_remote_code: bool
    sparsities: tuple[float, ...]
    pattern: str | None
    per: str | None
    allocation: str
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    sequential: bool | None
    update: str | None
    data: str
    eval_data: str | None
    windows: int
    eval_windows: int
    length: int | None
    cache: Path | None
    seed: int
    folder: Path | None
    overwrite: bool
    mask_only: bool
    streams: bool
    as_json: bool
    quiet: bool

    @property
    def silent(self) -> bool:
        return self.quiet or self.as_json

    def check(self, ctx: click.Context) -> None:
        """Raise UsageError for options that exclude each other, as far as that shows without the metric."""
        options.check_pattern(ctx, self.pattern)
        if self.streams and self.trust_remote_code:
            raise click.UsageError("--stream runs no code that comes with a model", ctx)
        if self.streams and "self" in (self.data, self.eval_data):
            raise click.UsageError("the text `self` is written by the whole model; give --stream another text", ctx)

    def request(self) -> Request:
        """The run that is asked for. Raises PruningError or UsageError for what does not go together."""
        metric = load(self.metric, self.settings)
        from pzc.runtime.pruning.request import Request

        found = Request.of(
            metric, sparsity=self.sparsities, pattern=self.pattern, per=self.per,
            allocation=self.allocation, include=self.include, exclude=self.exclude,
            sequential=self.sequential, update=self.update, cache=self.cache, seed=self.seed,
        )  # fmt: skip
        if self.mask_only and found.update != "none":
            raise click.UsageError(
                f"--mask-only writes no weights, but --update {found.update} changes them; give --update none, or no "
                "mask"
            )
        return found

    def places(self) -> list[Path]:
        """Where each sparsity goes: the output itself, or for several a folder in it, a file beside it."""
        folder = self.folder or Path()
        if len(self.sparsities) == 1:
            return [folder]
        if self.mask_only:
            folder = folder if folder.name else folder.absolute()
            return [folder.with_name(f"{folder.stem}-{sparsity}{folder.suffix}") for sparsity in self.sparsities]
        return [folder / str(sparsity) for sparsity in self.sparsities]

    def recorded(self, request: Request) -> dict[str, Any]:
        """The options that a record repeats, with what was left open decided."""
        return {
            "model": self.model,
            "metric": self.metric,
            "set": self.settings,
            "dtype": self.dtype,
            "trust_remote_code": self.trust_remote_code,
            "pattern": self.pattern,
            "per": self.per,
            "allocation": self.allocation,
            "include": self.include,
            "exclude": self.exclude,
            "sequential": request.sequential,
            "update": request.update,
            "data": self.data,
            "eval_data": self.eval_data,
            "windows": self.windows,
            "eval_windows": self.eval_windows,
            "seed": self.seed,
            "stream": self.streams,
        }


@dataclass(frozen=True)
class Opened:
    """A model and its layers that are to be pruned; where it is not in memory, the `shell` that stands for it."""

    loaded: Loaded
    layers: Layers
    shell: Shell | None


def opened(asked: Asked, *, placeholders: bool) -> Opened:
    """The model that is asked for, in memory or with `placeholders` for its weights."""
    from pzc.runtime.models.layers import find_layers
    from pzc.runtime.models.loading import load_model
    from pzc.runtime.streaming.model import open_shell

    how: dict[str, Any] = {"device": asked.device, "dtype": asked.dtype}
    if placeholders:
        shell = open_shell(asked.model, include=asked.include, exclude=asked.exclude, **how)
        return Opened(shell.loaded, shell.layers, shell)
    loaded = load_model(asked.model, trust_remote_code=asked.trust_remote_code, **how)
    return Opened(loaded, find_layers(loaded.model, asked.include, asked.exclude), None)
