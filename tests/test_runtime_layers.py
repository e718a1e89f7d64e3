"""Linear layers are found by structure, in families that differ in names and in how they store weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from pzc.runtime.errors import PruningError
from pzc.runtime.models.layers import check_finite, find_layers, zeros
from pzc.runtime.scoring.values import write_masked
from tests.families import make_family


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


@pytest.mark.parametrize("blocks", [2, 3])
@pytest.mark.parametrize(
    ("kind", "text", "images"),
    [
        ("Gemma3", "model.language_model.layers", "model.vision_tower.encoder.layers"),
        ("Git", "git.encoder.layer", "git.image_encoder.vision_model.encoder.layers"),
    ],
)
def test_blocks_that_read_images_stay_dense(kind: str, text: str, images: str, blocks: int) -> None:
    import transformers

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    sight = {**sizes, "num_hidden_layers": blocks, "image_size": 16, "patch_size": 8}
    words = {**sizes, "vocab_size": 20, "bos_token_id": 0, "eos_token_id": 0}
    if kind == "Git":
        config = transformers.GitConfig(**words, vision_config=sight)
        model = transformers.GitForCausalLM(config)
    else:
        words |= {"num_key_value_heads": 2, "head_dim": 4}
        config = transformers.Gemma3Config(text_config=words, vision_config=sight, mm_tokens_per_image=4)
        model = transformers.Gemma3ForConditionalGeneration(config)
    found = find_layers(model)
    assert found.blocks == tuple(model.get_submodule(text))
    assert found.others == (images,)


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


def test_experts_are_part_of_their_block() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList([nn.Linear(4, 4) for _ in range(8)])

    found = find_layers(nn.ModuleDict({"layers": nn.ModuleList([Block(), Block()])}))
    assert len(found.blocks) == 2
    assert found.layers[9].name == "layers.1.experts.1"


def test_experts_in_a_list_have_a_router() -> None:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Linear(6, 3)
            self.experts = nn.ModuleList([nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 6)) for _ in range(3)])

    found = find_layers(nn.ModuleDict({"layers": nn.ModuleList([nn.ModuleDict({"mlp": Mixture()})])}))
    assert [layer.name for layer in found.layers] == [f"layers.0.mlp.experts.{e}.{i}" for e in range(3) for i in (0, 1)]
    assert all(layer.expert for layer in found.layers)


class Odd(nn.Module):
    """A linear layer beside a matrix of its own."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.proj = nn.Linear(16, 16)
        self.table = nn.Parameter(torch.ones(rows, 4))


def test_a_matrix_that_is_no_linear_layer_is_named() -> None:
    model = nn.ModuleDict({"h": nn.ModuleList([Odd(4)])})
    with pytest.raises(PruningError, match=r"h\.0\.table \[4, 4\] of Odd is no linear layer") as caught:
        find_layers(model)
    assert caught.value.hint == "leave it dense with --exclude 'table'"
    assert [layer.name for layer in find_layers(model, exclude=["table"]).layers] == ["h.0.proj"]
    assert [layer.name for layer in find_layers(model, include=["proj"]).layers] == ["h.0.proj"]
    small = nn.ModuleDict({"h": nn.ModuleList([Odd(3)])})  # under 5 % of the block
    assert [layer.name for layer in find_layers(small).layers] == ["h.0.proj"]


def test_all_matrices_that_are_no_linear_layers_are_left_out_by_one_pattern() -> None:
    def block() -> nn.Module:
        inner = nn.Module()
        for key in ("w1", "v1", "w2"):
            inner.register_parameter(key, nn.Parameter(torch.ones(16, 16)))
        return nn.ModuleDict({"proj": nn.Linear(16, 16), "mlp": inner})

    model = nn.ModuleDict({"h": nn.ModuleList([block(), block()])})
    with pytest.raises(PruningError, match="is no linear layer") as caught:
        find_layers(model)
    assert caught.value.hint == "leave it dense with --exclude 'mlp.*'"
    assert [layer.name for layer in find_layers(model, exclude=["mlp.*"]).layers] == ["h.0.proj", "h.1.proj"]


