"""Variation: how offspring come from parents. Each way is a small function; a table gives their weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from pzc.compiler.core import ONE, Node, leaf, make, number, value_of
from pzc.compiler.functions import REDUCING
from pzc.search.space import (
    Genotype,
    Rng,
    Space,
    apply,
    binary,
    build,
    named,
    pick,
    random_genotype,
    random_tree,
    reduced,
    reduction,
    terminal,
    unary,
    why_not,
)

Path = tuple[int, ...]
TRIES = 20

_FIXED = ("norm", "quantile")  # their second argument stays as it is


def positions(root: Node) -> list[tuple[Path, Node]]:
    """Every sub-expression with the way to it from the root; exponents and orders of norms are not among them."""
    return list(_positions(root, ()))


def _positions(node: Node, path: Path) -> Iterator[tuple[Path, Node]]:
    yield path, node
    inner = node.args[:1] if node.op in ("pow", *_FIXED) else node.args
    for i, arg in enumerate(inner):
        yield from _positions(arg, (*path, i))


def replaced(root: Node, path: Path, new: Node) -> Node:
    """The tree with another sub-expression at `path`, made valid on the way up."""
    if not path:
        return new
    args = list(root.args)
    args[path[0]] = replaced(args[path[0]], path[1:], new)
    return build(root.op, *args, value=root.value)


def _somewhere(root: Node, rng: Rng) -> tuple[Path, Node]:
    places = positions(root)
    return places[int(rng.integers(len(places)))]


# Each takes the parents, the space and the random numbers, and returns an offspring or None where it does not apply.


def crossover(parents: Sequence[Genotype], space: Space, rng: Rng) -> Genotype | None:
    """A sub-expression of the second parent in the place of one of the first with the same axes."""
    first, second = parents[0], parents[1]
    path, old = _somewhere(first.core, rng)
    donors = [n for _, n in positions(second.core) if n.axes == old.axes and n is not old]
    if not donors:
        return None
    return Genotype(replaced(first.core, path, donors[int(rng.integers(len(donors)))]), first.per)


def blend(parents: Sequence[Genotype], space: Space, rng: Rng) -> Genotype | None:
    """The scores of both parents, each divided by a reduction of itself over the layer, added up: where either says
    much, a weight stays."""
    first, second = parents[0], parents[1]
    if first.core is second.core or not space.reductions or not _has(space, "add", "mul"):
        return None
    op = pick(rng, space.reductions)
    parts = [build("div", p.core, reduced(op, p.core)) for p in (first, second)]
    share = number(float(rng.choice([0.25, 0.5, 1.0, 2.0, 4.0])))
    return Genotype(build("add", parts[0], build("mul", share, parts[1])), parents[int(rng.integers(2))].per)


def join(parents: Sequence[Genotype], space: Space, rng: Rng) -> Genotype | None:
    """The product of both parents' scores, one of them to a power below 1: a weighted geometric mean."""
    first, second = parents[0], parents[1]
    if first.core is second.core or not _has(space, "mul", "pow"):
        return None
    part = build("pow", second.core, number(float(rng.choice([0.25, 0.5, 0.75]))))
    return Genotype(build("mul", first.core, part), parents[int(rng.integers(2))].per)


def _has(space: Space, *ops: str) -> bool:
    """Whether a space has core operations, under a name of their own too, as `paper.mul` is for `*`."""
    return all(op in space.operations or _named(space, op) for op in ops)


@lru_cache
def _named(space: Space, op: str) -> bool:
    x, y = leaf("W"), leaf("X.l2")
    return any(apply(known, x, y) is make(op, x, y) for known, _ in space.binary if known.function)


def change_node(parents: Sequence[Genotype], space: Space, rng: Rng) -> Genotype | None:
    """Another operation of the same kind in the place of one."""
    parent = parents[0]
    path, node = _somewhere(parent.core, rng)
    if not node.args:
        return None
    if node.op in REDUCING:
        new = reduction(space, rng, node.args[0]) if space.reductions else node
    elif len(node.args) == 1 or node.op == "pow":
        new = unary(space, rng, node.args[0])
    else:
        new = binary(space, rng, *node.args[:2])
    return Genotype(replaced(parent.core, path, new), parent.per)


