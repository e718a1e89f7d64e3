"""What a search is told: where it is kept and how it goes, from the options that were given."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pzc.cli import options
from pzc.cli.search.join import HERE
from pzc.compiler.load import load_all

if TYPE_CHECKING:
    from pzc.search.place import Place
    from pzc.search.settings import Settings

LIMIT = 600.0
"""Seconds that a search takes when nothing else is said."""

BOUNDS = ("generations", "evaluations", "patience", "reach")
"""What ends a search beside its time."""

ANEW = (*HERE, "limit", *BOUNDS)
"""What may be given again with --resume: where the model and the texts are now, and how far to go."""


def place_of(ctx: click.Context, where: str | None, given: dict[str, Any]) -> Place:
    """Where a run is stored: at a URL, with a folder for what is written, or in a folder."""
    from pzc.search.place import STUDY, Place

    if not (where and "://" in where) and given["study"] != STUDY:
        other = f"the study of a folder is `{STUDY}`, not `{given['study']}`"
        raise click.UsageError(f"--study is for storages: {other}", ctx)
    if where and "://" in where:
        return Place(given["folder"] or _folder(given["study"]), where, given["study"])
    return Place(Path(where) if where else given["folder"] or _folder(given["model"]))


def settings_of(ctx: click.Context, given: dict[str, Any]) -> Settings:
    """The settings of a new run. Raises UsageError for options that don't go together."""
    import torch

    from pzc.search.algorithms import ALGORITHMS
    from pzc.search.proposals import rng_for
    from pzc.search.settings import Settings, default_population, default_space, default_threads
    from pzc.search.space import random_genotype, space_for

    for name, own in ALGORITHMS[given["algorithm"]].fixed.items():
        if options.is_typed(ctx, name) and given[name] != own:
            flag = "--" + name.replace("_", "-")
            raise click.UsageError(f"{flag} does not go with --algorithm {given['algorithm']}", ctx)
    if given["template"] is not None:
        for name in ("seed_metrics", "seed_zoo"):
            if given[name]:
                flag = "--" + name.replace("_", "-")
                raise click.UsageError(f"{flag} brings in metrics that the --template does not hold for", ctx)
    chosen = {f.name: given[f.name] for f in fields(Settings) if f.name in given}
    chosen["population"] = given["population"] or default_population(given["algorithm"])
    chosen["space"] = given["space"] or default_space(given["algorithm"])
    space = space_for(chosen["space"], "row" if given["pattern"] else given["per"], given["template"])
    random_genotype(space, rng_for(given["seed"], 0, 0, 0))  # one that gives no metric is said before anything else
    chosen["threads"] = (
        torch.get_num_threads() if options.is_typed(ctx, "threads") else default_threads(given["workers"])
    )
    seeds = [m for reference in given["seed_metrics"] for m in load_all(reference)]
    if by_role := [m.name for m in seeds if m.roles]:
        others = "of a file with others name one, as FILE.pzm:NAME"
        raise click.UsageError(
            f"`{by_role[0]}` has a score for each role; the search has one for all layers; {others}", ctx
        )
    chosen["seeds"] = tuple(f"{m.name}: {m.formula} per {m.per}" for m in seeds)
    if chosen["limit"] is None and not any(options.is_typed(ctx, name) for name in BOUNDS):
        chosen |= {"limit": LIMIT, "default_limit": True}
    settings = Settings(**chosen)
    _check_seeds(ctx, settings)
    return settings


def _check_seeds(ctx: click.Context, settings: Settings) -> None:
    """Raise UsageError where the run would end before it has tried the metrics that it is to begin with."""
    from pzc.search.settings import given

    n = len(given(settings).seeds) if settings.evaluations is not None else 0
    if settings.evaluations is not None and n > settings.evaluations:
        brought = f"--seed-metrics bring {n} candidates, one for each group of the space where it lacks a metric's own"
        raise click.UsageError(f"{brought}; --evaluations {settings.evaluations} would leave some of them untried", ctx)


def changed(ctx: click.Context, kept: Settings, given: dict[str, Any]) -> Settings:
    """The settings of a run with what is given anew. Raises UsageError for what a run cannot change."""
    import torch

    names = [f.name for f in fields(kept) if f.name in given and options.is_typed(ctx, f.name)]
    flags = {p.name: p.opts[0] for p in ctx.command.params}
    for name in names:
        was = getattr(kept, name)
        if name not in ANEW and given[name] != was:
            nothing = was is None or was is False or was == ()
            began = "it began without one" if nothing else f"it began with {was}"
            raise click.UsageError(f"{flags[name]} of a run cannot change; {began}", ctx)
    if given["seed_metrics"]:
        raise click.UsageError("--seed-metrics are what a run begins with; it cannot get others", ctx)
    if options.is_typed(ctx, "threads") and kept.threads not in (None, torch.get_num_threads()):
        raise click.UsageError(f"--threads of a run cannot change; it began with {kept.threads}", ctx)
    anew = {name: given[name] for name in names if name in ANEW}
    if kept.default_limit and anew.keys() & {"limit", *BOUNDS}:  # it had no bound but that of a run which is given none
        anew = {"limit": None, **anew, "default_limit": False}
    return replace(kept, **anew)


def _folder(model: str) -> Path:
    """A new folder of today's: `runs/2026-11-23-pocket`, with a number where that is taken."""
    base = Path("runs") / f"{date.today()}-{Path(model).name}"
    taken = 2
    folder = base
    while folder.exists():
        folder, taken = base.with_name(f"{base.name}-{taken}"), taken + 1
    return folder
