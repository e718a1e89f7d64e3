"""A worker: settles one slot after another until the run is over. Any number of them work on one run, each with its own
model, and the result is the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from pzc.search.bar import Bar, bars
from pzc.search.candidate import Candidate
from pzc.search.errors import of_another_version
from pzc.search.fitness import Fitness
from pzc.search.proposals import Given, Proposal, proposals
from pzc.search.replay import in_order
from pzc.search.screening import Screen
from pzc.search.settings import bounded
from pzc.search.settle import settle
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
    """Settle slot after slot until `stop()` says so or the plan is through, whose bounds are those that the store has
    when a generation begins. `begin` is called at every generation once the published metrics are measured: the first
    time, the search itself begins. What a worker does between two slots, proposing a generation and screening drafts,
    counts as time of the later one."""
    clock = _Clock()
    current: _Work | None = None
    screen = Screen(fitness.sketches.of, given.space)
    while not stop():
        if current is None or current.generation != state.generation:
            state.plan = bounded(state.plan, store.settings)
            if state.generation >= 0:
                if state.over():
                    return
                begin()
            screen.learn(state)
            current = _next(state, store, given)
        if not current.proposals:
            state.close(())
            continue
        claim = store.claim(current.proposals, partial(screen.choose, state=state))
        if claim is not None:
            settled = replace(_settled(claim, current, state, store, fitness), seconds=clock.read())
            store.tell(claim, settled)
            state.show(claim.slot, settled)
        if not _look(state, store, current):
            current = None
        elif claim is None and state.generation == current.generation:
            clock.wait()


def _next(state: State, store: Store, given: Given) -> _Work:
    _, begun = store.generation(state.generation)
    found = proposals(state, given, begun)
    if begun not in (0, len(found)):
        raise of_another_version(f"generation {state.generation} was begun with {begun} slots and has {len(found)}")
    return _Work(state.generation, found, bars(state))


def _settled(claim: Claim, current: _Work, state: State, store: Store, fitness: Fitness) -> Candidate:
    bar = current.bars[claim.proposal.candidate.island]
    return settle(claim.proposal, state, fitness, bar, lambda number, loss: store.rung(claim, number, loss))


def _look(state: State, store: Store, current: _Work) -> bool:
    """See what others have settled, and close the generation when it is whole. Whether the work is as they see it:
    someone with other bounds may have begun the generation first."""
    known, begun = store.generation(current.generation)
    if begun not in (0, len(current.proposals)):
        return False
    for candidates in known.values():
        state.show(candidates[-1].slot, candidates[-1])
    if len(known) == len(current.proposals):
        settled = in_order(state, known)
        store.close(current.generation)
        state.close(settled)
    return True
