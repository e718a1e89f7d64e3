"""Condensed parents: a metric breeds as it was bred, or in the short form in which people read it.

What was bred grows: after a dozen generations most parents are near the size limit of the space, and whatever would add
to them is refused. The short form ranks alike, is a fifth to a quarter smaller on the mean, and has a number of its own
for each of its powers, which can be moved alone.
"""

from __future__ import annotations

from functools import lru_cache

from pzc.compiler.core import Node, make, number, topological
from pzc.compiler.metric import Metric
from pzc.search.readable import shortened
from pzc.search.space import Genotype, Space, build

POWERS = {"sqrt": 0.5, "sqr": 2.0}
"""Operations that are written as a power, so that the exponent can be moved."""

SPELT = {"std": "var", "norm": "sum", "mean": "sum"}
"""How short forms spell what a space may have under another name."""


def condensed(genotype: Genotype, space: Space) -> Genotype:
    """The short form of a genotype; itself where that takes an operation that neither it nor the space has."""
    core = _short(genotype)
    known = space.operations | _operations(genotype.core)
    known |= {SPELT[op] for op in known if op in SPELT}
    if "pow" in known:
        core = _as_powers(core)
    return Genotype(core, genotype.per) if _operations(core) <= known else genotype


@lru_cache(maxsize=1 << 10)
def _short(genotype: Genotype) -> Node:
    return shortened(Metric("bred", genotype.core, genotype.per))[0].core


def _operations(core: Node) -> frozenset[str]:
    return frozenset(node.op for node in topological(core)) - {"leaf", "number"}


def _as_powers(core: Node) -> Node:
    built: dict[Node, Node] = {}
    for node in topological(core):
        args = [built[a] for a in node.args]
        if node.op in POWERS:
            built[node] = build("pow", args[0], number(POWERS[node.op]))
        else:
            built[node] = make(node.op, *args, value=node.value) if args else node
    return built[core]
