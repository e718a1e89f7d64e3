"""Doing what `pzc prune` is asked to do: in memory or from shard to shard, each result written when it is measured."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pzc.cli.asked import Asked, Opened
from pzc.cli.console import progress, say, warn
from pzc.compiler.metric import Metric
from pzc.runtime.errors import Hopeless, PruningError
from pzc.runtime.evaluation.evaluate import window_losses
from pzc.runtime.evaluation.uncertainty import perplexity
from pzc.runtime.files import check_space
from pzc.runtime.models.passes import device_of, unchanged
from pzc.runtime.planning.plan import kept_size, output_size
from pzc.runtime.planning.texts import Texts
from pzc.runtime.pruning.finished import Finished
from pzc.runtime.pruning.mask_files import check_mask_output, recorded_masks, write_masks
from pzc.runtime.pruning.prune import Pruned, carry_out, carry_out_each
from pzc.runtime.pruning.request import Request
from pzc.runtime.saving.checkpoint import check_output, described_arms, recorded_run, save
from pzc.runtime.saving.checkpoint import record as record_of
from pzc.runtime.saving.identity import facts
from pzc.runtime.streaming.model import Shell
from pzc.runtime.streaming.stream import Windows, mark_of, stream
from pzc.runtime.streaming.work import Journal, clear, fingerprint, remove, unfinished, work_folder


@dataclass(frozen=True)
class Job:
    """All that a run needs."""

    asked: Asked
    request: Request
    model: Opened
    texts: Texts

    @property
    def run(self) -> str:
        """By what this very run is known again: a hash of all that its results depend on."""
        texts = self.texts
        windows = texts.calibration_windows, texts.evaluation_windows
        return fingerprint(facts(self.model.loaded, self.model.layers, self.request, *windows))

    def record(self, pruned: Pruned, run: str, before: float, after: float, seconds: float | None) -> dict[str, Any]:
        """The record of a result."""
        loaded, texts = self.model.loaded, self.texts
        return record_of(
            metric=_described(self.request.metric) | {"arms": described_arms(self.request.metric, pruned.target)},
            model=loaded,
            options={
                **self.asked.recorded(self.request),
                "device": str(device_of(loaded.model)),
                "threads": torch.get_num_threads(),
                "sparsity": float(pruned.target.sparsity),
                "length": texts.evaluation_windows.shape[1],
            },
            pruned=pruned,
            run=run,
            calibration=texts.calibration,
            evaluation=texts.evaluation,
            perplexity={"before": before, "after": after} if texts.evaluation else None,
            seconds={} if seconds is None else {"evaluation": seconds},
        )


@dataclass(frozen=True)
class Result:
    """What is on the disk now: where, what was done, the perplexity before and after, and the record."""

    place: Path
    pruned: Pruned
    before: float
    after: float
    record: Mapping[str, Any]


def check_places(asked: Asked) -> None:
    """Raise PruningError now for places that could not be written later. Of several, those may be there already that
    a run left which was cut off: only `results_of` can tell."""
    places = asked.places()
    check = check_mask_output if asked.mask_only else check_output
    for place in places:
        partly = len(places) > 1 and not asked.streams and not all(other.exists() for other in places)
        check(place, overwrite=asked.overwrite or (partly and _run_of(place, mask_only=asked.mask_only) is not None))


def results_of(job: Job) -> Iterator[Result]:
    """Prune to every sparsity, and write each result to its place.

    What is pruned block by block goes on where the same run was cut off. Raises PruningError as `prune` does.
    """
    try:
        with progress(job.asked.silent) as bar:
            yield from _streamed(job, job.model.shell, bar) if job.model.shell else _in_memory(job, bar)
    except KeyboardInterrupt:
        if job.model.shell or job.request.by_block:
            say("stopped; the same command goes on from the last finished block")
        raise


def _in_memory(job: Job, bar: Any) -> Iterator[Result]:
    asked, request, loaded = job.asked, job.request, job.model.loaded
    run = job.run
    places = dict(zip(request.targets, asked.places(), strict=True))
    left = {target: place for target, place in places.items() if not _is_there(place, run, asked)}
    size = sum(p.numel() * p.element_size() for p in loaded.model.parameters())
    request = replace(request, targets=tuple(left))
    weights = job.model.layers.size
    needed = output_size(size, weights, request, mask_only=asked.mask_only)
    masks: dict[str, Tensor] = {}
    given: dict[str, Any] = {"progress": bar, "on_mask": masks.__setitem__ if asked.mask_only else None}
    evaluation, calibration = job.texts.evaluation_windows, job.texts.calibration_windows
    with ExitStack() as stack:
        work = stack.enter_context(_resumable(asked, run)) if request.by_block else None
        kept = kept_size(loaded.dtype.itemsize, weights, request) - (work.size if work else 0)
        check_space(next(iter(left.values())), needed + max(0, kept))
        start = time.perf_counter()
        before = work.journal.value("before") if work else None
        if before is None:
            with unchanged(loaded.model):
                before = _measured(loaded.model, evaluation, bar)
        seconds = time.perf_counter() - start
        if work:
            work.journal.finish("dense", 1, before=before)
            request = replace(request, cache=request.cache or work.folder)
        if len(request.targets) == 1:
            finished = work.finished if work else None
            runs = iter([carry_out(loaded.model, request, calibration, finished=finished, restores=False, **given)])
        else:
            runs = carry_out_each(loaded.model, request, calibration, **given)
        for place, pruned in zip(left.values(), runs, strict=True):
            after = _measured(loaded.model, evaluation, bar)
            content = job.record(pruned, run, before, after, seconds if len(evaluation) else None)
            if asked.mask_only:
                write_masks(place, masks, content)
            else:
                save(loaded.model, loaded.tokenizer, content, place, overwrite=asked.overwrite)
            if work:
                work.ended = True
            yield Result(place, pruned, before, after, content)


def _measured(model: nn.Module, windows: Tensor, bar: Any) -> float:
    """The perplexity of windows `[n, length]`, NaN of none."""
    return perplexity(window_losses(model, windows, bar) if len(windows) else [])


@dataclass
class _Work:
    """The finished blocks of a run in memory, in a folder beside its output; `ended` when its result is written."""

    folder: Path
    journal: Journal
    ended: bool = False

    @property
    def finished(self) -> Finished:
        return Finished(self.folder)

    @property
    def size(self) -> int:
        """Bytes of what is kept."""
        return sum(path.stat().st_size for path in self.folder.iterdir())


@contextmanager
def _resumable(asked: Asked, run: str) -> Iterator[_Work]:
    output, mark = (asked.folder or Path()).absolute(), f"blocks-{run}"
    _warn_of_others(unfinished(output, mark))
    with work_folder(output, mark) as folder:
        work = _Work(folder / "work", Journal(folder / "work" / "journal.json"))
        try:
            yield work
        except PruningError as error:
            if isinstance(error, Hopeless) or not work.finished.some:  # nothing that would help the next time
                clear(folder)
            raise
    if work.ended:
        remove(folder)
        for other in unfinished(output, mark):
            remove(other)


def _streamed(job: Job, shell: Shell, bar: Any) -> Iterator[Result]:
    asked, request = job.asked, job.request
    windows = Windows(job.texts.calibration_windows, job.texts.evaluation_windows)
    folder, places = asked.folder or Path(), asked.places()
    mark = mark_of(shell, request, windows, mask_only=asked.mask_only)
    _warn_of_others(unfinished(folder.absolute(), mark))
    how: dict[str, Any] = {"mask_only": asked.mask_only, "overwrite": asked.overwrite, "progress": bar}
    with stream(shell, request, windows, folder, places=places, **how) as results:
        for place, result in zip(places, results, strict=True):
            content = job.record(result.pruned, job.run, result.before, result.after, None)
            result.save(content)
            yield Result(place, result.pruned, result.before, result.after, content)


def _warn_of_others(folders: list[Path]) -> None:
    for left in folders:
        warn(f"another run's unfinished work is left in {left}: give its command again, or delete it")


def _run_of(place: Path, *, mask_only: bool) -> str | None:
    """The run that a result came from, None where there is none or it does not say."""
    return recorded_masks(place) if mask_only else recorded_run(place)


def _is_there(place: Path, run: str, asked: Asked) -> bool:
    """Whether a result is there already from this very run, which was cut off before it had written all of them."""
    if len(asked.sparsities) == 1 or asked.overwrite or not place.exists():
        return False
    if _run_of(place, mask_only=asked.mask_only) != run:
        raise PruningError(f"{place} exists already", hint="name another folder, or add --overwrite")
    say(f"{place} is there already, from this very command")
    return True


def _described(metric: Metric) -> dict[str, Any]:
    return {
        "name": metric.name,
        "source": metric.source,
        "formula": metric.formula,
        "per": metric.per,
        "params": dict(metric.params),
        "leaves": sorted(metric.leaves),
        "keys": asdict(metric.keys),
    }
