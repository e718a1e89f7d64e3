"""Limits: the numbers that float32 holds, what a message writes out, what the checker spends on a file and its uses."""

from __future__ import annotations

from dataclasses import dataclass

FLOAT32_MAX = 3.4028234663852886e38
FLOAT32_MIN = 1.401298464324817e-45


def in_float32(value: float) -> bool:
    """Whether float32 holds a number, neither as infinity nor, if it is not zero, as zero."""
    return value == 0 or FLOAT32_MIN / 2 < abs(value) <= FLOAT32_MAX


LARGEST_SEED = 2**62
"""The largest seed of anything that draws random numbers."""

MAX_SHOWN = 30
"""Operations and leaves of an expression that a message writes out."""

MAX_SIZE = 2000
"""Operations and leaves of one expression with its `let`s and functions written out; calls of functions in it."""

MAX_PARTS = 200_000
"""Operations and leaves of all expressions of a file and of those that it uses, each with its `let`s and functions
written out: a name of two letters can stand for two thousand parts, so the length of a source limits nothing."""


@dataclass
class Spent:
    """What was spent so far: `parts` of expressions, `characters` of files that are used, and whether the file was told
    that there is no more."""

    parts: int = 0
    characters: int = 0
    told: bool = False
