"""Draw a diagnostic as text: the line, a caret under the place, what it means, what would help."""

from __future__ import annotations

from pzc.grammar.diagnostics import Diagnostic, Label

TAB = 4


def position(source: str, offset: int) -> tuple[int, int]:
    """Line and column of an offset, both from 1."""
    line = source.count("\n", 0, offset) + 1
    return line, offset - (source.rfind("\n", 0, offset) + 1) + 1


def render(d: Diagnostic, source: str, filename: str) -> str:
    """The whole diagnostic, several lines, no colour."""
    line, column = position(source, d.primary.span.start)
    labels = [d.primary, *d.secondary]
    numbers = sorted({position(source, label.span.start)[0] for label in labels})
    gutter = len(str(numbers[-1]))
    rows = [f"{d.severity}[{d.code}]: {d.message}", f"{' ' * gutter} ┌─ {filename}:{line}:{column}"]
    text = source.split("\n")
    for i, n in enumerate(numbers):
        if i and n > numbers[i - 1] + 1:
            rows.append(f"{' ' * gutter} ·")
        rows.append(f"{n:>{gutter}} │ {_plain(text[n - 1])}".rstrip())
        on_line = [label for label in labels if position(source, label.span.start)[0] == n]
        rows += [f"{' ' * gutter} │ {row}" for row in _marks(on_line, d.primary, source, text[n - 1])]
    if d.help:
        rows.append(f"{' ' * gutter} = help: {d.help}")
    return "\n".join(rows)


def _plain(line: str) -> str:
    return line.rstrip("\r").replace("\t", " " * TAB)


def _marks(labels: list[Label], primary: Label, source: str, line: str) -> list[str]:
    """The rows under a source line: marks with the last label's text, then one row for each label before it."""
    placed = []
    for label in sorted(labels, key=lambda x: x.span.start):
        start = position(source, label.span.start)[1] - 1
        length = max(1, min(label.span.end - label.span.start, len(line) - start))
        at = len(_plain(line[:start]))
        placed.append((at, max(1, len(_plain(line[start : start + length]))), label))
    marks = ""
    for at, width, label in placed:
        marks = marks.ljust(at) + ("^" if label is primary else "─") * width
    rows = [f"{marks} {placed[-1][2].text}".rstrip()]
    for k in range(len(placed) - 2, -1, -1):
        if placed[k][2].text:
            bars = "".join(
                "│".rjust(at - (placed[i - 1][0] if i else -1)) for i, (at, _, _) in enumerate(placed[: k + 1])
            )
            rows += [bars, bars[:-1] + placed[k][2].text]
    return rows
