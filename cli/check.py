"""`pzc check`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pzc.cli import options
from pzc.cli.console import fail, output, print_json
from pzc.cli.diagnostics import show
from pzc.compiler.load import MetricNotFound, read_file
from pzc.compiler.metric import Metric, compile_source
from pzc.grammar.diagnostics import Diagnostic, SourceError
from pzc.grammar.render import position


@click.command("check")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@options.as_json
@options.quiet
@click.pass_context
def command(ctx: click.Context, files: tuple[Path, ...], as_json: bool, quiet: bool) -> None:
    """Check metrics and report every error at once.

    Exits with 1 when there is an error; warnings alone are fine.

    \b
    pzc check my.pzm
    pzc check metrics/*.pzm
    pzc check my.pzm --json
    """
    bad = 0
    for path in files:
        try:
            source = read_file(path)
        except MetricNotFound as error:
            fail(str(error))
            bad += 1
            continue
        metrics, found = _checked(source, str(path))
        errors = [d for d in found if d.severity == "error"]
        bad += bool(errors)
        if as_json:
            print_json(
                {
                    "file": str(path),
                    "metrics": [m.name for m in metrics],
                    "diagnostics": [_row(d, source) for d in found],
                }
            )
            continue
        show(found, source, str(path))
        if not quiet:
            output.print(f"{path}: {_summary(metrics, len(errors), len(found) - len(errors))}", soft_wrap=True)
    ctx.exit(1 if bad else 0)


def _checked(source: str, name: str) -> tuple[list[Metric], tuple[Diagnostic, ...]]:
    try:
        metrics, warnings = compile_source(source, name)
    except SourceError as error:
        return [], error.diagnostics
    return metrics, tuple(warnings)


def _summary(metrics: list[Metric], errors: int, warnings: int) -> str:
    parts = [_counted(errors, "error")] if errors else [_counted(len(metrics), "metric") + " fine"]
    return ", ".join(parts + ([_counted(warnings, "warning")] if warnings else []))


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _row(d: Diagnostic, source: str) -> dict[str, Any]:
    line, column = position(source, d.primary.span.start)
    return {
        "code": d.code,
        "severity": d.severity,
        "message": d.message,
        "line": line,
        "column": column,
        "end": d.primary.span.end,
        "start": d.primary.span.start,
        "help": d.help,
    }
