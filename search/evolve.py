"""The search itself: generations with elitism, where every candidate is settled as cheaply as it can be.

An offspring depends only on the population that the generation started with and on (seed, generation, slot,
attempt), so a run that is resumed goes on exactly as it would have. Identity comes before work: a candidate that
ranks as an earlier one, or that gives the same masks, is recorded as its alias and another attempt is made for the
slot.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from pzc.compiler.core import size
from pzc.compiler.metric import Metric
from pzc.compiler.rank import keys
from pzc.compiler.source import expression
from pzc.runtime.errors import NonFiniteScore, PruningError
from pzc.search.candidate import ZOO, Candidate
from pzc.search.fitness import Fitness
from pzc.search.readable import shape
from pzc.search.space import Genotype, Rng, Space, random_genotype
from pzc.search.state import Plan, State
from pzc.search.store import Store
from pzc.search.variation import offspring


def rng_for(seed: int, generation: int, slot: int, attempt: int) -> Rng:
    """The random numbers of one attempt, independent of everything else in the run."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, generation, slot, attempt])))


def measure_zoo(
    state: State, fitness: Fitness, store: Store, metrics: Iterable[Metric], stop: Callable[[], bool]
) -> None:
    """Measure the published metrics that have not been measured yet. Candidates have one score for all layers, so
    metrics by role are left out."""
    done = {c.slot for c in state.candidates if c.generation == ZOO}
    for slot, metric in enumerate(metrics):
        if stop():
            return
        if slot not in done and not metric.roles:
            genotype = Genotype(metric.core, "row" if fitness.target.pattern else metric.per)
            candidate = settle(state, fitness, genotype, (ZOO, slot, 0), metric.name, (), ())
            store.add(candidate)
            state.add(candidate)


def evolve(state: State, fitness: Fitness, store: Store, space: Space, stop: Callable[[], bool]) -> None:
    """Settle candidate after candidate until `stop()` says so or the generations are through."""
    generation = -1
    population: list[Candidate] = []
    parents: dict[int, Genotype] = {}
    cutoff: tuple[float, ...] = ()
    while not stop():
        place = state.next_place()
        if place[0] >= state.plan.generations:
            return
        if place[0] != generation:
            generation = place[0]
            population = state.population(generation)
            parents = {c.number: parents.get(c.number) or c.genotype for c in population}
            worst = max(population, key=lambda c: c.fitness, default=None)
            cutoff = worst.losses if worst and len(population) == state.plan.population else ()
        rng = rng_for(state.plan.seed, *place)
        genotype, operator, chosen = propose(state.plan, population, list(parents.values()), space, rng)
        numbers = tuple(population[i].number for i in chosen)
        candidate = settle(state, fitness, genotype, place, operator, numbers, cutoff)
        store.add(candidate)
        state.add(candidate)


def propose(
    plan: Plan, population: list[Candidate], parents: list[Genotype], space: Space, rng: Rng
) -> tuple[Genotype, str, tuple[int, ...]]:
    """A new genotype, the variation that made it, and the positions of its parents in the population.

    `population` is in the order in which it breeds, so the winner of a tournament is the lowest position drawn.
    """
    published = all(c.generation == ZOO for c in population)
    if len(population) < 2 or (published and rng.random() < 0.5):
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
        masks, mask_hash = fitness.masks(genotype)
    except NonFiniteScore:
        return replace(new, reason="not finite")
    except PruningError as error:
        return replace(new, reason=error.message)
    new = replace(new, mask_hash=mask_hash)
    alias = state.same_mask(mask_hash)
    if alias is not None:
        return replace(new, status="same mask", alias_of=alias)
    losses, whole = fitness.race(masks, cutoff)
    if not all(map(math.isfinite, losses)):
        return replace(new, reason="the pruned model's loss is not finite")
    new = replace(new, losses=tuple(losses))
    if not whole:
        return replace(new, status="lost race")
    return replace(new, status="evaluated", shape=shape(genotype.core, genotype.per))
