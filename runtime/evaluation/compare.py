"""Several metrics and targets on one model: statistics are gathered once, the dense weights are kept, masks and updated
weights come and go.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Unpack

from torch import Tensor, nn

from pzc.compiler.metric import Metric
from pzc.compiler.pattern import pattern_text
from pzc.grammar.diagnostics import some
from pzc.runtime.errors import ConstantScore, NoGradient, NonFiniteScore, PruningError
from pzc.runtime.evaluation.evaluate import compared_losses, window_losses
from pzc.runtime.evaluation.uncertainty import perplexity
from pzc.runtime.models.layers import Layers, find_layers, zeros
from pzc.runtime.models.passes import Progress, silent, unchanged
from pzc.runtime.pruning.dense import Dense
from pzc.runtime.pruning.masking import masks_for
from pzc.runtime.pruning.obs import COLUMNS
from pzc.runtime.pruning.prune import carry_out
from pzc.runtime.pruning.request import Request, Way, patterns
from pzc.runtime.pruning.targets import check_pattern, check_target, group_of
from pzc.runtime.scoring.masks import Target
from pzc.runtime.statistics.gather import gather


@dataclass(frozen=True)
class Compared:
    """One metric at one target: share of zeros in all layers, losses of the evaluation windows, seconds for scores,
    masks and evaluation.

    `per` is the group, those of the metric's arms joined by `, `, or the pattern that replaced them; the dense model's
    result has no metric, no target and none of these. `divergences` are KL(dense ‖ pruned) of the windows in nats a
    token where they were asked for. `failure` says why a metric could not be measured.
    """

    metric: Metric | None
    target: Target | None
    per: str | None
    sparsity: float
    losses: tuple[float, ...]
    seconds: float
    divergences: tuple[float, ...] = ()
    failure: str | None = None

    @property
    def perplexity(self) -> float:
        """NaN where the metric could not be measured."""
        return perplexity(self.losses)


def compare(
    model: nn.Module,
    metrics: Sequence[Metric],
    calibration: Tensor | None,
    evaluation: Tensor,
    targets: Sequence[Target],
    *,
    divergence: bool = False,
    progress: Progress = silent,
    **way: Unpack[Way],
) -> Iterator[Compared]:
    """The dense model, then every metric at every target, all targets of a metric together; the model is left dense.

    Windows are int64 `[n, length]`. The update is "none" where nothing else is said, and "own" is each metric's own,
    which is SparseGPT's for the zoo's `sparsegpt`. One-shot runs without an update share one gathering of statistics;
    others walk the model, each for itself, and share those of gradients.

    With `divergence` the dense model reads every window again beside each pruned one. A metric that can't be measured
    so, since its score is constant or not finite, no gradient reaches a layer or its groups go over blocks, is a result
    with its failure; whatever else goes wrong raises PruningError, and an option that is none of `Way` TypeError.
    """
    if unknown := way.keys() - Way.__annotations__.keys():
        raise TypeError(f"compare() takes no {some(sorted(unknown))}")
    layers = find_layers(model, patterns(way.get("include", ())), patterns(way.get("exclude", ())))
    for target in targets:
        check_pattern(target, layers.layers)
    dense = Dense(layers)
    start = time.perf_counter()
    with unchanged(model):
        before = window_losses(model, evaluation)
    sparsity = sum(zeros(layers).values()) / layers.size
    at_itself = (0.0,) * len(before) if divergence else ()
    yield Compared(None, None, None, sparsity, tuple(before), time.perf_counter() - start, at_itself)
    seed = way.get("seed", 0)
    cache = Path(folder) if (folder := way.get("cache")) else None
    runs = _runs(metrics, targets, way)
    leaves = frozenset().union(*(run.metric.leaves for run in runs if not run.walks))
    gathered = gather(model, layers, calibration, leaves, seed=seed, progress=progress, cache=cache)
    statistics = replace(gathered, weights=dense.weights)
    reference = _twin(model, layers, dense) if divergence else None
    with TemporaryDirectory(prefix="pzc-") as shared:
        try:
            for run in runs:
                start = time.perf_counter()
                try:
                    if isinstance(run.asked, PruningError):
                        raise run.asked
                    if run.asked.by_block:
                        dense.put_back()
                        walked = replace(run.asked, cache=cache or Path(shared))
                        carry_out(model, walked, calibration, restores=False)
                    else:
                        check_target(run.metric, run.target)
                        dense.apply(masks_for(run.metric, run.target, statistics, layers.layers))
                except PruningError as error:
                    if error is not run.asked and not isinstance(error, ConstantScore | NoGradient | NonFiniteScore):
                        raise
                    yield run.failed(error.message, time.perf_counter() - start)
                else:
                    losses, divergences = _measured(model, reference, evaluation)
                    sparsity = sum(zeros(layers).values()) / layers.size
                    yield run.measured(sparsity, losses, divergences, time.perf_counter() - start)
        finally:
            dense.put_back()


def needed(metrics: Sequence[Metric], targets: Sequence[Target], **way: Unpack[Way]) -> frozenset[str]:
    """All leaves that `compare` gathers, and so the texts that it reads."""
    runs = _runs(metrics, targets, way)
    return frozenset().union(
        *(run.asked.needed if isinstance(run.asked, Request) else run.metric.leaves for run in runs)
    )


def _measured(model: nn.Module, reference: nn.Module | None, windows: Tensor) -> tuple[list[float], list[float]]:
    """The losses of windows `[n, length]`, and their divergences from the reference where there is one."""
    if reference is None:
        return window_losses(model, windows), []
    both = compared_losses(model, reference, windows)
    return both.losses, both.divergences


@dataclass(frozen=True)
class _Run:
    """A metric at a target, and the request for it or why there is none."""

    metric: Metric
    target: Target
    asked: Request | PruningError

    @property
    def walks(self) -> bool:
        """Whether it goes block by block through what is pruned already, or updates weights."""
        return isinstance(self.asked, Request) and self.asked.by_block

    @property
    def groups(self) -> str:
        """What it compares weights inside of."""
        if self.target.pattern:
            return pattern_text(self.target.pattern)
        if isinstance(self.asked, Request) and self.asked.chooses:
            return f"{COLUMNS} columns"
        return ", ".join(dict.fromkeys(group_of(arm, self.target) for arm in self.metric.arms))

    def measured(
        self, sparsity: float, losses: Sequence[float], divergences: Sequence[float], seconds: float
    ) -> Compared:
        return Compared(self.metric, self.target, self.groups, sparsity, tuple(losses), seconds, tuple(divergences))

    def failed(self, why: str, seconds: float) -> Compared:
        return Compared(self.metric, self.target, self.groups, math.nan, (), seconds, failure=why)


def _runs(metrics: Sequence[Metric], targets: Sequence[Target], way: Way) -> list[_Run]:
    """Every metric at every target, the targets of a metric together."""
    update = way.get("update", "none")
    asked: Way = {**way, "update": None if update == "own" else update}
    return [_Run(metric, target, _request(metric, target, asked)) for metric in metrics for target in targets]


def _request(metric: Metric, target: Target, way: Way) -> Request | PruningError:
    """The run for a metric and target, or why there is none."""
    try:
        return Request.of(metric, sparsity=float(target.sparsity), pattern=target.pattern, per=target.per, **way)
    except PruningError as error:
        return error


def _twin(model: nn.Module, layers: Layers, dense: Dense) -> nn.Module:
    """A second model that stays dense: its layers read the copies that `dense` keeps, and all else is shared, so that
    it takes no memory of its own; but stacks of experts are copied whole."""
    shared: dict[int, object] = {id(t): t for t in (*model.parameters(), *model.buffers())}
    stacks: dict[int, nn.Parameter] = {}
    for layer in layers.layers:
        parameter, kept = layer.parameter, dense.weights[layer.name]
        if layer.index is None:
            shared[id(parameter)] = nn.Parameter(kept.T if layer.transposed else kept, requires_grad=False)
            continue
        if id(parameter) not in stacks:
            stacks[id(parameter)] = nn.Parameter(parameter.detach().clone(), requires_grad=False)
        layer.oriented(stacks[id(parameter)]).copy_(kept)
    return copy.deepcopy(model, shared | stacks)