def change_leaf(parents: Sequence[Genotype], space: Space, rng: Rng) -> Genotype | None:
    """Another leaf in the place of one."""
    parent = parents[0]
    places = [(p, n) for p, n in positions(parent.core) if n.op == "leaf"]
    if not places:
        return None
    path, _ = places[int(rng.integers(len(places)))]
    return Genotype(replaced(parent.core, path, terminal(space, rng)), parent.per)


def change_constant(parents: Sequence[Genotype], space: Space, rng: Rng) -> Genotype | None:
    """A constant or exponent moved by a factor near 1. Good exponents are what most often helps."""
    parent = parents[0]
    places = [
        (path, node, i)
        for path, node in positions(parent.core)
        for i, arg in enumerate(node.args)
        if arg.op == "number" and node.op not in _FIXED
    ]
    if not places:
        return None
    path, node, i = places[int(rng.integers(len(places)))]
    args = list(node.args)
    args[i] = _scaled(args[i], float(rng.choice([0.5, 0.7, 0.8, 0.9, 1.1, 1.25, 1.5, 2.0])))
    return Genotype(replaced(parent.core, path, build(node.op, *args, value=node.value)), parent.per)


def moved(parent: Genotype, space: Space, rng: Rng, spread: float = 0.2) -> Genotype:
    """Every constant and exponent moved by a factor e^(spread · z), z normal. Half of the bare factors of products and
    quotients, such as `X`, get an exponent near 1: where two say nearly the same, as `X` and `X.l1` do, one helps only
    if the exponent of the other moves with it. A parent that has nothing to move comes back."""
    return Genotype(_moved(parent.core, "pow" in space.operations, rng, spread), parent.per)


def _moved(node: Node, powers: bool, rng: Rng, spread: float) -> Node:
    def near(constant: Node) -> Node:
        return _scaled(constant, math.exp(spread * rng.standard_normal()))

    if node.op == "number":
        return near(node)
    kept = 1 if node.op in _FIXED else len(node.args)
    args = [_moved(arg, powers, rng, spread) for arg in node.args[:kept]]
    if powers and node.op in ("mul", "div"):
        args = [build("pow", a, near(ONE)) if _bare(a) and rng.random() < 0.5 else a for a in args]
    return build(node.op, *args, *node.args[kept:], value=node.value) if args else node


def _bare(factor: Node) -> bool:
    """Whether a factor is a statistic or a reduction without an exponent. The weights' own stays: only the proportions
    of exponents rank."""
    return bool(factor.axes) and (factor.op == "leaf" or factor.op in REDUCING)


def _scaled(constant: Node, factor: float) -> Node:
    """A number times a factor, to three digits."""
    return number(float(f"{value_of(constant) * factor:.3g}"))


def new_subtree(parents: Sequence[Genotype], space: Space, rng: Rng) -> Genotype | None:
    """A random sub-expression in the place of one."""
    parent = parents[0]
    path, _ = _somewhere(parent.core, rng)
    return Genotype(replaced(parent.core, path, random_tree(space, rng, int(rng.integers(1, 4)))), parent.per)


def hoist(parents: Sequence[Genotype], space: Space, rng: Rng) -> Genotype | None:
    """A sub-expression in the place of one that contains it."""
    parent = parents[0]
    path, node = _somewhere(parent.core, rng)
    inner = positions(node)[1:]
    if not inner:
        return None
    return Genotype(replaced(parent.core, path, inner[int(rng.integers(len(inner)))][1]), parent.per)


def insert(parents: Sequence[Genotype], space: Space, rng: Rng) -> Genotype | None:
    """A function around a sub-expression."""
    parent = parents[0]
    path, node = _somewhere(parent.core, rng)
    return Genotype(replaced(parent.core, path, unary(space, rng, node)), parent.per)


