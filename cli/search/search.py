"""`pzc search`: begin a search, go on with one, or help with one; and what can be asked of a run."""

from __future__ import annotations

import errno
import math
from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pzc.cli import completion, options
from pzc.cli.console import print_json, progress, say
from pzc.cli.search import status, transfer
from pzc.cli.search.join import HERE, join
from pzc.compiler.load import load_all, zoo

if TYPE_CHECKING:
    from pzc.search.place import Place
    from pzc.search.prepare import Prepared
    from pzc.search.settings import Settings

LIMIT = 600.0
"""Seconds that a search takes when nothing else is said."""

BOUNDS = ("generations", "evaluations", "patience", "reach")
"""What ends a search beside its time."""

ANEW = (*HERE, "limit", *BOUNDS)
"""What may be given again with --resume: where the model and the texts are now, and how far to go."""


def _finite(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is never reached", ctx, param)
    return value


@click.group("search", invoke_without_command=True)
@options.loading
@options.target
@options.groups
@options.chosen_layers
@options.data
@options.eval_data
@options.windows
@click.option(
    "--fitness-windows", type=click.IntRange(4), default=32, show_default=True, help="Windows that measure a candidate."
)
@click.option(
    "--held-out-windows",
    type=click.IntRange(2),
    default=64,
    show_default=True,
    help="Windows of text that the search never sees, on which the best are compared with the zoo.",
)
@options.length
@click.option(
    "--algorithm",
    type=click.Choice(["default", "paper", "random"]),
    default="default",
    show_default=True,
    help="paper: Pruner-Zero's algorithm 1; random: its baseline.",
)
@click.option(
    "--space",
    metavar="SPACE",
    help="What is built: default, elementwise, pruner_zero, or FILE.pzm[:NAME] with a `space`. [default: default, or "
    "pruner_zero for the other algorithms]",
)
@click.option("--template", metavar="TEMPLATE", help="What every candidate looks like, such as 'abs(W) * <hole>'.")
@click.option(
    "--objective",
    type=click.Choice(["perplexity", "kl"]),
    default="perplexity",
    show_default=True,
    help="What to minimise: perplexity, or the KL divergence from the dense model.",
)
@click.option(
    "--population",
    type=click.IntRange(4),
    help="How many candidates breed. [default: 32, or 50 for the paper's algorithm]",
)
@click.option(
    "--islands", type=click.IntRange(1), default=2, show_default=True, help="Sub-populations that evolve separately."
)
@click.option("--generations", type=click.IntRange(1), metavar="N", help="Stop after N generations.")
@click.option("--evaluations", type=click.IntRange(1), metavar="N", help="Stop after N measured candidates.")
@click.option("--patience", type=click.IntRange(1), metavar="N", help="Stop when N generations brought nothing better.")
@click.option("--reach", type=float, metavar="FITNESS", callback=_finite, help="Stop when the fitness is this low.")
@click.option(
    "--time",
    "limit",
    type=options.Duration(),
    help="Stop after searching this long, earlier sessions of the run included: 90s, 60m, 2h. Statistics, the zoo and "
    "the final are not counted. [default: 10m, or no limit with another bound]",
)
@options.seed
@click.option("--seed-zoo", is_flag=True, help="Let the zoo's metrics into the first population.")
@click.option(
    "--seed-metrics",
    multiple=True,
    metavar="METRIC",
    shell_complete=completion.metrics,
    help="Begin with these: .pzm files, names or expressions; may be repeated. One whose group the space lacks is "
    "tried in each that it has.",
)
@click.option(
    "--fitness-dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Race candidates in this. [default: the model's own, or bfloat16 for a large one where that is faster]",
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes on this machine.")
@click.option(
    "--run",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the run. [default: runs/DATE-MODEL]",
)
@click.option("--storage", metavar="URL", help="Keep the run in this Optuna storage instead of a file of its folder.")
@options.study
@click.option(
    "--resume",
    metavar="DIR",
    help="Continue the run in this folder, or at this URL, with its own settings; its bounds may change, and where its "
    "model and texts are.",
)
@click.option("--join", metavar="PLACE", help="Help with a run that goes on elsewhere: its folder, or its URL.")
@click.option("--attached", type=int, hidden=True, help="Stop with this process, which has begun this one.")
@options.as_json
@options.quiet
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Evolve metrics that prune a model better than the published ones.

    Candidates are measured on calibration-side text only; the best are compared with the zoo on text that the
    search has never seen. Every candidate is stored when it is settled. `--join` helps with a run from any machine,
    `pzc search status` shows how it stands.

    \b
    pzc search --model pocket --time 5m --seed-zoo
    pzc search -m smollm2 -d train.txt --eval-data test.txt --length 512 --time 1h --run runs/first --workers 2
    pzc search --resume runs/first --time 2h
    """
    if ctx.invoked_subcommand:
        for param in ctx.command.params:
            if options.is_typed(ctx, str(param.name)):
                behind = f"what `{ctx.invoked_subcommand}` is told stands behind it"
                raise click.UsageError(f"{param.opts[0]} is for a search; {behind}", ctx)
        return
    options.check_pattern(ctx, given["pattern"])
    if given["storage"] and "://" not in given["storage"]:
        raise click.UsageError(f"`{given['storage']}` is no URL; a folder is named by --run", ctx)
    if given["storage"] and (given["join"] or given["resume"]):
        raise click.UsageError("--storage is where a run begins; --join and --resume take its URL", ctx)
    if given["join"] and given["resume"]:
        raise click.UsageError("--join helps with a run and --resume leads it; give one of them", ctx)
    if given["join"]:
        join(ctx, given)
        return
    _lead(ctx, given)


command.add_command(status.command)
command.add_command(transfer.command)


def _lead(ctx: click.Context, given: dict[str, Any]) -> None:
    """Begin a run or go on with one, with helpers on this machine, up to its hall of fame."""
    import torch

    from pzc.cli.search.helpers import helping
    from pzc.cli.search.live import ended
    from pzc.cli.search.watch import gentle, named, watching
    from pzc.cli.search.winners import report
    from pzc.runtime.errors import PruningError
    from pzc.search.hall import HALL
    from pzc.search.prepare import open_store, prepare
    from pzc.search.run import Budget, finish, keep, search

    threads = torch.get_num_threads()  # a run sets its own number
    resumed: str | None = given["resume"]
    if resumed and given["folder"] and "://" not in resumed:
        raise click.UsageError("--run begins a search and --resume goes on with one; give one of them", ctx)
    silent = given["quiet"] or given["as_json"]
    place = _place(ctx, resumed or given["storage"], given)
    anew = not (resumed or place.url or place.folder.exists())
    store, settings = open_store(place, None if resumed else _settings(ctx, given))
    begun = bool(resumed)
    try:
        if resumed:
            settings = _changed(ctx, settings, given)
        budget = Budget(settings.limit or math.inf)
        with progress(silent) as bar, store.workers.beating():  # who looks on sees somebody at work
            run = prepare(
                store,
                settings,
                device=given["device"],
                trust_remote_code=given["trust_remote_code"],
                progress=bar,
            )
        begun = True
        by_role = [m.name for m in zoo().values() if m.roles]
        if by_role and not silent:
            say(f"left out of the zoo: {', '.join(by_role)}; the search knows no metrics by role")
        if not silent:
            say(_plan(run, given["workers"]))
            if resumed and not options.is_typed(ctx, "workers"):
                say_idle(run.settings, threads)
        before = store.slots()
        with gentle(budget), helping(place, settings, given), watching(run, budget, silent, given["as_json"]):
            search(run, budget)
        if budget.asked:
            kept = keep(run)
            best = run.state.standing().best
            if best and not given["as_json"]:
                where = f"→ {kept[0]}" if kept else f"({run.folder / HALL} is as the last final has measured it)"
                say(f"best so far {best[0][0].fitness:.3f}  {best[0][1].formula}  per {best[0][0].per}  {where}")
            raise KeyboardInterrupt
        why = ended(run.state, run.settings, store.workers.spent())
        if resumed and store.slots() == before:
            more = "" if run.state.used_up else "; with more it goes on"
            say(f"this run has gone as far as it may: {why}{more}")
        elif not silent:
            say(f"ended with {why}")
        with progress(silent) as bar, store.workers.beating(lambda: budget.session):
            result = finish(run, bar, at_once=given["workers"])
        report(run, result, given["as_json"])
    except KeyboardInterrupt:
        team = f" --workers {given['workers']}" if given["workers"] > 1 else ""
        say(f"stopped; go on with: pzc search {place.resume}{team}" if begun else "stopped before the search began")
        if given["as_json"] and begun:
            print_json({"event": "stopped", **named(place), "folder": str(place.folder)})
        ctx.exit(130)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not begun:
            raise
        following = f"what is settled is kept; with room, go on with: pzc search {place.resume}"
        raise PruningError(f"the disk is full: {error.filename or place.folder}", hint=following) from error
    finally:
        if anew and not begun and store.settings is None:  # else another search has begun here meanwhile
            store.discard()


def _place(ctx: click.Context, where: str | None, given: dict[str, Any]) -> Place:
    """Where a run is stored: at a URL, with a folder for what is written, or in a folder."""
    from pzc.search.place import STUDY, Place

    if not (where and "://" in where) and given["study"] != STUDY:
        other = f"the study of a folder is `{STUDY}`, not `{given['study']}`"
        raise click.UsageError(f"--study is for storages: {other}", ctx)
    if where and "://" in where:
        return Place(given["folder"] or _folder(given["study"]), where, given["study"])
    return Place(Path(where) if where else given["folder"] or _folder(given["model"]))


def _plan(run: Prepared, workers: int) -> str:
    """What is about to happen, and for how long."""
    from pzc.cli.search.live import ends

    s, layers, windows = run.settings, run.fitness.layers, run.fitness.windows
    size = f"{len(layers.layers)} linears, {layers.size / 1e6:.2f} M weights"
    texts = f"statistics of {s.windows} × {windows.shape[1]} tokens, {len(windows)} windows a candidate"
    until = ", or ".join(filter(None, [f"{s.limit:g} s of searching" if s.limit else "", ends(s)]))
    team = f"{workers} × {s.threads} threads" if workers > 1 else f"{s.threads} threads"
    how = "" if s.algorithm == "default" else f"{s.algorithm} algorithm, "
    return (
        f"plan  {size} · {texts} in {s.fitness_dtype} · {how}{s.space} space, population {s.population}, {until}, "
        f"then the final, {team} → {run.store.place}"
    )


def say_idle(settings: Settings, here: int) -> None:
    """Say how many workers would use this machine's threads, where one of a run that is resumed leaves some idle."""
    if settings.threads and (workers := here // settings.threads) > 1:
        say(f"one worker of this run uses {settings.threads} of {here} threads; --workers {workers} would use all")


def _settings(ctx: click.Context, given: dict[str, Any]) -> Settings:
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
        chosen["limit"] = LIMIT
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


def _changed(ctx: click.Context, kept: Settings, given: dict[str, Any]) -> Settings:
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
    changed = {name: given[name] for name in names if name in ANEW}
    if changed.keys() & set(BOUNDS) and kept.limit == LIMIT and all(getattr(kept, name) is None for name in BOUNDS):
        changed.setdefault("limit", None)  # it had no bound but that of a run which is given none
    return replace(kept, **changed)


def _folder(model: str) -> Path:
    """A new folder of today's: `runs/2026-11-23-pocket`, with a number where that is taken."""
    base = Path("runs") / f"{date.today()}-{Path(model).name}"
    taken = 2
    folder = base
    while folder.exists():
        folder, taken = base.with_name(f"{base.name}-{taken}"), taken + 1
    return folder
