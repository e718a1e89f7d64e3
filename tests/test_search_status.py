"""What `pzc search status` says of a run that somebody works on, that has ended, or that stands still."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pzc.search.final import Outcome
from pzc.search.heartbeats import Workers
from pzc.search.place import Place
from pzc.search.settings import Settings
from pzc.search.store import Store
from tests.runs import family, write_run
from tests.terminal import Terminal

OUTCOME = Outcome(6, 24.5, 8, 27.0, "wanda", 30.0, 12.0, formula="abs(W) * G * X ^ 0.5", per="row", error=0.02)


def a_run(folder: Path, generations: int, outcome: Outcome | None = None) -> Store:
    """A run of three generations, nobody at work on it."""
    write_run(folder, family(), **{**asdict(Settings(threads=1)), "generations": generations})
    store = Store(Place(folder), resume=True)
    store.set_winner(6)
    if outcome:
        store.set_outcome(asdict(outcome))
    return store


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pzc.cli.search.seen.EVERY", 0.0)


def test_a_run_that_has_ended_says_why_and_who_won(tmp_path: Path, terminal: Terminal) -> None:
    a_run(tmp_path / "run", 3, OUTCOME)
    said = " ".join(terminal("search", "status", str(tmp_path / "run")).out.split())
    assert "ended with 3 generations (--generations)" in said
    winner = "the winner: abs(W) * G * X ^ 0.5 per row: −10.0% ± 2.0% in held-out perplexity against wanda"
    assert winner in said
    found = json.loads(terminal("search", "status", str(tmp_path / "run"), "--json").out)
    assert found["ended"] == "3 generations (--generations)"
    assert found["outcome"]["winner"]["held_out"] == 27.0
    change = found["outcome"]["change"]
    assert (change["against"], round(change["share"], 6), change["standard_error"]) == ("wanda", -0.1, 0.02)
    assert winner in " ".join(terminal("search", "status", str(tmp_path / "run"), "--watch").err.split())


@pytest.mark.parametrize(("generations", "outcome"), [(9, None), (9, OUTCOME), (3, None)])
def test_a_run_that_stands_still_can_be_gone_on_with(
    generations: int, outcome: Outcome | None, tmp_path: Path, terminal: Terminal
) -> None:
    """In the middle, with the outcome of an earlier final too, or with the final before it."""
    a_run(tmp_path / "run", generations, outcome)
    said = " ".join(terminal("search", "status", str(tmp_path / "run")).out.split())
    assert "nobody is at work on it; go on with: pzc search --resume" in said
    assert json.loads(terminal("search", "status", str(tmp_path / "run"), "--json").out)["ended"] is None
    shown = terminal("search", "status", str(tmp_path / "run"), "--watch", "--json")
    first, last = map(json.loads, shown.out.splitlines())
    assert (shown.code, first["event"], last) == (
        0, "best", {"event": "stopped", "run": str(tmp_path / "run"), "study": "search"},
    )  # fmt: skip


def test_the_outcome_of_an_earlier_final_ends_no_run_that_went_further(tmp_path: Path, terminal: Terminal) -> None:
    store = a_run(tmp_path / "run", 3)
    for slots, ended in ((store.slots() - 1, None), (store.slots(), "3 generations (--generations)")):
        store.set_outcome(asdict(replace(OUTCOME, slots=slots)))
        said = terminal("search", "status", str(tmp_path / "run")).out
        assert ("nobody is at work on it" in said, "the winner: " in said) == (not ended, bool(ended))
        assert json.loads(terminal("search", "status", str(tmp_path / "run"), "--json").out)["ended"] == ended


def test_who_watches_a_run_that_has_ended_is_told_so_once(tmp_path: Path, terminal: Terminal) -> None:
    a_run(tmp_path / "run", 3, OUTCOME)
    shown = terminal("search", "status", str(tmp_path / "run"), "--watch", "--json")
    first, last = map(json.loads, shown.out.splitlines())
    assert (shown.code, first["event"], last["event"]) == (0, "best", "done")
    assert (last["ended"], last["dense"], last["winner"]["candidate"]) == ("3 generations (--generations)", 12.0, 6)


def test_who_watches_a_run_that_is_worked_on_is_told_before_there_is_a_best(
    tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until nobody works on it any more."""
    write_run(tmp_path / "run", family()[:1], **asdict(Settings(threads=1)))
    at_work = iter([["a"], ["a"], [], []])
    monkeypatch.setattr(Workers, "at_work", lambda self: next(at_work))
    monkeypatch.setattr("pzc.cli.search.watch.QUIET", 0.0)
    shown = terminal("search", "status", str(tmp_path / "run"), "--watch", "--json")
    events = [json.loads(line) for line in shown.out.splitlines()]
    assert [e["event"] for e in events] == ["progress"] * 4 + ["stopped"]
    assert events[0]["fitness"] is None
    assert events[0]["zoo"]["name"] == "wanda"


def test_a_run_in_its_final_is_worked_on(tmp_path: Path, terminal: Terminal) -> None:
    store = a_run(tmp_path / "run", 3, OUTCOME)
    with store.workers.beating():
        assert "1 at work" in terminal("search", "status", str(tmp_path / "run")).out


def test_who_watches_a_run_that_gathers_statistics_waits_for_its_beginning(
    tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no longer than somebody is at it."""
    Store(Place(tmp_path / "run"), resume=False)
    at_work = iter([["a"], ["a"], [], [], []])
    monkeypatch.setattr(Workers, "at_work", lambda self: next(at_work))
    shown = terminal("search", "status", str(tmp_path / "run"), "--watch")
    assert shown.code == 1
    assert "has not begun" in shown.err
    assert list(at_work) == []


def test_a_run_that_gathers_statistics_says_so(tmp_path: Path, terminal: Terminal) -> None:
    store = Store(Place(tmp_path / "run"), resume=False)
    with store.workers.beating():
        assert "its statistics are being gathered" in terminal("search", "status", str(tmp_path / "run")).err
    assert "begin it with --run" in terminal("search", "status", str(tmp_path / "run")).err
