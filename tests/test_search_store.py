"""The store: nothing that was settled is lost, nothing is done twice, and what is no run is refused."""

from __future__ import annotations

import fcntl
import json
import math
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from pzc.compiler.load import inline
from pzc.search.candidate import Candidate, attributes, from_attributes
from pzc.search.errors import StoreError
from pzc.search.place import JOURNAL, Place
from pzc.search.predictors import SURROGATE
from pzc.search.prepare import open_store
from pzc.search.proposals import Proposal
from pzc.search.store import Store
from tests.searches import PLAN, SETTINGS, made, small_search, stored


def candidates(n: int) -> list[Candidate]:
    kinds: list[dict[str, Any]] = [
        {"status": "evaluated", "losses": (2.5, 1 / 3), "mask_hash": "ab", "shape": "s", "parents": (1, 2)},
        {"status": "lost race", "losses": (9.0,), "mask_hash": "cd", "seconds": 0.25, "island": 1},
        {"status": "same ranking", "alias_of": 0, "real_key": "row 12", "tier": "activations"},
        {"status": "same mask", "alias_of": 1, "mask_hash": "cd", "predictors": {"output error": 0.25}},
        {"status": "refused", "reason": "not finite", "genome": "abs(W)"},
        {"status": "evaluated", "losses": (800.0,)},  # its perplexity is beyond a float
    ]
    return [made(i, **{"shape": "", **kinds[i % len(kinds)]}) for i in range(n)]


def proposed(settled: Sequence[Candidate]) -> list[Proposal]:
    """The proposals of a generation that these candidates came from."""
    core = inline("abs(W) * X").core
    return [Proposal(replace(c, status="proposed"), core) for c in settled]


def tell(store: Store, c: Candidate, of: Sequence[Proposal]) -> None:
    """Claim the next slot, which is this candidate's, and settle it."""
    claim = store.claim(of)
    assert claim is not None
    assert claim.slot == c.slot
    store.tell(claim, c)


def filled(folder: Path, n: int = 8, slots: int | None = None) -> list[Candidate]:
    """A store in which the first n slots of a generation are settled."""
    store = Store(Place(folder), resume=False)
    store.set_settings(asdict(SETTINGS))
    settled = candidates(slots or n)
    for c in settled[:n]:
        tell(store, c, proposed(settled))
    return settled[:n]


def test_candidates_survive(tmp_path: Path) -> None:
    want = filled(tmp_path)
    assert stored(tmp_path) == want
    _, settings = open_store(Place(tmp_path), None)
    assert settings == SETTINGS


def test_drafts_that_repeated_others_are_kept_with_the_slot(tmp_path: Path) -> None:
    """A slot keeps what was drawn for it in vain, so that a run is whole without working its proposals out again."""
    first, alias, second = candidates(6)[0], candidates(6)[2], replace(candidates(6)[5], slot=1)
    of = [Proposal(p.candidate, p.core, (alias,)) for p in proposed([first, second])]
    store = Store(Place(tmp_path), resume=False)
    for c in (first, second):
        tell(store, c, of)
    assert Store(Place(tmp_path), resume=True).generation(0) == ({0: [alias, first], 1: [alias, second]}, 2)
    assert store.settled(0) == {0: first, 1: second}
    assert store.settled(1) == {}
    assert store.claim(of) is None


def as_optuna_reads_it(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="search", storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))))


def test_it_is_an_optuna_study(tmp_path: Path) -> None:
    """For whatever reads Optuna's studies: the fitness has a name, trials have parameters, and rungs are to be compared
    with the fitness."""
    filled(tmp_path, 6)
    study = as_optuna_reads_it(tmp_path)
    assert [t.state.name for t in study.trials] == ["COMPLETE", "PRUNED", "PRUNED", "PRUNED", "FAIL", "COMPLETE"]
    assert study.best_trial.user_attrs["source"] == "abs(W) * X per row"
    assert study.best_trial.user_attrs["result"]["formula"] == "abs(W) * X"
    assert study.best_value == pytest.approx(candidates(1)[0].fitness)
    assert study.metric_names == ["perplexity"]
    read = {"reads inputs": True, "reads outputs": False, "reads gradients": False, "reads Hessians": False}
    assert study.best_trial.params == {"per": "row", "complexity": 4, **read}
    outcomes = [t.user_attrs["outcome"] for t in study.trials]
    assert outcomes[1:5] == [
        "lost race",
        "same ranking as candidate 0",
        "same mask as candidate 1",
        "refused: not finite",
    ]
    store = Store(Place(tmp_path / "rungs"), resume=False)
    claim = store.claim(proposed(candidates(1)))
    assert claim is not None
    for number, loss in enumerate((math.log(30), math.log(20), 900.0)):
        store.rung(claim, number, loss)
    (trial,) = as_optuna_reads_it(tmp_path / "rungs").trials
    assert trial.intermediate_values == pytest.approx({0: 30, 1: 20, 2: math.inf})


