"""Several metrics on one model: statistics are gathered once, the dense weights are kept, masks come and go."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from pzc.compiler.core import leaves_of
from pzc.compiler.metric import Metric
from pzc.runtime.dense import Dense
from pzc.runtime.evaluate import perplexity, window_losses
from pzc.runtime.layers import find_layers
from pzc.runtime.masks import Target
from pzc.runtime.passes import Progress, silent
from pzc.runtime.prune import check_target, masks_for
from pzc.runtime.statistics import Statistics, gather


@dataclass(frozen=True)
class Compared:
    """One metric's result: share of zeros in all layers, perplexity, seconds for scores, masks and evaluation.

    The dense model's has no metric and no group.
    """

    metric: Metric | None
    per: str | None
    sparsity: float
    perplexity: float
    seconds: float


def compare(
    model: nn.Module,
    metrics: Sequence[Metric],
    calibration: Tensor,
    evaluation: Tensor,
    target: Target,
    *,
    per: str | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Iterator[Compared]:
    """The dense model, then each metric one-shot in its own group, or all in `per`; the model is left dense.

    Windows are int64 `[n, length]`. Raises PruningError; a metric whose score is not finite raises NonFiniteScore.
    """
    layers = find_layers(model)
    for metric in metrics:
        check_target(metric.core, replace(target, per=per or metric.per), layers.layers)
    dense = Dense(layers)
    start = time.perf_counter()
    before = perplexity(window_losses(model, evaluation))
    zeros = sum(int((w == 0).sum()) for w in dense.weights.values())
    yield Compared(None, None, zeros / layers.size, before, time.perf_counter() - start)
    statistics = gather(model, layers, calibration, _leaves(metrics), seed=seed, progress=progress)
    statistics = Statistics(statistics.tables, statistics.windows, seed, dense.weights)
    try:
        for metric in metrics:
            start = time.perf_counter()
            group = per or metric.per
            masks = masks_for(metric.core, replace(target, per=group), statistics, layers.layers)
            dense.apply(masks)
            after = perplexity(window_losses(model, evaluation))
            pruned = sum(int((w == 0).logical_or(~masks[name]).sum()) for name, w in dense.weights.items())
            yield Compared(metric, group, pruned / layers.size, after, time.perf_counter() - start)
    finally:
        dense.restore()


def _leaves(metrics: Iterable[Metric]) -> frozenset[str]:
    return frozenset().union(*(leaves_of(m.core) for m in metrics))
