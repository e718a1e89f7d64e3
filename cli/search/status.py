"""`pzc search status`: how a run stands, whoever works on it."""

from __future__ import annotations

from pathlib import Path

import click
from rich.live import Live

from pzc.cli import options
from pzc.cli.console import errors, output, print_json, say


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
    from pzc.cli.search.seen import Seen
    from pzc.cli.search.watch import follow
    from pzc.search.place import Place
    from pzc.search.store import Store

    store = Store(Place(Path(place), place if "://" in place else None, study), resume=True)
    run = Seen(store, waits=watch)
    if as_json and not watch:
        print_json(run.as_json())
    elif watch and (as_json or not errors.is_terminal):
        follow(run.standing, lambda: run.spent, run.over, as_json, at_once=True)
        if as_json:
            print_json(run.last())
        else:
            say(run.note())
    elif watch:
        with Live(run.view(fits=True), console=errors, auto_refresh=False, vertical_overflow="crop") as live:
            while not run.over():
                live.update(run.view(fits=True), refresh=True)
            live.update(run.view(fits=True), refresh=True)
    else:
        output.print(run.view(fits=False))
