"""`pzc search`."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pzc.cli import options
from pzc.cli.console import errors, formula, output, print_json, progress, say

if TYPE_CHECKING:
    from pzc.search.run import Budget, Prepared, Result

FOREVER = 365 * 24 * 3600.0


@click.command("search")
@options.loading
@options.target
@options.data
@options.eval_data
@options.windows
@click.option("--fitness-windows", type=click.IntRange(4), default=32, show_default=True, help="Windows that measure a candidate.")
@click.option("--held-out-windows", type=click.IntRange(1), default=64, show_default=True, help="Windows of the final.")
@options.length
@click.option("--metric-space", "space", default="default", show_default=True, metavar="SPACE", help="default or elementwise.")
@click.option("--population", type=click.IntRange(4), default=32, show_default=True)
@click.option("--generations", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--time", "limit", type=options.Duration(), help="Stop after this long: 90s, 60m, 2h. [default: 10m, or no limit with --generations]")
@options.seed
@click.option("--seed-zoo", is_flag=True, help="Let the zoo's metrics into the first population.")
@click.option("--run", "folder", type=click.Path(file_okay=False, path_type=Path), help="Folder of the run. [default: runs/DATE-MODEL]")
@click.option("--resume", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Go on with a run, with its own settings.")
@options.as_json
@options.quiet
@click.pass_context
def command(ctx: click.Context, **given: Any) -> None:
    """Evolve metrics that prune a model better than the published ones.

    Candidates are measured on calibration-side text only; the best are compared with the zoo on text that the
    search has never seen. Every candidate is stored when it is settled.

    \b
    pzc search --model pocket --time 5m --seed-zoo
    pzc search -m smollm2 -d train.txt --eval-data test.txt --length 512 --time 1h --run runs/first
    pzc search --resume runs/first --time 2h
    """
    from pzc.search.run import Budget, finish, open_store, prepare, search

    resumed: Path | None = given["resume"]
    settings = None if resumed else _settings(given)
    folder = resumed or given["folder"] or _folder(given["model"])
    silent = given["quiet"] or given["as_json"]
    store, settings = open_store(folder, settings)
    limit = given["limit"] or (FOREVER if _given(ctx, "generations") else 600.0)
    budget = Budget(limit)
    try:
        with progress(silent) as bar:
            run = prepare(
                store, settings, folder, device=given["device"], trust_remote_code=given["trust_remote_code"], progress=bar
            )
        with _gentle(budget), _watching(run, budget, silent, given["as_json"]):
            search(run, budget)
        if budget.asked:
            say(f"stopped; go on with: pzc search --resume {folder}")
            ctx.exit(130)
        with progress(silent) as bar:
            result = finish(run, lambda done, total: bar("held-out text", done, total))
        _report(run, result, given["as_json"])
    finally:
        store.close()


def _given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE


def _settings(given: dict[str, Any]) -> Any:
    from pzc.grammar.diagnostics import did_you_mean
    from pzc.runtime.masks import check_sparsity, parse_pattern
    from pzc.search.run import Settings
    from pzc.search.space import SPACES

    if given["space"] not in SPACES:
        hint = did_you_mean(given["space"], SPACES) or f"there are {', '.join(SPACES)}"
        raise click.BadParameter(f"there is no space `{given['space']}`; {hint}", param_hint="--metric-space")
    check_sparsity(given["sparsity"])
    if given["pattern"]:
        parse_pattern(given["pattern"])
    names = Settings.__dataclass_fields__
    return Settings(**{name: given[name] for name in names if name in given})


def _folder(model: str) -> Path:
    """A new folder of today's: `runs/2026-11-23-pocket`, with a number where that is taken."""
    base = Path("runs") / f"{date.today()}-{Path(model).name}"
    taken = 2
    folder = base
    while folder.exists():
        folder, taken = base.with_name(f"{base.name}-{taken}"), taken + 1
    return folder


