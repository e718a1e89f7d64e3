"""What a search may build: leaves, operations, groups, and the trees made of them.

Trees are core nodes. `build` makes every operation valid by construction: a root or logarithm of what may be negative
gets its magnitude, a reduction over an axis that its argument lacks takes the one it has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from itertools import product
from pathlib import Path
from typing import TypeVar

import numpy as np

from pzc.compiler.core import Node, leaf, leaves_of, make, number, size, topological, value_of
from pzc.compiler.functions import OVER_AXES
from pzc.compiler.language.lower import write_out
from pzc.compiler.language.scope import Function
from pzc.compiler.language.spaces import Op, SpaceSpec
from pzc.compiler.leaves import ALIASES, TIERS, Tier, within
from pzc.compiler.load import MetricNotFound, file_and_name, read_file
from pzc.compiler.metric import compile_source
from pzc.compiler.rewriting.rank import ranks_nothing
from pzc.grammar.diagnostics import SourceError, did_you_mean
from pzc.runtime.errors import PruningError

Rng = np.random.Generator
Weighted = tuple[tuple[str, float], ...]
WeightedOps = tuple[tuple[Op, float], ...]
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
    candidate may have, `nesting` core operations with how many of them may stand on one way from its root to a leaf,
    `tier` the dearest statistics that it may read.
    """

    name: str
    doc: str
    leaves: Weighted
    unary: WeightedOps
    binary: WeightedOps
    reductions: WeightedOps
    groups: tuple[str, ...]
    exponents: tuple[float, ...]
    depth: tuple[int, int] = (2, 5)
    largest: int = 40
    nesting: tuple[tuple[tuple[str, ...], int], ...] = ()
    tier: Tier | None = None
    template: Op | None = None
    """A function of one argument: candidates fill its hole."""

    @property
    def operations(self) -> frozenset[str]:
        """The core operations that it draws from, those inside functions left out."""
        return frozenset(op.core for op, _ in (*self.unary, *self.binary, *self.reductions) if op.core)

    def expressed(self, genotype: Genotype) -> Genotype:
        """What is scored: the genotype, or the template filled with it. Raises PruningError where that does not fit, as
        where the template sums over an axis that it lacks."""
        if self.template is None or self.template.function is None:
            return genotype
        filled = write_out(self.template.function, (genotype.core,))
        if filled is None:
            raise PruningError("does not fit the template")
        return Genotype(filled, genotype.per)


def space_of(spec: SpaceSpec) -> Space:
    """A declared space as the search draws from it: a power is an operation on its base."""
    ops = [(replace(op, arity=1) if op.core == "pow" else op, weight) for op, weight in spec.ops]
    return Space(
        name=spec.name,
        doc=spec.doc,
        leaves=spec.leaves,
        unary=tuple((op, weight) for op, weight in ops if op.arity == 1),
        binary=tuple((op, weight) for op, weight in ops if op.arity == 2),
        reductions=spec.reductions,
        groups=spec.per,
        exponents=spec.exponents,
        depth=spec.depth,
        largest=spec.size,
        nesting=spec.nesting,
        tier=spec.tier,
    )


def space_names() -> list[str]:
    """The names of the spaces that come with the search."""
    folder = resources.files("pzc.search").joinpath("spaces")
    return sorted(f.name.removesuffix(".pzm") for f in folder.iterdir() if f.name.endswith(".pzm"))


def load_space(reference: str) -> SpaceSpec:
    """A space by its name, or the one of a file: `default`, `my.pzm`, `my.pzm:wide`.

    Raises MetricNotFound, or SourceError when the source has errors.
    """
    if reference in space_names():
        source = resources.files("pzc.search").joinpath("spaces", f"{reference}.pzm").read_text(encoding="utf-8")
        return compile_source(source, f"{reference}.pzm").spaces[0]
    file, name = file_and_name(reference.strip())
    if not file.endswith(".pzm"):
        hint = did_you_mean(reference, space_names()) or f"there are {', '.join(space_names())}, or a .pzm file"
        raise MetricNotFound(f"there is no space `{reference}`; {hint}")
    found = compile_source(read_file(Path(file)), file, path=Path(file)).spaces
    named = [s for s in found if not name or s.name == name]
    if len(named) != 1:
        has = f"it has {', '.join(s.name for s in found)}" if found else "it declares no space"
        raise MetricNotFound(f"name one space of {file}, as in {file}:{found[0].name if found else 'wide'}; {has}")
    return named[0]


