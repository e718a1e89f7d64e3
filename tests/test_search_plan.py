"""What a run starts from, and what ends it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from pzc.cli.main import pzc as cli
from pzc.compiler.core import leaf, number
from pzc.compiler.leaves import LEAVES
from pzc.compiler.load import MetricNotFound, inline, zoo
from pzc.grammar.diagnostics import SourceError
from pzc.runtime.errors import PruningError
from pzc.search.algorithms import ALGORITHMS, Draft
from pzc.search.candidate import MEASURED, Candidate
from pzc.search.errors import Contradiction
from pzc.search.place import Place
from pzc.search.plan import Plan
from pzc.search.proposals import INSTRUCTIVE, candidate_of, proposals, rng_for
from pzc.search.replay import stored_state
from pzc.search.request import How, new_settings, resumed_settings
from pzc.search.settings import Settings, given, leaves_for
from pzc.search.space import Genotype, apply, filling, space_for, template_of, why_not
from pzc.search.state import State
from pzc.search.store import Store
from pzc.search.variation import offspring
from tests.searches import SMALL, closed, genotype, made, small_search, stored

PLAN = Plan(population=6, islands=2, generations=2, seed=1)


def bred(state: State) -> list[Candidate]:
    return [c for c in state.candidates if not c.published]


@pytest.mark.parametrize("evaluations", [1, 7, 13])
def test_a_number_of_evaluations_is_kept_exactly(evaluations: int, tmp_path: Path) -> None:
    plan = replace(PLAN, generations=100, evaluations=evaluations)
    state = small_search(tmp_path, plan, settings=Settings(space="elementwise"))
    assert sum(c.status in MEASURED for c in bred(state)) == state.measured == evaluations
    assert state.over()


def history(*best: float) -> list[list[Candidate]]:
    """The two generations of the zoo, then one for each of these losses."""
    return [[], [], *([made(g, generation=g, losses=(loss,))] for g, loss in enumerate(best))]


@pytest.mark.parametrize(
    ("best", "over"),
    [((3.0,), False), ((3.0, 3.1), False), ((3.0, 3.1, 3.2), True), ((3.0, 3.1, 2.9), False), ((3, 2, 2, 4), True)],
)
def test_patience(best: tuple[float, ...], over: bool) -> None:
    """Two generations without anything better."""
    assert closed(Plan(patience=2), history(*best)).over() == over
    assert not closed(Plan(), history(*best)).over()


def test_patience_with_nothing_measured_in_full() -> None:
    lost = [[made(g, generation=g, status="lost race", losses=(9.0,))] for g in range(3)]
    assert not closed(Plan(patience=2), [[], [], *lost[:2]]).over()
    assert closed(Plan(patience=2), [[], [], *lost]).over()
    assert not closed(Plan(patience=2), [[], [], *lost[:2], [made(2, generation=2, losses=(3.0,))]]).over()


def test_what_is_to_be_reached() -> None:
    assert not closed(Plan(reach=2.5), history(1.0)).over()  # e is more
    assert closed(Plan(reach=2.8), history(1.0)).over()
    assert closed(Plan(reach=2.8), history(1.0, 5.0)).over()


def test_generations_end() -> None:
    assert not closed(Plan(generations=2), history(1.0)).over()
    assert closed(Plan(generations=2), history(1.0, 1.0)).over()


def test_without_a_bound_on_generations_they_go_on() -> None:
    """Of the paper's algorithm a generation is one candidate: a thousand are soon through."""
    state = State(Plan(algorithm="paper", evaluations=5000))
    state.generation = 4900
    assert not state.over()


# Templates


@pytest.mark.parametrize("text", ["abs(W) * <hole>", "metric = abs(W) * <hole>", "metric m = abs(W) * <hole>"])
def test_candidates_fill_the_hole_of_a_template(text: str, tmp_path: Path) -> None:
    settings = Settings(template=text)
    state = small_search(tmp_path, PLAN, settings=settings)
    space = given(settings).space
    assert {c.operator for c in bred(state)} > {"random"}
    for c in bred(state):
        want = inline(f"abs(W) * ({c.genome}) per {c.per}", analyse=False).core
        assert inline(f"{c.formula} per {c.per}", analyse=False).core is want
        assert space.expressed(Genotype(filling(c.genome), c.per)).core is want


def test_what_is_no_template() -> None:
    with pytest.raises(MetricNotFound, match=r"the template `abs\(W\)` has no <hole>"):
        template_of("abs(W)")
    with pytest.raises(MetricNotFound, match="the template `` has no <hole>"):
        space_for("default", template="")
    with pytest.raises(SourceError):
        template_of("abs(W * <hole>")
    with pytest.raises(SourceError):
        template_of("Z * <hole>")


# A bound on what statistics cost


