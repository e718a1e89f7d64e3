"""Which signs a value can take: negative, zero, positive, as a set of three bits.

The analysis is sound over the reals: a sign that is absent never occurs where the expression is defined. A
position where it is not defined (`1 / 0`, `sqrt(-1)`) is an error of the metric and counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntFlag
from functools import cache, lru_cache, reduce
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
        return _NON_NEGATIVE[self]

    @property
    def non_positive(self) -> bool:
        """Never above zero."""
        return _NON_POSITIVE[self]

    @property
    def positive(self) -> bool:
        """Always above zero."""
        return self is Sign.POSITIVE

    @property
    def negative(self) -> bool:
        """Always below zero."""
        return self is Sign.NEGATIVE


N, Z, P = Sign.NEGATIVE, Sign.ZERO, Sign.POSITIVE
_ORDER = (N, Z, P)
_ALL = tuple(Sign(bits) for bits in range(8))
# Flags of the enum module are slow to combine, and every node that is made asks: the tables are worked out once.
_NON_NEGATIVE = tuple(not bits & 1 for bits in range(8))
_NON_POSITIVE = tuple(not bits & 4 for bits in range(8))


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
    return _SUMS[a][b]


def multiply(a: Sign, b: Sign) -> Sign:
    """Signs of a · b."""
    return _PRODUCTS[a][b]


def _added(a: Sign, b: Sign) -> Sign:
    if (a & N and b & P) or (a & P and b & N):
        return Sign.ANY
    out = (a | b) & ~Z
    return out | Z if a & Z and b & Z else out


def _multiplied(a: Sign, b: Sign) -> Sign:
    out = Z if (a | b) & Z else Sign.NONE
    if (a & P and b & P) or (a & N and b & N):
        out |= P
    if (a & P and b & N) or (a & N and b & P):
        out |= N
    return out


_SUMS = tuple(tuple(_added(a, b) for b in _ALL) for a in _ALL)
_PRODUCTS = tuple(tuple(_multiplied(a, b) for b in _ALL) for a in _ALL)


@cache
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
    return _power(base, float(exponent.value or 0.0))


@lru_cache(maxsize=1 << 12)
def _power(base: Sign, e: float) -> Sign:
    if e == 0:
        return P
    out = P if base & P else Sign.NONE
    if base & Z and e > 0:
        out |= Z
    if base & N and e.is_integer():
        out |= N if int(e) % 2 else P
    return out


def _difference(a: Node, b: Node) -> Sign:
    """Signs of a − b. `x - min(x)`, `max(x) - x` and `max(x) - min(x)` are never negative, `x - max(x)` never
    positive."""
    out = add(a.sign, negate(b.sign))
    if out is Sign.ANY and _below(b, a):
        return Sign.NON_NEGATIVE
    return Sign.NEGATIVE | Sign.ZERO if out is Sign.ANY and _below(a, b) else out


def _sum(*terms: Node) -> Sign:
    """Signs of a + b + …, with a − b also written as a + (−1)·b."""
    out = terms[0].sign
    for t in terms[1:]:
        out = _SUMS[out][t.sign]
    return _spread(terms) if out is Sign.ANY else out


def _spread(terms: tuple[Node, ...]) -> Sign:
    """Signs of `x - min(x)`, `max(x) - x` and `max(x) - min(x)`, and of their negatives. There x may be a sum whose
    terms stand among the others, and both may stand in one increasing function: `exp(max(x)) - exp(min(x))`."""
    if len(terms) == 2:
        (weight, a), (other, b) = _signed(terms[0]), _signed(terms[1])
        if weight == -other and len(a) == len(b) == 1:
            for low, high, sign in ((b[0], a[0], weight), (a[0], b[0], other)):
                if _below(low, high):
                    return Sign.NON_NEGATIVE if sign > 0 else Sign.NEGATIVE | Sign.ZERO
        return Sign.ANY
    for t in terms:
        weight, rest = _signed(t)
        end = rest[0]
        if len(rest) == 1 and abs(weight) == 1 and end.op in ("amin", "amax"):
            up = (weight < 0) == (end.op == "amin")  # x − min x and max x − x
            if _is_rest(terms, t, end.args[0], -weight):
                return Sign.NON_NEGATIVE if up else Sign.NEGATIVE | Sign.ZERO
    return Sign.ANY


_INCREASING = frozenset({"exp", "ln", "tanh", "sigmoid", "min", "max", "add", "amin", "amax", "sqrt"})
_NEAR = 6
"""How deep in two expressions a difference is looked for."""


def _below(a: Node, b: Node, levels: int = _NEAR) -> bool:
    """Whether a ≤ b because somewhere in one increasing function a has min(x) or x where b has x or max(x)."""
    if a is b:
        return True
    if a.op == "amin" and (a.args[0] is b or (b.op == "amax" and b.args == a.args)):
        return True
    if b.op == "amax" and b.args[0] is a:
        return True
    if a.op != b.op or a.value != b.value or len(a.args) != len(b.args) or not levels or not a.args:
        return False
    if a.op == "mul":
        if not all(f.sign.non_negative for f in a.args + b.args):
            return False
    elif a.op == "pow":
        e = a.args[1]
        if e is not b.args[1] or e.op != "number" or not a.args[0].sign.non_negative:
            return False
        x, y = (a, b) if float(e.value or 0.0) > 0 else (b, a)
        return y.args[0].sign.non_negative and _below(x.args[0], y.args[0], levels - 1)
    elif a.op not in _INCREASING:
        return False
    left = [x for x in a.args if x not in b.args]
    right = [y for y in b.args if y not in a.args]
    return len(left) == len(right) == 1 and _below(left[0], right[0], levels - 1)


def _is_rest(terms: tuple[Node, ...], end: Node, x: Node, weight: float) -> bool:
    """Whether all terms but one are those of x, each times 1 or −1."""
    of_x = x.args if x.op == "add" else (x,)
    if len(of_x) != len(terms) - 1:
        return False
    found = {_signed(t) for t in terms if t is not end}
    return found == {(weight * w, rest) for w, rest in map(_signed, of_x)}


def _signed(t: Node) -> tuple[float, tuple[Node, ...]]:
    """A term as a number and the factors of the rest."""
    if t.op == "mul":
        if t.args[0].op == "number":
            return float(t.args[0].value or 0.0), t.args[1:]
        return 1.0, t.args
    return 1.0, (t,)


def _product(*factors: Node) -> Sign:
    """Signs of a · b · …; a square is never negative."""
    if len(factors) == 2 and factors[0] is factors[1]:
        return magnitude(factors[0].sign)
    out = factors[0].sign
    for f in factors[1:]:
        out = _PRODUCTS[out][f.sign]
    return out


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


SIGN_OF: dict[str, tuple[Sign, ...]] = {op: tuple(f(s) for s in _ALL) for op, f in _UNARY.items()}
"""Of each operation whose signs follow from those of its first argument, the signs by these."""


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
    if op in SIGN_OF:
        return SIGN_OF[op][args[0].sign]
    return _OTHERS[op](*args)
