"""The search itself: generations with elitism, where every candidate is settled as cheaply as it can be.

An offspring depends only on the population that the generation started with and on (seed, generation, slot,
attempt), so a run that is resumed goes on exactly as it would have. Identity comes before work: a candidate that
ranks as an earlier one, or that gives the same masks, is recorded as its alias and another attempt is made for the
slot.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from pzc.compiler.canonical import canonical, keys, rank_form, text
from pzc.compiler.core import size
from pzc.compiler.load import inline
from pzc.compiler.metric import Metric
from pzc.compiler.source import expression
from pzc.runtime.errors import NonFiniteScore, PruningError
from pzc.search.candidate import ZOO, Candidate
from pzc.search.fitness import Fitness
from pzc.search.space import Genotype, Rng, Space, random_genotype
from pzc.search.store import Store
from pzc.search.variation import offspring

ATTEMPTS = 40
"""How often a slot is tried again when its candidate repeats another or is refused."""


@dataclass(frozen=True)
class Plan:
    """How a population evolves.

    `tournament` candidates are drawn for each parent and the best is taken; a share of `immigrants` of every
    generation is random. At most `alike` candidates of the population differ only in their numbers. With `seed_zoo`
    the published metrics take part in the first generation.
    """

    population: int = 32
    generations: int = 1000
    seed: int = 0
    tournament: int = 4
    immigrants: float = 0.1
    alike: int = 2
    seed_zoo: bool = False


@dataclass
class State:
    """What a run knows: every settled candidate, and what follows from them."""

    plan: Plan
    candidates: list[Candidate] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    _ranks: dict[str, int] = field(default_factory=dict)
    _masks: dict[str, int] = field(default_factory=dict)
    _probes: set[str] = field(default_factory=set)

    def add(self, c: Candidate) -> None:
        """Take a settled candidate in."""
        self.candidates.append(c)
        if c.generation == ZOO and not self.plan.seed_zoo:
            return
        if c.generation != ZOO:
            self.counts[c.status] += 1
            if c.status == "refused":
                self.refusals[c.reason] += 1
        if c.status != "refused":  # what ranks alike may be defined where a refused one was not
            self._ranks.setdefault(c.rank_key, c.number)
        if c.probe_hash:
            self._probes.add(c.probe_hash)
        if c.mask_hash:
            self._masks.setdefault(c.mask_hash, c.number)

    def same_ranking(self, rank_key: str) -> int | None:
        """The number of the candidate that ranks alike."""
        return self._ranks.get(rank_key)

    def same_probe(self, probe_hash: str) -> bool:
        """Whether a candidate has the same masks on the probe layers."""
        return probe_hash in self._probes

    def same_mask(self, mask_hash: str) -> int | None:
        """The number of the candidate with the same masks."""
        return self._masks.get(mask_hash)

    @property
    def zoo(self) -> list[Candidate]:
        """The measured metrics of the zoo, best first."""
        return sorted((c for c in self.candidates if c.generation == ZOO and c.status == "evaluated"), key=_order)

    @property
    def found(self) -> list[Candidate]:
        """What the search itself has found and measured in full, best first."""
        return sorted((c for c in self.candidates if c.generation != ZOO and c.status == "evaluated"), key=_order)

    def population(self, generation: int) -> list[Candidate]:
        """The best candidates of all generations before this one, at most `alike` of one shape.

        Without that bound, one good formula with ever finer exponents would crowd out everything else.
        """
        first = ZOO if self.plan.seed_zoo else 0
        pool = [c for c in self.candidates if first <= c.generation < generation and c.status == "evaluated"]
        chosen: list[Candidate] = []
        shapes: Counter[str] = Counter()
        for c in sorted(pool, key=_order):
            shape = _shape(c.formula, c.per)
            shapes[shape] += 1
            if shapes[shape] <= self.plan.alike:
                chosen.append(c)
            if len(chosen) == self.plan.population:
                break
        return chosen

    def next_place(self) -> tuple[int, int, int]:
        """The generation, slot and attempt to settle next."""
        last = self.candidates[-1] if self.candidates else None
        if last is None or last.generation == ZOO:
            return 0, 0, 0
        if last.status not in ("evaluated", "lost race") and last.attempt + 1 < ATTEMPTS:
            return last.generation, last.slot, last.attempt + 1
        if last.slot + 1 < self.plan.population:
            return last.generation, last.slot + 1, 0
        return last.generation + 1, 0, 0


@cache
def _shape(formula: str, per: str) -> str:
    """What a metric ranks by, with every number left out."""
    metric = inline(f"{formula} per {per}")
    return per + re.sub(r"number:-?[\w.+-]+", "number", text(rank_form(canonical(metric.core), per)))


def _order(c: Candidate) -> tuple[float, int, int]:
    return c.order


def replay(plan: Plan, candidates: Iterable[Candidate]) -> State:
    """The state of a run from its stored candidates."""
    state = State(plan)
    for c in candidates:
        state.add(c)
    return state


def rng_for(seed: int, generation: int, slot: int, attempt: int) -> Rng:
    """The random numbers of one attempt, independent of everything else in the run."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, generation, slot, attempt])))


