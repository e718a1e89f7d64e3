"""What a run knows: its plan, every settled candidate, and what follows from them."""

from __future__ import annotations

import math
import threading
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from heapq import merge

from pzc.compiler.core import Node
from pzc.compiler.metric import Metric
from pzc.grammar.counting import count
from pzc.search.algorithms import ALGORITHMS
from pzc.search.candidate import MEASURED, RANKED, REFERENCE, Candidate
from pzc.search.front import front
from pzc.search.identity import Identity
from pzc.search.niche import few_of_a_niche
from pzc.search.pareto import unbeaten
from pzc.search.plan import Plan
from pzc.search.population import island_pool, survivors
from pzc.search.predictors import correlations
from pzc.search.readable import readable

SHOWN = 8
"""How many of the best candidates a view shows."""

USED_UP = 5
"""After how many generations in a row that brought nothing new the space counts as used up. Islands that have met since
may have something new to breed from, so there are more than lie between two migrations as a rule."""


@dataclass(frozen=True)
class Standing:
    """A run at one moment, for whoever shows it: copies that no later candidate changes.

    `best` are the best candidates found, each with its metric as people read it; `front` those that no other beats in
    fitness, size as read and cost tier at once, the zoo's among them; `zoo` is the best of the zoo; `history` the best
    fitness after each generation; `predictors` the rank correlation of each predictor with fitness, over all that
    has a fitness so far.
    """

    best: tuple[tuple[Candidate, Metric], ...]
    front: tuple[tuple[Candidate, Metric], ...]
    zoo: Candidate | None
    counts: Counter[str]
    refusals: Counter[str]
    generation: int
    history: tuple[float, ...]
    predictors: Mapping[str, float]


