"""How the best fitness fell, against time and against evaluations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from pzc.search.candidate import MEASURED, Candidate
from pzc.search.reading import Run


@dataclass(frozen=True)
class Moment:
    """The run after one of its candidates: seconds of work so far, of all workers together; candidates that a pruned
    model was run for; candidates settled; and the best fitness."""

    seconds: float
    evaluations: int
    settled: int
    best: float


def records(run: Run) -> Iterator[Candidate]:
    """The candidates that were the best so far when they were measured, in the order of the run. Published metrics
    count for nothing here."""
    best = math.inf
    for c in run.bred:
        if c.status == "evaluated" and c.fitness < best:
            best = c.fitness
            yield c


def evolution(run: Run) -> list[Moment]:
    """The moments at which the best fitness fell, and the last of the run."""
    moments: list[Moment] = []
    seconds, evaluations, best = 0.0, 0, math.inf
    record = {c.number for c in records(run)}
    for settled, c in enumerate(run.bred, 1):
        seconds += c.seconds
        evaluations += c.status in MEASURED
        if c.number in record:
            best = c.fitness
            moments.append(Moment(seconds, evaluations, settled, best))
    moments.append(Moment(seconds, evaluations, len(run.bred), best))
    return moments


def beaten(run: Run, fitness: float) -> Moment | None:
    """The first moment with a better fitness than this, None where the run never came there."""
    return next((m for m in evolution(run) if m.best < fitness), None)


def reached(run: Run, fitness: float) -> Moment | None:
    """The first moment with at least this fitness, None where the run never came there."""
    return next((m for m in evolution(run) if m.best <= fitness), None)
