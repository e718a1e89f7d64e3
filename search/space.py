"""What a search may build: leaves, operations, groups, and the trees made of them.

Trees are core nodes. `build` makes every operation valid by construction: a root or logarithm of what may be negative
gets its magnitude, a reduction over an axis that its argument lacks takes the one it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from pzc.compiler.canonical import canonical
from pzc.compiler.core import Node, depth, leaf, make, number, size, topological
from pzc.compiler.functions import REDUCING
from pzc.compiler.groups import constant_in
from pzc.compiler.leaves import ALIASES

Rng = np.random.Generator
Weighted = tuple[tuple[str, float], ...]
T = TypeVar("T")


@dataclass(frozen=True)
class Genotype:
    """A candidate as it breeds: a score and its comparison group."""

    core: Node
    per: str


@dataclass(frozen=True)
class Space:
    """The building blocks of a search, each with the weight by which it is drawn.

    `exponents` are what `x ^ e` starts from, `depth` the levels of a new tree, `largest` the most nodes that a
    candidate may have.
    """

    name: str
    doc: str
    leaves: Weighted
    unary: Weighted
    binary: Weighted
    reductions: Weighted
    groups: tuple[str, ...]
    exponents: tuple[float, ...]
    depth: tuple[int, int] = (2, 5)
    largest: int = 40


SPACES: dict[str, Space] = {
    s.name: s
    for s in (
        Space(
            "default",
            "core functions, reductions by axis, all comparison groups",
            leaves=(("W", 5), ("X", 3), ("G", 3), ("X.l1", 0.5), ("X.max", 0.5), ("X.var", 0.5), ("G.l1", 0.5)),
            unary=(("pow", 6), ("sqrt", 2), ("sqr", 1), ("ln", 0.7), ("tanh", 0.5), ("exp", 0.2), ("abs", 0.2)),
            binary=(("mul", 6), ("div", 3), ("add", 3), ("min", 0.4), ("max", 0.4), ("sub", 0.5)),
            reductions=(("mean", 3), ("norm", 2), ("amax", 1), ("std", 1), ("sum", 0.5), ("amin", 0.2)),
            groups=("row", "col", "layer", "model"),
            exponents=(0.25, 0.5, 0.75, 1.5, 2.0, -0.5, -1.0),
        ),
        Space(
            "elementwise",
            "elementwise operators and whole-matrix scaling per row, as Pruner-Zero's space",
            leaves=(("W", 1), ("X", 1), ("G", 1)),
            unary=(("sqr", 1), ("neg", 1), ("abs", 1), ("ln", 1), ("exp", 1), ("sqrt", 1), ("tanh", 1)),
            binary=(("add", 1), ("sub", 1), ("mul", 1), ("div", 1)),
            reductions=(),
            groups=("row",),
            exponents=(0.5, 2.0),
            depth=(3, 5),
        ),
    )
}
"""The spaces by name."""

LARGEST_NUMBER = 1e6
"""Retuned constants stay below this."""

TRIES = 100
"""How many random trees are drawn for one that a space takes."""


def space_for(name: str, per: str | None = None) -> Space:
    """A space by name, with all its comparison groups or with one alone."""
    space = SPACES[name]
    return replace(space, groups=(per,)) if per else space


def pick(rng: Rng, table: Sequence[tuple[T, float]]) -> T:
    """One entry, drawn by weight."""
    weights = np.array([w for _, w in table])
    return table[int(rng.choice(len(table), p=weights / weights.sum()))][0]


def terminal(space: Space, rng: Rng) -> Node:
    """A leaf. Importance hardly ever depends on the sign of a weight, so `W` comes as its magnitude."""
    name = pick(rng, space.leaves)
    node = leaf(ALIASES.get(name, name))
    return make("abs", node) if name == "W" else node


def build(op: str, *args: Node, value: float | str | None = None) -> Node:
    """An operation, made valid for its arguments."""
    first = args[0]
    if op in REDUCING:
        if not first.axes:
            return first
        axis = value if value in first.axes and len(first.axes) > 1 else None
        return make(op, *args, value=axis)
    if op == "abs":
        return _magnitude(first)
    if op == "neg" and first.op == "number":
        return number(-float(first.value or 0.0))
    if op == "sqrt" or (op == "pow" and not _whole(args[1])):
        return make(op, _magnitude(first), *args[1:])
    if op == "ln" and not first.sign.positive:
        return make("ln", make("add", _magnitude(first), number(1)))
    return make(op, *args)


def _whole(exponent: Node) -> bool:
    return exponent.op == "number" and float(exponent.value or 0.0).is_integer()


def _magnitude(x: Node) -> Node:
    return x if x.sign.non_negative else make("abs", x)


def unary(space: Space, rng: Rng, x: Node) -> Node:
    """A random function of one argument around x."""
    op = pick(rng, space.unary)
    if op == "pow":
        return build("pow", x, number(float(rng.choice(space.exponents))))
    return build(op, x)


def reduction(space: Space, rng: Rng, x: Node) -> Node:
    """A random reduction of x over `in`, `out` or both."""
    op = pick(rng, space.reductions)
    axis = rng.choice(["in", "out", ""])
    rest = (number(2),) if op == "norm" else ()
    return build(op, x, *rest, value=str(axis) or None)


def random_tree(space: Space, rng: Rng, levels: int) -> Node:
    """A tree of at most `levels` levels; half of the branches end early."""
    if levels <= 1 or rng.random() < 0.15:
        return terminal(space, rng)
    kind = rng.random()
    if space.reductions and kind < 0.15:
        x = random_tree(space, rng, levels - 1)
        return build("div", x, reduction(space, rng, x))
    if kind < 0.4:
        return unary(space, rng, random_tree(space, rng, levels - 1))
    op = pick(rng, space.binary)
    return build(op, random_tree(space, rng, levels - 1), random_tree(space, rng, levels - 1))


def why_not(genotype: Genotype, space: Space) -> str | None:
    """Why a genotype is no candidate of the space, or None when it is one."""
    core = genotype.core
    if size(core) > space.largest:
        return "too large"
    if depth(core) > 3 * space.depth[1]:
        return "too deep"
    if any(n.op == "number" and abs(float(n.value or 0.0)) > LARGEST_NUMBER for n in topological(core)):
        return "number too large"
    if constant_in(core, genotype.per) or constant_in(canonical(core), genotype.per):
        return "constant"
    return None


def random_genotype(space: Space, rng: Rng) -> Genotype:
    """A random tree with a random group; the group is one that the score varies in.

    Should a space hardly ever give such a tree, the magnitude of the weights stands in.
    """
    for _ in range(TRIES):
        levels = int(rng.integers(space.depth[0], space.depth[1] + 1))
        genotype = Genotype(random_tree(space, rng, levels), str(rng.choice(space.groups)))
        if why_not(genotype, space) is None:
            return genotype
    return Genotype(make("abs", leaf("W")), space.groups[0])
