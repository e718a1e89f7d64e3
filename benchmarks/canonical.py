"""How fast expressions are brought to canonical form, and how many random metrics turn out to rank alike.

    python benchmarks/canonical.py
    python benchmarks/canonical.py --trees 5000 --probes 10

Random trees of depth 4 over Pruner-Zero's operators (the library `paper`), and over the core's. Speed is that of
canonical form and rank class, starting from core graphs with nothing remembered. Classes are per row: trees whose
scores are not finite on a probe count as one. Every class is checked in float64: all its trees must order the weights
of every row of every probe alike. `rounding` are pairs on a probe that differ within rounding; `absorbed` those of them
that differ more, as `exp(x) + y` does where float64 loses y, and not at all in 400 digits.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import click
import numpy as np
from precise import alike
from rich.console import Console
from rich.table import Table

from pzc.compiler import core
from pzc.compiler.core import Node, leaf, make, number, topological
from pzc.compiler.groups import constant_in
from pzc.compiler.paper import opposing
from pzc.compiler.reference import Array, apply
from pzc.compiler.rewriting.canonical import canonical
from pzc.compiler.rewriting.rank import rank_class
from pzc.compiler.sameness.probes import KINDS, probe

Tree = tuple[Any, ...]
PER = "row"


# Random trees


def _plain(op: str) -> Callable[..., Node]:
    return lambda *args: make(op, *args)


def _of_release(op: str) -> Callable[..., Node]:
    return lambda *args: opposing.apply(op, args)


PAPER_UNARY = {
    op: _of_release(op) for op in ("sqr", "pow", "neg", "abs", "log", "exp", "sqrt", "tanh", "skp", "mms", "zsn")
}
PAPER_BINARY = {op: _of_release(op) for op in ("add", "sub", "mul", "div")}
CORE_UNARY: dict[str, Callable[..., Node]] = {
    op: _plain(op) for op in ("neg", "abs", "sqr", "exp", "tanh", "sigmoid", "sign")
} | {
    "sqrt": lambda x: make("sqrt", make("abs", x)),
    "ln": lambda x: make("ln", make("add", make("abs", x), number(1))),
    **{
        f"{op} {axis}": lambda x, op=op, axis=axis: (
            make(op, x, value=axis if len(x.axes) == 2 else None) if axis in x.axes else x
        )
        for op in ("sum", "mean", "std", "amax", "median")
        for axis in ("in", "out")
    },
}
CORE_BINARY: dict[str, Callable[..., Node]] = {op: _plain(op) for op in ("add", "sub", "mul", "div", "min", "max")}


@dataclass(frozen=True)
class Operators:
    """What random trees are made of."""

    name: str
    leaves: dict[str, Node]
    unary: dict[str, Callable[..., Node]]
    binary: dict[str, Callable[..., Node]]
    levels: int = 4
    ends: float = 0.15
    pairs: float = 1 / 3
    graphs: dict[Tree, Node] = field(default_factory=dict)

    def tree(self, rng: random.Random, levels: int) -> Tree:
        """A random tree of at most `levels` operations on a way; each branch may end before with the chance `ends`,
        and has two arguments with the chance `pairs`."""
        if levels == 0 or (levels < self.levels and rng.random() < self.ends):
            return (rng.choice(tuple(self.leaves)),)
        binary = rng.random() < self.pairs
        op = rng.choice(tuple(self.binary if binary else self.unary))
        return (op, *(self.tree(rng, levels - 1) for _ in range(1 + binary)))

    def graph(self, tree: Tree) -> Node:
        """The core graph of a tree."""
        if tree not in self.graphs:
            op, *args = tree
            made = (self.unary.get(op) or self.binary[op])(*map(self.graph, args)) if args else self.leaves[op]
            self.graphs[tree] = made
        return self.graphs[tree]


def paper() -> Operators:
    """The release's operators and leaves."""
    leaves = {name: opposing.graph({"data": name}) for name in "WXG"}
    return Operators("paper", leaves, PAPER_UNARY, PAPER_BINARY)


def own() -> Operators:
    """The core's operators."""
    leaves = {"W": leaf("W"), "|W|": make("abs", leaf("W")), "X": leaf("X.l2"), "G": leaf("G.l2")}
    return Operators("core", leaves, CORE_UNARY, CORE_BINARY)


def tree_size(tree: Tree) -> int:
    """Operators and leaves of a tree."""
    return 1 + sum(map(tree_size, tree[1:]))


# Speed


