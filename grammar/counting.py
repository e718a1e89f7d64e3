"""Numbers of things in messages."""

from __future__ import annotations


def count(n: int, one: str, many: str | None = None) -> str:
    """`1 candidate`, `2,031 candidates`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
