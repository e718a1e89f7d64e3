"""`pzc search`."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import click

from pzc.cli import options
from pzc.cli.console import progress, say

FOREVER = 365 * 24 * 3600.0


@click.command("search")
@options.loading
@options.target
@options.data
@options.eval_data
@options.windows
@click.option(
    "--fitness-windows", type=click.IntRange(4), default=32, show_default=True, help="Windows that measure a candidate."
)
@click.option("--held-out-windows", type=click.IntRange(1), default=64, show_default=True, help="Windows of the final.")
@options.length
@click.option(
    "--metric-space", "space", default="default", show_default=True, metavar="SPACE", help="default or elementwise."
)
@click.option("--population", type=click.IntRange(4), default=32, show_default=True)
@click.option("--generations", type=click.IntRange(1), default=1000, show_default=True)
@click.option(
    "--time",
    "limit",
    type=options.Duration(),
    help="Stop after this long: 90s, 60m, 2h. [default: 10m, or no limit with --generations]",
)
@options.seed
@click.option("--seed-zoo", is_flag=True, help="Let the zoo's metrics into the first population.")
@click.option(
    "--run",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the run. [default: runs/DATE-MODEL]",
)
@click.option(
    "--resume",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Go on with a run, with its own settings.",
)
@options.as_json
@options.quiet
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Evolve metrics that prune a model better than the published ones.

    Candidates are measured on calibration-side text only; the best are compared with the zoo on text that the
    search has never seen. Every candidate is stored when it is settled.

    \b
    pzc search --model pocket --time 5m --seed-zoo
    pzc search -m smollm2 -d train.txt --eval-data test.txt --length 512 --time 1h --run runs/first
    pzc search --resume runs/first --time 2h
    """
    from pzc.cli.watch import gentle, watching
    from pzc.cli.winners import report
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
                store,
                settings,
                folder,
                device=given["device"],
                trust_remote_code=given["trust_remote_code"],
                progress=bar,
            )
        with gentle(budget), watching(run, budget, silent, given["as_json"]):
            search(run, budget)
        if budget.asked:
            say(f"stopped; go on with: pzc search --resume {folder}")
            ctx.exit(130)
        with progress(silent) as bar:
            result = finish(run, lambda done, total: bar("held-out text", done, total))
        report(run, result, given["as_json"])
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