def test_a_search_within_a_tier_gathers_and_compares_nothing_dearer(tmp_path: Path) -> None:
    settings = Settings(tier="forward")
    leaves = leaves_for(settings)
    assert "X.l2" in leaves
    assert {LEAVES[name].tier for name in leaves} == {"weights", "forward"}
    how = ["--tier", "forward", "--generations", "2", "--population", "8", "--run", str(tmp_path)]
    done = CliRunner().invoke(cli, ["search", *SMALL, *how])
    assert done.exit_code == 0, done.output
    dear = [m for m in zoo().values() if any(name[0] in "GH" for name in m.leaves)]
    assert f"left out of the zoo: {len(dear)} metrics with dearer statistics than forward" in done.stderr
    candidates = stored(tmp_path)
    assert {c.tier for c in candidates} == {"weights", "forward"}
    assert {"wanda", "magnitude"} <= {c.operator for c in candidates if c.published}
    assert all("second-order loss" not in c.predictors for c in candidates)


def test_metrics_of_ones_own_keep_to_the_tier() -> None:
    how = How(seed_metrics=["abs(W) * G.l1"], tier="forward")
    with pytest.raises(Contradiction, match=r"`inline` reads G\.l1, of the tier backward; .* keeps to forward"):
        new_settings(**how)
    assert new_settings(**{**how, "tier": "backward"}).tier == "backward"
    with pytest.raises(Contradiction, match="`tier` does not go with `algorithm` paper"):
        new_settings(algorithm="paper", tier="forward")
    with pytest.raises(PruningError, match="there is no tier `forwards`; there are weights, forward"):
        new_settings(tier="forwards")
    with pytest.raises(Contradiction, match="`tier` of a run cannot change; it began without one"):
        resumed_settings(Settings(), tier="forward")


# The user's own metrics


def test_the_first_generation_begins_with_what_the_user_gave(tmp_path: Path) -> None:
    seeds = ("mine: abs(W) * X ^ 0.3 per row", "yours: abs(W) * G ^ 0.7 per layer")
    state = small_search(tmp_path, PLAN, settings=Settings(seeds=seeds))
    first = {c.slot: c for c in bred(state) if c.generation == 0 and c.attempt == 0}
    assert [c.slot for c in bred(state) if c.operator == "seed"] == [0, 1]
    for slot, seed in enumerate(seeds):
        assert (first[slot].operator, first[slot].per) == ("seed", seed.rsplit(" ", 1)[1])
        want = inline(seed.partition(": ")[2]).core
        assert inline(f"{first[slot].formula} per {first[slot].per}").core is want


