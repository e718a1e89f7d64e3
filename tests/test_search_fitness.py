"""Fitness is what an independent hand would measure: a copy of the model, pruned, read by a plain loop."""

from __future__ import annotations

import copy
import json
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import pzc
from pzc.compiler.load import inline, load
from pzc.runtime.errors import PruningError
from pzc.runtime.evaluation.evaluate import compared_losses
from pzc.runtime.evaluation.uncertainty import perplexity
from pzc.runtime.scoring.masks import Target
from pzc.search.candidate import Candidate, attributes, from_attributes
from pzc.search.final import Final, as_written, contend, measure
from pzc.search.fitness import Fitness
from pzc.search.niche import signature
from pzc.search.objective import OBJECTIVES, Divergence
from pzc.search.place import Place
from pzc.search.prepare import open_store, prepare
from pzc.search.racing import RUNGS, Race
from pzc.search.readable import forms, readable, shape
from pzc.search.run import Budget, finish, search
from pzc.search.settings import Settings
from tests.conftest import make_tiny
from tests.searches import genotype, made, some_windows, tiny_fitness

FORMULAS = [
    "abs(W) per layer",
    "abs(W) * X per row",
    "abs(W) * G ^ 0.8 per model",
    "(abs(W) / sum(abs(W), in) + abs(W) / sum(abs(W), out)) * X ^ 0.5 per col",
]


def plain_losses(model: Any, windows: torch.Tensor) -> list[float]:
    """Each window's mean cross-entropy, as transformers computes it."""
    with torch.no_grad():
        return [float(model(input_ids=w[None], labels=w[None]).loss) for w in windows]


def state_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("pattern", [None, (2, 4)])
def test_losses_are_those_of_a_pruned_copy(formula: str, pattern: tuple[int, int] | None) -> None:
    if pattern and not formula.endswith("row"):
        formula = formula.rsplit(" per ", 1)[0] + " per row"
    copied = copy.deepcopy(make_tiny())
    fitness = tiny_fitness(Target(pattern=pattern))
    masks, _ = fitness.masks(genotype(formula))
    losses, verdict = fitness.race(masks)
    pzc.prune(copied, load(formula), windows=some_windows(1, 6), pattern=pattern)
    assert verdict is None
    assert equal(state_of(fitness.model), state_of(copied))
    assert losses == pytest.approx(plain_losses(copied, some_windows(2, 16)), abs=2e-6)
    assert perplexity(losses) == pytest.approx(math.exp(sum(losses) / 16))


def test_one_candidate_leaves_no_trace_in_the_next() -> None:
    fitness = tiny_fitness()
    first = [fitness.race(fitness.masks(genotype(f))[0]) for f in FORMULAS]
    again = [fitness.race(fitness.masks(genotype(f))[0]) for f in reversed(FORMULAS)]
    assert first == list(reversed(again))


def test_the_dense_model_comes_back() -> None:
    dense = state_of(make_tiny())
    fitness = tiny_fitness()
    fitness.race(fitness.masks(genotype(FORMULAS[0]))[0])
    held_out = some_windows(3, 4)
    assert not equal(state_of(fitness.model), dense)
    assert fitness.on(None, held_out) == pytest.approx(plain_losses(make_tiny(), held_out), abs=2e-6)
    assert equal(state_of(fitness.model), dense)
    assert all(torch.equal(w, dense[f"{name}.weight"]) for name, w in fitness.dense.weights.items())


def test_a_whole_search_leaves_the_model_as_it_was(tmp_path: Any) -> None:
    settings = Settings(windows=2, fitness_windows=4, held_out_windows=2, length=32, population=4, generations=1)
    store, _ = open_store(Place(tmp_path), settings)
    run = prepare(store, settings)
    dense = state_of(run.fitness.model)
    search(run, Budget())
    result = finish(run)
    assert equal(state_of(run.fitness.model), dense)
    assert all(torch.equal(w, dense[f"{name}.weight"]) for name, w in run.fitness.dense.weights.items())
    assert result.dense == pytest.approx(math.exp(sum(plain_losses(run.fitness.model, run.held_out)) / 2), rel=1e-5)
    assert [len(windows) for windows in run.further] == [4, 4]
    places = [(m.further_windows, m.fitness * m.further ** (m.further_windows / 4)) for m in result.members]
    assert [windows for windows, _ in places] == [8] * min(5, len(places)) + [4] * (len(places) - 5)
    for windows in (8, 4):  # of as many windows the order is the product's
        mine = [product for count, product in places if count == windows]
        assert mine == sorted(mine)


