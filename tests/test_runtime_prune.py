"""Pruning a whole model: against a naive implementation, and without harm when it fails."""

from __future__ import annotations

import copy
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import pzc
from pzc.compiler.core import Node, leaf, make, number
from pzc.compiler.metric import Metric
from pzc.runtime.errors import Hopeless, NonFiniteScore, PruningError
from pzc.runtime.evaluation.evaluate import window_losses
from pzc.runtime.models.layers import find_layers
from pzc.runtime.pruning.masking import masks_for
from pzc.runtime.pruning.prune import prune, prune_each
from pzc.runtime.pruning.request import Request
from pzc.runtime.scoring.masks import Target
from pzc.runtime.statistics.gather import gather
from pzc.runtime.statistics.sequential import NoChain

W, X, G = leaf("W"), leaf("X.l2"), leaf("G.l2")
A = make("abs", W)


def scored(core: Node, per: str = "row") -> Metric:
    return Metric("test", core, per)


MAGNITUDE = scored(A, "layer")
WANDA = scored(make("mul", A, X))
WITH_GRADIENTS = scored(make("add", make("mul", A, X), make("mul", A, G)))


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[n].view(torch.int32), b[n].view(torch.int32)) for n in a)


def input_norms(model: Any, layer: Any, windows: torch.Tensor) -> np.ndarray:
    """‖x_j‖ in float64 of one layer's inputs, by running the whole model."""
    seen: list[np.ndarray] = []
    handle = layer.module.register_forward_hook(lambda m, args, out: seen.append(args[0][0].double().numpy()))
    with torch.no_grad():
        for window in windows:
            model(window[None])
    handle.remove()
    return np.sqrt((np.concatenate(seen) ** 2).sum(0))


