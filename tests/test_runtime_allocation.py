"""Allocations: each hits the total, and is what its paper says, by numpy."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pzc.compiler.load import load
from pzc.runtime.errors import PruningError
from pzc.runtime.models.layers import find_layers
from pzc.runtime.pruning.allocation import measures_of, targets_for
from pzc.runtime.pruning.allocation_file import check_allocation, read_allocation
from pzc.runtime.pruning.apportion import Cell, whole_steps
from pzc.runtime.pruning.measures import alpha, hill, owl
from pzc.runtime.pruning.prune import prune
from pzc.runtime.scoring.masks import Target
from pzc.runtime.statistics.gather import Statistics, gather

WANDA, MAGNITUDE = load("wanda"), load("magnitude")

steps = st.tuples(st.integers(2, 30), st.integers(1, 9), st.floats(0.01, 0.95)).map(lambda t: Cell(t[0] * t[1], *t[1:]))


@given(st.lists(steps, min_size=1, max_size=8), st.floats(0, 1))
def test_steps_never_make_more_than_the_total_and_as_much_as_fits(cells: list[Cell], part: float) -> None:
    room = sum(cell.size - cell.step for cell in cells)
    total = int(part * room)
    counts = whole_steps(cells, total)
    assert all(0 <= count < cell.size // cell.step for count, cell in zip(counts, cells, strict=True))
    left = total - sum(count * cell.step for count, cell in zip(counts, cells, strict=True))
    assert left >= 0
    open_cells = [c.step for n, c in zip(counts, cells, strict=True) if n < c.size // c.step - 1]
    assert left < min(open_cells, default=left + 1)


@given(st.lists(steps, min_size=1, max_size=8))
def test_a_cell_is_off_its_proposal_by_about_a_step(cells: list[Cell]) -> None:
    counts = whole_steps(cells, int(sum(cell.proposed * cell.size for cell in cells) + 1e-9))
    largest = max(cell.step for cell in cells)
    for count, cell in zip(counts, cells, strict=True):
        assert cell.proposed * cell.size - count * cell.step < cell.step * 2
        assert count * cell.step - cell.proposed * cell.size <= largest + cell.step


def shares_of(model: Any, result: Any) -> dict[int, float]:
    """The share of zeros by block, each layer counted by its size."""
    layers = find_layers(model).layers
    blocks = sorted({layer.block for layer in layers})
    return {
        b: sum(result.layers[x.name] * x.weight.numel() for x in layers if x.block == b)
        / sum(x.weight.numel() for x in layers if x.block == b)
        for b in blocks
    }


@pytest.mark.parametrize("allocation", ["owl", "alpha", {"blocks": [0.4, 0.5, 0.7]}, {"layers": {"q_proj": 0.2}}])
@pytest.mark.parametrize("per", ["row", "col", "layer", "block"])
@pytest.mark.parametrize("sparsity", [0.5, 0.37])
def test_each_allocation_hits_the_total(
    tiny: Callable[..., Any], windows: torch.Tensor, allocation: Any, per: str, sparsity: float
) -> None:
    model = tiny(hidden_size=32, intermediate_size=48)
    layers = find_layers(model).layers
    smallest = {"row": 16, "col": 32, "layer": 1, "block": 1}[per]  # k_proj has 16 rows
    result = prune(model, "wanda", windows=windows, sparsity=sparsity, per=per, allocation=allocation)
    wanted = int(Fraction(str(sparsity)) * result.weights)
    assert wanted - smallest < round(result.sparsity * result.weights) <= wanted
    assert len(set(result.layers.values())) > 1
    assert set(result.allocated) == {layer.name for layer in layers}
    for layer in layers if per != "block" else ():
        assert result.allocated[layer.name] == pytest.approx(result.layers[layer.name])


def test_owl_is_linear_in_the_share_of_outliers(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    model = tiny()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[::4, ::5] *= 30  # more outliers there
    layers = find_layers(model)
    statistics = gather(model, layers, windows, ["W", "X.l2"])
    found = owl(0.6, measures_of("owl", layers.layers, statistics))
    shares = []
    for block in range(3):
        scores = np.concatenate(
            [
                (np.abs(x.weight.numpy()) * statistics.tables[x.name]["X.l2"].numpy()).ravel()
                for x in layers.of_block(block)
            ]
        )
        shares.append((scores > 5 * scores.mean()).mean())
    # the release: D scaled to 0 … 2λ, less its mean, plus the target's density
    scaled = (np.array(shares) - min(shares)) / (max(shares) - min(shares)) * 0.16
    density = scaled - scaled.mean() + 0.4
    proposed = np.array([found[b] for b in range(3)])
    np.testing.assert_allclose(proposed - proposed.mean() + 0.6, 1 - density, atol=1e-6)
    assert max(found.values()) - min(found.values()) == pytest.approx(0.16)
    result = prune(model, "wanda", windows=windows, sparsity=0.6, per="layer", allocation="owl")
    np.testing.assert_allclose(list(shares_of(model, result).values()), 1 - density, atol=2e-3)


def test_alpha_is_linear_in_the_exponent_of_the_tail(tiny: Callable[..., Any]) -> None:
    model = tiny()
    layers = find_layers(model).layers

    def exponent(weight: np.ndarray) -> float:
        values = np.sort(np.linalg.eigvalsh(weight @ weight.T if len(weight) <= weight.shape[1] else weight.T @ weight))
        k = len(values) // 2
        return float(1 + k / np.log(values[-k:] / values[-k - 1]).sum())

    means = [np.mean([exponent(x.weight.double().numpy()) for x in layers if x.block == b]) for b in range(3)]
    for layer in layers:
        assert hill(layer.weight) == pytest.approx(exponent(layer.weight.double().numpy()), rel=1e-3)
    relative = 0.7 + 0.6 * (np.array(means) - min(means)) / (max(means) - min(means))
    found = alpha(0.5, measures_of("alpha", layers, Statistics()))
    np.testing.assert_allclose([found[b] for b in range(3)], 0.5 * relative, rtol=1e-3)
    result = prune(model, "magnitude", per="layer", allocation="alpha")
    np.testing.assert_allclose(list(shares_of(model, result).values()), 0.5 * relative / relative.mean(), atol=2e-3)


def test_a_heavier_tail_has_a_smaller_exponent() -> None:
    generator = np.random.default_rng(0)
    q, _ = np.linalg.qr(generator.normal(size=(64, 64)))
    for wanted in (2.0, 3.0, 5.0):
        eigenvalues = generator.pareto(wanted - 1, size=64) + 1
        weight = torch.from_numpy((q * np.sqrt(eigenvalues)).astype(np.float32))
        assert hill(weight) == pytest.approx(wanted, rel=0.5)
    assert hill(torch.eye(8)) == 1.0  # no tail at all
    assert hill(torch.zeros(4, 4)) == 1.0


def test_blocks_that_are_alike_are_pruned_alike(tiny: Callable[..., Any]) -> None:
    model = tiny()
    for block in model.model.layers[1:]:
        block.load_state_dict(model.model.layers[0].state_dict())
    result = prune(model, "magnitude", allocation="alpha")
    assert set(result.layers.values()) == {0.5}


def test_roles_are_named_and_the_rest_makes_up_for_them(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    model = tiny()
    layers = {"q_proj": 0.75, "layers.0.*": 0, "model.layers.2.mlp.*": 0.25}
    result = prune(model, "wanda", windows=windows, per="layer", allocation={"layers": layers})
    assert result.layers["model.layers.0.self_attn.q_proj"] == 0.75  # the first that matches counts
    assert result.layers["model.layers.1.self_attn.q_proj"] == 0.75
    assert result.layers["model.layers.0.mlp.up_proj"] == 0
    assert result.layers["model.layers.2.mlp.down_proj"] == 0.25
    rest = {result.layers[f"model.layers.{b}.self_attn.o_proj"] for b in (1, 2)}
    assert max(rest) - min(rest) < 0.01
    assert result.sparsity == 0.5


def test_all_roles_can_be_named(tiny: Callable[..., Any]) -> None:
    model = tiny()
    result = prune(model, "magnitude", per="layer", allocation={"layers": {"self_attn.*": 0.5, "mlp.*": 0.5}})
    assert set(result.layers.values()) == {0.5}


@pytest.mark.parametrize("pattern", ["4:8", "2:8"])
def test_blocks_get_their_own_n_of_m(tiny: Callable[..., Any], windows: torch.Tensor, pattern: str) -> None:
    model = tiny(num_hidden_layers=4)
    result = prune(model, "wanda", windows=windows, pattern=pattern, allocation={"blocks": [0.3, 0.5, 0.5, 0.7]})
    kept = [
        {int(n) for x in find_layers(model).of_block(b) for n in x.weight.reshape(-1, 8).count_nonzero(1)}
        for b in range(4)
    ]
    assert all(len(found) == 1 for found in kept)  # one N a block
    n = [found.pop() for found in kept]
    assert sum(n) == 4 * int(pattern[0])
    assert n[0] > n[1] >= n[3]
    assert abs(n[1] - n[2]) <= 1  # alike, but only one step was left
    assert result.sparsity == 1 - int(pattern[0]) / 8
    assert [result.allocated[f"model.layers.{b}.mlp.up_proj"] for b in range(4)] == [1 - k / 8 for k in n]


def test_sparsegpt_follows_an_allocation(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    for options in ({}, {"pattern": "4:8"}):
        result = prune(tiny(), "sparsegpt", windows=windows, allocation={"blocks": [0.25, 0.5, 0.75]}, **options)
        assert result.sparsity == 0.5
        blocks = {b: result.layers[f"model.layers.{b}.mlp.up_proj"] for b in range(3)}
        assert blocks == pytest.approx({0: 0.25, 1: 0.5, 2: 0.75})
    result = prune(tiny(), "sparsegpt", windows=windows, allocation={"layers": {"layers.1.*": 0}})
    assert result.layers["model.layers.1.mlp.up_proj"] == 0
    assert result.sparsity == 0.5


def test_targets_are_exact_counts(tiny: Callable[..., Any]) -> None:
    layers = find_layers(tiny()).layers
    targets = targets_for({"blocks": [0.3, 0.5, 0.6]}, MAGNITUDE, Target("row", 0.5), layers, {})
    for layer in layers:
        target = targets[layer.name]
        assert target
        assert (Fraction(target.sparsity) * layer.shape[1]).denominator == 1


def test_files_say_blocks_or_layers(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[layers]\nq_proj = 0.25\n"layers.0.*" = 0\n')
    (tmp_path / "a.json").write_text(json.dumps({"blocks": [0.25, 0.5]}))
    assert read_allocation(tmp_path / "a.toml") == {"layers": {"q_proj": 0.25, "layers.0.*": 0}}
    assert read_allocation(tmp_path / "a.json") == {"blocks": [0.25, 0.5]}
    for text, message in (
        ("blocks = [0.5", "is no TOML"),
        ("blocks = 0.5", "blocks` of .* is no list"),
        ("blocks = []", "is no list"),
        ("layers = [0.5]", "is no table"),
        ("sparsity = 0.5", "holds no allocation"),
        ("blocks = [0.5]\n[layers]\na = 0.5", "holds no allocation"),
        ("blocks = [0.5, 1]", "`1` for block 1 is no sparsity"),
        ("blocks = [true]", "`True` for block 0 is no sparsity"),
        ("[layers]\nq_proj = -0.1", "`-0.1` for q_proj is no sparsity"),
        ("[layers]\nq_proj = nan", "`nan` for q_proj is no sparsity"),
    ):
        (tmp_path / "b.toml").write_text(text)
        with pytest.raises(PruningError, match=message):
            read_allocation(tmp_path / "b.toml")
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(PruningError, match="is no JSON"):
        read_allocation(tmp_path / "b.json")
    with pytest.raises(PruningError, match="cannot read"):
        read_allocation(tmp_path / "none.toml")
    with pytest.raises(PruningError, match="holds no allocation"):
        check_allocation({1: 2}, "x")


def test_what_is_left_may_be_nothing_but_for_rounding(tiny: Callable[..., Any]) -> None:
    """0.5 · ½ is 0.25; in floats what is left for the others is a little below 0."""
    model = tiny()
    sizes = {layer.name: layer.size for layer in find_layers(model).layers}
    named = sum(size for name, size in sizes.items() if ".mlp." in name)
    share = 0.3 * named / sum(sizes.values())
    done = prune(model, "magnitude", sparsity=share, allocation={"layers": {"mlp.*": 0.1 + 0.2}})
    assert {done.layers[name] for name in sizes if ".mlp." not in name} == {0.0}


@pytest.mark.parametrize(
    ("allocation", "sparsity", "message"),
    [
        ({"layers": {"qproj": 0.5}}, 0.5, "names `qproj`, which is no layer"),
        ({"blocks": [0.5, 0.5]}, 0.5, "lists 2 blocks, but the last block with layers to prune is number 3"),
        ({"layers": {"mlp.*": 0.9}}, 0.1, "would need a sparsity of -"),
        ({"layers": {"mlp.*": 0.01}}, 0.9, "would need a sparsity of"),
        ({"layers": {"*": 0.4}}, 0.5, "makes a sparsity of 0.4000, not 0.5000"),
        ({"blocks": [0, 0, 0.5]}, 0.9, "makes a sparsity of 0.330 at most"),
        ({"blocks": [0.5, 0.5, 1]}, 0.9, "is no sparsity"),
    ],
)
def test_allocations_that_cannot_be(
    tiny: Callable[..., Any], allocation: dict[str, Any], sparsity: float, message: str
) -> None:
    with pytest.raises(PruningError, match=message) as caught:
        prune(tiny(), "magnitude", sparsity=sparsity, allocation=allocation)
    if "qproj" in message:
        assert caught.value.hint == "did you mean `q_proj`?"
