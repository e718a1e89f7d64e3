"""Racing: candidates run the same windows in the same order, and each leaves when it is known where it comes in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

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

PLACED = 1.5
"""How many standard errors a candidate must be behind its rival to be placed. Replayed on two runs on SmolLM2-135M this
ends 21 and 32 % of the races that were run to the end, and saves 12 and 20 % of all windows."""

Verdict = Literal["lost race", "placed"]


def rungs_of(windows: int) -> list[int]:
    """After how many windows a candidate may leave the race. Fewer than eight are all run: with so few candidates would
    leave for what one window says."""
    if windows < 2 * LEAST_WINDOWS:
        return [windows]
    return sorted({max(1, round(share * windows)) for share in RUNGS})


@dataclass(frozen=True)
class Race:
    """What a candidate runs against: losses of all windows, of others, or none.

    It loses when it is behind the `cutoff` by so many standard `errors` of the paired differences. When it is behind
    its `rival` it is placed: it may breed, but seldom, and for that an estimate of its fitness is enough.
    """

    cutoff: Sequence[float] = ()
    errors: float = BEHIND
    rival: Sequence[float] = ()

    def verdict(self, losses: Sequence[float], *, surely: bool) -> Verdict | None:
        """How the race ends for one with these losses so far; None while it goes on. After the first rung nothing but
        to be behind by far may be told `surely`."""
        if is_behind(losses, self.cutoff, surely=surely, errors=self.errors):
            return "lost race"
        if len(losses) >= LEAST_WINDOWS and is_behind(losses, self.rival, surely=surely, errors=PLACED):
            return "placed"
        return None

    def expected(self, losses: Sequence[float]) -> tuple[float, ...]:
        """The losses to be expected of the windows that are left: the rival's, and as much more as on those so far."""
        n = len(losses)
        behind = (sum(losses) - sum(self.rival[:n])) / n
        return tuple(loss + behind for loss in self.rival[n:])


FREE = Race()
"""Against nobody: all windows are run."""


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
