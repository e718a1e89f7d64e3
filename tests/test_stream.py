"""Pruning from shard to shard: the same bits as in memory, and whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from pzc.runtime.evaluation.evaluate import window_losses
from pzc.runtime.evaluation.uncertainty import perplexity
from pzc.runtime.models.loading import load_model
from pzc.runtime.pruning import block as blocks
from pzc.runtime.pruning.masking import masks_each
from pzc.runtime.pruning.prune import prune
from pzc.runtime.pruning.request import Request
from pzc.runtime.statistics.gather import Statistics
from pzc.runtime.statistics.unreached import UnreachedExperts
from pzc.runtime.streaming.model import open_shell
from pzc.runtime.streaming.stream import Streamed, Windows, stream
from tests.families import make_family


@pytest.fixture
def source(tiny: Callable[..., Any], tokenizer: Any, tmp_path: Path) -> Callable[..., Path]:
    """Saves a tiny model in several shards."""

    def save(**how: Any) -> Path:
        folder = tmp_path / "source"
        tiny(**how).save_pretrained(folder, max_shard_size=6000)
        tokenizer.save_pretrained(folder)
        return folder

    return save


def streamed(
    folder: Path, output: Path, metric: str, windows: Tensor, dtype: str | None = None, **how: Any
) -> Streamed:
    request = Request.of(metric, **how)
    shell = open_shell(str(folder), device="cpu", dtype=dtype, include=request.include, exclude=request.exclude)
    with stream(shell, request, Windows(windows, windows[:2]), output) as (result,):
        result.save({"a": 1})
    return result


def weights_of(folder: Path) -> dict[str, Tensor]:
    return {key: value for file in sorted(folder.glob("*.safetensors")) for key, value in load_file(file).items()}


RUNS = {
    "weights only": ("magnitude", {}),
    "per column": ("abs(W) per col", {}),
    "wanda one-shot": ("wanda", {}),
    "wanda sequential": ("wanda", {"sequential": True}),
    "wanda 2:4": ("wanda", {"pattern": (2, 4)}),
    "wanda 2:4 sequential": ("wanda", {"pattern": (2, 4), "sequential": True}),
    "per block": ("wanda", {"per": "block", "sparsity": 0.3}),
    "outputs": ("abs(W) * X.var + Y.max per row", {"sequential": True}),
    "hessian": ("abs(W) / H.inv_diag per row", {}),
    "hessian sequential": ("abs(W) / H.inv_diag per row", {"sequential": True}),
    "gradient": ("pruner_zero", {}),
    "gradient and activations": ("abs(W) * X + abs(G.mean) * Y per row", {}),
    "gradient and activations, sequential": ("abs(W) * X + abs(G.mean) per row", {"sequential": True}),
    "gradient and hessian": ("abs(W) * H.diag + G.l1 per row", {}),
    "per model": ("abs(W) per model", {"sparsity": 0.4}),
    "per model, with ties": ("sign(abs(W) - 0.2) + depth per model", {}),
    "per model, with activations": ("wanda", {"per": "model"}),
    "per model, with gradients": ("abs(W) * G + X per model", {}),
    "by role": ("roles.pzm", {}),
    "noise and depth": ("abs(W) + noise * depth + windows per row", {}),
    "update": ("wanda", {"update": "obs"}),
    "update, one-shot": ("wanda", {"update": "obs", "sequential": False}),
    "update of weights alone": ("magnitude", {"update": "obs", "pattern": (2, 4)}),
    "update, gradients": ("abs(W) * X + G per row", {"update": "obs"}),
    "update, gradients, one-shot": ("abs(W) * X + G per block", {"update": "obs", "sequential": False}),
    "update, per model": ("abs(W) * X per model", {"update": "obs", "sequential": False}),
    "update, per model, gradients": ("abs(W) * G * X per model", {"update": "obs", "sequential": False}),
    "update, by role": ("roles.pzm", {"update": "obs", "sequential": False}),
    "sparsegpt": ("sparsegpt", {}),
    "sparsegpt 2:4, one-shot": ("sparsegpt", {"pattern": (2, 4), "sequential": False}),
    "sparsegpt's score, updated": ("sparsegpt", {"update": "obs"}),
    "owl": ("wanda", {"allocation": "owl"}),
    "owl, sequential": ("wanda", {"allocation": "owl", "sequential": True}),
    "owl, weights alone": ("magnitude", {"allocation": "owl"}),
    "owl, gradients": ("abs(W) * X * G per row", {"allocation": "owl"}),
    "owl, gradients, sequential": ("abs(W) * X * G per row", {"allocation": "owl", "sequential": True}),
    "owl, update": ("wanda", {"allocation": "owl", "update": "obs"}),
    "owl, update, one-shot": ("wanda", {"allocation": "owl", "update": "obs", "sequential": False}),
    "owl, sparsegpt": ("sparsegpt", {"allocation": "owl"}),
    "owl, sparsegpt's score": ("sparsegpt", {"allocation": "owl", "update": "none"}),
    "owl 4:8": ("wanda", {"allocation": "owl", "pattern": (4, 8)}),
    "alpha": ("wanda", {"allocation": "alpha"}),
    "alpha, weights alone": ("magnitude", {"allocation": "alpha"}),
    "alpha, update": ("wanda", {"allocation": "alpha", "update": "obs"}),
    "blocks": ("wanda", {"allocation": {"blocks": [0.3, 0.5, 0.6]}, "sequential": True}),
    "layers": ("abs(W) * G per row", {"allocation": {"layers": {"layers.0.*": 0, "q_proj": 0.6}}}),
    "some layers": ("wanda", {"include": ("layers.0.*", "q_proj"), "exclude": ("layers.1.*",), "sequential": True}),
    "some layers, update": ("wanda", {"include": ("layers.2.*",), "update": "obs", "allocation": "owl"}),
}


ROLES = """pzm 1
metric roles {
    o_proj, down_proj: abs(W) * X  per model
    gate_proj, up_proj: abs(W) * Y  per block
    else: abs(W) * X  per row
}
"""


IN_EVERY_TYPE = (
    "weights only", "wanda one-shot", "wanda 2:4 sequential", "hessian sequential", "gradient",
    "gradient and activations, sequential", "per model, with gradients", "by role", "update", "update, gradients",
    "update, per model", "sparsegpt", "owl", "owl, gradients", "alpha, update",
)  # fmt: skip
"""Runs that are tried in float32 and float16 too, one or two of each kind; the others in bfloat16 alone."""


@pytest.mark.parametrize(
    ("run", "dtype"),
    [(run, "bfloat16") for run in RUNS] + [(run, dtype) for dtype in ("float32", "float16") for run in IN_EVERY_TYPE],
)
def test_every_bit_is_as_in_memory(
    run: str, dtype: str, source: Callable[..., Path], windows: Tensor, tmp_path: Path
) -> None:
    metric, how = RUNS[run]
    if metric == "roles.pzm":
        (tmp_path / metric).write_text(ROLES)
        metric = str(tmp_path / metric)
    folder = source(dtype=dtype, tie_word_embeddings=dtype == "bfloat16")
    result = streamed(folder, tmp_path / "out", metric, windows, **how)
    loaded = load_model(str(folder), device="cpu")
    before = perplexity(window_losses(loaded.model, windows[:2]))
    pruned = prune(loaded.model, metric, windows=windows, **how)
    found, expected = weights_of(tmp_path / "out"), loaded.model.state_dict()
    assert {key: value.dtype for key, value in found.items()} == {
        key: value.dtype for key, value in weights_of(folder).items()
    }
    for key, value in found.items():
        assert torch.equal(value.view(torch.uint8), expected[key].view(torch.uint8)), key
    close = 1e-5 if dtype == "float32" else 1e-4  # the head runs over other numbers of tokens
    assert result.before == pytest.approx(before, rel=close)
    assert result.after == pytest.approx(perplexity(window_losses(loaded.model, windows[:2])), rel=close)
    assert (result.pruned.sparsity, result.pruned.dense_sparsity) == (pruned.sparsity, pruned.dense_sparsity)
    assert result.pruned.layers == pruned.layers
    assert (result.pruned.passes, result.pruned.sequential) == (pruned.passes, pruned.sequential)
    assert result.pruned.weights == pruned.weights
    assert result.pruned.allocated == pruned.allocated
    assert (result.pruned.update, result.pruned.damped) == (pruned.update, pruned.damped)


def test_the_layout_of_the_source_is_kept_and_plain_transformers_loads_it(
    source: Callable[..., Path], windows: Tensor, tmp_path: Path
) -> None:
    folder = source()
    assert len(list(folder.glob("*.safetensors"))) > 3
    streamed(folder, tmp_path / "out", "wanda", windows)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(
        [*(p.name for p in folder.iterdir()), "pruning.json"]
    )
    for file in folder.glob("*.safetensors"):
        assert file.stat().st_size == (tmp_path / "out" / file.name).stat().st_size
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert {key: float((value == 0).float().mean()) for key, value in again.state_dict().items() if "mlp" in key} == {
        key: 0.5 for key in again.state_dict() if "mlp" in key
    }
    assert json.loads((tmp_path / "out" / "pruning.json").read_text()) == {"a": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "source"]


@pytest.mark.parametrize("sequential", [False, True])
def test_gradients_block_by_block_are_those_of_a_plain_backward(
    sequential: bool, source: Callable[..., Path], windows: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = source()
    found: dict[str, Tensor] = {}

    def note(metric: Any, targets: Any, statistics: Statistics, layers: Any, **how: Any) -> list[dict[str, Tensor]]:
        for layer in layers:
            for leaf in ("G.l2", "G.l1", "G.mean"):
                found[f"{layer.name} {leaf}"] = statistics.tables[layer.name][leaf].clone()
        return masks_each(metric, targets, statistics, layers, **how)

    monkeypatch.setattr(blocks, "masks_each", note)
    metric = "abs(W) * (G.l2 + G.l1 + abs(G.mean)) * X per row"
    streamed(folder, tmp_path / "out", metric, windows, sequential=sequential)
    model = AutoModelForCausalLM.from_pretrained(folder)
    gradients: dict[str, list[Tensor]] = {}
    for window in windows.split(1):
        model.zero_grad()
        model(input_ids=window, labels=window).loss.backward()
        for name, parameter in model.named_parameters():
            if name.endswith("proj.weight"):
                gradients.setdefault(name.removesuffix(".weight"), []).append(parameter.grad.clone())
    assert len(found) == 3 * len(gradients) == 63
    for name, each in gradients.items():
        g = torch.stack(each)
        for leaf, expected in (("l2", g.square().sum(0).sqrt()), ("l1", g.abs().sum(0)), ("mean", g.mean(0))):
            error = (found[f"{name} G.{leaf}"] - expected).norm() / expected.norm()
            assert error < 1e-5, (name, leaf)


@pytest.mark.parametrize("metric", ["wanda", "abs(W) * G per row"])
def test_experts_that_nothing_reached_are_those_of_a_run_in_memory(
    metric: str, tokenizer: Any, windows: Tensor, tmp_path: Path
) -> None:
    model = make_family("GptOss")
    for block in model.model.layers:
        block.mlp.router.bias.data[2] = -1e4
    model.save_pretrained(tmp_path / "source")
    tokenizer.save_pretrained(tmp_path / "source")
    with pytest.warns(UnreachedExperts):
        result = streamed(tmp_path / "source", tmp_path / "out", metric, windows)
    with pytest.warns(UnreachedExperts):
        pruned = prune(model, metric, windows=windows)
    assert {name.split(".experts.")[1].split(".")[0] for name in pruned.unreached} == {"2"}
    assert set(result.pruned.unreached) == set(pruned.unreached)