def test_a_race_runs_rung_after_rung() -> None:
    fitness = tiny_fitness()
    masks, _ = fitness.masks(genotype(FORMULAS[0]))
    full, _ = fitness.race(masks)
    rungs = [round(share * 16) for share in RUNGS]
    assert rungs == [1, 2, 4, 6, 8, 10, 12, 14, 16]
    far_behind = [x - 0.41 for x in full]  # e ** 0.41 is above 1.5
    assert fitness.race(masks, Race(far_behind)) == (full[:1], "lost race")
    assert fitness.race(masks, Race([full[0] - 0.4, *far_behind[1:]])) == (full[:4], "lost race")
    behind_at_once = [x - 0.2 - i / 1000 for i, x in enumerate(full)]
    assert fitness.race(masks, Race(behind_at_once)) == (full[:4], "lost race")
    behind_late = [*full[:8], *(x - 1 - i / 100 for i, x in enumerate(full[8:]))]
    assert fitness.race(masks, Race(behind_late)) == (full[:12], "lost race")
    behind_at_the_end = [*full[:14], *(x - 1 for x in full[14:])]
    assert fitness.race(masks, Race(behind_at_the_end)) == (full, None)
    assert fitness.race(masks, Race(full)) == (full, None)
    assert fitness.race(masks, Race(rival=far_behind)) == (full[:4], "placed")  # nobody is placed by fewer
    assert fitness.race(masks, Race(rival=behind_at_once)) == (full[:4], "placed")
    assert fitness.race(masks, Race(behind_at_once, rival=behind_at_once)) == (full[:4], "lost race")
    assert fitness.race(masks, Race(behind_late, rival=behind_at_once)) == (full[:4], "placed")
    assert fitness.race(masks, Race(rival=full)) == (full, None)
    assert fitness.in_full(masks) == fitness.in_full(masks, at_once=2) == full


def test_who_is_placed_is_expected_to_stay_as_far_behind() -> None:
    race = Race(rival=(2.0, 3.0, 5.0, 4.0))
    assert race.expected((2.5, 4.5)) == (6.0, 5.0)
    placed = made(1, losses=(2.5, 4.5), expected=race.expected((2.5, 4.5)), status="placed")
    assert placed.course == (2.5, 4.5, 6.0, 5.0)
    assert placed.fitness == pytest.approx(math.exp(4.5))  # the rival's mean loss is 3.5
    assert from_attributes(json.loads(json.dumps(attributes(placed)))) == placed


def test_a_surely_worse_one_is_placed_by_fewer_errors_than_it_would_lose_by() -> None:
    rival = [2.0] * 8
    losses = [2.0 + d for d in (0.3, -0.1, 0.2, 0.0)]  # 0.1 behind, with a standard error of 0.091
    assert Race(rival).verdict(losses, surely=True) is None
    assert Race(rival=[x - 0.05 for x in rival]).verdict(losses, surely=True) == "placed"
    assert Race(rival=[x - 0.05 for x in rival]).verdict(losses, surely=False) is None
    assert Race([x - 0.05 for x in rival]).verdict(losses, surely=True) is None


def test_a_loss_that_is_not_finite_ends_the_race(monkeypatch: pytest.MonkeyPatch) -> None:
    fitness = tiny_fitness()
    masks, _ = fitness.masks(genotype(FORMULAS[0]))
    monkeypatch.setattr("pzc.search.objective.window_losses", lambda model, windows, at_once: [math.inf] * len(windows))
    losses, verdict = fitness.race(masks)
    assert (len(losses), verdict) == (1, None)


def test_a_pattern_that_does_not_fit_is_said_before_anything_is_gathered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pzc.search.prepare.dense_statistics", None)
    settings = Settings(windows=2, fitness_windows=4, held_out_windows=2, length=32, pattern="3:5")
    store, _ = open_store(Place(tmp_path), settings)
    with pytest.raises(PruningError, match="3:5 needs a multiple of 5 inputs"):
        prepare(store, settings)


