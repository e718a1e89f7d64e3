"""What `pzc check` found, as text, as JSON and as the commands of a GitHub workflow. SARIF has a file of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.text import Text

from pzc.cli.console import errors, fail, output, print_json
from pzc.cli.diagnostics import show
from pzc.grammar.counting import count
from pzc.grammar.diagnostics import Diagnostic, Label
from pzc.grammar.render import region


@dataclass(frozen=True)
class Report:
    """One file: its text, the names of what it defines where it has no error, and all there is to say about it.

    `unread` says why it could not be read.
    """

    name: str
    source: str = ""
    metrics: tuple[str, ...] = ()
    spaces: tuple[str, ...] = ()
    found: tuple[Diagnostic, ...] = ()
    unread: str | None = None

    @property
    def bad(self) -> bool:
        """Whether it has an error or could not be read."""
        return self.unread is not None or self.count("error") > 0

    def count(self, severity: str) -> int:
        """How many diagnostics have this severity."""
        return sum(d.severity == severity for d in self.found)

    def without_notes(self) -> Report:
        """The same with errors and warnings alone."""
        return replace(self, found=tuple(d for d in self.found if d.severity != "note"))


def text(reports: Iterable[Report], quiet: bool) -> None:
    """Diagnostics on stderr, and on stdout a line for each file."""
    seen: list[str] = []
    for report in reports:
        if report.unread is not None:
            fail(report.unread)
            continue
        show(report.found, report.source, report.name)
        seen += [d.code for d in report.found]
        if not quiet:
            output.print(f"{report.name}: {_summary(report)}", soft_wrap=True, markup=False)
    if seen and not quiet and errors.is_terminal:
        errors.print(Text(f"`pzc explain {seen[0]}` says more", "dim"))


def _summary(report: Report) -> str:
    bad, warnings = report.count("error"), report.count("warning")
    defined = " and ".join(
        filter(None, [_counted(len(report.metrics), "metric"), _counted(len(report.spaces), "space")])
    )
    first = _counted(bad, "error") or (f"{defined} fine" if defined else "no metric")
    return ", ".join(filter(None, [first, _counted(warnings, "warning")]))


def _counted(n: int, what: str) -> str:
    """`2 errors`; empty for none."""
    return count(n, what) if n else ""


def json(reports: Iterable[Report], quiet: bool) -> None:
    """One object a file, each on a line of stdout. One that cannot be read is said on stderr too."""
    for report in reports:
        if report.unread is not None:
            fail(report.unread)
        rows = [_row(d, report.source) for d in report.found]
        defined = {"metrics": report.metrics, "spaces": report.spaces}
        print_json({"file": report.name, "unread": report.unread, **defined, "diagnostics": rows})


def _row(d: Diagnostic, source: str) -> dict[str, Any]:
    return {
        "code": d.code,
        "severity": d.severity,
        "message": d.message,
        **_labelled(d.primary, source),
        "help": d.help,
        "labels": [_labelled(label, source) for label in d.secondary],
    }


def _labelled(label: Label, source: str) -> dict[str, Any]:
    """A label and where it is: lines and columns from 1, offsets from 0, all in characters; ends are exclusive."""
    return {
        "label": label.text,
        **asdict(region(source, label.span)),
        "start": label.span.start,
        "end": label.span.end,
    }


_COMMAND = {"error": "error", "warning": "warning", "note": "notice"}
_DATA = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_PROPERTY = {**_DATA, **str.maketrans({":": "%3A", ",": "%2C"})}


def github(reports: Iterable[Report], quiet: bool) -> None:
    """One workflow command a diagnostic on stdout: GitHub shows it at the line in a pull request.

    Columns are given only where the place is in one line; GitHub refuses others.
    """
    for report in reports:
        if report.unread is not None:
            _command("error", report.unread, {"title": "pzc"})
        for d in report.found:
            at = region(report.source, d.primary.span)
            place: dict[str, object] = {"file": report.name, "line": at.line, "endLine": at.end_line}
            if at.line == at.end_line:
                place |= {"col": at.column, "endColumn": at.end_column}
            message = d.message + (f" ({d.primary.text})" if d.primary.text else "")
            help = f"\nhelp: {d.help}" if d.help else ""
            _command(_COMMAND[d.severity], message + help, {**place, "title": d.code})


def _command(name: str, message: str, properties: dict[str, object]) -> None:
    given = ",".join(f"{key}={str(value).translate(_PROPERTY)}" for key, value in properties.items())
    output.out(f"::{name} {given}::{message.translate(_DATA)}", highlight=False)
