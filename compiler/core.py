"""The core graph: interned, immutable nodes that know their axes and their possible signs.

Every value has a subset of the axes `out` and `in`; values combine by axis name. Two nodes that are built alike
are the same object, so equality is identity and a shared sub-expression is one node.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final
from weakref import ref

from pzc.compiler.functions import REDUCING
from pzc.compiler.leaves import LEAVES
from pzc.compiler.signs import SIGN_OF, Sign, sign_of

Value = float | str | None


@dataclass(eq=False, slots=True, weakref_slot=True, repr=False)
class Node:
    """One operation on other nodes. Never changed once it is made; not `frozen` because that makes making slow.

    `op` is `number`, `leaf`, or a core operation of `functions.py`; `value` holds a number's value, a leaf's name, or
    the axis a reduction removes (None: both). `axes`, `sign` and `height`, the nodes on the longest way to a leaf,
    follow from these, and so do the notes that the rewriter keeps here: `settled`, whether the node is its own
    canonical form, `form`, that of a node whose arguments are canonical, `digest`, by which the arguments of sums and
    products are sorted, `split`, a product that begins with a number as that and the rest, and `ranks`, the rank forms
    by group.
    """

    op: str
    args: tuple[Node, ...]
    value: Any
    axes: frozenset[str]
    sign: Sign
    height: int
    settled: bool = False
    form: Node | None = None
    digest: int = 0
    split: tuple[float, Node] | None = None
    ranks: dict[str, Node | None] | None = None

    def __repr__(self) -> str:
        inner = ", ".join([repr(a) for a in self.args] + ([] if self.value is None else [str(self.value)]))
        return f"{self.op}({inner})"


_Key = tuple[str, tuple["Node", ...], Value]


class _Reference(ref[Node]):
    """A weak reference that knows its key in the table."""

    __slots__ = ("key",)
    key: _Key


_interned: Final[dict[_Key, _Reference]] = {}


def _gone(dead: ref[Node], table: dict[_Key, _Reference] = _interned) -> None:
    """Take a node that nobody needs out of the table, unless another has taken its place."""
    key = dead.key  # type: ignore[attr-defined]
    if table.get(key) is dead:
        del table[key]


def make(op: str, *args: Node, value: Value = None) -> Node:
    """The node of an operation: the existing one if it was built before."""
    return intern(op, args, value)


def intern(op: str, args: tuple[Node, ...], value: Value = None) -> Node:
    """`make` with the arguments as one tuple."""
    key = (op, args, value)
    found = _interned.get(key)
    node = found() if found is not None else None
    if node is None:
        unary = SIGN_OF.get(op)
        if len(args) == 2:
            x, y = args
            axes = x.axes | y.axes
            height = 1 + (x.height if x.height > y.height else y.height)
        elif len(args) == 1:
            axes, height = args[0].axes, 1 + args[0].height
        else:
            axes = _EMPTY.union(*[a.axes for a in args])
            height = 1 + max([a.height for a in args], default=0)
        if op in REDUCING:
            axes = _EMPTY if value is None else args[0].axes - {str(value)}
        elif op == "leaf":
            axes = frozenset(LEAVES[str(value)].axes)
        node = Node(op, args, value, axes, unary[args[0].sign] if unary else sign_of(op, args, value), height)
        reference = _interned[key] = _Reference(node, _gone)
        reference.key = key
    return node


_EMPTY: Final[frozenset[str]] = frozenset()


def number(value: float) -> Node:
    """A constant. Minus zero becomes zero, so that equal numbers are one node."""
    return make("number", value=float(value) + 0.0)


def leaf(name: str) -> Node:
    """A statistic by its full name, such as `W` or `X.l2`. Raises KeyError for a name that is not in the table."""
    return make("leaf", value=LEAVES[name].name)


def forget(name: str) -> None:
    """Let the next node of this leaf be a new one: what is known of the leaf has changed."""
    _interned.pop(("leaf", (), name), None)


@contextmanager
def forgetting() -> Iterator[None]:
    """Within this, every operation that is made is a new node of which nothing is remembered, and after it, all is as
    before: for measurements and tests."""
    before = dict(_interned)
    for key in [key for key in _interned if key[1]]:
        del _interned[key]
    try:
        yield
    finally:
        _interned.update(before)


_ODD, _MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


def digest(root: Node) -> int:
    """A number of 64 bits that follows from how a node is built, the same in every process."""
    if root.digest == 0:
        waiting = [root]
        while waiting:
            node = waiting[-1]
            missing = [a for a in node.args if a.digest == 0]
            if missing:
                waiting += missing
                continue
            waiting.pop()
            h = _seed(node.op, node.value)
            for a in node.args:
                h = ((h ^ (h >> 29)) * _ODD + a.digest) & _MASK
            node.digest = (h ^ (h >> 32)) or 1
    return root.digest


@lru_cache(maxsize=1 << 16)
def _seed(op: str, value: Value) -> int:
    return int.from_bytes(blake2b(f"{op} {value!r}".encode(), digest_size=8).digest(), "little")


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
