"""The core graph: interned, immutable nodes that know their axes and their possible signs.

Every value has a subset of the axes `out` and `in`; values combine by axis name. Two nodes that are built alike
are the same object, so equality is identity and a shared sub-expression is one node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, reduce
from hashlib import blake2b
from operator import or_
from typing import Any, Final
from weakref import ref

from pzc.compiler.analysis.sign_of import OF_ALL, OF_FIRST, of_constant
from pzc.compiler.analysis.signs import Sign
from pzc.compiler.functions import REDUCING
from pzc.compiler.leaves import LEAVES
from pzc.compiler.memo import forget_results

Value = float | str | None


@dataclass(eq=False, slots=True, weakref_slot=True, repr=False)
class Node:
    """One operation on other nodes. Never changed once it is made; not `frozen` because that makes making slow.

    `op` is `number`, `leaf`, or a core operation of `functions.py`; `value` holds a number's value, a leaf's name, or
    the axis a reduction removes (None: both). From these follow `bits`, the axes (`OUT` and `IN`) and the leaves under
    it, each a bit, `sign`, `height`, the nodes on the longest way to a leaf, and `digest`, a number of 64 bits by which
    the arguments of sums and products are sorted, the same in every process. The rest are notes of the rewriter:
    `settled`, whether the node is its own canonical form, `form`, that of any other node, `split`, `product` and
    `mark`, a term, a product and a factor taken apart (`terms.py`), `ranks`, the rank forms by group, `key`, the hash
    of what it says, and `bounds` and `usual`, its intervals. None of them holds the node itself, so that a node goes
    as soon as nobody needs it.
    """

    op: str
    args: tuple[Node, ...]
    value: Any
    bits: int
    sign: Sign
    height: int
    digest: int
    settled: bool = False
    form: Node | None = None
    split: tuple[float, Node | None] | None = None
    product: tuple[float, tuple[Node, ...], int] | None = None
    mark: int = 0
    ranks: dict[str, Node | None] | None = None
    key: bytes | None = None
    bounds: Any = None
    usual: Any = None

    @property
    def axes(self) -> frozenset[str]:
        """The axes that a value has: a subset of `out` and `in`."""
        return _AXES[self.bits & BOTH]

    def __copy__(self) -> Node:
        return self

    def __deepcopy__(self, memo: object) -> Node:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """The graph as a flat list, of which `_rebuilt` makes the nodes of the process that reads it."""
        place: dict[Node, int] = {}
        for node in topological(self):
            place[node] = len(place)
        return _rebuilt, ([(n.op, tuple(place[a] for a in n.args), n.value) for n in place],)

    def __repr__(self) -> str:
        inner = ", ".join([repr(a) for a in self.args] + ([] if self.value is None else [str(self.value)]))
        return f"{self.op}({inner})"


def _rebuilt(parts: list[tuple[str, tuple[int, ...], Value]]) -> Node:
    built: list[Node] = []
    for op, places, value in parts:
        built.append(intern(op, tuple(built[i] for i in places), value))
    return built[-1]


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
    key = op, args, value
    found = _interned.get(key)
    if found is not None:
        node = found()
        if node is not None:
            return node
    node = _new(op, args, value)
    reference = _interned[key] = _Reference(node, _gone)
    reference.key = key
    return node


def existing(op: str, args: tuple[Node, ...], value: Value = None) -> Node | None:
    """The node of an operation, if it was built before."""
    found = _interned.get((op, args, value))
    return found() if found is not None else None


def _new(op: str, args: tuple[Node, ...], value: Value) -> Node:
    """A node and what follows from how it is built."""
    h = _seed(op, value)
    if len(args) == 2:
        x, y = args
        bits = x.bits | y.bits
        height = x.height if x.height > y.height else y.height
        h = (((h ^ x.digest) * _ODD & _MASK) ^ y.digest) * _ODD & _MASK
    else:
        bits = _leaf_bits(str(value)) if op == "leaf" else 0
        height = 0
        for a in args:
            bits |= a.bits
            if a.height > height:
                height = a.height
            h = (h ^ a.digest) * _ODD & _MASK
    of_first = OF_FIRST.get(op)
    if of_first is not None:
        sign = of_first[args[0].sign]
        if op in REDUCING:
            bits &= ~(BOTH if value is None else AXIS_BITS[str(value)])
    else:
        sign = OF_ALL[op](args) if args else of_constant(op, value)
    return Node(op, args, value, bits, sign, height + 1, h ^ (h >> 32))


_ODD, _MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


@lru_cache(maxsize=1 << 16)
def _seed(op: str, value: Value) -> int:
    return int.from_bytes(blake2b(f"{op} {value!r}".encode(), digest_size=8).digest(), "little")


OUT, IN = 1, 2
"""The bits of the axes; those of leaves follow."""

BOTH = OUT | IN
AXIS_BITS: Final[dict[str, int]] = {"out": OUT, "in": IN}
_AXES: Final[tuple[frozenset[str], ...]] = tuple(map(frozenset, ((), ("out",), ("in",), ("out", "in"))))
_leaves: Final[dict[str, int]] = {}


def bits_of_axes(axes: Iterable[str]) -> int:
    """A set of axes as bits."""
    return reduce(or_, (AXIS_BITS[a] for a in axes), 0)


def bits_of_leaves(names: Iterable[str]) -> int:
    """The bits that stand for leaves, without those of their axes."""
    return reduce(or_, (_leaves.setdefault(name, (BOTH + 1) << len(_leaves)) for name in names), 0)


def _leaf_bits(name: str) -> int:
    return bits_of_leaves([name]) | bits_of_axes(LEAVES[name].axes)


def number(value: float) -> Node:
    """A constant. Minus zero becomes zero, so that equal numbers are one node."""
    return make("number", value=float(value) + 0.0)


def value_of(node: Node) -> float:
    """The value of a constant."""
    value: float = node.value
    return value


ONE: Final[Node] = number(1)
ONE.digest = _MASK  # it is what is left of a number among the terms of a sum, and stands last


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
    forget_results()
    for key in [key for key in _interned if key[1]]:
        del _interned[key]
    try:
        yield
    finally:
        _interned.update(before)
        forget_results()


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
    return frozenset(name for name, bit in _leaves.items() if root.bits & bit)


def size(root: Node) -> int:
    """Complexity: the number of nodes of the tree as it would be written, shared parts counted each time."""
    count: dict[Node, int] = {}
    for node in topological(root):
        count[node] = 1 + sum(count[a] for a in node.args)
    return count[root]
