"""Hessian leaves against numpy in float64: H from a naive loop over the windows, its inverse and its factor by the
textbook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pzc.compiler.leaves import LEAVES
from pzc.compiler.load import inline
from pzc.runtime.errors import PruningError
from pzc.runtime.models.layers import find_layers
from pzc.runtime.pruning.prune import prune
from pzc.runtime.statistics.activations import Table
from pzc.runtime.statistics.forward import collecting
from pzc.runtime.statistics.gather import gather, passes_for
from pzc.runtime.statistics.hessian import hessian_leaves
from tests.conftest import make_tiny

H = tuple(name for name in LEAVES if name.startswith("H."))


def by_numpy(x: np.ndarray, windows: int) -> dict[str, np.ndarray]:
    """The leaves from inputs `[tokens, in]`: H = 2/n · XᵀX, 1 for dead features, damped by 0.01 of the mean."""
    h = 2 / windows * x.T @ x
    h[np.diag_indices_from(h)] += h.diagonal() == 0
    h += 0.01 * h.diagonal().mean() * np.eye(len(h))
    inverse = np.linalg.inv(h)
    upper = np.linalg.cholesky(inverse).T  # H⁻¹ = UᵀU
    return {"H.diag": h.diagonal(), "H.inv_diag": inverse.diagonal(), "H.chol_diag": upper.diagonal()}


def inputs_of(model: Any, windows: torch.Tensor) -> dict[str, np.ndarray]:
    """What each layer reads, float64 `[tokens, in]`, by running the whole model window by window."""
    seen: dict[str, list[np.ndarray]] = {}
    handles = []
    for layer in find_layers(model).layers:

        def note(module: nn.Module, args: Any, out: Any, name: str = layer.name) -> None:
            seen.setdefault(name, []).append(args[0].flatten(0, -2).double().numpy())

        handles.append(layer.module.register_forward_hook(note))
    with torch.no_grad():
        for window in windows:
            model(window[None])
    for handle in handles:
        handle.remove()
    return {name: np.concatenate(rows) for name, rows in seen.items()}


def assert_close(found: dict[str, Table], expected: dict[str, np.ndarray], windows: int) -> None:
    assert set(found) == set(expected)
    for name, x in expected.items():
        for leaf, value in by_numpy(x, windows).items():
            assert found[name][leaf].shape == (1, x.shape[1])
            assert found[name][leaf].dtype == torch.float32
            np.testing.assert_allclose(found[name][leaf][0].numpy(), value, rtol=1e-4)


@pytest.mark.parametrize("others", [(), ("X.l2", "Y.l2"), ("X.l2", "G.l2")])
def test_hessians_are_those_of_numpy(tiny: Callable[..., Any], windows: torch.Tensor, others: tuple[str, ...]) -> None:
    model = tiny()
    found = gather(model, find_layers(model), windows, [*H, *others]).tables
    assert_close(found, inputs_of(model, windows), len(windows))
    plain = gather(model, find_layers(model), windows, others).tables
    for name, table in plain.items():
        for leaf, value in table.items():
            torch.testing.assert_close(found[name][leaf], value, rtol=1e-5, atol=1e-7)


def test_blocks_that_are_no_chain_are_gathered_in_one_pass(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    model = tiny()
    model.model.layers[1].register_forward_pre_hook(lambda module, args: (args[0] + 1, *args[1:]))
    assert_close(gather(model, find_layers(model), windows, H).tables, inputs_of(model, windows), len(windows))


def test_gpt2_stores_its_weights_the_other_way_round() -> None:
    from transformers import AutoModelForCausalLM, GPT2Config

    config = GPT2Config(vocab_size=20, n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0)
    model = AutoModelForCausalLM.from_config(config).eval()
    windows = torch.randint(0, 20, (3, 12), generator=torch.Generator().manual_seed(0))
    assert_close(gather(model, find_layers(model), windows, H).tables, inputs_of(model, windows), 3)


calls = st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.integers(0, 3)), min_size=6, max_size=24)


@given(calls)
def test_shared_sums_are_right_whoever_reads_what(calls: list[tuple[int, int]]) -> None:
    """Layers that read one tensor share its sum, until one of them reads another."""
    tensors = torch.randn(4, 9, 5, generator=torch.Generator().manual_seed(0))
    x = list(tensors)  # so that each is one object
    together = [(layer, 0) for layer in range(3)]
    layers = find_layers(nn.ModuleList([nn.ModuleList(nn.Linear(5, 2) for _ in range(3))])).layers
    with collecting(layers, H, 4) as tables:
        for layer, tensor in (*together, *calls):
            layers[layer].module(x[tensor])
    read = {
        layer.name: np.concatenate([x[t].double().numpy() for at, t in (*together, *calls) if at == i])
        for i, layer in enumerate(layers)
    }
    assert_close(tables(), read, 4)


def test_dead_features_get_one_on_the_diagonal() -> None:
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    x[:, 2] = 0
    found = hessian_leaves((2 / 5 * x.T @ x).double(), H, "layer")
    expected = by_numpy(x.double().numpy(), 5)
    for leaf, value in expected.items():
        np.testing.assert_allclose(found[leaf][0].numpy(), value, rtol=1e-5)


def test_ill_conditioned_hessians_stay_exact() -> None:
    """Two large features that are nearly one, as language models have them: what float32 loses of a product, the
    inverse magnifies."""
    x = torch.randn(3000, 128, generator=torch.Generator().manual_seed(0))
    x[:, 1] = x[:, 0] + 0.001 * x[:, 1]
    x[:, :2] *= 1000
    layers = find_layers(nn.ModuleList([nn.Linear(128, 4)])).layers
    with collecting(layers, H, 10) as tables:
        for part in x.split(500):
            layers[0].module(part)
    assert_close(tables(), {layers[0].name: x.double().numpy()}, 10)


def test_what_is_not_positive_definite_is_damped_more() -> None:
    h = torch.tensor([[1.0, 1.05], [1.05, 1.0]], dtype=torch.float64)  # eigenvalue −0.05: 0.01 is too little, 0.1 not
    damped = h.numpy() + 0.1 * np.eye(2)
    found = hessian_leaves(h.clone(), H, "layer")
    np.testing.assert_allclose(found["H.diag"][0], damped.diagonal(), rtol=1e-6)
    np.testing.assert_allclose(found["H.inv_diag"][0], np.linalg.inv(damped).diagonal(), rtol=1e-5)
    with pytest.raises(PruningError, match="the Hessian of layer is not positive definite"):
        hessian_leaves(torch.tensor([[1.0, 5.0], [5.0, 1.0]], dtype=torch.float64), H, "layer")
    with pytest.raises(PruningError, match="not positive definite"):
        hessian_leaves(torch.full((2, 2), torch.nan, dtype=torch.float64), H, "layer")


def test_only_one_block_is_held_at_a_time(
    tiny: Callable[..., Any], windows: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pzc.runtime.statistics import forward
    from pzc.runtime.statistics.hessian import Hessians

    made: list[Hessians] = []

    def making(*args: Any) -> Hessians:
        made.append(Hessians(*args))
        held = [len({id(total) for total in one._totals.values()}) for one in made]
        assert not any(held), "the blocks before it are finished"
        return made[-1]

    monkeypatch.setattr(forward, "Hessians", making)
    model = tiny()
    gather(model, find_layers(model), windows, H)
    assert len(made) == 3


def test_q_k_and_v_share_a_sum(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    model = tiny()
    with collecting(find_layers(model).of_block(0), H, 6) as tables, torch.no_grad():
        for window in windows:
            model(window[None])
    found = tables()
    q, k, v, o, gate, up, down = (found[layer.name]["H.diag"] for layer in find_layers(model).of_block(0))
    assert q is k is v
    assert gate is up
    assert len({id(t) for t in (q, o, gate, down)}) == 4


@pytest.mark.parametrize(
    ("formula", "passes"),
    [
        ("sqr(W) / H.inv_diag", ("hessian",)),
        ("sqr(W) / sqr(H.chol_diag) * X", ("hessian",)),
        ("sqr(W) * H.diag + abs(W * G)", ("hessian", "backward")),
    ],
)
@pytest.mark.parametrize("sequential", [False, True])
def test_pruning_by_hessians_as_a_naive_loop_does_it(
    windows: torch.Tensor, formula: str, passes: tuple[str, ...], sequential: bool
) -> None:
    metric = inline(f"{formula} per row")
    model, expected, dense = make_tiny(), make_tiny(), make_tiny()
    gradients = gather(dense, find_layers(dense), windows, ["G.l2"]).tables
    for index in range(3):
        x = inputs_of(expected if sequential else dense, windows)
        for layer in find_layers(expected).of_block(index):
            leaves = {**by_numpy(x[layer.name], 6), **gradients[layer.name]}
            leaves["X.l2"] = np.linalg.norm(x[layer.name], axis=0)
            given = {name.replace(".", "_"): leaves[name] for name in metric.leaves if name != "W"}
            scores = metric.reference_score(W=layer.weight.double().numpy(), **given)
            order = np.argsort(scores, axis=1, kind="stable")[:, : scores.shape[1] // 2]
            np.put_along_axis(layer.weight.numpy(), order, 0, axis=1)
    result = prune(model, metric, windows=windows, sequential=sequential)
    assert result.passes == passes
    for layer, other in zip(find_layers(model).layers, find_layers(expected).layers, strict=True):
        assert torch.equal(layer.weight, other.weight)


def test_passes_are_the_dear_ones_alone_or_the_cheap_one() -> None:
    assert passes_for(["W", "noise", "depth"]) == ()
    assert passes_for(["W", "X.l2", "Y.max"]) == ("forward",)
    assert passes_for(["W", "X.l2", "G.l2"]) == ("backward",)
    assert passes_for(["W", "X.l2", "H.diag"]) == ("hessian",)
    assert passes_for(["G.l2", "H.diag", "X.l2"]) == ("hessian", "backward")
