"""What can be wrong with a source text: codes, and diagnostics as data."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

from pzc.grammar.syntax import Span

Severity = Literal["error", "warning", "note"]

CODES: dict[str, tuple[Severity, str]] = {
    "PZ0101": ("error", "this does not fit here"),
    "PZ0102": ("error", "a character that the language does not use"),
    "PZ0103": ("error", "the source is too long or nested too deep"),
    "PZ0104": ("error", "a number that float32 cannot hold"),
    "PZ0105": ("error", "a doc comment without a statement"),
    "PZ0106": ("error", "the edition is missing, misplaced or newer than this tool"),
    "PZ0107": ("error", "a text whose quotes do not close"),
    "PZ0108": ("error", "a metric by role whose last arm is not `else`"),
    "PZ0201": ("error", "a name that is not known here"),
    "PZ0202": ("error", "the wrong number of arguments"),
    "PZ0203": ("error", "a reduction over an axis that its argument lacks"),
    "PZ0204": ("error", "a name that is taken"),
    "PZ0205": ("error", "a comparison group that does not exist"),
    "PZ0206": ("error", "an axis where a value belongs"),
    "PZ0207": ("error", "a parameter outside its own range"),
    "PZ0208": ("error", "the order of a norm must be a positive number"),
    "PZ0209": ("error", "the share of a quantile must be a number from 0 to 1"),
    "PZ0301": ("error", "a score that is constant inside its group"),
    "PZ0302": ("warning", "a value that can overflow float32"),
    "PZ0303": ("warning", "a division by what can be zero"),
    "PZ0304": ("warning", "a logarithm, root or power of what can be outside its domain"),
    "PZ0305": ("warning", "a function that saturates and so ties scores"),
    "PZ0306": ("error", "an expression that is never defined"),
    "PZ0307": ("note", "an operation at the root that changes no ranking"),
    "PZ0401": ("warning", "a definition that nothing uses"),
    "PZ0402": ("warning", "a file without a metric"),
    "PZ0501": ("error", "a library or file that cannot be read"),
    "PZ0502": ("error", "files that use each other in a circle"),
    "PZ0503": ("error", "a file that has errors of its own"),
    "PZ0504": ("error", "a file outside the folder of the first one"),
    "PZ0505": ("error", "too many files"),
    "PZ0506": ("error", "a name that the used file does not define"),
    "PZ0601": ("error", "an entry that a space does not have"),
    "PZ0602": ("error", "an entry of a space that does not fit"),
    "PZ0603": ("error", "a space that lacks an entry"),
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
        """`error`, `warning` or `note`, by the code."""
        return CODES[self.code][0]

    def moved(self, by: int, end: int) -> Diagnostic:
        """The same about a text in which everything stands `by` positions later, and nothing beyond `end`."""

        def move(label: Label) -> Label:
            start = min(max(0, label.span.start + by), end)
            return Label(Span(start, max(start + 1, min(label.span.end + by, end))), label.text)

        return replace(self, primary=move(self.primary), secondary=tuple(map(move, self.secondary)))


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

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied, and sent to another process, by what it was made of."""
        return type(self), (self.diagnostics, self.source, self.filename)


def some(names: Collection[str]) -> str:
    """The names as a list for a message: all of them, unless there are very many."""
    shown = ", ".join(islice(names, MAX_SHOWN))
    return shown if len(names) <= MAX_SHOWN else f"{shown} and {len(names) - MAX_SHOWN} more"


MAX_SHOWN = 30
"""Names that a message lists."""

MAX_KNOWN = 500
"""Names that a misspelt one is compared with, and characters of a name: to compare takes its time."""


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The closest known word as a question, or None when none is close."""
    known = [k for k in islice(known, MAX_KNOWN) if len(k) <= MAX_KNOWN] if len(word) <= MAX_KNOWN else []
    same = [k for k in known if k.lower() == word.lower()]  # X for x, and not the Y that is as close
    close = same or difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else None
