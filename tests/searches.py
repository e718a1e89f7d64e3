"""Small searches for tests: a tiny random model, few windows, a budget of candidates instead of time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pzc.compiler.load import zoo
from pzc.runtime.masks import Target
from pzc.search.candidate import Candidate
from pzc.search.evolve import evolve, measure_zoo
from pzc.search.fitness import Fitness
from pzc.search.run import Settings, leaves_for
from pzc.search.space import space_for
from pzc.search.state import Plan, State, replay
from pzc.search.store import Store
from tests.conftest import WORDS, make_tiny

PLAN = Plan(population=6, generations=100, seed=5, seed_zoo=True)


def some_windows(seed: int, n: int, length: int = 12) -> torch.Tensor:
    return torch.randint(0, len(WORDS), (n, length), generator=torch.Generator().manual_seed(seed))


def tiny_fitness(target: Target | None = None, model: Any = None) -> Fitness:
    """A tiny model with 6 windows of statistics and 16 of fitness."""
    leaves = leaves_for(Settings())
    return Fitness(model or make_tiny(), some_windows(1, 6), some_windows(2, 16), leaves, target or Target())


def small_search(
    folder: Path,
    candidates: int,
    plan: Plan = PLAN,
    *,
    space: str = "default",
    target: Target | None = None,
    resume: bool = False,
) -> State:
    """Search until so many candidates, those of the zoo included, are settled."""
    fitness = tiny_fitness(target)
    store = Store(folder, resume=resume)
    try:
        state = replay(plan, store.candidates)
        measure_zoo(state, fitness, store, zoo().values(), lambda: False)
        blocks = space_for(space, "row" if target and target.pattern else None)
        evolve(state, fitness, store, blocks, lambda: len(state.candidates) >= candidates)
        store.set_settings({"seed": plan.seed})
    finally:
        store.close()
    return state


def timeless(candidates: list[Candidate]) -> list[Candidate]:
    """Candidates without the seconds that they took."""
    return [replace(c, seconds=0.0) for c in candidates]