def drop_half_of_each_row(layer: Any, scores: np.ndarray) -> None:
    order = np.argsort(scores, axis=1, kind="stable")[:, : scores.shape[1] // 2]
    np.put_along_axis(layer.weight.numpy(), order, 0, axis=1)


@pytest.mark.parametrize("sequential", [False, True])
def test_wanda_as_a_naive_loop_does_it(tiny: Callable[..., Any], windows: torch.Tensor, sequential: bool) -> None:
    model, expected = tiny(), tiny()
    layers = find_layers(expected)
    dense = tiny()
    for index in range(3):
        source = expected if sequential else dense
        members = {layer.name: layer for layer in find_layers(source).of_block(index)}
        norms = {name: input_norms(source, layer, windows) for name, layer in members.items()}
        for layer in layers.of_block(index):
            drop_half_of_each_row(layer, np.abs(layer.weight.numpy()) * norms[layer.name])
    result = prune(model, WANDA, windows=windows, sequential=sequential)
    assert same_bits(weights(model), weights(expected))
    assert result.sequential is sequential
    assert result.sparsity == 0.5


def test_gradients_are_the_dense_models(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    model, expected, dense = tiny(), tiny(), tiny()
    layers = find_layers(expected)
    gradients = gather(dense, find_layers(dense), windows, ["G.l2"]).tables
    for index in range(3):
        norms = {layer.name: input_norms(expected, layer, windows) for layer in layers.of_block(index)}
        for layer in layers.of_block(index):
            scores = np.abs(layer.weight.numpy()) * (norms[layer.name] + gradients[layer.name]["G.l2"].numpy())
            drop_half_of_each_row(layer, scores)
    result = prune(model, WITH_GRADIENTS, windows=windows, sequential=True)
    assert same_bits(weights(model), weights(expected))
    assert result.passes == ("forward", "backward")


def test_sequential_walks_other_families() -> None:
    from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config

    sizes = {"vocab_size": 20, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    gemma = Gemma2Config(
        **sizes,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=4,
        sliding_window=4,  # every other block: so blocks differ in their masks
    )
    gpt2 = GPT2Config(**sizes, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    windows = torch.randint(0, 20, (3, 12), generator=torch.Generator().manual_seed(0))
    for config in (gemma, gpt2):
        model = AutoModelForCausalLM.from_config(config).eval()
        expected = AutoModelForCausalLM.from_config(config).eval()
        expected.load_state_dict(model.state_dict())
        layers = find_layers(expected)
        for index in range(len(layers.blocks)):
            norms = {layer.name: input_norms(expected, layer, windows) for layer in layers.of_block(index)}
            for layer in layers.of_block(index):
                drop_half_of_each_row(layer, np.abs(layer.weight.numpy()) * norms[layer.name])
        prune(model, WANDA, windows=windows, sequential=True)
        assert same_bits(weights(model), weights(expected))


def test_blocks_that_are_no_chain_are_not_walked(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    model = tiny()
    before = weights(model)
    model.model.layers[1].register_forward_pre_hook(lambda module, args: (args[0] + 1, *args[1:]))
    with pytest.raises(PruningError, match="block 1 does not read the output of the block before it"):
        prune(model, WANDA, windows=windows, sequential=True)
    assert same_bits(weights(model), before)


class Gated(nn.Module):
    """A model whose blocks put out, beside hidden states, what may be the gate of the block behind them, and that goes
    through its blocks a number of times."""

    def __init__(self, *, hands_on: bool, times: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embeddings = nn.Embedding(20, 8)
        self.layers = nn.ModuleList([_GatedBlock() for _ in range(3)])
        self._hands_on, self._times = hands_on, times

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings

    def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> None:
        hidden, gate = self.embeddings(input_ids), None
        for _ in range(self._times):
            for layer in self.layers:
                hidden, made = layer(hidden, gate)
                gate = made if self._hands_on else None


class _GatedBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, hidden_states: torch.Tensor, gate: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        made = self.gate(hidden_states).sigmoid()
        return hidden_states + self.up(hidden_states * (made if gate is None else gate)), made


def test_what_blocks_hand_on_to_each_other_is_not_taken_from_the_dense_model(windows: torch.Tensor) -> None:
    model, expected = Gated(hands_on=False), Gated(hands_on=False)
    layers = find_layers(expected)
    for index in range(3):
        norms = {layer.name: input_norms(expected, layer, windows) for layer in layers.of_block(index)}
        for layer in layers.of_block(index):
            drop_half_of_each_row(layer, np.abs(layer.weight.numpy()) * norms[layer.name])
    prune(model, WANDA, windows=windows, sequential=True)
    assert same_bits(weights(model), weights(expected))

    handing = Gated(hands_on=True)
    before = weights(handing)
    with pytest.raises(NoChain, match="hand on values to each other"):
        prune(handing, WANDA, windows=windows, sequential=True)
    assert same_bits(weights(handing), before)
    prune(handing, WANDA, windows=windows, update="obs", sequential=False)  # all that it reads is of the dense model


def test_blocks_that_run_several_times_are_not_walked(windows: torch.Tensor) -> None:
    with pytest.raises(NoChain, match="runs its blocks several times"):
        prune(Gated(hands_on=False, times=2), WANDA, windows=windows, sequential=True)


@pytest.mark.parametrize("metric", ["wanda", "pruner_zero", "abs(W) / H.inv_diag per row"])
def test_a_model_that_changes_its_own_weights_is_refused(windows: torch.Tensor, metric: str) -> None:
    """RWKV divides some of them by powers of two when it is first evaluated, and knows only itself that it has."""
    from transformers import RwkvConfig, RwkvForCausalLM

    config = RwkvConfig(vocab_size=20, hidden_size=16, num_hidden_layers=2, context_length=32, rescale_every=1)
    with pytest.raises(Hopeless, match=r"running this model changes its weights, such as rwkv\.blocks"):
        prune(RwkvForCausalLM(config), metric, windows=windows)
    model = RwkvForCausalLM(config)
    before = weights(model)
    prune(model, "magnitude", windows=windows)
    assert all(((value == before[name]) | (value == 0)).all() for name, value in model.state_dict().items())


@pytest.mark.parametrize("per", ["row", "col", "layer", "block", "model"])
def test_each_group_reaches_its_sparsity(tiny: Callable[..., Any], per: str) -> None:
    model = tiny()
    result = prune(model, MAGNITUDE, sparsity=0.75, per=per)
    assert result.sparsity == 0.75
    assert result.dense_sparsity == 0
    assert result.weights == find_layers(model).size
    assert result.passes == ()
    assert len(result.layers) == 21
    if per in ("block", "model"):
        assert len(set(result.layers.values())) > 1
    else:
        assert set(result.layers.values()) == {0.75}


def test_patterns_keep_n_of_m(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    model = tiny()
    result = prune(model, WANDA, windows=windows, pattern="1:4")
    assert result.sparsity == 0.75
    for layer in find_layers(model).layers:
        assert set(layer.weight.reshape(-1, 4).count_nonzero(1).tolist()) == {1}


def test_half_precision_keeps_its_type(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    model = tiny(dtype="bfloat16")
    assert prune(model, WANDA, windows=windows).sparsity == 0.5
    assert model.dtype == torch.bfloat16


def test_what_is_not_pruned_stays(tiny: Callable[..., Any]) -> None:
    model, dense = tiny(), weights(tiny())
    prune(model, MAGNITUDE)
    pruned = {f"{layer.name}.weight" for layer in find_layers(model).layers}
    for name, value in weights(model).items():
        kept = value != 0 if name in pruned else torch.ones_like(value, dtype=torch.bool)
        assert torch.equal(value[kept], dense[name][kept])


@pytest.mark.parametrize("sequential", [False, True])
def test_a_score_that_is_not_finite_leaves_the_weights_alone(
    tiny: Callable[..., Any], windows: torch.Tensor, sequential: bool
) -> None:
    model = tiny()
    with torch.no_grad():
        model.model.layers[2].mlp.up_proj.weight[5, 7] = 0
    before = weights(model)
    metric = scored(make("mul", X, make("ln", make("sqr", W))))
    with pytest.raises(NonFiniteScore) as caught:
        prune(model, metric, windows=windows, sequential=sequential)
    assert caught.value.data["layer"] == "model.layers.2.mlp.up_proj"
    assert caught.value.data["share"] == pytest.approx(1 / (24 * 16))
    assert caught.value.data["expression"] == "ln(sqr(W))"
    assert same_bits(weights(model), before)


@pytest.mark.parametrize("sequential", [False, True])
def test_an_interrupt_leaves_the_weights_alone(
    tiny: Callable[..., Any], windows: torch.Tensor, sequential: bool
) -> None:
    model = tiny()
    before = weights(model)

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage in ("blocks", "masks") and done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune(model, WANDA, windows=windows, sequential=sequential, progress=interrupt)
    assert same_bits(weights(model), before)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("core", "options", "message"),
    [
        (make("sum", W, value="in"), {}, r"constant inside its group \(per row\)"),
        (X, {"per": "col"}, r"constant inside its group \(per col\)"),
        (make("mean", W), {"per": "layer"}, r"constant inside its group \(per layer\)"),
        (make("sum", W, value="in"), {"pattern": "2:4"}, r"constant inside its group \(2:4\)"),
        (A, {"pattern": (2, 5)}, "2:5 needs a multiple of 5 inputs"),
        (A, {"per": "model", "sequential": True}, "block by block"),
        (A, {"per": "head"}, "no comparison group"),
        (A, {"sparsity": 1.5}, "between 0 and 1"),
        (make("mul", A, X), {}, "needs calibration windows"),
        (make("mul", A, X), {"sequential": True}, "needs calibration windows"),
    ],
)
def test_requests_that_make_no_sense(
    tiny: Callable[..., Any], core: Node, options: dict[str, Any], message: str
) -> None:
    model = tiny()
    before = weights(model)
    with pytest.raises(PruningError, match=message):
        prune(model, scored(core), **options)
    assert same_bits(weights(model), before)


def test_a_column_score_prunes_whole_columns(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    model = tiny()
    prune(model, scored(X), windows=windows)
    for layer in find_layers(model).layers:
        used = layer.weight.count_nonzero(0)
        assert set(used.tolist()) == {0, layer.shape[0]}


def test_masks_can_be_had_without_pruning(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    model = tiny()
    before = weights(model)
    layers = find_layers(model)
    statistics = gather(model, layers, windows, ["X.l2"])
    masks = masks_for(WANDA, Target("row", 0.5), statistics, layers.layers[:2])
    assert list(masks) == [layer.name for layer in layers.layers[:2]]
    assert all(int((~mask).sum()) == mask.numel() // 2 for mask in masks.values())
    assert same_bits(weights(model), before)


def test_noise_follows_the_seed(tiny: Callable[..., Any]) -> None:
    def pruned(seed: int) -> dict[str, torch.Tensor]:
        model = tiny()
        prune(model, scored(leaf("noise")), seed=seed)
        return weights(model)

    assert same_bits(pruned(1), pruned(1))
    assert not same_bits(pruned(1), pruned(2))


def test_a_constant_factor_changes_no_mask(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    one, other = tiny(), tiny()
    prune(one, WANDA, windows=windows)
    prune(other, scored(make("mul", number(2), WANDA.core)), windows=windows)
    assert same_bits(weights(one), weights(other))


@pytest.mark.shared
def test_better_metrics_hurt_a_trained_model_less(shared: Any) -> None:
    from pzc.runtime.data.texts import sides
    from pzc.runtime.data.windows import calibration_windows, evaluation_windows, tokenise
    from pzc.runtime.evaluation.evaluate import window_losses
    from pzc.runtime.evaluation.uncertainty import perplexity
    from pzc.runtime.models.loading import load_model

    text = str(shared / "data/text/tinystories-val.txt")
    found = {}
    for name, metric in {"dense": None, "magnitude": MAGNITUDE, "wanda": WANDA}.items():
        loaded = load_model(str(shared / "models/stories260K"))
        calibration, evaluation = (tokenise(loaded.tokenizer, side.text) for side in sides(text))
        if metric:
            prune(loaded.model, metric, windows=calibration_windows(calibration, 8, 256))
        found[name] = perplexity(window_losses(loaded.model, evaluation_windows(evaluation, 8, 256)))
    assert found["dense"] < found["wanda"] < found["magnitude"]


def test_there_are_no_other_options(tiny: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="there is no option `sparsty`; there are allocation, cache, exclude"):
        prune(tiny(), "magnitude", sparsty=0.9)  # type: ignore[call-arg]


@pytest.mark.parametrize("how", [{}, {"sequential": True}])
def test_what_on_mask_raises_leaves_the_weights_alone(
    tiny: Callable[..., Any], windows: torch.Tensor, how: dict[str, Any]
) -> None:
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def interrupt(name: str, mask: torch.Tensor) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune(model, "wanda", windows=windows, on_mask=interrupt, **how)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("sparsities", [[0.5], [0.3, 0.5]])
@pytest.mark.parametrize("how", [{"sequential": True}, {"update": "obs"}])
def test_several_sparsities_are_pruned_one_shot(
    tiny: Callable[..., Any], windows: torch.Tensor, sparsities: list[float], how: dict[str, Any]
) -> None:
    with pytest.raises(PruningError, match="statistics of the dense model"):
        next(prune_each(tiny(), "wanda", windows=windows, sparsity=sparsities, **how))


def test_options_may_be_given_as_people_write_them(tiny: Callable[..., Any], tmp_path: Path) -> None:
    """A path for a metric, one pattern of layers without a list, a folder as a text."""
    file = tmp_path / "m.pzm"
    file.write_text("pzm 1\nmetric m = abs(W)\n", encoding="utf-8")
    model, other = tiny(), tiny()
    prune(model, file, include="*q_proj", cache=str(tmp_path / "kept"))
    prune(other, "abs(W)", include=["*q_proj"])
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_numbers_may_be_of_any_library() -> None:
    for share in (np.float32(0.3), np.float64(0.3), Fraction(3, 10)):
        assert float(Request.of("wanda", sparsity=share).target.sparsity) == 0.3


@pytest.mark.parametrize("metric", ["wanda", "gblm", "abs(W) / H.inv_diag per row"])
def test_tokens_may_be_integers_of_any_size(metric: str, tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    models = [tiny() for _ in range(3)]
    for k, kind in enumerate((torch.int64, torch.int32, torch.uint8)):
        prune(models[k], metric, windows=windows.to(kind))
        window_losses(models[k], windows.to(kind))
    assert all(a.equal(b) and a.equal(c) for a, b, c in zip(*(m.parameters() for m in models), strict=True))


def test_an_allocation_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    file.write_text("blocks = [0.3, 0.5, 0.7]\n", encoding="utf-8")
    asked = [Request.of("magnitude", allocation=x) for x in (file, str(file), {"blocks": [0.3, 0.5, 0.7]})]
    assert asked[0] == asked[1] == asked[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": "0.5"}, "a sparsity of '0.5' is no number"),
        ({"sparsity": np.array([0.3, 0.5])}, r"a sparsity of array\(\[0\.3, 0\.5\]\) is no number"),
        ({"allocation": "none.toml"}, r"cannot read none\.toml: no such file"),
        ({"allocation": "owls"}, "there is no allocation `owls`"),
        ({"pattern": (2,)}, "2 is no pattern"),
        ({"pattern": (2.0, 4.0)}, r"2\.0:4\.0 is no pattern"),
        ({"windows": torch.zeros(16, dtype=torch.long)}, r"not one of shape \[16\]"),
        ({"windows": torch.zeros(1, 2, 16, dtype=torch.long)}, r"not one of shape \[1, 2, 16\]"),
        ({"windows": torch.full((1, 16), -1)}, "the windows hold token -1"),
    ],
)
def test_options_of_another_kind_are_said_to_be(
    options: dict[str, Any], message: str, tiny: Callable[..., Any]
) -> None:
    with pytest.raises(PruningError, match=message):
        prune(tiny(), "wanda", **{"windows": torch.zeros(1, 16, dtype=torch.long), **options})


def test_a_copy_of_sparsegpt_is_the_published_method() -> None:
    assert Request.of(copy.deepcopy(pzc.load("sparsegpt"))).update == "sparsegpt"
