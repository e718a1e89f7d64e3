"""`pzc fmt`."""

from __future__ import annotations

import difflib
import io
from collections.abc import Iterator
from pathlib import Path

import click

from pzc.cli import completion
from pzc.cli.console import fail, output, say
from pzc.cli.diagnostics import show
from pzc.cli.metrics.inputs import expanded, standard_input
from pzc.compiler.load import MetricNotFound, read_file
from pzc.grammar.diagnostics import SourceError
from pzc.grammar.parse import parse
from pzc.grammar.printer import format_source
from pzc.runtime.replacing import replace_file


@click.command("fmt")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", shell_complete=completion.files)
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 when a file would change.")
@click.option("--diff", is_flag=True, help="Change nothing; show what would change.")
@click.pass_context
def command(ctx: click.Context, files: tuple[str, ...], check: bool, diff: bool) -> None:
    """Write metrics in the one canonical layout, keeping every comment but a doc comment without text.

    FILE is a file, a folder (every .pzm file below it), or `-`, which reads standard input and writes standard output.

    \b
    pzc fmt my.pzm
    pzc fmt --check metrics/
    pzc fmt - < my.pzm
    """
    changed = bad = 0
    names: list[str] = []
    for argument in files:
        try:
            names += expanded(argument)
        except MetricNotFound as error:
            fail(str(error))
            bad += 1
    for name in names:
        try:
            source = standard_input() if name == "-" else read_file(Path(name))
            formatted = formatted_source(source, name)
        except SourceError as error:
            show(error.diagnostics, error.source, error.filename)
            bad += 1
            continue
        except MetricNotFound as error:
            fail(str(error))
            bad += 1
            continue
        changed += formatted != source
        if diff:
            output.out("".join(_difference(source, formatted, name)), end="", highlight=False)
        elif check:
            if formatted != source:
                say(f"{name} would change")
        elif name == "-":
            output.out(formatted, end="", highlight=False)
        elif formatted != source:
            replace_file(Path(name), formatted)
            say(f"formatted {name}")
    ctx.exit(1 if bad or (changed and check) else 0)


def _difference(before: str, after: str, name: str) -> Iterator[str]:
    old, new = (io.StringIO(text).readlines() for text in (before, after))  # splits at \n alone, as the language does
    for line in difflib.unified_diff(old, new, name, name):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def formatted_source(source: str, name: str) -> str:
    """The canonical layout. Raises SourceError for text that does not parse: nothing of it must be lost."""
    file, problems = parse(source)
    if problems:
        raise SourceError(problems, source, name)
    return format_source(file, source)
