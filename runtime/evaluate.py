"""Evaluation: perplexity of windows of text, and how far a model's predictions are from another's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pzc.runtime.errors import PruningError
from pzc.runtime.passes import Progress, batches, check_windows, cross_entropy, evaluating, logits_of, silent


def window_losses(model: nn.Module, windows: Tensor, progress: Progress = silent) -> list[float]:
    """Each window's mean cross-entropy in nats a predicted token, every window alone, logits in float32.

    A window of `length` tokens predicts `length − 1` of them. `windows` is int64 `[n, length]`.
    """
    check_windows(model, windows)
    losses: list[float] = []
    with torch.no_grad(), evaluating(model):
        for batch in batches(model, windows):
            losses += cross_entropy(logits_of(model, batch), batch).tolist()
            progress("perplexity", len(losses), len(windows))
    return losses


def perplexity(losses: Sequence[float]) -> float:
    """The exponential of the mean loss; windows weigh alike. Infinite where a float ends."""
    mean = sum(losses) / len(losses)
    return math.exp(mean) if mean < 700 else math.inf if mean == mean else math.nan


def kl_divergence(model: nn.Module, against: nn.Module, windows: Tensor, progress: Progress = silent) -> float:
    """Mean of KL(against ‖ model) in nats over the tokens that perplexity counts: the next-token
    distributions of `against`, the dense model, are the truth.

    Raises PruningError when the models' vocabularies differ.
    """
    check_windows(model, windows)
    check_windows(against, windows)
    total, done = 0.0, 0
    with torch.no_grad(), evaluating(model), evaluating(against):
        for batch in batches(model, windows):
            pruned = logits_of(model, batch)[:, :-1].float().log_softmax(-1)
            dense = logits_of(against, batch)[:, :-1].float().log_softmax(-1).to(pruned.device)
            if dense.shape != pruned.shape:
                raise PruningError(
                    f"the models have different vocabularies: {dense.shape[-1]} and {pruned.shape[-1]} tokens"
                )
            total += float((dense.exp() * (dense - pruned)).sum(-1).double().sum())
            done += len(batch)
            progress("divergence", done, len(windows))
    return total / (len(windows) * (windows.shape[1] - 1))
