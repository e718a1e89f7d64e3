"""Several metrics on one model: statistics are gathered once, the dense weights are kept, masks come and go."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from pzc.compiler.metric import Metric
from pzc.runtime.dense import Dense
from pzc.runtime.errors import ConstantScore, NonFiniteScore
from pzc.runtime.evaluate import perplexity, window_losses
from pzc.runtime.layers import find_layers
from pzc.runtime.masks import Target
from pzc.runtime.passes import Progress, silent
from pzc.runtime.prune import check_pattern, check_target, group_of, masks_for
from pzc.runtime.statistics import gather


@dataclass(frozen=True)
class Compared:
    """One metric's result: share of zeros in all layers, perplexity, seconds for scores, masks and evaluation.

    `per` is the group, those of the metric's arms joined by `, `, or the pattern that replaced them; the dense model's
    result has no metric and none of these.
    `failure` says why a metric could not be measured.
    """

    metric: Metric | None
    per: str | None
    sparsity: float
    perplexity: float
    seconds: float
    failure: str | None = None


def compare(
    model: nn.Module,
    metrics: Sequence[Metric],
    calibration: Tensor | None,
    evaluation: Tensor,
    target: Target,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    seed: int = 0,
    progress: Progress = silent,
    cache: Path | None = None,
) -> Iterator[Compared]:
    """The dense model, then each metric one-shot to `target`; the model is left dense.

    Windows are int64 `[n, length]`; `include` and `exclude` choose layers as `find_layers` does; in the folder
    `cache` statistics of gradients are kept. A metric whose score
    is constant or not finite is a result with its failure; whatever else goes wrong raises PruningError.
    """
    layers = find_layers(model, include, exclude)
    check_pattern(target, layers.layers)
    dense = Dense(layers)
    start = time.perf_counter()
    before = perplexity(window_losses(model, evaluation))
    zeros = sum(int((w == 0).sum()) for w in dense.weights.values())
    yield Compared(None, None, zeros / layers.size, before, time.perf_counter() - start)
    leaves = frozenset().union(*(metric.leaves for metric in metrics))
    gathered = gather(model, layers, calibration, leaves, seed=seed, progress=progress, cache=cache)
    statistics = replace(gathered, weights=dense.weights)
    try:
        for metric in metrics:
            start = time.perf_counter()
            groups = dict.fromkeys(group_of(arm, target) for arm in metric.arms)
            written = f"{target.pattern[0]}:{target.pattern[1]}" if target.pattern else ", ".join(groups)
            try:
                check_target(metric, target)
                masks = masks_for(metric, target, statistics, layers.layers)
            except (ConstantScore, NonFiniteScore) as error:
                yield Compared(metric, written, math.nan, math.nan, time.perf_counter() - start, error.message)
                continue
            dense.apply(masks)
            after = perplexity(window_losses(model, evaluation))
            pruned = sum(int((w == 0).logical_or(~masks[name]).sum()) for name, w in dense.weights.items())
            yield Compared(metric, written, pruned / layers.size, after, time.perf_counter() - start)
    finally:
        dense.restore()
