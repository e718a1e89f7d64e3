"""Screening: sketches against whole masks, the surrogate against another's Gaussian process, and whom they choose."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, rankdata

from pzc.runtime.models.layers import Layer
from pzc.runtime.scoring.masks import Target
from pzc.search import sketch as sketches
from pzc.search.algorithms import SEED
from pzc.search.bar import Bar
from pzc.search.candidate import Candidate
from pzc.search.fitness import Fitness
from pzc.search.niche import BITS, NEAR, distance, few_of_a_niche, signature
from pzc.search.plan import Plan
from pzc.search.predictors import PROVEN, SURROGATE
from pzc.search.proposals import INSTRUCTIVE, Proposal, proposals
from pzc.search.screening import EXPLORED, Screen, excess, instructive
from pzc.search.settings import Settings
from pzc.search.settings import given as given_by
from pzc.search.settle import settle
from pzc.search.sketch import Sketch, Sketches
from pzc.search.spread import spread
from pzc.search.state import State
from pzc.search.surrogate import APART, NOISE, Surrogate, normal_scores
from tests.searches import closed, genotype, made, tiny_fitness

START = given_by(Settings())


@pytest.fixture(scope="module")
def fitness() -> Fitness:
    return tiny_fitness()


def by_shape(layers: Sequence[Layer]) -> list[Layer]:
    """Layers in the order of a sketch: those of one shape together."""
    shapes = list(dict.fromkeys(layer.shape for layer in layers))
    return sorted(layers, key=lambda layer: shapes.index(layer.shape))


@pytest.mark.parametrize(
    "formula",
    [
        "abs(W) per layer",
        "abs(W) * X per row",
        "abs(W) * G per model",
        "X per row",
        "abs(W) / sum(abs(W), out) * X per col",
        "abs(W) * (depth + 1) * X / mean(X) per block",
        "rank(abs(W), out) + rank(X * abs(W), in) + rank(G) per layer",
        "abs(W) * quantile(G, 0.7, out) / (median(abs(W), in) + std(G)) per model",
        "noise * in_features / out_features per row",
    ],
)
def test_the_sketch_of_a_small_model_is_its_masks(formula: str, fitness: Fitness) -> None:
    masks, _ = fitness.masks(genotype(formula))
    want = np.concatenate([masks[layer.name].numpy().ravel() for layer in by_shape(fitness.layers.layers)])
    found = fitness.sketches.of(genotype(formula))
    assert found is not None
    assert np.array_equal(np.unpackbits(found.bits, count=want.size).astype(bool), want)
    assert np.exp(found.predicted) == pytest.approx(list(fitness.predicted(masks).values()), abs=2e-6)


@pytest.mark.parametrize("formula", ["abs(W) per row", "abs(W) * X per row", "abs(W) * G / mean(G, in) per row"])
def test_rows_of_a_sketch_are_rows_of_the_masks(
    formula: str, fitness: Fitness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a larger model every so many rows are looked at; where groups are rows they are as in the whole."""
    monkeypatch.setattr(sketches, "WEIGHTS", fitness.layers.size // 3)
    monkeypatch.setattr(sketches, "ROWS", 2)
    thin = Sketches(fitness.layers.layers, fitness.statistics, Target())
    masks, _ = fitness.masks(genotype(formula))
    want = np.concatenate([masks[layer.name][::3].numpy().ravel() for layer in by_shape(fitness.layers.layers)])
    found = thin.of(genotype(formula))
    assert found is not None
    assert np.array_equal(np.unpackbits(found.bits, count=want.size).astype(bool), want)


@pytest.mark.parametrize("formula", ["exp(exp(abs(W) * 1e6)) per row", "ln(W) per layer"])
def test_a_score_that_is_not_finite_has_no_sketch(formula: str, fitness: Fitness) -> None:
    assert fitness.sketches.of(genotype(formula)) is None


def test_a_pattern_is_sketched(fitness: Fitness) -> None:
    thin = Sketches(fitness.layers.layers, fitness.statistics, Target(pattern=(2, 4)))
    found = thin.of(genotype("abs(W) * X per row"))
    assert found is not None
    runs = np.unpackbits(found.bits).reshape(-1, 4)
    assert (runs.sum(1) == 2).all()


def some_sketches(seed: int, n: int, predicted: int = 2) -> list[Sketch]:
    rng = np.random.default_rng(seed)

    def lost() -> dict[str, float]:
        return {f"predictor {i}": math.exp(rng.normal()) for i in range(predicted)}

    return [Sketch(rng.integers(0, 256, 32, np.uint8), lost()) for _ in range(n)]


def plain_process(known: Sequence[Sketch], losses: Sequence[float], new: Sketch) -> tuple[float, float]:
    """Kriging with an unknown constant mean, from textbook formulae on unpacked bits."""
    every = [*known, new]
    bits = np.array([np.unpackbits(s.bits) for s in every], float)
    said = np.array([s.predicted for s in every])
    said = (said - said[:-1].mean(0)) / said[:-1].std(0)
    k = np.exp(-np.abs(bits[:, None] - bits[None]).mean(2) / APART)
    if said.shape[1]:
        k += np.exp(-((said[:, None] - said[None]) ** 2).mean(2))
    y = norm.ppf((rankdata(losses) - 0.5) / len(losses))
    a = k[:-1, :-1] + NOISE * np.eye(len(known))
    ones = np.ones(len(known))
    mean = (ones @ np.linalg.solve(a, y)) / (ones @ np.linalg.solve(a, ones))
    weights = np.linalg.solve(a, k[:-1, -1])
    return mean + weights @ (y - mean), float(np.sqrt(k[-1, -1] - weights @ k[:-1, -1]))


@pytest.mark.parametrize("predicted", [0, 2])
@pytest.mark.parametrize("seed", range(5))
def test_a_prediction_is_that_of_a_plain_gaussian_process(seed: int, predicted: int) -> None:
    *known, new = some_sketches(seed, 20, predicted)
    losses = np.random.default_rng(seed).normal(size=19).tolist()
    surrogate = Surrogate(known, losses)
    assert surrogate.predict(new) == pytest.approx(plain_process(known, losses, new), abs=1e-7)
    assert surrogate.predict(known[int(np.argmin(losses))])[1] < 0.2  # what was measured is known


@pytest.mark.parametrize("seed", range(5))
def test_the_expected_gain_is_a_mean_over_what_may_be(seed: int) -> None:
    *known, new = some_sketches(seed, 20)
    losses = np.random.default_rng(seed).normal(size=19).tolist()
    surrogate = Surrogate(known, losses)
    score, deviation = surrogate.predict(new)
    best = min(normal_scores(losses))
    drawn = np.array(NormalDist(score, deviation).samples(200_000, seed=seed))
    gains = np.maximum(best - drawn, 0.0)
    assert surrogate.expected_gain(score, deviation) == pytest.approx(
        gains.mean(), abs=5 * gains.std() / np.sqrt(len(gains)) + 1e-9
    )
    assert surrogate.expected_gain(*surrogate.predict(known[int(np.argmin(losses))])) < 0.1


def test_of_hundreds_what_is_probably_good_comes_before_what_is_only_uncertain() -> None:
    surrogate = Surrogate(some_sketches(0, 300), np.random.default_rng(0).normal(size=300).tolist())
    assert surrogate.expected_gain(-1.6, 0.3) > surrogate.expected_gain(0.7, 1.2)
    assert surrogate.expected_gain(0.7, 1.2) > surrogate.expected_gain(0.7, 0.3)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30, unique=True))
