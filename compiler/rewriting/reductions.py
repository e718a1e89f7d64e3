"""Functions over axes, of canonical values: over axes some of which the value may have lost on the way."""

from __future__ import annotations

import math

from pzc.compiler.core import AXIS_BITS, BOTH, ONE, Node, intern, leaf
from pzc.compiler.rewriting.arithmetic import multiple, product, total
from pzc.compiler.rewriting.engine import build, note, settle
from pzc.compiler.rewriting.terms import MINUS_ONE, ZERO, coefficient

SIZES = {"in": "in_features", "out": "out_features"}

_AXIS = {bit: axis for axis, bit in AXIS_BITS.items()}
_OF_CONTENT = frozenset({"amin", "amax", "var", "quantile", "tail"})
_NAMES = {"var": "variance", "amin": "min", "amax": "max"}
"""How the rules call operations that they do not call by their own names."""


def reduction(op: str, args: tuple[Node, ...], over: int) -> Node:
    """The canonical form of a reduction over some axes (as bits), of those that are no spellings of others."""
    axes = args[0].bits & BOTH
    if args[0].op == "add" and op in _OF_CONTENT:
        made = _without_content(op, args, over)
        if made is not None:
            return made
    if over == axes:
        return build(op, args)
    left = over & axes
    if left == over:
        return build(op, args, _AXIS[over])
    return _of_constant(op, args, left, over & ~left)


def _without_content(op: str, args: tuple[Node, ...], over: int) -> Node | None:
    """The reduction of a sum whose first coefficient is not 1 or −1, from that of one where it is."""
    x, *rest = args
    content = abs(coefficient(x.args[0])[0])
    outside = content * content if op == "var" else content
    if content == 1 or not 0 < outside < math.inf:
        return None
    note(f"{_NAMES.get(op, op)} of content")
    inner = reduction(op, (multiple(x, 1.0, content), *rest), over)
    return product(((inner, 1.0),), outside)


def _of_constant(op: str, args: tuple[Node, ...], left: int, lost: int) -> Node:
    """The reduction of a value that stands several times: it lacks the axes `lost`."""
    x = args[0]
    if op in ("sum", "tail") or (op == "rank" and left):  # k equal copies count k times, in ranks too
        note("tail of constant" if op == "tail" else "sum of constant")
        return product(((sizes(lost), 1.0), (reduction(op, args, left) if left else x, 1.0)))
    if not left:
        note(f"{_NAMES.get(op, op)} of constant")
        return ZERO if op in ("var", "rank") else x
    if op in ("amin", "amax"):
        return reduction(op, args, left)
    if op == "var":
        return _repeated_variance(reduction(op, args, left), left, lost)
    return _quantile_of_constant(op, args, left | lost)


def sizes(axes: int) -> Node:
    """The number of positions along axes, as bits."""
    return product(tuple([(settle(leaf(SIZES[a])), 1.0) for a, bit in AXIS_BITS.items() if axes & bit]))


def _repeated_variance(variance: Node, left: int, lost: int) -> Node:
    """The sample variance of values each of which stands k times, from that of the n values alone:
    var · k (n − 1) / (k n − 1)."""
    k, n = sizes(lost), sizes(left)
    minus_one = (MINUS_ONE, 1.0)
    fewer = total(((product(((k, 1.0), (n, 1.0))), 1.0), minus_one))
    return product(((variance, 1.0), (k, 1.0), (total(((n, 1.0), minus_one)), 1.0), (fewer, -1.0)))


def _quantile_of_constant(op: str, args: tuple[Node, ...], over: int) -> Node:
    """How values between neighbours are filled in depends on how many there are, so a quantile over an axis that its
    argument lost gets it back: x + 0 · 1 · W, which nobody can write."""
    x, share = args
    if share.value in (0.0, 1.0):
        return reduction("amax" if share.value else "amin", (x,), over)
    spread = intern("add", (x, intern("mul", (ZERO, ONE, leaf("W")))))
    node = intern(op, (spread, share), None if over == BOTH else _AXIS[over])
    spread.settled = node.settled = True
    return node
