"""`pzc compile`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

import pzc
from pzc.cli import completion, options
from pzc.cli.console import fail, say
from pzc.compiler.load import load
from pzc.compiler.paper.trees import TreeError
from pzc.compiler.targets.table import TARGETS, Target, compiled
from pzc.runtime.replacing import replace_file


def _listed() -> str:
    """The table of targets, as help shows it."""
    width = max(map(len, TARGETS))
    return "\b\nTargets:\n" + "\n".join(f"  {t.name:<{width}}  {t.what}{_needs(t)}" for t in TARGETS.values())


def _needs(target: Target) -> str:
    return f"; needs pzc[{target.extra}]" if target.extra else ""


@click.command("compile", epilog=_listed())
@click.argument("metric", shell_complete=completion.metrics)
@click.option(
    "--to",
    "target",
    type=click.Choice(list(TARGETS)),
    default="json",
    show_default=True,
    metavar="TARGET",
    help="What to compile to, one of those below.",
)
@options.parameter
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write a file, not stdout.")
@click.pass_context
def command(ctx: click.Context, metric: str, target: str, settings: dict[str, float], output: Path | None) -> None:
    """Compile METRIC to a document, a program or a drawing.

    A metric by role becomes one file. Targets that hold a single score, export and onnx, write a file for each arm:
    out-1.onnx, out-2.onnx, …

    \b
    pzc compile wanda --to torch
    pzc compile my.pzm:best --to onnx -o best.onnx
    pzc compile 'abs(W) * X ^ 0.5 per row' --to latex
    """
    chosen = TARGETS[target]
    if output is not None and not output.name:
        raise click.UsageError("--output names no file", ctx)
    if chosen.binary and output is None:
        raise click.UsageError(f"{target} is a binary file; add --output {_suggested(metric, chosen)}", ctx)
    try:
        files = compiled(load(metric, settings), chosen, pzc.__version__)
    except TreeError as error:
        fail(str(error))
        ctx.exit(1)
    except ModuleNotFoundError as error:
        if chosen.extra is None:
            raise
        fail(f"the target {target} needs the package `{error.name}`", f"pip install 'pzc[{chosen.extra}]'")
        ctx.exit(1)
    for file in files:
        if output is None:
            sys.stdout.write(str(file.content))
        else:
            path = output.with_name(f"{output.stem}{file.suffix}{output.suffix}")
            replace_file(path, file.content)
            say(f"wrote {path}" + (f", {file.what}" if file.what else ""))


def _suggested(metric: str, target: Target) -> str:
    """A name for the file: that of the metric where it has one."""
    name = Path(metric.rpartition(":")[2]).stem
    return f"{name if name.isidentifier() else 'scores'}{target.extension}"
