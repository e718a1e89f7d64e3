"""docs/search.md says the numbers that the code has."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pzc.compiler.sameness.fingerprint import FRESH, SEEDS
from pzc.compiler.sameness.probes import KINDS
from pzc.search import hall
from pzc.search.algorithms import ALGORITHMS
from pzc.search.bar import EXACT, IN_NICHE, LENIENT
from pzc.search.final import ROUNDS
from pzc.search.heartbeats import BEAT
from pzc.search.niche import NEAR
from pzc.search.patient import PATIENCE
from pzc.search.plan import ATTEMPTS, Plan
from pzc.search.predictors import MARGIN, PROVEN
from pzc.search.prepare import FAST_FROM
from pzc.search.proposals import INSTRUCTIVE
from pzc.search.racing import BEHIND, FAR, LEAST_WINDOWS, PLACED, rungs_of
from pzc.search.run import ZOO_MEMBERS
from pzc.search.screening import EXPLORED, TUNINGS, UNSCREENED
from pzc.search.space import TRIES
from pzc.search.state import USED_UP
from pzc.search.variation import VARIATIONS

PAGE = " ".join((Path(__file__).parent.parent / "docs" / "search.md").read_text(encoding="utf-8").split())
WORDS = ("no one two three four five six seven eight nine ten eleven twelve thirteen fourteen").split()  # noqa: SIM905
PLAN, DEFAULT, PAPER = Plan(), ALGORITHMS["default"], ALGORITHMS["paper"]


def word(value: float) -> str:
    """A whole number as the page spells it."""
    assert value == int(value)
    return WORDS[int(value)] if value < len(WORDS) else f"{int(value):,}"


@pytest.mark.parametrize(
    "sentence",
    [
        f"every {word(PLAN.migration)} generations the best of each",
        f"must earn {100 * PLAN.parsimony:g} % of the perplexity",
        f"two tournaments of {word(PLAN.tournament)}",
        f"One in {word(1 / PLAN.immigrants)} is a random immigrant",
        f"At most {word(PLAN.alike)} members are of one *niche*",
        f"in less than one bit of their masks in {'a hundred' if NEAR == 0.01 else NEAR}",
        f"Once {INSTRUCTIVE} metrics are measured, {word(DEFAULT.drafts)} new offspring",
        f"tuned on trial {word(TUNINGS)} times",
        f"In one slot of {word(1 / UNSCREENED)} the first draft is measured",
        f"In one slot in {word(1 / EXPLORED)} nothing is turned away",
        f"none of {word(TRIES)} random trees is a metric",
        f"({ATTEMPTS} in all at most)",
        f"When {word(USED_UP)} generations in a row brought nothing but repetitions",
        f"the ranks on {word(len(SEEDS))} probe layers",
        f"confirmed on {word(len(FRESH) * len(KINDS))} fresh probes",
        f"what it puts {MARGIN:g} times behind the worst of the population, once {word(PROVEN)} that it put there",
        f"with {'twice' if math.log(2) == LENIENT else LENIENT} the perplexity of the best published metric",
        f"with {'half' if math.exp(FAR) == pytest.approx(1.5) else FAR} as much perplexity again in every window",
        f"and {word(LEAST_WINDOWS)} windows on it leaves when it is behind by {word(BEHIND)} standard errors",
        f"leaves when it is behind by {word(IN_NICHE)}",
        f"from {word(LEAST_WINDOWS)} windows on it is *placed* when",
        f"it is *placed* when it is behind both the {('first', 'second', 'third')[EXACT - 1]} of a full island",
        f"no larger and no dearer by {'one and a half' if PLACED == 1.5 else PLACED}",
        f"With fewer than {word(2 * LEAST_WINDOWS)} windows all are run",
        f"Models of {FAST_FROM / 1e6:g} M parameters and more",
        f"so the best {ROUNDS[0]} contend",
        f"the best {word(ROUNDS[1])} of these",
        f"the {word(hall.MEMBERS)} places of the hall of fame",
        f"the {word(ZOO_MEMBERS)} best of the zoo",
        f"a population of `--population` ({PAPER.population} in the paper)",
        f"Workers send a heartbeat every {BEAT:g} seconds",
        f"asked again for {'a minute' if PATIENCE == 60 else PATIENCE}",
    ],
)
def test_a_number_of_the_page_is_that_of_the_code(sentence: str) -> None:
    assert sentence in PAGE


def test_rungs_are_as_the_page_says() -> None:
    assert "*Rungs* of an eighth of `--fitness-windows` each, the first of them halved" in PAGE
    assert rungs_of(64) == [4, *range(8, 65, 8)]
    assert [rungs_of(n) for n in range(1, 2 * LEAST_WINDOWS)] == [[n] for n in range(1, 2 * LEAST_WINDOWS)]


def test_generations_and_variations_are_as_the_page_says() -> None:
    assert "the first with `--population` *slots*, later ones with half as many" in PAGE
    assert [DEFAULT.slots(PLAN, generation) for generation in (0, 1, 7)] == [PLAN.population] + 2 * [
        PLAN.population // 2
    ]
    assert f"by one of {word(len(VARIATIONS))} variations" in PAGE
