"""A surrogate of fitness: what the candidates that were measured say of one that was not.

A Gaussian process over masks (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, section 2.2). Two
candidates are alike when few bits of their masks differ, and when the predictors say the same of them: the covariance
is the sum of exp(−share of differing bits / 0.2) and a squared exponential of the predictors. What is predicted is the
rank of a candidate among the measured ones, as a normal score: losses have long tails, and only the order counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pzc.search.sketch import Sketch

APART = 0.2
"""The share of differing bits over which likeness falls by a factor e."""

NOISE = 0.01
"""The variance of a measured rank, in units of that of either covariance."""

_NORMAL = NormalDist()

BEST = _NORMAL.inv_cdf(0.02)
"""The best score: the best fiftieth have it all. Were the very best of hundreds as far out as its rank says, only what
is far from everything measured would promise to beat it, though most of that is bad."""

Array = npt.NDArray[np.float64]


class Surrogate:
    """What `measured` candidates, at least two, with the `losses` that they came to, say of others."""

    def __init__(self, measured: Sequence[Sketch], losses: Sequence[float]) -> None:
        self._size = 8 * len(measured[0].bits)
        self._words = np.stack([_words(s.bits) for s in measured])
        predicted = np.stack([s.predicted for s in measured])
        self._mean, self._spread = predicted.mean(0), predicted.std(0) + 1e-9
        self._predicted = self._scaled(predicted)
        scores = torch.from_numpy(np.maximum(normal_scores(losses), BEST))
        covariance = torch.stack([self._likeness(s) for s in measured])
        # by torch, whose threads are those of the run: numpy's are its own, and other threads round otherwise
        self._inverse = torch.linalg.inv(covariance + NOISE * torch.eye(len(measured), dtype=torch.float64))
        self._prior = float(self._inverse.sum(0) @ scores / self._inverse.sum())
        self._weights = self._inverse @ (scores - self._prior)
        self._best = float(scores.min())

    def predict(self, sketch: Sketch) -> tuple[float, float]:
        """The normal score of a candidate's rank, small for a good one, and its standard deviation."""
        likeness = self._likeness(sketch)
        variance = self._likeness_to_itself - float(likeness @ self._inverse @ likeness)
        return self._prior + float(likeness @ self._weights), math.sqrt(max(variance, 0.0))

    def expected_gain(self, score: float, deviation: float) -> float:
        """By how much a candidate of which this is predicted is expected to be better than the best measured one, where
        worse counts as nothing (expected improvement): small for what is known to be bad, and for what repeats the
        best."""
        if deviation == 0.0:
            return max(0.0, self._best - score)
        z = (self._best - score) / deviation
        return deviation * (z * _NORMAL.cdf(z) + _NORMAL.pdf(z))

    @property
    def _likeness_to_itself(self) -> float:
        return 2.0 if self._predicted.shape[1] else 1.0

    def _scaled(self, predicted: Array) -> Array:
        scaled: Array = (predicted - self._mean) / self._spread
        return scaled

    def _likeness(self, sketch: Sketch) -> Tensor:
        """The covariance with every measured candidate, `[measured]`."""
        differing = np.bitwise_count(self._words ^ _words(sketch.bits)).sum(1, dtype=np.int64) / self._size
        likeness: Array = np.exp(-differing / APART)
        if self._predicted.shape[1]:
            likeness += np.exp(-np.square(self._predicted - self._scaled(sketch.predicted)).mean(1))
        return torch.from_numpy(likeness)


def _words(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Packed bits as words of 64, of which a processor counts as fast as bytes."""
    return np.pad(packed, (0, -len(packed) % 8)).view(np.uint64)


def normal_scores(values: Sequence[float]) -> Array:
    """Each value's rank as the quantile of a standard normal distribution: (rank − ½) / n. Equal ones keep their
    order."""
    order = np.argsort(np.array(values), kind="stable")
    scores = np.empty(len(values))
    scores[order] = [_NORMAL.inv_cdf((rank + 0.5) / len(values)) for rank in range(len(values))]
    return scores