@contextmanager
def _gentle(budget: Budget) -> Iterator[None]:
    """The first ctrl-c lets the candidate at work finish, the second interrupts it."""

    def ask(number: int, frame: FrameType | None) -> None:
        if budget.asked:
            raise KeyboardInterrupt
        budget.asked = True

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _watching(run: Prepared, budget: Budget, silent: bool, as_json: bool) -> Iterator[None]:
    """Show the run while it searches: live on a terminal, as lines elsewhere, as events with --json."""
    from pzc.search.live import Heading, draw

    s = run.settings
    heading = Heading(Path(s.model).name, s.pattern or f"{s.sparsity:.0%}", s.seed, str(run.folder))

    if errors.is_terminal and not silent:
        with Live(console=errors, get_renderable=lambda: draw(run.state, heading, budget.elapsed, budget.seconds), refresh_per_second=2):
            yield
    elif silent and not as_json:
        yield
    else:
        done = threading.Event()
        thread = threading.Thread(target=_lines, args=(run, budget, done, as_json), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _lines(run: Prepared, budget: Budget, done: threading.Event, as_json: bool) -> None:
    """A line for every new best, and one every quarter of a minute."""
    best, shown = float("inf"), time.monotonic()
    while not done.wait(0.5):
        found = run.state.found
        now = time.monotonic()
        if not found or (found[0].fitness >= best and now - shown < 15):
            continue
        c, shown = found[0], now
        improved = c.fitness < best
        best = min(best, c.fitness)
        counts = dict(run.state.counts)
        if as_json:
            print_json(
                {"event": "best" if improved else "progress", "seconds": round(budget.elapsed, 1), "generation": c.generation,
                 "fitness": c.fitness, "formula": c.formula, "per": c.per, "counts": counts}
            )  # fmt: skip
        else:
            mark = "new best" if improved else "    best"
            say(f"{budget.elapsed:6.0f} s  {sum(counts.values()):6,} settled  {mark} {c.fitness:8.3f}  {c.formula}  per {c.per}")


def _report(run: Prepared, result: Result, as_json: bool) -> None:
    """The winner beside the best of the zoo, on held-out text."""
    everyone = [*result.members, *result.zoo]
    if as_json:
        print_json(
            {
                "event": "done",
                "run": str(run.folder),
                "dense": result.dense,
                "counts": dict(result.state.counts),
                "hall_of_fame": [_row(m) for m in result.members],
                "zoo": [_row(m) for m in result.zoo],
            }
        )
        return
    best_zoo = min(result.zoo, key=lambda m: m.held_out)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("metric", "formula", "per", "search", "held-out"):
        table.add_column(heading, header_style="dim", overflow="fold", justify="right" if heading in ("search", "held-out") else "left")
    low = min(m.held_out for m in everyone)
    table.add_row("[bold]dense[/]", "", "", "", f"{result.dense:.2f}")
    for m in [*result.members[:3], *sorted(result.zoo, key=lambda m: m.held_out)]:
        text = Text(f"{m.held_out:.2f}", style="good" if m.held_out == low else "")
        table.add_row(f"[bold]{m.metric.name}[/]", formula(m.metric.formula), m.metric.per, f"{m.candidate.fitness:.2f}", text)
    output.print(table)
    if not result.members:
        say("nothing was measured in full: give the search more time")
        return
    winner = result.members[0]
    change = winner.held_out / best_zoo.held_out - 1
    output.print(f"\n[bold]the best metric found[/], {change:+.1%} in held-out perplexity against {best_zoo.metric.name}, the best of the zoo:\n")
    output.print(formula(result.files[0].read_text(encoding="utf-8")), soft_wrap=True)
    output.print("[bold]the best of the zoo[/]:\n")
    output.print(formula(best_zoo.metric.source), soft_wrap=True)
    say(f"wrote {run.folder / 'hall_of_fame'} ({len(result.files)} metrics)   next: pzc compare --metric wanda --metric {result.files[0]} --model {run.settings.model}")


def _row(m: Any) -> dict[str, Any]:
    return {
        "name": m.metric.name,
        "formula": m.metric.formula,
        "per": m.metric.per,
        "fitness": m.candidate.fitness,
        "held_out": m.held_out,
        "candidate": m.candidate.number,
        "generation": m.candidate.generation,
    }
