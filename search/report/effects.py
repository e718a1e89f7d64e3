"""What each operator, leaf and group does to fitness: the principles of a run, with confidence intervals.

The measure of a candidate is its mean loss less that of the best published metric on the same windows: the logarithm of
the ratio of their perplexities. So candidates that lost the race after a few windows count as well as those that were
measured in full.

The effects are the coefficients of a linear model of that measure on the presence of every feature, fitted by least
squares with a small ridge: what a feature goes with, the others being equal. It is no proof that it is the cause.
Candidates that descend from one founder are alike in much that no feature names, so whole families are drawn for the
bootstrap, not single candidates (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from pzc.search.candidate import Candidate
from pzc.search.reading import Run
from pzc.search.report.features import Feature, features_of

LEAST = 8
"""A feature is left out unless so many candidates have it, and so many have it not."""

FAMILIES = 3
"""A feature is left out unless the candidates that have it are of so many families."""

WORST = math.log(4)
"""A candidate that is more than four times worse than the best published metric counts as four times worse."""

RIDGE = 1.0
"""Keeps features that always come together apart: one candidate's worth of evidence for no effect."""

DRAWS = 1000

MOST = 4000
"""Of a longer run, so many measured candidates are looked at, evenly spaced: to read one takes milliseconds."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Effect:
    """How much higher the perplexity is with a feature than without, as a share of it, the other features being equal,
    with a 95 % interval; how many of the candidates have it, of how many families; and among offspring of one parent
    that gained it, how many there are and the median change from the parent."""

    feature: Feature
    change: float
    low: float
    high: float
    candidates: int
    families: int
    gained: int
    gain: float


def sample(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """At most `MOST` of the candidates, evenly spaced."""
    step = math.ceil(len(candidates) / MOST) or 1
    return candidates[::step]


def scores(run: Run) -> dict[int, float]:
    """By number, ln(perplexity / that of the best published metric) on the windows that the candidate was measured
    on, at most `WORST`. Without a published metric the winner stands in."""
    reference = (run.zoo or run.found)[0].losses
    found = {}
    for c in run.candidates:
        n = min(len(c.losses), len(reference))
        if n:
            found[c.number] = min(WORST, (sum(c.losses[:n]) - sum(reference[:n])) / n)
    return found


def founders(candidates: Sequence[Candidate]) -> dict[int, int]:
    """By number, the candidate without parents that the line of first parents leads back to."""
    found: dict[int, int] = {}
    for c in candidates:
        found[c.number] = found.get(c.parents[0], c.parents[0]) if c.parents else c.number
    return found


def effects(run: Run, *, draws: int = DRAWS) -> list[Effect]:
    """The effects of all features that enough candidates have and have not, best first. Empty for a small run."""
    measured, measure, founder = sample(run.measured), scores(run), founders(run.candidates)
    has = [features_of(c.formula, c.per) for c in measured]
    families = sorted({founder[c.number] for c in measured})
    carriers: dict[Feature, list[int]] = defaultdict(list)
    for i, features in enumerate(has):
        for feature in features:
            carriers[feature].append(i)
    chosen = sorted(
        feature
        for feature, who in carriers.items()
        if LEAST <= len(who) <= len(measured) - LEAST and len({founder[measured[i].number] for i in who}) >= FAMILIES
    )
    if not chosen:
        return []
    presence = np.array([[feature in features for feature in chosen] for features in has], dtype=float)
    y = np.array([measure[c.number] for c in measured])
    family = np.searchsorted(families, [founder[c.number] for c in measured])
    fitted = _fit(*_sums(presence, y))
    low, high = _interval(presence, y, family, len(families), draws)
    gains = _gains(run, measure)
    return sorted(
        (
            Effect(
                feature,
                math.expm1(fitted[i]),
                math.expm1(low[i]),
                math.expm1(high[i]),
                len(carriers[feature]),
                len({founder[measured[k].number] for k in carriers[feature]}),
                len(gains[feature]),
                math.expm1(median(gains[feature])) if gains[feature] else math.nan,
            )
            for i, feature in enumerate(chosen)
        ),
        key=lambda e: e.change,
    )


def _sums(presence: Matrix, y: Matrix) -> tuple[Matrix, Matrix]:
    """The sums that least squares with an intercept needs: ZᵀZ and Zᵀy for Z = [1, presence]."""
    z = np.hstack([np.ones((len(y), 1)), presence])
    return z.T @ z, z.T @ y


def _fit(squares: Matrix, products: Matrix) -> Matrix:
    """The coefficients of the features; the intercept, which has no ridge, is left out."""
    ridge = RIDGE * np.eye(len(squares))
    ridge[0, 0] = 0.0
    return np.asarray(np.linalg.solve(squares + ridge, products)[1:])


def _interval(
    presence: Matrix, y: Matrix, family: NDArray[np.int64], families: int, draws: int
) -> tuple[Matrix, Matrix]:
    """The 2.5th and 97.5th percentile of the coefficients over draws of whole families with replacement."""
    parts = [_sums(presence[family == f], y[family == f]) for f in range(families)]
    squares, products = np.array([s for s, _ in parts]), np.array([p for _, p in parts])
    rng = np.random.Generator(np.random.Philox(0))
    drawn = []
    for _ in range(draws):
        times = rng.multinomial(families, np.full(families, 1 / families)).astype(float)
        drawn.append(_fit(np.tensordot(times, squares, 1) + 1e-9 * np.eye(squares.shape[1]), times @ products))
    low, high = np.percentile(np.array(drawn), [2.5, 97.5], axis=0)
    return low, high


def _gains(run: Run, measure: dict[int, float]) -> dict[Feature, list[float]]:
    """Of each feature, the changes of ln(perplexity) from parent to child of the children of one parent that have it
    when the parent does not."""
    gains: dict[Feature, list[float]] = defaultdict(list)
    for c in sample(run.measured):
        if len(c.parents) != 1 or c.parents[0] not in measure:
            continue
        parent = run.by_number[c.parents[0]]
        change = measure[c.number] - measure[parent.number]
        for feature in features_of(c.formula, c.per) - features_of(parent.formula, parent.per):
            gains[feature].append(change)
    return gains


def families(run: Run) -> int:
    """How many founders the measured candidates go back to."""
    founder = founders(run.candidates)
    return len({founder[c.number] for c in run.measured})


def the_best(run: Run, share: float = 0.1) -> Sequence[Candidate]:
    """A `share` of the candidates that have a fitness, at least ten where there are so many."""
    return run.found[: max(10, round(share * len(run.found)))]


def frequencies(run: Run) -> list[tuple[Feature, float, float]]:
    """Of each feature, the share of the best candidates that have it and the share of all that were measured; those
    that set the best apart first."""

    def shares(candidates: Sequence[Candidate]) -> dict[Feature, float]:
        counts: dict[Feature, int] = defaultdict(int)
        for c in candidates:
            for feature in features_of(c.formula, c.per):
                counts[feature] += 1
        return {feature: n / len(candidates) for feature, n in counts.items()}

    among_best, among_all = shares(sample(the_best(run))), shares(sample(run.measured))
    table = [(f, among_best.get(f, 0.0), share_of_all) for f, share_of_all in among_all.items()]
    return sorted(table, key=lambda row: (row[2] - row[1], row[0]))
