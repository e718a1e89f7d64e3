"""A candidate: a metric that was proposed, and what became of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from sys import intern
from typing import Any, Literal

from pzc.compiler.load import inline
from pzc.compiler.metric import Metric
from pzc.runtime.evaluation.uncertainty import perplexity

Status = Literal[
    "proposed",
    "same text",
    "same value",
    "same ranking",
    "same fingerprint",
    "same mask",
    "predicted worse",
    "lost race",
    "placed",
    "evaluated",
    "refused",
]

ALIASES = ("same text", "same value", "same ranking", "same fingerprint", "same mask")
"""How a candidate can repeat an earlier one, by the cheapest test that tells."""

RANKED = ("evaluated", "placed")
"""What has a fitness: measured on all windows, or estimated once it was clear where it comes in."""

MEASURED = (*RANKED, "lost race")
"""What the pruned model was run for."""

REFERENCE, ZOO = -2, -1
"""The generations of the published metrics, which are measured before the search begins: one of them first, so that the
others can be raced against it."""


@dataclass(frozen=True)
class Candidate:
    """A settled candidate, or one that is proposed.

    `(generation, slot, attempt)` is its place in the run, by which its randomness is keyed; `operator` the variation
    that made it, from `parents` of its `island`; for a published metric it is the metric's name. `genome` is what
    breeds where that is not the formula: the filling of a template's hole, or a tree of Pruner-Zero's release. `losses`
    are the objective of each fitness window that it was measured on, in nats a token, `expected` those that it would
    have on the others if it was placed, `shape` is what formulas share that differ only in their numbers, `signature`
    some bits of its masks, `tier` the dearest statistic that it reads, `alias_of` the number of the candidate that it
    repeats, `reason` why it was refused, `predictors` what was said of it before the pruned model was run, `seconds`
    what proposing, screening and settling it took its worker.
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
    exact_key: str = ""
    real_key: str = ""
    fingerprint: str = ""
    island: int = 0
    parents: tuple[int, ...] = ()
    genome: str = ""
    tier: str = "weights"
    losses: tuple[float, ...] = ()
    expected: tuple[float, ...] = ()
    shape: str = ""
    mask_hash: str = ""
    signature: str = ""
    alias_of: int | None = None
    reason: str = ""
    predictors: Mapping[str, float] = field(default_factory=dict, hash=False)
    seconds: float = 0.0

    @cached_property
    def fitness(self) -> float:
        """Perplexity over the fitness windows, or the exponential of the mean divergence from the dense model; lower is
        better. Of what lost its race, over those that it was measured on."""
        return perplexity(self.course) if self.losses else math.inf

    @property
    def course(self) -> tuple[float, ...]:
        """The losses of the fitness windows, as they were measured and as they are expected."""
        return (*self.losses, *self.expected)

    def metric(self, name: str = "candidate") -> Metric:
        """What the formula says, as it was bred."""
        return inline(f"{self.formula} per {self.per}", name, analyse=False)

    @property
    def published(self) -> bool:
        """Whether it is a metric of the zoo."""
        return self.generation < 0

    @property
    def order(self) -> tuple[float, int, int]:
        """Better candidates first: fitness, then complexity, then age."""
        return self.fitness, self.complexity, self.number


_FIELDS = {f.name: f.default_factory() if f.default_factory is not MISSING else f.default for f in fields(Candidate)}
"""The fields of a candidate with their defaults."""

REQUIRED = tuple(name for name, default in _FIELDS.items() if default is MISSING)
"""The fields that every candidate says something in."""

_TUPLES = ("parents", "losses", "expected")


def attributes(c: Candidate) -> dict[str, Any]:
    """What the store keeps of a candidate: the fields that say something."""
    found: dict[str, Any] = {}
    for name, default in _FIELDS.items():
        value = getattr(c, name)
        if value != default:
            found[name] = list(value) if name in _TUPLES else value
    return found


def from_attributes(kept: Mapping[str, Any]) -> Candidate:
    """A candidate from what the store keeps of it. Of equal texts one is kept: repetitions share their keys."""
    known: dict[str, Any] = {
        name: intern(value) if isinstance(value, str) else value for name, value in kept.items() if name in _FIELDS
    }
    known |= {name: tuple(known[name]) for name in _TUPLES if name in known}
    if "predictors" in known:
        known["predictors"] = {intern(name): value for name, value in known["predictors"].items()}
    return Candidate(**known)
