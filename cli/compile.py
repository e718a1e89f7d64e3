"""`pzc compile`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import click

import pzc
from pzc.cli import options
from pzc.cli.console import fail, say
from pzc.cli.fmt import replace_file
from pzc.compiler import ir
from pzc.compiler.load import load
from pzc.compiler.metric import Metric
from pzc.compiler.paper import TreeError, export_paper_tree
from pzc.compiler.targets import torch as to_torch

TARGETS: dict[str, Callable[[Metric], str]] = {
    "json": ir.emit,
    "torch": lambda metric: to_torch.emit(metric, pzc.__version__),
    "paper-json": lambda metric: json.dumps(export_paper_tree(metric)) + "\n",
}


@click.command("compile")
@click.argument("metric")
@click.option("--to", "target", type=click.Choice(list(TARGETS)), default="json", show_default=True)
@options.parameter
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write a file, not stdout.")
@click.pass_context
def command(ctx: click.Context, metric: str, target: str, settings: dict[str, float], output: Path | None) -> None:
    """Compile METRIC to its core graph in JSON (pzm-ir/1), to a torch module that stands alone, or to a tree of
    Pruner-Zero's release that ranks alike.

    \b
    pzc compile wanda --to torch
    pzc compile my.pzm:best --to torch -o best.py
    pzc compile 'abs(W) * X ^ 0.5 per row' --to json
    """
    try:
        text = TARGETS[target](load(metric, settings))
    except TreeError as error:
        fail(str(error))
        ctx.exit(1)
    if output is None:
        sys.stdout.write(text)
    else:
        replace_file(output, text)
        say(f"wrote {output}")