def fresh(roots: Iterable[Node]) -> list[Node]:
    """Copies of graphs; within `core.forgetting` nothing is remembered of them."""
    copies: dict[Node, Node] = {}
    for root in roots:
        for node in topological(root):
            if node not in copies:
                copies[node] = make(node.op, *(copies[a] for a in node.args), value=node.value)
    return [copies[r] for r in roots]


def seconds(roots: list[Node]) -> float:
    """The processor time that canonical forms and rank classes of all of them take."""
    gc.collect()
    gc.disable()
    start = time.process_time()
    for root in roots:
        rank_class(root, PER)
    spent = time.process_time() - start
    gc.enable()
    return spent


def twice(roots: Iterable[Node]) -> tuple[float, float]:
    """The time for graphs of which nothing is known, and for the same ones once more."""
    with core.forgetting():
        copies = fresh(roots)
        return seconds(copies), seconds(copies)


def chain(levels: int) -> Node:
    """A deep expression of a given size, no two levels alike."""
    x = make("abs", leaf("W"))
    for i in range(levels):
        x = make("add", make("tanh", make("mul", x, leaf("X.l2"))), number(1 + 1 / (i + 2)))
    return x


# Classes


@dataclass
class Orders:
    """The scores of expressions on probes; shared parts are computed once a probe."""

    leaves: Mapping[str, Array]
    values: dict[Node, Array] = field(default_factory=dict)

    def __call__(self, root: Node) -> Array:
        for node in topological(root):
            if node not in self.values:
                with np.errstate(all="ignore"):
                    self.values[node] = apply(node, [self.values[a] for a in node.args], self.leaves)
        return np.broadcast_to(self.values[root], self.leaves["W"].shape)


def signature(scores: Array) -> bytes:
    """The order of every row, ties included, values apart by rounding taken as one."""
    low, high = scores.min(1, keepdims=True), scores.max(1, keepdims=True)
    places = np.argsort(scores, axis=1, kind="stable")
    ordered = np.take_along_axis(scores, places, 1)
    steps = np.diff(ordered, axis=1) > 1e-11 * np.maximum(np.abs(low), np.abs(high))
    ranks = np.concatenate([np.zeros((len(scores), 1), int), np.cumsum(steps, axis=1)], 1)
    out = np.empty_like(ranks)
    np.put_along_axis(out, places, ranks, 1)
    return out.astype(np.uint8).tobytes()


def opposite(a: Array, b: Array) -> tuple[bool, bool, bool]:
    """Whether two scores order two weights of a row clearly differently, whether one ties what the other clearly tells
    apart, and whether they differ at all."""
    da, db = (x[:, :, None] - x[:, None, :] for x in (a, b))
    sa, sb = (np.abs(x).max(1)[:, None, None] + 1e-300 for x in (a, b))
    clear = (np.abs(da) > 1e-7 * sa) & (np.abs(db) > 1e-7 * sb) & (np.sign(da) != np.sign(db))
    tied = ((np.abs(da) > 1e-3 * sa) & (db == 0)) | ((np.abs(db) > 1e-3 * sb) & (da == 0))
    return bool(clear.any()), bool(tied.any()), bool((np.sign(da) != np.sign(db)).any())


def saturated(root: Node, evaluator: Orders) -> bool:
    """Whether float64 loses on the way what the reals tell apart: in `tanh` and `sigmoid` of large values, in sums of
    values of very different size, in exponentials of tiny ones, in what leaves its range."""
    for node in topological(root):
        args = [np.abs(evaluator.values[a]) for a in node.args]
        if node.op in ("tanh", "sigmoid") and (args[0].max() > 12 or args[0].min() < 1e-9):
            return True
        if node.op in ("add", "sub"):
            low, high = np.minimum(*args), np.maximum(*args)
            if (low < 1e-9 * high).any():
                return True
        value = np.abs(evaluator.values[node])
        if not node.axes <= set() and value.size and (value.max() > 1e200 or ((value > 0) & (value < 1e-200)).any()):
            return True
        if node.op == "exp" and ((value == 0).any() or (args[0] < 1e-8).any()):
            return True
    return False


@dataclass
class Classes:
    """What became of some trees."""

    distinct: int
    refused: int
    real: int
    rank: int
    orders: int
    merges: int
    false: list[tuple[Node, Node]]
    rounding: int
    absorbed: int
    missed: list[tuple[Node, Node]]


