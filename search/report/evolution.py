"""How the best fitness fell, against time and against evaluations."""

from __future__ import annotations

from dataclasses import dataclass

from pzc.search.candidate import MEASURED
from pzc.search.reading import Run


@dataclass(frozen=True)
class Moment:
    """The run after one of its candidates: seconds spent on candidates so far, of all workers together; candidates
    that a pruned model was run for; candidates settled; and the best fitness."""

    seconds: float
    evaluations: int
    settled: int
    best: float


def evolution(run: Run) -> list[Moment]:
    """The moments at which the best fitness fell, and the last of the run. Published metrics count for nothing here."""
    moments: list[Moment] = []
    seconds, evaluations, best = 0.0, 0, float("inf")
    for settled, c in enumerate(run.bred, 1):
        seconds += c.seconds
        evaluations += c.status in MEASURED
        if c.status == "evaluated" and c.fitness < best:
            best = c.fitness
            moments.append(Moment(seconds, evaluations, settled, best))
    moments.append(Moment(seconds, evaluations, len(run.bred), best))
    return moments


def reached(run: Run, fitness: float) -> Moment | None:
    """The first moment with at least this fitness, None where the run never came there."""
    return next((m for m in evolution(run) if m.best <= fitness), None)
