"""A whole search from Python: begin a run or go on with one, with helpers on this machine, up to its hall of fame."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch
from torch import nn

from pzc.runtime.errors import PruningError
from pzc.runtime.models.loading import IN_MEMORY, InMemory, Loaded
from pzc.runtime.models.passes import Progress, silent
from pzc.search.helpers import helping
from pzc.search.place import STUDY, Place
from pzc.search.prepare import opened, prepare
from pzc.search.request import How, new_settings, resumed_settings
from pzc.search.run import Budget, Result, finish, keep, search
from pzc.search.state import Standing, State


class _Where(TypedDict):
    device: str
    trust_remote_code: bool


class HelperEnded(UserWarning):
    """A helper of a search ended before the search did."""


def search_metrics(
    run: str | PathLike[str],
    *,
    tokenizer: Any = None,
    resume: bool = False,
    workers: int = 1,
    on_settled: Callable[[Standing], object] | None = None,
    storage: str | None = None,
    study: str = STUDY,
    device: str = "auto",
    trust_remote_code: bool = False,
    progress: Progress = silent,
    **how: Unpack[How],
) -> Result:
    """Evolve metrics that prune a model better than the published ones: `pzc search` from Python.

    `run` is the folder of the run, which holds all that is settled; with `resume` the search goes on that is there, and
    what `how` says anew are its bounds, and where model and texts are. `storage` is the URL of an Optuna storage where
    the run is to be kept there, as `study`. `workers` is the number of processes, this one and helpers. `on_settled`
    sees how the run stands whenever this process has settled a candidate; the search ends, and the final follows, when
    it returns something true. All else is said by `pzc.search.request.How`: `model="pocket"`, `sparsity=0.5`,
    `pattern`, `per`, `limit` in seconds, `evaluations`, `seed_zoo`, …

    `model` is a name, or a model of transformers in memory with its `tokenizer`: candidates prune that very model, on
    its own device and in its own type, and it is dense again afterwards, whatever is raised. Nobody else can help with
    such a run, and it is resumed with the same model.

    The result has the hall of fame, best first, and `best`, the first metric of it. One seed gives the same one with
    any number of workers, where not the time but a number of candidates or generations ends the search. Interrupted,
    it writes the best so far into the folder, and loses nothing that is settled. Torch's number of threads is
    afterwards what it was.

    Raises PruningError for a model, a text or an option that can't be used, StoreError for a run that can't be opened,
    MetricNotFound and SourceError for a metric, a space or a template that can't be read.
    """
    model = how.get("model")
    loaded = _in_memory(model, tokenizer, workers) if isinstance(model, nn.Module) else None
    if loaded:
        if how.get("dtype"):
            raise PruningError("`dtype` converts a model that is loaded", hint="give the model in that type")
        how["model"] = loaded.name
    place = Place(Path(run), storage, study)
    new = None if resume else new_settings(workers, **how)
    threads = torch.get_num_threads()
    try:
        with opened(place, new) as (store, settings):
            if resume:
                settings = resumed_settings(settings, **how)
            if settings.model.endswith(IN_MEMORY) and not loaded:
                raise PruningError(f"the run is of a {settings.model}", hint="give it: model=…, tokenizer=…")
            where: _Where = {"device": device, "trust_remote_code": trust_remote_code}
            with store.workers.beating():
                prepared = prepare(store, settings, loaded=loaded, **where, progress=progress)
            budget = Budget(settings.limit or math.inf)
            tell = _Watching(prepared.state, budget, on_settled)
            try:
                with helping(place, settings, workers - 1, _warn, **where):
                    search(prepared, budget, over=tell.over)
                with store.workers.beating(lambda: budget.session):
                    return finish(prepared, progress, at_once=workers)
            except KeyboardInterrupt:
                keep(prepared)
                raise
            finally:
                prepared.fitness.dense.put_back()
    finally:
        torch.set_num_threads(threads)


def _in_memory(model: nn.Module, tokenizer: Any, workers: int) -> Loaded:
    if tokenizer is None:
        raise PruningError("a model in memory needs its tokenizer", hint="give it: tokenizer=…")
    if workers > 1:
        raise PruningError("helpers can't reach a model in memory", hint="save it, and name its folder")
    return InMemory.of(model, tokenizer)


class _Watching:
    """Whether the search is over, asked before every candidate, after whoever looks on has seen what is new."""

    def __init__(self, state: State, budget: Budget, look: Callable[[Standing], object] | None) -> None:
        self._state, self._budget, self._look = state, budget, look
        self._seen = state.standing().counts.total()

    def over(self) -> bool:
        if self._look is not None:
            now = self._state.standing()
            settled = now.counts.total()
            if settled > self._seen:
                self._seen = settled
                self._budget.asked |= bool(self._look(now))
        return self._budget.over()


def _warn(message: str) -> None:
    warnings.warn(message, HelperEnded, stacklevel=2)
