"""Lines and columns of an editor against offsets in Python's strings.

An editor counts columns in the units of an encoding: UTF-16 unless both sides agreed on another. Lines end where the
protocol says, at `\\n`, `\\r\\n` and `\\r`, and not at the other separators that Python's `splitlines` knows.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Literal

from pzc.grammar.syntax import Span

Encoding = Literal["utf-8", "utf-16", "utf-32"]

_UNITS: dict[Encoding, Callable[[str], int]] = {
    "utf-8": lambda c: 1 if c < "\x80" else 2 if c < "\u0800" else 3 if c < "\U00010000" else 4,
    "utf-16": lambda c: 1 if c < "\U00010000" else 2,
    "utf-32": lambda c: 1,
}
"""How many units of an encoding a character takes."""


class Positions:
    """The lines of one text."""

    def __init__(self, source: str, encoding: Encoding = "utf-16") -> None:
        self._source = source
        self._starts = [0, *(m.end() for m in re.finditer(r"\r\n|\r|\n", source))]
        units = (
            range(len(source) + 1) if source.isascii() else list(accumulate(map(_UNITS[encoding], source), initial=0))
        )
        self._units: Sequence[int] = units
        """How many units lie before each offset."""

    def of(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, both from 0."""
        line = bisect_right(self._starts, offset) - 1
        return line, self._units[offset] - self._units[self._starts[line]]

    def range(self, span: Span) -> tuple[tuple[int, int], tuple[int, int]]:
        """Where a span begins and ends."""
        return self.of(span.start), self.of(span.end)

    def offset(self, line: int, column: int) -> int:
        """The offset of a line and a column. Beyond the end of a line is its end, beyond the last line that of the
        text; inside a character is before it."""
        if line >= len(self._starts):
            return len(self._source)
        start = self._starts[line]
        end = self._starts[line + 1] if line + 1 < len(self._starts) else len(self._source)
        end = start + len(self._source[start:end].rstrip("\r\n"))
        return bisect_right(self._units, self._units[start] + column, start, end + 1) - 1
