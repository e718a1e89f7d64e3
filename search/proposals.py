"""What a generation will settle: every process works it out alike, from the generations before and the seed alone."""

from __future__ import annotations

from collections.abc import Sequence
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

    Should every draft have done that, the last stands for the slot, and there is nothing to do.
    """

    candidate: Candidate
    core: Node
    repeated: tuple[Candidate, ...] = ()

    @property
    def settled(self) -> bool:
        """Whether it is known already what becomes of the candidate."""
        return self.candidate.status != "proposed"


def rng_for(seed: int, generation: int, slot: int, attempt: int) -> Rng:
    """The random numbers of one attempt, independent of everything else in the run."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, generation, slot, attempt])))


def proposals(state: State, given: Given) -> list[Proposal]:
    """What the generation at work consists of, a proposal a slot."""
    if state.generation in (REFERENCE, ZOO):
        return _published(state, given)
    return _bred(state, given)


def _published(state: State, given: Given) -> list[Proposal]:
    first = next((m for m in given.published if m.name == AGAINST), given.published[0])
    known, cores, found = Identity(), dict[int, Node](), list[Proposal]()
    for number, m in enumerate([first, *(m for m in given.published if m is not first)]):
        generation, slot = (REFERENCE, 0) if m is first else (ZOO, number - 1)
        new = _candidate(Draft(Genotype(m.core, m.per), m.name), number, (generation, slot, 0), 0)
        cores[number] = m.core
        repeats = known.repeats(new, m.core, cores.__getitem__)
        if repeats:
            new = replace(new, status=repeats[0], alias_of=repeats[1])
        known.add(new)
        found.append(Proposal(new, m.core))
    return [p for p in found if p.candidate.generation == state.generation]


def _bred(state: State, given: Given) -> list[Proposal]:
    plan, algorithm = state.plan, ALGORITHMS[state.plan.algorithm]
    islands = plan.islands if plan.algorithm == "default" else 1
    breeding = [
        Breeding(plan, given.space, tuple(state.population(state.generation, island))) for island in range(islands)
    ]
    seeds = given.seeds if state.generation == 0 else ()
    slots = algorithm.slots(plan, state.generation)
    if plan.evaluations is not None:
        slots = min(slots, plan.evaluations - state.measured)
    known = state.identity.copy()
    cores: dict[int, Node] = {}
    found: list[Proposal] = []
    number = len(state.candidates)
    for slot in range(slots):
        repeated: list[Candidate] = []
        for attempt in range(ATTEMPTS):
            if slot < len(seeds) and attempt == 0:
                draft = Draft(Genotype(seeds[slot].core, seeds[slot].per), SEED)
            else:
                rng = rng_for(plan.seed, state.generation, slot, attempt)
                draft = algorithm.draft(breeding[slot % islands], rng)
            core = draft.genotype.core
            new = _candidate(draft, number, (state.generation, slot, attempt), slot % islands)
            number += 1
            cores[new.number] = core
            alias = _alias(known, state, new, core, cores) if algorithm.identity else None
            if alias is None:
                known.add(new)
                found.append(Proposal(new, core, tuple(repeated)))
                break
            repeated.append(alias)
        else:
            found.append(Proposal(repeated[-1], core, tuple(repeated[:-1])))
    return found


def _alias(known: Identity, state: State, new: Candidate, core: Node, cores: dict[int, Node]) -> Candidate | None:
    """The candidate as a repetition of an earlier one, if it is one."""
    found = known.repeats(new, core, lambda n: cores[n] if n in cores else state.core_of(n))
    return replace(new, status=found[0], alias_of=found[1]) if found else None


def _candidate(draft: Draft, number: int, place: tuple[int, int, int], island: int) -> Candidate:
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


def cutoff(population: Sequence[Candidate], full: int) -> tuple[float, ...]:
    """The losses that an offspring must not be behind: those of the worst of a population that is full."""
    return max(population, key=lambda c: c.fitness).losses if len(population) >= full else ()
