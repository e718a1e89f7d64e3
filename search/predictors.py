"""Predictors: what stored statistics say of a mask before the pruned model is run.

Both are shares of what the layers lose, averaged over layers: of the second-order loss Σ W²G² (OBD with the diagonal
Fisher information) and of the layers' output, Σ W²X². A sample of rows tells as much as all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from pzc.runtime.errors import NoGradient
from pzc.runtime.models.layers import Layer
from pzc.runtime.statistics.gather import Statistics
from pzc.search.candidate import Candidate

ROWS = 64
"""Rows of each layer that are looked at."""

READS = {"second-order loss": "G.l2", "output error": "X.l2"}
"""Each predictor with the leaf that it weighs weights with."""

SURROGATE = "surrogate"
"""What is said by the candidates that were measured before (`search.surrogate`), as the normal score of a rank."""

LEAST = 12
"""Fewer candidates than this say nothing about a correlation."""

MEMBERS, MARGIN, PROVEN = 8, 1.5, 6
"""Of a population of how many a predictor knows who is hopeless, how far behind the worst of them it must put a
candidate to turn it away, and of how many raced ones it must have been right in that. Of the candidates of two runs on
SmolLM2-135M these turn away 123 of the 233 that lost their race, and none of the 376 that were measured in full."""


class Predictors:
    """The `stakes` of the sampled `rows` of every layer, by predictor and layer: `[rows, in]`, each layer's summing to
    1."""

    def __init__(self, layers: Sequence[Layer], statistics: Statistics) -> None:
        self.rows: dict[str, slice] = {}
        self.stakes: dict[str, dict[str, Tensor]] = {name: {} for name in READS}
        for layer in layers:
            out = layer.shape[0]
            rows = self.rows[layer.name] = slice(None, None, max(1, out // ROWS))
            for name, leaf in READS.items():
                if leaf not in statistics.tables[layer.name]:
                    continue
                with suppress(NoGradient):  # of this layer nothing is foretold then
                    values = statistics.of(layer, ("W", leaf))
                    other = values[leaf] if len(values[leaf]) == 1 else values[leaf][rows]
                    stakes = (values["W"][rows].float() * other).square_()
                    self.stakes[name][layer.name] = stakes / stakes.sum().clamp_min(torch.finfo(torch.float32).tiny)

    def of(self, masks: Mapping[str, Tensor]) -> dict[str, float]:
        """The share that is lost under masks bool `[out, in]`, by predictor."""
        found = {}
        for name, stakes in self.stakes.items():
            if stakes:
                lost = [float((s * ~masks[layer][self.rows[layer]]).sum()) for layer, s in stakes.items()]
                found[name] = sum(lost) / len(lost)
        return found


Pairs = list[tuple[float, float]]


def told(measured: Iterable[Candidate]) -> dict[str, Pairs]:
    """Of each predictor, what it said and the fitness of every candidate, where these are enough to tell."""
    pairs: dict[str, Pairs] = {name: [] for name in (*READS, SURROGATE)}
    for c in measured:
        for name, value in c.predictors.items():
            if name in pairs and math.isfinite(c.fitness):
                pairs[name].append((value, c.fitness))
    return {name: some for name, some in pairs.items() if len(some) >= LEAST}


def correlations(measured: Iterable[Candidate]) -> dict[str, float]:
    """Spearman's rank correlation of each predictor with fitness; understated, since what lost its race has none."""
    return {name: correlation(pairs) for name, pairs in told(measured).items()}


def correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """Spearman's rank correlation of the first and the second of all pairs."""
    return spearman([x for x, _ in pairs], [y for _, y in pairs])


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """The correlation of the ranks of two series; ties share their mean rank. 0 where one is constant."""
    a, b = _ranks(x), _ranks(y)
    mean = (len(x) - 1) / 2
    above = sum((i - mean) * (j - mean) for i, j in zip(a, b, strict=True))
    below = math.sqrt(sum((i - mean) ** 2 for i in a) * sum((j - mean) ** 2 for j in b))
    return above / below if below else 0.0


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for k in range(start, end + 1):
            ranks[order[k]] = (start + end) / 2
        start = end + 1
    return ranks


def limits(population: Sequence[Candidate], raced: Sequence[Candidate]) -> dict[str, float]:
    """Beyond which value a predictor turns a candidate away, by predictor: far behind everyone in the population, as
    long as all of those that were `raced` and that it puts there, too, have lost their race or are worse than the worst
    of the population."""
    worst = max((c.fitness for c in population), default=math.inf)
    found = {}
    for name in READS:
        known = [c.predictors[name] for c in population if name in c.predictors]
        if len(known) < MEMBERS:
            continue
        limit = MARGIN * max(known)
        beyond = [c for c in raced if c.predictors.get(name, 0.0) > limit]
        if len(beyond) >= PROVEN and all(c.status == "lost race" or c.fitness > worst for c in beyond):
            found[name] = limit
    return found
