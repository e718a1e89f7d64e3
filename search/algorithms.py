"""Algorithms: how the slots of a generation are filled. A table of a few small functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pzc.compiler.load import inline
from pzc.compiler.source import expression
from pzc.search import paper_trees
from pzc.search.candidate import Candidate
from pzc.search.condensed import condensed
from pzc.search.plan import Plan
from pzc.search.space import Genotype, Rng, Space, filling, random_genotype
from pzc.search.variation import offspring

SEED = "seed"
"""What stands for the variation of a metric that the user gave."""


@dataclass(frozen=True)
class Draft:
    """A proposal: what is scored, the variation that made it, its parents by number, and what breeds if that is not
    the score."""

    genotype: Genotype
    operator: str
    parents: tuple[int, ...] = ()
    genome: str = ""


@dataclass(frozen=True)
class Breeding:
    """What the drafts of one island and generation are made from: its population in the order in which it breeds, and
    the space."""

    plan: Plan
    space: Space
    population: tuple[Candidate, ...]


@dataclass(frozen=True)
class Algorithm:
    """`slots` gives the number of candidates of a generation, `draft` proposes one. With `identity` a draft that
    repeats an earlier candidate is drawn again instead of measured; with `racing` who falls behind leaves early. Of
    several `drafts` for a slot the most promising is measured. `space` is where it searches, and with what
    `population`, when nothing else is said. `fixed` are the settings that it has one value of."""

    space: str
    population: int
    slots: Callable[[Plan, int], int]
    draft: Callable[[Breeding, Rng], Draft]
    identity: bool
    racing: bool
    drafts: int = 1
    fixed: Mapping[str, Any] = field(default_factory=dict)


def bred(c: Candidate) -> Genotype:
    """What breeds of a candidate: the filling of the hole where there is a template, else its score."""
    return Genotype(_filling(c.genome), c.per) if c.genome else _read(c.formula, c.per)


_filling = lru_cache(maxsize=1 << 10)(filling)


@lru_cache(maxsize=1 << 10)
def _read(formula: str, per: str) -> Genotype:
    metric = inline(f"{formula} per {per}", analyse=False)
    return Genotype(metric.core, metric.per)


def _parent(c: Candidate, space: Space, rng: Rng) -> Genotype:
    """A candidate as it was bred or, half of the time, condensed; what fills a hole ranks nothing by itself."""
    return bred(c) if c.genome or rng.random() < 0.5 else condensed(bred(c), space)


def _drawn(space: Space, rng: Rng, operator: str) -> Draft:
    return expressed(random_genotype(space, rng), space, operator)


def expressed(genotype: Genotype, space: Space, operator: str, parents: tuple[int, ...] = ()) -> Draft:
    """A genotype of a space as a draft: where the space has a template, what is scored is not what breeds."""
    genome = expression(genotype.core) if space.template else ""
    return Draft(space.expressed(genotype), operator, parents, genome)


def evolve(breeding: Breeding, rng: Rng) -> Draft:
    """An immigrant, or an offspring of the winners of two tournaments.

    The population is in the order in which it breeds, so the winner of a tournament is the lowest position drawn.
    """
    plan, space, population = breeding.plan, breeding.space, breeding.population
    published = all(c.published for c in population)
    if len(population) < 2 or (published and rng.random() < 0.5):
        return _drawn(space, rng, "random")
    if rng.random() < plan.immigrants:
        return _drawn(space, rng, "immigrant")
    chosen = [population[int(rng.integers(len(population), size=plan.tournament).min())] for _ in range(2)]
    child, operator = offspring([_parent(c, space, rng) for c in chosen], space, rng)
    used = {"crossover": 2, "blend": 2, "join": 2, "random": 0}.get(operator, 1)
    return expressed(child, space, operator, tuple(c.number for c in chosen[:used]))


def draw(breeding: Breeding, rng: Rng) -> Draft:
    """Random metrics of the space, and nothing else."""
    return _drawn(breeding.space, rng, "random")


def steady_state(breeding: Breeding, rng: Rng) -> Draft:
    """One step of Pruner-Zero's algorithm 1: of a sample of the population the best ten may become parents."""
    population = breeding.population
    if len(population) < 2:
        return _tree(paper_trees.random_tree(rng), "random")
    size = max(2, round(paper_trees.SHARE * len(population)))
    sampled = sorted(rng.choice(len(population), size=size, replace=False).tolist())[: paper_trees.CANDIDATES]
    first, second = (population[i] for i in rng.choice(sampled, size=2, replace=False).tolist())
    child, operator = paper_trees.offspring(paper_trees.read(first.genome), paper_trees.read(second.genome), rng)
    return _tree(child, operator, () if operator == "random" else (first.number, second.number))


def _tree(tree: paper_trees.Tree, operator: str, parents: tuple[int, ...] = ()) -> Draft:
    return Draft(paper_trees.expressed(tree), operator, parents, paper_trees.written(tree))


ALGORITHMS: dict[str, Algorithm] = {
    "default": Algorithm(
        "default",
        32,
        lambda plan, generation: plan.population if generation == 0 else max(plan.islands, plan.population // 2),
        evolve,
        identity=True,
        racing=True,
        drafts=12,
    ),
    "paper": Algorithm(
        paper_trees.SPACE,
        50,
        lambda plan, generation: plan.population if generation == 0 else 1,
        steady_state,
        identity=False,
        racing=False,
        fixed={  # its trees are of its own making
            "template": None,
            "tier": None,
            "seed_metrics": (),
            "seed_zoo": False,
            "islands": 1,
            "space": paper_trees.SPACE,
            "per": "row",
        },
    ),
    "random": Algorithm(
        paper_trees.SPACE,
        32,
        lambda plan, generation: plan.population,
        draw,
        identity=False,
        racing=False,
        fixed={"seed_zoo": False, "islands": 1},  # random metrics have no parents
    ),
}
