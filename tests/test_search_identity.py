"""Identity before work: each way in which a candidate repeats an earlier one, and what is no repetition."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pzc.compiler.core import Node
from pzc.compiler.load import inline
from pzc.search import identity
from pzc.search.candidate import Candidate
from pzc.search.identity import Identity, identified
from pzc.search.plan import Plan
from tests.searches import closed, made


def named(number: int, formula: str, per: str = "row", **more: object) -> tuple[Candidate, Node]:
    core = inline(f"{formula} per {per}", analyse=False).core
    return made(number, formula, per=per, **{**identified(core, per), **more}), core


def knowing(*formulas: str) -> tuple[Identity, Callable[[int], Node]]:
    """An identity that knows these formulas, per row, and their scores by number."""
    known, cores = Identity(), {}
    for number, formula in enumerate(formulas):
        c, cores[number] = named(number, formula)
        known.add(c)
    return known, cores.__getitem__


def repeats(known: Identity, cores: Callable[[int], Node], formula: str, per: str = "row") -> tuple[str, int] | None:
    new, core = named(99, formula, per)
    return known.repeats(new, core, cores)


@pytest.mark.parametrize(
    ("formula", "how"),
    [
        ("abs(W) * X", ("same text", 1)),
        ("X * sqrt(sqr(W))", ("same value", 1)),
        ("sqr(W) * sqr(X)", ("same ranking", 1)),
        ("ln(abs(W) * X + 1) * 3", ("same ranking", 1)),
        ("abs(W) * X.max", None),
    ],
)
def test_the_cheapest_proof_is_named(formula: str, how: tuple[str, int] | None) -> None:
    known, cores = knowing("abs(W)", "abs(W) * X")
    assert repeats(known, cores, formula) == how


def test_what_no_rule_proves_is_seen_on_probes_and_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean of a row is a factor of the whole group; it might be zero, so that is no proof."""
    known, cores = knowing("abs(W)")
    new, core = named(99, "abs(W) * mean(abs(W), in)")
    assert repeats(known, cores, "abs(W) * mean(abs(W), out)") is None
    assert known.repeats(new, core, cores) == ("same fingerprint", 0)
    monkeypatch.setattr(identity, "confirm", lambda a, b, per: False)
    assert known.repeats(new, core, cores) is None


def test_the_fingerprint_is_confirmed_against_the_earlier_score() -> None:
    """A chance hit: the keys of one score with the text of another."""
    known, cores = knowing("abs(W) * X")
    fingerprint = named(0, "abs(W) * X")[0].fingerprint
    new, core = named(99, "abs(W) * G", fingerprint=fingerprint)
    assert known.repeats(new, core, cores) is None


def test_groups_are_told_apart() -> None:
    known, cores = knowing("abs(W)", "abs(W) * X")
    assert repeats(known, cores, "abs(W)", "layer") is None
    assert repeats(known, cores, "sqr(W)", "col") is None
    assert repeats(known, cores, "sqr(W)") == ("same ranking", 0)


def test_a_refused_candidate_is_forgotten_and_what_repeated_it_too() -> None:
    """What ranks alike may be defined where a refused candidate was not."""
    refused, _ = named(0, "exp(exp(abs(W)))", status="refused", reason="not finite")
    alias, core = named(1, "abs(W)", status="same ranking", alias_of=0)
    state = closed(Plan(), [[], [], [refused, alias]])
    assert state.identity.repeats(named(2, "abs(W)")[0], core, state.core_of) is None
    assert state.identity.repeats(named(2, "sqr(W)")[0], core, state.core_of) is None


def test_what_repeats_a_repetition_points_to_the_first() -> None:
    first, _ = named(0, "abs(W) * X")
    alias, core = named(1, "sqr(W) * sqr(X)", status="same ranking", alias_of=0)
    state = closed(Plan(), [[], [], [first, alias]])
    new, _ = named(2, "sqr(W) * sqr(X)")
    assert state.identity.repeats(new, core, state.core_of) == ("same text", 0)


def test_a_copy_learns_for_itself() -> None:
    known, cores = knowing("abs(W)")
    copy = known.copy()
    copy.add(named(1, "abs(W) * G")[0])
    assert repeats(copy, lambda n: inline("abs(W) * G").core, "abs(W) * G") == ("same text", 1)
    assert repeats(known, cores, "abs(W) * G") is None


def test_a_hall_of_fame_holds_no_metric_twice() -> None:
    """Random search and the paper's algorithm measure whatever is drawn, twice if it is drawn twice."""
    masks = ["m", "n", "m", ""]
    drawn = [made(n, losses=(2 + n / 9,), mask_hash=mask) for n, mask in enumerate(masks)]
    for algorithm in ("random", "paper"):
        state = closed(Plan(algorithm=algorithm), [[], [], drawn])
        assert [c.number for c in state.best(9)] == [0, 1, 3]
        assert [c.number for c in state.found] == [0, 1, 2, 3]


def test_the_same_masks_are_told_apart_by_age() -> None:
    """Two slots of one generation were measured before anybody knew that their masks are the same."""
    twins = [named(n, f"abs(W) ^ {n + 1}", mask_hash="m", losses=(float(n),))[0] for n in range(2)]
    state = closed(Plan(), [[], [], twins])
    assert [(c.status, c.alias_of) for c in state.candidates] == [("evaluated", None), ("same mask", 0)]
    assert state.found == [twins[0]]
    assert state.measured == 1
    assert state.same_mask("m") == 0
    both = closed(Plan(algorithm="random"), [[], [], twins])
    assert [c.status for c in both.candidates] == ["evaluated", "evaluated"]  # the baselines measure everything
