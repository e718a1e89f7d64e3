"""Where candidates come from: the ancestors of the winner, and what each variation leads to."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from statistics import median

from pzc.search.algorithms import SEED
from pzc.search.candidate import ALIASES, RANKED, Candidate
from pzc.search.reading import Run
from pzc.search.report.evolution import records

FRESH = ("random", "immigrant", SEED)
"""Ways to propose a candidate that need no parent."""


@dataclass(frozen=True)
class Variation:
    """What became of the offspring of one variation: `lost` are those that fell behind or were predicted to, `ranked`
    those that have a fitness.

    `better` counts those that beat their first parent, `records` those that beat all before them; `median` is the
    median change of ln(fitness) from the first parent of those that have one, NaN where there is none.
    """

    name: str
    proposed: int
    duplicates: int
    refused: int
    lost: int
    ranked: int
    better: int
    records: int
    median: float

    @property
    def rate(self) -> float:
        """The share of the proposals that beat their parent."""
        return self.better / self.proposed


def variations(run: Run) -> list[Variation]:
    """Every variation, that which most often beats the parent first; those without a parent last."""
    grouped: dict[str, list[Candidate]] = {}
    for c in run.bred:
        grouped.setdefault(c.operator, []).append(c)
    record = Counter(c.operator for c in records(run))
    found = []
    for name, members in grouped.items():
        statuses: Counter[str] = Counter(c.status for c in members)
        changes = [
            math.log(c.fitness / run.by_number[c.parents[0]].fitness)
            for c in members
            if c.status in RANKED and c.parents and math.isfinite(run.by_number[c.parents[0]].fitness)
        ]
        found.append(
            Variation(
                name,
                len(members),
                sum(statuses[s] for s in ALIASES),
                statuses["refused"],
                statuses["lost race"] + statuses["predicted worse"],
                sum(statuses[s] for s in RANKED),
                sum(change < 0 for change in changes),
                record[name],
                median(changes) if changes else math.nan,
            )
        )
    return sorted(found, key=lambda v: (v.name in FRESH, -v.rate, v.name))


def ancestors(run: Run) -> list[Candidate]:
    """The winner and all it descends from, oldest first."""
    seen: set[int] = set()
    waiting = [run.winner.number]
    while waiting:
        number = waiting.pop()
        if number not in seen:
            seen.add(number)
            waiting += run.by_number[number].parents
    return [run.by_number[n] for n in sorted(seen)]


def main_line(run: Run) -> list[Candidate]:
    """The winner, its first parent, that one's first parent and so on, oldest first."""
    line = [run.winner]
    while line[-1].parents:
        line.append(run.by_number[line[-1].parents[0]])
    return line[::-1]


def outcomes(run: Run) -> list[tuple[str, int]]:
    """How many candidates were settled in each way, refusals by their reason."""
    counts = Counter(f"refused: {c.reason}" if c.status == "refused" else c.status for c in run.bred)
    kinds = {c.status for c in run.bred}
    order = [s for s in ("evaluated", "placed", "lost race", "predicted worse") if s in kinds]
    rest = sorted(
        (name for name in counts if name not in order), key=lambda n: (n.startswith("refused"), -counts[n], n)
    )
    return [(name, counts[name]) for name in (*order, *rest)]
