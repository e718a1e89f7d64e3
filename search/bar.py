"""The bar: what the candidates of one island and generation race against."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pzc.compiler.leaves import TIERS
from pzc.search.algorithms import ALGORITHMS
from pzc.search.candidate import REFERENCE, ZOO, Candidate
from pzc.search.niche import alike
from pzc.search.racing import BEHIND, Race
from pzc.search.state import State

LENIENT = math.log(2)
"""How far behind the best published metric a candidate may be while there is still room in the population: twice its
perplexity."""

IN_NICHE = 1.0
"""How many standard errors a candidate must be behind the last of its own niche to leave. Variants of one metric hardly
differ, so little is lost by a mistake: of 376 candidates that two runs on SmolLM2-135M measured in full 94 would
have left so, three of whom came into the next population, in the place of one that was less than 0.0013 nats worse."""

EXACT = 3
"""So many of the best of a full island are measured in full, as far as can be told: in tournaments of four among 16
they are more than half of the parents, and what the search finds hangs on their order."""


@dataclass(frozen=True)
class Bar:
    """Fixed when the generation begins, so that results don't depend on timing.

    `losses` are those of the cut-off, empty where nobody races; `population` holds the island's members, of whom at
    most `alike` are of one niche; `front` what was measured in full and no other beats in fitness, size and cost tier,
    best first; `parent` the last of the `EXACT` best of a full island.
    """

    losses: tuple[float, ...]
    population: tuple[Candidate, ...] = ()
    alike: int = 1
    front: tuple[Candidate, ...] = ()
    parent: Candidate | None = None

    def race(self, c: Candidate) -> Race:
        """What a candidate runs against."""
        return Race(*self._cutoff(c), self._rival(c))

    def _rival(self, c: Candidate) -> tuple[float, ...]:
        """The losses behind which a candidate will neither breed much nor be on the front, so that an estimate of its
        fitness is enough: those of the first of the front that is no larger and no dearer or, if these are higher, of
        the last `parent`."""
        best = next((other for other in self.front if _as_dear(c, other)), None)
        if best is None or self.parent is None:
            return ()
        return max(best, self.parent, key=lambda other: other.fitness).course

    def _cutoff(self, c: Candidate) -> tuple[tuple[float, ...], float]:
        """The losses that a candidate must not be behind, and by how many standard errors it leaves. One whose niche is
        full could only take the place of the niche's last, but for the Pareto front, where it is smaller or cheaper."""
        niche = sorted((other for other in self.population if alike(c, other)), key=lambda other: other.fitness)
        if len(niche) >= self.alike:
            last = niche[self.alike - 1]
            if sum(last.course) < sum(self.losses) and _as_dear(c, last):
                return last.course, IN_NICHE
        return self.losses, BEHIND


def _as_dear(c: Candidate, other: Candidate) -> bool:
    """Whether a candidate is neither smaller nor cheaper than another."""
    return c.complexity >= other.complexity and TIERS.index(c.tier) >= TIERS.index(other.tier)


def bars(state: State) -> list[Bar]:
    """The bar of each island for the generation at work."""
    plan, algorithm = state.plan, ALGORITHMS[state.plan.algorithm]
    if state.generation == REFERENCE or not algorithm.racing:
        return [Bar(())] * plan.islands
    if state.generation == ZOO:
        return [Bar(state.zoo[0].losses if state.zoo else ())] * plan.islands
    populations = [tuple(state.population(state.generation, i)) for i in range(plan.islands)]
    return [_of_island(p, state) for p in populations]


def _of_island(population: tuple[Candidate, ...], state: State) -> Bar:
    """Against the middle of a population that is full, since one that is surely worse seldom breeds; else against far
    worse losses than those of the best published metric."""
    front, alike = tuple(state.front), state.plan.alike
    if len(population) >= state.plan.island_size:
        best = sorted(population, key=lambda c: c.fitness)
        return Bar(best[len(best) // 2].course, population, alike, front, best[EXACT - 1])
    lenient = tuple(loss + LENIENT for loss in state.zoo[0].losses) if state.zoo else ()
    return Bar(lenient, population, alike, front)
