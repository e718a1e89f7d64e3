"""`pzc search status`: how a run stands, whoever works on it."""

from __future__ import annotations

import math
import time
from pathlib import Path

import click
from rich.console import RenderableType
from rich.live import Live

from pzc.cli import options
from pzc.cli.console import errors, output, print_json
from pzc.cli.live import Heading, draw


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
    from pzc.search.run import plan_of, settings_of, stored_state
    from pzc.search.store import Place, Store

    store = Store(Place(Path(place), place if "://" in place else None, study), resume=True)
    settings = settings_of(store)
    heading = Heading(
        Path(settings.model).name, settings.pattern or f"{settings.sparsity:.0%}", settings.seed, str(store.place)
    )

    def view() -> RenderableType:
        state = stored_state(store, plan_of(settings))
        return draw(state.standing(), heading, store.spent(), settings.limit or math.inf, store.workers())

    if as_json:
        standing = stored_state(store, plan_of(settings)).standing()
        print_json(
            {
                "run": str(store.place),
                "generation": standing.generation,
                "counts": standing.counts,
                "refusals": standing.refusals,
                "seconds": store.spent(),
                "workers": store.workers(),
                "predictors": standing.predictors,
                "best": [
                    {"formula": m.formula, "per": c.per, "fitness": c.fitness, "candidate": c.number}
                    for c, m in standing.best
                ],
                "zoo": None
                if standing.zoo is None
                else {"name": standing.zoo.operator, "fitness": standing.zoo.fitness},
            }
        )
    elif watch:
        with Live(view(), console=errors, auto_refresh=False) as live:
            while True:
                time.sleep(2)
                live.update(view(), refresh=True)
    else:
        output.print(view())
