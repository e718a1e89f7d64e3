"""Patterns N:M: of every M consecutive inputs of a row, N are kept."""

from __future__ import annotations

import re
from collections.abc import Sequence

Pattern = tuple[int, int]

EXPECTED = "write N:M with 0 < N < M, such as 2:4"
"""What to do about a text that is no pattern."""


def pattern_of(text: str) -> Pattern | None:
    """The pattern that a text writes, spaces allowed; None for any other text."""
    found = re.fullmatch(r"\s*([0-9]{1,4})\s*:\s*([0-9]{1,4})\s*", text)
    if not found or not 0 < int(found[1]) < int(found[2]):
        return None
    return int(found[1]), int(found[2])


def pattern_text(pattern: Sequence[int]) -> str:
    """A pattern as `pattern_of` reads it."""
    n, m = pattern
    return f"{n}:{m}"
