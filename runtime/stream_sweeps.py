"""Sweeps over a model's decoder blocks, one block in memory at a time: forward, backward, and what is done at the head.

Sets of hidden states are known by name: `calibration`, and the evaluation windows twice, as the `dense` and as the
`pruned` model puts them out. `gradient` is that of the loss by the calibration's hidden states.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pzc.compiler.metric import Metric
from pzc.runtime.activations import Table
from pzc.runtime.forward import collecting, forward_leaves
from pzc.runtime.gradients import folding, loss_scale
from pzc.runtime.layers import Layer, Layers, zeros
from pzc.runtime.masking import checked_score, masks_for, worth_compiling
from pzc.runtime.masks import Target
from pzc.runtime.passes import Progress, cross_entropy, vocabulary_of
from pzc.runtime.sequential import Call, run_block
from pzc.runtime.shards import Copy, Shards
from pzc.runtime.statistics import Statistics, of_weights
from pzc.runtime.stream_flow import Flow
from pzc.runtime.stream_model import Shell
from pzc.runtime.stream_scores import Limit, ScoreFile, kept, limits_of
from pzc.runtime.stream_states import States
from pzc.runtime.stream_work import Journal
from pzc.runtime.targets import group_of
from pzc.runtime.unreached import unreached_of
from pzc.runtime.values import write_masked

LOGITS_AT_ONCE = 1 << 22
"""Logits of evaluation windows that are held at once."""


@dataclass(frozen=True, eq=False)
class Run:
    """All that the sweeps of one run share. `windows` is the number of calibration windows, `calls` what each block is
    called with, by the shape `(n, length)` of a batch."""

    shell: Shell
    metric: Metric
    target: Target
    seed: int
    windows: int
    calls: Mapping[tuple[int, int], Sequence[Call]]
    flow: Flow
    states: States
    journal: Journal
    copy: Copy
    work: Path
    progress: Progress

    @property
    def depth(self) -> int:
        return len(self.shell.blocks)

    def through(self, block: nn.Module, index: int, hidden: Tensor) -> Tensor:
        """What a block puts out for a batch of hidden states."""
        return run_block(block, hidden, self.calls[hidden.shape[0], hidden.shape[1]][index])

    def is_joint(self, layer: Layer) -> bool:
        """Whether a layer is compared with those of other blocks."""
        return not self.target.pattern and group_of(self.metric.arm(layer.name), self.target) == "model"

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
    ("before" it is pruned) or pruned ("after"). `dense`: so do the evaluation windows. `scores`: the block's scores are
    kept, for a group of the whole model. `prunes`: the block is pruned and written. `pruned`: the evaluation windows go
    through the pruned block. `keeps`: the calibration's hidden states are kept for the way back.
    """

    stage: str
    gathers: frozenset[str] = frozenset()
    moves: str | None = None
    dense: bool = False
    scores: bool = False
    prunes: bool = False
    pruned: bool = False
    keeps: bool = False

    @property
    def spent(self) -> tuple[str, ...]:
        """The sets whose states before a block are not needed once it is done."""
        found = {"dense": self.dense, "pruned": self.pruned, "calibration": bool(self.moves) and not self.keeps}
        return tuple(name for name, over in found.items() if over)


def forward(run: Run, sweep: Sweep, source: Shards | None = None) -> None:
    """Go from the first block to the last. `source` has the weights, where it is not the dense model."""
    last = run.depth - 1
    for index in range(run.journal.done(sweep.stage), run.depth):
        following = index + 1 if index < last else None
        found: dict[str, tuple[int, int, int]] = {}
        with torch.no_grad(), run.shell.block(index, following=following, source=source) as block:
            members = run.shell.layers.of_block(index)
            tables = _gathered(run, sweep, block, index, members)
            if sweep.dense:
                run.advance("dense", block, index)
            if sweep.scores:
                keep_scores(run, index, members, tables)
            if sweep.prunes:
                found = prune_block(run, index, members, tables)
            if sweep.moves == "after" and index < last:
                run.advance("calibration", block, index)
            if sweep.pruned:
                run.advance("pruned", block, index)
        run.copy.settle()
        _note(run, sweep.stage, index + 1, found, tables)
        for name in sweep.spent:
            run.states.drop(name, index)
        run.progress(sweep.stage, index + 1, run.depth)


def _note(
    run: Run, stage: str, steps: int, found: Mapping[str, tuple[int, int, int]], tables: Mapping[str, Table]
) -> None:
    """Note that a block is done: the zeros of its layers, and which experts nothing reached."""
    layers = {**run.journal.value("layers", {}), **found}
    unreached = [*dict.fromkeys([*run.journal.value("unreached", []), *unreached_of(tables)])]
    run.journal.finish(stage, steps, layers=layers, unreached=unreached)


def _gathered(run: Run, sweep: Sweep, block: nn.Module, index: int, members: Sequence[Layer]) -> Mapping[str, Table]:
    """Run the calibration through the dense block, and give the statistics that came of it."""
    if not sweep.gathers and sweep.moves != "before":
        return {}
    with collecting(members, sweep.gathers, run.windows) as tables:
        outputs = (run.through(block, index, hidden) for hidden in run.states.read("calibration", index))
        if sweep.moves == "before" and (sweep.keeps or index + 1 < run.depth):
            run.states.write("calibration", index + 1, outputs)
        else:
            _exhaust(outputs)
    return tables() if sweep.gathers else {}


