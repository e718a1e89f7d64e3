"""The state of a run from its store: for who resumes it, and for who only looks on."""

from __future__ import annotations

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
        state.close((c for slot in sorted(slots) for c in slots[slot]), replayed=True)
    state.refresh()
    for slot, candidates in slots.items():
        state.show(slot, candidates[-1])
