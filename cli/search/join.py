"""`pzc search --join`: help with a run that goes on elsewhere, on this machine or another."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from pzc.cli.console import progress, say
from pzc.cli.options import is_typed

OWN = ("join", "study", "device", "trust_remote_code", "attached", "as_json", "quiet")
"""What who helps with a run may say, beside where things are here. All else is what the run began with."""


def join(ctx: click.Context, given: dict[str, Any]) -> None:
    """Settle candidates of a run until it is over. Everything but where things are comes from the run."""
    from pzc.cli.search.watch import gentle, watching
    from pzc.search.place import URL, Place
    from pzc.search.prepare import open_store, prepare
    from pzc.search.replay import stored_state
    from pzc.search.request import HERE
    from pzc.search.run import Budget, search
    from pzc.search.settings import plan_of
    from pzc.search.shared import private_folder

    for param in ctx.command.params:
        if param.name not in (*HERE, *OWN) and is_typed(ctx, str(param.name)):
            raise click.UsageError(f"{param.opts[0]} does not go with --join: a run has its own", ctx)
    where: str = given["join"]
    told = os.environ.get(URL) if given["attached"] else None
    url = told or (where if "://" in where else None)
    folder = private_folder() / given["study"] if url else Path(where)
    store, settings = open_store(Place(folder, url, given["study"]), None)
    default = click.core.ParameterSource.DEFAULT
    changed = {name: given[name] for name in HERE if ctx.get_parameter_source(name) != default}
    budget = Budget(settings.limit or math.inf, store.workers.spent())
    if budget.over() or stored_state(store, plan_of(settings)).over():
        if not given["quiet"]:
            say("this run has gone as far as it may")
        ctx.exit(0)
    with progress(given["quiet"]) as bar:
        run = prepare(
            store,
            replace(settings, **changed),
            device=given["device"],
            trust_remote_code=given["trust_remote_code"],
            keeps_settings=True,
            progress=bar,
        )

    def over() -> bool:
        return budget.over() or given["attached"] not in (None, os.getppid())

    with gentle(budget), watching(run, budget, given["quiet"] or given["as_json"], given["as_json"]):
        search(run, budget, leads=False, over=over)
    if url and not budget.asked:
        run.kept.unlink(missing_ok=True)
    if not given["quiet"]:
        say("stopped helping" if budget.asked else "this run has gone as far as it may")
    ctx.exit(130 if budget.asked else 0)
