"""`pzc search`."""

from __future__ import annotations

import math
import shlex
from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pzc.cli import options
from pzc.cli.console import print_json, progress, say
from pzc.compiler.load import zoo

if TYPE_CHECKING:
    from pzc.search.run import Prepared, Settings

LIMIT = 600.0
"""Seconds that a search takes when nothing else is said."""

ANEW = ("model", "data", "eval_data", "generations", "limit")
"""What may be given again with --resume: where the model and the texts are now, and how far to go."""


@click.command("search")
@options.loading
@options.target
@options.per
@options.data
@options.eval_data
@options.windows
@click.option(
    "--fitness-windows", type=click.IntRange(4), default=32, show_default=True, help="Windows that measure a candidate."
)
@click.option("--held-out-windows", type=click.IntRange(1), default=64, show_default=True, help="Windows of the final.")
@options.length
@click.option(
    "--space",
    default="default",
    show_default=True,
    metavar="SPACE",
    help="What is built: default, elementwise, pruner_zero, or FILE.pzm[:NAME] with a `space`.",
)
@click.option("--population", type=click.IntRange(4), default=32, show_default=True)
@click.option("--generations", type=click.IntRange(1), default=1000, show_default=True)
@click.option(
    "--time",
    "limit",
    type=options.Duration(),
    help="Stop after searching this long, earlier sessions of the run included: 90s, 60m, 2h. "
    "[default: 10m, or no limit with --generations]",
)
@options.seed
@click.option("--seed-zoo", is_flag=True, help="Let the zoo's metrics into the first population.")
@click.option(
    "--run",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the run. [default: runs/DATE-MODEL]",
)
@click.option(
    "--resume",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Go on with a run, with its own settings; --time and --generations may be larger.",
)
@options.as_json
@options.quiet
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Evolve metrics that prune a model better than the published ones.

    Candidates are measured on calibration-side text only; the best are compared with the zoo on text that the
    search has never seen. Every candidate is stored when it is settled.

    \b
    pzc search --model pocket --time 5m --seed-zoo
    pzc search -m smollm2 -d train.txt --eval-data test.txt --length 512 --time 1h --run runs/first
    pzc search --resume runs/first --time 2h
    """
    from pzc.cli.watch import gentle, watching
    from pzc.cli.winners import report
    from pzc.search.run import Budget, finish, keep, open_store, prepare, search

    options.check_pattern(ctx, given["pattern"])
    resumed: Path | None = given["resume"]
    if resumed and given["folder"]:
        raise click.UsageError("--run begins a search and --resume goes on with one; give one of them", ctx)
    silent = given["quiet"] or given["as_json"]
    folder = resumed or given["folder"] or _folder(given["model"])
    store, settings = open_store(folder, None if resumed else _settings(ctx, given))
    try:
        if resumed:
            settings = _changed(ctx, settings, given)
        budget = Budget(settings.limit or math.inf)
        with progress(silent) as bar:
            run = prepare(
                store,
                settings,
                folder,
                device=given["device"],
                trust_remote_code=given["trust_remote_code"],
                progress=bar,
            )
        by_role = [m.name for m in zoo().values() if m.roles]
        if by_role and not silent:
            say(f"left out of the zoo: {', '.join(by_role)}; the search knows no metrics by role")
        if not silent:
            say(_plan(run))
        before = len(run.state.candidates)
        with gentle(budget), watching(run, budget, silent, given["as_json"]):
            search(run, budget)
        if budget.asked:
            kept = keep(run)
            if kept and not given["as_json"]:
                best = run.state.standing().best[0]
                say(f"best so far {best[0].fitness:.3f}  {best[1].formula}  per {best[0].per} → {kept[0]}")
            raise KeyboardInterrupt
        if resumed and len(run.state.candidates) == before:
            say("this run has gone as far as it may; --time or --generations make it go on")
        with progress(silent) as bar:
            result = finish(run, lambda done, total: bar("held-out text", done, total))
        report(run, result, given["as_json"])
    except KeyboardInterrupt:
        following = f"; go on with: pzc search --resume {shlex.quote(str(folder))}"
        say(f"stopped{following}" if store.settings is not None else "stopped before the search began")
        if given["as_json"]:
            print_json({"event": "stopped", "run": str(folder)})
        ctx.exit(130)
    finally:
        store.close()


def _plan(run: Prepared) -> str:
    """What is about to happen, and for how long."""
    s, layers, windows = run.settings, run.fitness.layers, run.fitness.windows
    size = f"{len(layers.layers)} linears, {layers.size / 1e6:.2f} M weights"
    texts = f"statistics of {s.windows} × {windows.shape[1]} tokens, {len(windows)} windows a candidate"
    until = f"{s.limit:g} s" if s.limit else f"{s.generations} generations"
    return f"plan  {size} · {texts} · {s.space} space, population {s.population}, {until} → {run.folder}"


def _given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE


def _settings(ctx: click.Context, given: dict[str, Any]) -> Settings:
    from pzc.search.run import Settings
    from pzc.search.space import load_space

    load_space(given["space"])
    chosen = {f.name: given[f.name] for f in fields(Settings)}
    if chosen["limit"] is None and not _given(ctx, "generations"):
        chosen["limit"] = LIMIT
    return Settings(**chosen)


def _changed(ctx: click.Context, kept: Settings, given: dict[str, Any]) -> Settings:
    """The settings of a run with what is given anew. Raises UsageError for what a run cannot change."""
    options = {p.name: p.opts[0] for p in ctx.command.params}
    names = [f.name for f in fields(kept) if _given(ctx, f.name)]
    for name in names:
        was = getattr(kept, name)
        if name not in ANEW and given[name] != was:
            raise click.UsageError(f"{options[name]} of a run cannot change; it began with {was}", ctx)
    changed = {name: given[name] for name in names if name in ANEW}
    if "generations" in changed and "limit" not in changed:
        changed["limit"] = None
    return replace(kept, **changed)


def _folder(model: str) -> Path:
    """A new folder of today's: `runs/2026-11-23-pocket`, with a number where that is taken."""
    base = Path("runs") / f"{date.today()}-{Path(model).name}"
    taken = 2
    folder = base
    while folder.exists():
        folder, taken = base.with_name(f"{base.name}-{taken}"), taken + 1
    return folder
