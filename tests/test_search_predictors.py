"""Predictors against a plain computation, their rank correlation against another's, and whom they turn away."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pzc.search.candidate import Candidate
from pzc.search.fitness import Fitness
from pzc.search.plan import Plan
from pzc.search.predictors import LEAST, MARGIN, MEMBERS, PROVEN, correlations, limits, spearman
from tests.conftest import make_tiny
from tests.searches import closed, genotype, made, tiny_fitness

SECOND, OUTPUT = "second-order loss", "output error"


@pytest.fixture(scope="module")
def fitness() -> Fitness:
    return tiny_fitness()


@pytest.mark.parametrize("formula", ["abs(W) per layer", "abs(W) * X per row", "abs(W) * G per model"])
def test_a_prediction_is_the_mean_share_that_layers_lose(formula: str, fitness: Fitness) -> None:
    masks, _ = fitness.masks(genotype(formula))
    predicted = fitness.predicted(masks)
    for name, leaf in ((SECOND, "G.l2"), (OUTPUT, "X.l2")):
        shares = []
        for layer in fitness.layers.layers:
            weight = dict(make_tiny().named_parameters())[f"{layer.name}.weight"].detach().double().numpy()
            other = fitness.statistics.tables[layer.name][leaf].double().numpy()
            stakes = weight**2 * other**2
            shares.append(stakes[~masks[layer.name].numpy()].sum() / stakes.sum())
        assert predicted[name] == pytest.approx(np.mean(shares), abs=2e-6)
        assert 0 < predicted[name] < 1


def test_nothing_pruned_is_nothing_lost(fitness: Fitness) -> None:
    kept = {layer.name: torch.ones(layer.shape, dtype=torch.bool) for layer in fitness.layers.layers}
    assert fitness.predicted(kept) == {SECOND: 0.0, OUTPUT: 0.0}
    gone = {name: ~mask for name, mask in kept.items()}
    assert fitness.predicted(gone) == pytest.approx({SECOND: 1.0, OUTPUT: 1.0}, abs=1e-5)


def plain_spearman(x: list[float], y: list[float]) -> float:
    """Pearson's correlation of mean ranks, counted out: a rank is how many are smaller, and half of those that tie."""
    ranks = [np.array([sum(b < a for b in v) + sum(b == a for b in v) / 2 for a in v]) for v in (x, y)]
    if any(r.std() == 0 for r in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


series = st.lists(st.tuples(st.integers(0, 5), st.floats(-9, 9)), min_size=2, max_size=30)


@given(series)
def test_spearman(pairs: list[tuple[int, float]]) -> None:
    x, y = [float(a) for a, _ in pairs], [b for _, b in pairs]
    assert spearman(x, y) == pytest.approx(plain_spearman(x, y), abs=1e-9)
    assert spearman(y, x) == pytest.approx(spearman(x, y))


@settings(deadline=None)  # the first import of scipy takes long
@given(series)
def test_spearman_as_scipy_has_it(pairs: list[tuple[int, float]]) -> None:
    stats = pytest.importorskip("scipy.stats")
    x, y = [float(a) for a, _ in pairs], [b for _, b in pairs]
    assume(len(set(x)) > 1 and len(set(y)) > 1)
    assert spearman(x, y) == pytest.approx(float(stats.spearmanr(x, y).statistic), abs=1e-9)


def measured(n: int, slope: float = 1.0) -> list[Candidate]:
    """Candidates whose output error tells their fitness, and whose second-order loss tells nothing."""
    return [
        made(i, losses=(1 + slope * i / 100,), predictors={OUTPUT: 0.1 + i / 1000, SECOND: (i * 7 % n) / n})
        for i in range(n)
    ]


def test_a_few_candidates_say_nothing_of_a_correlation() -> None:
    assert correlations(measured(LEAST - 1)) == {}
    found = correlations(measured(LEAST))
    assert found[OUTPUT] == pytest.approx(1.0)
    assert abs(found[SECOND]) < 0.7
    assert correlations(measured(LEAST, slope=-1.0))[OUTPUT] == pytest.approx(-1.0)
    assert closed(Plan(), [[], [], measured(LEAST)]).standing().predictors == found


def behind(n: int, status: str = "lost race", loss: float = 9.0) -> list[Candidate]:
    """Raced candidates whose output error is twice as far behind as it has to be to be turned away."""
    far = 2 * MARGIN * max(c.predictors[OUTPUT] for c in measured(LEAST))
    return [made(100 + i, status=status, losses=(loss,), predictors={OUTPUT: far, SECOND: 0.0}) for i in range(n)]


def test_only_who_is_far_behind_everyone_is_turned_away() -> None:
    population = measured(LEAST)
    worst = max(c.predictors[OUTPUT] for c in population)
    raced = [*population, *behind(PROVEN)]
    assert limits(population, raced) == {OUTPUT: pytest.approx(MARGIN * worst)}
    assert limits(population[: MEMBERS - 1], raced) == {}  # too few to compare with
    assert limits(population[:MEMBERS], raced) != {}
    assert limits(population, population) == {}  # nobody was there before
    assert limits([], raced) == {}


def test_a_predictor_turns_nobody_away_before_it_was_right() -> None:
    population = measured(LEAST)
    assert not limits(population, behind(PROVEN - 1))
    worst = max(c.losses[0] for c in population)
    assert limits(population, [*behind(PROVEN - 1), *behind(1, "evaluated", worst + 0.01)])
    assert not limits(population, [*behind(PROVEN), *behind(1, "evaluated", worst - 0.01)])  # it was wrong once
