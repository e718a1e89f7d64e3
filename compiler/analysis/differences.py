"""Differences whose sign their form tells: `x - min(x)`, `max(x) - x` and `abs(x) - x` are never negative.

There x may be a sum whose terms stand among the others, and both may stand in one increasing function, as in
`exp(max(x)) - exp(min(x))`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pzc.compiler.analysis.shares import removed_axes
from pzc.compiler.analysis.signs import Sign

if TYPE_CHECKING:
    from pzc.compiler.core import Node

_DUAL = {"amin": "amax", "amax": "amin"}
_INCREASING = frozenset({"exp", "ln", "tanh", "sigmoid", "sign", "min", "max", "add", "amin", "amax", "sum", "sqrt"})
_NEAR = 12
"""How deep in two expressions a difference is looked for."""

_MANY = 6
"""Terms of a sum of which each that can be negative is looked for one that outweighs it."""


def of_difference(a: Node, b: Node) -> Sign:
    """Signs of a − b, where those of a and b allow any."""
    if below(b, a):
        return Sign.NON_NEGATIVE
    return Sign.NON_POSITIVE if below(a, b) else Sign.ANY


def of_sum(terms: tuple[Node, ...]) -> Sign:
    """Signs of a sum, a − b written as a + (−1)·b, where those of the terms allow any."""
    if len(terms) == 2:
        (weight, a), (other, b) = map(_weighted, terms)
        if weight != -other:
            return Sign.ANY
        x, y = _node(a), _node(b)
        return of_difference(x, y) if weight > 0 else of_difference(y, x)
    for t in terms:
        weight, rest = _weighted(t)
        end = rest[0]
        if len(rest) == 1 and end.op in _DUAL:
            up = (weight < 0) == (end.op == "amin")  # x − min x and max x − x
            if _is_rest(terms, t, end.args[0], -weight):
                return Sign.NON_NEGATIVE if up else Sign.NON_POSITIVE
    if len(terms) <= _MANY:
        for sign, up in ((Sign.NON_NEGATIVE, True), (Sign.NON_POSITIVE, False)):
            if _outweighed(terms, up):
                return sign
    return Sign.ANY


def _outweighed(terms: tuple[Node, ...], up: bool) -> bool:
    """Whether every term that can be negative (or, if not `up`, positive) is outweighed by another."""
    bad = [t for t in terms if not (t.sign.non_negative if up else t.sign.non_positive)]
    if 2 * len(bad) > len(terms):
        return False
    free = [t for t in terms if t not in bad]
    for t in bad:
        weight, rest = _weighted(t)
        b = _node(rest)
        for other in free:
            against, a_rest = _weighted(other)
            if against == -weight:
                low, high = (b, _node(a_rest)) if (against > 0) == up else (_node(a_rest), b)
                if below(low, high):
                    free.remove(other)
                    break
        else:
            return False
    return True


def below(a: Node, b: Node, levels: int = _NEAR) -> bool:
    """Whether a ≤ b because somewhere in one increasing function a has what is never above what b has there."""
    if a is b or _end_below(a, b, levels):
        return True
    if a.op != b.op or a.value != b.value or len(a.args) != len(b.args) or not levels or not a.args:
        return False
    left = [x for x in a.args if x not in b.args]
    right = [y for y in b.args if y not in a.args]
    if len(left) != 1 or len(right) != 1:
        return False
    low, high = left[0], right[0]
    if a.op == "mul":  # k · x and k · y
        turned = False
        for k in a.args:
            if k is not low and not k.sign.non_negative:
                if not k.sign.non_positive:
                    return False
                turned = not turned
        return below(high, low, levels - 1) if turned else below(low, high, levels - 1)
    if a.op == "pow":
        e = a.args[1]
        if e.op != "number" or e is low or not (low.sign.non_negative and high.sign.non_negative):
            return False
        return below(low, high, levels - 1) if e.sign.positive else below(high, low, levels - 1)
    if a.op == "sum" and low.axes != high.axes:  # over other axes it counts other numbers of values
        return False
    return a.op in _INCREASING and below(low, high, levels - 1)


def _end_below(a: Node, b: Node, levels: int) -> bool:
    """Whether a ≤ b by what one of the two is: an end of the other, its magnitude, a sum of magnitudes, a bound."""
    if b.op == "abs" and b.args[0] is a:
        return True
    if (b.op == "max" and a in b.args) or (a.op == "min" and b in a.args):
        return True
    if a.op == "tanh" and a.args[0] is b and b.sign.non_negative:
        return True
    if _is_end(a, "amin", b) or _is_end(b, "amax", a):
        return True
    if a.op == "amin" and b.op == "amax" and a.args == b.args:
        return True
    if a.op == "rank" and b.op == "leaf" and {b.value} == {f"{axis}_features" for axis in removed_axes(a)}:
        return True
    added = b.args[0] if b.op in ("sum", "tail") else None
    return added is not None and added.sign.non_negative and levels > 0 and below(a, added, levels - 1)


def _is_end(end: Node, op: str, x: Node) -> bool:
    """Whether a value is the minimum (`amin`) or maximum (`amax`) of x or, for a maximum, of its magnitude. Those of a
    sum stand with its coefficient outside: 2 · min(x + y) of 2x + 2y."""
    weight, rest = _weighted(end)
    inner = rest[0]
    if len(rest) > 1 or inner.op != (op if weight > 0 else _DUAL[op]):
        return False
    of = inner.args[0]
    if weight == 1 and (of is x or (op == "amax" and of.op == "abs" and of.args[0] is x)):
        return True
    return of.op == x.op == "add" and len(of.args) == len(x.args) and _scaled_terms(of, weight) == _scaled_terms(x, 1.0)


def _is_rest(terms: tuple[Node, ...], end: Node, x: Node, weight: float) -> bool:
    """Whether all terms but one are those of x, times one number."""
    of_x = x.args if x.op == "add" else (x,)
    if len(of_x) != len(terms) - 1:
        return False
    found = {_weighted(t) for t in terms if t is not end}
    return found == {(weight * w, rest) for w, rest in map(_weighted, of_x)}


def _scaled_terms(sum_: Node, weight: float) -> set[tuple[float, tuple[Node, ...]]]:
    return {(weight * w, rest) for w, rest in map(_weighted, sum_.args)}


def _weighted(t: Node) -> tuple[float, tuple[Node, ...]]:
    """A term as a number and the factors of the rest."""
    if t.op == "mul":
        first = t.args[0]
        return (first.value, t.args[1:]) if first.op == "number" else (1.0, t.args)
    return 1.0, (t,)


def _node(factors: tuple[Node, ...]) -> Node:
    """The product of some factors."""
    from pzc.compiler.core import intern  # which asks for signs, and so for this

    return factors[0] if len(factors) == 1 else intern("mul", factors)
