"""`pzc fmt`."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

import click

from pzc.cli.console import errors, output, say
from pzc.compiler.load import read_file
from pzc.grammar.diagnostics import SourceError
from pzc.grammar.parse import parse
from pzc.grammar.printer import format_source


@click.command("fmt")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 when a file would change.")
@click.option("--diff", is_flag=True, help="Change nothing; show what would change.")
@click.pass_context
def command(ctx: click.Context, files: tuple[str, ...], check: bool, diff: bool) -> None:
    """Write metrics in the one canonical layout, keeping every comment.

    `-` reads standard input and writes standard output.

    \b
    pzc fmt my.pzm
    pzc fmt --check metrics/*.pzm
    pzc fmt - < my.pzm
    """
    changed = 0
    for name in files:
        source = sys.stdin.read() if name == "-" else read_file(Path(name))
        formatted = formatted_source(source, name)
        changed += formatted != source
        if diff:
            lines = difflib.unified_diff(source.splitlines(True), formatted.splitlines(True), name, name)
            output.out("".join(lines), end="", highlight=False)
        elif check:
            if formatted != source:
                say(f"{name} would change")
        elif name == "-":
            output.out(formatted, end="", highlight=False)
        elif formatted != source:
            replace_file(Path(name), formatted)
            errors.print(f"formatted {name}", soft_wrap=True)
    ctx.exit(1 if changed and check else 0)


def formatted_source(source: str, name: str) -> str:
    """The canonical layout. Raises SourceError for text that does not parse: nothing of it must be lost."""
    file, problems = parse(source)
    if problems:
        raise SourceError(problems, source, name)
    return format_source(file, source)


def replace_file(path: Path, text: str) -> None:
    """Write beside the file and rename, so that it is never half-written."""
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
