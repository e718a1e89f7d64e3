"""Evolution: the same run from one seed whatever interrupts it, nothing measured twice, the best never lost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pzc.compiler.leaves import TIERS
from pzc.compiler.load import inline
from pzc.compiler.metric import Metric
from pzc.runtime.data.texts import sides
from pzc.runtime.data.windows import calibration_windows, tokenise, windows_between, windows_left
from pzc.runtime.errors import NonFiniteScore, PruningError
from pzc.runtime.evaluation.uncertainty import perplexity
from pzc.runtime.pruning.masking import masks_for
from pzc.runtime.scoring.masks import Target
from pzc.search import worker
from pzc.search.bar import EXACT, IN_NICHE, Bar, bars
from pzc.search.candidate import ALIASES, MEASURED, REFERENCE, ZOO, Candidate
from pzc.search.fitness import Fitness
from pzc.search.identity import identified
from pzc.search.place import Place
from pzc.search.plan import ATTEMPTS, Plan
from pzc.search.population import island_pool, worth
from pzc.search.prepare import open_store, prepare
from pzc.search.proposals import Proposal, proposals
from pzc.search.racing import Race, is_behind, rungs_of
from pzc.search.screening import Screen
from pzc.search.settings import Settings, given
from pzc.search.settle import settle
from pzc.search.space import Genotype
from pzc.search.state import State
from pzc.search.store import Store
from tests.conftest import make_tiny
from tests.searches import PLAN, closed, genotype, made, small_search, some_windows, timeless, tiny_fitness

START = given(Settings())
PUBLISHED = len(START.published)
"""Slots that come before all others."""

PROVEN = ("same text", "same value", "same ranking", "same fingerprint")
"""What makes a draft be drawn again."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> State:
    """A search that nothing interrupted."""
    return small_search(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def fitness() -> Fitness:
    return tiny_fitness()


def bred(state: State) -> list[Candidate]:
    return [c for c in state.candidates if not c.published]


def generations(state: State) -> range:
    return range(state.plan.generations)


def before(state: State, generation: int) -> State:
    """The run as it stood when a generation began."""
    earlier = [[c for c in state.candidates if c.generation == g] for g in range(REFERENCE, generation)]
    return closed(state.plan, earlier)


def test_one_seed_gives_one_run(whole: State, tmp_path: Path) -> None:
    again = small_search(tmp_path / "again")
    assert timeless(again.candidates) == timeless(whole.candidates)
    other = small_search(tmp_path / "other", replace(PLAN, seed=6, generations=1))
    first = [c.formula for c in bred(whole) if c.generation == 0]
    assert [c.formula for c in bred(other)] != first


def test_an_interrupted_run_goes_on_as_it_would_have(whole: State, tmp_path: Path) -> None:
    for slots in (1, PUBLISHED - 5, 9, 12, 1, 9):
        partly = small_search(tmp_path, slots=slots, resume=slots != 1 or (tmp_path / "study.journal").exists())
        assert partly.generation < PLAN.generations
    resumed = small_search(tmp_path, resume=True)
    assert timeless(resumed.candidates) == timeless(whole.candidates)
    assert resumed.counts == whole.counts
    assert resumed.standing().predictors == whole.standing().predictors


def test_proposing_and_screening_take_time_and_waiting_for_others_takes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    def slow(function: Callable[..., Any]) -> Callable[..., Any]:
        def slowly(*given: Any, **more: Any) -> Any:
            pass_by(0.05)
            return function(*given, **more)

        return slowly

    claims: list[Any] = []
    claim = Store.claim

    def taken_at_first(*given: Any) -> Any:
        claims.append(claim(*given) if claims else None)
        return claims[-1]

    monkeypatch.setattr(worker, "proposals", slow(proposals))
    monkeypatch.setattr(Screen, "choose", slow(Screen.choose))
    monkeypatch.setattr(Store, "claim", taken_at_first)
    monkeypatch.setattr(worker, "time", SimpleNamespace(perf_counter=lambda: now[0], sleep=pass_by))
    found = small_search(tmp_path, replace(PLAN, generations=1)).candidates
    slots = {(c.generation, c.slot): c for c in found}  # the last of a slot is what was settled
    assert all(c.seconds >= 0.05 for c in slots.values())
    assert all(c.seconds >= 0.1 for place, c in slots.items() if place[1] == 0)
    assert sum(c.seconds for c in found) == pytest.approx(now[0] - worker.POLL)


def test_places_are_taken_in_order_and_once(whole: State) -> None:
    places = [(c.generation, c.slot, c.attempt) for c in whole.candidates]
    assert len(set(places)) == len(places)
    slots = [place[:2] for place in places]
    assert slots == sorted(slots)
    assert [c.number for c in whole.candidates] == list(range(len(whole.candidates)))
    for generation in generations(whole):
        slots = PLAN.population if generation == 0 else PLAN.population // 2
        assert {c.slot for c in bred(whole) if c.generation == generation} == set(range(slots))
    assert all(c.island == c.slot % PLAN.islands for c in bred(whole))
    assert all(c.attempt < ATTEMPTS for c in whole.candidates)
    for c, following in pairwise(bred(whole)):
        same_slot = (c.generation, c.slot) == (following.generation, following.slot)
        assert not same_slot or c.status in PROVEN  # drafts that repeated others, in their order, then the candidate


def test_proposals_follow_from_the_generations_before(whole: State, fitness: Fitness) -> None:
    """Whoever works a generation out, and however often, gets the same."""
    for generation in (0, 1, 4):
        want = [c for c in bred(whole) if c.generation == generation]
        for _ in range(2):
            state = before(whole, generation)
            screen = Screen(fitness.sketches.of, START.space)
            screen.learn(state)
            made_out = [screen.choose(p, state) for p in proposals(state, START)]
            drafts = [c for p in made_out for c in (*p.repeated, p.candidate)]
            assert [(c.number, c.formula, c.per, c.parents, c.genome) for c in drafts] == [
                (c.number, c.formula, c.per, c.parents, c.genome) for c in want
            ]


def test_the_best_is_never_lost(whole: State) -> None:
    for island in range(PLAN.islands):
        before = math.inf
        for generation in generations(whole):
            pool = island_pool(whole.found, whole.zoo, PLAN, generation, island)
            population = whole.population(generation, island)
            assert min(pool, key=lambda c: c.order) == population[0]
            breeding = [worth(c, PLAN) for c in population]
            assert breeding[1:] == sorted(breeding[1:])  # the first may be the best, kept in spite of its size
            assert len(population) <= PLAN.island_size
            assert set(population) <= set(pool)
            assert population[0].fitness <= before
            before = population[0].fitness


def test_the_population_holds_few_of_one_shape(whole: State) -> None:
    for generation in generations(whole):
        shapes = Counter(c.shape or c.formula for c in whole.population(generation, 1))
        assert max(shapes.values()) <= PLAN.alike
    assert max(Counter(c.shape for c in whole.best(100)).values()) <= PLAN.alike


def test_a_crowd_of_one_shape_leaves_room() -> None:
    plan = Plan(alike=2, population=4, islands=1, pareto=0.0)
    losses = {"a": 1.0, "b": 1.1, "c": 1.2, "d": 1.3, "e": 2.0, "f": 3.0}
    crowd = [
        made(number, f"abs(W) ^ {number + 1}", losses=(loss,), shape="one" if name in "abcd" else name)
        for number, (name, loss) in enumerate(losses.items())
    ]
    state = closed(plan, [[], [], crowd])
    assert [c.fitness for c in state.population(1)] == [math.exp(x) for x in (1.0, 1.1, 2.0, 3.0)]
    assert state.population(0) == []


def test_nothing_is_measured_twice(whole: State) -> None:
    measured = [c for c in whole.candidates if c.losses]
    assert measured
    for key in ("exact_key", "real_key", "rank_key", "mask_hash"):
        assert len({getattr(c, key) for c in measured}) == len(measured), key
        assert all(getattr(c, key) for c in measured)


def test_aliases_point_to_an_earlier_candidate_that_is_alike(whole: State, fitness: Fitness) -> None:
    aliases = [c for c in whole.candidates if c.alias_of is not None]
    assert {c.status for c in aliases} <= set(ALIASES)
    assert {c.status for c in aliases} >= {"same text", "same value", "same ranking"}
    for c in aliases:
        assert c.alias_of is not None
        other = whole.candidates[c.alias_of]
        assert other.number < c.number
        assert other.status != "refused"
        assert not c.losses
        key = {"same text": "exact_key", "same value": "real_key", "same ranking": "rank_key"}.get(c.status)
        if key:  # an earlier one has the same key, and is the one that is pointed to or repeats it too
            twins = [o for o in whole.candidates[: c.number] if getattr(o, key) == getattr(c, key)]
            assert other.number in {n for o in twins for n in (o.number, o.alias_of)}
            assert getattr(c, key) == identified(inline(f"{c.formula} per {c.per}").core, c.per)[key]
        if c.status != "same fingerprint":  # which is evidence, not proof
            with suppress(NonFiniteScore):  # equal over the reals, but it overflows on the way
                assert fitness.masks(genotype(f"{c.formula} per {c.per}"))[1] == other.mask_hash


def test_every_candidate_is_counted(whole: State) -> None:
    assert whole.counts == Counter(c.status for c in bred(whole))
    assert whole.refusals == Counter(c.reason for c in bred(whole) if c.status == "refused")
    assert whole.measured == sum(c.status in MEASURED for c in bred(whole))
    again = closed(PLAN, [[c for c in whole.candidates if c.generation == g] for g in range(REFERENCE, 6)])
    for name in ("counts", "refusals", "found", "zoo", "measured", "generation"):
        assert getattr(again, name) == getattr(whole, name), name
    again.close([made(len(again.candidates), "ln(W)", status="refused", reason="not finite", generation=6)])
    assert again.counts["refused"] == whole.counts["refused"] + 1
    assert again.refusals == whole.refusals + Counter({"not finite": 1})


def settled(formula: str, per: str, fitness: Fitness, **more: Any) -> Candidate:
    """What becomes of a formula in a run that has just begun."""
    core = inline(f"{formula} per layer").core
    new = made(0, formula, per=per, status="proposed", shape="", **more)
    return settle(Proposal(new, core), closed(PLAN, [[], []]), fitness, Bar(()))


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
    c = settled(formula, "row", fitness)
    assert (c.status, c.reason, c.losses) == ("refused", reason, ())


def wanda_by_hand(windows: torch.Tensor) -> Any:
    """A tiny model that plain torch has pruned: of each row the half with the smallest |W| · ‖X‖ is zero."""
    model, squares, linears = make_tiny(), {}, {}
    for module in model.model.modules():
        if isinstance(module, torch.nn.Linear):
            linears[module] = module.register_forward_hook(
                lambda module, inputs, _: squares.__setitem__(module, inputs[0].double().square().sum((0, 1)))
            )
    with torch.no_grad():
        model(input_ids=windows)
        for module, hook in linears.items():
            hook.remove()
            lowest = (module.weight.abs() * squares[module].sqrt()).argsort(1)[:, : module.in_features // 2]
            module.weight.scatter_(1, lowest, 0.0)
    return model


@pytest.mark.parametrize(("factor", "operator"), [(30, "random"), (100, "seed")])
def test_a_score_that_saturates_is_measured_as_what_it_ranks_as(fitness: Fitness, factor: float, operator: str) -> None:
    """A tanh that is 1 nearly everywhere ties what the reals tell apart: of what repeats it nothing would be known."""
    c = settled(f"tanh({factor} * abs(W) * X)", "row", fitness, operator=operator, predictors={"surrogate": 1.0})
    assert (c.status, c.formula, c.operator, c.complexity) == ("evaluated", "abs(W) * X", operator, 4)
    assert c.predictors["surrogate"] == 1.0
    pruned = wanda_by_hand(some_windows(1, 6))
    with torch.no_grad():
        want = [float(pruned(input_ids=w[None], labels=w[None]).loss) for w in some_windows(2, 16)]
    assert c.losses == pytest.approx(want, abs=2e-6)
    assert settled("tanh(abs(W) * X)", "row", fitness).formula == "tanh(abs(W) * X)"  # hardly anything is tied


def test_a_seed_is_measured_after_a_twin_that_saturates(tmp_path: Path) -> None:
    texts = ("tanh(100 * abs(W) * X)", "abs(W) * X", "tanh(30 * abs(W) * G)", "G * abs(W)")
    start = replace(START, seeds=tuple(inline(f"{text} per row") for text in texts))
    state = small_search(tmp_path, replace(PLAN, population=4, islands=1, generations=1, seed_zoo=False), start=start)
    first = {c.slot: c for c in bred(state) if c.attempt == 0}
    assert [first[i].status for i in range(4)] == ["evaluated", "same ranking", "evaluated", "same ranking"]
    wanda = next(c for c in state.zoo if c.operator == "wanda")
    assert (first[0].mask_hash, first[0].losses) == (wanda.mask_hash, wanda.losses)
    assert [first[1].alias_of, first[3].alias_of] == [first[0].number, first[2].number]


def test_a_pruned_model_without_a_finite_loss_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fitness = tiny_fitness()
    monkeypatch.setattr("pzc.search.objective.window_losses", lambda model, windows, at_once: [math.nan] * len(windows))
    c = settled("abs(W)", "row", fitness)
    assert (c.status, c.reason) == ("refused", "the pruned model's loss is not finite")


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("no memory"), RuntimeError("can't allocate memory: 9 bytes")]
)
def test_a_score_that_memory_does_not_suffice_for_is_refused(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Else a run ended there, and again whenever it was resumed. Where it suffices for nothing else, the run ends."""
    fitness, lasting = tiny_fitness(), False

    def scarce(metric: Metric, *given: Any) -> Any:
        if lasting or "rank" in metric.formula:
            raise error
        return masks_for(metric, *given)

    monkeypatch.setattr("pzc.search.fitness.masks_for", scarce)
    new, core = made(1, "rank(abs(W))", status="proposed", shape=""), genotype("rank(abs(W)) per row").core
    state = closed(PLAN, [[made(0, "abs(W)", generation=REFERENCE)], []])
    c = settle(Proposal(new, core), state, fitness, Bar(()))
    assert (c.status, c.reason) == ("refused", "out of memory")
    lasting = True
    with pytest.raises(type(error)):
        settle(Proposal(new, core), state, fitness, Bar(()))


def test_another_defect_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("The size of tensor a (3) must match the size of tensor b (4)")

    monkeypatch.setattr("pzc.search.fitness.masks_for", broken)
    with pytest.raises(RuntimeError, match="must match"):
        settled("abs(W)", "row", tiny_fitness())


def test_who_leaves_the_race_would_not_have_been_the_best(whole: State, fitness: Fitness) -> None:
    lost = [c for c in whole.candidates if c.status == "lost race"]
    assert lost
    for c in lost:
        masks, _ = fitness.masks(genotype(f"{c.formula} per {c.per}"))
        full, verdict = fitness.race(masks)
        assert verdict is None
        assert full[: len(c.losses)] == pytest.approx(c.losses, abs=1e-5)
        assert len(c.losses) in rungs_of(16)[:-1]
        best = whole.population(c.generation, c.island)[0] if not c.published else whole.zoo[0]
        assert sum(full) > sum(best.losses)


def test_the_cut_off_needs_confidence() -> None:
    cutoff = some_windows(4, 1, 8)[0].float().tolist()
    behind = partial(is_behind, cutoff=cutoff, surely=True)
    assert not behind(cutoff)
    assert not behind([c - 1 for c in cutoff])
    assert not behind([c + 0.4 for c in cutoff[:3]])  # too few windows to tell
    assert not behind([c + d for c, d in zip(cutoff, [9, -8, 7, -6, 5, -4, 3, -2], strict=True)])
    assert behind([c + 0.1 + d / 100 for c, d in zip(cutoff, range(8), strict=True)])
    assert not is_behind(cutoff, (), surely=True)


@pytest.mark.parametrize("surely", [False, True])
def test_who_is_far_behind_everywhere_leaves_at_once(surely: bool) -> None:
    far = math.log(1.5) + 1e-4
    assert is_behind([5.0 + far], [5.0, 9.0], surely=surely)
    assert not is_behind([5.0 + far - 2e-4], [5.0, 9.0], surely=surely)
    assert not is_behind([5.0 + 9 * far, 9.0 + far - 2e-4], [5.0, 9.0], surely=surely)


def test_a_generation_keeps_its_cut_off(whole: State) -> None:
    """Whose fitness is known is not behind the middle of the population that its generation started with or, where
    its niche is full, not behind the last of that."""
    for c in whole.found:
        race = bars(before(whole, c.generation))[c.island].race(c)
        assert not any(race.verdict(c.losses[:n], surely=n > 1) for n in (1, 2, 4, 6, 8) if n < len(c.losses))


def test_a_full_niche_is_entered_in_the_place_of_its_last() -> None:
    def member(number: int, loss: float, shape: str) -> Candidate:
        return made(number, losses=(loss, loss), shape=shape)

    a, b, c, d = member(0, 1.0, "a"), member(1, 2.0, "a"), member(2, 3.0, "a"), member(3, 4.0, "d")
    bar = Bar((2.5, 2.5), (d, c, b, a), 2)
    usual, of_the_niche = Race(bar.losses), Race(b.losses, IN_NICHE)
    assert bar.race(made(9, shape="a")) == of_the_niche  # the third is there for its size or its cost
    assert bar.race(made(9, shape="d")) == usual  # there is room
    assert bar.race(made(9, shape="e")) == usual
    assert replace(bar, alike=4).race(made(9, shape="a")) == usual
    assert replace(bar, losses=(1.5, 1.5)).race(made(9, shape="a")) == Race((1.5, 1.5))  # never lenient
    assert Bar(()).race(made(9, shape="a")) == Race()
    dear = replace(b, tier="backward")
    assert replace(bar, population=(d, c, dear, a)).race(made(9, shape="a", tier="backward")) == of_the_niche
    assert replace(bar, population=(d, c, dear, a)).race(made(9, shape="a")) == usual  # it is cheaper
    assert bar.race(made(9, shape="a", complexity=3)) == usual  # it is smaller
    placed = replace(b, status="placed", losses=(1.8,), expected=(2.2,))
    assert replace(bar, population=(d, c, placed, a)).race(made(9, shape="a")) == Race((1.8, 2.2), IN_NICHE)


def test_who_may_be_placed_is_behind_parents_and_front() -> None:
    best = made(0, losses=(1.0,), complexity=9, tier="backward")
    small, cheap = made(1, losses=(2.0,), complexity=3, tier="backward"), made(2, losses=(3.0,), complexity=5)
    parent = made(3, losses=(1.5,), expected=(2.5,), complexity=20, tier="backward", status="placed")
    bar = Bar((4.0,), front=(best, small, cheap), parent=replace(best, number=4))
    assert bar.race(made(9, complexity=20, tier="backward")).rival == best.losses
    assert bar.race(made(9, complexity=8, tier="backward")).rival == small.losses
    assert bar.race(made(9, complexity=20)).rival == cheap.losses
    assert bar.race(made(9, complexity=2, tier="backward")).rival == ()  # it may be on the front however bad it is
    assert replace(bar, parent=None).race(made(9, complexity=20)).rival == ()  # there is room for everybody
    behind = replace(bar, parent=parent)
    assert behind.race(made(9, complexity=20, tier="backward")).rival == (1.5, 2.5)  # who breeds most is known exactly
    assert behind.race(made(9, complexity=20)).rival == cheap.losses


def test_what_was_placed_is_behind_what_was_measured_in_full(whole: State, fitness: Fitness) -> None:
    placed = [c for c in whole.candidates if c.status == "placed"]
    errors = []
    for c in placed:
        masks, _ = fitness.masks(genotype(f"{c.formula} per {c.per}"))
        full, _ = fitness.race(masks)
        assert full[: len(c.losses)] == pytest.approx(c.losses, abs=1e-5)
        assert (len(c.losses) in rungs_of(16)[1:-1], len(c.course)) == (True, 16)
        then = before(whole, c.generation)
        rival = next(
            other
            for other in then.front
            if other.complexity <= c.complexity and TIERS.index(other.tier) <= TIERS.index(c.tier)
        )
        parents = sorted(then.population(c.generation, c.island), key=lambda other: other.fitness)
        assert c.fitness > max(rival.fitness, parents[EXACT - 1].fitness)
        errors.append(abs(math.log(c.fitness / perplexity(full))))
    assert len(errors) > 9
    assert fmean(errors) < 0.15  # of windows of twelve tokens, and a model that knows nothing
    assert {c.status for c in whole.front} == {"evaluated"}
    assert {c.number for c in placed} <= {c.number for c in whole.found}
    assert not any(c.published for c in placed)


def test_in_a_full_niche_less_confidence_will_do(fitness: Fitness) -> None:
    masks, _ = fitness.masks(genotype("abs(W) * X per row"))
    full, _ = fitness.race(masks)
    ahead = [x - d for x, d in zip(full, [0.03, -0.01] * 8, strict=True)]
    assert len(fitness.race(masks, Race(ahead, IN_NICHE))[0]) == 6  # behind by 1.1 standard errors there
    assert fitness.race(masks, Race(ahead)) == (full, None)  # by 1.9 in the end


def test_an_island_is_raced_against_its_own_population(whole: State) -> None:
    assert bars(closed(PLAN, []))[0].losses == ()  # the first published metric meets no bar, the others meet it
    state = before(whole, ZOO)
    assert bars(state)[0].losses == state.zoo[0].losses != ()
    state = before(whole, 5)
    for island, bar in enumerate(bars(state)):
        assert list(bar.population) == state.population(5, island)
        ranked = sorted(bar.population, key=lambda c: c.fitness)
        assert bar.losses == ranked[len(ranked) // 2].course
        assert bar.parent is ranked[2]
    assert bars(state)[0] != bars(state)[1]
    state.plan = replace(state.plan, population=200)  # one that is not full lets nearly everyone through
    lenient = bars(state)[0]
    assert lenient.losses == pytest.approx([loss + math.log(2) for loss in state.zoo[0].losses])
    assert lenient.parent is None
    state.zoo = []
    assert bars(state)[0].losses == ()


def test_a_pattern_is_searched_in_one_group(tmp_path: Path) -> None:
    plan = replace(PLAN, generations=2)
    state = small_search(tmp_path, plan, settings=Settings(pattern="2:4"), target=Target(pattern=(2, 4)))
    assert {c.per for c in state.candidates} == {"row"}
    assert state.found


def test_without_reductions_the_search_works_too(tmp_path: Path) -> None:
    plan = replace(PLAN, seed_zoo=False, generations=2)
    state = small_search(tmp_path, plan, settings=Settings(space="elementwise"))
    assert {c.per for c in state.found} == {"row"}
    assert all(word not in c.formula for c in bred(state) for word in ("mean", "norm", "sum", "std"))


def test_without_the_zoo_in_the_population_its_metrics_can_be_found(tmp_path: Path) -> None:
    state = small_search(tmp_path, replace(PLAN, seed_zoo=False, generations=3))
    assert state.zoo
    assert not any(c.published for g in range(4) for i in range(2) for c in state.population(g, i))
    aliases = [c for c in bred(state) if c.alias_of is not None]
    assert aliases
    assert not any(state.candidates[c.alias_of].published for c in aliases if c.alias_of is not None)


@pytest.mark.parametrize("data", ["pydoc", "file"])
def test_texts_of_statistics_fitness_and_final_are_disjoint(data: str, tmp_path: Path) -> None:
    if data == "file":
        words = [f"word{i} stands in line {i * i} of this text\n" for i in range(900)]
        (tmp_path / "text.txt").write_text("".join(words), encoding="utf-8")
        data = str(tmp_path / "text.txt")
    settings = Settings(data=data, windows=4, fitness_windows=6, held_out_windows=5, length=32)
    store, _ = open_store(Place(tmp_path / "run"), settings)
    run = prepare(store, settings)

    search_text, held_out_text = sides(data)
    from pzc.runtime.models.loading import load_model

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


def test_fitness_windows_keep_away_from_what_statistics_read() -> None:
    """Next to a calibration window the text is of the same article, which flatters metrics that read much of it."""
    tokens, n, length = torch.arange(10_000), 5, 20
    step = len(tokens) // n
    between, sides = windows_between(tokens, n, n, length), windows_left(tokens, n, n, length)
    assert sorted((between[:, 0] // step).tolist()) == list(range(n))
    assert all(abs(at - step / 2) <= length for at in (between[:, 0] % step).tolist())
    for phase, left in zip((1 / 4, 3 / 4), sides, strict=True):
        assert all(abs(at - step * phase) <= 2 * length for at in (left[:, 0] % step).tolist())


@pytest.mark.parametrize(("count", "left"), [(30, (12, 0)), (10, (10, 10)), (17, (17, 8)), (42, (0, 0))])
def test_further_windows_are_read_by_nobody_else(count: int, left: tuple[int, int]) -> None:
    tokens = torch.arange(1000)  # 7 strides of 142 tokens: in each, 6 windows follow the one that is calibrated on
    read = torch.cat([calibration_windows(tokens, 7, 20), windows_between(tokens, 7, count, 20)])
    rounds = windows_left(tokens, 7, count, 20)
    assert [len(windows) for windows in rounds] == list(left)
    further = torch.cat(rounds)
    assert further.shape == (sum(left), 20)
    assert (further.diff(dim=1) == 1).all()
    assert len(further.unique()) == further.numel()
    assert not set(read.flatten().tolist()) & set(further.flatten().tolist())


def test_plans_of_one_generation_end(tmp_path: Path) -> None:
    state = small_search(tmp_path, Plan(population=4, islands=1, generations=1, seed=1))
    assert (state.generation, max(c.generation for c in state.candidates)) == (1, 0)
    assert {c.slot for c in bred(state)} == {0, 1, 2, 3}


ONE = "pzm 1 space one { leaves: W ops: neg depth: 1 .. 1 size: 2 per: row }"
"""A space that has one metric alone."""


def test_a_space_that_is_used_up(tmp_path: Path) -> None:
    """Every draft repeats its one metric: it is measured once, and the search ends, also when it is gone on with."""
    (tmp_path / "one.pzm").write_text(ONE)
    plan = Plan(population=4, islands=1, generations=20, evaluations=40)
    settings = Settings(space=str(tmp_path / "one.pzm"))
    state = small_search(tmp_path / "run", plan, settings=settings)
    assert state.ended() == "nothing new in 5 generations: the space is used up"
    assert (state.generation, state.measured, len(state.found)) == (6, 1, 1)
    assert [c.slot for c in bred(state) if c.generation == 0] == [0]
    last = [c for c in bred(state) if c.attempt == ATTEMPTS - 1]
    assert [(c.generation, c.slot) for c in last] == [(g, slot) for g in range(1, 6) for slot in range(2)]
    assert Genotype(inline("abs(W)").core, "row") == genotype(f"{state.found[0].formula} per row")
    again = small_search(tmp_path / "run", replace(plan, evaluations=50), settings=settings, resume=True)
    assert timeless(again.candidates) == timeless(state.candidates)


def test_what_is_new_in_a_space() -> None:
    """What was refused, or had masks that were known, is new once; an algorithm that knows no identity measures what
    it has measured."""
    kinds: list[dict[str, Any]] = [
        {"status": "refused", "exact_key": "a"},
        {"status": "same mask", "alias_of": 0, "exact_key": "b"},
        {"status": "same ranking", "alias_of": 0, "exact_key": "c"},
    ]
    again = [[made(0, generation=g, **{"losses": (), "mask_hash": "", **kind})] for g in range(7) for kind in kinds]
    state = closed(Plan(), [[], [], *again])
    assert (state.idle, state.used_up) == (19, True)
    assert closed(Plan(), [[], [], *again, [made(1, losses=(2.0,))]]).idle == 0
    assert not closed(Plan(algorithm="paper"), [[], [], *again]).used_up
