"""What a run knows: its plan, every settled candidate, and what follows from them."""

from __future__ import annotations

import heapq
import threading
from bisect import insort
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pzc.compiler.metric import Metric
from pzc.search.candidate import ZOO, Candidate
from pzc.search.readable import readable

ATTEMPTS = 40
"""How often a slot is tried again when its candidate repeats another or is refused."""

SHOWN = 8
"""How many of the best candidates a view shows."""


@dataclass(frozen=True)
class Plan:
    """How a population evolves.

    `tournament` candidates are drawn for each parent and the best is taken; a share of `immigrants` of every
    generation is random. At most `alike` candidates of the population differ only in their numbers. A node more must
    earn a share of `parsimony` of the perplexity. With `seed_zoo` the published metrics take part in the first
    generation.
    """

    population: int = 32
    generations: int = 1000
    seed: int = 0
    tournament: int = 4
    immigrants: float = 0.1
    alike: int = 2
    parsimony: float = 0.0005
    seed_zoo: bool = False


@dataclass(frozen=True)
class Standing:
    """A run at one moment, for whoever shows it: copies that no later candidate changes.

    `best` are the best candidates found, each with its metric as people read it; `zoo` is the best of the zoo;
    `history` the best fitness after each generation.
    """

    best: tuple[tuple[Candidate, Metric], ...]
    zoo: Candidate | None
    counts: Counter[str]
    refusals: Counter[str]
    generation: int
    history: tuple[float, ...]


@dataclass
class State:
    """Every settled candidate of a run, in order, with indices kept as candidates come.

    One thread adds; others may take a `standing` at any time. Only the adding thread builds core nodes, since
    interning them is not safe between threads.
    """

    plan: Plan
    candidates: list[Candidate] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    zoo: list[Candidate] = field(default_factory=list)
    """The measured metrics of the zoo, best first."""
    found: list[Candidate] = field(default_factory=list)
    """What the search itself has found and measured in full, best first."""
    _ranks: dict[str, int] = field(default_factory=dict)
    _masks: dict[str, int] = field(default_factory=dict)
    _history: dict[int, float] = field(default_factory=dict)
    _shown: dict[Candidate, Metric] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, c: Candidate) -> None:
        """Take a settled candidate in."""
        with self._lock:
            self.candidates.append(c)
            if c.generation != ZOO:
                self.counts[c.status] += 1
                if c.status == "refused":
                    self.refusals[c.reason] += 1
            if c.generation != ZOO or self.plan.seed_zoo:
                self._identify(c)
            if c.status == "evaluated":
                insort(self.zoo if c.generation == ZOO else self.found, c, key=_order)
                self._show(c)
            if self.found:
                self._history[c.generation] = self.found[0].fitness

    def _identify(self, c: Candidate) -> None:
        if c.status != "refused":  # what ranks alike may be defined where a refused one was not
            self._ranks.setdefault(c.rank_key, c.number)
        if c.mask_hash:
            self._masks.setdefault(c.mask_hash, c.number)

    def _show(self, c: Candidate) -> None:
        if c.generation == ZOO or (len(self._shown) == SHOWN and c.order > max(map(_order, self._shown))):
            return
        self._shown = {b: self._shown.get(b) or readable(b) for b in self.best(SHOWN)}

    def same_ranking(self, rank_key: str) -> int | None:
        """The number of the candidate that ranks alike."""
        return self._ranks.get(rank_key)

    def same_mask(self, mask_hash: str) -> int | None:
        """The number of the candidate with the same masks."""
        return self._masks.get(mask_hash)

    def best(self, n: int) -> list[Candidate]:
        """The best candidates that the search has found, at most `alike` of one shape."""
        return self._distinct(self.found, n)

    def population(self, generation: int) -> list[Candidate]:
        """The best candidates of all generations before this one, at most `alike` of one shape.

        Without that bound, one good formula with ever finer exponents would crowd out everything else; without
        parsimony, formulas would fill up with parts that do nothing. They are in the order in which they breed.
        """
        pool = heapq.merge(self.zoo if self.plan.seed_zoo else [], self.found, key=_order)
        fittest = self._distinct((c for c in pool if c.generation < generation), 2 * self.plan.population)
        best = fittest[:1]
        fittest.sort(key=lambda c: c.fitness * (1 + self.plan.parsimony * c.complexity))
        chosen = fittest[: self.plan.population]
        return chosen if set(best) <= set(chosen) else [*best, *chosen[:-1]]

    def _distinct(self, pool: Iterable[Candidate], n: int) -> list[Candidate]:
        chosen: list[Candidate] = []
        shapes: Counter[str] = Counter()
        for c in pool:
            shape = c.shape or c.formula
            shapes[shape] += 1
            if shapes[shape] <= self.plan.alike:
                chosen.append(c)
                if len(chosen) == n:
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

    def standing(self) -> Standing:
        """The run at this moment."""
        with self._lock:
            return Standing(
                tuple(self._shown.items()),
                self.zoo[0] if self.zoo else None,
                Counter(self.counts),
                Counter(self.refusals),
                self.candidates[-1].generation if self.candidates else ZOO,
                tuple(self._history.values()),
            )


def _order(c: Candidate) -> tuple[float, int, int]:
    return c.order


def replay(plan: Plan, candidates: Iterable[Candidate]) -> State:
    """The state of a run from its stored candidates."""
    state = State(plan)
    for c in candidates:
        state.add(c)
    return state