def test_a_trial_shows_what_was_measured(tmp_path: Path) -> None:
    """Not what was drawn first for its slot."""
    state = small_search(tmp_path, replace(PLAN, generations=3))
    trials = [t for t in as_optuna_reads_it(tmp_path).trials if "result" in t.user_attrs]
    settled = [(t, from_attributes(t.user_attrs["result"])) for t in trials]
    assert any(SURROGATE in c.predictors for _, c in settled)
    assert {c.number for _, c in settled} <= {c.number for c in state.candidates}
    for trial, c in settled:
        about = trial.user_attrs
        assert about["source"] == f"{c.formula} per {c.per}"
        assert (about["operator"], tuple(about["parents"])) == (c.operator, c.parents)
        assert (trial.params["per"], trial.params["complexity"]) == (c.per, c.complexity)
        assert trial.params["reads gradients"] == (c.tier == "backward")


def test_the_disk_is_waited_for_once_a_candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []
    store = Store(Place(tmp_path), resume=False)
    monkeypatch.setattr("os.fsync", waits.append)
    for c in candidates(3):
        claim = store.claim(proposed(candidates(3)))
        assert claim is not None
        for number in range(4):
            store.rung(claim, number, 2.0)
        store.tell(claim, c)
    assert len(waits) == 3
    store.set_settings(asdict(SETTINGS))
    assert len(waits) == 5  # the settings, and what the fitness is called
    store.set_settings(json.loads(json.dumps(asdict(SETTINGS))))  # the same, as the store gives them
    assert len(waits) == 5
    with store.workers.beating():
        assert len(waits) == 5
    store.set_outcome({"candidate": 0})
    assert len(waits) == 6


def test_a_store_holds_a_candidate_once(tmp_path: Path) -> None:
    """What Optuna keeps in memory and what the search reads are one object, and repetitions share their keys."""
    of = [Proposal(p.candidate, p.core, (candidates(3)[2],)) for p in proposed(candidates(1))]
    store = Store(Place(tmp_path), resume=False)
    tell(store, candidates(1)[0], of)
    (trial,) = store.study.get_trials(deepcopy=False)
    assert store.generation(0)[0][0] == [candidates(3)[2], candidates(1)[0]]
    assert all(a is b for a, b in zip(store.generation(0)[0][0], store.generation(0)[0][0], strict=True))
    assert trial.user_attrs["result"] is store.settled(0)[0]
    assert (trial.params, set(trial.user_attrs)) == ({}, {"place", "worker", "repeated", "outcome", "result"})
    again = [from_attributes({**attributes(c), "rank_key": "".join(["rank ", "key"])}) for c in candidates(2)]
    assert again[0].rank_key is again[1].rank_key


def test_runs_of_earlier_versions_are_read(tmp_path: Path) -> None:
    """They had a worker and a number of its own in `claim`, and every field of a candidate in its result."""
    storage = JournalStorage(JournalFileBackend(str(tmp_path / JOURNAL)))
    study = optuna.create_study(study_name="search", storage=storage)
    study.set_user_attr("settings", json.dumps(asdict(SETTINGS)))
    for c in candidates(3):
        about = {"place": [c.generation, c.slot, 3], "claim": ["vm:1:ab", "cd"], "source": c.formula, "repeated": []}
        study.add_trial(optuna.create_trial(state=TrialState.RUNNING, user_attrs=about))
        if c.slot < 2:
            trial = optuna.Trial(study, c.slot)
            trial.set_user_attr("result", json.loads(json.dumps(asdict(c))))
            study.tell(c.slot, state=TrialState.PRUNED)
    assert stored(tmp_path) == candidates(2)
    store = Store(Place(tmp_path), resume=True)
    claim = store.claim(proposed(candidates(3)))
    assert claim is not None
    assert claim.slot == 2


@pytest.mark.parametrize("cut", [1, 7, 60])
def test_a_line_that_was_cut_short_is_dropped(tmp_path: Path, cut: int) -> None:
    """The last candidate was not told of in full, so its slot is free for who comes next."""
    want = filled(tmp_path)
    journal = tmp_path / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-cut])
    assert stored(tmp_path) == want[:-1]
    store = Store(Place(tmp_path), resume=True)
    tell(store, want[-1], proposed(want))
    assert stored(tmp_path) == want
    assert all(json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines())


def test_a_line_cut_short_by_one_worker_does_not_stop_another(tmp_path: Path) -> None:
    want = filled(tmp_path, 3, slots=8)
    other, of = Store(Place(tmp_path), resume=True), proposed(candidates(8))
    tell(other, candidates(8)[3], of)
    with (tmp_path / JOURNAL).open("ab") as journal:
        journal.write(b'{"op_code": 5, "worker_id": "gone", "trial_')  # a machine goes down while it writes
    for c in candidates(8)[4:]:
        tell(other, c, of)
    assert stored(tmp_path) == candidates(8)
    assert want == candidates(8)[:3]