@settings(deadline=None)
def test_normal_scores_are_quantiles_of_ranks(values: list[int]) -> None:
    want = norm.ppf((rankdata(values) - 0.5) / len(values))
    assert normal_scores(values) == pytest.approx(want, abs=1e-9)


def test_only_windows_that_both_have_run_are_compared() -> None:
    assert excess(made(0, losses=(3.0, 5.0)), (1.0, 2.0, 100.0)) == pytest.approx(2.5)
    assert excess(made(0, losses=(3.0, 5.0)), ()) == pytest.approx(4.0)


def test_the_best_and_the_latest_teach_most() -> None:
    raced = [made(i, losses=(float(i % 7),), status="lost race" if i % 3 else "evaluated") for i in range(40)]
    chosen = instructive(raced, 10)
    assert instructive(raced, 40) == raced
    assert [c.number for c in chosen] == sorted({c.number for c in chosen})
    assert len(chosen) == 10
    best = sorted((c for c in raced if c.status == "evaluated"), key=lambda c: c.order)[:5]
    assert set(best) <= set(chosen)
    assert raced[-1] in chosen


def measured(fitness: Fitness) -> State:
    """A run of one generation in which more magnitude was always better."""
    plan = Plan(population=12, islands=2, seed=3)
    powers = [0.1 * k for k in range(1, INSTRUCTIVE + 5)]
    formulas = [f"abs(W) ^ {p:.1f} * X per row" for p in powers]
    candidates = [
        made(i, f.removesuffix(" per row"), generation=0, losses=(3 + 0.1 * i,), rank_key=f)
        for i, f in enumerate(formulas)
    ]
    return closed(plan, [[], [], candidates])


