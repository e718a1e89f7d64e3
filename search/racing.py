"""Racing: candidates run the same windows in the same order, and who is surely behind leaves early."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

LEAST_WINDOWS = 4
"""Fewer windows than this have no standard error worth the name."""

RUNGS = (0.0625, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
"""Shares of the fitness windows after which a candidate may leave the race: after the first, and before
`LEAST_WINDOWS`, only by far."""

BEHIND = 2.0
"""How many standard errors a candidate must be behind to leave: of 175 that came among the four best of their island in
four runs on SmolLM2-135M, one would have left, and of 74 that became the best, none."""

FAR = math.log(1.5)
"""How far behind in every window so far a candidate leaves at once, in nats: half as much perplexity again. In a run on
SmolLM2-135M half of those that lost were 5 nats behind in the first window, and of 97 that were measured in full none
was more than 0.04 behind."""


def rungs_of(windows: int) -> list[int]:
    """After how many windows a candidate may leave the race. Fewer than eight are all run: with so few candidates would
    leave for what one window says."""
    if windows < 2 * LEAST_WINDOWS:
        return [windows]
    return sorted({max(1, round(share * windows)) for share in RUNGS})


def is_behind(losses: Sequence[float], cutoff: Sequence[float], *, surely: bool, errors: float = BEHIND) -> bool:
    """Whether paired differences show that the cut-off is not reached: all of them by far or, where it may be told
    `surely`, their mean by so many of its standard `errors`."""
    n = min(len(losses), len(cutoff))
    if n == 0:
        return False
    difference = torch.tensor(losses[:n]) - torch.tensor(cutoff[:n])
    if float(difference.min()) > FAR:
        return True
    if n < LEAST_WINDOWS or not surely:
        return False
    return float(difference.mean()) > errors * float(difference.std()) / math.sqrt(n)
