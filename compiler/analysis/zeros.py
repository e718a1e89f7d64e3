"""Where a value is zero in the ordinary course of things, and why.

A single dead feature or a single zero weight is ordinary. A *degenerate* zero is not reported: a sum of magnitudes, a
norm, a largest value, a deviation or a range is zero only when a whole slice of the layer is zero or constant, and a
signed sum or a mean only by a coincidence that one number in a million layers may show. A run that meets one stops and
says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pzc.compiler.analysis.intervals import interval
from pzc.compiler.analysis.signs import Sign, negate
from pzc.compiler.core import Node, topological, value_of
from pzc.compiler.functions import REDUCING

Reasons = Mapping[Node, str | None]

_LEAVES: dict[str, str] = {
    "W": "where a weight is zero",
    "X": "where an input feature is never active",
    "X.var": "where an input feature is constant",
    "Y": "where an output feature is never active",
    "Y.var": "where an output feature is constant",
    "G": "where a weight has no gradient",
    "noise": "where the noise is zero",
    "depth": "in the first block",
}
_CANCEL = "where its terms cancel"
_SIZES = {"out_features", "in_features"}


def zeros(root: Node, signs: Callable[[Node], Sign] = lambda node: node.sign) -> dict[Node, str | None]:
    """Why each part of an expression can be zero: a clause, perhaps empty. None where it cannot be, or only in a
    degenerate case.

    `signs` gives the signs that a part can take; it may know more than the part itself.
    """
    reasons: dict[Node, str | None] = {}
    aggregate: dict[Node, bool] = {}
    for node in topological(root):
        aggregate[node] = _is_aggregate(node, aggregate)
        if not signs(node) & Sign.ZERO or Sign.ZERO not in interval(node).signs:
            reasons[node] = None
        elif node.op in ("add", "sub") and not aggregate[node]:
            reasons[node] = _sum(node, reasons)
        else:
            reasons[node] = _OF.get(node.op, lambda node, known: None)(node, reasons)
    return reasons


def _is_aggregate(node: Node, known: Mapping[Node, bool]) -> bool:
    """Whether a value is made of reductions, sizes and numbers alone: it is near zero only by coincidence."""
    if not node.args:
        return node.op == "number" or node.value in _SIZES
    return node.op in REDUCING or all(known[a] for a in node.args)


def _first(node: Node, known: Reasons) -> str | None:
    return known[node.args[0]]


def _leaf(node: Node, known: Reasons) -> str | None:
    name = str(node.value)
    return _LEAVES.get(name) or _LEAVES.get(name.partition(".")[0], "")


def _any(node: Node, known: Reasons) -> str | None:
    return next((known[a] for a in node.args if known[a] is not None), None)


def _sum(node: Node, known: Reasons) -> str | None:
    """Terms of one sign are zero only together."""
    a, b = (x.sign for x in node.args)
    b = negate(b) if node.op == "sub" else b
    if not ((a | b).non_negative or (a | b).non_positive):
        return _CANCEL
    return _any(node, known) if all(known[x] is not None for x in node.args) else None


def _extreme(same_side: Callable[[Sign], bool]) -> Callable[[Node, Reasons], str | None]:
    """The larger of two is zero only where all that are never negative are; the smaller, where all never positive."""

    def reason(node: Node, known: Reasons) -> str | None:
        if any(known[a] is None for a in node.args if same_side(a.sign)):
            return None
        return _any(node, known)

    return reason


def _lowest(node: Node, known: Reasons) -> str | None:
    """One zero among values that are never negative makes their smallest zero; of mixed values it is degenerate."""
    return known[node.args[0]] if node.args[0].sign.non_negative else None


def _highest(node: Node, known: Reasons) -> str | None:
    return known[node.args[0]] if node.args[0].sign.non_positive else None


def _quantile(node: Node, known: Reasons) -> str | None:
    end = {0.0: _lowest, 1.0: _highest}.get(value_of(node.args[1]))
    return end(node, known) if end else None


def _clamp(node: Node, known: Reasons) -> str | None:
    x, low, high = node.args
    below = known[low] if x.sign & Sign.NEGATIVE else None
    above = known[high] if x.sign & Sign.POSITIVE else None
    return next((reason for reason in (known[x], below, above) if reason is not None), None)


_OF: dict[str, Callable[[Node, Reasons], str | None]] = {
    "number": lambda node, known: "",
    "leaf": _leaf,
    **dict.fromkeys(("neg", "abs", "sqr", "sqrt", "tanh", "sign", "div", "pow"), _first),
    "ln": lambda node, known: "where its argument is 1",
    "mul": _any,
    "min": _extreme(lambda s: s.non_positive),
    "max": _extreme(lambda s: s.non_negative),
    "clamp": _clamp,
    "amin": _lowest,
    "amax": _highest,
    "quantile": _quantile,
    "rank": lambda node, known: "for the smallest value",
    "tail": _highest,
}
"""Reductions that are not here are zero in degenerate cases only."""