@dataclass
class State:
    """Every settled candidate of a run, with indices kept as candidates come.

    Whole generations are closed, in order; what follows from them is the same for every process and every
    interruption. `pending` holds the results of the generation at work, by slot: they are shown, and may be the best of
    all, but steer nothing yet.

    One thread changes a state; others may take a `standing` at any time. Only that thread builds core nodes, since
    interning them is not safe between threads.
    """

    plan: Plan
    candidates: list[Candidate] = field(default_factory=list)
    """Those of closed generations, in the order of their numbers."""
    counts: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    zoo: list[Candidate] = field(default_factory=list)
    """The measured metrics of the zoo, best first."""
    found: list[Candidate] = field(default_factory=list)
    """What the search itself has found and knows the fitness of, best first."""
    raced: list[Candidate] = field(default_factory=list)
    """What the model was run for in closed generations, the zoo included, in the order of their numbers."""
    front: list[Candidate] = field(default_factory=list)
    """What was measured in full in closed generations, the zoo included, and no other beats in fitness, size and cost
    tier, best first."""
    pending: dict[int, Candidate] = field(default_factory=dict)
    generation: int = REFERENCE
    """The generation at work; all before it are closed."""
    identity: Identity = field(default_factory=Identity)
    measured: int = 0
    """How many candidates of closed generations the model was run for, without the zoo."""
    idle: int = 0
    """The last how many generations brought nothing new: every slot of theirs only repeated what was known."""
    _texts: set[str] = field(default_factory=set)
    _masks: dict[str, int] = field(default_factory=dict)
    _history: dict[int, float] = field(default_factory=dict)
    _correlations: Mapping[str, float] | None = None
    _read: dict[Candidate, Metric] = field(default_factory=dict)
    _best: tuple[tuple[Candidate, Metric], ...] = ()
    _traded: tuple[tuple[Candidate, Metric], ...] = ()
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def close(self, settled: Iterable[Candidate], *, replayed: bool = False) -> None:
        """Take in the generation at work, whole and in the order of numbers, and go on to the next.

        Slots that turned out to have the same masks are told apart here, so that it does not matter which was settled
        first. While a run is replayed from its store nobody looks on: `refresh` afterwards.
        """
        with self._lock:
            before, news = len(self.candidates), self.generation < 0
            for c in settled:
                news |= self._is_new(c)
                self._take(self._told_apart(c))  # one after the other: the first of twins is taken in already
            self.idle = 0 if news else self.idle + 1
            if self.found:
                self._history[self.generation] = self.found[0].fitness
            self.front = unbeaten([*self.front, *self.candidates[before:]])
            self._correlations = None
            self.generation += 1
            self.pending = {}
            if not replayed:
                self._show()

    def _told_apart(self, c: Candidate) -> Candidate:
        new = c.mask_hash and c.status in (*MEASURED, "predicted worse") and ALGORITHMS[self.plan.algorithm].identity
        twin = self._masks.get(c.mask_hash) if new else None
        if twin is None:
            return c
        return replace(c, status="same mask", alias_of=twin, losses=(), expected=(), shape="")

    def _is_new(self, c: Candidate) -> bool:
        """Whether a candidate was not there before. What was refused may be drawn again without being a repetition."""
        if c.status in MEASURED:
            return True
        if c.status not in ("refused", "same mask", "predicted worse") or c.exact_key in self._texts:
            return False
        self._texts.add(c.exact_key)
        return True

    def _counts(self, c: Candidate) -> bool:
        """Whether later candidates may be repetitions of this one."""
        return not c.published or self.plan.seed_zoo

    def _take(self, c: Candidate) -> None:
        self.candidates.append(c)
        if not c.published:
            self.counts[c.status] += 1
            self.measured += c.status in MEASURED
            if c.status == "refused":
                self.refusals[c.reason] += 1
        # what ranks like one that was refused may be defined where that was not
        if self._counts(c) and not self._repeats_refused(c) and c.status != "refused":
            self.identity.add(c)
            if c.mask_hash:
                self._masks.setdefault(c.mask_hash, c.number)
        if c.status in MEASURED:
            self.raced.append(c)
        if c.status in RANKED:
            insort(self.zoo if c.published else self.found, c, key=_order)

    def _repeats_refused(self, c: Candidate) -> bool:
        """Whether what a candidate repeats was refused since: then nothing is known of it."""
        return c.alias_of is not None and self.candidates[c.alias_of].status == "refused"

    def show(self, slot: int, c: Candidate) -> None:
        """Take in the result of a slot of the generation at work."""
        with self._lock:
            if self.pending.get(slot) != c:
                self.pending[slot] = c
                self._correlations = None
                self._show()

    def refresh(self) -> None:
        """Work out how the best candidates read, for who looks on."""
        with self._lock:
            self._show()

    def _show(self) -> None:
        shown: dict[Candidate, Metric] = {}

        def read(c: Candidate) -> Metric:
            if c not in shown:
                shown[c] = self._read.get(c) or readable(c)
            return shown[c]

        self._best = tuple((c, read(c)) for c in self.best(SHOWN))
        self._traded = tuple(front([*self.front, *self.pending.values()], read))
        self._read = shown

    def every(self) -> list[Candidate]:
        """All candidates, those of the generation at work included."""
        return [*self.candidates, *sorted(self.pending.values(), key=lambda c: c.number)]

    def core_of(self, number: int) -> Node:
        """The score of a settled candidate."""
        return self.candidates[number].metric().core

    def same_mask(self, mask_hash: str) -> int | None:
        """The number of the candidate of a closed generation with the same masks."""
        return self._masks.get(mask_hash)

    def best(self, n: int) -> list[Candidate]:
        """The best candidates that the search has found so far, few of one shape and none with the masks of another:
        an algorithm that knows no identity may have measured them twice."""
        return few_of_a_niche(_distinct(self._found_so_far()), self.plan.alike, n)

    def _found_so_far(self) -> Iterable[Candidate]:
        """What the search has found and knows the fitness of, best first, with that of the generation at work."""
        pending = [c for c in self.pending.values() if c.status in RANKED and not c.published]
        return merge(self.found, sorted(pending, key=_order), key=_order) if pending else self.found

    def population(self, generation: int, island: int = 0) -> list[Candidate]:
        """What breeds on an island in a generation, in the order in which it breeds."""
        if self.plan.algorithm == "paper":  # the worst is removed after every step: the best of all are left
            return [c for c in self.found if c.generation < generation][: self.plan.population]
        pool = island_pool(self.found, self.zoo, self.plan, generation, island)
        return survivors(pool, self.plan, self.plan.island_size)

    def over(self) -> bool:
        """Whether the plan says that the generation at work is not to be begun."""
        return bool(self.ended())

    def ended(self) -> str:
        """What has been reached, in words, that the plan ends with; empty while the run may go on."""
        plan, best = self.plan, list(self._history.values())
        best = [math.inf] * (self.generation - len(best)) + best  # until the first was measured in full
        if plan.generations is not None and self.generation >= plan.generations:
            return f"{count(plan.generations, 'generation')} (--generations)"
        if plan.evaluations is not None and self.measured >= plan.evaluations:
            return f"{count(self.measured, 'measured candidate')} (--evaluations)"
        if plan.reach is not None and self.found and self.found[0].fitness <= plan.reach:
            return f"a fitness of {self.found[0].fitness:.4g} (--reach)"
        if plan.patience is not None and len(best) > plan.patience and best[-1] >= best[-1 - plan.patience]:
            return f"{count(plan.patience, 'generation')} without a better one (--patience)"
        if self.used_up:
            return f"nothing new in {self.idle:,} generations: the space is used up"
        return ""

    @property
    def used_up(self) -> bool:
        """Whether the space seems to have nothing left that was not proposed before."""
        return ALGORITHMS[self.plan.algorithm].identity and self.idle >= USED_UP

    def standing(self) -> Standing:
        """The run at this moment."""
        with self._lock:
            counts, refusals = Counter(self.counts), Counter(self.refusals)
            for c in self.pending.values():
                if not c.published:
                    counts[c.status] += 1
                    refusals.update([c.reason] if c.status == "refused" else [])
            if self._correlations is None:
                self._correlations = correlations(self._found_so_far())
            pending = [c for c in self.pending.values() if c.published and c.status == "evaluated"]
            zoo = sorted([*self.zoo[:1], *pending], key=_order)
            return Standing(
                self._best,
                self._traded,
                zoo[0] if zoo else None,
                counts,
                refusals,
                self.generation,
                tuple(self._history.values()),
                self._correlations,
            )


def _distinct(pool: Iterable[Candidate]) -> Iterator[Candidate]:
    """The candidates of a pool without those that have the masks of an earlier one."""
    seen: set[str] = set()
    for c in pool:
        if not c.mask_hash or c.mask_hash not in seen:
            seen.add(c.mask_hash)
            yield c


def _order(c: Candidate) -> tuple[float, int, int]:
    return c.order
