"""Statistics against plain computations: activations without hooks, gradients with a backward that keeps
them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pzc.runtime.errors import NoGradient, PruningError
from pzc.runtime.models.layers import find_layers
from pzc.runtime.pruning.prune import prune
from pzc.runtime.statistics import gradients
from pzc.runtime.statistics.activations import Sums
from pzc.runtime.statistics.gather import Statistics, gather, noise
from pzc.runtime.statistics.hessian import Hessians
from pzc.runtime.statistics.sequential import NoChain

X = ("X.l2", "X.l1", "X.mean", "X.var", "X.max")
Y = ("Y.l2", "Y.l1", "Y.mean", "Y.var", "Y.max")
G = ("G.l2", "G.l1", "G.mean")


def inputs_by_hand(model: Any, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """What each linear of a LLaMA block reads, in float64 `[tokens, in]`, from the blocks' own parts: no
    hooks.
    """
    found: dict[str, list[torch.Tensor]] = {}

    def note(name: str, value: torch.Tensor) -> None:
        found.setdefault(name, []).append(value.reshape(-1, value.shape[-1]).double())

    for window in ids:
        states = model(window[None], output_hidden_states=True, use_cache=False).hidden_states
        positions = torch.arange(len(window))[None]
        for i, block in enumerate(model.model.layers):
            place = f"model.layers.{i}"
            normed = block.input_layernorm(states[i])
            rotary = model.model.rotary_emb(normed, positions)
            attended = attention_by_hand(block.self_attn, normed, rotary)
            middle = states[i] + block.self_attn.o_proj(attended)
            normed_again = block.post_attention_layernorm(middle)
            for part in "qkv":
                note(f"{place}.self_attn.{part}_proj", normed)
            note(f"{place}.self_attn.o_proj", attended)
            note(f"{place}.mlp.gate_proj", normed_again)
            note(f"{place}.mlp.up_proj", normed_again)
            gate, up = block.mlp.gate_proj(normed_again), block.mlp.up_proj(normed_again)
            note(f"{place}.mlp.down_proj", nn.functional.silu(gate) * up)
    return {name: torch.cat(rows) for name, rows in found.items()}


def attention_by_hand(attention: Any, x: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Causal attention before its output projection: softmax(q kᵀ / √d) v with rotary positions."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    def heads(projection: nn.Module) -> torch.Tensor:
        return projection(x).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)

    q, k, v = heads(attention.q_proj), heads(attention.k_proj), heads(attention.v_proj)
    q, k = apply_rotary_pos_emb(q, k, *rotary)
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
    logits = q @ k.transpose(2, 3) / attention.head_dim**0.5
    future = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
    mixed = logits.masked_fill(future, -torch.inf).softmax(-1) @ v
    return mixed.transpose(1, 2).flatten(2)


def by_hand(side: str, rows: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every statistic of a side over float64 rows `[tokens, features]`."""
    return {
        f"{side}.l2": rows.square().sum(0).sqrt(),
        f"{side}.l1": rows.abs().sum(0),
        f"{side}.mean": rows.mean(0),
        f"{side}.var": rows.var(0, correction=0),
        f"{side}.max": rows.abs().amax(0),
    }


@pytest.mark.parametrize("others", [(), G])
@pytest.mark.parametrize("bias", [False, True])
def test_activations(tiny: Callable[..., Any], windows: torch.Tensor, others: tuple[str, ...], bias: bool) -> None:
    model = tiny(attention_bias=bias, mlp_bias=bias)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # they begin as zeros
            parameter.data.normal_(generator=torch.Generator().manual_seed(0))
    layers = find_layers(model)
    with torch.no_grad():
        expected = inputs_by_hand(model, windows)
    found = gather(model, layers, windows, [*X, *Y, *others]).tables
    assert set(found) == set(expected)
    for layer in layers.layers:
        x, shift = expected[layer.name], layer.module.bias
        y = x @ layer.weight.double().T + (0 if shift is None else shift.detach().double())
        for leaf, value in by_hand("X", x).items():
            assert found[layer.name][leaf].shape == (1, layer.shape[1])
            torch.testing.assert_close(found[layer.name][leaf][0].double(), value, rtol=1e-4, atol=1e-6)
        for leaf, value in by_hand("Y", y).items():
            assert found[layer.name][leaf].shape == (layer.shape[0], 1)
            torch.testing.assert_close(found[layer.name][leaf][:, 0].double(), value, rtol=1e-4, atol=1e-5)


