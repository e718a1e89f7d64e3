"""Several metrics and targets on one model: statistics are gathered once, the dense weights are kept, masks come and
go.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from pzc.compiler.metric import Metric
from pzc.runtime.dense import Dense
from pzc.runtime.errors import ConstantScore, NonFiniteScore
from pzc.runtime.evaluate import compared_losses, perplexity, window_losses
from pzc.runtime.layers import Layers, find_layers
from pzc.runtime.masking import masks_for
from pzc.runtime.masks import Target, pattern_text
from pzc.runtime.passes import Progress, silent
from pzc.runtime.statistics import gather
from pzc.runtime.targets import check_pattern, check_target, group_of


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
        return perplexity(self.losses) if self.losses else math.nan


def compare(
    model: nn.Module,
    metrics: Sequence[Metric],
    calibration: Tensor | None,
    evaluation: Tensor,
    targets: Sequence[Target],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    divergence: bool = False,
    seed: int = 0,
    progress: Progress = silent,
    cache: Path | None = None,
) -> Iterator[Compared]:
    """The dense model, then one-shot every metric at every target, all targets of a metric together; the model is left
    dense.

    Windows are int64 `[n, length]`; `include` and `exclude` choose layers as `find_layers` does; in the folder `cache`
    statistics of gradients are kept. With `divergence` the dense model reads every window again beside each pruned one.
    A metric whose score is constant or not finite is a result with its failure; whatever else goes wrong raises
    PruningError.
    """
    layers = find_layers(model, include, exclude)
    for target in targets:
        check_pattern(target, layers.layers)
    dense = Dense(layers)
    start = time.perf_counter()
    before = window_losses(model, evaluation)
    zeros = sum(int((w == 0).sum()) for w in dense.weights.values())
    at_itself = (0.0,) * len(before) if divergence else ()
    yield Compared(None, None, None, zeros / layers.size, tuple(before), time.perf_counter() - start, at_itself)
    leaves = frozenset().union(*(metric.leaves for metric in metrics))
    gathered = gather(model, layers, calibration, leaves, seed=seed, progress=progress, cache=cache)
    statistics = replace(gathered, weights=dense.weights)
    reference = _twin(model, layers, dense) if divergence else None
    try:
        for metric, target in ((m, t) for m in metrics for t in targets):
            start = time.perf_counter()
            groups = dict.fromkeys(group_of(arm, target) for arm in metric.arms)
            written = pattern_text(target.pattern) if target.pattern else ", ".join(groups)
            try:
                check_target(metric, target)
                masks = masks_for(metric, target, statistics, layers.layers)
            except (ConstantScore, NonFiniteScore) as error:
                seconds = time.perf_counter() - start
                yield Compared(metric, target, written, math.nan, (), seconds, failure=error.message)
                continue
            dense.apply(masks)
            if reference is None:
                losses, divergences = window_losses(model, evaluation), []
            else:
                both = compared_losses(model, reference, evaluation)
                losses, divergences = both.losses, both.divergences
            pruned = sum(int((w == 0).logical_or(~masks[name]).sum()) for name, w in dense.weights.items())
            yield Compared(
                metric, target, written, pruned / layers.size, tuple(losses), time.perf_counter() - start,
                tuple(divergences),
            )  # fmt: skip
    finally:
        dense.restore()


def _twin(model: nn.Module, layers: Layers, dense: Dense) -> nn.Module:
    """A second model that stays dense: its layers read the copies that `dense` keeps, and all else is shared, so that
    it takes no memory of its own."""
    shared: dict[int, object] = {id(t): t for t in (*model.parameters(), *model.buffers())}
    for layer in layers.layers:
        kept = layer.oriented(dense.weights[layer.name])
        shared[id(layer.parameter)] = nn.Parameter(kept, requires_grad=False)
    return copy.deepcopy(model, shared)