def test_of_several_drafts_the_most_promising_is_measured(fitness: Fitness) -> None:
    state = measured(fitness)
    screen = Screen(fitness.sketches.of, START.space)
    screen.learn(state)
    drawn = proposals(state, START)
    assert any(p.rivals for p in drawn)
    chosen = [screen.choose(p, state) for p in drawn]
    assert chosen == [screen.choose(p, state) for p in drawn]  # whoever settles the slot
    for before, after in zip(drawn, chosen, strict=True):
        assert not after.rivals
        assert after.candidate.number == before.candidate.number
        assert SURROGATE in after.candidate.predictors
        assert fitness.sketches.of(genotype(f"{after.candidate.formula} per {after.candidate.per}")) is not None
    formulas = {c.formula for p in drawn for c in (p.candidate, *(c for c, _ in p.rivals))}
    assert any(p.candidate.formula not in formulas for p in chosen)  # numbers were tuned


def upside_down(fitness: Fitness, operator: str = "random") -> tuple[State, Screen, list[Proposal]]:
    """A run that has seen what becomes of metrics that prune the largest, and forty slots for one more of them."""
    good = [made(i, f"abs(W) ^ {0.1 * i:.1f} * X", losses=(3 + 0.01 * i,), rank_key=str(i)) for i in range(1, 25)]
    bad = [
        made(24 + i, f"-abs(W) ^ {0.1 * i:.1f} * X", status="lost race", losses=(9.0,), rank_key=str(-i))
        for i in range(1, PROVEN + 1)
    ]
    first = made(0, losses=(3.5,), rank_key="0")
    state = closed(Plan(population=24, islands=1, alike=24, seed=3), [[], [], [first, *good, *bad]])
    screen = Screen(fitness.sketches.of, START.space)
    screen.learn(state)
    new = made(31, "-abs(W) ^ 1.23 * X", status="proposed", operator=operator, rank_key="new")
    core = genotype("-abs(W) ^ 1.23 * X per row").core
    return state, screen, [Proposal(replace(new, slot=slot), core) for slot in range(40)]


def test_whom_a_predictor_is_sure_of_is_turned_away(fitness: Fitness) -> None:
    """But in some slots: else it could never be found wrong."""
    state, screen, drawn = upside_down(fitness)
    chosen = [screen.choose(p, state) for p in drawn]
    away = [p.candidate for p in chosen if p.settled]
    assert {c.status for c in away} == {"predicted worse"}
    assert abs(1 - len(away) / len(chosen) - EXPLORED) < 0.12
    assert len(away) < len(chosen)
    assert all(c.predictors["output error"] > 0.5 for c in away)
    assert all(settle(p, state, fitness, Bar(())) == p.candidate for p in chosen if p.settled)
    state.close([replace(away[0], number=len(state.candidates))])
    assert state.counts["predicted worse"] == 1
    repeated = state.identity.repeats(replace(away[0], status="proposed"), chosen[0].core, state.core_of)
    assert repeated == ("same ranking", 31)


def test_a_rival_that_is_not_turned_away_is_measured_instead(fitness: Fitness) -> None:
    state, screen, drawn = upside_down(fitness)
    better = replace(drawn[0].candidate, formula="abs(W) ^ 1.23 * X", rank_key="better")
    rivals = ((better, genotype("abs(W) ^ 1.23 * X per row").core),)
    chosen = [screen.choose(replace(p, rivals=rivals), state) for p in drawn]
    measured = [p.candidate.formula for p in chosen if not p.settled and not p.candidate.formula.startswith("-")]
    assert len(measured) > 0.7 * len(drawn)  # but where nothing is screened, or nothing turned away


@pytest.mark.parametrize(
    ("formula", "operator"),
    [
        ("abs(W) ^ 1.23 * X", "random"),
        ("-abs(W) ^ 1.23 * X", SEED),  # what the user wants to know
        ("-tanh(100 * abs(W) ^ 1.23 * X)", "random"),  # its sketch says nothing of what is measured in its place
    ],
)
def test_others_are_never_turned_away(formula: str, operator: str, fitness: Fitness) -> None:
    state, screen, drawn = upside_down(fitness, operator)
    core = genotype(f"{formula} per row").core
    for p in drawn:
        c = replace(p.candidate, formula=formula, rank_key="other")
        assert not screen.choose(replace(p, candidate=c, core=core), state).settled


