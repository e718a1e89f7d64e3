"""Pruning a model that is larger than memory: one decoder block at a time, from shard to shard.

What is written equals, bit for bit, what `prune` does to the model in memory: the same batches go through the same
modules in the same order. A run that is killed goes on at the last block that was finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from pzc.runtime.errors import REFUSALS, Hopeless, PruningError
from pzc.runtime.evaluation.uncertainty import perplexity
from pzc.runtime.files import reason_of
from pzc.runtime.models.passes import Progress, batches, check_windows, evaluating, silent, singly
from pzc.runtime.pruning.allocation import is_measured, leaves_for
from pzc.runtime.pruning.mask_files import check_mask_output
from pzc.runtime.pruning.prune import Pruned, check_text
from pzc.runtime.pruning.request import Request
from pzc.runtime.pruning.targets import shares_of
from pzc.runtime.quiet import quiet
from pzc.runtime.saving.checkpoint import check_free, check_output
from pzc.runtime.saving.identity import facts
from pzc.runtime.shard_writing import Copy
from pzc.runtime.statistics.forward import forward_leaves
from pzc.runtime.statistics.gather import passes_for
from pzc.runtime.statistics.sequential import Call
from pzc.runtime.streaming.flow import Flow
from pzc.runtime.streaming.kept import drop_blocks, join_blocks, keep_block, kept_file, kept_leaves, kept_statistics
from pzc.runtime.streaming.model import Shell, check_inside
from pzc.runtime.streaming.outputs import Masks, Output, Weights
from pzc.runtime.streaming.states import States
from pzc.runtime.streaming.sweeps import (
    Run,
    Sweep,
    backward,
    evaluate_pruned,
    find_limits,
    forward,
    head,
    losses,
    pruned,
)
from pzc.runtime.streaming.work import Journal, clear, empty, fingerprint, remove, unfinished, work_folder


@dataclass(frozen=True)
class Windows:
    """The windows to calibrate on, None where no pass needs them, and to evaluate on, `[0, length]` to measure nothing:
    int64 `[n, length]`."""

    calibration: Tensor | None
    evaluation: Tensor


@dataclass(frozen=True)
class Streamed:
    """A pruned model (or its masks) that is on the disk but has no name yet: what was done, the perplexity before and
    after, and `save(record)`, which gives it its name."""

    pruned: Pruned
    before: float
    after: float
    save: Callable[[Mapping[str, Any]], None]


@contextmanager
def stream(
    shell: Shell,
    request: Request,
    windows: Windows,
    output: Path,
    *,
    places: Sequence[Path] | None = None,
    mask_only: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Iterator[list[Streamed]]:
    """Prune a model from shards to shards, and measure it: a result for each target of the request, whose folder (with
    `mask_only`, its file of masks) appears at its place in `places`, or at `output` for a single one, when its `save`
    is called. What is unfinished stands beside `output`.

    Raises PruningError as `prune` does, when the model cannot be run block by block, and when another process does the
    same. What was finished by then is kept, for the same call to go on from.
    """
    given = [output] if places is None else list(places)
    for place in given:
        (check_mask_output if mask_only else check_output)(place, overwrite=overwrite)
    check_request(shell, request, windows)
    mark = mark_of(shell, request, windows, mask_only=mask_only)
    with work_folder(output.absolute(), mark) as folder:
        if _has_given_away(folder, len(request.targets)):
            empty(folder)
        try:
            outputs = [_output(shell, folder, k, mask_only=mask_only) for k in range(len(request.targets))]
            run, evaluation, calibration, file = _prepared(shell, request, windows, outputs, folder, progress)
            with evaluating(shell.model):
                _sweep(run, calibration, file, measures=bool(evaluation))
                measured = ["dense", *(pruned(k) for k in range(len(outputs)))]
                before, *after = (perplexity(losses(run, name, evaluation) if evaluation else []) for name in measured)
            if not run.journal.done("rest"):
                for each in outputs:
                    each.rest()
                run.journal.finish("rest", 1)
        except Exception as error:
            begun = Journal(folder / "work" / "journal.json").begun
            if isinstance(error, Hopeless) or not begun:  # nothing that would help the next time
                clear(folder)
            if not isinstance(error, OSError) or error.errno not in REFUSALS:
                raise
            hint = "the same command goes on at the last finished block" if begun else None
            raise PruningError(f"{output} cannot be written: {reason_of(error)}", hint=hint) from error
        saved: list[int] = []

        def save(k: int, record: Mapping[str, Any]) -> None:
            (check_mask_output if mask_only else check_free)(given[k], overwrite=overwrite)
            outputs[k].save(record, given[k].absolute(), given[k])
            saved.append(k)

        yield [Streamed(_summary(run, k), before, after[k], partial(save, k)) for k in range(len(outputs))]
    if len(saved) == len(outputs):
        remove(folder)
        for other in unfinished(output.absolute(), mark):
            remove(other)


def mark_of(shell: Shell, request: Request, windows: Windows, *, mask_only: bool = False) -> str:
    """By what a run's unfinished work is known."""
    found = facts(shell.loaded, shell.layers, request, windows.calibration, windows.evaluation)
    return f"stream-{fingerprint(found | {'mask_only': mask_only})}"