def test_stacks_that_could_be_either_way_round_are_named() -> None:
    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Parameter(torch.ones(3, 8, 6))
            self.down = nn.Parameter(torch.ones(3, 6, 8))

    blocks = nn.ModuleList([nn.ModuleDict({"attention": nn.Linear(6, 6), "experts": Stack()})])
    with pytest.raises(PruningError, match=r"0\.experts\.up \[3, 8, 6\] of Stack is no linear layer"):
        find_layers(blocks)
    blocks[0]["experts"].is_transposed = True
    assert [layer.shape for layer in find_layers(blocks).layers if layer.expert] == [(6, 8)] * 3 + [(8, 6)] * 3


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("qweight", torch.ones(4, 4, dtype=torch.int32))


def test_quantised_modules_are_named() -> None:
    with pytest.raises(PruningError, match=r"blocks with linear layers; h\.0, a Packed, is quantised"):
        find_layers(nn.ModuleDict({"h": nn.ModuleList([Packed()])}))
    with pytest.raises(PruningError, match=r"h\.0\.a is a Packed, which stores integers and cannot be pruned"):
        find_layers(nn.ModuleDict({"h": nn.ModuleList([nn.ModuleDict({"a": Packed(), "b": nn.Linear(2, 2)})])}))


def names(found: Any) -> list[str]:
    return [layer.name for layer in found.layers]


def test_include_and_exclude_match_as_roles_do(tiny: Callable[..., Any]) -> None:
    model = tiny()
    assert names(find_layers(model, include=["q_proj"])) == [f"model.layers.{i}.self_attn.q_proj" for i in range(3)]
    assert names(find_layers(model, include=["layers.1.*"], exclude=["mlp.*", "o_proj"])) == [
        f"model.layers.1.self_attn.{x}_proj" for x in "qkv"
    ]
    assert names(find_layers(model, include=["*"])) == names(find_layers(model))
    with pytest.raises(PruningError, match="no layer matches `qproj`") as caught:
        find_layers(model, exclude=["qproj"])
    assert "q_proj" in str(caught.value.hint)
    with pytest.raises(PruningError, match="leave no layer"):
        find_layers(model, include=["q_proj"], exclude=["self_attn.*"])


def test_the_head_is_taken_where_it_is_named(tiny: Callable[..., Any]) -> None:
    model = tiny()
    found = find_layers(model, include=["*", "lm_head"])
    assert names(found) == [*names(find_layers(model)), "lm_head"]
    assert found.outside == found.layers[-1:]
    assert found.outside[0].block == 3
    with pytest.raises(PruningError, match="`embed_tokens` is of the type Embedding, which is no linear layer"):
        find_layers(model, include=["embed_tokens"])
    with pytest.raises(PruningError, match=r"lm_head shares its weight with the embedding model\.embed_tokens"):
        find_layers(tiny(tie_word_embeddings=True), include=["lm_head"])


def test_routers_are_taken_where_they_are_named() -> None:
    model = make_family("Qwen2Moe")
    assert not any("gate" in name.split(".")[-1] and "proj" not in name for name in names(find_layers(model)))
    assert names(find_layers(model, include=["mlp.gate"])) == [f"model.layers.{i}.mlp.gate" for i in range(2)]
    assert len(find_layers(model, include=["*", "shared_expert_gate"]).layers) == len(find_layers(model).layers) + 2
    one = find_layers(model, include=["layers.1.mlp.experts.2.*"])
    assert names(one) == [f"model.layers.1.mlp.experts.2.{part}" for part in ("gate_up_proj", "down_proj")]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(tiny: Callable[..., Any], bad: float) -> None:
    layers = find_layers(tiny()).layers
    check_finite(layers)
    layers[8].weight[1, 2] = bad
    message = rf"1 of the 128 weights of {layers[8].name} are infinite or NaN"
    with pytest.raises(PruningError, match=message):
        check_finite(layers)


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
