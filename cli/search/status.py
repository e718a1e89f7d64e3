"""`pzc search status`: how a run stands, whoever works on it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
from rich.live import Live

from pzc.cli import options
from pzc.cli.console import errors, output, print_json

EVERY = 2.0
"""Seconds between two looks."""


@click.command("status")
@click.argument("place", metavar="DIR|URL")
@options.study
@click.option("--watch", is_flag=True, help="Show it until ctrl-c.")
@options.as_json
def command(place: str, study: str, watch: bool, as_json: bool) -> None:
    """Show how a search stands, from its store alone: here, elsewhere, or finished.

    \b
    pzc search status runs/first
    pzc search status runs/first --watch
    pzc search status postgresql://host/db --study first --json
    """
    from pzc.cli.search.live import View
    from pzc.cli.search.watch import follow, named, stands
    from pzc.search.place import Place
    from pzc.search.replay import catch_up
    from pzc.search.settings import plan_of, settings_of
    from pzc.search.state import Standing, State
    from pzc.search.store import Store

    store = Store(Place(Path(place), place if "://" in place else None, study), resume=True)
    while watch and store.settings is None:  # the statistics are still being gathered
        time.sleep(EVERY)
    state = State(plan_of(settings_of(store)))

    def standing() -> Standing:
        catch_up(state, store)
        return state.standing()

    def view(fits: bool) -> View:
        workers = store.workers()
        note = f"{workers} at work" if workers else "nobody is at work on it"
        return View(standing(), settings_of(store), str(store.place), store.spent(), note, fits)

    def wait() -> bool:
        time.sleep(EVERY)
        return False

    def found() -> dict[str, Any]:
        now = standing()
        best = [{"formula": m.formula, "per": c.per, "fitness": c.fitness, "candidate": c.number} for c, m in now.best]
        return {**named(store.place), "workers": store.workers(), **stands(now, store.spent()), "best": best}

    if as_json and not watch:
        print_json(found())
    elif watch and (as_json or not errors.is_terminal):
        follow(standing, store.spent, wait, as_json)
    elif watch:
        with Live(view(True), console=errors, auto_refresh=False, vertical_overflow="crop") as live:
            while not wait():
                live.update(view(True), refresh=True)
    else:
        output.print(view(False))
