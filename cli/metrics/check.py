"""`pzc check`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import click

from pzc.cli import completion
from pzc.cli.metrics import inputs, reports
from pzc.cli.metrics.reports import Report
from pzc.cli.metrics.sarif import sarif
from pzc.compiler.load import MetricNotFound
from pzc.compiler.metric import compile_source
from pzc.grammar.diagnostics import SourceError

FORMATS: dict[str, Callable[[Iterable[Report], bool], None]] = {
    "text": reports.text,
    "json": reports.json,
    "sarif": sarif,
    "github": reports.github,
}
"""How reports are written: to people, to programs, to code scanning services, to a GitHub workflow."""


@click.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", shell_complete=completion.files)
@click.option("--format", "form", type=click.Choice(list(FORMATS)), help="How to report.  [default: text]")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--quiet", "-q", is_flag=True, help="Errors and warnings alone: no notes, no summary.")
@click.pass_context
def command(ctx: click.Context, files: tuple[str, ...], form: str | None, as_json: bool, quiet: bool) -> None:
    """Check metrics and report every error at once.

    FILE is a file, a folder (every .pzm file below it), a zoo name, or `-` for standard input. Exits with 1 when there
    is an error; warnings and notes alone are fine. JSON is one object a line, one for each file; "unread" says why a
    file could not be read.

    \b
    pzc check my.pzm
    pzc check --quiet metrics/
    pzc check --format sarif metrics/ > pzc.sarif
    """
    if as_json and form not in (None, "json"):
        raise click.UsageError(f"--json is --format json; it does not go with --format {form}", ctx)
    bad = False

    def checked() -> Iterator[Report]:
        nonlocal bad
        for report in _reports(files):
            bad |= report.bad
            yield report.without_notes() if quiet else report

    FORMATS[form or ("json" if as_json else "text")](checked(), quiet)
    ctx.exit(1 if bad else 0)


def _reports(arguments: Iterable[str]) -> Iterator[Report]:
    for argument in arguments:
        try:
            names = inputs.expanded(argument)
        except MetricNotFound as error:
            yield Report(argument, unread=str(error))
            continue
        yield from map(_report, names)


def _report(name: str) -> Report:
    try:
        given = inputs.read(name)
        compiled = compile_source(given.text, given.name, path=given.path)
    except MetricNotFound as error:
        return Report(name, unread=str(error))
    except SourceError as error:
        return Report(error.filename, error.source, found=error.diagnostics)
    metrics, spaces = (tuple(x.name for x in defined) for defined in (compiled.metrics, compiled.spaces))
    return Report(given.name, given.text, metrics, spaces, compiled.diagnostics)
