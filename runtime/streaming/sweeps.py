"""Sweeps over a model's decoder blocks, one block in memory at a time: forward, backward, and what is done at the head.

Sets of hidden states are known by name: `calibration`, and the evaluation windows several times, as the `dense` model
puts them out and as it does when it is pruned to each target (`pruned-0`, …). `gradient` is that of the loss by the
calibration's hidden states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pzc.runtime.files import apart, save_tensors
from pzc.runtime.heap import give_back
from pzc.runtime.models.layers import Layer, Layers, check_finite, zeros
from pzc.runtime.models.passes import Progress, cross_entropy, vocabulary_of
from pzc.runtime.pruning.allocation import measure, targets_for
from pzc.runtime.pruning.block import Block, pruned_blocks
from pzc.runtime.pruning.masking import checked_score, worth_compiling
from pzc.runtime.pruning.request import Request
from pzc.runtime.pruning.targets import Targets
from pzc.runtime.scoring.values import write_masked
from pzc.runtime.shards import Stored, read
from pzc.runtime.statistics.activations import Table
from pzc.runtime.statistics.forward import collecting, forward_leaves
from pzc.runtime.statistics.gather import Statistics, of_weights
from pzc.runtime.statistics.gradients import folding, loss_scale
from pzc.runtime.statistics.sequential import Call, run_block
from pzc.runtime.statistics.shortcuts import run_for_inputs
from pzc.runtime.statistics.unreached import marks_in, unreached_of
from pzc.runtime.streaming.flow import Flow
from pzc.runtime.streaming.model import Shell
from pzc.runtime.streaming.outputs import Output
from pzc.runtime.streaming.scores import Limit, ScoreFile, kept, limits_of
from pzc.runtime.streaming.states import States, cut_short
from pzc.runtime.streaming.work import Journal

LOGITS_AT_ONCE = 1 << 21
"""Logits of evaluation windows that are held at once."""

Counts = tuple[int, int, int]
"""Of a layer, weights that are zero before and after it is pruned, and all of them."""


def pruned(target: int) -> str:
    """The name of the states of the model as it is pruned to a target."""
    return f"pruned-{target}"


@dataclass(frozen=True, eq=False)
class Run:
    """All that the sweeps of one run share. `windows` is the number of calibration windows, `calls` what each block is
    called with, by the shape `(n, length)` of a batch; `outputs` has a place for what is pruned to each target; `kept`
    are statistics of gradients from an earlier run, by LEAF/LAYER."""

    shell: Shell
    request: Request
    windows: int
    calls: Mapping[tuple[int, int], Sequence[Call]]
    flow: Flow
    states: States
    journal: Journal
    outputs: Sequence[Output]
    work: Path
    progress: Progress
    kept: Mapping[str, Stored] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        return len(self.shell.blocks)

    @cached_property
    def targets(self) -> list[Targets]:
        """What each layer is pruned to, for each of the request's targets. Only when all blocks were measured, where
        the allocation needs that."""
        r = self.request
        if r.allocation == "uniform":
            return list(r.targets)
        measures = {int(block): float(value) for block, value in self.journal.value("measures", {}).items()}
        layers = self.shell.layers.layers
        return [targets_for(r.allocation, r.metric, t, layers, measures, adaptive=r.chooses) for t in r.targets]

    def through(self, block: nn.Module, index: int, hidden: Tensor) -> Tensor:
        """What a block puts out for a batch of hidden states."""
        return run_block(block, hidden, self.calls[hidden.shape[0], hidden.shape[1]][index])

    def is_joint(self, layer: Layer) -> bool:
        """Whether a layer is compared with those of other blocks."""
        return self.request.joint and self.request.is_joint(self.request.metric.arm(layer.name).per)

    def scores_of(self, layer: Layer) -> ScoreFile:
        """Where the scores of such a layer are kept."""
        return ScoreFile(self.work / f"{layer.name}.scores", layer.shape)

    def advance(self, name: str, block: nn.Module, index: int) -> None:
        """Take a set of hidden states through a block."""
        self.states.write(name, index + 1, (self.through(block, index, h) for h in self.states.read(name, index)))


@dataclass(frozen=True)
class Sweep:
    """What a forward sweep does with each block, in the order of the fields.

    `gathers`: statistics of the calibration, of these leaves. `moves`: the calibration goes through the block, dense
    ("before" it is pruned) or pruned ("after"). `dense`: so do the evaluation windows. `measures`: the block is
    measured for the allocation, and its statistics are kept. `scores`: the block's scores are kept, for a group of the
    whole model. `prunes`: the block is pruned, written, and the evaluation windows go through it. `keeps`: of the
    calibration's hidden states those before the "first" block or "all" are kept for a sweep to come.
    """

    stage: str
    gathers: frozenset[str] = frozenset()
    moves: str | None = None
    dense: bool = False
    measures: bool = False
    scores: bool = False
    prunes: bool = False
    keeps: Literal["", "first", "all"] = ""

    def spent(self, index: int, results: int) -> list[str]:
        """The sets whose states before block `index` are not needed once it is done."""
        kept = self.keeps == "all" or (self.keeps == "first" and index == 0)
        found = ["dense"] if self.dense else []
        found += [pruned(k) for k in range(results)] if self.prunes else []
        return [*found, "calibration"] if self.moves and not kept else found


def forward(run: Run, sweep: Sweep) -> None:
    """Go from the first block of the dense model to the last."""
    last = run.depth - 1
    for index in range(run.journal.done(sweep.stage), run.depth):
        found: dict[str, Any] = {}
        with torch.no_grad(), run.shell.block(index, following=index + 1 if index < last else None) as block:
            members = run.shell.layers.of_block(index)
            if sweep.dense:  # the first of all sweeps
                check_finite(members)
            tables = _gathered(run, sweep, block, index, members)
            if sweep.dense:
                run.advance("dense", block, index)
            if sweep.measures and members:
                found["measures"] = _measured(run, index, members, tables)
                write_tables(run, index, tables)
            if sweep.scores:
                keep_scores(run, index, members, tables)
            if sweep.prunes:
                found |= prune_block(run, index, block, members, tables)
            if sweep.moves == "after" and index < last:
                run.advance("calibration", block, index)
        _note(run, sweep.stage, index + 1, tables, found)
        del tables  # factors of Hessians may be larger than the block
        for name in sweep.spent(index, len(run.outputs)):
            run.states.drop(name, index)
        run.progress(sweep.stage, index + 1, run.depth)


def _note(run: Run, stage: str, steps: int, tables: Mapping[str, Table], found: Mapping[str, Any]) -> None:
    """Note that a block is done, what was found of it, and which experts nothing reached."""
    for output in run.outputs:
        output.settle()
    unreached = [*dict.fromkeys([*run.journal.value("unreached", []), *unreached_of(tables)])]
    run.journal.finish(stage, steps, **{"unreached": unreached, **found})


def _gathered(run: Run, sweep: Sweep, block: nn.Module, index: int, members: Sequence[Layer]) -> Mapping[str, Table]:
    """Run the calibration through the dense block, and give the statistics that came of it."""
    if not sweep.gathers and sweep.moves != "before":
        return {}
    with collecting(members, sweep.gathers, run.windows) as tables:
        runs = (partial(run.through, block, index, hidden) for hidden in run.states.read("calibration", index))
        if sweep.moves == "before" and (sweep.keeps == "all" or index + 1 < run.depth):
            run.states.write("calibration", index + 1, (through() for through in runs))
        else:
            run_for_inputs(block, members, sweep.gathers, runs)
    found = tables() if sweep.gathers else {}
    give_back()  # to factor Hessians takes more memory than is left of them
    return found


def _exhaust(values: Iterable[object]) -> None:
    for _ in values:
        pass


def _measured(run: Run, index: int, members: Sequence[Layer], tables: Mapping[str, Table]) -> dict[str, float]:
    """The measures of all blocks so far, by their numbers as text."""
    allocation = str(run.request.allocation)
    return {**run.journal.value("measures", {}), str(index): measure(allocation, members, Statistics(tables))}


def prune_block(
    run: Run, index: int, block: nn.Module, members: tuple[Layer, ...], tables: Mapping[str, Table],
    *, evaluates: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Prune the block that is in memory to each target and write it, and take the evaluation windows through it where
    it `evaluates`. The block is left as the last target has it. Returns what the journal notes."""
    known = [
        {x.name: kept(run.scores_of(x), limits[x.name]).to(run.shell.device) for x in members if x.name in limits}
        for limits in run.journal.value("limits", [])
    ]
    fused = worth_compiling(run.shell.layers)
    statistics = _statistics(run, index, members)
    results = pruned_blocks(run.request, run.targets, statistics, tables, members, known, fused=fused)
    some = Layers(run.shell.layers.blocks, members)
    before = zeros(some)
    dense = {layer.name: layer.weight.clone() if len(results) > 1 else layer.weight for layer in members}
    counts: list[dict[str, Counts]] = list(run.journal.value("layers", [{} for _ in results]))
    for k, (result, output) in enumerate(zip(results, run.outputs, strict=True)):
        _put_on(members, dense, result)
        after = zeros(some)
        output.write(index, members, result)
        if evaluates:
            run.advance(pruned(k), block, index)
        counts[k] = {**counts[k], **{x.name: (before[x.name], after[x.name], x.size) for x in members}}
    return {"layers": counts, "damped": {**run.journal.value("damped", {}), **results[0].damped}}


