"""Which values an expression can take: an interval for every node of a core graph.

The analysis is sound: with leaves inside their ranges, no value that is defined lies outside its node's interval, in
the reals or as the reference evaluator rounds it. Two sets of ranges serve two purposes: the usual values of the
leaves (`leaves.Usual`), for warnings, and all that their signs allow, for errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

from pzc.compiler.analysis.shares import removed_axes, share_bound
from pzc.compiler.analysis.signs import ALL_SIGNS, Sign
from pzc.compiler.core import value_of
from pzc.compiler.leaves import LEAVES, MOST_POSITIONS

if TYPE_CHECKING:
    from pzc.compiler.core import Node

INF = math.inf
_LARGEST = 1.7976931348623157e308
_SMALLEST = 5e-324
_SLACK = 1e-9
"""How far an end moves outwards, relative to itself: more than float64 loses in a sum of 2³⁴ values."""


class Interval(NamedTuple):
    """The closed interval [low, high]. An end may be infinite; where low > high it is empty."""

    low: float
    high: float

    @property
    def empty(self) -> bool:
        """No value at all: the expression is never defined."""
        return not self.low <= self.high

    @property
    def magnitude(self) -> float:
        """The largest absolute value."""
        return max(abs(self.low), abs(self.high))

    @property
    def signs(self) -> Sign:
        """The signs of its values."""
        if self.empty:
            return Sign.NONE
        out = Sign.NEGATIVE if self.low < 0 else Sign.NONE
        out |= Sign.ZERO if self.low <= 0 <= self.high else Sign.NONE
        return out | Sign.POSITIVE if self.high > 0 else out

    def __and__(self, other: Interval) -> Interval:
        return Interval(max(self.low, other.low), min(self.high, other.high))


EMPTY = Interval(INF, -INF)
ALL = Interval(-INF, INF)
NON_NEGATIVE = Interval(0.0, INF)
_OF_SIGNS = {Sign.NONE: EMPTY, Sign.ZERO: Interval(0, 0), Sign.NEGATIVE: Interval(-INF, 0), Sign.POSITIVE: NON_NEGATIVE}


def interval(root: Node, usual: bool = True) -> Interval:
    """The interval of an expression: for usual values of its leaves, or for all that their signs allow. Nodes remember
    both."""
    note = "usual" if usual else "bounds"
    waiting = [root]
    while waiting:
        node = waiting[-1]
        if getattr(node, note) is None:
            found = [getattr(a, note) for a in node.args]
            if None in found:
                waiting += [a for a, known in zip(node.args, found, strict=True) if known is None]
                continue
            setattr(node, note, _of(node, found, usual))
        waiting.pop()
    found_at_root: Interval = getattr(root, note)
    return found_at_root


def _of(node: Node, args: list[Interval], usual: bool) -> Interval:
    """The interval of one operation, from its arguments' and from its signs."""
    if node.op == "number":
        value = value_of(node)
        return Interval(value, value)
    by_sign = _BY_SIGN[node.sign]
    if node.op == "leaf":
        low, high, _ = LEAVES[str(node.value)].usual
        return Interval(low, high) & by_sign if usual else by_sign
    if any(a.empty for a in args):
        return EMPTY
    most = MOST_POSITIONS if usual else INF
    if node.op in _OVER_AXES:
        found = _OVER_AXES[node.op](most ** len(removed_axes(node)), *args)
    elif node.op == "div":
        bound = share_bound(node.args[0], node.args[1], most)
        found = _divide(*args) & Interval(-bound, bound)
    elif node.op in _OF_NODES:
        found = _OF_NODES[node.op](node, *args)
    else:
        found = _ELEMENTWISE[node.op](*args)
    wider = _outwards(found if node.op not in _UNDERFLOWING else _off_zero(found, node.sign))
    return wider & _LIMITS[node.op](*args) & by_sign if node.op in _LIMITS else wider & by_sign


def of_signs(sign: Sign) -> Interval:
    """The smallest interval that holds every number of these signs."""
    return hull(_OF_SIGNS[s] for s in (Sign.NEGATIVE, Sign.ZERO, Sign.POSITIVE) if sign & s)