def test_fitness_windows_are_only_measured_on() -> None:
    """Statistics, and so masks, do not change with the fitness windows."""
    one, other = tiny_fitness(windows=2), tiny_fitness(windows=9)
    for formula in FORMULAS:
        assert one.masks(genotype(formula))[1] == other.masks(genotype(formula))[1]


# What people read


def candidate(formula: str, per: str) -> Candidate:
    return made(0, formula, per=per, losses=(1.0,))


@pytest.mark.parametrize(
    ("bred", "per", "read"),
    [
        ("sqr(W) * sqr(X)", "row", "abs(W) * X"),
        ("tanh(abs(W) / (X / X)) * 0.123456789", "row", "abs(W)"),
        ("sqr(W) * sqr(G + 0.123456789)", "model", "abs(W) * (G + 0.1235)"),
        ("1 * (W ^ 1 + mean(G) ^ 1 / sum(G + W, out) ^ 0.3) / 1", "model", "W + mean(G) / sum(G + W, out) ^ 0.3"),
    ],
)
def test_the_readable_form_is_the_shortest(bred: str, per: str, read: str) -> None:
    metric = readable(candidate(bred, per))
    assert inline(metric.formula).core is inline(read).core
    assert metric.per == per
    assert len({m.keys.rank for m in forms(candidate("sqr(W) * sqr(X) + 1", per))}) == 1


def tried(formula: str, fitness: Fitness) -> Candidate:
    """A candidate as the search has measured it."""
    masks, mask_hash = fitness.masks(genotype(formula))
    losses, _ = fitness.race(masks)
    text, per = formula.rsplit(" per ", 1)
    return made(0, text, per=per, losses=tuple(losses), mask_hash=mask_hash, signature=signature(masks))