def _put_on(members: Sequence[Layer], dense: Mapping[str, Tensor], result: Block) -> None:
    for layer in members:
        old, new = dense[layer.name], result.weights.get(layer.name)
        write_masked(layer.weight, old if new is None else new.to(old.dtype), result.masks[layer.name])


def evaluate_pruned(run: Run) -> None:
    """Take the evaluation windows through the blocks as they were written."""
    for k, output in enumerate(run.outputs):
        name = pruned(k)
        stage = "pruned" if k == 0 else name
        for index in range(run.journal.done(stage), run.depth):
            following = index + 1 if index + 1 < run.depth else None
            with torch.no_grad(), output.pruned(index, following) as block:
                run.advance(name, block, index)
            run.journal.finish(stage, index + 1)
            run.states.drop(name, index)
            run.progress(stage, index + 1, run.depth)


def _statistics(run: Run, index: int, members: Sequence[Layer]) -> Statistics:
    """The statistics of a block that were gathered before: those kept on the disk, and those of the weights."""
    earlier = read_tables(run, index)
    leaves = run.request.leaves
    tables = {x.name: {**of_weights(x, leaves), **earlier.get(x.name, {}), **_kept_of(run, x)} for x in members}
    return Statistics(tables, run.windows, run.request.seed, run.depth)