def hull(intervals: Iterable[Interval]) -> Interval:
    """The smallest interval that holds them all."""
    return reduce(lambda a, b: Interval(min(a.low, b.low), max(a.high, b.high)), intervals, EMPTY)


_BY_SIGN = tuple(map(of_signs, ALL_SIGNS))

_UNDERFLOWING = frozenset({"mul", "sqr", "div", "pow", "exp", "sigmoid", "var", "norm"})
"""Operations whose value can be zero in float64 where it is not in the reals."""


def _off_zero(x: Interval, sign: Sign) -> Interval:
    """An end that is zero, which may be rounded, moves to the other side where the sign of the value allows it."""
    if x.empty:
        return EMPTY
    low = -_SMALLEST if x.low == 0 and not sign.non_negative else x.low
    return Interval(low, _SMALLEST if x.high == 0 and not sign.non_positive else x.high)


def _outwards(x: Interval) -> Interval:
    """A little wider. A lower end is never +∞: a real number so large is only larger than any float64."""
    if x.empty:
        return EMPTY
    low, high = min(x.low, _LARGEST), max(x.high, -_LARGEST)
    return Interval(low - abs(low) * _SLACK, high + abs(high) * _SLACK)


# Numbers, with infinities that stand for "as large as you like"


def _times(a: float, b: float) -> float:
    return 0.0 if a == 0 or b == 0 else a * b


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return INF


def _ln(x: float) -> float:
    """From the smallest float64 on, so that ln of what gets near zero is bounded below, by −745."""
    return math.log(max(x, _SMALLEST))


def _power(x: float, e: float) -> float:
    """xᵉ for x ≥ 0, with its limit at zero and at infinity."""
    if x == 0:
        return 0.0 if e > 0 else 1.0 if e == 0 else INF
    try:
        return math.pow(x, e)
    except OverflowError:
        return INF


def _sigmoid(x: float) -> float:
    e = math.exp(-abs(x))
    return 1 / (1 + e) if x >= 0 else e / (1 + e)


# Intervals


def _increasing(f: Callable[[float], float], domain: Interval = ALL) -> Callable[[Interval], Interval]:
    def image(x: Interval) -> Interval:
        x &= domain
        return EMPTY if x.empty else Interval(f(x.low), f(x.high))

    return image


def _negative(x: Interval) -> Interval:
    return Interval(-x.high, -x.low)


def _absolute(x: Interval) -> Interval:
    return Interval(0.0 if x.low <= 0 <= x.high else min(abs(x.low), abs(x.high)), x.magnitude)


def _square(x: Interval) -> Interval:
    m = _absolute(x)
    return Interval(m.low * m.low, m.high * m.high)


def _add(a: Interval, b: Interval) -> Interval:
    return Interval(a.low + b.low, a.high + b.high)


def _multiply(a: Interval, b: Interval) -> Interval:
    ends = [_times(x, y) for x in a for y in b]
    return Interval(min(ends), max(ends))


def _reciprocal(x: Interval) -> Interval:
    """1 / x where x is not zero."""
    if x.low == 0 == x.high:
        return EMPTY
    if x.low < 0 < x.high:
        return ALL
    return Interval(1 / x.high if x.high else -INF, 1 / x.low if x.low else INF)


def _divide(a: Interval, b: Interval) -> Interval:
    """From the ends themselves where it can be: a · (1 / b) rounds twice."""
    if b.low > 0 or b.high < 0:
        ends = [0.0 if math.isinf(y) else x / y for x in a for y in b]
        return Interval(min(ends), max(ends)) if not math.isinf(a.magnitude) else _multiply(a, _reciprocal(b))
    inverse = _reciprocal(b)
    return EMPTY if inverse.empty else _multiply(a, inverse)


def _whole_power(x: Interval, e: int) -> Interval:
    if e < 0:
        positive = _whole_power(x, -e)
        return _reciprocal(positive)
    if e % 2 == 0:
        m = _absolute(x)
        return Interval(_power(m.low, e), _power(m.high, e))
    low, high = (math.copysign(_power(abs(v), e), v) for v in x)
    return Interval(low, high)


