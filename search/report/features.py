"""What a metric ranks by: its operators, leaves and comparison group.

They are those of its rank form, in which nothing is left that changes no mask: a division by the number of windows is
no operator of a metric, and neither is the square around a whole score.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

from pzc.compiler.core import topological
from pzc.compiler.functions import ELEMENTWISE, REDUCTIONS
from pzc.compiler.leaves import short
from pzc.compiler.load import inline
from pzc.compiler.rewriting.canonical import canonical
from pzc.compiler.rewriting.plain import plain
from pzc.compiler.rewriting.rank import rank_form
from pzc.search.readable import rounded

Kind = Literal["leaf", "operator", "reduction", "group"]


class Feature(NamedTuple):
    """One thing that a metric has or has not, as people write it."""

    kind: Kind
    name: str


_WRITTEN = {f.op: f.name for f in ELEMENTWISE.values()} | {
    "add": "addition",
    "sub": "subtraction",
    "mul": "multiplication",
    "div": "division",
    "pow": "power",
    "neg": "negation",
    "min": "min of two",
    "max": "max of two",
}
_REDUCING = {f.op: f.name for f in REDUCTIONS.values()} | {"sum": "sum or mean", "var": "variance"}
"""Rank forms write a mean as a sum over a count and a deviation as the root of a variance."""
_COUNTS = ("in_features", "out_features")
_OVER = {"in": "over in", "out": "over out", None: "over the layer"}


@lru_cache(maxsize=1 << 14)
def features_of(formula: str, per: str) -> frozenset[Feature]:
    """The features of a formula: of `sqr(W * X) per row` the leaves W and X, the operators abs and
    multiplication, the group row.

    A reduction counts with the axes that it removes, where its argument has both.
    """
    found = {Feature("group", f"per {per}")}
    core = inline(f"{formula} per {per}", analyse=False).core
    for node in topological(rounded(plain(rank_form(canonical(core), per)))):
        if node.op == "leaf" and node.value not in _COUNTS:
            found.add(Feature("leaf", short(str(node.value))))
        elif node.op in _REDUCING:
            both = len(node.args[0].axes) > 1
            axis = _OVER[str(node.value) if node.value else None] if both else "of a vector"
            found.add(Feature("reduction", f"{_REDUCING[node.op]} {axis}"))
        elif node.op in _WRITTEN and not (node.op == "pow" and node.args[1].value == 1):
            found.add(Feature("operator", _WRITTEN[node.op]))
    return frozenset(found)
