"""What a generation will settle: every process works it out alike, from the generations before and the seed alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pzc.compiler.core import Node, leaves_of, size
from pzc.compiler.leaves import LEAVES, TIERS
from pzc.compiler.metric import Metric
from pzc.compiler.source import expression
from pzc.search.algorithms import ALGORITHMS, SEED, Breeding, Draft
from pzc.search.candidate import REFERENCE, ZOO, Candidate
from pzc.search.identity import Identity, identified
from pzc.search.plan import ATTEMPTS
from pzc.search.space import Genotype, Rng, Space
from pzc.search.state import State

INSTRUCTIVE = 24
"""How many measured candidates it takes to choose among several drafts for a slot."""

AGAINST = "wanda"
"""The published metric that is measured first, to race the others against."""


@dataclass(frozen=True)
class Given:
    """What a run starts from: the published metrics, the user's own, and the space."""

    published: tuple[Metric, ...]
    seeds: tuple[Metric, ...]
    space: Space


@dataclass(frozen=True)
class Proposal:
    """What one slot will settle: a candidate and its score, after the drafts that only repeated earlier candidates.

    Should every draft have done that, the last stands for the slot, and there is nothing to do. Else `rivals` are other
    new drafts with their scores, of which one may be measured instead.
    """

    candidate: Candidate
    core: Node
    repeated: tuple[Candidate, ...] = ()
    rivals: tuple[tuple[Candidate, Node], ...] = ()

    @property
    def settled(self) -> bool:
        """Whether it is known already what becomes of the candidate."""
        return self.candidate.status != "proposed"


def rng_for(seed: int, generation: int, slot: int, attempt: int) -> Rng:
    """The random numbers of one attempt, independent of everything else in the run."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, generation, slot, attempt])))


def proposals(state: State, given: Given, begun: int = 0) -> list[Proposal]:
    """What the generation at work consists of, a proposal a slot. One that was begun with so many slots keeps them,
    should the run's budget have been changed since: all workers and who reads the run expect them."""
    if state.generation in (REFERENCE, ZOO):
        return _published(state, given)
    return _bred(state, given, begun)


def _published(state: State, given: Given) -> list[Proposal]:
    first = next((m for m in given.published if m.name == AGAINST), given.published[0])
    known, cores, found = Identity(), dict[int, Node](), list[Proposal]()
    for number, m in enumerate([first, *(m for m in given.published if m is not first)]):
        generation, slot = (REFERENCE, 0) if m is first else (ZOO, number - 1)
        new = candidate_of(Draft(Genotype(m.core, m.per), m.name), number, (generation, slot, 0), 0)
        cores[number] = m.core
        repeats = known.repeats(new, m.core, cores.__getitem__)
        if repeats:
            new = replace(new, status=repeats[0], alias_of=repeats[1])
        known.add(new)
        found.append(Proposal(new, m.core))
    return [p for p in found if p.candidate.generation == state.generation]


def _bred(state: State, given: Given, begun: int) -> list[Proposal]:
    plan, algorithm = state.plan, ALGORITHMS[state.plan.algorithm]
    islands = plan.islands if plan.algorithm == "default" else 1
    breeding = [
        Breeding(plan, given.space, tuple(state.population(state.generation, island))) for island in range(islands)
    ]
    seeds = given.seeds if state.generation == 0 else ()
    slots = max(algorithm.slots(plan, state.generation), len(seeds))
    wanted = begun or (slots if plan.evaluations is None else min(slots, plan.evaluations - state.measured))
    drafts = algorithm.drafts if len(state.raced) >= INSTRUCTIVE else 1
    drawing = _Drawing(state, algorithm.identity, drafts)
    found: list[Proposal] = []
    for slot in range(slots):
        given_one = Draft(Genotype(seeds[slot].core, seeds[slot].per), SEED) if slot < len(seeds) else None

        def draft(attempt: int, slot: int = slot, first: Draft | None = given_one) -> Draft:
            if first is not None and attempt == 0:
                return first
            rng = rng_for(plan.seed, state.generation, slot, attempt)
            return algorithm.draft(breeding[slot % islands], rng)

        drawn = drawing.slot(draft, len(found), slot % islands, single=given_one is not None)
        found += [drawn] if drawn else []
        if len(found) == wanted:
            break
    return found


class _Drawing:
    """Draws the `drafts` of one slot after the other, and tells repetitions apart."""

    def __init__(self, state: State, identity: bool, drafts: int) -> None:
        self._state, self._identity, self._drafts = state, identity, drafts
        self._known = state.identity.copy()
        self._cores: dict[int, Node] = {}
        self._number = len(state.candidates)

    def slot(self, draft: Callable[[int], Draft], slot: int, island: int, *, single: bool) -> Proposal | None:
        """The proposal of a slot, with as many new drafts as there are to choose from, or with a `single` one. None
        where all that was drawn is among the drafts of earlier slots: those that are not measured may come again."""
        repeated: list[Candidate] = []
        last = None
        new: list[tuple[Candidate, Node]] = []
        for attempt in range(ATTEMPTS):
            drawn = draft(attempt)
            core = drawn.genotype.core
            c = candidate_of(drawn, self._number + len(repeated), (self._state.generation, slot, attempt), island)
            repeats = self._known.repeats(c, core, self._core_of) if self._identity else None
            if repeats and repeats[1] >= 0:
                repeated.append(replace(c, status=repeats[0], alias_of=repeats[1]))
                last = core
            elif not repeats:
                new.append((c, core))
                self._add(c, core, sure=drawn.operator == SEED or self._drafts == 1)
                if single or len(new) == self._drafts:
                    break
        if not new and not repeated:
            return None
        if new:
            number = self._number + len(repeated)
            candidates = [(replace(c, number=number), core) for c, core in new]
            found = Proposal(*candidates[0], tuple(repeated), tuple(candidates[1:]))
        else:
            found = Proposal(repeated[-1], last or core, tuple(repeated[:-1]))
        self._number = found.candidate.number + 1
        return found

    def _add(self, c: Candidate, core: Node, sure: bool) -> None:
        """Let later drafts be recognised as repetitions. One of several is not sure to become a candidate: it has no
        number yet, and what repeats it is dropped."""
        number = c.number if sure else -1 - len(self._cores)
        self._cores[number] = core
        self._known.add(replace(c, number=number))

    def _core_of(self, number: int) -> Node:
        return self._cores[number] if number in self._cores else self._state.core_of(number)


def candidate_of(draft: Draft, number: int, place: tuple[int, int, int], island: int) -> Candidate:
    """A draft as the candidate with this number, at its place in the run (generation, slot, attempt)."""
    core, per = draft.genotype.core, draft.genotype.per
    tiers = {LEAVES[name].tier for name in leaves_of(core)}
    new = Candidate(
        number=number,
        generation=place[0],
        slot=place[1],
        attempt=place[2],
        formula=expression(core),
        per=per,
        operator=draft.operator,
        status="proposed",
        rank_key="",
        complexity=size(core),
        island=island,
        parents=draft.parents,
        genome=draft.genome,
        tier=max(tiers, key=TIERS.index, default=TIERS[0]),
    )
    return replace(new, **identified(core, per))  # type: ignore[arg-type]
