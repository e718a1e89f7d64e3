"""How much the masks of two metrics differ on a model: one gathering of statistics, no weight is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pzc.compiler.metric import Metric
from pzc.runtime.models.layers import find_layers
from pzc.runtime.models.passes import Progress, silent
from pzc.runtime.pruning.masking import masks_for
from pzc.runtime.pruning.targets import check_target
from pzc.runtime.scoring.masks import Target
from pzc.runtime.statistics.gather import gather


@dataclass(frozen=True)
class LayerDifference:
    """Of a layer's `weights`, how many one metric keeps and the other prunes, and how many each prunes."""

    name: str
    weights: int
    differing: int
    pruned: tuple[int, int]

    @property
    def share(self) -> float:
        """The share of mask bits that differ."""
        return self.differing / self.weights


def difference(
    model: nn.Module,
    metrics: tuple[Metric, Metric],
    target: Target,
    windows: Tensor | None,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> list[LayerDifference]:
    """Compare the masks of two metrics layer by layer, in the model's order.

    `windows` are calibration tokens `[n, length]`; metrics of weights alone need none. Statistics are the dense
    model's. Raises PruningError, and its kinds where a score is constant or not finite.
    """
    layers = find_layers(model)
    for metric in metrics:
        check_target(metric, target, layers.layers)
    leaves = metrics[0].leaves | metrics[1].leaves
    statistics = gather(model, layers, windows, leaves, seed=seed, progress=progress)
    first, second = (masks_for(metric, target, statistics, layers.layers, progress) for metric in metrics)
    return [_of_layer(layer.name, first, second) for layer in layers.layers]


def _of_layer(name: str, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> LayerDifference:
    a, b = first[name], second[name]
    pruned = (int(torch.count_nonzero(~a)), int(torch.count_nonzero(~b)))
    return LayerDifference(name, a.numel(), int(torch.count_nonzero(a ^ b)), pruned)
