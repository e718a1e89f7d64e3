"""Tiny random models of many families, and the linear layers that a block of each has."""

from __future__ import annotations

from typing import Any

VOCABULARY = 20
_TOKENS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
_SIZES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,
}
_GROUPED = {**_SIZES, "num_key_value_heads": 2}
_MIXED = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}

_ATTENTION = [f"self_attn.{x}_proj" for x in "qkvo"]
_LLAMA = [*_ATTENTION, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
_EXPERTS = [f"mlp.experts.{e}.{x}_proj" for x in ("gate_up", "down") for e in range(4)]
_SHARED = [f"mlp.shared_expert.{x}_proj" for x in ("gate", "up", "down")]

FAMILIES: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "Llama": (_GROUPED, "model.layers", _LLAMA),
    "Mistral": ({**_GROUPED, "sliding_window": 6}, "model.layers", _LLAMA),
    "Qwen2": (_GROUPED, "model.layers", _LLAMA),
    "Qwen3": ({**_GROUPED, "head_dim": 8}, "model.layers", _LLAMA),
    "Gemma2": ({**_GROUPED, "head_dim": 4, "sliding_window": 6}, "model.layers", _LLAMA),
    "Gemma3Text": ({**_GROUPED, "head_dim": 4, "sliding_window": 6}, "model.layers", _LLAMA),
    "Phi3": (
        _GROUPED,
        "model.layers",
        ["self_attn.o_proj", "self_attn.qkv_proj", "mlp.gate_up_proj", "mlp.down_proj"],
    ),
    "OPT": (
        {**_SIZES, "word_embed_proj_dim": 8, "ffn_dim": 32, "init_std": 0.3},
        "model.decoder.layers",
        [*(f"self_attn.{x}_proj" for x in ("k", "v", "q", "out")), "fc1", "fc2"],
    ),
    "GPT2": (
        {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32, "initializer_range": 0.3},
        "transformer.h",
        ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"],
    ),
    "GPTNeoX": (
        _SIZES,
        "gpt_neox.layers",
        ["attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"],
    ),
    "Falcon": (
        _SIZES,
        "transformer.h",
        ["self_attention.query_key_value", "self_attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"],
    ),
    "Mixtral": ({**_GROUPED, "num_local_experts": 4}, "model.layers", [*_ATTENTION, *_EXPERTS]),
    "Qwen2Moe": (
        {**_GROUPED, **_MIXED, "shared_expert_intermediate_size": 16},
        "model.layers",
        [*_ATTENTION, *_EXPERTS, *_SHARED],
    ),
    "Qwen3Moe": ({**_GROUPED, **_MIXED, "head_dim": 8}, "model.layers", [*_ATTENTION, *_EXPERTS]),
    "GptOss": (
        {**_GROUPED, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
        "model.layers",
        [*_ATTENTION, *_EXPERTS],
    ),
}
"""By name of its configuration: its sizes, its list of blocks, and the linear layers of a block in their order."""

MIXTURES = ("Mixtral", "Qwen2Moe", "Qwen3Moe", "GptOss")


def make_family(name: str, **changes: Any) -> Any:
    """A random model of a family, the same each time."""
    import torch
    import transformers

    sizes, _, _ = FAMILIES[name]
    config = getattr(transformers, f"{name}Config")(**{**_TOKENS, **sizes, **changes})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            if parameter.ndim != 1:
                parameter.data.normal_(0, 0.3)
    return model.eval()


def some_windows(count: int = 4, length: int = 12) -> Any:
    """Calibration windows `[count, length]` for any of the families."""
    import torch

    return torch.randint(0, VOCABULARY, (count, length), generator=torch.Generator().manual_seed(5))


def without_expert(model: Any, expert: int) -> Any:
    """Take an expert of every block out of reach of its router, by giving it the least likely logit."""
    import torch

    for name, module in model.named_modules():
        if name.endswith("mlp.gate"):

            def forward(hidden: Any, gate: Any = module) -> Any:
                logits = torch.nn.functional.linear(hidden.flatten(0, -2), gate.weight)
                logits[:, expert] = -torch.inf
                scores, chosen = logits.softmax(-1).topk(2)
                return logits, scores, chosen

            module.forward = forward
    return model
