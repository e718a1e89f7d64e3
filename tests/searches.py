"""Small searches for tests: a tiny random model, few windows, a few generations instead of time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from pzc.compiler.load import inline
from pzc.runtime.models.layers import find_layers
from pzc.runtime.scoring.masks import Target
from pzc.runtime.statistics.gather import Statistics
from pzc.search.candidate import REFERENCE, Candidate
from pzc.search.fitness import Fitness, dense_statistics
from pzc.search.place import Place
from pzc.search.plan import Plan
from pzc.search.proposals import Given
from pzc.search.replay import stored_state
from pzc.search.settings import Settings, given, leaves_for
from pzc.search.space import Genotype
from pzc.search.state import State
from pzc.search.store import Store
from pzc.search.worker import work
from tests.conftest import WORDS, make_tiny

SMALL = ["--windows", "2", "--fitness-windows", "4", "--held-out-windows", "2", "--length", "32"]
SETTINGS = Settings(windows=2, fitness_windows=4, held_out_windows=2, length=32, population=4, generations=2)
"""Options, and settings, of a search on `pocket` that takes seconds."""

PLAN = Plan(population=12, islands=2, migration=2, migrants=2, generations=6, seed=7, seed_zoo=True)


def some_windows(seed: int, n: int, length: int = 12) -> torch.Tensor:
    return torch.randint(0, len(WORDS), (n, length), generator=torch.Generator().manual_seed(seed))


def tiny_statistics(model: Any = None) -> Statistics:
    """What 6 windows say of a tiny model."""
    model = model or make_tiny()
    return dense_statistics(model, find_layers(model), some_windows(1, 6), leaves_for(Settings()))


def tiny_fitness(
    target: Target | None = None,
    model: Any = None,
    *,
    statistics: Statistics | None = None,
    windows: int = 2,
    **more: Any,
) -> Fitness:
    """A tiny model with its statistics and 16 windows of fitness, drawn with a seed."""
    model = model or make_tiny()
    statistics = statistics or tiny_statistics(model)
    return Fitness(model, find_layers(model), statistics, some_windows(windows, 16), target or Target(), **more)


def small_search(
    folder: Path,
    plan: Plan = PLAN,
    *,
    settings: Settings | None = None,
    target: Target | None = None,
    slots: int | None = None,
    resume: bool = False,
    start: Given | None = None,
) -> State:
    """Search until the plan is through, or until so many slots, those of the zoo included, have been settled here."""
    fitness = tiny_fitness(target)
    store = Store(Place(folder), resume=resume)
    state = stored_state(store, plan)
    settled = 0

    def stop() -> bool:
        nonlocal settled
        settled += 1
        return slots is not None and settled > slots

    with store.workers.beating(), patch("os.fsync"):  # no test pulls the plug
        work(state, store, start or given(settings or Settings()), fitness, stop, lambda: None)
        store.set_settings({"seed": plan.seed})
    return state


def made(number: int, formula: str = "abs(W) * X", per: str = "row", **more: Any) -> Candidate:
    """A candidate that somebody made up."""
    basis = Candidate(number, 0, number, 0, formula, per, "random", "evaluated", f"rank {number}", 4)
    return replace(basis, **{"shape": str(number), **more})


def closed(plan: Plan, generations: Iterable[Iterable[Candidate]]) -> State:
    """A run that has gone through these generations, the two of the zoo first."""
    state = State(plan)
    for candidates in generations:
        state.close(candidates)
    return state


def genotype(formula: str) -> Genotype:
    metric = inline(formula)
    return Genotype(metric.core, metric.per)


def timeless(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Candidates without the seconds that they took."""
    return [replace(c, seconds=0.0) for c in candidates]


def stored(folder: Path) -> list[Candidate]:
    """Every candidate that is stored, those of the zoo first."""
    store = Store(Place(folder), resume=True)
    generations = [store.generation(g)[0] for g in range(REFERENCE, 100)]
    return [c for slots in generations for slot in sorted(slots) for c in slots[slot]]