_ANY = (leaf("W"), make("sum", leaf("W"), value="out"), make("sum", leaf("W"), value="in"), number(1))
"""A value of each choice of axes, for functions that not every value fits."""


def written_out(function: Function) -> list[Node | None]:
    """A function of values, written out for each choice of axes that these may have; None for one that does not fit."""
    return [write_out(function, values) for values in product(_ANY, repeat=len(function.parameters))]


LARGEST_NUMBER = 1e6
"""Retuned constants stay below this."""

TRIES = 1000
"""How many random trees are drawn, at most, for one that a space takes."""


def space_for(reference: str, per: str | None = None, template: str | None = None, tier: Tier | None = None) -> Space:
    """A space by name or file, with its own comparison groups or those of `per`, such as `row,layer`, a template such
    as `abs(W) * <hole>`, and leaves of a `tier` at most. Raises MetricNotFound for a space that there is not, or has no
    such leaves, and a template without a hole, SourceError for a template that is no formula."""
    space = space_of(load_space(reference))
    groups = tuple(per.split(",")) if per else space.groups
    tier = min((t for t in (tier, space.tier) if t), key=TIERS.index, default=None)
    leaves = tuple((name, weight) for name, weight in space.leaves if within([ALIASES.get(name, name)], tier))
    if not leaves:
        raise MetricNotFound(f"the space `{space.name}` has no leaf of the tier `{tier}`, nor a cheaper one")
    hole = None if template is None else template_of(template)
    return replace(space, groups=groups, leaves=leaves, tier=tier, template=hole)


HOLE = "<hole>"
_STANDS_IN = "a_hole"
"""What the language reads instead: as long as a hole, so that errors point into the text as it was given."""


def template_of(text: str) -> Op:
    """A template as a function of what fills its hole. Raises MetricNotFound when it has no hole, SourceError when it
    is no formula."""
    formula = text.partition("=")[2] if text.lstrip().startswith("metric ") else text
    if HOLE not in formula:
        raise MetricNotFound(f"the template `{text}` has no {HOLE}; write for example abs(W) * {HOLE}")
    try:
        return _function(formula.replace(HOLE, _STANDS_IN), "template", _STANDS_IN)
    except SourceError as error:
        start = text.index(formula) - len(_HEAD.format("template", _STANDS_IN))
        raise SourceError([d.moved(start, len(text)) for d in error.diagnostics], text, "template") from None


def filling(text: str) -> Node:
    """The value of an expression that fills a hole: unlike a score it may be the same for a whole group."""
    return apply(_function(text, "filling"), leaf("W"))


_HEAD = "pzm 1\nfn {}({}) = "


def _function(body: str, name: str, argument: str = "hole") -> Op:
    """An expression, which may end in a comment, as a function of `argument`."""
    source = f"{_HEAD.format(name, argument)}{body}\nspace filled {{ leaves: W ops: {name} }}"
    return compile_source(source, name).spaces[0].ops[0][0]


def pick(rng: Rng, table: Sequence[tuple[T, float]]) -> T:
    """One entry, drawn by weight."""
    weights = np.array([w for _, w in table])
    return table[int(rng.choice(len(table), p=weights / weights.sum()))][0]


def terminal(space: Space, rng: Rng) -> Node:
    """A random leaf."""
    return named(pick(rng, space.leaves))


def named(name: str) -> Node:
    """A leaf by its name. Importance hardly ever depends on the sign of a weight, so `W` comes as its magnitude."""
    node = leaf(ALIASES.get(name, name))
    return make("abs", node) if name == "W" else node


