"""Draw a diagnostic as text: the line, a caret under the place, what it means, what would help."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from pzc.grammar.diagnostics import Diagnostic, Label
from pzc.grammar.syntax import Span

TAB = 4
MARGIN = 60
"""Columns that are kept on either side of the labels of a line that is too long to show."""


@dataclass(frozen=True, slots=True)
class Region:
    """Where a span lies: lines and columns from 1, columns in characters; `end_column` is the first one after it."""

    line: int
    column: int
    end_line: int
    end_column: int


@lru_cache(maxsize=4)  # a long source may have thousands of warnings
def lines(source: str) -> tuple[list[str], list[int]]:
    """The lines of a source, and the offset at which each begins."""
    found = source.split("\n")
    return found, [0, *accumulate(len(line) + 1 for line in found[:-1])]


def position(source: str, offset: int) -> tuple[int, int]:
    """Line and column of an offset, both from 1."""
    starts = lines(source)[1]
    line = bisect_right(starts, offset)
    return line, offset - starts[line - 1] + 1


def region(source: str, span: Span) -> Region:
    """Lines and columns of a span. A span that reaches beyond the text ends with it."""
    start = min(span.start, len(source))
    return Region(*position(source, start), *position(source, max(start, min(span.end, len(source)))))


def render(d: Diagnostic, source: str, filename: str) -> str:
    """The whole diagnostic, several lines, no colour."""
    line, column = position(source, d.primary.span.start)
    labels = [d.primary, *d.secondary]
    numbers = sorted({position(source, label.span.start)[0] for label in labels})
    gutter = len(str(numbers[-1]))
    message = d.message if len(d.message) <= 6 * MARGIN else f"{d.message[:MARGIN]} … {d.message[-2 * MARGIN :]}"
    rows = [f"{d.severity}[{d.code}]: {plain(message)}", f"{' ' * gutter} ┌─ {plain(filename)}:{line}:{column}"]
    text = lines(source)[0]
    for i, n in enumerate(numbers):
        if i and n > numbers[i - 1] + 1:
            rows.append(f"{' ' * gutter} ·")
        on_line = [label for label in labels if position(source, label.span.start)[0] == n]
        shown, skipped = _window(text[n - 1], [position(source, label.span.start)[1] - 1 for label in on_line])
        rows.append(f"{n:>{gutter}} │ {plain(shown)}".rstrip())
        rows += [f"{' ' * gutter} │ {row}" for row in _marks(on_line, d.primary, source, shown, skipped)]
    if d.help:
        rows.append(f"{' ' * gutter} = help: {plain(d.help)}")
    return "\n".join(rows)


def _window(line: str, columns: list[int]) -> tuple[str, int]:
    """The part of a long line around its labels, and how many characters before it are left out."""
    start, end = max(0, min(columns) - MARGIN), max(columns) + MARGIN
    if len(line) <= 3 * MARGIN:
        return line, 0
    before, after = "…" if start else "", "…" if end < len(line) else ""
    return before + line[start:end] + after, start - len(before)


def plain(line: str) -> str:
    """The line as a terminal may show it: no tabs, no control characters."""
    shown = line.rstrip("\r").replace("\t", " " * TAB)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown)


def _width(line: str) -> int:
    """The columns that a terminal gives the line: two for a wide character, none for one that is put on the last."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in plain(line)
    )


def _marks(labels: list[Label], primary: Label, source: str, line: str, skipped: int) -> list[str]:
    """The rows under a source line: marks with the last label's text, then one row for each label before it."""
    placed = []
    for label in sorted(labels, key=lambda x: x.span.start):
        start = position(source, label.span.start)[1] - 1 - skipped
        length = max(1, min(label.span.end - label.span.start, len(line) - start))
        placed.append((_width(line[:start]), max(1, _width(line[start : start + length])), label))
    marks = ""
    for at, width, label in placed:
        marks = marks.ljust(at) + ("^" if label is primary else "─") * width
    rows = [f"{marks} {plain(placed[-1][2].text)}".rstrip()]
    for k in range(len(placed) - 2, -1, -1):
        if placed[k][2].text:
            bars = "".join(
                "│".rjust(at - (placed[i - 1][0] if i else -1)) for i, (at, _, _) in enumerate(placed[: k + 1])
            )
            rows += [bars, bars[:-1] + plain(placed[k][2].text)]
    return rows
