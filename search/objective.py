"""What is measured of a pruned model: its loss on the text, or how far its predictions are from the dense model's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from pzc.runtime.evaluation.evaluate import side_by_side, window_losses
from pzc.runtime.models.passes import batches, evaluating, logits_of, singly


class Objective(Protocol):
    """Made of the dense model and the fitness windows `[n, length]`."""

    def losses(self, model: Any, start: int, stop: int, at_once: int = 1) -> list[float]:
        """What is to be small, in nats a predicted token, of some of the windows. On a CPU `at_once` threads may share
        them."""


class Perplexity:
    """Each window's mean cross-entropy."""

    def __init__(self, dense: Any, windows: Tensor) -> None:
        self._windows = windows

    def losses(self, model: Any, start: int, stop: int, at_once: int = 1) -> list[float]:
        return window_losses(model, self._windows[start:stop], at_once=at_once)


class Divergence:
    """Each window's mean KL(dense ‖ pruned). The dense model's log-probabilities are kept in bfloat16."""

    def __init__(self, dense: Any, windows: Tensor) -> None:
        self._windows = windows
        with evaluating(dense):
            parts = [_predictions(dense, ids).to(torch.bfloat16) for ids in batches(dense, windows)]
        self._dense = [window for part in parts for window in part]

    def losses(self, model: Any, start: int, stop: int, at_once: int = 1) -> list[float]:
        windows = singly(model, self._windows[start:stop])
        with evaluating(model), side_by_side(model, at_once) as mapped:
            return list(mapped(partial(_divergence, model), windows, self._dense[start:stop]))


@torch.no_grad()
def _predictions(model: Any, ids: Tensor) -> Tensor:
    """Log-probabilities of the next token, `[n, length − 1, vocabulary]`."""
    return logits_of(model, ids)[:, :-1].float().log_softmax(-1)


def _divergence(model: Any, ids: Tensor, dense: Tensor) -> float:
    dense = dense.float()
    return float((dense.exp() * (dense - _predictions(model, ids)[0])).sum(-1).cpu().double().mean())


OBJECTIVES: dict[str, Callable[[Any, Tensor], Objective]] = {"perplexity": Perplexity, "kl": Divergence}

MEASURES = {"perplexity": "perplexity", "kl": "e^KL"}
"""What the exponential of an objective's mean loss is called."""