def _pow(base: Interval, exponent: Interval) -> Interval:
    """base ^ exponent: of a non-negative base e ^ (y · ln x), whose extremes lie at the corners."""
    e = exponent.low
    if e == exponent.high and e.is_integer():
        return _whole_power(base, int(e)) if e else Interval(1, 1)
    inside = base & NON_NEGATIVE
    found = EMPTY
    if not inside.empty:
        ends = [_power(x, y) for x in inside for y in exponent]
        found = Interval(min(ends), max(ends))
    if base.low < 0 and e != exponent.high:  # a negative base is defined at whole exponents, with either sign
        size = _pow(_absolute(base), exponent).high
        found = hull([found, Interval(-size, size)])
    return found


def _minimum(*xs: Interval) -> Interval:
    return Interval(min(x.low for x in xs), min(x.high for x in xs))


def _maximum(*xs: Interval) -> Interval:
    return Interval(max(x.low for x in xs), max(x.high for x in xs))


def _sign(x: Interval) -> Interval:
    def one(v: float) -> float:
        return 0.0 if v == 0 else math.copysign(1.0, v)

    return Interval(one(x.low), one(x.high))


_ELEMENTWISE: dict[str, Callable[..., Interval]] = {
    "neg": _negative,
    "abs": _absolute,
    "sqr": _square,
    "sqrt": _increasing(math.sqrt, NON_NEGATIVE),
    "exp": _increasing(_exp),
    "ln": lambda x: EMPTY if x.high <= 0 else _increasing(lambda v: INF if v == INF else _ln(v), NON_NEGATIVE)(x),
    "tanh": _increasing(math.tanh),
    "sigmoid": _increasing(_sigmoid),
    "sign": _sign,
    "add": lambda *xs: reduce(_add, xs),
    "pow": _pow,
    "min": _minimum,
    "max": _maximum,
    "clamp": lambda x, low, high: _minimum(_maximum(x, low), high),
}


_LIMITS: dict[str, Callable[..., Interval]] = {
    "tanh": lambda x: Interval(-1, 1),
    "sigmoid": lambda x: Interval(0, 1),
    "exp": lambda x: Interval(0, 1 if x.high <= 0 else INF),
}
"""What rounding does not pass either: `1 - tanh(x)` is never negative."""


def _difference(node: Node, a: Interval, b: Interval) -> Interval:
    return Interval(0, 0) if node.args[0] is node.args[1] else _add(a, _negative(b))


def _product(node: Node, *xs: Interval) -> Interval:
    if len(xs) == 2 and node.args[0] is node.args[1]:
        return _square(xs[0])
    return reduce(_multiply, xs)


_OF_NODES: dict[str, Callable[..., Interval]] = {"sub": _difference, "mul": _product}


def _sum(n: float, x: Interval) -> Interval:
    """Of 1 to n values."""
    return Interval(min(x.low, _times(x.low, n)), max(x.high, _times(x.high, n)))


def _norm(n: float, x: Interval, p: Interval) -> Interval:
    m = _absolute(x)
    low = m.low if _power(m.low, p.low) > 0 else 0.0  # so small a value that its power is none
    return Interval(low, _times(m.high, _power(n, 1 / p.low)))


def _deviation(n: float, x: Interval) -> Interval:
    """Of values in [a, b] at most (b − a) / √2: two values, one at either end, with divisor n − 1."""
    return Interval(0.0, (x.high - x.low) / math.sqrt(2))


def _variance(n: float, x: Interval) -> Interval:
    spread = _deviation(n, x).high
    return Interval(0.0, spread * spread)


def _within(n: float, x: Interval, *rest: Interval) -> Interval:
    return x


_OVER_AXES: dict[str, Callable[..., Interval]] = {
    "sum": _sum,
    "mean": _within,
    "std": _deviation,
    "var": _variance,
    "amin": _within,
    "amax": _within,
    "norm": _norm,
    "median": _within,
    "quantile": _within,
    "rank": lambda n, x: Interval(0.0, n - 1),
    "tail": _sum,
}
