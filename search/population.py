"""Populations: which of all measured candidates may breed next, island by island."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pzc.search.candidate import Candidate
from pzc.search.niche import few_of_a_niche
from pzc.search.pareto import nsga2
from pzc.search.plan import Plan


def survivors(pool: Iterable[Candidate], plan: Plan, n: int) -> list[Candidate]:
    """The n candidates of a pool, best first, that may breed next, in the order in which they breed.

    The best is always among them. Most places go by fitness, where a node more must earn a share of `plan.parsimony`;
    the share `plan.pareto` of the places goes to the Pareto front of fitness, complexity and cost tier (NSGA-II) among
    the 2n fittest, so that small and cheap metrics stay in the pool. They breed last, so tournaments seldom take them.
    """
    fittest = few_of_a_niche(pool, plan.alike, 2 * n)
    if not fittest:
        return []
    by_worth = sorted(fittest, key=lambda c: worth(c, plan))
    chosen = dict.fromkeys([fittest[0], *by_worth][: max(1, n - round(plan.pareto * n))])
    for c in [*nsga2(fittest, n), *by_worth]:
        if len(chosen) == n:
            break
        chosen[c] = None
    return sorted(chosen, key=lambda c: (c is not fittest[0], worth(c, plan)))


def worth(c: Candidate, plan: Plan) -> float:
    """Fitness, with a price on every node."""
    return c.fitness * (1 + plan.parsimony * c.complexity)


def island_pool(
    found: Sequence[Candidate], published: Sequence[Candidate], plan: Plan, generation: int, island: int
) -> list[Candidate]:
    """What an island chooses its population from, best first: what it has found itself before this generation, what has
    migrated to it, and the published metrics if they take part.

    Every `plan.migration` generations the best of each island are copied to the next.
    """
    earlier = [c for c in found if c.generation < generation]
    mine = [c for c in earlier if c.island == island]
    migrated: list[Candidate] = []
    last = generation - generation % plan.migration
    if plan.islands > 1 and last:
        neighbour = (island - 1) % plan.islands
        theirs = (c for c in earlier if c.island == neighbour and c.generation < last)
        migrated = few_of_a_niche(theirs, plan.alike, plan.migrants)
    return sorted([*(published if plan.seed_zoo else ()), *mine, *migrated], key=lambda c: c.order)
