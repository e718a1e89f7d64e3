"""Trying one mask after another on a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pzc.runtime.models.layers import find_layers
from pzc.runtime.pruning.dense import Dense


def test_masks_come_and_go(tiny: Callable[..., Any]) -> None:
    model, untouched = tiny(), tiny()
    layers = find_layers(model)
    first, second, third = layers.layers[:3]
    dense = Dense(layers)
    one = torch.rand(first.shape, generator=torch.Generator().manual_seed(0)) > 0.5
    two = ~one

    assert dense.apply({first.name: one, third.name: torch.ones(third.shape, dtype=torch.bool)}) == 2
    assert torch.equal(first.weight, dense.weights[first.name] * one)
    assert dense.apply({first.name: one.clone()}) == 1  # the third layer loses its mask, the first keeps it
    assert dense.apply({first.name: two, second.name: torch.zeros(second.shape, dtype=torch.bool)}) == 2
    assert torch.equal(first.weight, dense.weights[first.name] * two)
    assert not second.weight.any()
    dense.restore()
    for name, value in model.state_dict().items():
        assert torch.equal(value, untouched.state_dict()[name])
