"""A candidate: a genotype that was proposed, and what became of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

from pzc.compiler.load import inline
from pzc.runtime.evaluate import perplexity
from pzc.search.space import Genotype

Status = Literal["evaluated", "lost race", "same ranking", "same mask", "refused"]

ZOO = -1
"""The generation of the zoo's metrics, which are measured before the search begins."""


@dataclass(frozen=True)
class Candidate:
    """A settled candidate.

    `(generation, slot, attempt)` is its place in the run, by which its randomness is keyed; `operator` the variation
    that made it, from `parents`. `losses` are nats a token of each fitness window that it was measured on, `shape` is
    what formulas share that differ only in their numbers, `alias_of` the number of the candidate that it repeats,
    `reason` why it was refused, `seconds` what settling it took.
    """

    number: int
    generation: int
    slot: int
    attempt: int
    formula: str
    per: str
    operator: str
    status: Status
    rank_key: str
    complexity: int
    parents: tuple[int, ...] = ()
    losses: tuple[float, ...] = ()
    shape: str = ""
    mask_hash: str = ""
    alias_of: int | None = None
    reason: str = ""
    seconds: float = 0.0

    @cached_property
    def fitness(self) -> float:
        """Perplexity over the fitness windows it was measured on; lower is better."""
        return perplexity(self.losses) if self.losses else math.inf

    @property
    def genotype(self) -> Genotype:
        """What it was made of, to breed from."""
        metric = inline(f"{self.formula} per {self.per}", analyse=False)
        return Genotype(metric.core, metric.per)

    @property
    def order(self) -> tuple[float, int, int]:
        """Better candidates first: fitness, then complexity, then age."""
        return self.fitness, self.complexity, self.number


def from_attributes(number: int, attributes: dict[str, Any]) -> Candidate:
    """A candidate from what the store keeps of it."""
    lists = {key: tuple(attributes[key]) for key in ("parents", "losses")}
    known = {f.name: attributes[f.name] for f in fields(Candidate) if f.name in attributes}
    return Candidate(**{**known, **lists, "number": number})
