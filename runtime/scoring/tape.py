"""The order in which metrics are evaluated on a layer, one block of rows after another.

A value with both axes never exists as a whole: each sweep over the rows computes, for a block that stays in the
processor's cache, what it is made for, in a few buffers that are used again. A reduction over `in` is finished within
its block. One over `out` or both axes is added up from all blocks and known after the sweep, so what reads it is
computed in the next one; what both sweeps need is computed twice. Metrics that are planned together share their
common nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from pzc.compiler.core import Node, topological
from pzc.runtime.scoring.operations import over_axis
from pzc.runtime.scoring.partials import BY_PARTS

BOTH = frozenset({"out", "in"})


class Step(NamedTuple):
    """A node that is computed for each block, and the buffer its value is written to: None where it needs none, as a
    slice of a leaf, or a column."""

    node: Node
    buffer: int | None


@dataclass(frozen=True, eq=False, slots=True)
class Sweep:
    """One way through the rows.

    The nodes of `before` have no rows of their own, or are leaves: they are known before it. `steps` are done for each
    block. `kept` are those whose blocks are put together: columns, and matrices for reductions that need one. `after`
    are reductions that are known after the sweep; `roots` the metrics of both axes that come in its blocks.
    """

    before: tuple[Node, ...]
    steps: tuple[Step, ...]
    kept: frozenset[Node]
    after: tuple[Node, ...]
    roots: frozenset[Node]


@dataclass(frozen=True, eq=False, slots=True)
class Tape:
    """The sweeps over a layer that give some metrics. `buffers` is how many each thread needs."""

    sweeps: tuple[Sweep, ...]
    buffers: int

    @property
    def by_blocks(self) -> frozenset[Node]:
        """The metrics that come in blocks. Those that lack an axis, and ranks among all, come as a whole."""
        return frozenset().union(*(sweep.roots for sweep in self.sweeps))

    @property
    def matrices(self) -> int:
        """The most matrices of the layer's size that are held at once for reductions that need one."""
        return max(sum(node.axes == BOTH for node in (*sweep.kept, *sweep.after)) for sweep in self.sweeps)


@lru_cache(maxsize=128)
def plan(roots: tuple[Node, ...], converted: frozenset[str] = frozenset(), direct: bool = False) -> Tape:
    """The tape of some metrics.

    The leaves of `converted` are not float32 in rows, so each block of them needs a buffer. With `direct` the metrics'
    blocks are written to matrices that are there already, and need none.
    """
    order = list(dict.fromkeys(node for root in roots for node in topological(root)))
    level, blocked = _levels(order)
    sweeps = []
    done: set[Node] = set()
    for number in range(max(level.values()) + 1):
        before = tuple(node for node in order if level[node] == number and not blocked[node] and node not in done)
        done |= {node for node in order if not blocked[node] and level[node] <= number}
        after = tuple(n for n in order if level[n] == number + 1 and _summed_up(n, level, blocked))
        wanted = {root for root in roots if level[root] == number and blocked[root]}
        ready = frozenset(root for root in wanted if root.axes == BOTH)
        steps = _closure(order, {node.args[0] for node in after} | wanted, done)
        kept = frozenset(n.args[0] for n in after if n.args[0].axes != BOTH or n.op not in BY_PARTS)
        kept |= {node for node in steps if node.axes != BOTH}
        sweeps.append((before, steps, kept, after, ready))
        done |= {node for node in kept if node.axes != BOTH} | set(after)
    laid = [_with_buffers(steps, ready if direct else frozenset(), converted) for _, steps, _, _, ready in sweeps]
    made = (
        Sweep(before, steps, kept, after, ready)
        for (before, _, kept, after, ready), (steps, _) in zip(sweeps, laid, strict=True)
    )
    return Tape(tuple(made), max(count for _, count in laid))


def _levels(order: Iterable[Node]) -> tuple[Mapping[Node, int], Mapping[Node, bool]]:
    """Of each node: after how many sweeps it can be computed, and whether block after block, in the next one."""
    level: dict[Node, int] = {}
    blocked: dict[Node, bool] = {}
    for node in order:
        level[node] = max((level[arg] for arg in node.args), default=0)
        blocked[node] = node.axes == BOTH or any(blocked[arg] for arg in node.args)
        if over_axis(node):
            blocked[node] = blocked[node.args[0]]
            if blocked[node] and not (node.value == "in" and node.args[0].axes == BOTH):
                blocked[node] = False
                level[node] += 1
    return level, blocked


def _summed_up(node: Node, level: Mapping[Node, int], blocked: Mapping[Node, bool]) -> bool:
    """Whether a node needs every block of its argument."""
    return over_axis(node) and blocked[node.args[0]] and not blocked[node]


def _closure(order: list[Node], goals: set[Node], done: set[Node]) -> list[Node]:
    """What must be computed for the goals beyond what is known, arguments first."""
    needed = set(goals)
    for node in reversed(order):
        if node in needed:
            needed.update(arg for arg in node.args if arg not in done)
    return [node for node in order if node in needed]


def _with_buffers(
    nodes: list[Node], written: frozenset[Node], converted: frozenset[str]
) -> tuple[tuple[Step, ...], int]:
    """Steps with their buffers, and how many there are. A step may write over an argument that is not needed again."""
    last = {arg: i for i, node in enumerate(nodes) for arg in node.args}
    place: dict[Node, int] = {}
    free: list[int] = []
    count = 0
    steps = []
    for i, node in enumerate(nodes):
        free += [place.pop(arg) for arg in dict.fromkeys(node.args) if last[arg] == i and arg in place]
        buffer = None
        if node.axes == BOTH and node not in written and (node.value in converted or not _brings_its_own(node)):
            if not free:
                free.append(count)
                count += 1
            buffer = free.pop()
            if node in last:
                place[node] = buffer
            else:  # it is used at once
                free.append(buffer)
        steps.append(Step(node, buffer))
    return tuple(steps), count


def _brings_its_own(node: Node) -> bool:
    return node.op == "leaf" or over_axis(node)
