"""What a run is started with, and what follows from it: its plan, its target, what it starts from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from pzc.compiler.core import leaves_of
from pzc.compiler.leaves import ALIASES, LEAVES, Tier, within
from pzc.compiler.load import inline, zoo
from pzc.compiler.metric import Metric
from pzc.runtime.scoring.masks import Target, parse_pattern
from pzc.search.algorithms import ALGORITHMS
from pzc.search.errors import StoreError, of_another_version
from pzc.search.objective import OBJECTIVES
from pzc.search.plan import Plan
from pzc.search.proposals import Given
from pzc.search.space import Space, space_for, written_out
from pzc.search.store import Store


@dataclass(frozen=True)
class Settings:
    """What a run is started with, and resumed with.

    None for a length or a type is the model's own, which a run has instead as soon as its model is loaded.

    Only how far it goes (`generations`, `evaluations`, `patience`, `reach`, and the `limit` in seconds) may be another
    when it is resumed; with `default_limit` the limit is that of a search which is given no bound. The model, the
    texts and the space may have other names then, but not another content, and the windows must be the same. `seeds`
    are metrics of the user as `name: formula per group`; `include` and `exclude` choose layers as `find_layers` does.
    `tier` is the dearest statistics that candidates may read, None what their space says. `fitness_dtype` is the type
    in which candidates are raced, `threads` the CPU threads of a worker: results depend on both in their last bits.
    """

    model: str = "pocket"
    data: str = "pydoc"
    eval_data: str | None = None
    windows: int = 16
    fitness_windows: int = 32
    held_out_windows: int = 64
    length: int | None = None
    sparsity: float = 0.5
    pattern: str | None = None
    per: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    algorithm: str = "default"
    space: str = "default"
    template: str | None = None
    tier: Tier | None = None
    objective: str = "perplexity"
    population: int = 32
    islands: int = 2
    generations: int | None = None
    evaluations: int | None = None
    patience: int | None = None
    reach: float | None = None
    seed: int = 0
    seed_zoo: bool = False
    seeds: tuple[str, ...] = ()
    dtype: str | None = None
    fitness_dtype: str | None = None
    threads: int | None = None
    limit: float | None = None
    default_limit: bool = False


def settings_of(store: Store) -> Settings:
    """What a stored run was started with. Raises StoreError for one that ended before it was ready to search, and
    for one of another version that has what this one lacks."""
    kept = store.settings
    if kept is None:
        begin = f"begin it with {store.place.begin}"
        busy = f"its statistics are being gathered; if nobody is at it, {begin}"
        raise StoreError(f"the search in {store.place} has not begun", busy if store.workers.at_work() else begin)
    known = {f.name: kept[f.name] for f in fields(Settings) if f.name in kept}
    several = {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
    settings = Settings(**{**known, **several})
    if settings.algorithm not in ALGORITHMS or settings.objective not in OBJECTIVES:
        raise of_another_version(f"its algorithm is {settings.algorithm}, its objective {settings.objective}")
    return settings


def plan_of(settings: Settings) -> Plan:
    """How the population of a run evolves."""
    return Plan(
        algorithm=settings.algorithm,
        population=settings.population,
        islands=ALGORITHMS[settings.algorithm].fixed.get("islands", settings.islands),
        generations=settings.generations,
        seed=settings.seed,
        seed_zoo=settings.seed_zoo,
        evaluations=settings.evaluations,
        patience=settings.patience,
        reach=settings.reach,
    )


BOUNDS = ("generations", "evaluations", "patience", "reach")
"""The settings beside its time that say when a run ends, and so does its plan."""


def bounded(plan: Plan, kept: Mapping[str, Any] | None) -> Plan:
    """A plan with the bounds that are kept with the run now: who leads it may have changed them."""
    return replace(plan, **{bound: kept[bound] for bound in BOUNDS if kept and bound in kept})


def target_of(settings: Settings) -> Target:
    """What candidates are pruned to, whatever their group."""
    return Target(None, settings.sparsity, parse_pattern(settings.pattern) if settings.pattern else None)


def searched_space(settings: Settings) -> Space:
    """What a run searches. Raises MetricNotFound and SourceError for what can't be read."""
    per = "row" if settings.pattern else settings.per
    return space_for(settings.space, per, settings.template, settings.tier)


def given(settings: Settings) -> Given:
    """What the search starts from. Candidates have one score for all layers, so metrics by role are left out, and so
    are those that read dearer statistics than candidates may."""
    space = searched_space(settings)
    published = [m for m in zoo().values() if not m.roles and within(m.leaves, space.tier)]
    seeds = [_seed(text) for text in settings.seeds]
    return Given(_grouped(published, space), _grouped(seeds, space), space)


def _grouped(metrics: Iterable[Metric], space: Space) -> tuple[Metric, ...]:
    """Metrics in their own comparison groups, where the space has them; otherwise in each group of the space."""
    return tuple(
        replace(m, per=group) for m in metrics for group in ((m.per,) if m.per in space.groups else space.groups)
    )


def _seed(text: str) -> Metric:
    name, _, formula = text.partition(": ")
    return inline(formula, name, analyse=False)


def leaves_for(settings: Settings) -> frozenset[str]:
    """The statistics that the space, its functions, the template, the user's metrics or the zoo read."""
    start = given(settings)
    space = start.space
    read = {ALIASES.get(name, name) for name, _ in space.leaves}
    for op in (*(op for op, _ in (*space.unary, *space.binary)), space.template):
        if op and op.function:
            read |= {name for core in written_out(op.function) if core for name in leaves_of(core)}
    read |= {name for m in (*start.published, *start.seeds) for name in m.leaves}
    return frozenset(name for name in read if name in LEAVES and within([name], space.tier))


def default_threads(workers: int) -> int:
    """CPU threads of each of some workers on this machine: torch's number, which OMP_NUM_THREADS sets, shared out."""
    return max(1, torch.get_num_threads() // workers)
