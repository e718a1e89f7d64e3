"""`pzc import`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pzc.cli import completion
from pzc.cli.console import fail, say
from pzc.cli.metrics.inputs import standard_input
from pzc.compiler.load import read_file
from pzc.compiler.metric import compile_source
from pzc.compiler.paper.trees import TreeError, check_name, read_tree, source_of_tree
from pzc.runtime.replacing import replace_file


def _name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    try:
        check_name(value)
    except TreeError as error:
        raise click.BadParameter(str(error), ctx, param) from None
    return value


@click.command("import")
@click.argument("tree", metavar="TREE.json", shell_complete=completion.files)
@click.option("--name", default="imported", show_default=True, callback=_name, help="The metric's name.")
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write a file, not stdout.")
@click.pass_context
def command(ctx: click.Context, tree: str, name: str, output: Path | None) -> None:
    """Turn a tree of Pruner-Zero's release (JSON) into a metric with exactly its meaning.

    `-` reads standard input. The other way is `pzc compile METRIC --to paper-json`.

    \b
    pzc import best_tree.json
    pzc import best_tree.json --name best -o best.pzm
    pzc import - < best_tree.json
    """
    text = standard_input() if tree == "-" else read_file(Path(tree))
    try:
        source = source_of_tree(read_tree(text), name)
    except TreeError as error:
        fail(f"{tree}: {error}")
        ctx.exit(1)
    compile_source(source, f"{name}.pzm")
    if output is None:
        sys.stdout.write(source)
    else:
        replace_file(output, source)
        say(f"wrote {output}")
