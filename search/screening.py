"""Screening: of several new drafts for a slot, the one that the surrogate thinks most of is measured, with its numbers
tuned; one that a predictor turns away is not. To judge a draft takes a sketch, a small part of what its masks take on a
real model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pzc.compiler.core import Node
from pzc.search.algorithms import ALGORITHMS, SEED, bred, expressed
from pzc.search.candidate import RANKED, Candidate
from pzc.search.predictors import SURROGATE, limits
from pzc.search.proposals import INSTRUCTIVE, Proposal, candidate_of, rng_for
from pzc.search.saturation import unsaturated
from pzc.search.sketch import Sketch
from pzc.search.space import Genotype, Space, why_not
from pzc.search.state import State
from pzc.search.surrogate import Surrogate
from pzc.search.variation import moved

MOST = 384
"""From how many measured candidates the surrogate is made, at most: the best half, and the latest."""

TUNINGS = 8
SPREADS = (0.1, 0.3, 1.0)
"""How often the numbers of a chosen draft are moved on trial, and by what spread of their logarithms."""

UNSCREENED = 0.1
"""The share of slots whose first draft is measured whatever the surrogate says, unless a predictor turns it away: so it
learns of what it does not like, and its correlation with fitness is known."""

EXPLORED = 0.1
"""The share of slots in which predictors turn nothing away: else they could never be found wrong."""

_CHOICE = 2**32 - 2  # stands where the number of an attempt does: no slot has so many

SketchOf = Callable[[Genotype], Sketch | None]


@dataclass(frozen=True)
class _Judged:
    """A draft as a candidate, its score, and what is to be expected of it."""

    candidate: Candidate
    core: Node
    gain: float


class Screen:
    """Judges the drafts of the generation at work by what the closed ones have measured."""

    def __init__(self, sketch: SketchOf, space: Space) -> None:
        self._sketch, self._space = sketch, space
        self._known: dict[int, Sketch | None] = {}
        self._surrogate: Surrogate | None = None
        self._lost: dict[int, Mapping[str, float]] = {}
        self._limits: list[dict[str, float]] = []

    def learn(self, state: State) -> None:
        """Take in what the closed generations have measured."""
        self._surrogate, self._limits = None, []
        plan = state.plan
        if ALGORITHMS[plan.algorithm].drafts == 1 or len(state.raced) < INSTRUCTIVE:
            return
        some = instructive(state.raced, MOST)
        self._look_at(state, {c.number for c in some})
        against = state.raced[0].losses  # of the reference, which has run all windows
        pairs = [(sketch, excess(c, against)) for c in some if (sketch := self._known[c.number])]
        if len(pairs) >= INSTRUCTIVE:
            self._surrogate = Surrogate([s for s, _ in pairs], [loss for _, loss in pairs])
            populations = [state.population(state.generation, island) for island in range(plan.islands)]
            raced = self._foretold(state.raced)
            self._limits = [limits(self._foretold(members), raced) for members in populations]

    def _look_at(self, state: State, wanted: set[int]) -> None:
        """Sketch what was raced since the last time, and keep the sketches of some. Of the others is kept what they
        lose: a predictor is judged by all."""
        for c in state.raced:
            if c.number not in self._lost or (c.number in wanted and c.number not in self._known):
                sketch = self._sketch(Genotype(state.core_of(c.number), c.per))
                self._known[c.number], self._lost[c.number] = sketch, sketch.lost if sketch else {}
        self._known = {number: self._known[number] for number in wanted}

    def _foretold(self, raced: Sequence[Candidate]) -> list[Candidate]:
        """Candidates with what their sketches say that they lose: whole masks lose a little less."""
        return [replace(c, predictors=self._lost[c.number]) for c in raced]

    def choose(self, proposal: Proposal, state: State) -> Proposal:
        """The proposal with its most promising draft in the first place, its numbers tuned; without rivals, and settled
        where a predictor turns all of them away. What the user gave stays as it is."""
        if self._surrogate is None or proposal.settled:
            return replace(proposal, rivals=())
        first = proposal.candidate
        rng = rng_for(state.plan.seed, first.generation, first.slot, _CHOICE)
        screened = first.operator != SEED and rng.random() >= UNSCREENED
        explored = first.operator == SEED or rng.random() < EXPLORED
        limit = {} if explored else self._limits[first.island]
        drafts = [(first, proposal.core), *proposal.rivals] if screened else [(first, proposal.core)]
        best = chosen = max((self._judged(c, core, limit) for c, core in drafts), key=lambda j: j.gain)
        for _ in range(TUNINGS if screened else 0):
            parent = bred(best.candidate)
            child = moved(parent, self._space, rng, float(rng.choice(SPREADS)))
            if child.core is not parent.core and why_not(child, self._space) is None:
                best = max(best, self._tuned(best.candidate, child, limit), key=lambda j: j.gain)
        if best is not chosen and state.identity.repeats(best.candidate, best.core, state.core_of):
            best = chosen
        return replace(proposal, candidate=best.candidate, core=best.core, rivals=())

    def _judged(self, c: Candidate, core: Node, limit: Mapping[str, float]) -> _Judged:
        """A draft with what is to be expected of it: nothing where a predictor puts it beyond its limit. One that
        saturates has a sketch that says nothing of what it ranks as, which is measured in its place."""
        sketch = self._sketch(Genotype(core, c.per))
        if sketch is None or self._surrogate is None:
            return _Judged(c, core, -math.inf)
        score, deviation = self._surrogate.predict(sketch)
        said = {SURROGATE: round(score, 4)}
        if any(sketch.lost.get(name, 0.0) > value for name, value in limit.items()) and not unsaturated(core, c.per):
            said |= {name: round(value, 6) for name, value in sketch.lost.items()}
            return _Judged(replace(c, status="predicted worse", predictors=said), core, -math.inf)
        return _Judged(replace(c, predictors=said), core, self._surrogate.expected_gain(score, deviation))

    def _tuned(self, c: Candidate, child: Genotype, limit: Mapping[str, float]) -> _Judged:
        """A candidate with other numbers in its place."""
        draft = expressed(child, self._space, c.operator, c.parents)
        new = candidate_of(draft, c.number, (c.generation, c.slot, c.attempt), c.island)
        return self._judged(new, draft.genotype.core, limit)


def instructive(raced: Sequence[Candidate], most: int) -> list[Candidate]:
    """Of the measured candidates the best and, up to `most`, the latest, in the order of their numbers."""
    if len(raced) <= most:
        return list(raced)
    finished = sorted((c for c in raced if c.status in RANKED), key=lambda c: c.order)
    chosen = {c.number: c for c in finished[: most // 2]}
    for c in reversed(raced):
        if len(chosen) == most:
            break
        chosen[c.number] = c
    return [chosen[number] for number in sorted(chosen)]


def excess(c: Candidate, against: Sequence[float]) -> float:
    """How far a candidate's mean loss is above that of another on the windows that both have run."""
    n = min(len(c.losses), len(against)) or len(c.losses)
    return (sum(c.losses[:n]) - sum(against[:n])) / n
