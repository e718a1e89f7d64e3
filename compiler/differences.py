"""Differences whose sign their form tells: `x - min(x)`, `max(x) - x` and `max(x) - min(x)` are never negative.

There x may be a sum whose terms stand among the others, and both may stand in one increasing function, as in
`exp(max(x)) - exp(min(x))`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pzc.compiler.signs import Sign

if TYPE_CHECKING:
    from pzc.compiler.core import Node

_ENDS = ("amin", "amax")
_INCREASING = frozenset({"exp", "ln", "tanh", "sigmoid", "min", "max", "add", "amin", "amax", "sqrt"})
_NEAR = 6
"""How deep in two expressions a difference is looked for."""


def of_difference(a: Node, b: Node) -> Sign:
    """Signs of a − b, where those of a and b allow any."""
    if _below(b, a):
        return Sign.NON_NEGATIVE
    return Sign.NON_POSITIVE if _below(a, b) else Sign.ANY


def of_sum(terms: tuple[Node, ...]) -> Sign:
    """Signs of a sum, a − b written as a + (−1)·b, where those of the terms allow any."""
    if len(terms) == 2:
        weight, a = _single(terms[0])
        other, b = _single(terms[1])
        if a is None or b is None or weight != -other:
            return Sign.ANY
        return of_difference(a, b) if weight > 0 else of_difference(b, a)
    for t in terms:
        weight, end = _single(t)
        if end is not None and end.op in _ENDS and abs(weight) == 1:
            up = (weight < 0) == (end.op == "amin")  # x − min x and max x − x
            if _is_rest(terms, t, end.args[0], -weight):
                return Sign.NON_NEGATIVE if up else Sign.NON_POSITIVE
    return Sign.ANY


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
    found = {_weighted(t) for t in terms if t is not end}
    return found == {(weight * w, rest) for w, rest in map(_weighted, of_x)}


def _single(t: Node) -> tuple[float, Node | None]:
    """A term as a number and the only other factor; None where there are several."""
    if t.op != "mul":
        return 1.0, t
    args = t.args
    return (float(args[0].value or 0.0), args[1]) if len(args) == 2 and args[0].op == "number" else (1.0, None)


def _weighted(t: Node) -> tuple[float, tuple[Node, ...]]:
    """A term as a number and the factors of the rest."""
    if t.op == "mul":
        return (float(t.args[0].value or 0.0), t.args[1:]) if t.args[0].op == "number" else (1.0, t.args)
    return 1.0, (t,)