def check_request(shell: Shell, request: Request, windows: Windows) -> None:
    """Raise PruningError for what cannot be done to this model one block at a time."""
    check_inside(shell.layers)
    request.check(shell.layers.layers)
    if len(windows.evaluation):
        check_windows(shell.model, windows.evaluation)
    check_text(request, shell.model, windows.calibration)


def _has_given_away(folder: Path, results: int) -> bool:
    """Whether a run was cut off when a result of its had its name already: what is done of it is no longer here."""
    begun = (folder / "work" / "journal.json").is_file()
    return begun and not all((folder / "output" / str(k)).is_dir() for k in range(results))


def _output(shell: Shell, folder: Path, k: int, *, mask_only: bool) -> Output:
    place = folder / "output" / str(k)
    place.mkdir(exist_ok=True)
    return Masks(shell, place) if mask_only else weights_output(shell, place)


def weights_output(shell: Shell, place: Path) -> Weights:
    """Shards like the model's in the folder `place`, in the types that its weights have in memory."""
    dtypes = {
        key: dtype
        for key, dtype in shell.types.items()
        if (stored := shell.shards.tensors[key].torch_dtype).is_floating_point and stored != dtype
    }
    return Weights(shell, Copy(shell.shards, place, dtypes), place, partial(_write_settings, shell))


def _prepared(
    shell: Shell, request: Request, windows: Windows, outputs: Sequence[Output], folder: Path, progress: Progress
) -> tuple[Run, list[Tensor], list[Tensor], Path | None]:
    """The run, with the hidden states before the first block on the disk, the batches of windows to evaluate and to
    calibrate on, and where statistics of gradients are to be kept."""
    evaluation = list(batches(shell.model, windows.evaluation)) if len(windows.evaluation) else []
    states = States(folder / "work", shell.device)
    journal = Journal(folder / "work" / "journal.json")
    if journal.done("embeddings"):  # statistics are kept where the run began to, whatever is asked for now
        cache = journal.value("cache")
        request = replace(request, cache=Path(cache) if cache else None)
    file = kept_file(shell, request, windows.calibration)
    kept = kept_statistics(file, shell, kept_leaves(request)) if journal.value("kept", True) else {}
    if journal.value("kept") and not kept:
        raise PruningError(f"{file} is gone, which this run began with", hint=f"delete {folder} to begin anew")
    calibration = _calibration(shell, request, windows, kept=bool(kept))
    flow = Flow(shell.model, shell.layers.blocks)
    calls: dict[tuple[int, int], list[Call]] = {}
    with torch.no_grad(), evaluating(shell.model), shell.around():
        for ids in (*calibration, *evaluation):
            shape = ids.shape[0], ids.shape[1]
            if shape not in calls:
                calls[shape] = flow.calls(ids)
        if not journal.done("embeddings"):
            states.write("calibration", 0, (flow.entering(ids) for ids in calibration))
            for name in ("dense", *(pruned(k) for k in range(len(outputs)))):
                states.write(name, 0, (flow.entering(ids) for ids in evaluation))
            cache = str(request.cache.absolute()) if request.cache else None
            journal.finish("embeddings", 1, kept=bool(kept), cache=cache)
    count = 0 if windows.calibration is None else len(windows.calibration)
    run = Run(
        shell, request, count, calls, flow, states, journal, outputs, folder / "work", progress, kept,
    )  # fmt: skip
    return run, evaluation, calibration, file


