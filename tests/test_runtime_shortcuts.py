"""What a walk leaves out: products that nobody reads, and blocks that only have to hand on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pzc.runtime.errors import PruningError
from pzc.runtime.models.layers import Layer, find_layers
from pzc.runtime.pruning.prune import carry_out
from pzc.runtime.pruning.request import Request
from pzc.runtime.statistics.sequential import through_blocks
from pzc.runtime.statistics.shortcuts import Enough, ending_at, last_to_read

Tables = Mapping[str, dict[str, Tensor]]


def products(model: nn.Module, windows: Tensor, leaves: set[str]) -> tuple[Counter[str], dict[str, dict[str, Tensor]]]:
    """How often each layer multiplies in a walk that changes nothing, and the statistics that it finds."""
    counts = Counter[str]()
    found: dict[str, dict[str, Tensor]] = {}
    layers = find_layers(model)
    linear = nn.functional.linear
    names = {layer.parameter.data_ptr(): layer.name for layer in layers.layers}

    def counted(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        counts[names.get(weight.data_ptr(), "")] += 1
        return linear(x, weight, bias)

    def visit(tables: Tables, block: Sequence[Layer]) -> None:
        found.update(tables)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.functional, "linear", counted)
        through_blocks(model, layers, windows, leaves, visit)
    return counts, found


def test_the_last_product_of_a_block_is_made_once_for_its_input(
    tiny: Callable[..., Any], windows: torch.Tensor
) -> None:
    counts, found = products(tiny(), windows, {"X.l2"})
    n = len(windows)
    last = "model.layers.2"  # which no block follows, and which hands on in the walk that sees to the chain
    assert counts[f"{last}.mlp.up_proj"] == n
    assert counts[f"{last}.mlp.down_proj"] == 1
    assert counts["model.layers.1.mlp.down_proj"] == 1 + n
    whole, both = products(tiny(), windows, {"X.l2", "Y.l2"})
    assert whole[f"{last}.mlp.down_proj"] == n  # its output is read
    assert all(torch.equal(found[name]["X.l2"], both[name]["X.l2"]) for name in found)


def test_a_pass_ends_only_where_its_end_is_certain(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    block = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    layers = find_layers(nn.ModuleList([block])).layers
    x = torch.ones(1, 4)
    run = partial(block, x)
    assert last_to_read(block, layers, {"X.l2", "H.factor"}, run) is block[1]
    assert last_to_read(block, layers, {"Y.l2"}, run) is None
    assert last_to_read(block, layers, {"X.l2"}, lambda: (run(), run())) is None  # twice
    assert last_to_read(block, layers, {"X.l2"}, lambda: block[0](x)) is None  # not every layer
    with ending_at(block[1]), pytest.raises(Enough):
        run()
    assert torch.equal(run(), block[1](block[0](x)))


def test_without_restoring_finished_blocks_stay_pruned(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    model, kept = tiny(), tiny()
    for each in (model, kept):  # what the second block reads is not finite
        each.model.layers[1].input_layernorm.weight.data.fill_(torch.inf)
    for each, restores in ((model, False), (kept, True)):
        with pytest.raises(PruningError, match="finite"):
            carry_out(each, Request.of("wanda", sequential=True), windows, restores=restores)
        first = find_layers(each).of_block(0)
        assert all(int((layer.weight == 0).sum()) == (0 if restores else layer.size // 2) for layer in first)
