"""The final looks at all that was settled, and what it has measured stays."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pzc.cli.search.watch import gentle
from pzc.search import helpers
from pzc.search.candidate import Candidate
from pzc.search.hall import HALL
from pzc.search.place import Place
from pzc.search.prepare import Prepared, open_store, prepare
from pzc.search.proposals import proposals
from pzc.search.run import Budget, finish, kept, search
from pzc.search.settings import Settings
from pzc.search.store import Store

SETTINGS = Settings(windows=2, fitness_windows=4, held_out_windows=2, length=32, population=4, generations=1)


@pytest.fixture
def run(tmp_path: Path) -> Prepared:
    """A search that has gone through a generation."""
    store, _ = open_store(Place(tmp_path), SETTINGS)
    prepared = prepare(store, SETTINGS)
    search(prepared, Budget())
    return prepared


def helped(run: Prepared, loss: float) -> Candidate:
    """A candidate of the next generation that another worker has settled since."""
    other = Store(run.store.place, resume=True)
    claim = other.claim(proposals(run.state, run.given, 0))
    assert claim is not None
    made = {"formula": f"abs(W) * X ^ 0.{claim.slot + 5}", "per": "row", "losses": (loss,) * 4}
    settled = replace(claim.proposal.candidate, status="evaluated", **made)
    other.tell(claim, settled)
    return settled


def keep(run: Prepared) -> list[Path]:
    """What is written of a run that is interrupted."""
    written: list[Path] = []
    with pytest.raises(KeyboardInterrupt), kept(run, lambda state, files: written.extend(files)):
        raise KeyboardInterrupt
    return written


def test_what_a_helper_settled_last_is_in_the_final(run: Prepared) -> None:
    late = helped(run, 0.5)
    assert late.number in [m.candidate.number for m in finish(run).members]


def test_what_a_helper_settled_last_is_in_the_hall_of_a_search_that_was_stopped(run: Prepared) -> None:
    late = helped(run, 0.5)
    assert f"Candidate {late.number}: " in keep(run)[0].read_text(encoding="utf-8")


def test_claims_of_workers_that_are_gone_end_with_the_final(run: Prepared) -> None:
    gone, here = (Store(run.store.place, resume=True) for _ in range(2))
    with here.workers.beating():
        for other in (gone, here):
            assert other.claim(proposals(run.state, run.given, 0)) is not None
        finish(run)
        assert [t.state.name for t in run.store.study.get_trials()][-2:] == ["FAIL", "RUNNING"]


def test_a_search_that_is_stopped_leaves_a_measured_hall_of_fame(run: Prepared) -> None:
    """And writes one of its own where there is none, or one that was not measured either."""
    first = keep(run)
    assert "held-out" not in first[0].read_text(encoding="utf-8")
    helped(run, 5.0)
    assert keep(run)
    result = finish(run)
    measured = {path: path.read_bytes() for path in result.files}
    winner = helped(run, 0.5).number
    assert keep(run) == []
    assert {path: path.read_bytes() for path in sorted((run.folder / HALL).iterdir())} == measured
    assert run.store.winner == result.members[0].candidate.number != winner
    assert f"\n{winner}," in (run.folder / "candidates.csv").read_text(encoding="utf-8")


def test_a_hall_that_is_gone_is_written_anew_and_the_winner_stays(run: Prepared) -> None:
    """As where a run in a database is resumed with another folder."""
    result = finish(run)
    shutil.rmtree(run.folder / HALL)
    better = helped(run, 0.5).number
    assert f"Candidate {better}: " in keep(run)[0].read_text(encoding="utf-8")
    assert run.store.winner == result.members[0].candidate.number != better


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_final_interrupts_it_at_once(number: signal.Signals) -> None:
    """While the search goes on the first asks it to stop, and the second interrupts it."""
    through, going = Budget(), Budget()
    through.stop()
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), gentle(through):
        signal.raise_signal(number)
    assert not through.asked
    with gentle(going):
        signal.raise_signal(number)
        assert going.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


# Helpers


class Helper:
    """A process that ends when it is killed."""

    def __init__(self, command: list[str], **_: Any) -> None:
        self.command = command
        self.patience: list[float | None] = []
        self.killed = False
        HELPERS.append(self)

    def terminate(self) -> None:
        pass

    def kill(self) -> None:
        self.killed = True

    def poll(self) -> int | None:
        return -9 if self.killed else None

    def wait(self, timeout: float | None = None) -> int:
        self.patience.append(timeout)
        if timeout is not None:
            raise subprocess.TimeoutExpired("pzc", timeout)
        return -9


HELPERS: list[Helper] = []


@pytest.fixture
def stubborn(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Helpers that do not end when they are asked to."""
    monkeypatch.setattr("pzc.search.helpers.subprocess.Popen", Helper)
    yield
    HELPERS.clear()


def waited() -> list[float]:
    return [seconds for helper in HELPERS for seconds in helper.patience if seconds is not None]


@pytest.mark.usefixtures("stubborn")
def test_helpers_may_finish_their_candidates(tmp_path: Path) -> None:
    with helpers.helping(Place(tmp_path), SETTINGS, 2, print):
        pass
    assert helpers.HURRY < max(waited()) <= helpers.GRACE
    assert [helper.killed for helper in HELPERS] == [True, True]


@pytest.mark.parametrize(
    ("device", "there", "expected"),
    [
        ("auto", 3, ["cuda:1", "cuda:2", "cuda:0"]),
        ("cuda", 2, ["cuda:1", "cuda:0", "cuda:1"]),
        ("cuda:1", 2, ["cuda:1"] * 3),
        ("auto", 1, ["auto"] * 3),
        ("map", 2, ["map"] * 3),
        ("cpu", 2, ["cpu"] * 3),
        ("auto", 0, ["auto"] * 3),
    ],
)
@pytest.mark.usefixtures("stubborn")
def test_helpers_take_turns_on_the_accelerators(
    device: str, there: int, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process is on the first."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: there > 0)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: there)
    with helpers.helping(Place(tmp_path), SETTINGS, 3, print, device):
        pass
    assert [helper.command[helper.command.index("--device") + 1] for helper in HELPERS] == expected


@pytest.mark.usefixtures("stubborn")
def test_helpers_of_a_search_that_was_interrupted_have_less_time(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), helpers.helping(Place(tmp_path), SETTINGS, 2, print):
        raise KeyboardInterrupt
    assert max(waited()) <= helpers.HURRY
    assert [helper.killed for helper in HELPERS] == [True, True]
