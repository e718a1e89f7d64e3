"""Fitness: how good a model is after pruning by a candidate, measured on a few windows of calibration-side text."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pzc.compiler.metric import Metric
from pzc.runtime.errors import PruningError
from pzc.runtime.evaluation.evaluate import window_losses
from pzc.runtime.models.layers import Layer, Layers, named_layers
from pzc.runtime.models.passes import Progress, silent
from pzc.runtime.pruning.dense import Dense
from pzc.runtime.pruning.masking import checked_score, masks_for
from pzc.runtime.pruning.targets import check_target
from pzc.runtime.scoring.masks import Target, mask_hash
from pzc.runtime.statistics.gather import Statistics, gather
from pzc.search.objective import Objective, Perplexity
from pzc.search.predictors import Predictors
from pzc.search.sketch import Sketches
from pzc.search.space import Genotype

LEAST_WINDOWS = 4
"""Fewer windows than this have no standard error worth the name."""

RUNGS = (0.0625, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
"""Shares of the fitness windows after which a candidate may leave the race: after the first, and before
`LEAST_WINDOWS`, only by far."""


def rungs_of(windows: int) -> list[int]:
    """After how many windows a candidate may leave the race. Fewer than eight are all run: with so few candidates would
    leave for what one window says."""
    if windows < 2 * LEAST_WINDOWS:
        return [windows]
    return sorted({max(1, round(share * windows)) for share in RUNGS})


BEHIND = 2.0
"""How many standard errors a candidate must be behind to leave: of 175 that came among the four best of their island in
four runs on SmolLM2-135M, one would have left, and of 74 that became the best, none."""

FAR = math.log(1.5)
"""How far behind in every window so far a candidate leaves at once, in nats: half as much perplexity again. In a run on
SmolLM2-135M half of those that lost were 5 nats behind in the first window, and of 97 that were measured in full none
was more than 0.04 behind."""

SAMPLE, LEAST_VALUES = 4096, 16
"""A score with fewer distinct values than this in a sample of a layer leaves its mask to the order of the weights."""


def dense_statistics(
    model: Any,
    layers: Layers,
    windows: Tensor,
    leaves: Collection[str],
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Statistics:
    """What scores read of a dense model: the leaves over `windows`, int64 `[n, length]`, and a copy of its weights."""
    found = gather(model, layers, windows, leaves, seed=seed, progress=progress)
    return replace(found, weights={layer.name: layer.weight.clone() for layer in layers.layers})


class Fitness:
    """A model with its dense weights and statistics kept, to measure one candidate after another.

    `statistics` are those of the dense model, with its weights; `windows`, int64 `[n, length]` of calibration-side
    text, measure the pruned one. A genotype brings its own group to `target`. With `dtype` candidates are raced on a
    copy of the model in that type, while scores, and what is measured by `on`, keep the model's own. `objective` makes
    what is measured of the dense model.
    """

    def __init__(
        self,
        model: Any,
        layers: Layers,
        statistics: Statistics,
        windows: Tensor,
        target: Target,
        *,
        dtype: torch.dtype | None = None,
        objective: Callable[[Any, Tensor], Objective] = Perplexity,
    ) -> None:
        self.layers, self.statistics, self.windows, self.target = layers, statistics, windows, target
        self.dense = Dense(layers, statistics.weights)
        self.precise = self.model = model
        self._racing = self.dense
        if dtype is not None and dtype != layers.layers[0].parameter.dtype:
            self.model = copy.deepcopy(model).to(dtype)
            self._racing = Dense(named_layers(self.model, [layer.name for layer in layers.layers]))
        self._objective_of = objective
        self._objective = objective(self.model, windows)
        self.sketches = Sketches(layers.layers, statistics, target)
        self._predictors = Predictors(layers.layers, statistics)
        self._sample = middle_layer(layers.layers)

    def masks(self, genotype: Genotype) -> tuple[dict[str, Tensor], str]:
        """The masks of every layer, bool `[out, in]`, and their hash. Raises NonFiniteScore, and PruningError for
        scores that are nearly all equal, or constant inside their group."""
        metric = Metric("candidate", genotype.core, genotype.per)
        target = replace(self.target, per=None)
        check_target(metric, target)
        self._check_ties(metric)
        masks = masks_for(metric, target, self.statistics, self.layers.layers)
        return masks, mask_hash(masks)

    def predicted(self, masks: dict[str, Tensor]) -> dict[str, float]:
        """What statistics alone say of masks."""
        return {name: round(value, 6) for name, value in self._predictors.of(masks).items()}

    def race(
        self,
        masks: dict[str, Tensor],
        cutoff: Sequence[float],
        rung: Callable[[int, float], None] = lambda number, loss: None,
    ) -> tuple[list[float], bool]:
        """Losses of the windows, rung after rung, and whether all were run; `rung` is told of each.

        `cutoff` holds the losses of the candidate to beat on the same windows; one that is behind it with
        confidence, by the paired differences, leaves. The model is left with the masks on.
        """
        self._racing.apply(masks)
        losses: list[float] = []
        for number, upto in enumerate(rungs_of(len(self.windows))):
            losses += self._objective.losses(self.model, len(losses), upto)
            rung(number, sum(losses) / len(losses))
            if not all(map(math.isfinite, losses)) or _behind(losses, cutoff, surely=number > 0):
                return losses, len(losses) == len(self.windows)
        return losses, True

    def further(self, genotypes: Iterable[Genotype], windows: Tensor, at_once: int = 1) -> Iterator[list[float]]:
        """Losses as a race measures them, of each genotype on other windows. On a CPU `at_once` threads share them."""
        self._racing.apply({})
        objective = self._objective_of(self.model, windows)
        for genotype in genotypes:
            self._racing.apply(self.masks(genotype)[0])
            yield objective.losses(self.model, 0, len(windows), at_once)

    def on(self, genotype: Genotype | None, windows: Tensor, at_once: int = 1) -> list[float]:
        """Losses of other windows after pruning by a genotype, in the model's own type; of the dense model for None.
        On a CPU `at_once` threads share the windows."""
        self.dense.apply(self.masks(genotype)[0] if genotype else {})
        return window_losses(self.precise, windows, at_once=at_once)

    def _check_ties(self, metric: Metric) -> None:
        """Refuse a score that has few distinct values on a layer of the middle block: its mask would be arbitrary."""
        scores = checked_score(metric.arm(self._sample.name), self.statistics, self._sample)
        some = scores.flatten()[:: max(1, scores.numel() // SAMPLE)]
        if len(some.unique()) < LEAST_VALUES:
            raise PruningError("most scores are equal")


def middle_layer(layers: Sequence[Layer]) -> Layer:
    """The first layer of the middle block."""
    blocks = sorted({layer.block for layer in layers})
    return next(layer for layer in layers if layer.block == blocks[len(blocks) // 2])


def _behind(losses: Sequence[float], cutoff: Sequence[float], *, surely: bool) -> bool:
    """Whether paired differences show that the cut-off is not reached: all of them by far or, where it may be told by
    their standard error, `surely`."""
    n = min(len(losses), len(cutoff))
    if n == 0:
        return False
    difference = torch.tensor(losses[:n]) - torch.tensor(cutoff[:n])
    if float(difference.min()) > FAR:
        return True
    if n < LEAST_WINDOWS or not surely:
        return False
    error = float(difference.std()) / math.sqrt(n)
    return float(difference.mean()) > BEHIND * error