def normalise(parents: Sequence[Genotype], space: Space, rng: Rng) -> Genotype | None:
    """A sub-expression divided by a reduction of itself."""
    if not space.reductions:
        return None
    parent = parents[0]
    path, node = _somewhere(parent.core, rng)
    return Genotype(replaced(parent.core, path, build("div", node, reduction(space, rng, node))), parent.per)


def new_factor(parents: Sequence[Genotype], space: Space, rng: Rng) -> Genotype | None:
    """The whole score times a small new factor."""
    if not _has(space, "mul"):
        return None
    parent = parents[0]
    factor = random_tree(space, rng, int(rng.integers(1, 4)))
    if rng.random() < 0.5 and "pow" in space.operations:
        factor = build("pow", factor, number(float(rng.choice(space.exponents))))
    return Genotype(build("mul", parent.core, factor), parent.per)


SMALL = (-0.5, -0.25, -0.125, 0.125, 0.25, 0.5)
"""Exponents of a new power."""


def new_power(parents: Sequence[Genotype], space: Space, rng: Rng) -> Genotype | None:
    """The whole score times a small power of a leaf or of a reduction of one: what beats the published metrics is, for
    the most part, such a product. Leaves are drawn alike, whatever their weights: a rare one seldom fits alone."""
    if not _has(space, "mul", "pow"):
        return None
    parent, x = parents[0], named(space.leaves[int(rng.integers(len(space.leaves)))][0])
    if space.reductions and rng.random() < 0.5:
        x = reduction(space, rng, x)
    power = build("pow", x, number(float(rng.choice(SMALL))))
    return Genotype(build("mul", parent.core, power), parent.per)


def change_axis(parents: Sequence[Genotype], space: Space, rng: Rng) -> Genotype | None:
    """Another axis for a reduction."""
    parent = parents[0]
    places = [(p, n) for p, n in positions(parent.core) if n.op in REDUCING and len(n.args[0].axes) > 1]
    if not places:
        return None
    path, node = places[int(rng.integers(len(places)))]
    others = [a for a in ("in", "out", None) if a != node.value]
    axis = others[int(rng.integers(len(others)))]
    return Genotype(replaced(parent.core, path, build(node.op, *node.args, value=axis)), parent.per)


def change_group(parents: Sequence[Genotype], space: Space, rng: Rng) -> Genotype | None:
    """The same score compared inside another group."""
    others = [g for g in space.groups if g != parents[0].per]
    return Genotype(parents[0].core, others[int(rng.integers(len(others)))]) if others else None


Variation = Callable[[Sequence[Genotype], Space, Rng], Genotype | None]

VARIATIONS: dict[str, tuple[Variation, float]] = {
    "crossover": (crossover, 3.0),
    "blend": (blend, 1.5),
    "join": (join, 1.0),
    "node": (change_node, 1.5),
    "leaf": (change_leaf, 1.5),
    "constant": (change_constant, 2.5),
    "subtree": (new_subtree, 1.5),
    "hoist": (hoist, 1.0),
    "insert": (insert, 1.5),
    "normalise": (normalise, 1.5),
    "factor": (new_factor, 2.0),
    "power": (new_power, 3.0),
    "axis": (change_axis, 1.0),
    "group": (change_group, 1.0),
}
"""Each kind of variation with the weight by which it is drawn."""


def offspring(parents: Sequence[Genotype], space: Space, rng: Rng) -> tuple[Genotype, str]:
    """A valid offspring of two parents and the name of the variation that made it.

    A variation that does not apply, or leads out of the space, is drawn again; after `TRIES` a random tree stands
    in.
    """
    table = [(name, weight) for name, (_, weight) in VARIATIONS.items()]
    for _ in range(TRIES):
        name = pick(rng, table)
        child = VARIATIONS[name][0](parents, space, rng)
        if child is not None and child not in parents and why_not(child, space) is None:
            return child, name
    return random_genotype(space, rng), "random"
