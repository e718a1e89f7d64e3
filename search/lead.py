"""A whole search from Python: begin a run or go on with one, with helpers on this machine, up to its hall of fame."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from os import PathLike
from pathlib import Path
from typing import Any, Unpack

import optuna
import torch
from torch import nn

from pzc.compiler.leaves import TIERS
from pzc.runtime.errors import PruningError
from pzc.runtime.models.loading import InMemory, Loaded
from pzc.runtime.models.passes import Progress, evaluating, silent
from pzc.runtime.statistics.leaves import own_leaves
from pzc.search.errors import Contradiction, StoreError
from pzc.search.helpers import helping
from pzc.search.place import STUDY, Place, place_at
from pzc.search.prepare import opened, prepare
from pzc.search.request import How, check_workers, new_settings, resumed_settings
from pzc.search.run import Budget, Result, finish, kept, search
from pzc.search.settings import Settings, leaves_for
from pzc.search.state import Standing, State
from pzc.search.store import Store


class HelperEnded(UserWarning):
    """A helper of a search ended before the search did."""


def search_metrics(
    run: str | PathLike[str],
    *,
    resume: bool | None = False,
    tokenizer: Any = None,
    workers: int = 1,
    on_settled: Callable[[Standing], object] | None = None,
    until: Callable[[Standing], bool] | None = None,
    storage: str | None = None,
    study: str = STUDY,
    device: str = "auto",
    trust_remote_code: bool = False,
    progress: Progress = silent,
    **how: Unpack[How],
) -> Result:
    """Evolve metrics that prune a model better than the published ones: `pzc search` from Python.

    `run` is the folder of the run, which holds all that is settled. With `resume` the search goes on that is there, and
    what `how` says anew are its bounds, and where model and texts are; with None it does so if there is one. `storage`
    is the URL of an Optuna storage where the run is to be kept there, as `study`. All else is said by
    `pzc.search.request.How`: `model="pocket"`, `sparsity=0.5`, `pattern`, `per`, `limit` in seconds, `evaluations`,
    `seed_zoo`, …

    `model` is a name; or a model itself, on its own device and in its own type: what `pzc.load_model` returns, or a
    model of transformers with its `tokenizer`. Such a model is pruned while it is searched, and is dense and in its own
    mode again afterwards, whatever is raised. Helpers can't reach it. To resume its run, or to report it, takes the
    same model again, or a folder that it was saved in.

    `workers` is the number of processes: this one, and helpers, which load the model by its name on `device`.
    `on_settled` sees how the run stands whenever something new is settled, by this process or a helper; what it returns
    is of no matter. The search ends, and its final follows, when `until` returns true, which is asked then, too.
    `progress(stage, done, total)` is told of statistics and of the final. Nothing is printed.

    The result has the hall of fame, best first, and `best`, the first metric of it. One seed gives the same one with
    any number of workers that have the same `threads` and `fitness_dtype`, where not the time but a number of
    candidates or generations ends the search. Interrupted, it writes the best so far into the folder, and loses nothing
    that is settled. Torch's number of threads and Optuna's verbosity are afterwards what they were.
    Expressions are not to be built by another thread meanwhile.

    Raises PruningError for a model, a text or an option that can't be used, StoreError for a run that can't be opened,
    MetricNotFound and SourceError for a metric, a space or a template that can't be read, and TypeError for an option
    that there is none of.
    """
    check_workers(workers)
    place = place_at(Path(run), storage, study)
    loaded = _given(how, tokenizer, workers)
    with _undisturbed(loaded):
        resume = _is_there(place) if resume is None else resume
        with opened(place, None if resume else new_settings(workers, **how)) as (store, settings):
            if resume:
                settings = resumed_settings(settings, **how)
            _check_helpers(settings, workers)
            with store.workers.beating():
                prepared = prepare(
                    store,
                    settings,
                    loaded=loaded,
                    device=device,
                    trust_remote_code=trust_remote_code,
                    progress=progress,
                )
            budget = Budget(settings.limit or math.inf)
            watching = _Watching(prepared.state, budget, on_settled, until)
            try:
                with kept(prepared):
                    with helping(place, settings, workers - 1, _warn, device, trust_remote_code):
                        search(prepared, budget, over=watching.over)
                    with store.workers.beating(lambda: budget.session):
                        return finish(prepared, progress, at_once=workers)
            finally:
                prepared.fitness.dense.put_back()


class _Watching:
    """Whoever looks on: is shown what is new before every candidate, and asked whether that will do."""

    def __init__(
        self,
        state: State,
        budget: Budget,
        show: Callable[[Standing], object] | None,
        until: Callable[[Standing], bool] | None,
    ) -> None:
        self._state, self._budget, self._show, self._until = state, budget, show, until
        self._seen = self._settled()

    def _settled(self) -> int:
        return len(self._state.candidates) + len(self._state.pending)

    def over(self) -> bool:
        """Whether the search is to end."""
        if self._settled() != self._seen:
            self._seen = self._settled()
            now = self._state.standing()
            if self._show:
                self._show(now)
            self._budget.asked |= bool(self._until and self._until(now))
        return self._budget.over()


@contextmanager
def _undisturbed(loaded: Loaded | None) -> Iterator[None]:
    """Leave torch, Optuna and the mode of a model that was given as they were."""
    threads, verbosity = torch.get_num_threads(), optuna.logging.get_verbosity()
    try:
        with evaluating(loaded.model) if loaded else nullcontext():
            yield
    finally:
        torch.set_num_threads(threads)
        optuna.logging.set_verbosity(verbosity)


def _given(how: How, tokenizer: Any, workers: int) -> Loaded | None:
    """The model that was given itself, if one was; among the options its name takes its place."""
    model = how.get("model")
    if not isinstance(model, nn.Module | Loaded):
        if tokenizer is not None:
            raise Contradiction("{tokenizer} goes with a model that is given itself; one with a name has its own")
        return None
    if how.get("dtype"):
        raise Contradiction("{dtype} converts a model that is loaded; give this one in the type that it is to have")
    if isinstance(model, Loaded):  # it may have been changed since
        model, tokenizer = model.model, model.tokenizer
    if tokenizer is None:
        raise PruningError("a model in memory needs its tokenizer", hint="give it: tokenizer=…")
    if workers > 1:
        raise PruningError("helpers can't reach a model in memory", hint="save it, and name its folder")
    loaded = InMemory.of(model, tokenizer)
    how["model"] = loaded.name
    return loaded


def _is_there(place: Place) -> bool:
    try:
        return Store(place, resume=True).settings is not None
    except StoreError:
        return False


def _check_helpers(settings: Settings, workers: int) -> None:
    """Raise PruningError for helpers that would not know what this process knows."""
    own = own_leaves(leaves_for(settings), *TIERS) if workers > 1 else []
    if own:
        raise PruningError(f"helpers don't know `{own[0]}`, which this process has added", hint="search with workers=1")


def _warn(message: str) -> None:
    warnings.warn(message, HelperEnded, stacklevel=2)