@pytest.mark.parametrize("line", ["{not JSON", "[]", "{}", "\0\0\0"])
def test_a_damaged_line_is_named(line: str, tmp_path: Path) -> None:
    want = filled(tmp_path)
    journal = tmp_path / JOURNAL
    whole = journal.read_text(encoding="utf-8").splitlines()
    journal.write_text("\n".join([*whole[:-1], line, whole[-1], ""]), encoding="utf-8")
    with pytest.raises(StoreError) as caught:
        Store(Place(tmp_path), resume=True)
    assert caught.value.message == f"line {len(whole)} of {journal} is damaged"
    assert f"`head -n {len(whole) - 1}`" in str(caught.value.hint)
    journal.write_text("\n".join([*whole[:-1], ""]), encoding="utf-8")
    assert stored(tmp_path) == want[:-1]


@pytest.mark.parametrize("line", ['{"op_code": 99}', '{"op_code": 0}'])
def test_a_journal_that_optuna_cannot_read_has_no_url(line: str, tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(StoreError, match="cannot be opened") as caught:
        Store(Place(tmp_path), resume=True)
    assert caught.value.hint == "study.journal is damaged, or not of a search"


def test_runs_of_another_version_say_so(tmp_path: Path) -> None:
    for name, value in (("algorithm", "annealing"), ("objective", "accuracy")):
        store = Store(Place(tmp_path / name), resume=False)
        store.study.set_user_attr("settings", json.dumps({**asdict(SETTINGS), name: value}))
        with pytest.raises(StoreError, match=f"of another version of pzc: .*{value}"):
            open_store(Place(tmp_path / name), None)
    filled(tmp_path / "run")
    journal = tmp_path / "run" / JOURNAL
    journal.write_text(journal.read_text(encoding="utf-8").replace('"rank_key"', '"key_of_rank"'), encoding="utf-8")
    with pytest.raises(StoreError, match="of another version of pzc: a candidate has no rank_key"):
        Store(Place(tmp_path / "run"), resume=True)


def test_a_folder_has_one_study(tmp_path: Path) -> None:
    filled(tmp_path)
    with pytest.raises(StoreError, match="there is no search in") as caught:
        Store(Place(tmp_path, study="mine"), resume=True)
    assert "--study is for storages" in str(caught.value.hint)


def test_a_journal_that_is_empty_or_of_another_study_says_so(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_bytes(b"")
    with pytest.raises(StoreError, match="there is no search in") as caught:
        Store(Place(tmp_path), resume=True)
    assert caught.value.hint == (
        f"{JOURNAL} has no whole line: a search that ended at its start; begin it with --run {tmp_path}"
    )
    storage = JournalStorage(JournalFileBackend(str(tmp_path / JOURNAL)))
    optuna.create_study(study_name="mine", storage=storage)
    with pytest.raises(StoreError, match="there is no search in") as caught:
        Store(Place(tmp_path), resume=True)
    assert caught.value.hint == f"{JOURNAL} holds mine, which is no search"


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_study_of_something_else_is_refused_and_stays_as_it_is(direction: str, resume: bool, tmp_path: Path) -> None:
    place = Place(tmp_path / "run", f"sqlite:///{tmp_path}/a.db", "mine")
    study = optuna.create_study(study_name="mine", storage=place.url, direction=direction)
    if direction == "minimize":
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    with pytest.raises(StoreError, match=r"study mine at .* is an Optuna study of something else than a search"):
        open_store(place, None if resume else SETTINGS)
    assert optuna.load_study(study_name="mine", storage=place.url).user_attrs == {}


def test_a_lock_ends_with_its_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a process holds it the others wait, and no longer when it is killed."""
    want = filled(tmp_path, 5, slots=6)
    held = "import fcntl, sys, time; fcntl.flock(f := open(sys.argv[1]), 2); print(flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", held, str(tmp_path / JOURNAL)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    store = Store(Place(tmp_path), resume=True)  # to read takes no lock
    waiting = threading.Thread(target=tell, args=(store, candidates(6)[5], proposed(candidates(6))), daemon=True)
    asks = threading.Event()
    flock = fcntl.flock

    def asked(file: Any, operation: int) -> None:
        asks.set()
        flock(file, operation)

    monkeypatch.setattr("pzc.search.journal.fcntl.flock", asked)
    try:
        waiting.start()
        assert asks.wait(600)
        waiting.join(0.2)
        assert waiting.is_alive()
        assert stored(tmp_path) == want
    finally:
        process.kill()
        process.communicate()
    waiting.join(600)
    assert stored(tmp_path) == [*want, candidates(6)[5]]
    assert [path.name for path in tmp_path.iterdir()] == [JOURNAL]


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no search in"):
        open_store(Place(tmp_path / "none"), None)
    assert not (tmp_path / "none").exists()
    filled(tmp_path)
    with pytest.raises(StoreError, match="already holds a search") as caught:
        open_store(Place(tmp_path), SETTINGS)
    assert caught.value.hint == f"go on with it: pzc search --resume {tmp_path}"
