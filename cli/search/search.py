"""`pzc search`: begin a search, go on with one, or help with one; and what can be asked of a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from pzc.cli import completion, options
from pzc.cli.search import status, transfer
from pzc.cli.search.join import join
from pzc.cli.search.lead import lead
from pzc.compiler.leaves import TIERS


def _finite(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is never reached", ctx, param)
    return value


@click.group("search", invoke_without_command=True)
@options.loading
@options.target
@options.groups
@options.chosen_layers
@options.data
@options.eval_data
@options.windows
@click.option(
    "--fitness-windows", type=click.IntRange(4), default=32, show_default=True, help="Windows that measure a candidate."
)
@click.option(
    "--held-out-windows",
    type=click.IntRange(2),
    default=64,
    show_default=True,
    help="Windows of text that the search never sees, on which the best are compared with the zoo.",
)
@options.length
@click.option(
    "--algorithm",
    type=click.Choice(["default", "paper", "random"]),
    default="default",
    show_default=True,
    help="paper: Pruner-Zero's algorithm 1; random: its baseline.",
)
@click.option(
    "--space",
    metavar="SPACE",
    help="What is built: default, elementwise, pruner_zero, or FILE.pzm[:NAME] with a `space`. [default: default, or "
    "pruner_zero for the other algorithms]",
)
@click.option("--template", metavar="TEMPLATE", help="What every candidate looks like, such as 'abs(W) * <hole>'.")
@click.option(
    "--tier",
    type=click.Choice(TIERS),
    help="The dearest statistics that a candidate may read; with forward no gradients are gathered. [default: the "
    "space's]",
)
@click.option(
    "--objective",
    type=click.Choice(["perplexity", "kl"]),
    default="perplexity",
    show_default=True,
    help="What to minimise: perplexity, or the KL divergence from the dense model.",
)
@click.option(
    "--population",
    type=click.IntRange(4),
    help="How many candidates breed. [default: 32, or 50 for the paper's algorithm]",
)
@click.option(
    "--islands", type=click.IntRange(1), default=2, show_default=True, help="Sub-populations that evolve separately."
)
@click.option("--generations", type=click.IntRange(1), metavar="N", help="Stop after N generations.")
@click.option("--evaluations", type=click.IntRange(1), metavar="N", help="Stop after N measured candidates.")
@click.option("--patience", type=click.IntRange(1), metavar="N", help="Stop when N generations brought nothing better.")
@click.option("--reach", type=float, metavar="FITNESS", callback=_finite, help="Stop when the fitness is this low.")
@click.option(
    "--time",
    "limit",
    type=options.Duration(),
    help="Stop after searching this long, earlier sessions of the run included: 90s, 60m, 2h. Statistics, the zoo and "
    "the final are not counted. [default: 10m, or no limit with another bound]",
)
@options.seed
@click.option("--seed-zoo", is_flag=True, help="Let the zoo's metrics into the first population.")
@click.option(
    "--seed-metrics",
    multiple=True,
    metavar="METRIC",
    shell_complete=completion.metrics,
    help="Begin with these: .pzm files, names or expressions; may be repeated. One whose group the space lacks is "
    "tried in each that it has.",
)
@click.option(
    "--fitness-dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Race candidates in this. [default: the model's own, or bfloat16 for a large one where that is faster]",
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes on this machine.")
@click.option(
    "--run",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the run. [default: runs/DATE-MODEL]",
)
@click.option("--storage", metavar="URL", help="Keep the run in this Optuna storage instead of a file of its folder.")
@options.study
@click.option(
    "--resume",
    metavar="DIR",
    help="Continue the run in this folder, or at this URL, with its own settings; its bounds may change, and where its "
    "model and texts are.",
)
@click.option("--join", metavar="PLACE", help="Help with a run that goes on elsewhere: its folder, or its URL.")
@click.option("--attached", type=int, hidden=True, help="Stop with this process, which has begun this one.")
@options.as_json
@options.quiet
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Evolve metrics that prune a model better than the published ones.

    Candidates are measured on calibration-side text only; the best are compared with the zoo on text that the
    search has never seen. Every candidate is stored when it is settled. `--join` helps with a run from any machine,
    `pzc search status` shows how it stands.

    \b
    pzc search --model pocket --time 5m --seed-zoo
    pzc search -m smollm2 -d train.txt --eval-data test.txt --length 512 --time 1h --run runs/first --workers 2
    pzc search --resume runs/first --time 2h
    """
    if ctx.invoked_subcommand:
        for param in ctx.command.params:
            if options.is_typed(ctx, str(param.name)):
                behind = f"what `{ctx.invoked_subcommand}` is told stands behind it"
                raise click.UsageError(f"{param.opts[0]} is for a search; {behind}", ctx)
        return
    options.check_pattern(ctx, given["pattern"])
    if given["storage"] and "://" not in given["storage"]:
        raise click.UsageError(f"`{given['storage']}` is no URL; a folder is named by --run", ctx)
    if given["storage"] and (given["join"] or given["resume"]):
        raise click.UsageError("--storage is where a run begins; --join and --resume take its URL", ctx)
    if given["join"] and given["resume"]:
        raise click.UsageError("--join helps with a run and --resume leads it; give one of them", ctx)
    if given["join"]:
        join(ctx, given)
        return
    lead(ctx, given)


command.add_command(status.command)
command.add_command(transfer.command)
