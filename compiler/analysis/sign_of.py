"""The signs that each operation's value can take, from those of its arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pzc.compiler.analysis import signs
from pzc.compiler.analysis.differences import of_difference, of_sum
from pzc.compiler.analysis.signs import Sign, Unary
from pzc.compiler.leaves import LEAVES

if TYPE_CHECKING:
    from pzc.compiler.core import Node

Args = tuple["Node", ...]

OF_FIRST: dict[str, Unary] = {
    op: signs.unary(f)
    for op, f in {
        "neg": signs.negate,
        "abs": signs.magnitude,
        "sqr": signs.magnitude,
        "sqrt": lambda s: s & Sign.NON_NEGATIVE,
        "exp": lambda s: Sign.POSITIVE,
        "tanh": lambda s: s,
        "sigmoid": lambda s: Sign.POSITIVE,
        "sign": lambda s: s,
        "sum": signs.total,
        "mean": signs.total,
        "std": lambda s: Sign.NON_NEGATIVE,
        "var": lambda s: Sign.NON_NEGATIVE,
        "amin": lambda s: s,
        "amax": lambda s: s,
        "median": signs.total,
        "quantile": signs.total,
        "norm": signs.magnitude,
        "rank": lambda s: Sign.NON_NEGATIVE,
        "tail": signs.total,
    }.items()
}
"""Of each operation whose signs follow from those of its first argument, the signs by these."""

_SUMS, _PRODUCTS, _QUOTIENTS = signs.binary(signs.add), signs.binary(signs.multiply), signs.binary(signs.divide)
_POWERS = signs.binary(signs.power)
_NEGATED, _MAGNITUDES = OF_FIRST["neg"], OF_FIRST["abs"]
_MINIMA, _MAXIMA = signs.binary(signs.extreme(min)), signs.binary(signs.extreme(max))


def _sum(terms: Args) -> Sign:
    out = Sign.ZERO
    for t in terms:
        out = _SUMS[out][t.sign]
    return of_sum(terms) if out is Sign.ANY else out


def _difference(args: Args) -> Sign:
    a, b = args
    out = _SUMS[a.sign][_NEGATED[b.sign]]
    return of_difference(a, b) if out is Sign.ANY else out


def _product(factors: Args) -> Sign:
    """A square is never negative."""
    if len(factors) == 2:
        x, y = factors
        return _MAGNITUDES[x.sign] if x is y else _PRODUCTS[x.sign][y.sign]
    out = Sign.POSITIVE
    for f in factors:
        out = _PRODUCTS[out][f.sign]
    return out


def _power(args: Args) -> Sign:
    base, exponent = args
    if exponent.op == "number":
        return signs.powers(exponent.value)[base.sign]
    return _POWERS[base.sign][exponent.sign]


def _least(args: Args) -> Sign:
    out = args[0].sign
    for x in args[1:]:
        out = _MINIMA[out][x.sign]
    return out


def _most(args: Args) -> Sign:
    out = args[0].sign
    for x in args[1:]:
        out = _MAXIMA[out][x.sign]
    return out


def _clamped(args: Args) -> Sign:
    x, low, high = args
    return _MINIMA[_MAXIMA[x.sign][low.sign]][high.sign]


def _logarithm(args: Args) -> Sign:
    """ln x is never negative where x is at least 1: 1 + y for a y that is never negative, or e to such a power."""
    x = args[0]
    if x.op == "add" and all([t.sign.non_negative for t in x.args]):
        for t in x.args:
            if (t.op == "number" and t.value >= 1) or (t.op == "exp" and t.args[0].sign.non_negative):
                return Sign.NON_NEGATIVE
    return Sign.ANY


OF_ALL: dict[str, Callable[[Args], Sign]] = {
    "add": _sum,
    "sub": _difference,
    "mul": _product,
    "div": lambda args: _QUOTIENTS[args[0].sign][args[1].sign],
    "pow": _power,
    "ln": _logarithm,
    "min": _least,
    "max": _most,
    "clamp": _clamped,
}
"""Of each other operation, the signs by its arguments."""


def of_constant(op: str, value: float | str | None) -> Sign:
    """The signs of a number or of a leaf."""
    if op == "number":
        return signs.of_number(float(value or 0.0))
    entry = LEAVES[str(value)]
    if entry.signed:
        return Sign.ANY
    return Sign.POSITIVE if entry.positive else Sign.NON_NEGATIVE
