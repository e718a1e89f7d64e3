"""Comparison groups over several layers, and metrics by role: against a brute-force stable sort."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pzc.compiler.arm import Arm
from pzc.compiler.core import leaf, make
from pzc.compiler.load import inline, zoo
from pzc.compiler.metric import Metric, compile_source
from pzc.runtime.errors import PruningError
from pzc.runtime.evaluation.compare import compare
from pzc.runtime.evaluation.evaluate import window_losses
from pzc.runtime.evaluation.uncertainty import perplexity
from pzc.runtime.models.layers import Layer, find_layers
from pzc.runtime.pruning.masking import masks_for
from pzc.runtime.pruning.prune import prune
from pzc.runtime.pruning.roles import idle_roles
from pzc.runtime.scoring.masks import Target
from pzc.runtime.statistics.gather import gather
from pzc.search.settings import Settings, given
from tests.conftest import WORDS, make_tiny
from tests.terminal import terminal_of
from tests.test_runtime_hessian import inputs_of


def rounded(model: Any) -> Any:
    """A model with few distinct weights, so that many scores tie."""
    for layer in find_layers(model).layers:
        layer.weight.copy_((layer.weight * 5).round().clamp(-2, 2) + 0.5)
    return model


def prune_as_one(layers: Iterable[tuple[Layer, np.ndarray]], sparsity: float) -> None:
    """Zero the lowest scores of all layers together: a stable sort of them in their order."""
    members = [(layer.weight, scores) for layer, scores in layers]
    flat = np.concatenate([scores.ravel() for _, scores in members])
    drop = np.zeros(flat.size, bool)
    drop[np.argsort(flat, kind="stable")[: int(flat.size * sparsity)]] = True
    for weight, scores in members:
        here, drop = np.split(drop, [scores.size])
        weight[torch.from_numpy(here.reshape(scores.shape))] = 0


def prune_lines(layer: Layer, scores: np.ndarray, axis: int) -> None:
    """Zero the lower half of each row (`axis` 1) or column (0)."""
    half = scores.shape[axis] // 2
    order = np.argsort(scores, axis=axis, kind="stable").take(range(half), axis=axis)
    np.put_along_axis(layer.weight.numpy(), order, 0, axis=axis)


def assert_same(model: Any, expected: Any) -> None:
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def magnitude(layer: Layer) -> tuple[Layer, np.ndarray]:
    return layer, np.abs(layer.weight.numpy())


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.77])
@pytest.mark.parametrize("make_model", [lambda tiny: tiny(), lambda tiny: rounded(tiny())], ids=["smooth", "tied"])
def test_a_block_is_one_group(tiny: Callable[..., Any], sparsity: float, make_model: Any) -> None:
    model, expected = make_model(tiny), make_model(tiny)
    layers = find_layers(expected)
    for index in range(3):
        prune_as_one(map(magnitude, layers.of_block(index)), sparsity)
    prune(model, inline("abs(W) per block"), sparsity=sparsity)
    assert_same(model, expected)


def test_a_block_can_be_pruned_in_its_turn(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    model, expected = tiny(), tiny()
    for index in range(3):
        x = inputs_of(expected, windows)
        members = find_layers(expected).of_block(index)
        scores = [np.abs(m.weight.numpy()) * np.linalg.norm(x[m.name], axis=0).astype(np.float32) for m in members]
        prune_as_one(zip(members, scores, strict=True), 0.5)
    assert prune(model, inline("abs(W) * X per block"), windows=windows, sequential=True).sequential
    assert_same(model, expected)


BY_ROLE = Metric(
    "by_role",
    make("mul", make("abs", leaf("W")), leaf("X.l2")),
    "row",
    roles=(
        Arm(make("mul", make("abs", leaf("W")), leaf("Y.l2")), "col", ("gate_proj", "up_proj")),
        Arm(make("abs", leaf("W")), "block", ("self_attn.*",)),
    ),
)
"""Of the mlp, gate and up by their outputs and down by its inputs; attention by magnitude."""


@pytest.mark.parametrize("sequential", [False, True])
def test_each_layer_has_the_score_and_the_group_of_its_arm(
    tiny: Callable[..., Any], windows: torch.Tensor, sequential: bool
) -> None:
    model, expected, dense = tiny(), tiny(), tiny()
    for index in range(3):
        x = inputs_of(expected if sequential else dense, windows)
        members = find_layers(expected).of_block(index)
        for layer in members:
            weight, rows = layer.weight.double().numpy(), x[layer.name]
            if layer.name.endswith(("gate_proj", "up_proj")):
                prune_lines(layer, np.abs(weight) * np.linalg.norm(rows @ weight.T, axis=0)[:, None], 0)
            elif layer.name.endswith("down_proj"):
                prune_lines(layer, np.abs(weight) * np.linalg.norm(rows, axis=0), 1)
        prune_as_one((magnitude(layer) for layer in members if "self_attn" in layer.name), 0.5)
    result = prune(model, BY_ROLE, windows=windows, sequential=sequential)
    assert_same(model, expected)
    assert result.passes == ("forward",)


def test_a_model_group_holds_the_layers_of_one_arm(tiny: Callable[..., Any]) -> None:
    core = make("abs", leaf("W"))
    metric = Metric("halves", core, "model", roles=(Arm(core, "model", ("mlp.*",)),))
    model, expected = rounded(tiny()), rounded(tiny())
    layers = find_layers(expected).layers
    prune_as_one((magnitude(layer) for layer in layers if ".mlp." in layer.name), 0.3)
    prune_as_one((magnitude(layer) for layer in layers if ".mlp." not in layer.name), 0.3)
    prune(model, metric, sparsity=0.3)
    assert_same(model, expected)


def test_per_overrides_every_arm_and_a_pattern_replaces_all(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    by_row, by_pattern = tiny(), tiny()
    prune(by_row, BY_ROLE, windows=windows, per="row")
    prune(by_pattern, BY_ROLE, windows=windows, pattern="2:4")
    for layer in find_layers(by_row).layers:
        assert set(layer.weight.count_nonzero(1).tolist()) == {layer.shape[1] // 2}
    for layer in find_layers(by_pattern).layers:
        assert set(layer.weight.reshape(-1, 4).count_nonzero(1).tolist()) == {2}


def test_masks_of_some_layers_come_in_their_order(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    model = tiny()
    layers = find_layers(model)
    statistics = gather(model, layers, windows, BY_ROLE.leaves)
    masks = masks_for(BY_ROLE, Target(), statistics, layers.layers)
    assert list(masks) == [layer.name for layer in layers.layers]


def test_every_arm_is_checked_before_a_weight_is_touched(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    w, x = make("abs", leaf("W")), leaf("X.l2")
    model, before = tiny(), tiny()
    with pytest.raises(PruningError, match=r"score of q_proj, k_proj is constant inside its group \(per col\)"):
        prune(model, Metric("bad", w, "row", roles=(Arm(x, "col", ("q_proj", "k_proj")),)), windows=windows)
    metric = Metric("bad", make("mul", w, x), "row", roles=(Arm(w, "model", ("q_proj",)),))
    with pytest.raises(PruningError, match="block by block"):
        prune(model, metric, windows=windows, sequential=True)
    assert_same(model, before)


def test_metrics_by_role_are_compared_as_they_prune(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    model, pruned = tiny(), tiny()
    rows = list(compare(model, [BY_ROLE, inline("abs(W) per block")], windows, windows, [Target()]))
    prune(pruned, BY_ROLE, windows=windows)
    assert [row.per for row in rows] == [None, "col, block, row", "block"]
    assert rows[1].perplexity == perplexity(window_losses(pruned, windows))
    assert_same(model, tiny())


def test_commands_say_what_each_arm_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the text of a metric to `pruning.json`, and to the table of `pzc compare`."""
    terminal = terminal_of(monkeypatch)
    (tmp_path / "m.pzm").write_text(
        "pzm 1\nmetric m { gate_proj, up_proj: abs(W) * Y per col\n else: abs(W) * H.diag per block }\n"
    )
    small = ("--windows", "2", "--eval-windows", "2", "--length", "32")
    out = tmp_path / "out"
    for options, groups in (((), ["col", "block"]), (("--per", "row"), ["row", "row"])):
        shown = terminal("prune", "-f", str(tmp_path / "m.pzm"), *small, *options, "-o", str(out), "--overwrite")
        assert shown.code == 0, shown.err
        assert "a forward pass for Hessians over 2 × 32 tokens" in shown.err
        record = json.loads((out / "pruning.json").read_text())
        assert record["metric"]["arms"] == [
            {"layers": ["gate_proj", "up_proj"], "formula": "abs(W) * Y", "per": groups[0]},
            {"layers": [], "formula": "abs(W) * H.diag", "per": groups[1]},
        ]
        assert record["passes"] == ["hessian"]
        assert record["sparsity"]["after"] == pytest.approx(0.5, abs=0.01)
    shown = terminal("compare", "-f", str(tmp_path / "m.pzm"), *small)
    assert shown.code == 0, shown.err
    assert "gate_proj, up_proj: abs(W) * Y" in shown.out
    assert "else: abs(W) * H.diag" in shown.out
    assert "col, block" in shown.out
    (row,) = json.loads(terminal("compare", "-f", str(tmp_path / "m.pzm"), *small, "--json").out)[1:]
    assert row["per"] == "col, block"


