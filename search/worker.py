"""A worker: settles one slot after another until the run is over. Any number of them work on one run, each with its own
model, and the result is the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from pzc.search.candidate import Candidate
from pzc.search.fitness import Fitness
from pzc.search.proposals import Given, Proposal, proposals
from pzc.search.screening import Screen
from pzc.search.settle import Bar, bars, settle
from pzc.search.state import State
from pzc.search.store import Claim, Store

POLL = 0.2
"""Seconds between two looks at what other workers do, when all slots of a generation are taken."""


@dataclass(frozen=True)
class _Work:
    """The generation at work: what it will settle, and what that is measured against."""

    generation: int
    proposals: list[Proposal]
    bars: list[Bar]


class _Clock:
    """The seconds of work since it was last read. To wait for other workers is no work."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def read(self) -> float:
        before, self._since = self._since, time.perf_counter()
        return round(self._since - before, 4)

    def wait(self) -> None:
        start = time.perf_counter()
        time.sleep(POLL)
        self._since += time.perf_counter() - start


def work(
    state: State, store: Store, given: Given, fitness: Fitness, stop: Callable[[], bool], begin: Callable[[], None]
) -> None:
    """Settle slot after slot until `stop()` says so or the plan is through. `begin` is called at every
    generation once the published metrics are measured: the first time, the search itself begins. What a worker does
    between two slots, proposing a generation and screening drafts, counts as time of the later one."""
    clock = _Clock()
    current: _Work | None = None
    screen = Screen(fitness.sketches.of, given.space)
    while not stop() and not (state.generation >= 0 and state.over()):
        if current is None or current.generation != state.generation:
            if state.generation >= 0:
                begin()
            screen.learn(state)
            _, begun = store.generation(state.generation)
            current = _Work(state.generation, proposals(state, given, begun), bars(state))
        if not current.proposals:
            state.close(())
            continue
        claim = store.claim(current.proposals, partial(screen.choose, state=state))
        if claim is not None:
            settled = replace(_settled(claim, current, state, store, fitness), seconds=clock.read())
            store.tell(claim, settled)
            state.show(claim.slot, settled)
        _look(state, store, current)
        if claim is None and state.generation == current.generation:
            clock.wait()


def _settled(claim: Claim, current: _Work, state: State, store: Store, fitness: Fitness) -> Candidate:
    bar = current.bars[claim.proposal.candidate.island]
    return settle(claim.proposal, state, fitness, bar, lambda number, loss: store.rung(claim, number, loss))


def _look(state: State, store: Store, current: _Work) -> None:
    """See what others have settled, and close the generation when it is whole."""
    known, _ = store.generation(current.generation)
    settled = [known[slot] for slot in range(len(current.proposals)) if slot in known]
    for candidates in settled:
        state.show(candidates[-1].slot, candidates[-1])
    if len(settled) == len(current.proposals):
        store.close(current.generation)
        state.close(c for candidates in settled for c in candidates)
