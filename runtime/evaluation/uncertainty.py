"""Standard errors of what is measured on a sample of windows.

Windows count as independent draws from the text. Those in a row are alike, so the errors are too small;
docs/evaluation.md says by how much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error, which is NaN where one window says nothing of it."""

    value: float
    error: float


def mean(values: Sequence[float]) -> Estimate:
    """The mean, with s / √n for the sample's standard deviation s."""
    if not all(map(math.isfinite, values)):
        return Estimate(sum(values) / len(values), math.nan)
    return Estimate(fmean(values), stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan)


def ratio(of: Sequence[float], to: Sequence[float]) -> Estimate:
    """Σ of / Σ to, each a number a window, with √(Σ (ofᵢ − value · toᵢ)² / (n (n − 1))) over the mean of `to`."""
    value = sum(of) / sum(to)
    rests = [a - value * b for a, b in zip(of, to, strict=True)]
    return Estimate(value, mean(rests).error / fmean(to))


def perplexity(losses: Sequence[float]) -> float:
    """The exponential of the mean loss; windows weigh alike. Infinite where a float ends, NaN of no windows."""
    return _exp(sum(losses) / len(losses)) if losses else math.nan


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def exponential(of: Estimate) -> Estimate:
    """e to the power of an estimate, by the delta method: its error is e^x · error. Infinite where a float ends."""
    value = _exp(of.value)
    return Estimate(value, value * of.error if math.isfinite(value) else math.nan)


def change(losses: Sequence[float], against: Sequence[float]) -> Estimate:
    """How much higher the perplexity of `losses` is than that of `against`, as a share of it; both are losses in nats
    of the same windows in the same order.

    The ratio of two perplexities is e^d for the mean difference d of the losses, window by window: what makes a window
    hard for both falls out of its error.
    """
    ratio = exponential(mean([a - b for a, b in zip(losses, against, strict=True)]))
    return Estimate(ratio.value - 1, ratio.error)