def _kept_of(run: Run, layer: Layer) -> Table:
    """A layer's statistics of gradients from an earlier run."""
    found: Table = {}
    for leaf in run.request.leaves:
        if f"{leaf}/{layer.name}" in run.kept:
            found[leaf] = read(run.kept[f"{leaf}/{layer.name}"]).to(run.shell.device)
    return found | marks_in(run.kept, layer)


def keep_scores(run: Run, index: int, members: Sequence[Layer], tables: Mapping[str, Table]) -> None:
    """Keep the scores of the block's layers that are compared with those of other blocks, and what the others need."""
    statistics = _statistics(run, index, members).joined(tables)
    joint = [layer for layer in members if run.is_joint(layer)]
    for layer in joint:
        arm = run.request.metric.arm(layer.name)
        run.scores_of(layer).write(checked_score(arm, statistics, layer, worth_compiling(run.shell.layers)))
    if len(joint) < len(members):
        write_tables(run, index, tables)


def find_limits(run: Run) -> None:
    """Find what each target prunes of each group that goes over the whole model, from the scores of all blocks."""
    if run.journal.done("limits"):
        return
    metric = run.request.metric
    every: list[dict[str, Limit]] = []
    for target in run.request.targets:
        found: dict[str, Limit] = {}
        for arm in metric.arms:
            layers = [x for x in run.shell.layers.layers if run.is_joint(x) and metric.arm(x.name) == arm]
            limits = limits_of([run.scores_of(layer) for layer in layers], float(target.sparsity))
            found |= dict(zip((layer.name for layer in layers), limits, strict=True))
        every.append(found)
    run.journal.finish("limits", 1, limits=every)


def head(run: Run, windows: Sequence[Tensor]) -> None:
    """Keep the gradient of each window's loss by the hidden states that leave the last block."""
    if run.journal.done("head"):
        return
    scale = loss_scale(run.shell.layers.layers)

    def gradients() -> Iterator[Tensor]:
        for hidden, ids in zip(run.states.read("calibration", run.depth), windows, strict=True):
            hidden.requires_grad_()
            loss = cross_entropy(run.flow.leaving(hidden), ids).sum() * scale
            yield torch.autograd.grad(loss, hidden)[0]

    with torch.enable_grad(), run.shell.around():
        run.states.write("gradient", run.depth, gradients())
    run.journal.finish("head", 1)