def test_what_stands_for_a_seed_that_repeats_is_named_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its numbers may yet be tuned: what repeats the draft need not repeat what is measured, and gets no slot."""
    drawn = Draft(genotype("abs(W) * G per row"), "random")
    always = replace(ALGORITHMS["default"], draft=lambda breeding, rng: drawn)
    monkeypatch.setitem(ALGORITHMS, "default", always)
    start = given(Settings(seeds=("mine: abs(W) * X per row", "yours: abs(W) * G ^ 0.7 per layer")))
    published = [made(i, f"abs(W) ^ {i + 1} * X", losses=(2.0 + i,), generation=-1) for i in range(INSTRUCTIVE)]
    known = candidate_of(Draft(genotype("abs(W) * X per row"), "wanda"), INSTRUCTIVE, (-1, INSTRUCTIVE, 0), 0)
    state = closed(
        replace(PLAN, population=4, seed_zoo=True),
        [[], [*published, replace(known, status="evaluated", losses=(2.0,))]],
    )
    first, second = proposals(state, start)
    assert (first.candidate.formula, first.repeated[0].operator) == ("abs(W) * G", "seed")
    assert (second.candidate.operator, second.candidate.per) == ("seed", "layer")


def test_seeds_are_compared_in_the_group_of_the_run() -> None:
    start = given(Settings(seeds=("mine: abs(W) per layer",), per="col"))
    assert {m.per for m in (*start.published, *start.seeds)} == {"col"}
    assert given(Settings(seeds=("mine: abs(W) per layer",), pattern="2:4")).seeds[0].per == "row"


def test_metrics_are_compared_in_the_groups_of_the_space(tmp_path: Path) -> None:
    space = tmp_path / "inside.pzm"
    space.write_text("pzm 1 space inside { leaves: W, G ops: *, ^ per: row, layer }")
    start = given(Settings(seeds=("mine: abs(W) per model", "yours: abs(W) * G per layer"), space=str(space)))
    assert [(m.name, m.per) for m in start.seeds] == [("mine", "row"), ("mine", "layer"), ("yours", "layer")]
    for name, metric in zoo().items():
        if not metric.roles:
            groups = [metric.per] if metric.per in ("row", "layer") else ["row", "layer"]
            assert [m.per for m in start.published if m.name == name] == groups


@pytest.mark.parametrize(
    "more",
    [
        ["--template", "abs(W) * <hole>"], ["--seed-metrics", "wanda"], ["--seed-zoo"], ["--per", "layer"],
        ["--space", "default"], ["--islands", "2"],
    ],
)  # fmt: skip
def test_trees_of_the_release_are_built_in_one_way(more: list[str], tmp_path: Path) -> None:
    _does_not_go_with("paper", more, tmp_path / "run")


@pytest.mark.parametrize("more", [["--seed-zoo"], ["--islands", "3"]])
def test_random_metrics_have_no_parents(more: list[str], tmp_path: Path) -> None:
    _does_not_go_with("random", more, tmp_path / "run")


def _does_not_go_with(algorithm: str, more: list[str], run: Path) -> None:
    result = CliRunner().invoke(cli, ["search", "--algorithm", algorithm, "--run", str(run), *more])
    assert result.exit_code == 2
    assert f"{more[0]} does not go with --algorithm {algorithm}" in result.output
    assert not run.exists()


def test_every_metric_of_the_user_has_a_slot(tmp_path: Path) -> None:
    seeds = tuple(f"m{i}: abs(W) ^ {i + 1} * X per row" for i in range(7))
    plan = replace(PLAN, population=4, generations=1)
    state = small_search(tmp_path, plan, settings=Settings(seeds=seeds))
    assert [c.slot for c in bred(state) if c.operator == "seed" and c.attempt == 0] == list(range(7))


def test_metrics_by_role_are_not_seeded(tmp_path: Path) -> None:
    file = tmp_path / "roles.pzm"
    file.write_text("pzm 1\nmetric by_role { q_proj: abs(W) per row  else: abs(W) * X per row }\n", encoding="utf-8")
    result = CliRunner().invoke(cli, ["search", "--run", str(tmp_path / "run"), "--seed-metrics", str(file)])
    assert result.exit_code == 2
    assert "`by_role` has a score for each role" in result.output
    assert "FILE.pzm:NAME" in result.output


def test_a_template_may_end_in_a_comment() -> None:
    assert apply(template_of("abs(W) * <hole> # note"), leaf("X.l2")) is inline("abs(W) * X").core


def test_a_constant_may_fill_a_hole() -> None:
    space = space_for("default", template="abs(W) * X ^ <hole>")
    constant = Genotype(number(1), "row")
    for seed in range(200):
        child, _ = offspring([constant, constant], space, rng_for(seed, 0, 0, 0))
        assert why_not(child, space) is None


def test_what_functions_of_a_space_read_is_gathered(tmp_path: Path) -> None:
    space = tmp_path / "own.pzm"
    space.write_text("pzm 1\nfn mix(x) = x * X.mean + Y.var\nspace own { leaves: W ops: *, mix }\n", encoding="utf-8")
    assert {"X.mean", "Y.var"} <= leaves_for(Settings(space=str(space)))
    space.write_text(
        "pzm 1\nfn row(x) = Y.max * sum(x * x, in)\nspace own { leaves: X ops: *, row }\n", encoding="utf-8"
    )
    assert "Y.max" in leaves_for(Settings(space=str(space)))
    assert "Y.var" in leaves_for(Settings(template="Y.var * norm(abs(W), <hole>, in)"))


def test_a_budget_that_was_lowered_leaves_the_run_as_others_read_it(tmp_path: Path) -> None:
    """A generation keeps the slots that it was begun with, whatever the budget says afterwards."""
    zoo_slots = len(given(Settings()).published)
    small_search(tmp_path, PLAN, slots=zoo_slots + 5)
    lower = replace(PLAN, evaluations=2)
    state = small_search(tmp_path, lower, resume=True)
    assert stored_state(Store(Place(tmp_path), resume=True), lower).candidates == state.candidates
    assert [c.number for c in state.candidates] == list(range(len(state.candidates)))
    assert len({c.slot for c in state.candidates if c.generation == 0}) == PLAN.population
    raised = small_search(tmp_path, replace(PLAN, generations=2), resume=True)
    assert [c.number for c in raised.candidates] == list(range(len(raised.candidates)))
    assert raised.candidates[: len(state.candidates)] == state.candidates


def test_an_error_in_a_template_is_about_the_users_text() -> None:
    with pytest.raises(SourceError) as caught:
        template_of("metric m = abs(Q) * <hole>")
    assert caught.value.source == "metric m = abs(Q) * <hole>"
    (error,) = caught.value.diagnostics
    assert caught.value.source[error.primary.span.start : error.primary.span.end] == "Q"
    with pytest.raises(SourceError) as caught:
        template_of("abs(W * <hole>")
    assert caught.value.diagnostics[0].primary.span.start == len("abs(W * <hole>") - 1
