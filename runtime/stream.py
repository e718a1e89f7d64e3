"""Pruning a model that is larger than memory: one decoder block at a time, from shard to shard.

What is written equals, bit for bit, what `prune` does to the model in memory: the same batches go through the same
modules in the same order. A run that is killed goes on at the last block that was finished.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pzc.compiler.metric import Metric
from pzc.runtime.checkpoint import check_output, described_arms, publish, versions
from pzc.runtime.errors import NonFiniteScore, PruningError
from pzc.runtime.evaluate import perplexity
from pzc.runtime.forward import forward_leaves
from pzc.runtime.masks import Target
from pzc.runtime.passes import Progress, batches, check_windows, evaluating, silent
from pzc.runtime.prune import Pruned
from pzc.runtime.quiet import quiet
from pzc.runtime.sequential import Call, NoChain
from pzc.runtime.shards import Copy, Shards
from pzc.runtime.statistics import passes_for
from pzc.runtime.stream_flow import Flow
from pzc.runtime.stream_model import Shell
from pzc.runtime.stream_states import States
from pzc.runtime.stream_sweeps import Run, Sweep, backward, find_limits, forward, head, losses
from pzc.runtime.stream_work import Journal, clear, fingerprint, remove, unfinished, work_folder
from pzc.runtime.targets import check_sequential, check_target


@dataclass(frozen=True)
class Request:
    """What is to be done: as the arguments of `prune`, with the windows to evaluate on, int64 `[n, length]`."""

    metric: Metric
    target: Target
    sequential: bool
    seed: int
    calibration: Tensor | None
    evaluation: Tensor


@dataclass(frozen=True)
class Streamed:
    """A pruned model that is on the disk but has no name yet: what was done, the perplexity before and after, the
    seconds of each stage, and `save(record)`, which gives it its name."""

    pruned: Pruned
    before: float
    after: float
    save: Callable[[Mapping[str, Any]], None]


@contextmanager
def stream(
    shell: Shell, request: Request, output: Path, *, overwrite: bool = False, progress: Progress = silent
) -> Iterator[Streamed]:
    """Prune a model from shards to shards, and measure it. The folder `output` appears when `save` is called.

    Raises PruningError as `prune` does, when the model cannot be run block by block, and when another process does the
    same. What was finished by then is kept, for the same call to go on from.
    """
    given, output = output, output.absolute()
    check_output(output, overwrite=overwrite)
    check_request(shell, request)
    mark = fingerprint(facts(shell, request))
    with work_folder(output, mark) as folder:
        try:
            run, evaluation, calibration = _prepared(shell, request, folder, progress)
            with evaluating(shell.model):
                _sweep(run, request, calibration)
                before = losses(run, "dense", evaluation)
                after = losses(run, "pruned", evaluation)
            _copy_rest(run)
        except (NonFiniteScore, NoChain):  # so it would end the next time too
            clear(folder)
            raise

        def save(record: Mapping[str, Any]) -> None:
            _write_settings(shell, folder / "output")
            publish(folder / "output", record, output, given)

        yield Streamed(_summary(run, request), perplexity(before), perplexity(after), save)
    if output.exists() and not (folder / "output").exists():
        remove(folder)
        for other in unfinished(output, mark):
            remove(other)


def unfinished_beside(shell: Shell, request: Request, output: Path) -> list[Path]:
    """The folders of other runs that were to write `output` and were cut off."""
    return unfinished(output.absolute(), fingerprint(facts(shell, request)))


def check_request(shell: Shell, request: Request) -> None:
    """Raise PruningError for what cannot be done to this model one block at a time."""
    layers = shell.layers.layers
    check_target(request.metric, request.target, layers)
    if request.sequential:
        check_sequential(request.metric, request.target)
    check_windows(shell.model, request.evaluation)
    if passes_for(request.metric.leaves):
        if request.calibration is None:
            raise PruningError("this metric needs calibration windows", hint="give calibration text")
        check_windows(shell.model, request.calibration)


def facts(shell: Shell, request: Request) -> dict[str, Any]:
    """All that the bytes of the result depend on."""
    return {
        "weights": shell.loaded.sha256,
        "config": hashlib.sha256((shell.folder / "config.json").read_bytes()).hexdigest(),
        "dtype": str(shell.loaded.dtype),
        "device": str(shell.device),
        "threads": torch.get_num_threads(),
        "layers": [layer.name for layer in shell.layers.layers],
        "arms": described_arms(request.metric, request.target),
        "target": asdict(request.target),
        "sequential": request.sequential,
        "seed": request.seed,
        "calibration": _hashed(request.calibration),
        "evaluation": _hashed(request.evaluation),
        "versions": versions(),
    }


def _hashed(windows: Tensor | None) -> str | None:
    if windows is None:
        return None
    return hashlib.sha256(f"{tuple(windows.shape)}".encode() + windows.contiguous().numpy().tobytes()).hexdigest()


def _prepared(
    shell: Shell, request: Request, folder: Path, progress: Progress
) -> tuple[Run, list[Tensor], list[Tensor]]:
    """The run, with the hidden states before the first block on the disk, and the batches of windows to evaluate and to
    calibrate on."""
    evaluation = list(batches(shell.model, request.evaluation))
    calibration = _calibration(shell, request)
    states = States(folder / "work", shell.device)
    journal = Journal(folder / "work" / "journal.json")
    flow = Flow(shell.model, shell.layers.blocks)
    calls: dict[tuple[int, int], list[Call]] = {}
    with torch.no_grad(), evaluating(shell.model), shell.around():
        for ids in (*calibration, *evaluation):
            shape = ids.shape[0], ids.shape[1]
            if shape not in calls:
                calls[shape] = flow.calls(ids)
        if not journal.done("embeddings"):
            states.write("calibration", 0, (flow.entering(ids) for ids in calibration))
            for name in ("dense", "pruned"):
                states.write(name, 0, (flow.entering(ids) for ids in evaluation))
            journal.finish("embeddings", 1)
    dtypes = {
        key: slot.tensor.dtype
        for key, slot in shell.slots.items()
        if slot.stored.torch_dtype.is_floating_point and slot.stored.torch_dtype != slot.tensor.dtype
    }
    copy = Copy(shell.shards, folder / "output", dtypes)
    windows = 0 if request.calibration is None else len(request.calibration)
    run = Run(
        shell, request.metric, request.target, request.seed, windows, calls, flow, states, journal, copy,
        folder / "work", progress,
    )  # fmt: skip
    return run, evaluation, calibration


def _calibration(shell: Shell, request: Request) -> list[Tensor]:
    """The batches in which `prune` would run the calibration windows; none where no pass needs them."""
    passes = passes_for(request.metric.leaves)
    if request.calibration is None or not passes:
        return []
    if passes == ("forward",) and not request.sequential:
        return list(batches(shell.model, request.calibration))
    return [window.to(shell.device) for window in request.calibration.split(1)]


def _sweep(run: Run, request: Request, calibration: list[Tensor]) -> None:
    """Go over the blocks as often as the metric's leaves need."""
    gathers = forward_leaves(run.metric.leaves)
    gradients = "backward" in passes_for(run.metric.leaves)
    by_block = request.sequential and bool(gathers)
    joint = any(run.is_joint(layer) for layer in run.shell.layers.layers)
    moves = "after" if by_block else "before" if gathers else None
    if gradients:
        forward(run, Sweep("dense", moves="before", dense=True, keeps=True))
        head(run, calibration)
        backward(run, "tables" if by_block else "scores" if joint else "prune")
    elif joint:
        forward(run, Sweep("scores", gathers, moves, dense=True, scores=True))
    if joint:
        find_limits(run)
        forward(run, Sweep("blocks", prunes=True, pruned=True))
    elif by_block or not gradients:
        forward(run, Sweep("blocks", gathers, moves, dense=not gradients, prunes=True, pruned=True))
    else:
        forward(run, Sweep("pruned", pruned=True), Shards(run.shell.shards.files, run.copy.places))


