"""Options that have one name and one meaning in every command."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from pzc.cli import completion
from pzc.compiler.groups import GROUPS, read_groups
from pzc.compiler.limits import LARGEST_SEED
from pzc.compiler.pattern import EXPECTED, pattern_of, pattern_text

F = TypeVar("F", bound=Callable[..., Any])


class Duration(click.ParamType[float]):
    """A time such as `90s`, `60m` or `2h`, in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([smh]?)", str(value).strip())
        if not found or float(found[1]) == 0:
            self.fail(f"`{value}` is no time; write 90s, 60m or 2h", param, ctx)
        return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def _settings(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    settings: dict[str, float] = {}
    for value in values:
        name, _, number = value.partition("=")
        try:
            settings[name.strip()] = float(number)
        except ValueError:
            raise click.BadParameter(f"`{value}` is not NAME=NUMBER", ctx, param) from None
        if not name.strip():
            raise click.BadParameter(f"`{value}` is not NAME=NUMBER", ctx, param)
        if not math.isfinite(settings[name.strip()]):
            raise click.BadParameter(f"`{name.strip()}` cannot be {number.strip()}: write a number", ctx, param)
    return settings


def _sparsity(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if not 0 < value < 1:
        raise click.BadParameter(
            f"{value:g} is not between 0 and 1; write 0.5 to prune half of the weights", ctx, param
        )
    return value


def read_pattern(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The callback of an option that takes a pattern N:M."""
    if value is None:
        return None
    pattern = pattern_of(value)
    if pattern is None:
        raise click.BadParameter(f"`{value}` is no pattern; {EXPECTED}", ctx, param)
    return pattern_text(pattern)


def parts(values: tuple[str, ...]) -> list[str]:
    """The values of an option that may be repeated, and may hold several with commas between them."""
    return [part.strip() for value in values for part in value.split(",")]


def _each(
    one: Callable[[click.Context, click.Parameter, Any], Any], read: Callable[[str], Any] = str
) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], tuple[Any, ...]]:
    """The callback of a `multiple` option that takes several values with commas between them, too, each checked by
    `one`."""

    def check(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[Any, ...]:
        found = []
        for part in parts(values):
            try:
                found.append(one(ctx, param, read(part)))
            except ValueError:
                raise click.BadParameter(f"`{part}` is no number", ctx, param) from None
        for value in found:
            if found.count(value) > 1:
                raise click.BadParameter(f"{value} is given twice", ctx, param)
        return tuple(found)

    return check


def _only(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> str:
    """The one metric that is given: of several an option that is not `multiple` would take the last without a word."""
    if len(given) > 1:
        raise click.UsageError(f"one metric at a time: {', '.join(given)}; `pzc compare` measures several", ctx)
    return given[0]


def _seed(ctx: click.Context, param: click.Parameter, value: int) -> int:
    if not 0 <= value <= LARGEST_SEED:
        raise click.BadParameter(f"{value} is not between 0 and {LARGEST_SEED:,}", ctx, param)
    return value


def _threads(ctx: click.Context, param: click.Parameter, value: int | None) -> int | None:
    if value is not None:
        import torch

        torch.set_num_threads(value)
    return value


def _groups(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> str | None:
    try:
        return read_groups(parts(values))
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


model = click.option(
    "--model",
    "-m",
    default="pocket",
    show_default=True,
    metavar="MODEL",
    shell_complete=completion.models,
    help="pocket, smollm2, a folder, a GGUF file or a Hugging Face id.",
)
metric = click.option(
    "--metric",
    "-f",
    required=True,
    multiple=True,
    callback=_only,
    metavar="METRIC",
    shell_complete=completion.metrics,
    help="A zoo name, a .pzm file, FILE:NAME, or an expression such as 'abs(W) * X per row'.",
)
parameter = click.option(
    "--set", "settings", multiple=True, metavar="NAME=NUMBER", callback=_settings, help="Set a parameter of the metric."
)
sparsity = click.option(
    "--sparsity",
    "-s",
    type=float,
    default=0.5,
    show_default=True,
    metavar="SHARE",
    callback=_sparsity,
    help="Share of weights to prune.",
)
pattern = click.option(
    "--pattern",
    metavar="N:M",
    callback=read_pattern,
    help="Keep N of every M consecutive inputs instead, such as 2:4.",
)


def several_sparsities(default: tuple[str, ...] = ()) -> Callable[[F], F]:
    """`--sparsity` where several can be asked for at once."""
    return click.option(
        "--sparsity",
        "-s",
        "sparsities",
        multiple=True,
        default=default,
        show_default=bool(default),
        metavar="SHARE,…",
        callback=_each(_sparsity, float),
        help="Share of weights to prune, or several: 0.3,0.5,0.7.",
    )


def several_patterns(note: str = "") -> Callable[[F], F]:
    """`--pattern` where several can be asked for at once."""
    return click.option(
        "--pattern",
        "patterns",
        multiple=True,
        metavar="N:M,…",
        callback=_each(read_pattern),
        help=f"Keep N of every M consecutive inputs, or several: 2:4,4:8.{note}",
    )


sparsities = several_sparsities(("0.5",))
patterns = several_patterns()
per = click.option("--per", type=click.Choice(list(GROUPS)), help="Comparison group, instead of the metric's own.")
groups = click.option(
    "--per",
    multiple=True,
    metavar="GROUP,…",
    callback=_groups,
    help="Comparison groups instead of the space's, one or several: row,col,layer keeps every layer at the sparsity.",
)
include = click.option(
    "--include",
    multiple=True,
    metavar="GLOB",
    help="Prune only layers whose names match, such as 'layers.3.*' or q_proj; may be repeated.",
)
exclude = click.option(
    "--exclude", multiple=True, metavar="GLOB", help="Leave layers dense whose names match; may be repeated."
)
data = click.option(
    "--data",
    "-d",
    default="pydoc",
    show_default=True,
    metavar="TEXT",
    shell_complete=completion.texts,
    help="Text to calibrate on: pydoc, self, wikitext2, c4, or a text or JSONL file.",
)
eval_data = click.option(
    "--eval-data",
    metavar="TEXT",
    shell_complete=completion.texts,
    help="Text to evaluate on. By default the part of --data that calibration does not read.",
)
windows = click.option(
    "--windows", "-n", type=click.IntRange(1), default=16, show_default=True, help="Calibration windows."
)
eval_windows = click.option(
    "--eval-windows", type=click.IntRange(1), default=16, show_default=True, help="Evaluation windows."
)
may_measure = click.option(
    "--eval-windows",
    type=click.IntRange(0),
    default=16,
    show_default=True,
    help="Evaluation windows; 0: prune without measuring.",
)
length = click.option(
    "--length", "-l", type=click.IntRange(2), help="Tokens a window. [default: 512, or the model's longest if less]"
)
cache = click.option(
    "--statistics-cache",
    "cache",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="PZC_STATISTICS_CACHE",
    show_envvar=True,
    metavar="DIR",
    help="Folder that caches statistics of gradients between runs.",
)
seed = click.option(
    "--seed", type=int, default=0, show_default=True, callback=_seed, metavar="N", help="Seed for all randomness."
)
device = click.option(
    "--device", default="auto", show_default=True, metavar="DEVICE", help="auto, cpu, cuda:0, …; map: all GPUs."
)
dtype = click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="Convert weights to this type on loading."
)
threads = click.option(
    "--threads", type=click.IntRange(1), callback=_threads, expose_value=False, help="CPU threads for torch."
)
trust = click.option("--trust-remote-code", is_flag=True, help="Run code that comes with a model.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
storage = click.option(
    "--storage", metavar="URL", help="The Optuna storage that keeps the run, where it is not in its folder."
)
study = click.option("--study", default="search", show_default=True, help="Name of the study in the storage.")
quiet = click.option("--quiet", "-q", is_flag=True, help="No progress.")


def together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, in the order in which help lists them."""

    def apply(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return apply


allocation = click.option(
    "--allocation",
    default="uniform",
    show_default=True,
    metavar="HOW",
    help="Sparsities of blocks: uniform, owl, alpha, or a TOML or JSON file of blocks or layers.",
)
sequential = click.option(
    "--sequential/--one-shot",
    default=None,
    help="Activations after earlier blocks are pruned, or dense. [default: one-shot, but sequential with an update]",
)
update = click.option(
    "--update",
    type=click.Choice(["none", "obs", "sparsegpt"]),
    help="How kept weights compensate: obs applies SparseGPT's update to the metric's mask, sparsegpt chooses the mask "
    "as well. [default: none; sparsegpt for that metric]",
)
overwrite = click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
mask_only = click.option(
    "--mask-only", is_flag=True, help="Write the masks to a safetensors file instead, for `pzc apply`."
)
streams = click.option(
    "--stream", "streams", is_flag=True, help="Hold one decoder block at a time, from shard to shard."
)
loading = together(model, device, dtype, trust, threads)
target = together(sparsity, pattern)
chosen_layers = together(include, exclude)
targets = together(sparsities, patterns)
stored = together(storage, study)
calibration = together(data, eval_data, windows, eval_windows, length)
pruning = together(
    metric, parameter, loading, sparsities, pattern, per, allocation, chosen_layers, sequential, update, data,
    eval_data, windows, may_measure, length, cache, seed,
)  # fmt: skip


def is_typed(ctx: click.Context, name: str) -> bool:
    """Whether an option came with the command, and not from a default or the environment."""
    return ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE


def check_pattern(ctx: click.Context, pattern: str | None) -> None:
    """Raise UsageError when `--pattern` comes with what it replaces."""
    for name, option in (("sparsity", "sparsity"), ("sparsities", "sparsity"), ("per", "per")):
        if pattern and is_typed(ctx, name):
            raise click.UsageError(f"--pattern {pattern} replaces --{option}; give one of them", ctx)


def check_targets(ctx: click.Context, patterns: tuple[str, ...]) -> None:
    """Raise UsageError when `--per` comes with patterns alone, which replace it."""
    if patterns and is_typed(ctx, "per") and not is_typed(ctx, "sparsities"):
        raise click.UsageError(f"--pattern {','.join(patterns)} replaces --per; give one of them", ctx)
