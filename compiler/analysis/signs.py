"""Which signs a value can take: negative, zero, positive, as a set of three bits, and how operations change them.

The analysis (`sign_of.py`) is sound over the reals: a sign that is absent never occurs where the expression is defined.
A position where it is not defined (`1 / 0`, `sqrt(-1)`) is an error of the metric and counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntFlag


class Sign(IntFlag):
    """A set of possible signs.

    `non_negative` says that a value is never below zero, `non_positive` never above, `positive` always above and
    `negative` always below.
    """

    NONE = 0
    NEGATIVE = 1
    ZERO = 2
    POSITIVE = 4
    NON_POSITIVE = NEGATIVE | ZERO
    NON_NEGATIVE = ZERO | POSITIVE
    ANY = NEGATIVE | ZERO | POSITIVE

    non_negative: bool
    non_positive: bool
    positive: bool
    negative: bool


# Flags of the enum module are slow to combine, and every node that is made asks: the tables are worked out once.
ALL_SIGNS = tuple(Sign(bits) for bits in range(8))
for _each in ALL_SIGNS:
    _each.non_negative = not _each & Sign.NEGATIVE
    _each.non_positive = not _each & Sign.POSITIVE
    _each.positive = _each is Sign.POSITIVE
    _each.negative = _each is Sign.NEGATIVE

N, Z, P = Sign.NEGATIVE, Sign.ZERO, Sign.POSITIVE
_ORDER = (N, Z, P)


def of_number(value: float) -> Sign:
    """The sign of a constant; NaN has any sign."""
    if value != value:
        return Sign.ANY
    return N if value < 0 else P if value > 0 else Z


def negate(s: Sign) -> Sign:
    """Signs of −x."""
    return (P if s & N else Sign.NONE) | (s & Z) | (N if s & P else Sign.NONE)


def magnitude(s: Sign) -> Sign:
    """Signs of |x|."""
    return (s & Z) | (P if s & (N | P) else Sign.NONE)


def add(a: Sign, b: Sign) -> Sign:
    """Signs of a + b: opposite signs can give anything."""
    if (a & N and b & P) or (a & P and b & N):
        return Sign.ANY
    out = (a | b) & ~Z
    return out | Z if a & Z and b & Z else out


def multiply(a: Sign, b: Sign) -> Sign:
    """Signs of a · b."""
    out = Z if (a | b) & Z else Sign.NONE
    if (a & P and b & P) or (a & N and b & N):
        out |= P
    if (a & P and b & N) or (a & N and b & P):
        out |= N
    return out


def divide(a: Sign, b: Sign) -> Sign:
    """Signs of a / b."""
    return multiply(a, b & ~Z)


def total(s: Sign) -> Sign:
    """Signs of a sum over many positions: one sign is kept, mixed signs can give anything."""
    return Sign.ANY if s & N and s & P else s


def power(base: Sign, exponent: Sign) -> Sign:
    """Signs of base ^ exponent, for an exponent that is not known."""
    out = P if base & (N | P) else Sign.NONE
    if base & Z:
        out |= Sign.NON_NEGATIVE
    return out | N if base & N else out


def extreme(pick: Callable[[int, int], int]) -> Callable[[Sign, Sign], Sign]:
    """Signs of the smaller or the larger of two values, by `min` or `max`."""

    def signs(a: Sign, b: Sign) -> Sign:
        out = Sign.NONE
        for i, s in enumerate(_ORDER):
            for j, t in enumerate(_ORDER):
                if a & s and b & t:
                    out |= _ORDER[pick(i, j)]
        return out

    return signs


Unary = tuple[Sign, ...]
Binary = tuple[Unary, ...]


def unary(f: Callable[[Sign], Sign]) -> Unary:
    """A function of signs as a table."""
    return tuple(map(f, ALL_SIGNS))


def binary(f: Callable[[Sign, Sign], Sign]) -> Binary:
    """A function of the signs of two values as a table of tables."""
    return tuple(unary(lambda b, a=a: f(a, b)) for a in ALL_SIGNS)  # type: ignore[misc]


def _power_of(e: float) -> Callable[[Sign], Sign]:
    def raised(base: Sign) -> Sign:
        if e == 0:
            return P
        out = P if base & P else Sign.NONE
        if base & Z and e > 0:
            out |= Z
        if base & N and e.is_integer():
            out |= N if int(e) % 2 else P
        return out

    return raised


_POWERS = {e: unary(_power_of(e)) for e in (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)}


def powers(e: float) -> Unary:
    """Signs of x ^ e by those of x: they depend on the sign of e, and on whether it is odd, even or not whole."""
    known = _POWERS.get(e)
    if known is not None:
        return known
    like = 0.5 if not e.is_integer() else 1.0 if e % 2 else 2.0
    return _POWERS[like if e > 0 else -like]