def test_an_island_turns_away_what_is_far_behind_its_own(fitness: Fitness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pzc.search.screening.limits", lambda population, raced: {"output error": population[0].island})
    state, screen, (one, *_) = upside_down(fitness)
    other = replace(one, candidate=replace(one.candidate, island=1))
    state.plan = replace(state.plan, islands=2)
    monkeypatch.setattr(State, "population", lambda self, generation, island: [made(0, island=island)])
    screen.learn(state)
    monkeypatch.setattr("pzc.search.screening.EXPLORED", 0.0)
    assert screen.choose(one, state).settled  # nothing may be lost there
    assert not screen.choose(other, state).settled


def test_a_predictor_is_judged_by_all_that_were_raced(fitness: Fitness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that teach the surrogate are the best and the latest: hardly anyone who is far behind."""
    monkeypatch.setattr("pzc.search.screening.MOST", INSTRUCTIVE)
    state, screen, drawn = upside_down(fitness)
    more = [made(31 + i, f"abs(W) ^ {1 + i / 50} * X", losses=(2.9,), rank_key=f"m{i}") for i in range(INSTRUCTIVE)]
    state.close(more)
    screen.learn(state)
    assert any(screen.choose(p, state).settled for p in drawn)


def test_before_anything_is_known_the_first_draft_is_measured(fitness: Fitness) -> None:
    state = closed(Plan(population=12, seed=3), [[], []])
    screen = Screen(fitness.sketches.of, START.space)
    screen.learn(state)
    new = made(0, status="proposed")
    proposal = Proposal(new, genotype("abs(W) * X").core, (), ((replace(new, formula="X"), genotype("X").core),))
    assert screen.choose(proposal, state) == replace(proposal, rivals=())


def test_a_signature_is_a_sample_of_bits() -> None:
    generator = torch.Generator().manual_seed(0)
    a = {name: torch.rand(shape, generator=generator) < 0.5 for name, shape in (("x", (70, 50)), ("y", (31, 77)))}
    b = {name: mask ^ (torch.rand(mask.shape, generator=generator) < 0.2) for name, mask in a.items()}
    flat = [np.concatenate([masks["x"].numpy().ravel(), masks["y"].numpy().ravel()]) for masks in (a, b)]
    bits = [f[spread(f.size, BITS)] for f in flat]
    assert signature(a) == np.packbits(bits[0]).tobytes().hex()
    assert distance(signature(a), signature(b)) == pytest.approx(np.mean(bits[0] != bits[1]), abs=0.01)
    assert distance(signature(a), signature(a)) == 0


@pytest.mark.parametrize("shapes", [[(576, 576), (1536, 576), (576, 1536)], [(1024, 1024)] * 3, [(64, 32)]])
def test_a_signature_has_its_share_of_every_column_and_row(shapes: list[tuple[int, int]]) -> None:
    """Sizes of real layers are multiples of their rows' length: at one distance all bits could be of one input."""
    some = (0.02, 0.1, 0.5)
    for axis, share in itertools.product((0, 1), some):
        masks = {str(i): torch.zeros(shape, dtype=torch.bool) for i, shape in enumerate(shapes)}
        other = {name: mask.clone() for name, mask in masks.items()}
        for mask in other.values():
            mask.narrow(axis, 0, round(share * mask.shape[axis])).fill_(True)
        true = sum(int(mask.count_nonzero()) for mask in other.values()) / sum(mask.numel() for mask in other.values())
        assert distance(signature(masks), signature(other)) == pytest.approx(true, abs=0.012), (axis, share)


@pytest.mark.parametrize("columns", [576, 1024, 3584, 4096])
def test_positions_that_are_spread_are_of_all_columns_and_rows(columns: int) -> None:
    places = spread(columns * columns, 4096)
    assert len(np.unique(places)) == 4096
    for line in (places % columns, places // columns):
        assert len(np.unique(line)) > 0.4 * min(columns, 4096)
        assert abs(np.mean(line) / columns - 0.5) < 0.01
    assert list(spread(5, 9)) == [0, 1, 2, 3, 4]


def test_a_niche_holds_few() -> None:
    bits = 1 << 10

    def with_ones(n: int) -> str:
        return f"{(1 << n) - 1:0{bits // 4}x}"

    def c(number: int, ones: int) -> Candidate:
        return made(number, signature=with_ones(ones))

    near, far = round(NEAR * bits) - 3, 4 * round(NEAR * bits)
    pool = [c(0, 0), c(1, near // 2), c(2, near), c(3, far), c(4, far + near), c(5, far + 1)]
    assert [x.number for x in few_of_a_niche(pool, 2, 9)] == [0, 1, 3, 4]
    assert [x.number for x in few_of_a_niche(pool, 1, 9)] == [0, 3]
    assert [x.number for x in few_of_a_niche(pool, 6, 3)] == [0, 1, 2]