def test_outputs_of_gpt2_are_those_of_its_modules() -> None:
    from transformers import AutoModelForCausalLM, GPT2Config

    config = GPT2Config(vocab_size=20, n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0)
    model = AutoModelForCausalLM.from_config(config).eval()
    windows = torch.randint(0, 20, (3, 12), generator=torch.Generator().manual_seed(0))
    layers = find_layers(model)
    found = gather(model, layers, windows, ["Y.l2"]).tables
    fc = layers.layers[2]
    seen: list[torch.Tensor] = []
    fc.module.register_forward_hook(lambda module, args, out: seen.append(out.flatten(0, -2)))
    with torch.no_grad():
        model(windows)
    assert fc.shape == (64, 16)
    torch.testing.assert_close(found[fc.name]["Y.l2"][:, 0], torch.cat(seen).norm(dim=0), rtol=1e-5, atol=1e-5)


def test_variance_does_not_cancel_when_the_mean_is_large() -> None:
    from pzc.runtime.statistics.forward import collecting

    layers = find_layers(nn.ModuleList([nn.Linear(3, 2)])).layers
    rows = 1000 + torch.randn(400, 3, generator=torch.Generator().manual_seed(0)) * 0.01
    with collecting(layers, ["X.var", "X.mean"], 1) as tables:
        for part in rows.split(100):
            layers[0].module(part)
    expected = rows.double().var(0, correction=0)
    torch.testing.assert_close(tables()[layers[0].name]["X.var"][0].double(), expected, rtol=0.05, atol=0)


@pytest.mark.parametrize("tied", [False, True])
def test_gradients(tiny: Callable[..., Any], windows: torch.Tensor, tied: bool) -> None:
    model = tiny(tie_word_embeddings=tied)
    layers = find_layers(model)
    found = gather(model, layers, windows, [*G, "X.l2"]).tables

    gradients: dict[str, list[torch.Tensor]] = {layer.name: [] for layer in layers.layers}
    for window in windows:
        model.zero_grad()
        model(window[None], labels=window[None]).loss.backward()
        for layer in layers.layers:
            gradients[layer.name].append(layer.parameter.grad.double())
    for name, kept in gradients.items():
        g = torch.stack(kept)
        expected = {"G.l2": g.square().sum(0).sqrt(), "G.l1": g.abs().sum(0), "G.mean": g.mean(0)}
        for leaf, value in expected.items():
            torch.testing.assert_close(found[name][leaf].double(), value, rtol=1e-4, atol=1e-8)


def test_gradients_leave_the_model_as_it_was(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    model = tiny()
    model.train()
    model.model.layers[1].mlp.eval()
    frozen, kept = model.model.norm.weight, model.model.layers[0].mlp.up_proj.weight
    frozen.requires_grad_(False)
    kept.grad = torch.ones_like(kept)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gather(model, find_layers(model), windows, [*X, *G])
    assert not frozen.requires_grad
    assert all(p.requires_grad for p in model.parameters() if p is not frozen)
    assert torch.equal(kept.grad, torch.ones_like(kept))
    assert all(p.grad is None for p in model.parameters() if p is not kept)
    assert model.training
    assert not model.model.layers[1].mlp.training
    assert model.model.layers[0].mlp.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())


