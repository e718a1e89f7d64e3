"""Pruner-Zero's own search: trees of its release, bred as its algorithm 1 says.

Dong et al., Pruner-Zero, ICML 2024, arXiv 2406.02924. The code of the search was never released. Where the paper does
not say, this file does: half of the population is sampled; random trees are grown or full, as in the release, half and
half; offspring of more than `DEEPEST` levels, or that are too long a formula, are drawn again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pzc.compiler.core import size
from pzc.compiler.paper.opposing import graph, simplify
from pzc.compiler.paper.trees import BINARY, LEAVES, UNARY
from pzc.search.space import Genotype, Rng

Tree = dict[str, Any]
Way = tuple[str, ...]

SPACE = "pruner_zero"
"""The space of the release's leaves and operators."""

LEVELS = (3, 5)
"""Levels of a first tree, as in the paper."""

LEAF = 0.5
"""The probability of a leaf before the last level, as in the release."""

SHARE, CANDIDATES = 0.5, 10
"""What share of the population is sampled, and how many of the sample may become parents."""

MUTATION = 0.5
"""The probability of a mutation after crossover, as in the paper."""

DEEPEST, LARGEST = 10, 400
"""The most levels of a tree, and nodes of the formula that says it: one scaling writes its argument three times."""
TRIES = 20

_LEAVES, _UNARY, _BINARY = tuple(LEAVES), tuple(UNARY), tuple(BINARY)


def random_tree(rng: Rng) -> Tree:
    """A tree of 3 to 5 levels, grown or full."""
    levels = int(rng.integers(LEVELS[0], LEVELS[1] + 1))
    return _grown(rng, 1, levels, full=bool(rng.random() < 0.5))


def _grown(rng: Rng, level: int, levels: int, *, full: bool) -> Tree:
    early = not full and level >= 2 and rng.random() < LEAF
    if level == levels or early:
        return {"data": _one_of(rng, _LEAVES)}
    operator = _one_of(rng, _UNARY + _BINARY)
    sides = ("left", "right") if operator in BINARY else ("left",)
    return {"data": operator, **{side: _grown(rng, level + 1, levels, full=full) for side in sides}}


def _one_of(rng: Rng, names: tuple[str, ...]) -> str:
    return names[int(rng.integers(len(names)))]


def offspring(first: Tree, second: Tree, rng: Rng) -> tuple[Tree, str]:
    """Subtree crossover always, mutation of a node half of the time, then opposing operations go; the name says what
    was done. An offspring equal to a parent gives way to a random tree."""
    for _ in range(TRIES):
        child = replaced(first, _somewhere(first, rng), _at(second, _somewhere(second, rng)))
        name = "crossover"
        if rng.random() < MUTATION:
            child, name = mutated(child, rng), "crossover, mutation"
        child, _removed = simplify(child)
        if child in (first, second):
            break
        if levels(child) <= DEEPEST and size(graph(child)) <= LARGEST:
            return child, name
    return random_tree(rng), "random"


def mutated(tree: Tree, rng: Rng) -> Tree:
    """Another operator of the same arity, or another leaf, in the place of one."""
    way = _somewhere(tree, rng)
    node = _at(tree, way)
    kind = next(names for names in (_LEAVES, _UNARY, _BINARY) if node["data"] in names)
    return replaced(tree, way, {**node, "data": _one_of(rng, tuple(n for n in kind if n != node["data"]))})


def ways(tree: Tree) -> list[Way]:
    """The way to every node, from the root."""
    return list(_ways(tree, ()))


def _ways(tree: Tree, way: Way) -> Iterator[Way]:
    yield way
    for side in ("left", "right"):
        if tree.get(side):
            yield from _ways(tree[side], (*way, side))


def _somewhere(tree: Tree, rng: Rng) -> Way:
    every = ways(tree)
    return every[int(rng.integers(len(every)))]


def _at(tree: Tree, way: Way) -> Tree:
    for side in way:
        tree = tree[side]
    return tree


def replaced(tree: Tree, way: Way, new: Tree) -> Tree:
    """The tree with another one at the end of a way."""
    return {**tree, way[0]: replaced(tree[way[0]], way[1:], new)} if way else new


def levels(tree: Tree) -> int:
    """Nodes on the longest way from the root to a leaf."""
    return 1 + max(len(way) for way in ways(tree))


def expressed(tree: Tree) -> Genotype:
    """What a tree scores by in the release, compared per row as there."""
    return Genotype(graph(tree), "row")


def written(tree: Tree) -> str:
    """The tree as JSON."""
    return json.dumps(tree, separators=(",", ":"))


def read(text: str) -> Tree:
    """The tree of a JSON text that `written` gave."""
    tree: Tree = json.loads(text)
    return tree