def backward(run: Run, then: Literal["prune", "scores", "tables"], keep: Callable[[int, Any], None]) -> None:
    """Go from the last block to the first with the gradients of the dense model; each block is run again to have its
    graph. Blocks are pruned on the way, or their scores or their statistics kept for a sweep to come. `keep` gets each
    block's statistics of gradients."""
    stage, leaves = "backward", run.request.leaves
    gathers = forward_leaves(run.request.early) if then != "tables" else frozenset[str]()
    gathers |= run.request.walked if then == "prune" else frozenset()
    for done in range(run.journal.done(stage), run.depth):
        index = run.depth - 1 - done
        members = run.shell.layers.of_block(index)
        found: dict[str, Any] = {}
        with run.shell.block(index, following=index - 1 if index else None) as block:
            with collecting(members, gathers, run.windows) as collected, folding(block, members, leaves) as folded:
                inputs = _back(run, block, index)
                if index:
                    run.states.write("gradient", index, inputs)
                else:
                    _exhaust(inputs)
            gradients = folded(run.windows)
            keep(index, gradients)
            both = collected() if gathers else {}
            tables = {name: {**table, **both.get(name, {})} for name, table in gradients.items()}
            with torch.no_grad():
                if then == "prune":
                    found = prune_block(run, index, block, members, tables, evaluates=False)
                elif then == "scores":
                    keep_scores(run, index, members, tables)
                else:
                    write_tables(run, index, tables)
        _note(run, stage, done + 1, tables, found)
        run.states.drop("gradient", index + 1)
        run.states.drop("calibration", index + 1)
        run.progress(stage, done + 1, run.depth)


def _back(run: Run, block: nn.Module, index: int) -> Iterator[Tensor]:
    """Per window, the gradient of its loss by what enters a block, given that by what leaves it; the first block gives
    nothing of use."""
    inputs, outputs = run.states.read("calibration", index), run.states.read("gradient", index + 1)
    for hidden, gradient in zip(inputs, outputs, strict=True):
        hidden.requires_grad_(index > 0)
        torch.autograd.backward(run.through(block, index, hidden), gradient)
        yield hidden if hidden.grad is None else hidden.grad


def write_tables(run: Run, index: int, tables: Mapping[str, Table]) -> None:
    """Keep a block's statistics on the disk."""
    flat = {f"{name}/{leaf}": value for name, table in tables.items() for leaf, value in table.items()}
    save_tensors(_tables_of(run, index), apart(flat))


def read_tables(run: Run, index: int) -> dict[str, Table]:
    """What was kept of a block, if anything."""
    path = _tables_of(run, index)
    found: dict[str, Table] = {}
    if path.is_file():
        try:
            with safe_open(path, "pt", device=str(run.shell.device)) as stored:
                for key in stored.keys():  # noqa: SIM118
                    name, _, leaf = key.rpartition("/")
                    found.setdefault(name, {})[leaf] = stored.get_tensor(key)
        except SafetensorError as error:
            raise cut_short(path) from error
    return found


def _tables_of(run: Run, index: int) -> Path:
    return run.work / f"tables-{index:04d}.safetensors"


def losses(run: Run, name: str, windows: Iterable[Tensor]) -> list[float]:
    """Each evaluation window's mean cross-entropy in nats a predicted token, from the set's states after the last
    block. The head runs over some tokens at a time, since logits may be larger than a block."""
    if run.journal.value(name) is None:
        found: list[float] = []
        with torch.no_grad(), run.shell.around():
            for hidden, ids in zip(run.states.read(name, run.depth), windows, strict=True):
                found += [_loss(run, hidden[i : i + 1], ids[i : i + 1]) for i in range(len(ids))]
        run.journal.finish("perplexity", 1, **{name: found})
        run.states.drop(name, run.depth)
    return list(run.journal.value(name))


def _loss(run: Run, hidden: Tensor, ids: Tensor) -> float:
    """The mean loss of one window, from hidden states `[1, length, hidden]` and tokens `[1, length]`."""
    step = max(1, LOGITS_AT_ONCE // vocabulary_of(run.shell.model))
    parts = []
    for start in range(0, ids.shape[1] - 1, step):
        logits = run.flow.leaving(hidden[:, start : start + step])[0].float()
        targets = ids[0, start + 1 : start + 1 + step]
        parts.append(nn.functional.cross_entropy(logits[: len(targets)], targets, reduction="none"))
    every = torch.cat(parts)
    return float(every.sum() / len(every))
