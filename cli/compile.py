"""`pzc compile`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

import pzc
from pzc.cli import options
from pzc.cli.console import say
from pzc.cli.fmt import replace_file
from pzc.compiler.load import load
from pzc.compiler.metric import Metric
from pzc.compiler.targets import json as to_json
from pzc.compiler.targets import torch as to_torch

TARGETS: dict[str, Callable[[Metric], str]] = {
    "json": to_json.emit,
    "torch": lambda metric: to_torch.emit(metric, pzc.__version__),
}


@click.command("compile")
@click.argument("metric")
@click.option("--to", "target", type=click.Choice(list(TARGETS)), default="json", show_default=True)
@options.parameter
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write a file, not stdout.")
def command(metric: str, target: str, settings: dict[str, float], output: Path | None) -> None:
    """Compile METRIC to its core graph in JSON (pzm-ir/1), or to a torch module that stands alone.

    \b
    pzc compile wanda --to torch
    pzc compile my.pzm:best --to torch -o best.py
    pzc compile 'abs(W) * X ^ 0.5 per row' --to json
    """
    text = TARGETS[target](load(metric, settings))
    if output is None:
        sys.stdout.write(text)
    else:
        replace_file(output, text)
        say(f"wrote {output}")
