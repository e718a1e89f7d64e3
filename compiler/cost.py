"""What a score costs on one layer: operations and bytes read for each of its weights.

The convention. Every operation on a value of both axes counts by the table below, once a weight; an operation on fewer
axes is done once a row, a column or a layer, which is next to nothing. A reduction counts once for every value it takes
in. Sorting, for medians, quantiles, ranks and tails, counts log₂ 4096 = 12 comparisons a value. Bytes are those of
matrices in float32, as a kernel that fuses everything between two reductions would read them: once for the score, and
once more for every reduction that must be finished before.
"""

from __future__ import annotations

from dataclasses import dataclass

from pzc.compiler.core import Node, topological, value_of
from pzc.compiler.functions import OVER_AXES, REDUCING

MATRIX = frozenset({"out", "in"})

_SORTING = 12.0
_OPERATIONS: dict[str, float] = {
    "clamp": 2,
    "var": 4,
    "std": 4,
    "median": _SORTING,
    "quantile": _SORTING,
    "rank": _SORTING,
    "tail": _SORTING + 1,
}
"""Operations a value; one where nothing is said. A variance is a sum, a difference, a square and a sum."""
_NORM = {1.0: 2.0, 2.0: 2.0}
"""A norm of order 1 is a magnitude and a sum, of order 2 a square and a sum; any other has a magnitude and a power."""

BYTES = 4
"""Of one value of a matrix: float32."""


@dataclass(frozen=True)
class Cost:
    """Operations and bytes read, each for one weight of a large layer."""

    flops: float
    bytes: int


def cost(root: Node) -> Cost:
    """The cost of a score; what is shared is computed once."""
    return Cost(sum(_flops(node) for node in topological(root)), BYTES * sum(map(len, _reads(root))))


def _flops(node: Node) -> float:
    if not node.args:
        return 0.0
    works_on = node.args[0].axes if node.op in OVER_AXES else node.axes
    if works_on != MATRIX:
        return 0.0
    if node.op == "norm":
        return _NORM.get(value_of(node.args[1]), 3.0)
    return _OPERATIONS.get(node.op, 1.0)


def _reads(root: Node) -> list[set[Node]]:
    """The matrices that are read in each sweep over the layer: sweep i computes the reductions that need the results of
    i others one after another, the last sweep the score."""
    level: dict[Node, int] = {}
    matrices: dict[Node, frozenset[Node]] = {}
    sweeps: dict[int, set[Node]] = {}
    for node in topological(root):
        level[node] = max((level[a] for a in node.args), default=0)
        reads = frozenset({node}) if node.op == "leaf" and node.axes == MATRIX else frozenset()
        reads = reads.union(*(matrices[a] for a in node.args))
        if node.op in OVER_AXES and node.args[0].axes == MATRIX:
            sweeps.setdefault(level[node], set()).update(reads)
            level[node] += 1
            reads = frozenset() if node.op in REDUCING else reads
        matrices[node] = reads
    sweeps.setdefault(level[root], set()).update(matrices[root])
    return list(sweeps.values())
