"""Dense weights kept beside a model, so that one mask after another can be tried on it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pzc.runtime.models.layers import Layers
from pzc.runtime.scoring.values import write_masked


class Dense:
    """The weights of a model's layers as they were when this was made.

    `weights` holds a copy of each, `[out, in]` in the model's type, unless copies are given; give it to
    `Statistics.weights` so that scores are of the dense weights whatever mask is on.
    """

    def __init__(self, layers: Layers, weights: Mapping[str, Tensor] | None = None) -> None:
        self._layers = layers
        self._on: dict[str, Tensor] = {}
        self.weights = weights or {layer.name: layer.weight.clone() for layer in layers.layers}

    def apply(self, masks: Mapping[str, Tensor]) -> int:
        """Make the model's weights dense where bool `[out, in]` is true, and zero elsewhere.

        Only layers whose mask changed are written; a layer without a mask gets its dense weight back. Masks
        are kept, not copied: don't change them afterwards. Returns how many layers were written.
        """
        written = 0
        for layer in self._layers.layers:
            old, new = self._on.get(layer.name), masks.get(layer.name)
            if new is old or (new is not None and old is not None and torch.equal(new, old)):
                continue
            dense = self.weights[layer.name]
            if new is None:
                layer.weight.copy_(dense)
                del self._on[layer.name]
            else:
                write_masked(layer.weight, dense, new)
                self._on[layer.name] = new
            written += 1
        return written

    def put_back(self) -> None:
        """Give every layer its dense weight back, whatever has been done to the model beside `apply`."""
        for layer in self._layers.layers:
            layer.weight.copy_(self.weights[layer.name])
        self._on.clear()

    def restore(self) -> None:
        """Give every layer its dense weight back."""
        self.apply({})