def classes(roots: list[Node], probes: int) -> Classes:
    """Rank classes by rewriting and by order on probes; every pair that rewriting merges is checked on all probes."""
    evaluators = [Orders(probe(KINDS[i % len(KINDS)], 1000 + i, PER).layers[0]) for i in range(probes)]
    found: dict[Node, list[Node]] = {}
    forms: set[Node] = set()
    refused = 0
    by_order: dict[bytes, list[Node]] = {}
    signatures: dict[Node, bytes] = {}
    distinct = list(dict.fromkeys(roots))
    for root in distinct:
        scores = evaluators[0](root)
        constant = constant_in(root, PER) or constant_in(canonical(root), PER)
        if constant or not np.isfinite(scores).all():
            refused += 1
            continue
        found.setdefault(rank_class(root, PER), []).append(root)
        forms.add(canonical(root))
        signatures[root] = b"".join(signature(e(root)) for e in evaluators[:3])
        by_order.setdefault(signatures[root], []).append(root)
    false, rounding, absorbed, merges = [], 0, 0, 0
    for evaluator in evaluators:
        for members in found.values():
            first = evaluator(members[0]) if len(members) > 1 else None
            for other in members[1:]:
                merges += evaluator is evaluators[0]
                second = evaluator(other)
                if not (np.isfinite(first).all() and np.isfinite(second).all()):
                    continue
                clear, tied, any_way = opposite(first, second)
                wrong = clear or (tied and not (saturated(members[0], evaluator) or saturated(other, evaluator)))
                if wrong and alike(members[0], other, evaluator.leaves):
                    wrong, absorbed = False, absorbed + 1
                rounding += any_way and not wrong
                if wrong:
                    false.append((members[0], other))
        evaluator.values.clear()
    missed = []
    for members in by_order.values():
        kinds = list({rank_class(m, PER): m for m in reversed(members)}.values())
        missed += [(kinds[0], other) for other in kinds[1:]]
    extra = bool(refused)
    return Classes(
        len(distinct),
        refused,
        len(forms) + extra,
        len(found) + extra,
        len(by_order) + extra,
        merges,
        list(dict.fromkeys(false)),
        rounding,
        absorbed,
        missed,
    )


@click.command()
@click.option("--trees", default=20_000, show_default=True)
@click.option("--probes", default=50, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--repeat", default=5, show_default=True)
@click.option("--misses", default=0, show_default=True, help="Print so many pairs that rank alike and were not merged.")
@click.option("--only", type=click.Choice(["paper", "core", "speed"]))
def main(trees: int, probes: int, seed: int, repeat: int, misses: int, only: str | None) -> None:
    """Print both tables."""
    from pzc.compiler.source import expression

    console = Console(width=110, soft_wrap=True)
    speed = Table("operators", "trees", "nodes a tree", "core nodes", "trees/s", "again")
    counts = Table(
        "operators", "distinct", "refused", "real", "rank", "by order", "merges", "false", "rounding", "absorbed"
    )
    for operators in (paper(), own()):
        if only in ("paper", "core") and operators.name != only:
            continue
        rng = random.Random(seed)
        made = [operators.tree(rng, operators.levels) for _ in range(trees)]
        roots = [operators.graph(t) for t in made]
        spent, again = [], []
        for _ in range(repeat):
            first, second = twice(roots)
            spent.append(first)
            again.append(second)
        core_nodes = statistics.mean(len(topological(r)) for r in roots)
        speed.add_row(
            operators.name,
            f"{trees:,}",
            f"{statistics.mean(map(tree_size, made)):.1f}",
            f"{core_nodes:.1f}",
            f"{trees / statistics.median(spent):,.0f}",
            f"{trees / statistics.median(again):,.0f}",
        )
        if only == "speed":
            continue
        result = classes(roots, probes)
        counts.add_row(
            operators.name,
            f"{len(set(made)):,}",
            *(f"{n:,}" for n in (result.refused, result.real, result.rank, result.orders, result.merges)),
            f"{len(result.false):,}",
            f"{result.rounding:,}",
            f"{result.absorbed:,}",
        )
        for a, b in result.false[:20]:
            console.print(f"FALSE  {expression(a)}   |   {expression(b)}", markup=False)
        for a, b in random.Random(1).sample(result.missed, min(misses, len(result.missed))):
            console.print(f"missed {expression(a)}   |   {expression(b)}", markup=False)
    console.print(speed)
    if only != "speed":
        console.print(counts)
    growth = Table("levels of one expression", "nodes", "ms", "µs a node")
    for levels in (50, 100, 200, 400, 800):
        best = min(twice([chain(levels)])[0] for _ in range(3))
        nodes = len(topological(chain(levels)))
        growth.add_row(f"{levels}", f"{nodes:,}", f"{best * 1e3:.2f}", f"{best / nodes * 1e6:.1f}")
    console.print(growth)


if __name__ == "__main__":
    main()
