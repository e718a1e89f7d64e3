"""Pruning whole models with a weight update, to several sparsities, and with allocations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import pzc
from pzc.compiler.load import load
from pzc.runtime.errors import PruningError
from pzc.runtime.models.layers import find_layers
from pzc.runtime.pruning.prune import Pruned, prune, prune_each
from pzc.runtime.scoring.masks import Target, parse_pattern
from tests.conftest import make_tiny
from tests.test_runtime_hessian import inputs_of
from tests.test_runtime_obs import hessian, sparsegpt, textbook
from tests.test_runtime_prune import same_bits, weights


def plainly(model: Any, windows: torch.Tensor, how: str, target: Target, *, sequential: bool = True) -> None:
    """Block by block and layer by layer in float64, with H from a run of the whole model as it is by then."""
    dense = make_tiny()
    for index in range(3):
        x = inputs_of(model if sequential else dense, windows)
        for layer in find_layers(model).of_block(index):
            w = layer.weight.double().numpy()
            h = hessian(x[layer.name], len(windows))
            if how == "sparsegpt":
                new, _ = sparsegpt(w, h, target)
            else:
                order = np.argsort(np.abs(w) * np.linalg.norm(x[layer.name], axis=0), axis=1, kind="stable")
                keep = np.ones(w.shape, bool)
                np.put_along_axis(keep, order[:, : w.shape[1] // 2], False, axis=1)
                new = textbook(w, h, keep)
            layer.weight.copy_(torch.from_numpy(new))


def agree(model: Any, expected: Any) -> None:
    """Masks the same for 99.9 % of the weights, and the weights that both keep."""
    same = total = 0
    for layer, other in zip(find_layers(model).layers, find_layers(expected).layers, strict=True):
        one, two = layer.weight, other.weight
        both = (one != 0) & (two != 0)
        same, total = same + int(((one != 0) == (two != 0)).sum()), total + one.numel()
        torch.testing.assert_close(one[both], two[both], rtol=0, atol=1e-3 * float(two.abs().max()))
    assert same / total >= 0.999


@pytest.mark.parametrize(
    ("metric", "options"),
    [
        ("wanda", {"update": "obs"}),
        ("wanda", {"update": "obs", "sequential": False}),
        ("sparsegpt", {}),
        ("sparsegpt", {"sequential": False}),
        ("sparsegpt", {"pattern": "2:4"}),
        ("sparsegpt", {"sparsity": 0.3}),
    ],
)
def test_models_are_updated_as_by_the_plain_method(
    tiny: Callable[..., Any], windows: torch.Tensor, metric: str, options: dict[str, Any]
) -> None:
    model, expected = tiny(), tiny()
    result = prune(model, metric, windows=windows, **options)
    pattern = options.get("pattern")
    target = Target(None, options.get("sparsity", 0.5), parse_pattern(pattern) if pattern else None)
    plainly(expected, windows, metric, target, sequential=options.get("sequential", True))
    agree(model, expected)
    assert result.update == ("obs" if metric == "wanda" else "sparsegpt")
    assert result.sequential is options.get("sequential", True)
    assert result.passes == ("hessian",)
    assert result.damped == {}
    assert result.sparsity == pytest.approx(target.share, abs=2e-3)  # a layer of 256 weights loses 76, not 76.8


def test_the_score_of_sparsegpt_alone_is_a_metric_like_others(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    model, updated, dense = tiny(), tiny(), tiny()
    assert prune(model, "sparsegpt", windows=windows, update="none").update == "none"
    for layer, other in zip(find_layers(model).layers, find_layers(dense).layers, strict=True):
        kept = layer.weight != 0
        assert torch.equal(layer.weight[kept], other.weight[kept])
    prune(updated, "sparsegpt", windows=windows, update="obs", sequential=False)
    for layer, other in zip(find_layers(model).layers, find_layers(updated).layers, strict=True):
        assert torch.equal(layer.weight != 0, other.weight != 0)  # the same mask, and then the update
        assert not torch.equal(layer.weight, other.weight)


def test_any_metric_goes_with_the_update(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    """Gradients, Hessians and groups of a block among them; masks are those of the run without an update."""
    for formula, options in (
        ("abs(W) * G per block", {"sequential": False}),
        ("abs(W) per model", {"sequential": False}),
        ("sqr(W) / H.inv_diag per col", {"sequential": False}),
        ("abs(W) * X per layer", {"pattern": "1:4", "sequential": False}),
    ):
        with_update, without = tiny(), tiny()
        result = prune(with_update, formula, windows=windows, update="obs", **options)
        prune(without, formula, windows=windows, **options)
        for one, other in zip(find_layers(with_update).layers, find_layers(without).layers, strict=True):
            assert torch.equal(one.weight != 0, other.weight != 0)
        assert result.passes == (("hessian", "backward") if "G" in formula else ("hessian",))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_rounded_once(tiny: Callable[..., Any], windows: torch.Tensor, dtype: str) -> None:
    """The last block of a model of one block: inputs are the same, so the weights are those of float32, rounded."""
    half, single = tiny(dtype=dtype, num_hidden_layers=1), tiny(dtype=dtype, num_hidden_layers=1).float()
    prune(half, "wanda", windows=windows, update="obs")
    prune(single, "wanda", windows=windows, update="obs")
    one, other = (find_layers(m).layers[0].weight for m in (half, single))  # q_proj reads the embedding, normalised
    torch.testing.assert_close(one.float(), other, rtol=2e-2, atol=1e-3)
    assert (one != 0).float().mean() == 0.5
    assert half.dtype == getattr(torch, dtype)


def test_the_update_beats_the_mask_alone(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    dense = tiny()
    with torch.no_grad():
        logits = dense(windows).logits
    errors = {}
    for update in ("none", "obs"):
        model = tiny()
        prune(model, "wanda", windows=windows, update=update, sequential=True)
        with torch.no_grad():
            errors[update] = float((model(windows).logits - logits).square().mean())
    assert errors["obs"] < errors["none"]


def test_whatever_is_raised_the_weights_are_untouched(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    model = tiny()
    with torch.no_grad():
        model.model.layers[2].mlp.down_proj.weight[3, 4] = torch.nan
    before = weights(model)
    with pytest.raises(PruningError, match=r"1 of the 384 weights of model.layers.2.mlp.down_proj are infinite or NaN"):
        prune(model, "sparsegpt", windows=windows)
    assert same_bits(weights(model), before)


@pytest.mark.parametrize(
    ("metric", "options", "message"),
    [
        ("wanda", {"update": "gptq"}, "no update `gptq`"),
        ("wanda", {"update": "sparsegpt"}, "does not go with `wanda`"),
        ("sparsegpt", {"per": "row"}, "128 columns"),
        ("magnitude", {"update": "obs", "windows": None}, "the update of weights needs calibration windows"),
        ("abs(W) per model", {"update": "obs"}, "block by block"),
        ("wanda", {"allocation": "owl", "per": "model"}, "nothing to allocate"),
        ("wanda", {"allocation": "best"}, "no allocation `best`"),
    ],
)
def test_requests_that_do_not_go_together(
    tiny: Callable[..., Any], windows: torch.Tensor, metric: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(PruningError, match=message):
        prune(tiny(), metric, **{"windows": windows, **options})


def test_hessians_that_need_more_damping_are_told(
    tiny: Callable[..., Any], windows: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch.linalg.cholesky_ex
    calls: list[int] = []

    def fails_at_first(matrix: torch.Tensor) -> Any:
        calls.append(1)
        lower, info = real(matrix)
        return lower, info + (len(calls) <= 2)  # the Hessian that q, k and v share, twice

    monkeypatch.setattr(torch.linalg, "cholesky_ex", fails_at_first)
    result = prune(tiny(), "sparsegpt", windows=windows)
    assert result.damped == {f"model.layers.0.self_attn.{name}_proj": 1.0 for name in "qkv"}
    assert len(calls) == 3 * 4 + 2  # one for each Hessian, not for each layer


@pytest.mark.parametrize("metric", ["wanda", "magnitude", "abs(W) * X per block", "abs(W) * G per model"])
@pytest.mark.parametrize("allocation", ["uniform", "owl"])
def test_several_sparsities_are_those_of_runs_of_their_own(
    tiny: Callable[..., Any], windows: torch.Tensor, metric: str, allocation: str
) -> None:
    if allocation == "owl" and "model" in metric:
        pytest.skip("one group for the model leaves nothing to allocate")
    model = tiny()
    before = weights(model)
    sparsities = [0.7, 0.3, 0.5]
    found: list[tuple[Pruned, dict[str, torch.Tensor]]] = [
        (result, weights(model))
        for result in prune_each(model, metric, sparsity=sparsities, windows=windows, allocation=allocation)
    ]
    assert same_bits(weights(model), before)
    for (result, pruned), sparsity in zip(found, sparsities, strict=True):
        alone = tiny()
        expected = prune(alone, metric, windows=windows, sparsity=sparsity, allocation=allocation)
        assert same_bits(pruned, weights(alone))
        assert result.layers == expected.layers
        assert result.target == expected.target


def test_several_sparsities_take_one_pass(
    tiny: Callable[..., Any], windows: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny()
    passes: list[int] = []
    model.model.register_forward_hook(lambda *_: passes.append(1))
    list(prune_each(model, "wanda", sparsity=[0.3, 0.5, 0.7], windows=windows))
    once = len(passes)
    prune(model, "wanda", windows=windows)
    assert len(passes) == 2 * once


def test_masks_are_handed_out_as_they_are_applied(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    for options in ({"metric": "wanda"}, {"metric": "wanda", "sequential": True}, {"metric": "sparsegpt"}):
        model = tiny()
        masks: dict[str, torch.Tensor] = {}
        prune(model, windows=windows, on_mask=masks.__setitem__, **options)
        for layer in find_layers(model).layers:
            assert torch.equal(masks[layer.name], layer.weight != 0)


def test_the_published_method_is_known_by_its_name_in_the_zoo(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    formula = "sqr(W) / sqr(H.chol_diag) per layer"
    assert prune(tiny(), load("sparsegpt"), windows=windows).update == "sparsegpt"
    assert prune(tiny(), formula, windows=windows).update == "none"
    assert pzc.prune(tiny(), "wanda", windows=windows).update == "none"