def _exhaust(values: Iterable[object]) -> None:
    for _ in values:
        pass


def prune_block(
    run: Run, index: int, members: Sequence[Layer], tables: Mapping[str, Table]
) -> dict[str, tuple[int, int, int]]:
    """Prune the block that is in memory and write it; zeros before, zeros after, and size of each layer."""
    limits: dict[str, Limit] = run.journal.value("limits", {})
    alone = [layer for layer in members if layer.name not in limits]
    statistics = _statistics(run, index, members, tables)
    masks = masks_for(run.metric, run.target, statistics, alone, fused=worth_compiling(run.shell.layers))
    masks |= {
        layer.name: kept(run.scores_of(layer), limits[layer.name]).to(run.shell.device)
        for layer in members
        if layer.name in limits
    }
    some = Layers(run.shell.layers.blocks, tuple(members))
    before = zeros(some)
    for layer in members:
        write_masked(layer.weight, layer.weight, masks[layer.name])
    after = zeros(some)
    for slot in run.shell.blocks[index]:
        run.copy.write(slot.stored.key, slot.tensor)
    return {layer.name: (before[layer.name], after[layer.name], layer.size) for layer in members}


def _statistics(run: Run, index: int, members: Sequence[Layer], tables: Mapping[str, Table]) -> Statistics:
    """The statistics of a block: those given, those kept on the disk, and those of the weights."""
    earlier = read_tables(run, index)
    leaves = run.metric.leaves
    joined = {
        layer.name: {**of_weights(layer, leaves), **earlier.get(layer.name, {}), **tables.get(layer.name, {})}
        for layer in members
    }
    return Statistics(joined, run.windows, run.seed, run.depth)


def keep_scores(run: Run, index: int, members: Sequence[Layer], tables: Mapping[str, Table]) -> None:
    """Keep the scores of the block's layers that are compared with those of other blocks, and what the others need."""
    statistics = _statistics(run, index, members, tables)
    joint = [layer for layer in members if run.is_joint(layer)]
    for layer in joint:
        arm = run.metric.arm(layer.name)
        run.scores_of(layer).write(checked_score(arm, statistics, layer, worth_compiling(run.shell.layers)))
    if len(joint) < len(members):
        write_tables(run, index, tables)


def find_limits(run: Run) -> None:
    """Find what is pruned of each group that goes over the whole model, from the scores of all blocks."""
    if run.journal.done("limits"):
        return
    found: dict[str, Limit] = {}
    for arm in run.metric.arms:
        layers = [x for x in run.shell.layers.layers if run.is_joint(x) and run.metric.arm(x.name) == arm]
        limits = limits_of([run.scores_of(layer) for layer in layers], float(run.target.sparsity))
        found |= dict(zip((layer.name for layer in layers), limits, strict=True))
    run.journal.finish("limits", 1, limits=found)


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


def backward(run: Run, then: Literal["prune", "scores", "tables"]) -> None:
    """Go from the last block to the first with the gradients of the dense model; each block is run again to have its
    graph. Blocks are pruned on the way, or their scores or their statistics kept for a sweep to come."""
    stage = "backward"
    leaves = run.metric.leaves
    for done in range(run.journal.done(stage), run.depth):
        index = run.depth - 1 - done
        members = run.shell.layers.of_block(index)
        found: dict[str, tuple[int, int, int]] = {}
        with run.shell.block(index, following=index - 1 if index else None) as block:
            gathers = forward_leaves(leaves) if then != "tables" else frozenset[str]()
            with collecting(members, gathers, run.windows) as collected, folding(block, members, leaves) as folded:
                inputs = _back(run, block, index)
                if index:
                    run.states.write("gradient", index, inputs)
                else:
                    _exhaust(inputs)
            tables = _joined(folded(run.windows), collected() if gathers else {})
            with torch.no_grad():
                if then == "prune":
                    found = prune_block(run, index, members, tables)
                elif then == "scores":
                    keep_scores(run, index, members, tables)
                else:
                    write_tables(run, index, tables)
        run.copy.settle()
        _note(run, stage, done + 1, found, tables)
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


def _joined(first: Mapping[str, Table], second: Mapping[str, Table]) -> dict[str, Table]:
    return {name: {**table, **second.get(name, {})} for name, table in first.items()}


def write_tables(run: Run, index: int, tables: Mapping[str, Table]) -> None:
    """Keep a block's statistics on the disk."""
    flat = {f"{name}/{leaf}": value.contiguous() for name, table in tables.items() for leaf, value in table.items()}
    save_file(flat, _tables_of(run, index))


def read_tables(run: Run, index: int) -> dict[str, Table]:
    """What was kept of a block, if anything."""
    path = _tables_of(run, index)
    found: dict[str, Table] = {}
    if path.is_file():
        with safe_open(path, "pt", device=str(run.shell.device)) as stored:
            for key in stored.keys():  # noqa: SIM118
                name, _, leaf = key.rpartition("/")
                found.setdefault(name, {})[leaf] = stored.get_tensor(key)
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
