"""What a search is told: where it is kept and how it goes, from the options that were given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from pzc.cli import options

if TYPE_CHECKING:
    from pzc.search.place import Place
    from pzc.search.request import How
    from pzc.search.settings import Settings


def place_of(ctx: click.Context, where: str | None, given: dict[str, Any]) -> Place:
    """Where a run is stored: at a URL, with a folder for what is written, or in a folder."""
    from pzc.search.place import place_at

    url = where if where and "://" in where else None
    folder = Path(where) if where and not url else given["folder"] or _folder(given["study" if url else "model"])
    with _spelt(ctx):
        return place_at(folder, url, given["study"])


def settings_of(ctx: click.Context, given: dict[str, Any]) -> Settings:
    """The settings of a new run. Raises UsageError for options that don't go together."""
    from pzc.search.request import new_settings

    with _spelt(ctx):
        return new_settings(given["workers"], **_typed(ctx, given))


def changed(ctx: click.Context, kept: Settings, given: dict[str, Any]) -> Settings:
    """The settings of a run with what is given anew. Raises UsageError for what a run cannot change."""
    from pzc.search.request import resumed_settings

    with _spelt(ctx):
        return resumed_settings(kept, **_typed(ctx, given))


def _typed(ctx: click.Context, given: dict[str, Any]) -> How:
    """The options of a search that were given, and not left to be as usual."""
    import torch

    from pzc.search.request import How

    typed = [name for name in How.__annotations__ if options.is_typed(ctx, name)]
    return cast("How", {name: torch.get_num_threads() if name == "threads" else given[name] for name in typed})


@contextmanager
def _spelt(ctx: click.Context) -> Iterator[None]:
    """Say of options that do not go together which these are on the command line."""
    from pzc.search.errors import Contradiction

    flags = {str(p.name): p.opts[0] for p in ctx.command.params}
    try:
        yield
    except Contradiction as error:
        raise click.UsageError(error.spelt(lambda name: flags.get(name, name)), ctx) from error


def _folder(model: str) -> Path:
    """A new folder of today's: `runs/2026-11-23-pocket`, with a number where that is taken."""
    base = Path("runs") / f"{date.today()}-{Path(model).name}"
    taken = 2
    folder = base
    while folder.exists():
        folder, taken = base.with_name(f"{base.name}-{taken}"), taken + 1
    return folder
