"""Sketches: what a candidate would prune, from a few rows of every layer. A small part of the work that whole masks
take, and enough to tell how much alike two candidates are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from pzc.compiler.metric import Metric
from pzc.runtime.errors import PruningError
from pzc.runtime.layers import Layer
from pzc.runtime.masking import masks_for
from pzc.runtime.masks import Target
from pzc.runtime.statistics import Statistics
from pzc.search.predictors import Predictors
from pzc.search.space import Genotype

WEIGHTS, ROWS = 1 << 21, 8
"""About how many weights of a model are looked at, and of each layer at least how many rows."""

BITS = 1 << 17
"""About how many bits of the masks are kept."""


@dataclass(frozen=True, eq=False)
class Sketch:
    """Some bits of the masks, packed as uint8 `[bits / 8]`, and what the predictors say of the rows, `[predictors]`."""

    bits: npt.NDArray[np.uint8]
    predicted: npt.NDArray[np.float64]


class Sketches:
    """Makes sketches. Sums over `out` go over the rows that are looked at."""

    def __init__(self, layers: Sequence[Layer], statistics: Statistics, target: Target) -> None:
        stride = -(-sum(layer.size for layer in layers) // WEIGHTS)
        weights: dict[str, Tensor] = {}
        tables: dict[str, dict[str, Tensor]] = {}
        self._layers = []
        for layer in layers:
            out = layer.shape[0]
            rows = slice(None, None, max(1, min(stride, out // ROWS)))
            weight = statistics.of(layer, ("W",))["W"][rows].contiguous()
            tables[layer.name] = {
                name: value[rows].contiguous() if len(value) == out and out > 1 else value
                for name, value in statistics.tables[layer.name].items()
            }
            weights[layer.name] = weight
            self._layers.append(_thin(layer, weight))
        self._statistics = replace(statistics, tables=tables, weights=weights)
        self._target = target
        self._predictors = Predictors(self._layers, self._statistics)
        self._every = max(1, sum(layer.size for layer in self._layers) // BITS)

    def of(self, genotype: Genotype) -> Sketch | None:
        """The sketch of a candidate; None where its score is not finite, or constant inside its group."""
        metric = Metric("candidate", genotype.core, genotype.per)
        try:
            masks = masks_for(metric, self._target, self._statistics, self._layers)
        except PruningError:
            return None
        kept = np.concatenate([masks[layer.name].numpy(force=True).reshape(-1) for layer in self._layers])
        predicted = np.log([max(value, 1e-6) for value in self._predictors.of(masks).values()])
        return Sketch(np.packbits(kept[:: self._every]), predicted)


def _thin(layer: Layer, weight: Tensor) -> Layer:
    """A layer of some rows of another."""
    module = nn.Module()
    module.register_parameter("weight", nn.Parameter(weight, requires_grad=False))
    return Layer(layer.name, module, layer.block, expert=layer.expert)
