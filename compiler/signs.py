"""Which signs a value can take: negative, zero, positive, as a set of three bits.

The analysis is sound over the reals: a sign that is absent never occurs where the expression is defined. A
position where it is not defined (`1 / 0`, `sqrt(-1)`) is an error of the metric and counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntFlag
from functools import reduce
from typing import TYPE_CHECKING

from pzc.compiler.leaves import LEAVES

if TYPE_CHECKING:
    from pzc.compiler.core import Node


class Sign(IntFlag):
    """A set of possible signs."""

    NONE = 0
    NEGATIVE = 1
    ZERO = 2
    POSITIVE = 4
    NON_NEGATIVE = ZERO | POSITIVE
    ANY = NEGATIVE | ZERO | POSITIVE

    @property
    def non_negative(self) -> bool:
        """Never below zero."""
        return not self & Sign.NEGATIVE

    @property
    def non_positive(self) -> bool:
        """Never above zero."""
        return not self & Sign.POSITIVE

    @property
    def positive(self) -> bool:
        """Always above zero."""
        return self == Sign.POSITIVE

    @property
    def negative(self) -> bool:
        """Always below zero."""
        return self == Sign.NEGATIVE


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


def _pairwise(a: Sign, b: Sign, pick: Callable[[int, int], int]) -> Sign:
    out = Sign.NONE
    for i, s in enumerate(_ORDER):
        for j, t in enumerate(_ORDER):
            if a & s and b & t:
                out |= _ORDER[pick(i, j)]
    return out


def total(s: Sign) -> Sign:
    """Signs of a sum over many positions: one sign is kept, mixed signs can give anything."""
    return Sign.ANY if s & N and s & P else s


def power(base: Sign, exponent: Node) -> Sign:
    """Signs of base ^ exponent."""
    if exponent.op != "number":
        out = P if base & (N | P) else Sign.NONE
        if base & Z:
            out |= Sign.NON_NEGATIVE
        return out | N if base & N else out
    e = float(exponent.value or 0.0)
    if e == 0:
        return P
    out = P if base & P else Sign.NONE
    if base & Z and e > 0:
        out |= Z
    if base & N and e.is_integer():
        out |= N if int(e) % 2 else P
    return out


def _difference(a: Node, b: Node) -> Sign:
    """Signs of a − b. `x - min(x)`, `max(x) - x` and `max(x) - min(x)` are never negative."""
    floor = b.op == "amin" and (a is b.args[0] or (a.op == "amax" and a.args == b.args))
    ceiling = a.op == "amax" and b is a.args[0]
    return Sign.NON_NEGATIVE if floor or ceiling else add(a.sign, negate(b.sign))


def _sum(*terms: Node) -> Sign:
    """Signs of a + b + …, with a − b also written as a + (−1)·b."""
    if len(terms) == 2:
        for a, b in (terms, terms[::-1]):
            if b.op == "mul" and len(b.args) == 2 and b.args[0].op == "number" and b.args[0].value == -1:
                return _difference(a, b.args[1])
    return reduce(add, (t.sign for t in terms))


def _product(*factors: Node) -> Sign:
    """Signs of a · b · …; a square is never negative."""
    if len(factors) == 2 and factors[0] is factors[1]:
        return magnitude(factors[0].sign)
    return reduce(multiply, (f.sign for f in factors))


def _extreme(pick: Callable[[int, int], int]) -> Callable[..., Sign]:
    return lambda *args: reduce(lambda a, b: _pairwise(a, b, pick), (x.sign for x in args))


_UNARY: dict[str, Callable[[Sign], Sign]] = {
    "neg": negate,
    "abs": magnitude,
    "sqr": magnitude,
    "sqrt": lambda s: s & Sign.NON_NEGATIVE,
    "exp": lambda s: P,
    "ln": lambda s: Sign.ANY,
    "tanh": lambda s: s,
    "sigmoid": lambda s: P,
    "sign": lambda s: s,
    "sum": total,
    "mean": total,
    "std": lambda s: Sign.NON_NEGATIVE,
    "var": lambda s: Sign.NON_NEGATIVE,
    "amin": lambda s: s,
    "amax": lambda s: s,
    "median": total,
    "rank": lambda s: Sign.NON_NEGATIVE,
}

_OTHERS: dict[str, Callable[..., Sign]] = {
    "add": _sum,
    "sub": _difference,
    "mul": _product,
    "div": lambda a, b: multiply(a.sign, b.sign & ~Z),
    "pow": lambda a, b: power(a.sign, b),
    "min": _extreme(min),
    "max": _extreme(max),
    "norm": lambda x, p: magnitude(x.sign),
    "quantile": lambda x, q: total(x.sign),
}


def sign_of(op: str, args: tuple[Node, ...], value: float | str | None) -> Sign:
    """The signs that the value of an operation can take."""
    if op == "number":
        return of_number(float(value or 0.0))
    if op == "leaf":
        entry = LEAVES[str(value)]
        return Sign.ANY if entry.signed else P if entry.positive else Sign.NON_NEGATIVE
    if op == "clamp":
        x, low, high = (a.sign for a in args)
        return _pairwise(_pairwise(x, low, max), high, min)
    if op in _UNARY:
        return _UNARY[op](args[0].sign)
    return _OTHERS[op](*args)
