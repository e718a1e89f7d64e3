"""Evaluation: perplexity of windows of text, and how far a model's predictions are from another's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pzc.runtime.errors import PruningError
from pzc.runtime.models.passes import (
    Progress,
    batches,
    check_windows,
    cross_entropy,
    device_of,
    evaluating,
    logits_of,
    silent,
)


def window_losses(model: nn.Module, windows: Tensor, progress: Progress = silent, *, at_once: int = 1) -> list[float]:
    """Each window's mean cross-entropy in nats a predicted token, every window alone, logits in float32.

    A window of `length` tokens predicts `length − 1` of them. `windows` is int64 `[n, length]`. On a CPU `at_once`
    batches are run side by side, each with as many threads as one alone would have, and with the same losses.
    """
    windows = check_windows(model, windows)
    losses: list[float] = []
    with evaluating(model), side_by_side(model, at_once) as mapped:
        for found in mapped(partial(_losses, model), batches(model, windows)):
            losses += found
            progress("perplexity", len(losses), len(windows))
    return losses


@contextmanager
def side_by_side(model: nn.Module, at_once: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """`map`, for passes through a model: on a CPU by `at_once` threads, each with as many of torch's own as one alone
    would have."""
    if at_once == 1 or device_of(model).type != "cpu":
        yield map
        return
    pool = ThreadPoolExecutor(at_once)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


@torch.no_grad()
def _losses(model: nn.Module, batch: Tensor) -> list[float]:
    found: list[float] = cross_entropy(logits_of(model, batch), batch).tolist()
    return found


@dataclass(frozen=True)
class ComparedLosses:
    """Of each window, the mean cross-entropy of a model and its mean KL divergence from another, in nats a token."""

    losses: list[float]
    divergences: list[float]


def compared_losses(
    model: nn.Module, against: nn.Module, windows: Tensor, progress: Progress = silent
) -> ComparedLosses:
    """What `window_losses` gives, and KL(against ‖ model) in nats over the tokens that these count, the next-token
    distributions of `against`, the dense model, being the truth: from one forward pass of each over the windows.

    Raises PruningError when the models' vocabularies differ.
    """
    windows = check_windows(model, windows)
    check_windows(against, windows)
    found = ComparedLosses([], [])
    with torch.no_grad(), evaluating(model), evaluating(against):
        for batch in batches(model, windows):
            logits = logits_of(model, batch)
            found.losses.extend(cross_entropy(logits, batch).tolist())
            dense = logits_of(against, batch.to(device_of(against))).to(logits.device)
            if dense.shape != logits.shape:
                raise PruningError(
                    f"the models have different vocabularies: {dense.shape[-1]} and {logits.shape[-1]} tokens"
                )
            found.divergences.extend(_divergences(logits, dense).tolist())
            progress("divergence", len(found.losses), len(windows))
    return found


def _divergences(logits: Tensor, dense: Tensor) -> Tensor:
    """Mean KL(dense ‖ logits) of each window over its predicted tokens: `[n, length, vocabulary]` to float64 `[n]`."""
    q = logits[:, :-1].float().log_softmax(-1)
    p = dense[:, :-1].float().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).cpu().double().mean(-1)
