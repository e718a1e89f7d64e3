"""Showing a search while it runs, and stopping it gently."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from rich.live import Live

from pzc.cli.console import errors, print_json, say
from pzc.cli.live import Heading, draw
from pzc.compiler.metric import Metric
from pzc.search.candidate import Candidate
from pzc.search.run import Budget, Prepared
from pzc.search.state import Standing


@contextmanager
def gentle(budget: Budget) -> Iterator[None]:
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
def watching(run: Prepared, budget: Budget, silent: bool, as_json: bool) -> Iterator[None]:
    """Show the run while it searches: live on a terminal, as lines elsewhere, as events with --json."""
    s = run.settings
    heading = Heading(Path(s.model).name, s.pattern or f"{s.sparsity:.0%}", s.seed, str(run.folder))

    if errors.is_terminal and not silent:
        with Live(
            console=errors,
            get_renderable=lambda: draw(run.state.standing(), heading, budget.elapsed, budget.seconds),
            refresh_per_second=2,
        ):
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
    with suppress(BrokenPipeError):
        _follow(run, budget, done, as_json)
        return
    budget.asked = True  # nobody reads any more


def _follow(run: Prepared, budget: Budget, done: threading.Event, as_json: bool) -> None:
    best, shown, last = float("inf"), time.monotonic(), False
    while not last:
        last = done.wait(0.5)
        standing = run.state.standing()
        if not standing.best:
            continue
        c, metric = standing.best[0]
        now = time.monotonic()
        improved = c.fitness < best
        if improved or now - shown >= 15:
            best, shown = c.fitness, now
            (_event if as_json else _line)(standing, c, metric, improved, budget.elapsed)


def _event(standing: Standing, c: Candidate, metric: Metric, improved: bool, elapsed: float) -> None:
    print_json(
        {
            "event": "best" if improved else "progress",
            "seconds": round(elapsed, 1),
            "candidate": c.number,
            "generation": standing.generation,
            "fitness": c.fitness,
            "formula": metric.formula,
            "per": c.per,
            "counts": standing.counts,
            "refusals": standing.refusals,
        }
    )


def _line(standing: Standing, c: Candidate, metric: Metric, improved: bool, elapsed: float) -> None:
    mark = "new best" if improved else "    best"
    settled = f"{elapsed:6.0f} s  {standing.counts.total():6,} settled"
    say(f"{settled}  {mark} {c.fitness:8.3f}  {metric.formula}  per {c.per}")
