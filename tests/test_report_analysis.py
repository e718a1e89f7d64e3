"""What the report works out from a run: effects that were planted are found, curves and counts are those of the run."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pzc.grammar.counting import count
from pzc.runtime.evaluation.uncertainty import Estimate
from pzc.search.candidate import Candidate
from pzc.search.plan import Plan
from pzc.search.predictors import correlation, spearman
from pzc.search.report import numbers
from pzc.search.report.descent import ancestors, main_line, outcomes, variations
from pzc.search.report.effects import WORST, Effect, effects, families, founders, frequencies, scores, the_best
from pzc.search.report.evolution import evolution, reached, records
from pzc.search.report.features import Feature, features_of
from pzc.search.report.sections.lineage import lineage
from pzc.search.report.sections.parts import effect, frequency
from pzc.search.report.sections.predictors import predictions
from pzc.search.report.sections.progress import by_time
from pzc.search.report.sections.trade_off import fronts
from pzc.search.report.sections.variations import variation
from tests.runs import candidate, family, run_of
from tests.searches import closed

PLANTED = {"X": -0.3, "G": 0.2, "X.max": 0.0}
"""What each leaf adds to ln(perplexity)."""


def planted(n: int, *, clones: int = 1, seed: int = 0) -> list[Candidate]:
    """A published metric, then random sums of leaves whose losses follow `PLANTED` with noise; each has `clones`
    offspring, a family, that are all as good as itself."""
    rng = np.random.default_rng(seed)
    found = [candidate(0, 20.0, generation=-1, operator="magnitude", formula="abs(W)")]
    for _ in range(n):
        terms = [leaf for leaf in PLANTED if rng.random() < 0.5]
        loss = math.log(20.0) + sum(PLANTED[t] for t in terms) + 0.05 * rng.normal()
        formula = " + ".join(["abs(W)", *terms])
        founder = len(found)
        for k in range(clones):
            parents = (founder,) if k else ()
            found.append(candidate(len(found), formula=formula, per="layer", losses=(loss,) * 4, parents=parents,
                                   status="evaluated"))  # fmt: skip
    return found


def of_leaf(found: list[Effect], name: str) -> Effect:
    return next(e for e in found if e.feature == Feature("leaf", name))


def test_planted_effects_are_found_with_their_intervals() -> None:
    found = effects(run_of(planted(300)))
    for name, planted_effect in PLANTED.items():
        effect = of_leaf(found, name)
        assert effect.low < math.expm1(planted_effect) < effect.high
        assert effect.change == pytest.approx(math.expm1(planted_effect), abs=0.03)
        assert effect.high - effect.low < 0.08
    assert of_leaf(found, "X").high < 0 < of_leaf(found, "G").low


def test_offspring_that_are_all_alike_make_nothing_more_certain() -> None:
    alone, cloned = (of_leaf(effects(run_of(planted(60, clones=k))), "X") for k in (1, 12))
    assert cloned.candidates == 12 * alone.candidates
    assert cloned.families == alone.families
    assert cloned.high - cloned.low > 0.6 * (alone.high - alone.low)  # single candidates would give 1 / √12 of it


def test_the_number_of_candidates_of_an_effect_is_counted() -> None:
    run = run_of(planted(80))
    effect = of_leaf(effects(run), "X")
    assert effect.candidates == sum("+ X" in c.formula.replace("X.max", "") for c in run.measured)
    assert families(run) == 80


def test_a_run_that_is_too_small_shows_no_effect() -> None:
    assert effects(run_of(family())) == []


def test_candidates_are_scored_on_the_windows_they_were_measured_on() -> None:
    found = scores(run_of(family()))
    assert found[6] == pytest.approx(math.log(25 / 30))
    assert found[5] == WORST  # e^9 on its only window
    assert 3 not in found


def test_the_features_are_those_of_what_a_metric_ranks_by() -> None:
    assert features_of("sqr(W) * sqr(X) / windows", "row") == {
        Feature("leaf", "W"),
        Feature("leaf", "X"),
        Feature("operator", "abs"),
        Feature("operator", "multiplication"),
        Feature("group", "per row"),
    }
    assert Feature("reduction", "max over in") in features_of("abs(W) / max(abs(W), in)", "model")
    assert Feature("leaf", "X") in features_of("abs(W) * X.l2", "row")


def test_the_best_fitness_only_falls_and_time_adds_up() -> None:
    moments = evolution(run_of(family()))
    assert [m.best for m in moments] == [pytest.approx(f) for f in (32, 28, 25, 25)]
    assert [m.evaluations for m in moments] == [1, 2, 4, 5]
    assert moments[-1].seconds == pytest.approx(sum(c.seconds for c in family()))
    assert moments[-1].settled == 7
    first = reached(run_of(family()), 29.0)
    assert first is not None
    assert first.settled == 3
    assert reached(run_of(family()), 10.0) is None


def test_the_winner_and_its_line() -> None:
    run = run_of(family())
    assert run.winner.number == 6
    assert [c.number for c in run.zoo] == [0, 1]
    assert [c.number for c in main_line(run)] == [0, 2, 4, 6]
    assert [c.number for c in ancestors(run)] == [0, 1, 2, 4, 6]
    assert founders(family())[6] == founders(family())[3] == 0
    assert founders(family())[8] == 8
    assert [c.number for c in records(run)] == [2, 4, 6]


def test_variations_are_counted_by_what_became_of_their_offspring() -> None:
    found = {v.name: v for v in variations(run_of(family()))}
    leaf = found["leaf"]
    assert (leaf.proposed, leaf.duplicates, leaf.refused, leaf.lost, leaf.ranked) == (3, 0, 1, 1, 1)
    assert (leaf.better, leaf.records) == (0, 1)  # better than all before it, but not than its parent of the zoo
    assert leaf.median == pytest.approx(math.log(32 / 30))
    constant = found["constant"]
    assert (constant.proposed, constant.duplicates, constant.better, constant.rate) == (2, 1, 1, 0.5)
    assert next(reversed(found)) == "immigrant"


def test_few_offspring_tell_nothing_of_a_variation() -> None:
    four = [candidate(k, 19.0, parents=(0,), operator="crossover") for k in range(1, 5)]
    says = variation(variations(run_of([candidate(0, 20.0), *four]))).says
    assert "too few" in says
    assert "100" not in says


def test_the_best_variations_are_named_with_what_they_are_the_best_of() -> None:
    """One with two offspring may have a larger share in the table; what are equal are named together."""

    def offspring(name: str, count: int, better: int, first: int) -> list[Candidate]:
        fitnesses = [19.0] * better + [21.0] * (count - better)
        return [candidate(first + k, f, parents=(0,), operator=name) for k, f in enumerate(fitnesses)]

    parent = candidate(0, 20.0, operator="random")
    few, leaf, power = offspring("axis", 2, 2, 100), offspring("leaf", 30, 3, 1), offspring("power", 40, 2, 40)
    one = variation(variations(run_of([parent, *leaf, *few]))).says
    assert "better than its parent" not in one  # there is nothing to be better than
    assert one == "Most records came from leaf and random: 1 each."
    two = variation(variations(run_of([parent, *leaf, *power, *few]))).says
    assert two.startswith("Of the 2 variations with 30 offspring or more, leaf most often gave one")
    assert "better than its parent: 3 of 30 (10.0\N{NO-BREAK SPACE}%)." in two
    even = variation(variations(run_of([parent, *leaf, *offspring("power", 40, 4, 40)]))).says
    assert "leaf and power most often gave one that is better than its parent: 3 of 30 and 4 of 40" in even


def test_of_two_changes_the_median_is_between_them() -> None:
    children = [candidate(k, fitness, parents=(0,), operator="leaf") for k, fitness in ((1, 40.0), (2, 10.0))]
    (leaf,) = (v for v in variations(run_of([candidate(0, 20.0), *children])) if v.name == "leaf")
    assert leaf.median == pytest.approx(0.0)


def test_a_metric_that_was_given_is_no_offspring() -> None:
    given = candidate(0, 20.0, operator="seed", formula="abs(W) * X")
    child = candidate(1, 18.0, generation=1, parents=(0,), operator="leaf")
    run = run_of([given, child])
    assert [v.name for v in variations(run)] == ["leaf", "seed"]
    assert "1 step from a metric that was given" in lineage(run).says
    alone = variation(variations(run_of([candidate(0, 20.0, operator="random")]))).says
    assert "better than its parent" not in alone


def test_every_candidate_has_one_outcome() -> None:
    found = dict(outcomes(run_of(family())))
    assert found == {"evaluated": 4, "lost race": 1, "same ranking": 1, "refused: not finite": 1}


def test_a_frequency_names_the_part_first() -> None:
    run = run_of(family())
    says = frequency(frequencies(run), len(the_best(run)), len(run.measured)).says
    assert says.replace("\N{NO-BREAK SPACE}", " ") == (
        "The leaf G is in 75 % of the best 4 and in 60 % of all 5 measured; "
        "the operator multiplication is in 75 % of these and in 80 %."
    )


def test_intervals_exclude_zero_or_not() -> None:
    run = run_of(planted(80))
    found = effects(run)
    says = effect(found, families(run), run.measure).says
    told = re.match(r"\d of (\d) parts have a 95 % interval that excludes zero\. By chance about ([\d.]+) would", says)
    assert told
    assert float(told[2]) == pytest.approx(0.05 * int(told[1]))


def test_the_best_of_the_zoo_is_beaten_at_a_time() -> None:
    says = by_time(run_of(family()), []).says
    assert "wanda, has 30.00, which the search beat after 4 s." in says
    slow = [candidate(0, 30.0, generation=-2, operator="wanda"), candidate(1, 30.0, seconds=3.0)]
    assert "which the search did not beat." in by_time(run_of(slow), []).says


LONG = "W ^ 2 * X ^ 2 / windows"
"""Eight nodes as it was bred, four as it is read: `abs(W) * X`."""


def test_the_front_is_that_of_the_status() -> None:
    """By the size as it is read, whatever was bred."""
    bred = [
        candidate(1, 20.0, formula=LONG, complexity=9, tier="forward"),
        candidate(2, 21.0, formula="abs(W) * ln(X + 2)", complexity=7, tier="forward"),
        candidate(3, 22.0, formula="sqr(W)", complexity=2),
    ]
    zoo = [candidate(0, 30.0, generation=-2, operator="wanda", tier="forward")]
    run = run_of([*zoo, *bred])
    state = closed(Plan(), [zoo, [], bred])
    assert run.front == list(state.standing().front)
    assert [(c.number, metric.complexity) for c, metric in run.front] == [(1, 4), (3, 2)]
    says = fronts(run).says
    assert "Of the 4 metrics with a fitness, 2 cannot be beaten" in says
    assert "the best of all, of 4 nodes, 20.00." in says


def test_published_metrics_that_lost_their_race_are_not_on_the_front() -> None:
    lost = candidate(9, generation=-1, operator="magnitude", status="lost race", losses=(9.0,))
    assert "1 published metric lost the race and is not among them." in fronts(run_of([*family(), lost])).says


def test_predictors_are_those_of_the_status() -> None:
    """Candidates of the generation at work count for both."""
    values = [0.1, 0.9, 0.3, 0.2, 0.8, 0.4, 0.7, 0.5, 0.6, 0.15, 0.25, 0.35, 0.95, 0.05]
    found = [candidate(i, 20.0 + i, predictors={"output error": x}) for i, x in enumerate(values)]
    state = closed(Plan(), [[], [], found[:-1]])
    for c in found[-1:]:
        state.show(c.slot, c)
    pairs = predictions(run_of(state.every()))["output error"]
    assert len(pairs) == len(values)
    assert state.standing().predictors == {"output error": correlation(pairs)}


def test_one_line_of_descent_is_not_thick() -> None:
    line = [candidate(0, 20.0), candidate(1, 19.0, parents=(0,), operator="leaf")]
    assert "thick" not in lineage(run_of(line)).says
    assert "the thick one" in lineage(run_of(family())).says


def test_frequencies_are_shares_of_candidates() -> None:
    found = {feature.name: (best, every) for feature, best, every in frequencies(run_of(family()))}
    assert found["G"] == (pytest.approx(3 / 4), pytest.approx(3 / 5))


@given(st.permutations(range(8)))
def test_spearman_without_ties_is_the_textbooks(order: list[int]) -> None:
    d2 = sum((i - k) ** 2 for i, k in enumerate(order))
    assert spearman(range(8), order) == pytest.approx(1 - 6 * d2 / (8 * (64 - 1)))
    assert spearman(range(8), np.exp(order).tolist()) == pytest.approx(spearman(range(8), order))


@pytest.mark.parametrize(
    ("value", "want"), [(14.5151, "14.52"), (4.439, "4.439"), (161.24, "161.2"), (2898.3, "2,898"), (math.inf, "–")]
)
def test_perplexities_have_four_digits(value: float, want: str) -> None:
    assert numbers.perplexity(value) == want


def test_numbers_in_words() -> None:
    assert numbers.percent(-0.0002, signed=True) == "0.0\N{NO-BREAK SPACE}%"
    assert numbers.percent(-0.019, signed=True) == "−1.9\N{NO-BREAK SPACE}%"
    assert (
        numbers.change(Estimate(-0.019, 0.005)) == "−1.9\N{NO-BREAK SPACE}% ±\N{NO-BREAK SPACE}0.5\N{NO-BREAK SPACE}%"
    )
    assert count(1, "family", "families") == "1 family"
    assert count(2031, "candidate") == "2,031 candidates"
    assert [numbers.duration(s) for s in (47, 720, 7500)] == ["47 s", "12 min", "2 h 5 min"]
