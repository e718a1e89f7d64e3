"""Saturation: what float32 ties although it differs over the reals.

From 9.02 on every float32 has the tanh 1. So tanh(100 · |W| · X) ranks as Wanda does, by a proof over the reals, and
prunes at random. What such a score ranks as is measured in its place: then what counts as its repetition is one.
"""

from __future__ import annotations

from pzc.compiler.core import Node, topological
from pzc.compiler.load import inline
from pzc.compiler.metric import Metric
from pzc.compiler.rewriting.plain import plain
from pzc.compiler.rewriting.rank import rank_class
from pzc.grammar.diagnostics import SourceError

SATURATING = ("tanh", "sigmoid", "exp")


def unsaturated(core: Node, per: str) -> Node | None:
    """What ranks as a score does with fewer operations that saturate; None where no rule takes one away, or what is
    left has a number beyond float32."""
    if not _saturating(core):
        return None
    form = plain(rank_class(core, per))
    if _saturating(form) >= _saturating(core):
        return None
    try:
        return inline(f"{Metric('unsaturated', form, per).formula} per {per}", analyse=False).core
    except SourceError:
        return None


def _saturating(core: Node) -> int:
    return sum(node.op in SATURATING for node in topological(core))
