"""What can be wrong with a source text: codes, and diagnostics as data."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pzc.grammar.syntax import Span

Severity = Literal["error", "warning"]

CODES: dict[str, tuple[Severity, str]] = {
    "PZ0101": ("error", "this does not fit here"),
    "PZ0102": ("error", "a character that the language does not use"),
    "PZ0103": ("error", "the source is too long or nested too deep"),
    "PZ0104": ("error", "a number that float32 cannot hold"),
    "PZ0105": ("error", "a doc comment without a statement"),
    "PZ0106": ("error", "the edition is missing, misplaced or newer than this tool"),
    "PZ0201": ("error", "a name that is not known here"),
    "PZ0202": ("error", "the wrong number of arguments"),
    "PZ0203": ("error", "a reduction over an axis that its argument lacks"),
    "PZ0204": ("error", "a name that is taken"),
    "PZ0205": ("error", "a comparison group that does not exist"),
    "PZ0206": ("error", "an axis where a value belongs"),
    "PZ0207": ("error", "a parameter outside its own range"),
    "PZ0208": ("error", "the order of a norm must be a positive number"),
    "PZ0301": ("error", "a score that is constant inside its group"),
    "PZ0401": ("warning", "a definition that nothing uses"),
    "PZ0402": ("warning", "a file without a metric"),
}
"""Every code with its severity and a title. A code keeps its meaning for ever."""


@dataclass(frozen=True, slots=True)
class Label:
    """A span of the source with what there is to say about it."""

    span: Span
    text: str = ""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing that is wrong, where, and what would help."""

    code: str
    message: str
    primary: Label
    secondary: tuple[Label, ...] = ()
    help: str | None = None

    @property
    def severity(self) -> Severity:
        """`error` or `warning`, by the code."""
        return CODES[self.code][0]


MAX_ERRORS = 100
"""Errors that one source is read for, by the parser and again by the checker."""


def too_many(span: Span) -> Diagnostic:
    """What stands in for every error after the first hundred."""
    return Diagnostic("PZ0103", f"more than {MAX_ERRORS} errors; what follows is not checked", Label(span))


class SourceError(Exception):
    """A source text with errors: all of them, with the text and the name to show them under."""

    def __init__(self, diagnostics: Iterable[Diagnostic], source: str, filename: str) -> None:
        self.diagnostics = tuple(diagnostics)
        self.source = source
        self.filename = filename
        errors = [d for d in self.diagnostics if d.severity == "error"]
        super().__init__(f"{filename}: {errors[0].message}" + (f" (+{len(errors) - 1})" if errors[1:] else ""))


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The closest known word as a question, or None when none is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    if not close:
        lower = {k.lower(): k for k in known}
        close = [lower[word.lower()]] if word.lower() in lower else []
    return f"did you mean `{close[0]}`?" if close else None