def test_a_form_that_overflows_gives_way_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rank form of ln(e^x) · … can be e^(e^x): short, and infinite in float32."""
    fitness = tiny_fitness()
    bred = tried("ln(exp(abs(W) * 20) / exp(abs(W) * 19) + 1) per row", fitness)
    short = inline("exp(exp(abs(W) * 200))", "found_1")
    monkeypatch.setattr("pzc.search.final.forms", lambda c: [short, *forms(c)])
    found = as_written(bred, fitness)
    assert inline(found.metric.formula).core is inline("abs(W)").core
    assert math.isfinite(measure(Final(fitness, some_windows(3, 2)), [found])[0].held_out)


@pytest.mark.parametrize(
    ("bred", "written"),
    [
        ("tanh(30 * abs(W) * X)", "tanh(30 * abs(W) * X)"),  # 1 nearly everywhere: Wanda is another metric
        ("sqr(W) * sqr(X) * 3", "abs(W) * X"),
        ("abs(W) * X + 0.0123456789 * abs(W)", "abs(W) * (X + 0.01235)"),
    ],
)
@pytest.mark.parametrize("placed", [False, True])
def test_all_that_is_said_of_a_member_is_measured_on_its_own_masks(bred: str, written: str, placed: bool) -> None:
    fitness, further, held_out = tiny_fitness(), some_windows(9, 8), some_windows(3, 4)
    c = tried(f"{bred} per row", fitness)
    if placed:
        c = replace(c, status="placed", losses=c.losses[:4], expected=(9.0,) * 12)
    (found,) = contend(fitness, [c], [further, further[:0]], at_once=2)
    (member,) = measure(Final(fitness, held_out), [found])
    assert inline(member.metric.formula).core is inline(written).core
    copied = copy.deepcopy(make_tiny())
    pzc.prune(copied, load(f"{written} per row"), windows=some_windows(1, 6))
    for said, windows in (
        (member.fitness, some_windows(2, 16)), (member.further, further), (member.held_out, held_out)
    ):  # fmt: skip
        assert said == pytest.approx(math.exp(sum(plain_losses(copied, windows)) / len(windows)), rel=1e-5)
    assert found.loss == pytest.approx((16 * math.log(member.fitness) + 8 * math.log(member.further)) / 24)


# What is measured, and in which type


def test_divergence_is_that_of_plain_torch() -> None:
    fitness, windows = tiny_fitness(objective=OBJECTIVES["kl"]), some_windows(2, 16)
    masks, _ = fitness.masks(genotype(FORMULAS[1]))
    losses, verdict = fitness.race(masks)
    pruned = copy.deepcopy(make_tiny())
    pzc.prune(pruned, load(FORMULAS[1]), windows=some_windows(1, 6))
    with torch.no_grad():
        p, q = (model(input_ids=windows).logits[:, :-1].double().log_softmax(-1) for model in (make_tiny(), pruned))
    want = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1).mean(-1)
    assert verdict is None
    assert losses == pytest.approx(want.tolist(), rel=0.02, abs=1e-3)  # the dense model's are kept in bfloat16
    assert min(losses) > 0
    dense = {name: torch.ones_like(mask) for name, mask in masks.items()}
    assert fitness.race(dense)[0] == pytest.approx([0.0] * 16, abs=2e-3)


def test_racing_in_bfloat16_leaves_the_precise_model_as_it_is() -> None:
    plain, fast = tiny_fitness(), tiny_fitness(dtype=torch.bfloat16)
    dense = state_of(fast.precise)
    for formula in FORMULAS:
        masks, name = fast.masks(genotype(formula))
        assert name == plain.masks(genotype(formula))[1]  # scores keep their type
        losses, _ = fast.race(masks)
        copied = copy.deepcopy(make_tiny())
        pzc.prune(copied, load(formula), windows=some_windows(1, 6))
        assert equal(state_of(fast.model), state_of(copied.to(torch.bfloat16)))
        assert losses == pytest.approx(plain_losses(fast.model, some_windows(2, 16)), abs=0.02)
    assert equal(state_of(fast.precise), dense)
    assert {p.dtype for p in fast.precise.parameters()} == {torch.float32}
    held_out = some_windows(3, 4)
    assert fast.on(genotype(FORMULAS[0]), held_out) == plain.on(genotype(FORMULAS[0]), held_out)
    assert fast.on(None, held_out) == plain.on(None, held_out)


def test_each_rung_is_told_of() -> None:
    fitness, told = tiny_fitness(), []
    masks, _ = fitness.masks(genotype(FORMULAS[0]))
    losses, _ = fitness.race(masks, rung=lambda number, loss: told.append((number, loss)))
    assert told == [(i, pytest.approx(sum(losses[:n]) / n)) for i, n in enumerate([1, *range(2, 17, 2)])]


@pytest.mark.parametrize("objective", ["perplexity", "kl"])
def test_the_hall_of_fame_says_what_was_measured(objective: str, tmp_path: Any) -> None:
    settings = Settings(windows=2, fitness_windows=4, held_out_windows=2, length=32, population=4, generations=1)
    settings = replace(settings, objective=objective)
    store, _ = open_store(Place(tmp_path), settings)
    run = prepare(store, settings)
    search(run, Budget())
    result = finish(run)
    kept = result.files[0].read_text(encoding="utf-8")
    name = "perplexity" if objective == "perplexity" else "e^KL"
    winner = result.members[0]
    further = f"{winner.further_windows} further windows"
    assert f"On the search's windows: {name} {winner.fitness:.4f}; on {further}: {winner.further:.4f};" in kept
    assert "; on held-out text: perplexity " in kept
    outcome = store.outcome
    assert outcome is not None
    assert outcome["candidate"] == winner.candidate.number
    both = 4 * math.log(winner.fitness) + winner.further_windows * math.log(winner.further)
    assert math.log(outcome["together"]) == pytest.approx(both / outcome["windows"])
    assert outcome["windows"] == 4 + winner.further_windows
    published = min(result.zoo, key=lambda m: m.held_out)
    assert (outcome["published"], outcome["published_held_out"]) == (published.metric.name, published.held_out)
    assert (outcome["held_out"], outcome["dense"]) == (winner.held_out, result.dense)


@pytest.mark.parametrize("training", [False, True])
def test_threads_share_windows_of_divergences(training: bool, tiny: Callable[..., Any]) -> None:
    """Each is that of a window alone, and the model has its mode again."""
    model, dense, windows = tiny(seed=1).train(training), tiny(seed=0), some_windows(7, 16)
    objective = Divergence(dense, windows)
    threads = threading.active_count()
    found = objective.losses(model, 1, 7, at_once=3)
    assert found == objective.losses(model, 1, 7)
    expected = [compared_losses(model, dense, window).divergences[0] for window in windows[1:7].split(1)]
    assert found == pytest.approx(expected, rel=0.02)  # the dense model's are kept in bfloat16
    assert threading.active_count() == threads
    assert all(module.training == training for module in model.modules())


@pytest.mark.parametrize("objective", ["perplexity", "kl"])
def test_further_windows_are_measured_as_a_race_measures_its_own(objective: str) -> None:
    fitness, windows = tiny_fitness(objective=OBJECTIVES[objective]), some_windows(2, 16)
    genotypes = [genotype(f) for f in FORMULAS]
    raced = [fitness.race(fitness.masks(g)[0])[0] for g in genotypes]
    found = list(fitness.further(genotypes, windows, at_once=2))
    assert found == [pytest.approx(losses, abs=1e-5) for losses in raced]


def test_further_windows_tell_the_best_apart() -> None:
    """The order is that of the mean loss over both kinds of windows, each window weighing alike."""
    fitness, further = tiny_fitness(), some_windows(9, 8)
    alone = {f: sum(fitness.on(genotype(f), further)) for f in FORMULAS}
    worst_first = sorted(FORMULAS, key=lambda f: -alone[f])
    near = [made(i, *f.split(" per "), losses=(3.0 + 1e-6 * i,) * 16) for i, f in enumerate(worst_first)]
    nothing = further[:0]
    assert [c.candidate for c in contend(fitness, near, [further, nothing])] == list(reversed(near))
    far = [made(i, *f.split(" per "), losses=(3.0 + i,) * 16) for i, f in enumerate(worst_first)]
    assert [c.candidate for c in contend(fitness, far, [further, nothing])] == far
    (first, *_) = contend(fitness, far, [further, nothing])
    assert first.loss == pytest.approx((16 * 3.0 + alone[worst_first[0]]) / 24, abs=1e-6)


def test_the_best_of_the_first_round_contend_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is not among them keeps the place behind, with the windows of the first round alone."""
    monkeypatch.setattr("pzc.search.final.ROUNDS", (4, 2))
    fitness, first, second = tiny_fitness(), some_windows(9, 8), some_windows(10, 8)
    formulas = [f"abs(W) * X ^ {k} per row" for k in (0, 1, 2, 3, 4)]
    bred = [made(i, *f.split(" per "), losses=(3.0,) * 8) for i, f in enumerate(formulas)]
    one, two = ([sum(fitness.on(genotype(f), windows)) for f in formulas] for windows in (first, second))
    *contending, left_out = range(5)
    by_one = sorted(contending, key=lambda i: one[i])
    want = sorted(by_one[:2], key=lambda i: one[i] + two[i]) + by_one[2:] + [left_out]
    found = contend(fitness, bred, [first, second])
    assert [c.candidate.number for c in found] == want
    assert [len(c.further) for c in found] == [16, 16, 8, 8, 0]
    assert found[0].loss == pytest.approx((24 + one[want[0]] + two[want[0]]) / 24, abs=1e-6)


