"""Losses of several metrics at several targets on one model, window by window, for paired comparisons."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev

from torch import Tensor, nn

from pzc.compiler.metric import Metric
from pzc.runtime.dense import Dense
from pzc.runtime.errors import ConstantScore, NonFiniteScore
from pzc.runtime.evaluate import perplexity, window_losses
from pzc.runtime.layers import find_layers
from pzc.runtime.masks import Target
from pzc.runtime.passes import Progress, silent
from pzc.runtime.prune import check_pattern, check_target, masks_for
from pzc.runtime.statistics import gather


@dataclass(frozen=True)
class Scored:
    """A metric at a target, or the dense model, which has neither: nats a token of each evaluation window, or why the
    metric could not be measured."""

    metric: Metric | None
    target: Target | None
    losses: tuple[float, ...]
    failure: str = ""

    @property
    def perplexity(self) -> float:
        """NaN where the metric could not be measured."""
        return perplexity(self.losses) if self.losses else math.nan


def scored(
    model: nn.Module,
    metrics: Sequence[Metric],
    calibration: Tensor | None,
    evaluation: Tensor,
    targets: Sequence[Target],
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Iterator[Scored]:
    """The dense model, then every metric one-shot at every target; the model is left dense.

    Windows are int64 `[n, length]`; statistics are gathered once, from the dense model. A metric whose score is
    constant or not finite comes with its failure; whatever else goes wrong raises PruningError.
    """
    layers = find_layers(model)
    for target in targets:
        check_pattern(target, layers.layers)
    dense = Dense(layers)
    yield Scored(None, None, tuple(window_losses(model, evaluation)))
    leaves = frozenset().union(*(m.leaves for m in metrics))
    gathered = gather(model, layers, calibration, leaves, seed=seed, progress=progress)
    statistics = replace(gathered, weights=dense.weights)
    try:
        for metric in metrics:
            for target in targets:
                try:
                    check_target(metric, target)
                    dense.apply(masks_for(metric, target, statistics, layers.layers))
                except (ConstantScore, NonFiniteScore) as error:
                    yield Scored(metric, target, (), error.message)
                    continue
                yield Scored(metric, target, tuple(window_losses(model, evaluation)))
    finally:
        dense.restore()


def ratio(losses: Sequence[float], against: Sequence[float]) -> tuple[float, float]:
    """The ratio of two perplexities and its standard error from the paired differences of their windows.

    With d the differences of the losses, the ratio is e^mean(d), and its error e^mean(d) · s(d) / √n by the delta
    method; NaN for one window.
    """
    differences = [a - b for a, b in zip(losses, against, strict=True)]
    value = math.exp(min(700.0, mean(differences)))
    error = stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan
    return value, value * error
