"""Every family of models: what is found in it, what its layers read, and that it is pruned, saved and loaded whole."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pzc.runtime.errors import Hopeless, PruningError
from pzc.runtime.models.layers import Layer, find_layers
from pzc.runtime.pruning.prune import prune
from pzc.runtime.saving.checkpoint import save
from pzc.runtime.statistics.gather import gather
from pzc.runtime.statistics.unreached import UnreachedExperts
from tests.families import FAMILIES, MIXTURES, make_family, some_windows, without_expert

WINDOWS = some_windows()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_layers_of_each_block_are_found(family: str) -> None:
    _, path, parts = FAMILIES[family]
    model = make_family(family)
    found = find_layers(model)
    assert [layer.name for layer in found.layers] == [f"{path}.{i}.{part}" for i in range(2) for part in parts]
    assert found.blocks == tuple(model.get_submodule(path))
    assert found.outside == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_views_that_multiply_rows_of_inputs(family: str) -> None:
    """Of each layer the shape is known from what it reads and puts out, and writing to its weight changes the model."""
    model = make_family(family)
    layers = find_layers(model).layers
    found = gather(model, find_layers(model), WINDOWS, ["X.l2", "Y.l2"]).tables
    before = model(WINDOWS).logits
    for layer in layers:
        assert found[layer.name]["X.l2"].shape == (1, layer.shape[1])
        assert found[layer.name]["Y.l2"].shape == (layer.shape[0], 1)
    layers[-1].weight.mul_(3)
    assert not torch.allclose(model(WINDOWS).logits, before)


METRICS = ["abs(W)  per row", "abs(W) * X  per row", "abs(W) * G  per row", "sqr(W) * X * G  per layer"]


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("family", FAMILIES)
def test_half_of_a_model_is_pruned(family: str, metric: str, sequential: bool) -> None:
    model = make_family(family)
    result = prune(model, metric, windows=WINDOWS, sequential=sequential)
    assert set(result.layers.values()) == {0.5}
    for layer in find_layers(model).layers:
        rows = layer.weight.eq(0).sum(1)
        assert metric.endswith("layer") or set(rows.tolist()) == {layer.shape[1] // 2}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_saved_is_loaded_by_plain_transformers(family: str, tokenizer: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = make_family(family)
    prune(model, "abs(W) * X  per row", windows=WINDOWS)
    with torch.no_grad():
        expected = model(WINDOWS).logits
        save(model, tokenizer, {}, tmp_path / "pruned")
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "pruned")
        torch.testing.assert_close(loaded(WINDOWS).logits, expected, rtol=1e-5, atol=1e-5)
    zeros = [layer.weight.eq(0).sum().item() for layer in find_layers(loaded).layers]
    assert zeros == [layer.size // 2 for layer in find_layers(model).layers]


def read_by_experts(model: Any, windows: torch.Tensor) -> dict[str, torch.Tensor]:
    """What each expert's matrices read over some windows, float64 `[tokens, in]`, by a plain loop: the expert's module
    is called by the model, and its routing arguments are gone through token by token."""
    found: dict[str, list[torch.Tensor]] = {}

    def note(name: str, row: torch.Tensor) -> None:
        found.setdefault(name, []).append(row.double())

    def hook(name: str) -> Callable[..., None]:
        def before(experts: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden, chosen = [*args, *kwargs.values()][:2]
            turned = getattr(experts, "is_transposed", False)
            for row, some in zip(hidden, chosen, strict=True):
                for e in some.tolist():
                    first = experts.gate_up_proj[e].T if turned else experts.gate_up_proj[e]
                    bias = experts.gate_up_proj_bias[e] if hasattr(experts, "gate_up_proj_bias") else 0
                    note(f"{name}.{e}.gate_up_proj", row)
                    note(f"{name}.{e}.down_proj", experts._apply_gate((first @ row + bias)[None])[0])

        return before

    handles = [
        module.register_forward_pre_hook(hook(name), with_kwargs=True)
        for name, module in model.named_modules()
        if name.endswith(".experts")
    ]
    with torch.no_grad():
        model(windows)
    for handle in handles:
        handle.remove()
    return {name: torch.stack(rows) for name, rows in found.items()}


@pytest.mark.parametrize("others", [[], ["G.l2"], ["H.diag"]])
@pytest.mark.parametrize("family", MIXTURES)
def test_experts_read_the_tokens_that_are_routed_to_them(family: str, others: list[str]) -> None:
    model = make_family(family)
    expected = read_by_experts(model, WINDOWS)
    layers = find_layers(model)
    found = gather(model, layers, WINDOWS, ["X.l2", "X.mean", "Y.l1", *others]).tables
    experts = [layer for layer in layers.layers if layer.expert]
    assert {layer.name for layer in experts} == set(expected)
    for layer in experts:
        x, table = expected[layer.name], found[layer.name]
        torch.testing.assert_close(table["X.l2"][0].double(), x.norm(dim=0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(table["X.mean"][0].double(), x.mean(0), rtol=1e-4, atol=1e-5)
        if "H.diag" in table:  # 2/n Σx² with 1 where it is 0, damped by a hundredth of its mean
            diagonal = 2 / len(WINDOWS) * x.square().sum(0)
            diagonal += 0.01 * diagonal.mean()
            torch.testing.assert_close(table["H.diag"][0].double(), diagonal, rtol=1e-4, atol=1e-5)
        y = x @ layer.weight.double().T  # without a bias, as the product is
        torch.testing.assert_close(table["Y.l1"][:, 0].double(), y.abs().sum(0), rtol=1e-4, atol=1e-4)
    assert model.config._experts_implementation != "eager"
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_a_plain_backward(family: str) -> None:
    model = make_family(family)
    layers = find_layers(model)
    found = gather(model, layers, WINDOWS, ["G.l2", "G.mean", "X.l2"]).tables
    gradients: dict[str, list[torch.Tensor]] = {layer.name: [] for layer in layers.layers}
    for window in WINDOWS:
        model.zero_grad()
        logits = model(window[None], use_cache=False).logits[0, :-1]
        nn.functional.cross_entropy(logits, window[1:]).backward()
        for layer in layers.layers:
            gradients[layer.name].append(layer.oriented(layer.parameter.grad).double())
    for layer in layers.layers:
        g = torch.stack(gradients[layer.name])
        for leaf, expected in (("G.l2", g.square().sum(0).sqrt()), ("G.mean", g.mean(0))):
            error = (found[layer.name][leaf].double() - expected).norm() / expected.norm()
            assert error < 1e-5, (layer.name, leaf, float(error))


def by_row(layer: Layer, scores: np.ndarray) -> np.ndarray:
    """The weights of a layer with the lower half of each row's scores set to zero."""
    dense = layer.weight.numpy().copy()
    np.put_along_axis(dense, np.argsort(scores, axis=1, kind="stable")[:, : scores.shape[1] // 2], 0, axis=1)
    return dense


def input_norms(model: Any, layers: Sequence[Layer]) -> dict[str, np.ndarray]:
    """‖x_j‖ of each layer's inputs: by hooks on what is a module, by `read_by_experts` for experts."""
    seen = read_by_experts(model, WINDOWS) if any(layer.expert for layer in layers) else {}
    modules = [layer for layer in layers if not layer.expert]
    handles = [
        layer.module.register_forward_hook(
            lambda m, args, out, name=layer.name: seen.update({name: args[0].flatten(0, -2)})
        )
        for layer in modules
    ]
    with torch.no_grad():
        model(WINDOWS)
    for handle in handles:
        handle.remove()
    return {layer.name: seen[layer.name].double().norm(dim=0).numpy() for layer in layers}


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_masks_are_those_of_a_naive_loop(family: str, sequential: bool) -> None:
    """Wanda, each block with the norms of the dense model or of what is pruned by then."""
    model, dense, expected = make_family(family), make_family(family), make_family(family)
    for index in range(2):
        source = expected if sequential else dense
        norms = input_norms(source, find_layers(source).of_block(index))
        for layer in find_layers(expected).of_block(index):
            scores = np.abs(layer.weight.numpy()) * norms[layer.name]
            layer.weight.copy_(torch.from_numpy(by_row(layer, scores)))
    prune(model, "abs(W) * X  per row", windows=WINDOWS, sequential=sequential)
    for layer, other in zip(find_layers(model).layers, find_layers(expected).layers, strict=True):
        assert torch.equal(layer.weight, other.weight), layer.name


@pytest.mark.parametrize(
    "metric", ["wanda", "ria", "sparsegpt", "pruner_zero", "gblm", "fisher", "taylor", "abs(W) * Y * X.var"]
)
@pytest.mark.parametrize("sequential", [False, True])
def test_an_expert_that_no_token_reached_is_pruned_by_magnitude(metric: str, sequential: bool) -> None:
    model, dense = without_expert(make_family("Mixtral"), 2), make_family("Mixtral")
    with pytest.warns(UnreachedExperts, match=r"reached model\.layers\.\d\.mlp\.experts\.2\."):
        done = prune(model, metric, windows=WINDOWS, sequential=sequential, update="none", per="row")
    assert set(done.unreached) == {x.name for x in find_layers(model).layers if ".experts.2." in x.name}
    for layer, was in zip(find_layers(model).layers, find_layers(dense).layers, strict=True):
        unreached = ".experts.2." in layer.name
        if metric == "ria" and unreached:  # it weighs by rows and columns even where inputs are all alike
            continue
        by_magnitude = by_row(was, was.weight.abs().numpy())
        assert np.array_equal(layer.weight.numpy(), by_magnitude) is unreached


def test_in_a_group_of_several_layers_such_an_expert_is_on_a_scale_of_its_own() -> None:
    model = without_expert(make_family("Mixtral"), 2)
    with pytest.warns(UnreachedExperts, match="scored by magnitude, which in a group of several layers is a scale of"):
        done = prune(model, "abs(W) * G", windows=WINDOWS, per="model")
    assert done.sparsity == pytest.approx(0.5, abs=1e-3)
    assert all(abs(done.layers[name] - 0.5) > 0.1 for name in done.unreached)


def test_experts_that_nothing_reached_are_known_from_kept_statistics_too(tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        model = without_expert(make_family("Mixtral"), 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnreachedExperts)
            found.append(prune(model, "abs(W) * G per row", windows=WINDOWS, cache=tmp_path).unreached)
    assert found[0] == found[1]
    assert {name.split(".experts.")[1].split(".")[0] for name in found[0]} == {"2"}


def test_an_expert_that_no_token_reached_gets_no_update() -> None:
    model, dense = without_expert(make_family("Mixtral"), 2), make_family("Mixtral")
    with pytest.warns(UnreachedExperts):
        prune(model, "wanda", windows=WINDOWS, update="obs")
    for layer, was in zip(find_layers(model).layers, find_layers(dense).layers, strict=True):
        unreached = ".experts.2." in layer.name
        assert np.allclose(layer.weight.numpy(), by_row(was, was.weight.abs().numpy()), atol=1e-7) is unreached


def test_a_layer_that_is_no_expert_and_is_not_run_is_an_error() -> None:
    model = make_family("Llama")
    mlp = model.model.layers[1].mlp
    mlp.forward = lambda x: x @ mlp.gate_proj.weight.T @ mlp.down_proj.weight.T
    missed = r"no calibration token reached the layer model\.layers\.1\.mlp\.gate_proj"
    with pytest.raises(PruningError, match=missed) as caught:
        prune(model, "wanda", windows=WINDOWS)
    assert caught.value.hint == "a model that reads weights in another way needs --exclude 'model.layers.1.mlp.*'"
    for block in model.model.layers:
        block.mlp.forward = mlp.forward
    with pytest.raises(Hopeless) as caught:
        prune(model, "wanda", windows=WINDOWS)
    assert caught.value.hint == "a model that reads weights in another way needs --exclude 'mlp.*'"


def test_experts_that_multiply_in_another_way_are_an_error() -> None:
    model = make_family("Mixtral")
    experts = model.model.layers[1].mlp.experts
    experts.forward = lambda x, chosen, scores: torch.einsum(
        "ti,oi->to", x, experts.down_proj[0] @ experts.down_proj[0].T
    )
    with pytest.raises(Hopeless, match=r"cannot be observed: MixtralExperts multiplies in a way of its own") as caught:
        prune(model, "wanda", windows=WINDOWS)
    assert caught.value.hint == "use a metric without activations, or --exclude 'gate_up_proj'"
    assert model.config._experts_implementation != "eager"
    assert prune(model, "magnitude").sparsity == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("metric", ["abs(W) * X per row", "abs(W) * G per row", "sqr(W) / sqr(H.chol_diag) per row"])
@pytest.mark.parametrize("family", ["Llama", "Mixtral", "OPT"])
def test_the_head_alone_and_with_the_blocks(family: str, metric: str, sequential: bool) -> None:
    """The head reads what the blocks put out: of the dense model, or of what is pruned already."""
    model = make_family(family, tie_word_embeddings=False)
    dense = find_layers(make_family(family, tie_word_embeddings=False), include=["lm_head"]).layers[0]
    result = prune(model, metric, windows=WINDOWS, include=["*", "lm_head"], sequential=sequential)
    assert result.layers["lm_head"] == 0.5
    assert len(result.layers) == len(find_layers(model).layers) + 1
    if " * X" in metric:
        seen: list[torch.Tensor] = []
        reference = model if sequential else make_family(family, tie_word_embeddings=False)
        reference.lm_head.register_forward_hook(lambda m, args, out: seen.append(args[0].flatten(0, -2)))
        with torch.no_grad():
            reference(WINDOWS)
        scores = dense.weight.abs() * seen[0].norm(dim=0)
        np.testing.assert_array_equal(model.lm_head.weight.detach().numpy(), by_row(dense, scores.numpy()))


@pytest.mark.parametrize("family", ["Qwen2Moe", "GptOss"])
def test_a_router_that_is_named_is_pruned(family: str) -> None:
    model = make_family(family)
    router = "mlp.gate" if family == "Qwen2Moe" else "mlp.router"
    seen: list[torch.Tensor] = []
    module = model.get_submodule(f"model.layers.0.{router}")
    handle = module.register_forward_pre_hook(lambda m, args: seen.append(args[0].flatten(0, -2)))
    with torch.no_grad():
        model(WINDOWS)
    handle.remove()
    layers = find_layers(model, include=[router])
    table = gather(model, layers, WINDOWS, ["X.l2"]).tables[f"model.layers.0.{router}"]
    torch.testing.assert_close(table["X.l2"][0], seen[0].norm(dim=0), rtol=1e-4, atol=1e-5)
    result = prune(model, "abs(W) * X per row", windows=WINDOWS, include=[router])
    assert set(result.layers.values()) == {0.5}


def test_nothing_is_pruned_where_a_weight_is_no_number() -> None:
    model = make_family("GPT2")
    weight = find_layers(model).layers[3].weight
    weight[0, 0] = torch.nan
    with pytest.raises(
        PruningError, match=r"1 of the 1024 weights of transformer\.h\.0\.mlp\.c_proj are infinite or NaN"
    ):
        prune(model, "wanda", windows=WINDOWS)
    assert all((layer.weight == 0).sum() == 0 for layer in find_layers(model).layers)


def spread(model: Any, places: list[Any]) -> Any:
    """A model whose blocks are on these devices in turn, by accelerate's hooks."""
    from accelerate import dispatch_model

    blocks = {f"model.layers.{i}": places[i % len(places)] for i in range(2)}
    ends = dict.fromkeys(("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"), places[0])
    return dispatch_model(model, {**blocks, **ends}, force_hooks=True)


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("metric", ["abs(W) * X * G per model", "sqr(W) / sqr(H.chol_diag) per row", "abs(W) + noise"])
@pytest.mark.parametrize("family", ["Llama", "Mixtral"])
def test_a_dispatched_model_is_pruned_like_any_other(family: str, metric: str, sequential: bool) -> None:
    pytest.importorskip("accelerate")
    model, expected = spread(make_family(family), ["cpu"]), make_family(family)
    for one in (model, expected):
        prune(one, metric, windows=WINDOWS, sequential=sequential and "per model" not in metric)
    for layer, other in zip(find_layers(model).layers, find_layers(expected).layers, strict=True):
        assert torch.equal(layer.weight, other.weight)


@pytest.mark.gpu
@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("family", ["Llama", "Mixtral"])
def test_a_model_over_several_gpus(family: str, sequential: bool) -> None:
    if torch.accelerator.device_count() < 2:
        pytest.skip("one accelerator only")
    pytest.importorskip("accelerate")
    model, expected = spread(make_family(family), [0, 1]), make_family(family)
    for one in (model, expected):
        prune(one, "abs(W) * X * G per block", windows=WINDOWS, sequential=sequential)
    differing = [
        (layer.weight.cpu() != other.weight).float().mean().item()
        for layer, other in zip(find_layers(model).layers, find_layers(expected).layers, strict=True)
    ]
    assert max(differing) < 0.02  # rounding differs between devices
    assert {layer.weight.device.index for layer in find_layers(model).layers} == {0, 1}
