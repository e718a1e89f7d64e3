"""`pzc search status`: how a run stands, whoever works on it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.live import Live

from pzc.cli import options
from pzc.cli.console import errors, output, print_json, say

if TYPE_CHECKING:
    from pzc.search.hall import Outcome
    from pzc.search.place import Place

EVERY = 2.0
"""Seconds between two looks."""

STILL = 2
"""Looks in a row that find nobody at work before a run counts as one that stands still."""


@click.command("status")
@click.argument("place", metavar="DIR|URL")
@options.study
@click.option("--watch", is_flag=True, help="Show it until nobody works on it any more.")
@options.as_json
def command(place: str, study: str, watch: bool, as_json: bool) -> None:
    """Show how a search stands, from its store alone: here, elsewhere, or finished.

    \b
    pzc search status runs/first
    pzc search status runs/first --watch
    pzc search status postgresql://host/db --study first --json
    """
    from pzc.cli.search.live import View, ended
    from pzc.cli.search.watch import follow, named, stands
    from pzc.search.place import Place
    from pzc.search.reading import outcome_of
    from pzc.search.replay import catch_up
    from pzc.search.settings import plan_of, settings_of
    from pzc.search.state import Standing, State
    from pzc.search.store import Store

    store = Store(Place(Path(place), place if "://" in place else None, study), resume=True)
    looks, still = 0, 0

    def over() -> bool:
        """Wait until the next look, but for the first; whether nobody is at work any more."""
        nonlocal looks, still
        if looks:
            time.sleep(EVERY)
        looks, still = looks + 1, 0 if store.workers.at_work() else still + 1
        return still >= STILL

    while watch and store.settings is None and not over():  # the statistics are still being gathered
        pass
    state = State(plan_of(settings_of(store)))

    def standing() -> Standing:
        state.plan = plan_of(settings_of(store))  # --resume may have changed its bounds
        catch_up(state, store)
        return state.standing()

    def through() -> tuple[str, Outcome | None]:
        """Why the run has ended, with what its final has measured; nothing while it may go on or the final lacks."""
        why, outcome = ended(state, settings_of(store), store.workers.spent()), outcome_of(store)
        return (why, outcome) if why and (outcome or not state.found) else ("", None)

    def note() -> str:
        workers = len(store.workers.at_work())
        why, outcome = through()
        if workers or not why:
            return f"{workers} at work" if workers else f"nobody is at work on it; {_go_on(store.place)}"
        return "\n".join([f"ended with {why}", *([_said(outcome)] if outcome else [])])

    def view(fits: bool) -> View:
        now = standing()
        return View(now, settings_of(store), str(store.place), store.workers.spent(), note(), fits)

    def found() -> dict[str, Any]:
        now, (why, _), outcome = standing(), through(), outcome_of(store)
        best = [{"formula": m.formula, "per": c.per, "fitness": c.fitness, "candidate": c.number} for c, m in now.best]
        return {
            **named(store.place), "workers": len(store.workers.at_work()), "ended": why or None,
            **stands(now, store.workers.spent()), "best": best, "outcome": _as_json(outcome) if outcome else None,
        }  # fmt: skip

    def last() -> dict[str, Any]:
        why, outcome = through()
        if not why:
            return {"event": "stopped", **named(store.place)}
        measured = _as_json(outcome) if outcome else {"winner": None}
        return {"event": "done", **named(store.place), "ended": why, "counts": standing().counts, **measured}

    if as_json and not watch:
        print_json(found())
    elif watch and (as_json or not errors.is_terminal):
        follow(standing, store.workers.spent, over, as_json, at_once=True)
        if as_json:
            print_json(last())
        else:
            say(note())
    elif watch:
        with Live(view(True), console=errors, auto_refresh=False, vertical_overflow="crop") as live:
            while not over():
                live.update(view(True), refresh=True)
            live.update(view(True), refresh=True)
    else:
        output.print(view(False))


def _go_on(place: Place) -> str:
    return f"go on with: pzc search {place.resume}" if not place.url else "--resume goes on with it"


def _said(outcome: Outcome) -> str:
    """What the final has measured, in words."""
    error = "" if outcome.error is None else f" ± {outcome.error:.1%}"
    change = f"{outcome.change:+.1%}{error}".replace("-", "−")
    winner = f"{outcome.formula}  per {outcome.per}" if outcome.formula else f"candidate {outcome.candidate}"
    return f"the winner: {winner}: {change} in held-out perplexity against {outcome.published}"


def _as_json(outcome: Outcome) -> dict[str, Any]:
    """What the final has measured, for machines."""
    return {
        "dense": outcome.dense,
        "winner": {
            "candidate": outcome.candidate,
            "formula": outcome.formula,
            "per": outcome.per,
            "held_out": outcome.held_out,
        },
        "change": {"against": outcome.published, "share": outcome.change, "standard_error": outcome.error},
    }
