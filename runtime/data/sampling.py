"""Text that a model writes itself: calibration without any data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pzc.runtime.data.texts import Sampler, Side
from pzc.runtime.data.windows import tokenise
from pzc.runtime.errors import PruningError
from pzc.runtime.models.passes import device_of, evaluating, unchanged

_TOGETHER = 16
"""Texts that are sampled together."""

_ROUNDS = 8
"""How many times the rounds that full texts would take: some models end their texts early."""


def sampler(model: nn.Module, tokenizer: Any, *, calibration: int, evaluation: int, length: int, seed: int) -> Sampler:
    """What `pzc.runtime.data.texts.sides` takes for `self`: texts of at least so many tokens for `calibration` and for
    `evaluation`, from different random numbers. What one has does not depend on how much the other is to have."""

    def sample(side: Side) -> str:
        tokens = calibration if side == "calibration" else evaluation
        return sample_text(model, tokenizer, tokens=tokens, length=length, seed=2 * seed + (side == "evaluation"))

    return sample


def sample_text(model: nn.Module, tokenizer: Any, *, tokens: int, length: int, seed: int) -> str:
    """Sample stretches of `length` tokens at temperature 1 until their text has at least `tokens` tokens.

    Each stretch starts from the tokenizer's first token, or from a random one if it has none. Shorter texts are the
    beginnings of longer ones. The random state of torch is left as it was. Raises PruningError when the model stops too
    early to get there.
    """
    device = device_of(model)
    generator = torch.Generator().manual_seed(seed)
    texts: list[str] = []
    found = 0
    with torch.no_grad(), evaluating(model), unchanged(model):
        for _ in range(_ROUNDS * (1 + tokens // (length * _TOGETHER))):
            rows = _stretches(model, tokenizer, _TOGETHER, length, generator, device)
            for row in rows:
                text = tokenizer.decode(row, skip_special_tokens=True).strip()
                if text:
                    texts.append(text)
                    found += len(tokenise(tokenizer, text))
                if found >= tokens:
                    return "\n\n".join(texts)
    raise PruningError(f"the model stopped early: {found} tokens of text were sampled, {tokens} are needed")


def _stretches(
    model: Any, tokenizer: Any, rows: int, length: int, generator: torch.Generator, device: torch.device
) -> list[list[int]]:
    """Sample `rows` sequences of up to `length` tokens, each cut at its end-of-text token."""
    start = tokenizer.bos_token_id
    size = model.get_input_embeddings().num_embeddings
    ids = torch.full((rows, 1), start) if start is not None else torch.randint(size, (rows, 1), generator=generator)
    cache = None
    step: Tensor = ids
    for _ in range(length):
        output = model(input_ids=step.to(device), past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        chances = output.logits[:, -1].float().softmax(-1).cpu()
        step = torch.multinomial(chances, 1, generator=generator)
        ids = torch.cat([ids, step], dim=1)
    end = tokenizer.eos_token_id
    sampled = ids[:, 1:].tolist()
    return [row[: row.index(end)] if end in row else row for row in sampled]
