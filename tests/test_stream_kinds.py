"""What else streaming does as a run in memory does it: families, several results, masks alone, kept gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from pzc.runtime.models.loading import load_model
from pzc.runtime.pruning.mask_files import read_masks
from pzc.runtime.pruning.prune import prune, prune_each
from pzc.runtime.pruning.request import Request
from pzc.runtime.streaming import sweeps
from pzc.runtime.streaming.model import open_shell
from pzc.runtime.streaming.stream import Streamed, Windows, stream
from tests.families import FAMILIES, make_family, some_windows
from tests.test_stream import source, streamed, weights_of

__all__ = ["source"]

DEEPSEEK = {
    "hidden_size": 16, "intermediate_size": 32, "moe_intermediate_size": 8, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "kv_lora_rank": 8,
    "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 4, "max_position_embeddings": 32,
}  # fmt: skip
"""A mixture that is none of the tested families, with layers of its own kind of attention."""


@pytest.mark.parametrize(
    ("metric", "how"),
    [
        ("abs(W) * X per row", {"sequential": True}),
        ("abs(W) * X * G per row", {"allocation": "owl"}),
        ("sparsegpt", {}),
    ],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_streamed_as_it_is_pruned_in_memory(
    family: str, metric: str, how: dict[str, Any], tokenizer: Any, tmp_path: Path
) -> None:
    """Stored as transformers stores it: the experts of Mixtral and Qwen one by one."""
    windows = some_windows()
    make_family(family).save_pretrained(tmp_path / "source", max_shard_size=20_000)
    tokenizer.save_pretrained(tmp_path / "source")
    result = streamed(tmp_path / "source", tmp_path / "out", metric, windows, **how)
    loaded = load_model(str(tmp_path / "source"), device="cpu").model
    pruned = prune(loaded, metric, windows=windows, **how)
    assert result.pruned.layers == pruned.layers
    before, after = weights_of(tmp_path / "source"), weights_of(tmp_path / "out")
    assert {key: value.shape for key, value in before.items()} == {key: value.shape for key, value in after.items()}
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, again[key]), key


@pytest.mark.parametrize(
    ("family", "dtype", "keeps"),
    [
        ("GptOss", "float16", True),  # its norms
        ("GptOss", "bfloat16", False),
        ("Mixtral", "bfloat16", False),
        ("DeepseekV3", "bfloat16", True),  # a buffer
    ],
)
def test_what_transformers_keeps_in_float32_stays_so(
    family: str, dtype: str, keeps: bool, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, "DeepseekV3", (DEEPSEEK, "model.layers", []))
    make_family(family).to(getattr(torch, dtype)).save_pretrained(tmp_path / "source")
    tokenizer.save_pretrained(tmp_path / "source")
    streamed(tmp_path / "source", tmp_path / "out", "wanda", some_windows(), sequential=True)
    loaded = load_model(str(tmp_path / "source"), device="cpu").model
    prune(loaded, "wanda", windows=some_windows(), sequential=True)
    loaded.save_pretrained(tmp_path / "expected")
    found, expected = weights_of(tmp_path / "out"), weights_of(tmp_path / "expected")
    assert {key: value.dtype for key, value in found.items()} == {key: value.dtype for key, value in expected.items()}
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
    assert (torch.float32 in {value.dtype for value in found.values()}) is keeps


def several(
    folder: Path, output: Path, metric: str, windows: Tensor, mask_only: bool = False, **how: Any
) -> list[Streamed]:
    request = Request.of(metric, **how)
    shell = open_shell(str(folder), device="cpu")
    places = [output.with_name(f"{output.name}-{k}") for k in range(len(request.targets))]
    with stream(shell, request, Windows(windows, windows[:2]), output, places=places, mask_only=mask_only) as results:
        for k, result in enumerate(results):
            result.save({"k": k})
    return results


@pytest.mark.parametrize("mask_only", [False, True])
@pytest.mark.parametrize(
    ("metric", "how"),
    [
        ("magnitude", {}),
        ("wanda", {"allocation": "owl"}),
        ("abs(W) * G per row", {}),
        ("abs(W) * X per model", {}),
        ("abs(W) * G + X per model", {}),
    ],
)
def test_several_sparsities_come_from_one_stream(
    metric: str, how: dict[str, Any], mask_only: bool, source: Callable[..., Path], windows: Tensor, tmp_path: Path
) -> None:
    folder, shares = source(dtype="bfloat16"), [0.7, 0.3, 0.5]
    results = several(folder, tmp_path / "out", metric, windows, mask_only, sparsity=shares, **how)
    model = load_model(str(folder), device="cpu").model
    masks: dict[str, Tensor] = {}
    each = prune_each(model, metric, sparsity=shares, windows=windows, on_mask=masks.__setitem__, **how)
    for k, (result, expected) in enumerate(zip(results, each, strict=True)):
        assert result.pruned.target == expected.target
        assert result.pruned.layers == expected.layers
        assert result.pruned.allocated == expected.allocated
        place = tmp_path / f"out-{k}"
        if mask_only:
            found = read_masks(place)
            assert found.about == {"k": k}
            assert all(torch.equal(found.masks[name], mask) for name, mask in masks.items())
        else:
            state = model.state_dict()
            assert all(torch.equal(value, state[key]) for key, value in weights_of(place).items())
    assert len({result.after for result in results}) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-0", "out-1", "out-2", "source"]


@pytest.mark.parametrize(
    ("metric", "how"),
    [
        ("abs(W) * G per row", {}),
        ("abs(W) * G * X + G.mean per row", {"sequential": True}),
        ("abs(W) * G * X per model", {}),
        ("abs(W) * G per row", {"update": "obs", "allocation": "owl"}),
    ],
)
def test_gradients_are_kept_for_both_ways(
    metric: str,
    how: dict[str, Any],
    source: Callable[..., Path],
    windows: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stream takes what a run in memory kept, and the other way round, to the same bits."""
    folder, cache = source(dtype="bfloat16"), tmp_path / "cache"
    streamed(folder, tmp_path / "one", metric, windows, cache=cache, **how)
    (file,) = cache.iterdir()
    kept = load_file(file)
    loaded = load_model(str(folder), device="cpu").model
    with monkeypatch.context() as m:
        m.setattr("pzc.runtime.statistics.gather.gradient_tables", None)  # would be called
        prune(loaded, metric, windows=windows, cache=cache, **how)
    file.unlink()
    prune(load_model(str(folder), device="cpu").model, metric, windows=windows, cache=cache, **how)
    assert list(cache.iterdir()) == [file]
    again = load_file(file)
    assert kept.keys() == again.keys()
    assert all(torch.equal(value, again[key]) for key, value in kept.items())
    with monkeypatch.context() as m:
        m.setattr(sweeps, "folding", None)  # would be called
        streamed(folder, tmp_path / "two", metric, windows, cache=cache, **how)
    state = loaded.state_dict()
    for key, value in weights_of(tmp_path / "two").items():
        assert torch.equal(value, state[key]), key
        assert torch.equal(value, weights_of(tmp_path / "one")[key]), key


def test_a_kept_file_that_is_damaged_is_written_again(
    source: Callable[..., Path], windows: Tensor, tmp_path: Path
) -> None:
    folder, cache = source(), tmp_path / "cache"
    streamed(folder, tmp_path / "one", "abs(W) * G", windows, cache=cache)
    (file,) = cache.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:-7])
    streamed(folder, tmp_path / "two", "abs(W) * G", windows, cache=cache)
    assert file.read_bytes() == content