def _copy_rest(run: Run) -> None:
    """Write all tensors that are in no block as they are."""
    if run.journal.done("rest"):
        return
    pruned = {slot.stored.key for slots in run.shell.blocks for slot in slots}
    for key, stored in run.shell.shards.tensors.items():
        if key not in pruned:
            run.copy.copy(stored)
    run.copy.settle()
    run.journal.finish("rest", 1)


def _write_settings(shell: Shell, folder: Path) -> None:
    """The configuration and the tokenizer, as transformers saves them with a model."""
    model: Any = shell.model
    model.config.architectures = [type(model).__name__]
    with quiet():
        model.config.save_pretrained(folder)
        if model.can_generate():
            model.generation_config.save_pretrained(folder)
        shell.loaded.tokenizer.save_pretrained(folder)


def _summary(run: Run, request: Request) -> Pruned:
    counts: dict[str, tuple[int, int, int]] = run.journal.value("layers", {})
    layers = {layer.name: counts[layer.name] for layer in run.shell.layers.layers}
    weights = sum(size for _, _, size in layers.values())
    return Pruned(
        target=request.target,
        sequential=request.sequential and bool(forward_leaves(run.metric.leaves)),
        passes=passes_for(run.metric.leaves),
        layers={name: after / size for name, (_, after, size) in layers.items()},
        sparsity=sum(after for _, after, _ in layers.values()) / weights,
        dense_sparsity=sum(before for before, _, _ in layers.values()) / weights,
        weights=weights,
        seconds=run.journal.seconds,
        unreached=tuple(run.journal.value("unreached", [])),
    )
