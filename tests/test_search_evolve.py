"""Evolution: the same run from one seed whatever interrupts it, nothing measured twice, the best never lost."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from pzc.compiler.core import leaf, make
from pzc.compiler.load import inline, zoo
from pzc.runtime.data import calibration_windows, sides, tokenise, windows_between
from pzc.runtime.errors import PruningError
from pzc.runtime.masks import Target
from pzc.search.candidate import ZOO, Candidate
from pzc.search.evolve import settle
from pzc.search.fitness import Fitness, _behind
from pzc.search.run import Settings, open_store, prepare
from pzc.search.space import Genotype
from pzc.search.state import ATTEMPTS, Plan, State, replay
from tests.searches import PLAN, small_search, some_windows, timeless, tiny_fitness

PUBLISHED = sum(not metric.roles for metric in zoo().values())
"""Candidates that come before all others."""

MANY = PUBLISHED + 140


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> State:
    """A search that nothing interrupted."""
    return small_search(tmp_path_factory.mktemp("whole"), MANY)


@pytest.fixture(scope="module")
def fitness() -> Fitness:
    return tiny_fitness()


def test_one_seed_gives_one_run(whole: State, tmp_path: Path) -> None:
    again = small_search(tmp_path, MANY)
    assert timeless(again.candidates) == timeless(whole.candidates)
    other = small_search(tmp_path / "other", PUBLISHED + 30, replace(PLAN, seed=6))
    bred = slice(PUBLISHED, PUBLISHED + 30)
    assert [c.formula for c in other.candidates[bred]] != [c.formula for c in whole.candidates[bred]]


def test_an_interrupted_run_goes_on_as_it_would_have(whole: State, tmp_path: Path) -> None:
    zoo_only = PUBLISHED - 3
    for upto in (zoo_only, PUBLISHED + 23, PUBLISHED + 24, PUBLISHED + 69, MANY):
        small_search(tmp_path, upto, resume=upto != zoo_only)
    resumed = small_search(tmp_path, MANY, resume=True)
    assert timeless(resumed.candidates) == timeless(whole.candidates)
    assert resumed.counts == whole.counts


def test_places_are_taken_in_order_and_once(whole: State) -> None:
    bred = [c for c in whole.candidates if c.generation != ZOO]
    places = [(c.generation, c.slot, c.attempt) for c in bred]
    assert places == sorted(set(places))
    assert [c.number for c in whole.candidates] == list(range(MANY))
    assert {c.slot for c in bred} == set(range(PLAN.population))
    assert max(c.attempt for c in bred) < ATTEMPTS
    for c, following in pairwise(bred):
        done = c.status in ("evaluated", "lost race")
        assert (following.attempt == 0) == (done or c.attempt + 1 == ATTEMPTS)


def test_the_best_is_never_lost(whole: State) -> None:
    generations = max(c.generation for c in whole.candidates)
    assert generations >= 3
    before = math.inf
    for generation in range(1, generations + 1):
        earlier = [c for c in whole.candidates if c.generation < generation and c.status == "evaluated"]
        population = whole.population(generation)
        assert min(earlier, key=lambda c: c.order) in population
        breeding = [c.fitness * (1 + whole.plan.parsimony * c.complexity) for c in population]
        assert breeding[1:] == sorted(breeding[1:])  # the first may be the best, kept in spite of its size
        assert len(population) <= PLAN.population
        assert population[0].fitness <= before
        before = population[0].fitness


def test_the_population_holds_few_of_one_shape(whole: State) -> None:
    for generation in range(5):
        assert max(Counter(c.shape for c in whole.population(generation)).values()) <= PLAN.alike
    assert max(Counter(c.shape for c in whole.best(100)).values()) <= PLAN.alike


def test_a_crowd_of_one_shape_leaves_room() -> None:
    state = State(replace(PLAN, alike=2, population=4))
    losses = {"a": 1.0, "b": 1.1, "c": 1.2, "d": 1.3, "e": 2.0, "f": 3.0}
    for number, (name, loss) in enumerate(losses.items()):
        shape = "one" if name in "abcd" else name
        formula = f"abs(W) ^ {number + 1}"
        state.add(made(number, formula, losses=(loss,), shape=shape))
    assert [c.fitness for c in state.population(1)] == [math.exp(x) for x in (1.0, 1.1, 2.0, 3.0)]
    assert state.population(0) == []


def made(number: int, formula: str, **more: Any) -> Candidate:
    basis = Candidate(number, 0, number, 0, formula, "row", "random", "evaluated", f"rank {number}", 3)
    return replace(basis, **more)


def test_nothing_is_measured_twice(whole: State) -> None:
    measured = [c for c in whole.candidates if c.losses]
    assert len({c.rank_key for c in measured}) == len(measured)
    assert len({c.mask_hash for c in measured}) == len(measured)
    assert all(c.mask_hash for c in measured)


def test_aliases_point_to_an_earlier_candidate_that_is_alike(whole: State, fitness: Fitness) -> None:
    aliases = [c for c in whole.candidates if c.alias_of is not None]
    assert {c.status for c in aliases} == {"same ranking", "same mask"}
    for c in aliases:
        assert c.alias_of is not None
        other = whole.candidates[c.alias_of]
        assert other.number < c.number
        assert other.status != "refused"
        assert not c.losses
        measured = other if other.alias_of is None else whole.candidates[other.alias_of]
        assert measured.losses
        if c.status == "same ranking":
            assert inline(f"{c.formula} per {c.per}", analyse=False).keys.rank == other.rank_key
        else:
            assert fitness.masks(c.genotype)[1] == fitness.masks(other.genotype)[1] == c.mask_hash


def test_every_candidate_is_counted(whole: State) -> None:
    bred = [c for c in whole.candidates if c.generation != ZOO]
    assert whole.counts == Counter(c.status for c in bred)
    assert whole.refusals == Counter(c.reason for c in bred if c.status == "refused")
    assert whole.refusals.total() == whole.counts["refused"]
    assert all(c.reason for c in bred if c.status == "refused")
    again = replay(PLAN, whole.candidates)
    assert (again.counts, again.refusals, again.found, again.zoo) == (
        whole.counts,
        whole.refusals,
        whole.found,
        whole.zoo,
    )
    again.add(made(MANY, "ln(W)", status="refused", reason="not finite"))
    assert again.counts["refused"] == whole.counts["refused"] + 1
    assert again.refusals == whole.refusals + Counter({"not finite": 1})


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        ("1 / (abs(W) - W) + G", "not finite"),
        ("exp(exp(6 + abs(W)))", "not finite"),
        ("tanh(abs(W) * 1e9 + 100)", "most scores are equal"),
        ("sum(W, in)", "the score is constant inside its group (per row), so what is pruned would be arbitrary"),
    ],
)
def test_scores_that_rank_nothing_are_refused(fitness: Fitness, formula: str, reason: str) -> None:
    core = inline(f"{formula} per layer").core
    c = settle(State(PLAN), fitness, Genotype(core, "row"), (0, 0, 0), "random", (), ())
    assert (c.status, c.reason, c.losses) == ("refused", reason, ())


def test_a_pruned_model_without_a_finite_loss_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fitness = tiny_fitness()
    monkeypatch.setattr("pzc.search.fitness.window_losses", lambda model, windows: [math.nan] * len(windows))
    c = settle(State(PLAN), fitness, Genotype(make("abs", leaf("W")), "row"), (0, 0, 0), "random", (), ())
    assert (c.status, c.reason) == ("refused", "the pruned model's loss is not finite")


def test_who_leaves_the_race_would_not_have_been_the_best(whole: State, fitness: Fitness) -> None:
    lost = [c for c in whole.candidates if c.status == "lost race"]
    assert lost
    for c in lost:
        masks, _ = fitness.masks(c.genotype)
        full, done = fitness.race(masks, ())
        assert done
        assert full[: len(c.losses)] == pytest.approx(c.losses, abs=1e-5)
        assert 4 <= len(c.losses) < len(full)
        population = whole.population(c.generation)
        assert sum(full) > sum(population[0].losses)


def test_the_cut_off_needs_confidence() -> None:
    cutoff = some_windows(4, 1, 8)[0].float().tolist()
    assert not _behind(cutoff, cutoff)
    assert not _behind([c - 1 for c in cutoff], cutoff)
    assert not _behind([c + 1 for c in cutoff[:3]], cutoff)  # too few windows to tell
    assert not _behind([c + d for c, d in zip(cutoff, [9, -8, 7, -6, 5, -4, 3, -2], strict=True)], cutoff)
    assert _behind([c + 1 + d / 10 for c, d in zip(cutoff, range(8), strict=True)], cutoff)
    assert not _behind(cutoff, ())


def test_a_generation_keeps_its_cut_off(whole: State) -> None:
    """Who was measured in full is not behind the last of the population that its generation started with."""
    for c in whole.found:
        population = whole.population(c.generation)
        if len(population) == PLAN.population:
            cutoff = population[-1].losses
            assert not any(_behind(c.losses[:n], cutoff[:n]) for n in (4, 8))


def test_a_pattern_is_searched_in_one_group(tmp_path: Path) -> None:
    state = small_search(tmp_path, PUBLISHED + 42, target=Target(pattern=(2, 4)))
    assert {c.per for c in state.candidates} == {"row"}
    assert state.found


def test_without_reductions_the_search_works_too(tmp_path: Path) -> None:
    state = small_search(tmp_path, PUBLISHED + 42, replace(PLAN, seed_zoo=False), space="elementwise")
    assert {c.per for c in state.found} == {"row"}
    bred = [c for c in state.candidates if c.generation != ZOO]
    assert all(word not in c.formula for c in bred for word in ("mean", "norm", "sum", "std"))


def test_without_the_zoo_in_the_population_its_metrics_can_be_found(tmp_path: Path) -> None:
    state = small_search(tmp_path, PUBLISHED + 72, replace(PLAN, seed_zoo=False))
    assert state.zoo
    assert all(c.generation != ZOO for g in range(4) for c in state.population(g))
    assert all(state.candidates[c.alias_of].generation != ZOO for c in state.candidates if c.alias_of is not None)


@pytest.mark.parametrize("data", ["pydoc", "file"])
def test_texts_of_statistics_fitness_and_final_are_disjoint(data: str, tmp_path: Path) -> None:
    if data == "file":
        words = [f"word{i} stands in line {i * i} of this text\n" for i in range(900)]
        (tmp_path / "text.txt").write_text("".join(words), encoding="utf-8")
        data = str(tmp_path / "text.txt")
    settings = Settings(data=data, windows=4, fitness_windows=6, held_out_windows=5, length=32)
    store, _ = open_store(tmp_path / "run", settings)
    run = prepare(store, settings, tmp_path / "run")
    store.close()

    search_text, held_out_text = sides(data)
    from pzc.runtime.models import load_model

    tokenizer = load_model("pocket").tokenizer
    tokens = tokenise(tokenizer, search_text.text)
    assert torch.equal(run.fitness.windows, windows_between(tokens, 4, 6, 32))
    assert run.fitness.statistics.windows == 4
    held_out = tokenise(tokenizer, held_out_text.text)
    assert torch.equal(run.held_out.flatten(), held_out[: 5 * 32])
    if data != "pydoc":
        lines = (set(text.text.splitlines()) - {""} for text in (search_text, held_out_text))
        assert not set.intersection(*lines)
    else:
        paragraphs = (set(text.text.split("\n\n")) for text in (search_text, held_out_text))
        assert not set.intersection(*paragraphs)


def test_statistics_read_none_of_the_fitness_windows() -> None:
    tokens = torch.arange(1000)
    read = set(calibration_windows(tokens, 7, 20).flatten().tolist())
    between = windows_between(tokens, 7, 30, 20)
    assert between.shape == (30, 20)
    assert (between.diff(dim=1) == 1).all()
    assert len(between.unique()) == between.numel()
    assert not read & set(between.flatten().tolist())
    with pytest.raises(PruningError, match="need more than the 1000 tokens"):
        windows_between(tokens, 7, 50, 20)


def test_plans_of_one_generation_end(tmp_path: Path) -> None:
    state = small_search(tmp_path, 10_000, Plan(population=4, generations=1, seed=1))
    assert max(c.generation for c in state.candidates) == 0
    assert {c.slot for c in state.candidates if c.generation == 0} == {0, 1, 2, 3}
