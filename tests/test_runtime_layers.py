"""Linear layers are found by structure, in families that differ in names and in how they store weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from pzc.runtime.errors import PruningError
from pzc.runtime.layers import find_layers, write_masked, zeros


def test_a_llama_has_seven_a_block(tiny: Callable[..., Any]) -> None:
    model = tiny()
    found = find_layers(model)
    assert found.blocks == tuple(model.model.layers)
    assert [layer.name for layer in found.of_block(1)] == [
        f"model.layers.1.{part}"
        for part in (
            *(f"self_attn.{p}_proj" for p in "qkvo"),
            *(f"mlp.{p}_proj" for p in ("gate", "up", "down")),
        )
    ]
    assert len(found.layers) == 21
    assert found.size == 3 * (2 * 16 * 16 + 2 * 8 * 16 + 3 * 24 * 16)
    for layer in found.layers:
        assert layer.module is model.get_submodule(layer.name)


def test_weights_are_views_as_rows_of_outputs() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=2, n_head=2, n_positions=16))
    found = find_layers(model)
    assert [layer.name.split(".", 3)[3] for layer in found.of_block(0)] == [
        "attn.c_attn",
        "attn.c_proj",
        "mlp.c_fc",
        "mlp.c_proj",
    ]
    layer = found.layers[0]
    assert layer.shape == (24, 8)
    layer.weight[3, 5] = 7.0
    assert model.transformer.h[0].attn.c_attn.weight[5, 3].item() == 7.0


@pytest.mark.parametrize("family", ["OPT", "GPTNeoX", "Qwen2", "Gemma2", "Phi", "Mistral", "Falcon", "StableLm"])
def test_other_families(family: str) -> None:
    import transformers

    sizes = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "vocab_size": 20,
        "max_position_embeddings": 32,
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    if family in ("Qwen2", "Gemma2", "Mistral"):
        sizes["num_key_value_heads"] = 2
    if family == "Gemma2":
        sizes["head_dim"] = 4
    if family == "OPT":
        sizes |= {"word_embed_proj_dim": 16, "ffn_dim": 32}
    config = getattr(transformers, f"{family}Config")(**sizes)
    model = transformers.AutoModelForCausalLM.from_config(config)
    found = find_layers(model)
    assert len(found.blocks) == 3
    assert len(found.layers) % 3 == 0
    head = model.get_output_embeddings()
    assert all(layer.module is not head for layer in found.layers)
    linears = sum(isinstance(module, nn.Linear) for module in model.modules())
    assert len(found.layers) == linears - (head is not None)


def test_experts_are_part_of_their_block() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList([nn.Linear(4, 4) for _ in range(8)])

    found = find_layers(nn.ModuleDict({"layers": nn.ModuleList([Block(), Block()])}))
    assert len(found.blocks) == 2
    assert found.layers[9].name == "layers.1.experts.1"


def test_fused_experts_are_not_passed_over_in_silence() -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 20}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4}
    with pytest.raises(PruningError, match="only 11% of the weights in the blocks of MixtralForCausalLM"):
        find_layers(MixtralForCausalLM(MixtralConfig(**sizes, **heads)))


def test_a_shared_weight_is_listed_once() -> None:
    one, other = nn.Linear(4, 4), nn.Linear(4, 4)
    other.weight = one.weight
    assert [layer.name for layer in find_layers(nn.ModuleList([one, other])).layers] == ["0"]


def test_what_cannot_be_pruned_is_refused(tiny: Callable[..., Any]) -> None:
    with pytest.raises(PruningError, match="no list of decoder blocks"):
        find_layers(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(PruningError, match="not in memory"):
        find_layers(tiny().to("meta"))
    whole = nn.Linear(2, 2)
    whole.weight = nn.Parameter(torch.ones(2, 2, dtype=torch.int8), requires_grad=False)
    with pytest.raises(PruningError, match="int8, which cannot be pruned"):
        find_layers(nn.ModuleList([whole]))


def test_zeros_are_counted(tiny: Callable[..., Any]) -> None:
    layers = find_layers(tiny())
    layers.layers[2].weight[:, :3] = 0
    counts = zeros(layers)
    assert counts[layers.layers[2].name] == 8 * 3
    assert sum(counts.values()) == 8 * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_pruned_weights_become_plus_zero(dtype: torch.dtype) -> None:
    dense = torch.tensor([[-1.5, 2.0, torch.nan], [torch.inf, -0.0, 3.0]]).to(dtype)
    keep = torch.tensor([[False, True, False], [False, True, True]])
    expected = torch.tensor([[0.0, 2.0, 0.0], [0.0, -0.0, 3.0]]).to(dtype)
    for weight, source in ((torch.ones(2, 3, dtype=dtype), dense), (torch.ones(3, 2, dtype=dtype).T, dense)):
        write_masked(weight, source, keep)
        assert torch.equal(weight, expected)
        assert torch.equal(weight.signbit(), expected.signbit())
    write_masked(dense, dense, keep)
    assert torch.equal(dense, expected)