def test_without_further_windows_the_order_is_that_of_fitness() -> None:
    bred = [made(i, f, losses=(2.0 + i,)) for i, f in enumerate(("abs(W)", "abs(W) * X"))]
    found = contend(tiny_fitness(), bred, [torch.empty(0, 32, dtype=torch.int64)] * 2)
    assert [c.candidate for c in found] == bred
    assert [c.loss for c in found] == [2.0, 3.0]


DEEP = "{0}"
for _ in range(20):
    DEEP = f"tanh({DEEP} + abs(W) * X.l2)"

NUMBERS = "exp(X * abs(W)) * abs(W) + ({0} + X) * tanh(abs(W)) + ({1} + X) * tanh(sqrt(abs(W)))"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (NUMBERS.format(0.3, 0.5), NUMBERS.format(0.5, 0.3), True),
        (DEEP.format("abs(W) * (3.5 + X.l2)"), DEEP.format("abs(W) * (4.5 + X.l2)"), True),
        ("abs(W) * X ^ 0.5", "X ^ 0.7 * abs(W)", True),
        ("abs(W) * X ^ 0.5", "abs(W) * G ^ 0.5", False),
        ("abs(W) * X ^ 0.5", "(abs(W) + 1) * X ^ 0.5", False),
    ],
)
def test_formulas_of_one_shape_differ_in_their_numbers_alone(one: str, other: str, same: bool) -> None:
    first, second = (shape(genotype(f"{text} per layer").core, "layer") for text in (one, other))
    assert (first == second) is same