def _calibration(shell: Shell, request: Request, windows: Windows, *, kept: bool) -> list[Tensor]:
    """The batches in which `prune` would run the calibration windows; none where no pass needs them."""
    needed = passes_for(request.early - (kept_leaves(request) if kept else frozenset())) or request.walked
    if windows.calibration is None or not needed:
        return []
    return list((batches if request.together else singly)(shell.model, windows.calibration))


def _sweep(run: Run, calibration: list[Tensor], file: Path | None, *, measures: bool) -> None:
    """Go over the blocks as often as the request's leaves need. `file` is where statistics of gradients are kept;
    unless the run `measures`, nothing is evaluated."""
    request = run.request
    gradients = "backward" in passes_for(request.early - (kept_leaves(request) if run.kept else frozenset()))
    early, measured = forward_leaves(request.early), is_measured(request.allocation)
    walks = request.by_block
    keeps: Literal["", "first"] = "first" if walks else ""
    before = "before" if early or walks else None
    first = False
    if gradients:
        then = _then(request)
        allocating = forward_leaves(leaves_for(request.allocation))
        forward(run, Sweep("dense", allocating, moves="before", dense=True, measures=measured, keeps="all"))
        head(run, calibration)
        keeping = kept_leaves(request)

        def keep(index: int, tables: Mapping[str, Any]) -> None:
            if file and keeping:
                keep_block(run.work, index, tables, keeping)

        backward(run, then, keep)
        if file and keeping and not run.journal.done("kept"):
            join_blocks(run.work, run.depth, file)
            run.journal.finish("kept", 1)
            drop_blocks(run.work, run.depth)
        if then == "prune":
            if measures:
                evaluate_pruned(run)
            return
    elif request.joint:
        forward(run, Sweep("scores", early, before, dense=True, scores=True, keeps=keeps))
    elif measured:
        forward(run, Sweep("measures", early, "before" if early else None, dense=True, measures=True, keeps=keeps))
    else:
        first = True
    if request.joint:
        find_limits(run)
    gathers = request.walked | (early if first else frozenset())
    moves = ("after" if walks and request.sequential else "before") if gathers else None
    forward(run, Sweep("blocks", gathers, moves, dense=first, prunes=True))


def _then(request: Request) -> Literal["prune", "scores", "tables"]:
    """What becomes of a block when its gradients are known."""
    if request.joint:
        return "scores"
    return "tables" if request.by_block and request.sequential else "prune"


def _write_settings(shell: Shell, folder: Path) -> None:
    """The configuration and the tokenizer, as transformers saves them with a model."""
    model: Any = shell.model
    model.config.architectures = [type(model).__name__]
    with quiet():
        model.config.save_pretrained(folder)
        if model.can_generate():
            model.generation_config.save_pretrained(folder)
        shell.loaded.tokenizer.save_pretrained(folder)


def _summary(run: Run, k: int) -> Pruned:
    counts: dict[str, tuple[int, int, int]] = run.journal.value("layers", [])[k]
    return Pruned.of(
        {layer.name: counts[layer.name] for layer in run.shell.layers.layers},
        run.request,
        run.request.targets[k],
        run.journal.seconds,
        damped=run.journal.value("damped", {}),
        allocated=shares_of(run.targets[k]),
        unreached=tuple(run.journal.value("unreached", [])),
    )