def build(op: str, *args: Node, value: float | str | None = None) -> Node:
    """An operation, made valid for its arguments."""
    first = args[0]
    if op in OVER_AXES:
        axis = value if value in first.axes and len(first.axes) > 1 else None
        return make(op, *args, value=axis) if first.axes else first
    if op == "abs":
        return _magnitude(first)
    if op == "neg" and first.op == "number":
        return number(-value_of(first))
    if op == "sqrt" or (op == "pow" and not _whole(args[1])):
        return make(op, _magnitude(first), *args[1:])
    if op == "ln" and not first.sign.positive:
        return make("ln", make("add", _magnitude(first), number(1)))
    return make(op, *args)


def _whole(exponent: Node) -> bool:
    return exponent.op == "number" and value_of(exponent).is_integer()


def _magnitude(x: Node) -> Node:
    return x if x.sign.non_negative else make("abs", x)


def apply(op: Op, *args: Node) -> Node:
    """An operation of a space; a function is written out. One that its arguments don't fit leaves the first as it is,
    as min-max scaling leaves a single number."""
    if op.function is None:
        return build(op.core, *args)
    written = write_out(op.function, args)
    return args[0] if written is None else written


def unary(space: Space, rng: Rng, x: Node) -> Node:
    """A random function of one argument around x; x itself where the space has none."""
    if not space.unary:
        return x
    op = pick(rng, space.unary)
    if op.core == "pow":
        return build("pow", x, number(float(rng.choice(space.exponents))))
    return apply(op, x)


def binary(space: Space, rng: Rng, x: Node, y: Node) -> Node:
    """A random operation on two values; x itself where the space has none."""
    return apply(pick(rng, space.binary), x, y) if space.binary else x


def reduction(space: Space, rng: Rng, x: Node) -> Node:
    """A random reduction of x over `in`, `out` or both."""
    op = pick(rng, space.reductions)
    return reduced(op, x, str(rng.choice(["in", "out", ""])) or None)


def reduced(op: Op, x: Node, axis: str | None = None) -> Node:
    """A reduction of x over an axis, or over all that it has."""
    rest = (number(_SECOND[op.core]),) if op.core in _SECOND else ()
    return build(op.core, x, *rest, value=axis)


_SECOND = {"norm": 2.0, "quantile": 0.9}
"""The second argument that a reduction starts from."""


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
    op = pick(rng, space.binary) if space.binary else None
    x, y = random_tree(space, rng, levels - 1), random_tree(space, rng, levels - 1)
    return apply(op, x, y) if op else x


def nested(core: Node, ops: Collection[str]) -> int:
    """How many of some operations stand on one way from the root to a leaf, at most."""
    found: dict[Node, int] = {}
    for node in topological(core):
        found[node] = max((found[a] for a in node.args), default=0) + (node.op in ops)
    return found[core]


def why_not(genotype: Genotype, space: Space) -> str | None:
    """Why a genotype is no candidate of the space, or None when it is one."""
    try:
        core = space.expressed(genotype).core
    except PruningError as misfit:
        return misfit.message
    if size(core) > space.largest:
        return "too large"
    if core.height > 3 * space.depth[1]:
        return "too deep"
    if any(n.op == "number" and abs(value_of(n)) > LARGEST_NUMBER for n in topological(core)):
        return "number too large"
    if any(nested(core, ops) > most for ops, most in space.nesting):
        return "nested too deep"
    if not within(leaves_of(core), space.tier):
        return "too dear"
    if ranks_nothing(core, genotype.per):
        return "constant"
    return None


def random_genotype(space: Space, rng: Rng) -> Genotype:
    """A random tree with a random group; the group is one that the score varies in.

    Raises PruningError for a space, or a template, that hardly ever gives such a tree.
    """
    refused: Counter[str] = Counter()
    for _ in range(TRIES):
        levels = int(rng.integers(space.depth[0], space.depth[1] + 1))
        genotype = Genotype(random_tree(space, rng, levels), str(rng.choice(space.groups)))
        why = why_not(genotype, space)
        if why is None:
            return genotype
        refused[why] += 1
    reasons = ", ".join(f"{why}: {n:,}" for why, n in refused.most_common())
    what = f"the space `{space.name}`" + (" with this template" if space.template else "")
    raise PruningError(
        f"{what} gives no metric: of {TRIES:,} random trees none is one ({reasons})",
        hint="a metric differs inside its comparison groups, and keeps to the size and depth of its space",
    )
