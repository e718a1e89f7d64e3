"""What `pzc search` is told: what a run begins with, what it may be given again, what it can't do with."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pzc.search.errors import StoreError
from pzc.search.place import Place
from pzc.search.request import LIMIT
from pzc.search.settings import Settings
from pzc.search.store import Store
from tests.terminal import Terminal

SMALL = ("--windows", "2", "--fitness-windows", "4", "--held-out-windows", "2", "--length", "32")


def begun(folder: Path, **settings: Any) -> Path:
    """A run of which there is only what it began with."""
    Store(Place(folder), resume=False).set_settings(asdict(Settings(**settings)))
    return folder


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that searches come to, which end with it."""
    found: list[Settings] = []

    def prepare(store: Store, settings: Settings, **_: Any) -> None:
        found.append(settings)
        raise StoreError("that will do")

    monkeypatch.setattr("pzc.search.prepare.prepare", prepare)
    return found


def test_a_seed_of_zero_is_one(tmp_path: Path, terminal: Terminal) -> None:
    run = begun(tmp_path / "run", evaluations=9)
    shown = terminal("search", "--resume", str(run), "--seed", "3")
    assert (shown.code, "--seed of a run cannot change; it began with 0" in shown.err) == (2, True)
    shown = terminal("search", "--resume", str(run), "--seed-zoo")
    assert "--seed-zoo of a run cannot change; it began without one" in shown.err


@pytest.mark.parametrize("option", ["--resume", "--run"])
def test_the_study_of_a_folder_has_one_name(
    option: str, tmp_path: Path, terminal: Terminal, prepared: list[Settings]
) -> None:
    run = begun(tmp_path / "run") if option == "--resume" else tmp_path / "run"
    shown = terminal("search", option, str(run), "--study", "mine")
    assert (shown.code, prepared, run.exists()) == (2, [], option == "--resume")
    assert "--study is for storages: the study of a folder is `search`, not `mine`" in " ".join(shown.err.split())


DEFAULT = {"limit": LIMIT, "default_limit": True}
"""What a run has that is given no bound."""


@pytest.mark.parametrize(
    ("kept", "options", "limit"),
    [
        (DEFAULT, ("--evaluations", "9"), None),
        (DEFAULT, ("--evaluations", "9", "--time", "1m"), 60.0),
        (DEFAULT, ("--time", "1m"), 60.0),
        (DEFAULT, (), LIMIT),
        ({"limit": 3600.0}, ("--evaluations", "9"), 3600.0),
        ({"limit": LIMIT}, ("--evaluations", "9"), LIMIT),  # somebody has typed it
        ({"limit": LIMIT, "patience": 5}, ("--evaluations", "9"), LIMIT),
    ],
)
def test_a_bound_that_is_given_again_leaves_the_others(
    kept: dict[str, Any],
    options: tuple[str, ...],
    limit: float | None,
    tmp_path: Path,
    terminal: Terminal,
    prepared: list[Settings],
) -> None:
    terminal("search", "--resume", str(begun(tmp_path / "run", **kept)), *options)
    (settings,) = prepared
    assert settings.limit == limit
    assert settings.default_limit == (kept == DEFAULT and not options)
    assert settings.patience == kept.get("patience")


@pytest.mark.parametrize(
    ("options", "limit", "default"),
    [((), LIMIT, True), (("--time", "10m"), LIMIT, False), (("--patience", "3"), None, False)],
)
def test_a_search_without_a_bound_has_one(
    options: tuple[str, ...],
    limit: float | None,
    default: bool,
    tmp_path: Path,
    terminal: Terminal,
    prepared: list[Settings],
) -> None:
    terminal("search", "--run", str(tmp_path / "run"), *options)
    (settings,) = prepared
    assert (settings.limit, settings.default_limit) == (limit, default)


def test_all_metrics_that_a_run_begins_with_are_tried(
    tmp_path: Path, terminal: Terminal, prepared: list[Settings]
) -> None:
    seeds = ("--seed-metrics", "abs(W) per block", "--seed-metrics", "abs(W) * X per row")  # the space has no blocks
    shown = terminal("search", *seeds, "--evaluations", "4", "--run", str(tmp_path / "run"))
    assert (shown.code, prepared) == (2, [])
    said = " ".join(shown.err.split())
    assert "--seed-metrics bring 5 candidates" in said
    assert "--evaluations 4 would leave some of them untried" in said
    terminal("search", *seeds, "--evaluations", "5", "--run", str(tmp_path / "run"))
    assert len(prepared) == 1


def test_events_name_a_run_alike(tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pzc.search.run.search", interrupted)
    url = f"sqlite:///{tmp_path}/a.db"
    shown = terminal("search", *SMALL, "--storage", url, "--study", "mine", "--run", str(tmp_path / "run"), "--json")
    assert shown.code == 130
    first, last = map(json.loads, shown.out.splitlines())
    assert (first["event"], last["event"]) == ("begin", "stopped")
    for event in (first, last):
        assert (event["run"], event["study"], event["folder"]) == (url, "mine", str(tmp_path / "run"))


def test_what_never_began_cannot_be_gone_on_with(
    tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pzc.search.prepare.prepare", interrupted)
    shown = terminal("search", "--run", str(tmp_path / "run"), "--json")
    assert (shown.code, shown.out) == (130, "")
    assert "stopped before the search began" in shown.err
