"""The plan of a run: how its population evolves, and when it ends."""

from __future__ import annotations

from dataclasses import dataclass

ATTEMPTS = 40
"""How often a slot is tried again when its candidate repeats another."""


@dataclass(frozen=True)
class Plan:
    """How a population evolves, and when it ends.

    `algorithm` is one of `search.algorithms.ALGORITHMS`. By default the first generation has `population` slots, later
    ones half as many, so that what was measured is soon learnt from; they are spread over `islands`. Every `migration`
    generations the best `migrants` of each island are copied to the next. `tournament` candidates are drawn for each
    parent and the best is taken; a share of `immigrants` of every generation is random. At most `alike` candidates of a
    population are of one niche. A node more must earn a share of `parsimony` of the perplexity; a share of `pareto` of
    the places goes to the Pareto front. With `seed_zoo` the published metrics take part from the first generation.

    The run ends after `generations`, after `evaluations` measured candidates, when `patience` generations brought
    nothing better, or when the fitness is as low as `reach`; None where that is no reason.
    """

    algorithm: str = "default"
    population: int = 32
    generations: int | None = None
    seed: int = 0
    tournament: int = 4
    immigrants: float = 0.1
    alike: int = 2
    parsimony: float = 0.0005
    pareto: float = 0.25
    islands: int = 2
    migration: int = 4
    migrants: int = 3
    seed_zoo: bool = False
    evaluations: int | None = None
    patience: int | None = None
    reach: float | None = None

    @property
    def island_size(self) -> int:
        """Members of the population of one island."""
        return max(4, self.population // self.islands)
