"""Showing a search while it runs, and stopping it gently."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from rich.live import Live

from pzc.cli.console import errors, print_json, say
from pzc.cli.search.live import STOPPING, STOPS, View, fitness_of, versus_zoo
from pzc.search.place import Place
from pzc.search.prepare import Prepared
from pzc.search.run import Budget
from pzc.search.state import Standing

QUIET = 15.0
"""Seconds without anything new after which a line or an event says how the run stands."""


@contextmanager
def gentle(budget: Budget) -> Iterator[None]:
    """The first ctrl-c lets the candidate at work finish, the second interrupts it. When the search is through, the
    first interrupts what follows."""

    def ask(number: int, frame: FrameType | None) -> None:
        if budget.asked or budget.stopped:
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

    def view() -> View:
        note = STOPPING if budget.asked else STOPS
        return View(run.state.standing(), run.settings, str(run.folder), budget.elapsed, note, fits=True)

    if errors.is_terminal and not silent:
        with Live(console=errors, get_renderable=view, refresh_per_second=2, vertical_overflow="crop"):
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
    def wait() -> bool:
        budget.asked |= errors.quiet  # nobody reads any more
        return done.wait(0.5)

    with suppress(BrokenPipeError):
        if as_json:
            print_json(begun(run))
        follow(run.state.standing, lambda: budget.elapsed, wait, as_json, lambda: budget.asked)
        return
    budget.asked = True


def follow(
    standing: Callable[[], Standing],
    elapsed: Callable[[], float],
    wait: Callable[[], bool],
    as_json: bool,
    stopping: Callable[[], bool] = lambda: False,
    at_once: bool = False,
) -> None:
    """A line or an event for every new best, and one without its formula every quarter of a minute, until `wait()` says
    that it is over. There is none before there is a best, but for events where they begin `at_once`."""
    best, shown, last, told = float("inf"), time.monotonic(), False, as_json
    due = at_once
    while not last:
        last = wait()
        if stopping() and not told:
            say(STOPPING)
            told = True
        now = standing()
        if not (now.best or (as_json and at_once)):
            continue
        improved = bool(now.best) and now.best[0][0].fitness < best
        if improved or due or time.monotonic() - shown >= QUIET:
            best, shown, due = now.best[0][0].fitness if now.best else best, time.monotonic(), False
            if as_json:
                print_json({"event": "best" if improved else "progress", **stands(now, elapsed())})
            else:
                _line(now, improved, elapsed())


def named(place: Place) -> dict[str, Any]:
    """Which run it is, for machines: its folder or its URL, and its study there."""
    return {"run": place.name, "study": place.study}


def begun(run: Prepared) -> dict[str, Any]:
    """The first event: what the run is about."""
    s = run.settings
    kept = ("model", "data", "sparsity", "pattern", "objective", "algorithm", "space", "population", "islands", "seed")
    bounds = ("limit", "evaluations", "generations", "patience", "reach")
    return {
        "event": "begin",
        **named(run.store.place),
        "folder": str(run.folder),
        **{name: getattr(s, name) for name in kept},
        "until": {name: getattr(s, name) for name in bounds if getattr(s, name) is not None},
    }


def stands(now: Standing, elapsed: float) -> dict[str, Any]:
    """How a run stands, for machines."""
    best = now.best[0] if now.best else None
    return {
        "seconds": round(elapsed, 1),
        "generation": now.generation,
        "candidate": best[0].number if best else None,
        "fitness": best[0].fitness if best else None,
        "formula": best[1].formula if best else None,
        "per": best[0].per if best else None,
        "zoo": {"name": now.zoo.operator, "fitness": now.zoo.fitness} if now.zoo else None,
        "counts": now.counts,
        "refusals": now.refusals,
        "predictors": now.predictors,
        "pareto": [
            {"candidate": c.number, "fitness": c.fitness, "size": m.complexity, "cost": c.tier, "formula": m.formula,
             "per": c.per}
            for c, m in now.front
        ],
    }  # fmt: skip


def _line(now: Standing, improved: bool, elapsed: float) -> None:
    c, metric = now.best[0]
    mark, formula = ("new best", f"  {metric.formula}  per {c.per}") if improved else ("    best", "")
    settled = f"{elapsed:6.0f} s  {now.counts.total():6,} settled"
    say(f"{settled}  {mark} {fitness_of(c):>8} {versus_zoo(c, now.zoo).plain:>7}{formula}".rstrip())
