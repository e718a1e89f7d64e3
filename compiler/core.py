"""The core graph: interned, immutable nodes that know their axes and their possible signs.

Every value has a subset of the axes `out` and `in`; values combine by axis name. Two nodes that are built alike
are the same object, so equality is identity and a shared sub-expression is one node.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

from pzc.compiler.functions import REDUCING
from pzc.compiler.leaves import LEAVES
from pzc.compiler.signs import Sign, sign_of


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Node:
    """One operation on other nodes.

    `op` is `number`, `leaf`, or a core operation of `functions.py`; `value` holds a number's value, a leaf's
    name, or the axis a reduction removes (None: both). `axes` and `sign` follow from these.
    """

    op: str
    args: tuple[Node, ...]
    value: float | str | None
    axes: frozenset[str]
    sign: Sign

    def __repr__(self) -> str:
        inner = ", ".join([repr(a) for a in self.args] + ([] if self.value is None else [str(self.value)]))
        return f"{self.op}({inner})"


_interned: Final[WeakValueDictionary[tuple[object, ...], Node]] = WeakValueDictionary()


def make(op: str, *args: Node, value: float | str | None = None) -> Node:
    """The node of an operation: the existing one if it was built before."""
    key = (op, args, value)
    node = _interned.get(key)
    if node is None:
        node = Node(op, args, value, _axes(op, args, value), sign_of(op, args, value))
        _interned[key] = node
    return node


def number(value: float) -> Node:
    """A constant. Minus zero becomes zero, so that equal numbers are one node."""
    return make("number", value=float(value) + 0.0)


def leaf(name: str) -> Node:
    """A statistic by its full name, such as `W` or `X.l2`. Raises KeyError for a name that is not in the table."""
    return make("leaf", value=LEAVES[name].name)


def forget(name: str) -> None:
    """Let the next node of this leaf be a new one: what is known of the leaf has changed."""
    _interned.pop(("leaf", (), name), None)


def _axes(op: str, args: tuple[Node, ...], value: float | str | None) -> frozenset[str]:
    if op == "leaf":
        return frozenset(LEAVES[str(value)].axes)
    if op in REDUCING:
        return frozenset() if value is None else args[0].axes - {str(value)}
    return frozenset().union(*(a.axes for a in args))


def topological(root: Node) -> list[Node]:
    """Every node under `root` once, arguments before their users. Iterative: depth is not limited."""
    order: list[Node] = []
    seen: set[Node] = set()
    stack: list[tuple[Node, Iterator[Node]]] = [(root, iter(root.args))]
    seen.add(root)
    while stack:
        node, rest = stack[-1]
        for arg in rest:
            if arg not in seen:
                seen.add(arg)
                stack.append((arg, iter(arg.args)))
                break
        else:
            stack.pop()
            order.append(node)
    return order


def leaves_of(root: Node) -> frozenset[str]:
    """The full names of the leaves that `root` reads."""
    return frozenset(str(n.value) for n in topological(root) if n.op == "leaf")


def size(root: Node) -> int:
    """Complexity: the number of nodes of the tree as it would be written, shared parts counted each time."""
    count: dict[Node, int] = {}
    for node in topological(root):
        count[node] = 1 + sum(count[a] for a in node.args)
    return count[root]


def depth(root: Node) -> int:
    """Nodes on the longest way from the root to a leaf."""
    level: dict[Node, int] = {}
    for node in topological(root):
        level[node] = 1 + max((level[a] for a in node.args), default=0)
    return level[root]
