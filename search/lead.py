"""A whole search from Python: begin a run or go on with one, with helpers on this machine, up to its hall of fame."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TypedDict, Unpack

import torch

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

    The result has the hall of fame, best first, and `best`, the first metric of it. One seed gives the same one with
    any number of workers, where not the time but a number of candidates or generations ends the search. Interrupted,
    it writes the best so far into the folder, and loses nothing that is settled. Torch's number of threads is
    afterwards what it was.

    Raises PruningError for a model, a text or an option that can't be used, StoreError for a run that can't be opened,
    MetricNotFound and SourceError for a metric, a space or a template that can't be read.
    """
    place = Place(Path(run), storage, study)
    new = None if resume else new_settings(workers, **how)
    threads = torch.get_num_threads()
    try:
        with opened(place, new) as (store, settings):
            if resume:
                settings = resumed_settings(settings, **how)
            where: _Where = {"device": device, "trust_remote_code": trust_remote_code}
            with store.workers.beating():
                prepared = prepare(store, settings, **where, progress=progress)
            budget = Budget(settings.limit or math.inf)
            tell = _Watching(prepared.state, budget, on_settled)
            try:
                with helping(place, settings, workers - 1, _warn, **where):
                    search(prepared, budget, over=tell.over)
            except KeyboardInterrupt:
                keep(prepared)
                raise
            with store.workers.beating(lambda: budget.session):
                return finish(prepared, progress, at_once=workers)
    finally:
        torch.set_num_threads(threads)


class _Watching:
    """Whether the search is over, asked before every candidate, after whoever looks on has seen what is new."""

    def __init__(self, state: State, budget: Budget, look: Callable[[Standing], object] | None) -> None:
        self._state, self._budget, self._look = state, budget, look
        self._seen = 0

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
