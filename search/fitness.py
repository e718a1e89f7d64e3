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
from pzc.search.racing import FREE, Race, Verdict, rungs_of
from pzc.search.sketch import Sketches
from pzc.search.space import Genotype
from pzc.search.spread import spread

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
        race: Race = FREE,
        rung: Callable[[int, float], None] = lambda number, loss: None,
    ) -> tuple[list[float], Verdict | None]:
        """Losses of the windows, rung after rung, and why not all were run, if so; `rung` is told of each.

        Losses that are not finite end a race. The model is left with the masks on.
        """
        self._racing.apply(masks)
        losses: list[float] = []
        for number, upto in enumerate(rungs_of(len(self.windows))):
            losses += self._objective.losses(self.model, len(losses), upto)
            rung(number, sum(losses) / len(losses))
            if upto == len(self.windows) or not all(map(math.isfinite, losses)):
                break
            if verdict := race.verdict(losses, surely=number > 0):
                return losses, verdict
        return losses, None

    def in_full(self, masks: dict[str, Tensor], at_once: int = 1) -> list[float]:
        """Losses of all windows, as a race without rivals has them. On a CPU `at_once` threads share them."""
        self._racing.apply(masks)
        return self._objective.losses(self.model, 0, len(self.windows), at_once)

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
        some = scores.flatten()[torch.from_numpy(spread(scores.numel(), SAMPLE)).to(scores.device)]
        if len(some.unique()) < LEAST_VALUES:
            raise PruningError("most scores are equal")


def middle_layer(layers: Sequence[Layer]) -> Layer:
    """The first layer of the middle block."""
    blocks = sorted({layer.block for layer in layers})
    return next(layer for layer in layers if layer.block == blocks[len(blocks) // 2])
