"""A run that is read is the run that was written."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from pzc.search.errors import StoreError
from pzc.search.final import Outcome
from pzc.search.place import Place
from pzc.search.reading import check_comparable, differing, read_run
from pzc.search.store import Store
from tests.runs import SETTINGS, candidate, family, run_of, write_run


def test_candidates_and_settings_come_back(tmp_path: Path) -> None:
    run = read_run(Place(write_run(tmp_path / "run", family(), space="elementwise")))
    assert list(run.candidates) == family()
    assert {**SETTINGS, "space": "elementwise"}.items() <= run.settings.items()
    assert run.settings["objective"] == "perplexity"  # which an earlier version did not say
    assert run.name == "run"


def test_a_run_in_another_storage(tmp_path: Path) -> None:
    place = Place(tmp_path, f"sqlite:///{tmp_path}/runs.db", "mine")
    write_run(tmp_path, family(), place)
    assert list(read_run(place).candidates) == family()
    assert not (tmp_path / "study.journal").exists()


def test_a_run_can_be_read_while_a_search_works_on_it(tmp_path: Path) -> None:
    place = Place(write_run(tmp_path, family()))
    with Store(place, resume=True).workers.beating():
        assert read_run(place).winner.number == 6


def test_roles_of_candidates() -> None:
    run = run_of(family())
    assert [c.number for c in run.measured] == [2, 4, 5, 6, 8]
    assert [c.number for c in run.found] == [6, 8, 4, 2]
    assert run.target == "50 %"
    assert run_of(family(), pattern="2:4").target == "2:4"
    assert run_of(family(), objective="kl").measure == "e^KL"


@pytest.mark.parametrize(("key", "value"), [("sparsity", 0.6), ("text_sha256", ["a", "c"]), ("objective", "kl")])
def test_runs_that_measured_something_else_are_not_compared(key: str, value: object) -> None:
    check_comparable(run_of(family()), run_of(family(), seed=3, space="elementwise", length=None))
    with pytest.raises(StoreError, match="not comparable"):
        check_comparable(run_of(family()), run_of(family(), **{key: value}))


def test_runs_that_search_elsewhere_are_told_apart() -> None:
    run = run_of(family(), seed_zoo=True, seeds=[])
    assert differing(run, run_of(family(), seed_zoo=True, seed=3)) == []
    assert differing(run, run_of(family(), space="elementwise", seed_zoo=False)) == ["space", "seed_zoo"]


def test_the_outcome_of_another_winner_is_none_of_this_one(tmp_path: Path) -> None:
    place = Place(write_run(tmp_path, family()))
    assert read_run(place).outcome is None
    outcome = Outcome(6, 24.5, 8, 26.0, "wanda", 31.0, 12.0)
    store = Store(place, resume=True)
    store.set_winner(6)
    store.set_outcome(asdict(outcome))
    assert read_run(place).outcome == outcome
    store.set_outcome({k: v for k, v in asdict(outcome).items() if k != "published_per"})  # of an earlier version
    assert read_run(place).outcome == outcome
    store.set_winner(8)
    assert read_run(place).outcome is None


def test_a_run_that_never_began(tmp_path: Path) -> None:
    Store(Place(tmp_path), resume=False)
    with pytest.raises(StoreError, match="has not begun"):
        read_run(Place(tmp_path))
    with pytest.raises(StoreError, match="no candidate in full"):
        read_run(Place(write_run(tmp_path / "other", [*family()[:2], candidate(2)])))
