"""How large a value can be over a reduction of itself.

A share of a sum, a value over its largest, min-max scaling and z-scores are bounded, though the ends of the two
intervals alone would leave the quotient without a bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pzc.compiler.leaves import MOST_POSITIONS

if TYPE_CHECKING:
    from pzc.compiler.core import Node


def removed_axes(node: Node) -> frozenset[str]:
    """The axes that a reduction goes over, or a function that keeps them."""
    return node.args[0].axes if node.value is None else frozenset({str(node.value)})


def share_bound(x: Node, divisor: Node, most: float = MOST_POSITIONS) -> float:
    """The largest |x / divisor| where the divisor is a reduction of x, or such a one and addends that are never
    negative: a share of a sum, a value over its largest, min-max scaling, z-scores. Infinite for any other.

    `most` is the largest number of positions along an axis.
    """
    parts = list(_addends(divisor))
    if not all(p.sign.non_negative for p in parts):
        return math.inf
    return min(_bound(x, p, most) for p in (divisor, *parts))


def _addends(x: Node) -> Iterator[Node]:
    waiting = [x]
    while waiting:
        node = waiting.pop()
        if node.op == "add":
            waiting.extend(node.args)
        else:
            yield node


def _bare(x: Node) -> Node:
    """x, −x and |x| are of one size."""
    while x.op in ("abs", "neg"):
        x = x.args[0]
    return x


def _bound(x: Node, r: Node, most: float) -> float:
    if _bare(x) is _bare(r):
        return 1.0
    if r.op in ("sum", "tail", "amax", "mean", "norm"):
        of = r.args[0]
        if _bare(of) is not _bare(x) or not (of.sign.non_negative or r.op == "norm"):
            return math.inf
        return most ** len(removed_axes(r)) if r.op == "mean" else 1.0
    if r.op == "std" and x.op == "sub" and _is(x.args[1], "mean", x.args[0], r) and r.args[0] is x.args[0]:
        return math.sqrt(most ** len(removed_axes(r)))  # (n − 1) / √n: one value apart from all others
    if (
        r.op == "sub"
        and x.op == "sub"
        and r.args[0].op == "amax"
        and _is(r.args[1], "amin", r.args[0].args[0], r.args[0])
    ):
        top, bottom = r.args
        of = top.args[0]
        low = x.args[0] is of and (x.args[1] is bottom or _is(x.args[1], "mean", of, top))
        return 1.0 if low or (x.args[0] is top and x.args[1] is of) else math.inf
    return math.inf


def _is(node: Node, op: str, of: Node, like: Node) -> bool:
    """Whether a node is this reduction of `of`, over the axes of the reduction `like`."""
    return node.op == op and node.args[0] is of and node.value == like.value
