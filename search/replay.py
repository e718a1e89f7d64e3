"""The state of a run from its store: for who resumes it, and for who only looks on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pzc.search.candidate import Candidate
from pzc.search.errors import StoreError
from pzc.search.plan import Plan
from pzc.search.state import State
from pzc.search.store import Store


def stored_state(store: Store, plan: Plan) -> State:
    """The state of a run from its store alone: whole generations closed, of the next what is there."""
    state = State(plan)
    catch_up(state, store)
    return state


def catch_up(state: State, store: Store) -> None:
    """Take in what has been settled since the state was last brought up to date."""
    while True:
        slots, size = store.generation(state.generation)
        if not size or len(slots) < size:
            break
        state.close(in_order(state, slots), replayed=True)
    state.refresh()
    for slot, candidates in slots.items():
        state.show(slot, candidates[-1])


def in_order(state: State, slots: Mapping[int, Sequence[Candidate]]) -> list[Candidate]:
    """What is settled of the generation at work in the order of its numbers. Raises StoreError where these do not go
    on from those before, as after a worker to which other candidates were settled."""
    candidates = [c for slot in sorted(slots) for c in slots[slot]]
    for number, c in enumerate(candidates, len(state.candidates)):
        if c.number != number:
            raise StoreError(
                f"candidate {c.number} stands where {number} belongs, in slot {c.slot} of generation {c.generation}",
                "it was settled by a worker that knew another run; all before this generation is sound",
            )
    return candidates