def test_the_search_leaves_metrics_by_role_out() -> None:
    by_role = {metric.name for metric in zoo().values() if metric.roles}
    assert by_role
    assert {metric.name for metric in given(Settings()).published} == set(zoo()) - by_role


def test_a_metric_that_cannot_rank_in_a_group_fails_alone() -> None:
    """`var(X) per col`: every weight of a column has the same score."""
    model = make_tiny()
    windows = torch.randint(0, len(WORDS), (3, 12), generator=torch.Generator().manual_seed(0))
    metrics = [inline("X.var"), inline("abs(W)")]
    rows = list(compare(model, metrics, windows, windows, [Target(per="col")]))
    assert [r.failure is None for r in rows] == [True, False, True]
    assert "constant inside its group (per col)" in str(rows[1].failure)


def test_arms_that_no_layer_gets_are_named() -> None:
    source = "pzm 1 metric m { qproj: W  k_proj, v_prj: W  nope: W  else: abs(W) }"
    metric = compile_source(source, "m.pzm").metrics[0]
    assert idle_roles(metric, find_layers(make_tiny()).layers) == [
        "`m`: no layer for `qproj`; did you mean `q_proj`?",
        "`m`: no layer for `nope`",
    ]


def test_a_metric_may_be_named() -> None:
    named, loaded = make_tiny(), make_tiny()
    assert prune(named, "magnitude").sparsity == prune(loaded, inline("abs(W) per layer")).sparsity
    assert all(map(torch.equal, named.parameters(), loaded.parameters()))
