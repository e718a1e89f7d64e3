"""What `pzc check` found, as one SARIF 2.1.0 log: what code scanning services and editors read.

Section numbers are those of the OASIS standard, Static Analysis Results Interchange Format (SARIF) Version 2.1.0.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pzc import __version__
from pzc.cli.console import fail, print_json
from pzc.cli.metrics.reports import Report
from pzc.grammar.diagnostics import CODES, Diagnostic, Label
from pzc.grammar.pages import page
from pzc.grammar.render import lines, region
from pzc.grammar.syntax import Span

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_INDEX = {code: i for i, code in enumerate(CODES)}


def sarif(reports: Iterable[Report], quiet: bool) -> None:
    """One log for the whole run on stdout."""
    reports = list(reports)
    for report in reports:
        if report.unread is not None:
            fail(report.unread)
    print_json(log(reports))


def log(reports: list[Report]) -> dict[str, Any]:
    """The log of one run of the checker. A file that could not be read makes the run unsuccessful (3.20.14)."""
    unread = [r.unread for r in reports if r.unread is not None]
    notifications = [{"level": "error", "message": _message(text)} for text in unread]
    invocation = {"executionSuccessful": not unread, "toolExecutionNotifications": notifications}
    run = {
        "tool": {"driver": _driver()},
        "columnKind": "utf16CodeUnits",
        "invocations": [invocation],
        "results": [_result(d, r) for r in reports for d in r.found],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _driver() -> dict[str, Any]:
    return {"name": "pzc", "version": __version__, "rules": [_rule(code) for code in CODES]}


def _rule(code: str) -> dict[str, Any]:
    severity, title = CODES[code]
    about = page(code)
    return {
        "id": code,
        "shortDescription": {"text": title},
        "fullDescription": {"text": " ".join(about.meaning.split())},
        "help": {"text": about.text, "markdown": about.text},
        "defaultConfiguration": {"level": severity},
    }


def _result(d: Diagnostic, report: Report) -> dict[str, Any]:
    primary = _location(d.primary, report)
    related = [{"id": i, **_location(label, report)} for i, label in enumerate(d.secondary)]
    return {
        "ruleId": d.code,
        "ruleIndex": _INDEX[d.code],
        "level": d.severity,
        "message": _message(d.message + (f"\nhelp: {d.help}" if d.help else "")),
        "locations": [primary],
        **({"relatedLocations": related} if related else {}),
    }


def _location(label: Label, report: Report) -> dict[str, Any]:
    place = {
        "artifactLocation": {"uri": uri(report.name)},
        "region": _region(report.source, label.span),
    }
    return {"physicalLocation": place, **({"message": _message(label.text)} if label.text else {})}


def _region(source: str, span: Span) -> dict[str, int]:
    """3.30: lines and columns from 1, the end exclusive, columns in UTF-16 code units."""
    at = region(source, span)
    return {
        "startLine": at.line,
        "startColumn": _units(source, at.line, at.column),
        "endLine": at.end_line,
        "endColumn": _units(source, at.end_line, at.end_column),
    }


def _units(source: str, line: int, column: int) -> int:
    """A column that is counted in characters, in code units: those beyond U+FFFF have two."""
    start, wide = lines(source)[1][line - 1], _wide(source)
    return column + bisect_left(wide, start + column - 1) - bisect_left(wide, start)


@lru_cache(maxsize=4)  # one long line may have thousands of warnings
def _wide(source: str) -> list[int]:
    return [] if source.isascii() else [i for i, c in enumerate(source) if c > "\uffff"]


def _message(text: str) -> dict[str, str]:
    """3.11.5: braces would begin a placeholder, so they are doubled."""
    return {"text": text.replace("{", "{{").replace("}", "}}")}


def uri(name: str) -> str:
    """A file below the working folder relative to it, any other as an absolute `file:` URI (3.4.4)."""
    here = Path.cwd()
    path = here / name
    if ".." not in path.parts and path.is_relative_to(here):
        return quote(os.fsencode(path.relative_to(here).as_posix()))
    return path.resolve().as_uri()
