"""The final: the best of a search contend on further windows of its text, and are measured on text that it has never
seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from torch import Tensor

from pzc.compiler.load import zoo_metric
from pzc.compiler.metric import Metric
from pzc.runtime.errors import PruningError
from pzc.runtime.evaluation.uncertainty import perplexity
from pzc.runtime.models.passes import Progress, silent
from pzc.search.candidate import Candidate
from pzc.search.fitness import Fitness
from pzc.search.hall import Member
from pzc.search.niche import NEAR, distance, signature
from pzc.search.readable import forms
from pzc.search.space import Genotype

ROUNDS = (20, 5)
"""How many of the best candidates contend for the places on windows that the search did not use, and how many of these
contend for the first on further ones."""


@dataclass(frozen=True)
class Outcome:
    """What the final has measured of the winner, a candidate by its number: what the search made small over all
    `windows`, the search's and further ones `together`, and perplexities on held-out text: its own, that of the best
    published metric there, and that of the dense model."""

    candidate: int
    together: float
    windows: int
    held_out: float
    published: str
    published_held_out: float
    dense: float
    published_per: str | None = None
    """The comparison group of the published metric."""
    losses: tuple[float, ...] = ()
    """Nats a token of each of the search's windows, of the winner as it is written."""
    formula: str | None = None
    """The winner as it is written."""
    per: str | None = None
    """Its comparison group."""
    error: float | None = None
    """The standard error of its change of held-out perplexity against the published metric."""
    slots: int | None = None
    """Settled when it was measured: of a run with more it is no end."""

    @property
    def change(self) -> float:
        """How much higher the winner's held-out perplexity is than that of the published metric, as a share of it."""
        return self.held_out / self.published_held_out - 1


@dataclass(frozen=True)
class Contender:
    """A candidate for the hall of fame and the metric as it is written, with the losses of that on the search's windows
    and on further ones of the search's text."""

    candidate: Candidate
    metric: Metric
    own: tuple[float, ...]
    further: tuple[float, ...] = ()

    @property
    def losses(self) -> tuple[float, ...]:
        """Of the search's windows and the further ones."""
        return (*self.own, *self.further)

    @property
    def loss(self) -> float:
        """The mean over all of them; infinite where one is not finite."""
        loss = sum(self.losses) / len(self.losses)
        return loss if math.isfinite(loss) else math.inf


def published(c: Candidate) -> Contender:
    """A metric of the zoo, as it is published."""
    return Contender(c, replace(zoo_metric(c.operator), per=c.per), c.losses)


def as_written(c: Candidate, fitness: Fitness, at_once: int = 1) -> Contender:
    """A candidate in its shortest form that prunes as it does, but for less than one bit of the masks in a hundred.

    A short form has rounded numbers and may round otherwise in float32: where its masks are others, it is measured on
    the search's windows, by `at_once` threads, and so it is if it was only placed. One that saturates less than what
    was bred, or overflows, gives way to the next.
    """
    bred = c.metric("found")
    for metric in forms(c):
        if metric.core is bred.core:
            break
        with suppress(PruningError):
            masks, mask_hash = fitness.masks(Genotype(metric.core, metric.per))
            if mask_hash == c.mask_hash and not c.expected:
                return Contender(c, metric, c.losses)
            if mask_hash == c.mask_hash or (c.signature and distance(signature(masks), c.signature) < NEAR):
                losses = tuple(fitness.in_full(masks, at_once))
                if all(map(math.isfinite, losses)):
                    return Contender(c, metric, losses)
    if not c.expected:
        return Contender(c, bred, c.losses)
    return Contender(c, bred, tuple(fitness.in_full(fitness.masks(Genotype(bred.core, bred.per))[0], at_once)))


def contend(
    fitness: Fitness,
    candidates: Sequence[Candidate],
    rounds: Sequence[Tensor],
    progress: Progress = silent,
    at_once: int = 1,
) -> list[Contender]:
    """The candidates in the order of their loss over the search's windows and further ones: in every round, of the
    best so many (`ROUNDS`) on windows `[n, length]` more.

    The best of hundreds on a few windows owes some of its place to these windows. Windows of the same text that have
    chosen nothing yet tell the best apart; text that is held out chooses none.
    """
    found = []
    for candidate in candidates:
        found.append(as_written(candidate, fitness, at_once))
        progress("as they are written", len(found), len(candidates))
    found.sort(key=lambda c: c.loss)
    for number, (most, windows) in enumerate(zip(ROUNDS, rounds, strict=True), 1):
        if not len(windows):
            continue
        these, others = found[:most], found[most:]
        genotypes = [Genotype(c.metric.core, c.metric.per) for c in these]
        done = []
        for c, losses in zip(these, fitness.further(genotypes, windows, at_once), strict=True):
            done.append(replace(c, further=(*c.further, *losses)))
            progress(f"further windows, round {number}", len(done), len(these))
        found = sorted(done, key=lambda c: c.loss) + others
    return found


@dataclass(frozen=True)
class Final:
    """What the best of a search are measured on: held-out `windows`, int64 `[n, length]`, by `at_once` threads."""

    fitness: Fitness
    windows: Tensor
    at_once: int = 1

    def losses(self, genotype: Genotype | None) -> list[float]:
        """Losses of the held-out windows after pruning by a genotype; of the dense model for None."""
        return self.fitness.on(genotype, self.windows, self.at_once)


def measure(final: Final, contenders: Sequence[Contender], progress: Progress = silent) -> list[Member]:
    """Each contender on held-out text, in the order given."""
    members = []
    for i, c in enumerate(contenders, 1):
        metric = c.metric if c.candidate.published else replace(c.metric, name=f"found_{i}")
        on_held_out = tuple(final.losses(Genotype(metric.core, metric.per)))
        fitness, held_out, further = map(perplexity, (c.own, on_held_out, c.further))
        members.append(Member(c.candidate, metric, fitness, held_out, on_held_out, further, len(c.further)))
        progress("held-out text", i, len(contenders))
    return members
