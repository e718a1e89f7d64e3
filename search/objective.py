"""What is measured of a pruned model: its loss on the text, or how far its predictions are from the dense model's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from pzc.runtime.evaluation.evaluate import window_losses
from pzc.runtime.models.passes import batches, evaluating, logits_of


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
        self._dense = self._predictions(dense, windows, torch.bfloat16)

    def _predictions(self, model: Any, windows: Tensor, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        with torch.no_grad(), evaluating(model):
            parts = [logits_of(model, ids)[:, :-1].float().log_softmax(-1).to(dtype) for ids in batches(model, windows)]
        return [window for part in parts for window in part]

    def losses(self, model: Any, start: int, stop: int, at_once: int = 1) -> list[float]:
        found = []
        for i in range(start, stop):
            (pruned,) = self._predictions(model, self._windows[i : i + 1])
            dense = self._dense[i].float()
            found.append(float((dense.exp() * (dense - pruned)).sum(-1).cpu().double().mean()))
        return found


OBJECTIVES: dict[str, Callable[[Any, Tensor], Objective]] = {"perplexity": Perplexity, "kl": Divergence}

MEASURES = {"perplexity": "perplexity", "kl": "e^KL"}
"""What the exponential of an objective's mean loss is called."""