def measure_zoo(
    state: State, fitness: Fitness, store: Store, metrics: Iterable[Metric], stop: Callable[[], bool]
) -> None:
    """Measure the published metrics that have not been measured yet."""
    done = {c.slot for c in state.candidates if c.generation == ZOO}
    for slot, metric in enumerate(metrics):
        if stop():
            return
        if slot not in done:
            genotype = Genotype(metric.core, metric.per)
            candidate = settle(state, fitness, genotype, (ZOO, slot, 0), metric.name, (), ())
            store.add(candidate)
            state.add(candidate)


def evolve(state: State, fitness: Fitness, store: Store, space: Space, stop: Callable[[], bool]) -> None:
    """Settle candidate after candidate until `stop()` says so or the generations are through."""
    generation = -1
    population: list[Candidate] = []
    parents: list[Genotype] = []
    cutoff: tuple[float, ...] = ()
    while not stop():
        place = state.next_place()
        if place[0] >= state.plan.generations:
            return
        if place[0] != generation:
            generation = place[0]
            population = state.population(generation)
            parents = [c.genotype for c in population]
            cutoff = population[-1].losses if len(population) == state.plan.population else ()
        rng = rng_for(state.plan.seed, *place)
        genotype, operator, chosen = propose(state.plan, population, parents, space, rng)
        numbers = tuple(population[i].number for i in chosen)
        candidate = settle(state, fitness, genotype, place, operator, numbers, cutoff)
        store.add(candidate)
        state.add(candidate)


def propose(
    plan: Plan, population: list[Candidate], parents: list[Genotype], space: Space, rng: Rng
) -> tuple[Genotype, str, tuple[int, ...]]:
    """A new genotype, the variation that made it, and the positions of its parents in the population.

    `population` is sorted, best first, so the winner of a tournament is the lowest position drawn.
    """
    if len(population) < 2 or (population[0].generation == ZOO == population[-1].generation and rng.random() < 0.5):
        return random_genotype(space, rng), "random", ()
    if rng.random() < plan.immigrants:
        return random_genotype(space, rng), "immigrant", ()
    chosen = tuple(int(rng.integers(len(population), size=plan.tournament).min()) for _ in range(2))
    child, operator = offspring([parents[i] for i in chosen], space, rng)
    return child, operator, chosen if operator == "crossover" else chosen[:1]


def settle(
    state: State,
    fitness: Fitness,
    genotype: Genotype,
    place: tuple[int, int, int],
    operator: str,
    parents: tuple[int, ...],
    cutoff: tuple[float, ...],
) -> Candidate:
    """What becomes of a genotype: an alias of an earlier one, refused, lost on the way, or measured in full."""
    start = time.perf_counter()
    generation, slot, attempt = place
    new = Candidate(
        number=len(state.candidates),
        generation=generation,
        slot=slot,
        attempt=attempt,
        formula=expression(genotype.core),
        per=genotype.per,
        operator=operator,
        status="refused",
        rank_key=keys(genotype.core, genotype.per).rank,
        complexity=size(genotype.core),
        parents=parents,
    )
    return replace(_settled(new, state, fitness, genotype, cutoff), seconds=round(time.perf_counter() - start, 4))


def _settled(
    new: Candidate, state: State, fitness: Fitness, genotype: Genotype, cutoff: tuple[float, ...]
) -> Candidate:
    alias = state.same_ranking(new.rank_key)
    if alias is not None:
        return replace(new, status="same ranking", alias_of=alias)
    try:
        probe = fitness.probe(genotype)
        masks, mask_hash = fitness.masks(genotype)
    except NonFiniteScore:
        return replace(new, reason="not finite")
    except PruningError as error:
        return replace(new, reason=error.message)
    new = replace(new, probe_hash=probe, mask_hash=mask_hash)
    alias = state.same_mask(mask_hash)
    if alias is not None:
        return replace(new, status="same mask", alias_of=alias)
    losses, whole = fitness.race(masks, cutoff)
    if not all(np.isfinite(losses)):
        return replace(new, reason="the pruned model's loss is not finite")
    return replace(new, status="evaluated" if whole else "lost race", losses=tuple(losses))
