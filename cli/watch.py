"""Showing a search while it runs, and stopping it gently."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.live import Live

from pzc.cli.console import errors, print_json, say
from pzc.cli.live import Heading, draw
from pzc.search.run import Budget, Prepared


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
            get_renderable=lambda: draw(run.state, heading, budget.elapsed, budget.seconds),
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
                {
                    "event": "best" if improved else "progress",
                    "seconds": round(budget.elapsed, 1),
                    "generation": c.generation,
                    "fitness": c.fitness,
                    "formula": c.formula,
                    "per": c.per,
                    "counts": counts,
                }
            )
        else:
            mark = "new best" if improved else "    best"
            settled = f"{budget.elapsed:6.0f} s  {sum(counts.values()):6,} settled"
            say(f"{settled}  {mark} {c.fitness:8.3f}  {c.formula}  per {c.per}")