def test_never_more_than_one_gradient_is_alive(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    model = tiny()
    alive: list[int] = []

    def count(parameter: torch.Tensor) -> None:
        alive.append(sum(p.grad is not None for p in model.parameters()))

    layers = find_layers(model)
    for layer in layers.layers:  # runs before the folding, which is registered later
        layer.parameter.register_post_accumulate_grad_hook(count)
    gather(model, layers, windows, G)
    assert alive == [1] * len(layers.layers) * len(windows)


@pytest.mark.parametrize(
    ("leaves", "expected"),
    [
        (("W", "noise", "in_features", "depth"), (0, 0)),
        (("W", *X, *Y), (1, 0)),
        (("G.l2",), (6, 6)),
        ((*X, *Y, *G), (6, 6)),
    ],
)
def test_a_pass_serves_all_and_none_is_wasted(
    tiny: Callable[..., Any], windows: torch.Tensor, leaves: tuple[str, ...], expected: tuple[int, int]
) -> None:
    model = tiny()
    forwards: list[int] = []
    backwards: list[int] = []
    model.model.register_forward_hook(lambda module, args, output: forwards.append(1))
    model.lm_head.register_full_backward_hook(lambda module, grads, outputs: backwards.append(1))
    gather(model, find_layers(model), windows, leaves)
    assert (len(forwards), len(backwards)) == expected  # forward windows go through in one batch


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_summed_in_float32(tiny: Callable[..., Any], windows: torch.Tensor, dtype: str) -> None:
    model, exact = tiny(dtype=dtype), tiny()
    found = gather(model, find_layers(model), windows, [*X, *G]).tables
    expected = gather(exact, find_layers(exact), windows, [*X, *G]).tables
    for name, table in found.items():
        for leaf, value in table.items():
            assert value.dtype == torch.float32
            error = (value - expected[name][leaf]).norm() / expected[name][leaf].norm()
            assert error < 0.2, (name, leaf)


def test_weights_sizes_and_noise_need_no_windows(tiny: Callable[..., Any]) -> None:
    model = tiny()
    layers = find_layers(model)
    found = gather(model, layers, None, ["W", "noise"], seed=5)
    values = found.of(layers.layers[6], ["W", "noise", "in_features", "out_features"])
    assert values["W"] is not None
    assert torch.equal(values["W"], model.model.layers[0].mlp.down_proj.weight)
    assert (values["out_features"], values["in_features"]) == (16, 24)
    assert torch.equal(values["noise"], noise(5, "model.layers.0.mlp.down_proj", (16, 24)))
    with pytest.raises(PruningError, match="number of calibration windows"):
        found.of(layers.layers[0], ["windows"])
    assert Statistics(windows=4).of(layers.layers[0], ["windows"]) == {"windows": 4}


def test_depth_goes_from_0_to_1(tiny: Callable[..., Any]) -> None:
    for blocks, expected in ((1, [0.0]), (2, [0.0, 1.0]), (5, [0.0, 0.25, 0.5, 0.75, 1.0])):
        layers = find_layers(tiny(num_hidden_layers=blocks))
        found = gather(tiny(num_hidden_layers=blocks), layers, None, ["depth"])
        assert [found.of(layers.of_block(i)[-1], ["depth"])["depth"] for i in range(blocks)] == expected


def test_noise_is_uniform_and_depends_on_seed_and_layer() -> None:
    one = noise(0, "a", (100, 200))
    assert torch.equal(one, noise(0, "a", (100, 200)))
    assert not torch.equal(one, noise(1, "a", (100, 200)))
    assert not torch.equal(one, noise(0, "b", (100, 200)))
    assert 0 <= float(one.min()) < 0.001 < 0.999 < float(one.max()) < 1
    assert float(one.mean()) == pytest.approx(0.5, abs=0.01)


def test_windows_that_do_not_fit_are_refused(tiny: Callable[..., Any]) -> None:
    model = tiny()
    layers = find_layers(model)
    with pytest.raises(PruningError, match="needs calibration windows"):
        gather(model, layers, None, ["X.l2"])
    with pytest.raises(PruningError, match="65 tokens are longer than the 64"):
        gather(model, layers, torch.zeros(1, 65, dtype=torch.int64), ["X.l2"])
    with pytest.raises(PruningError, match="token 999, but the model knows"):
        gather(model, layers, torch.full((1, 5), 999), ["X.l2"])


def faint(tiny: Callable[..., Any], dtype: str, head: float) -> Any:
    """A tiny model whose head makes its gradients so many times smaller, or larger."""
    model = tiny(dtype=dtype, hidden_size=32, intermediate_size=48)
    with torch.no_grad():
        model.lm_head.weight.mul_(head)
    return model


def error_of_half(model: Any, windows: torch.Tensor) -> float:
    """How far G of a half-precision model is from that of the same weights in float32, as a share."""
    layers = find_layers(model)
    half = gather(model, layers, windows, ["G.l2"]).tables
    whole = gather(model.float(), find_layers(model), windows, ["G.l2"]).tables
    errors = [(half[n]["G.l2"] - whole[n]["G.l2"]).norm() / whole[n]["G.l2"].norm() for n in half]
    return float(max(errors))


@pytest.mark.parametrize(("dtype", "allowed"), [("float16", 0.02), ("bfloat16", 0.1)])
def test_small_gradients_do_not_underflow(
    tiny: Callable[..., Any], windows: torch.Tensor, dtype: str, allowed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Near the smallest numbers of float16, where gradients without a scale are off by tens of per cent."""
    assert error_of_half(faint(tiny, dtype, 3e-5), windows) < allowed
    monkeypatch.setattr(gradients, "_HALF_SCALE", 1.0)
    unscaled = error_of_half(faint(tiny, dtype, 3e-5), windows)
    assert unscaled > 0.1 if dtype == "float16" else unscaled < allowed


def test_gradients_that_are_too_large_for_float16_are_told(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    model = faint(tiny, "float16", 300.0)
    with pytest.raises(PruningError, match=r"gradients of .* are too large for float16") as caught:
        gather(model, find_layers(model), windows, ["G.l2"])
    assert "bfloat16" in str(caught.value.hint)


def test_half_precision_gradients_do_not_depend_on_the_type_of_the_logits(
    tiny: Callable[..., Any], windows: torch.Tensor
) -> None:
    """A float16 model may return float32 logits: the scale of its loss comes off all the same."""
    model = tiny(dtype="float16")
    layers = find_layers(model)
    plain = gather(model, layers, windows, {"G.l2"})
    model.lm_head.register_forward_hook(lambda module, args, output: output.float())
    wide = gather(model, layers, windows, {"G.l2"})
    for name, table in plain.tables.items():
        torch.testing.assert_close(wide.tables[name]["G.l2"], table["G.l2"], rtol=0.05, atol=1e-4)


def test_layers_that_read_the_same_tensor_share_its_sums(
    tiny: Callable[..., Any], windows: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """q, k and v read one tensor, gate and up another: four inputs a block are summed, not seven."""
    summed: list[torch.Tensor] = []
    original = Sums._sum
    monkeypatch.setattr(Sums, "_sum", lambda self, values: summed.append(values) or original(self, values))
    model = tiny()
    gather(model, find_layers(model), windows, ["X.l2", "X.max"])  # one batch
    assert len(summed) == 3 * 4


def test_a_tensor_that_was_written_to_is_read_again() -> None:
    values = torch.tensor([[1.0, 2.0]])
    sums, hessians = Sums("X", ["X.l2"]), Hessians(["H.diag"], 1)
    for layer in "ab":
        sums.add(layer, values, values)
        hessians.add(layer, values, values)
        values.mul_(2)
    assert [sums.finish(layer)["X.l2"].tolist() for layer in "ab"] == [[[1.0, 2.0]], [[2.0, 4.0]]]
    first, second = (hessians.finish(layer)["H.diag"] for layer in "ab")
    assert second.equal(4 * first)


@pytest.mark.parametrize("metric", ["fisher", "abs(W) * G per row", "pruner_zero"])
def test_layers_that_no_gradient_reaches_are_an_error(
    tiny: Callable[..., Any], windows: torch.Tensor, metric: str
) -> None:
    """Behind an output projection of zeros q, k and v have none: the scores of each would all tie."""
    model = tiny()
    model.model.layers[1].self_attn.o_proj.weight.data.zero_()
    model(input_ids=windows, labels=windows).loss.backward()
    none = [x.name for x in find_layers(model).layers if not x.parameter.grad.any()]
    assert none == [f"model.layers.1.self_attn.{x}_proj" for x in "qkv"]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(NoGradient, match=f"no gradient reaches {', '.join(none)}\n") as caught:
        prune(model, metric, windows=windows)
    assert all(f"--exclude '{name}'" in str(caught.value.hint) for name in none)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    prune(model, metric, windows=windows, exclude=none, per="row")


def test_a_loss_without_a_graph_is_an_error(
    tiny: Callable[..., Any], windows: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny()
    with torch.inference_mode(), pytest.raises(NoGradient, match=r"no gradient reaches model\.layers\.0\.") as caught:
        prune(model, "abs(W) * G per row", windows=windows)
    assert "inference_mode" in str(caught.value.hint)
    monkeypatch.setattr(model, "forward", torch.no_grad()(model.forward))
    with pytest.raises(NoGradient, match="or any other layer"):
        prune(model, "abs(W) * G per row", windows=windows)


def test_only_layers_whose_score_reads_gradients_need_any(
    tiny: Callable[..., Any], windows: torch.Tensor, tmp_path: Path
) -> None:
    model = tiny()
    model.model.layers[1].self_attn.o_proj.weight.data.zero_()
    roles = "pzm 1\nmetric m {\n    q_proj, k_proj, v_proj: abs(W)  per row\n    else: abs(W) * G  per row\n}\n"
    (tmp_path / "m.pzm").write_text(roles)
    assert prune(model, tmp_path / "m.pzm", windows=windows, exclude=["layers.1.self_attn.o_proj"]).sparsity == 0.5


def test_zeros_that_have_no_gradient_stay_zeros(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    """Where up and down are both zero neither has a gradient, and nothing of theirs can be lost."""
    model = tiny()
    for part in (model.model.layers[1].mlp.up_proj, model.model.layers[1].mlp.down_proj):
        part.weight.data.zero_()
    found = prune(model, "abs(W) * G per row", windows=windows, exclude=["layers.1.mlp.gate_proj"])
    assert found.layers["model.layers.1.mlp.up_proj"] == 1.0


@pytest.mark.parametrize("exclude", [[], ["layers.0.*"]])
def test_a_weight_that_several_modules_share_reads_what_all_of_them_read(
    tiny: Callable[..., Any], windows: torch.Tensor, exclude: list[str]
) -> None:
    model = tiny()
    first, last = (model.model.layers[i].mlp.down_proj for i in (0, 2))
    last.weight = first.weight
    seen: list[torch.Tensor] = []
    handles = [x.register_forward_hook(lambda m, args, y: seen.append(args[0].flatten(0, -2))) for x in (first, last)]
    with torch.no_grad():
        model(windows)
    for handle in handles:
        handle.remove()
    layers = find_layers(model, exclude=exclude)
    shared = next(layer for layer in layers.layers if layer.parameter is first.weight)
    rows = torch.cat(seen).double()
    for others in ((), ("H.diag",), ("G.l2",)):
        found = gather(model, layers, windows, ["X.l2", *others]).tables[shared.name]
        torch.testing.assert_close(found["X.l2"][0].double(), rows.norm(dim=0), rtol=1e-4, atol=1e-5)
    diagonal = gather(model, layers, windows, ["H.diag"]).tables[shared.name]["H.diag"][0].double()
    expected = 2 / len(windows) * rows.square().sum(0)
    torch.testing.assert_close(diagonal, expected + 0.01 * expected.mean(), rtol=1e-4, atol=1e-5)
    with pytest.raises(NoChain, match=f"{shared.name} shares its weight with other layers"):
        prune(model, "wanda", windows=windows, sequential=True, exclude=exclude)
