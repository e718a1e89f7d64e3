"""Any number of workers on one study, killed or not: the run is the one that a single worker would have made."""

from __future__ import annotations

import multiprocessing
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState, create_trial

from pzc.compiler.load import inline
from pzc.search.candidate import REFERENCE, Candidate
from pzc.search.errors import StoreError
from pzc.search.heartbeats import STALE
from pzc.search.place import JOURNAL, Place
from pzc.search.plan import Plan
from pzc.search.predictors import READS
from pzc.search.proposals import Proposal
from pzc.search.replay import catch_up, stored_state
from pzc.search.settings import Settings, given
from pzc.search.store import Claim, Store
from pzc.search.worker import work
from tests.searches import made, timeless, tiny_fitness

PLAN = Plan(population=8, islands=2, migration=2, migrants=2, generations=3, seed=5, seed_zoo=True)
START = replace(given(Settings()), published=given(Settings()).published[:8])
PATIENT = 600
"""Seconds that a process may take on a machine that is busy with other things."""

Process = Any


def worker(place: Place, last: int | None, ready: Any, dead: Any) -> None:
    """What each process does when all are ready. `last` is the number of its races in whose middle it is killed; the
    others are slow until that has happened, so that the run is not over before."""
    torch.set_num_threads(1)
    store = Store(place, resume=True)
    store.rung = slow(dead) if last is None else killed_in(last)  # type: ignore[method-assign]
    fitness = tiny_fitness()
    ready.wait(PATIENT)
    with store.workers.beating():
        work(stored_state(store, PLAN), store, START, fitness, lambda: False, lambda: None)


def slow(dead: Any) -> Callable[[Claim, int, float], None]:
    return lambda claim, number, loss: None if dead.is_set() else time.sleep(0.1)


def killed_in(race: int) -> Callable[[Claim, int, float], None]:
    races: set[int] = set()

    def rung(claim: Claim, number: int, loss: float) -> None:
        races.add(claim.trial)
        if len(races) == race and number == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    return rung


def together(place: Place, workers: Sequence[int | None]) -> list[int | None]:
    """Let several processes work on one study until each has ended; their exit codes."""
    fork = multiprocessing.get_context("fork")
    ready, dead = fork.Barrier(len(workers)), fork.Event()
    running = [fork.Process(target=worker, args=(place, last, ready, dead)) for last in workers]
    for process in running:
        process.start()
    end = time.monotonic() + PATIENT
    while multiprocessing.active_children() and time.monotonic() < end:  # which also waits for those that were killed
        if not any(process.is_alive() for process, last in zip(running, workers, strict=True) if last is not None):
            dead.set()
        time.sleep(0.05)
    return [process.exitcode for process in running]


def begun(place: Place) -> Place:
    """A study that processes may join."""
    Store(place, resume=False).set_settings({"seed": PLAN.seed})
    return place


def found(place: Place) -> list[Candidate]:
    return timeless(stored_state(Store(place, resume=True), PLAN).candidates)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[Candidate]:
    """What one process finds that nothing disturbs."""
    place = begun(Place(tmp_path_factory.mktemp("alone")))
    assert together(place, [None]) == [0]
    assert max(c.generation for c in found(place)) == PLAN.generations - 1
    return found(place)


@pytest.mark.parametrize("workers", [[None, None], [None, 2], [None, 1, 3, None]])
def test_processes_on_one_journal(workers: list[int | None], alone: list[Candidate], tmp_path: Path) -> None:
    place = begun(Place(tmp_path))
    assert together(place, workers) == [0 if last is None else -signal.SIGKILL for last in workers]
    assert_one_run(place, alone, killed=len(workers) - workers.count(None))


def strict(population: Sequence[Candidate], raced: Sequence[Candidate]) -> dict[str, float]:
    """Limits that turn away whatever loses more than most of the population."""
    return {name: sorted(c.predictors[name] for c in population)[len(population) // 4] for name in READS}


@pytest.fixture
def turning_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafts are chosen from and turned away from the first generation on; processes that are forked do so too."""
    for module in ("proposals", "screening"):
        monkeypatch.setattr(f"pzc.search.{module}.INSTRUCTIVE", 4)
    monkeypatch.setattr("pzc.search.screening.limits", strict)


@pytest.mark.usefixtures("turning_away")
def test_processes_that_turn_drafts_away(tmp_path: Path) -> None:
    alone = begun(Place(tmp_path / "alone"))
    assert together(alone, [None]) == [0]
    candidates = found(alone)
    assert len({c.status for c in candidates} & {"evaluated", "predicted worse"}) == 2
    assert any(c.attempt for c in candidates if c.status == "evaluated" and not c.published)  # in another's place
    killed = begun(Place(tmp_path / "killed"))
    assert together(killed, [None, 2]) == [0, -signal.SIGKILL]
    assert_one_run(killed, candidates, killed=1)


def assert_one_run(place: Place, alone: list[Candidate], killed: int) -> None:
    """The run is whole and as it should be; slots were settled once, those of killed workers by others."""
    assert found(place) == alone
    trials = Store(place, resume=True).study.get_trials()
    settled = Counter(tuple(t.user_attrs["place"][:2]) for t in trials if "result" in t.user_attrs)
    assert set(settled.values()) == {1}
    assert {(c.generation, c.slot) for c in alone} == set(settled)
    assert all(t.state.is_finished() for t in trials)  # those of killed workers were ended by others
    left = [tuple(t.user_attrs["place"][:2]) for t in trials if "result" not in t.user_attrs]
    assert len(left) >= killed
    assert set(left) <= set(settled)
    by = {t.user_attrs["worker"] for t in trials}
    assert len(by) > killed


# One after the other in one process: what a store says of the workers of other machines

SETTLED = [made(slot, losses=(float(slot),)) for slot in range(3)]
PROPOSED = [Proposal(replace(c, status="proposed"), inline("abs(W) * X").core) for c in SETTLED]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(Place(tmp_path), resume=False)


def elsewhere(store: Store, name: str = "far:1:abc") -> Store:
    """The same study as a worker on another machine sees it, which is at work and has just said so."""
    other = Store(store.place, resume=True)
    other.workers.me = name
    beat(other, 12345.0)
    return other


def beat(store: Store, when: float) -> None:
    store.study.set_user_attr(f"worker:{store.workers.me}", {"beat": when, "led": 0.0})


def slots(store: Store, of: Sequence[Proposal] = PROPOSED) -> list[int]:
    """The slots that a worker gets until none is left, in order."""
    taken = []
    while (claim := store.claim(of)) is not None:
        taken.append(claim.slot)
    return sorted(taken)


def test_a_worker_elsewhere_keeps_its_slot_while_its_heart_beats(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clock may be wrong by years: what counts is that its heartbeat changes, seen by one's own clock."""
    clock = [100.0]
    monkeypatch.setattr("pzc.search.heartbeats.time.monotonic", lambda: clock[0])
    other = elsewhere(store)
    theirs = other.claim(PROPOSED)
    assert theirs is not None
    assert slots(store) == sorted({0, 1, 2} - {theirs.slot})
    for skew in (-9e8, 9e8, 0.5, 1e9):
        clock[0] += 59
        beat(other, skew)
        assert store.claim(PROPOSED) is None
        assert len(store.workers.at_work()) == 1
    clock[0] += 59
    assert store.claim(PROPOSED) is None
    clock[0] += 2
    assert store.workers.at_work() == []
    assert slots(store) == [theirs.slot]


def test_a_worker_that_has_ended_leaves_its_slot_at_once(store: Store) -> None:
    other = elsewhere(store)
    assert slots(other) == [0, 1, 2]
    assert store.claim(PROPOSED) is None
    beat(other, 0.0)
    assert slots(store) == [0, 1, 2]


def test_a_container_of_the_same_name_is_judged_by_its_heartbeat(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its processes have numbers of their own: that there is none of this number here says nothing."""
    gone = 2**22 + 1  # Linux counts no further than 2 ** 22
    monkeypatch.setattr("pzc.search.heartbeats.process_table", lambda: "one/7")
    there = elsewhere(store, f"one/8:{gone}:abc")
    theirs = there.claim(PROPOSED)
    assert theirs is not None
    assert slots(store) == sorted({0, 1, 2} - {theirs.slot})
    elsewhere(store, f"one/7:{gone}:def")
    beat(there, time.time())
    assert store.workers.at_work() == [there.workers.me]


def test_one_look_takes_a_heartbeat_of_hours_ago_for_gone(store: Store) -> None:
    """As after a power cut: the process table has another name since, and nobody sees the heartbeat stand still."""
    there = elsewhere(store)
    beat(there, time.time() - STALE + 600)
    assert store.workers.at_work() == [there.workers.me]
    assert store.workers.at_work() == [there.workers.me]
    beat(there, time.time() - STALE - 1)
    assert store.workers.at_work() == [there.workers.me]  # it changes: only its clock is wrong
    looking = Store(store.place, resume=True)
    assert [looking.workers.at_work() for _ in range(2)] == [[], []]


def test_a_worker_of_this_machine_is_known_by_its_process(store: Store) -> None:
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=time.sleep, args=(PATIENT,))
    process.start()
    host = store.workers.me.split(":")[0]
    other = elsewhere(store, f"{host}:{process.pid}:abc")
    assert slots(other) == [0, 1, 2]
    assert store.claim(PROPOSED) is None
    process.kill()
    process.join()
    assert slots(store) == [0, 1, 2]


def test_of_two_claims_on_a_slot_the_first_counts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both look, both find the last slot free, and both claim it."""
    for _ in range(2):
        alone = store.claim(PROPOSED)
        assert alone is not None
        store.tell(alone, SETTLED[alone.slot])
    other, look, raced = elsewhere(store), store._claims, []

    def overtaken(generation: int) -> dict[int, int]:
        taken = look(generation)
        if not raced:
            raced.append(other.claim(PROPOSED))
        return taken

    monkeypatch.setattr(store, "_claims", overtaken)
    assert store.claim(PROPOSED) is None
    (theirs,) = raced
    assert theirs.slot == 2
    assert [t.state.name for t in store.study.get_trials()] == ["COMPLETE", "COMPLETE", "RUNNING", "FAIL"]
    assert store.settled(0) == dict(enumerate(SETTLED[:2]))
    other.tell(theirs, SETTLED[2])
    assert store.settled(0) == dict(enumerate(SETTLED))


def test_a_late_claim_does_not_hide_the_next_generation(store: Store) -> None:
    """A worker that looked before the last slot was settled claims it when another is a generation further."""
    following = [replace(p, candidate=replace(p.candidate, generation=1)) for p in PROPOSED]
    for c in SETTLED:
        claim = store.claim(PROPOSED)
        assert claim is not None
        store.tell(claim, c)
    first = store.claim(following)
    assert first is not None
    store.tell(first, replace(SETTLED[0], generation=1))
    other = elsewhere(store)
    late = create_trial(state=TrialState.FAIL, user_attrs={"place": [0, 2, 3], "worker": other.workers.me})
    other.study.add_trial(late)
    assert sorted(store.settled(1)) == [0]
    assert slots(store, following) == [1, 2]


def lost(store: Store) -> tuple[Store, Claim]:
    """A worker elsewhere that was taken for dead, with its claim on a slot that another has settled since."""
    other = elsewhere(store)
    late = other.claim(PROPOSED[:1])
    assert late is not None
    beat(other, 0.0)
    again = store.claim(PROPOSED[:1])
    assert again is not None
    assert again.slot == late.slot == 0
    store.tell(again, SETTLED[0])
    return other, late


def test_what_is_settled_stays_when_a_lost_worker_comes_back(store: Store) -> None:
    """A machine that slept through its heartbeats may measure otherwise in the last bits; the first result counts."""
    other, late = lost(store)
    other.tell(late, replace(SETTLED[0], losses=(0.25,)))
    assert store.settled(0) == {0: SETTLED[0]}
    assert Store(store.place, resume=True).generation(0) == ({0: [SETTLED[0]]}, 1)


def test_what_a_lost_worker_left_is_ended_with_the_generation(store: Store) -> None:
    """Who looks at the study sees nobody at work on it, and a worker that was only slow goes on to the next."""
    other, late = lost(store)
    store.close(0)
    assert [t.state.name for t in store.study.get_trials()] == ["FAIL", "COMPLETE"]
    other.rung(late, 1, 2.0)
    other.tell(late, SETTLED[0])
    other.close(0)
    assert other.settled(0) == store.settled(0) == {0: SETTLED[0]}


def test_workers_spread_over_the_slots(store: Store) -> None:
    """What is chosen for a slot that another gets is lost: a few seldom choose for the same."""
    of = [Proposal(replace(p.candidate, slot=slot), p.core) for slot, p in enumerate(PROPOSED * 4)]
    others = [elsewhere(store, f"{name}:1:abc") for name in ("aa", "bb", "cc")]
    for other in others:
        beat(other, time.time())
    chosen: list[int] = []

    def choose(p: Proposal) -> Proposal:
        chosen.append(p.candidate.slot)
        return p

    for other in others:
        assert other.claim(of, choose) is not None
    assert len(chosen) == len(set(chosen)) == 3
    assert max(chosen) - min(chosen) > 3


def test_a_generation_keeps_the_slots_that_it_was_begun_with(store: Store) -> None:
    """Whatever bounds other workers know: who claims the first slot says how many there are."""
    first = store.claim(PROPOSED[:2])
    assert first is not None
    assert elsewhere(store).claim(PROPOSED) is None
    assert store.generation(0) == ({}, 2)
    store.tell(first, SETTLED[0])
    assert store.claim(PROPOSED) is None
    assert slots(store, PROPOSED[:2]) == [1]
    assert {t.user_attrs["place"][2] for t in store.study.get_trials()} == {2}


def test_of_two_that_begin_a_generation_the_first_says_how_many_slots_it_has(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, look, raced = elsewhere(store), store._claims, []

    def overtaken(generation: int) -> dict[int, int]:
        taken = look(generation)
        if not raced:
            raced.append(other.claim(PROPOSED[:2]))
        return taken

    monkeypatch.setattr(store, "_claims", overtaken)
    assert store.claim(PROPOSED) is None
    assert [t.state.name for t in store.study.get_trials()] == ["RUNNING", "FAIL"]
    assert store.generation(0)[1] == 2


def test_bounds_that_change_while_a_helper_works(tmp_path: Path) -> None:
    """A leader goes on with more in the middle of a helper's generation: both know the same run."""
    plan = replace(PLAN, generations=100, evaluations=11)
    place, fitness = begun(Place(tmp_path)), tiny_fitness()
    leader, helper = (Store(place, resume=True) for _ in range(2))
    leading, helping = (stored_state(leader, plan) for _ in range(2))
    left = [3]

    def few() -> bool:
        left[0] -= 1
        return left[0] < 0

    def lead() -> bool:
        if left[0] == 3 and helping.measured and len(helping.pending) == 1:
            leader.set_settings({**(leader.settings or {}), "evaluations": 20})
            catch_up(leading, leader)
            work(leading, leader, START, fitness, few, lambda: None)
        return False

    work(helping, helper, START, fitness, lead, lambda: None)
    assert left[0] < 0
    assert helping.measured == 20
    assert timeless(helping.candidates) == found(place)
    catch_up(leading, leader)
    assert timeless(leading.candidates) == found(place)


def test_a_candidate_that_is_not_where_it_belongs_is_named(store: Store) -> None:
    for c in SETTLED:
        claim = store.claim([replace(p, candidate=replace(p.candidate, generation=REFERENCE)) for p in PROPOSED])
        assert claim is not None
        store.tell(claim, replace(c, generation=REFERENCE, number=c.number + (c.slot == 2)))
    with pytest.raises(StoreError, match="candidate 3 stands where 2 belongs, in slot 2 of generation -2"):
        stored_state(store, PLAN)


# Storages that are away for a while

AWAY = StorageInternalError("the server is gone")


def failing(method: Callable[..., Any], times: int, *, after: bool = False) -> Callable[..., Any]:
    """A call that fails so many times before it is carried out, or after: then its answer was lost."""
    left = [times]

    def call(*given: Any, **more: Any) -> Any:
        found = method(*given, **more) if after or not left[0] else None
        if left[0]:
            left[0] -= 1
            raise AWAY
        return found

    return call


def test_a_storage_that_is_away_for_a_moment_is_asked_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pzc.search.patient.RETRY", 0.001)
    storage = store._storage._storage
    for name in ("create_new_trial", "get_trial", "set_trial_user_attr", "set_trial_state_values"):
        monkeypatch.setattr(storage, name, failing(getattr(storage, name), 3))
    for c in SETTLED:
        claim = store.claim(PROPOSED)
        assert claim is not None
        store.tell(claim, c)
    assert store.settled(0) == dict(enumerate(SETTLED))
    monkeypatch.setattr("pzc.search.patient.PATIENCE", 0.01)
    monkeypatch.setattr(storage, "get_trial", failing(storage.get_trial, 1000))
    store._open = {0: 0}
    with pytest.raises(StoreError, match="the storage does not answer: the server is gone"):
        store.slots()


def test_an_answer_that_was_lost_does_no_harm(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim was made and the result was kept, but the worker has not heard of it and tries again."""
    monkeypatch.setattr("pzc.search.patient.RETRY", 0.001)
    storage = store._storage._storage
    for c in SETTLED:
        for name in ("create_new_trial", "set_trial_state_values"):
            monkeypatch.setattr(storage, name, failing(getattr(storage, name), 1, after=True))
        claim = store.claim(PROPOSED)
        assert claim is not None
        assert claim.slot == c.slot
        store.tell(claim, c)
    assert store.claim(PROPOSED) is None
    assert Store(store.place, resume=True).settled(0) == dict(enumerate(SETTLED))


def test_who_begins_while_the_storage_is_away_waits_for_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pzc.search.patient.RETRY", 0.001)
    for name in ("set_user_attr", "set_metric_names"):
        monkeypatch.setattr(store.study, name, failing(getattr(store.study, name), 3))
    with store.workers.beating():
        assert store.workers.me in Store(store.place, resume=True).workers.at_work()
    store.set_settings({**(store.settings or {}), "objective": "kl"})
    assert store.study.metric_names == ["e^KL"]


def test_heartbeats_go_on_when_one_has_failed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """And when none arrives for so long that the others take the worker for dead, its next claim says so."""
    away = threading.Event()
    arrived: list[float] = []
    failed: list[float] = []

    def beat(key: str, value: dict[str, float]) -> None:
        if away.is_set():
            failed.append(value["beat"])
            raise AWAY
        arrived.append(value["beat"])

    monkeypatch.setattr(store.study, "set_user_attr", beat)
    with store.workers.beating(interval=0.005):
        away.set()
        until(lambda: bool(failed))
        away.clear()
        before = len(arrived)
        until(lambda: len(arrived) >= before + 3)
        assert store.claim(PROPOSED) is not None
        monkeypatch.setattr("pzc.search.heartbeats.PATIENCE", 0.02)
        away.set()
        until(lambda: store.workers.lost is not None)
        with pytest.raises(StoreError, match="the storage does not answer: the server is gone"):
            store.claim(PROPOSED)
        away.clear()
        until(lambda: store.workers.lost is None)
        assert store.claim(PROPOSED[:1]) is None
    assert arrived[-1] == 0.0


# The command line


OPTIONS = ["--windows", "1", "--fitness-windows", "4", "--held-out-windows", "2", "--length", "8", "--quiet"]
OPTIONS += ["--space", "elementwise", "--population", "6", "--evaluations", "14", "--seed", "3", "--threads", "1"]


def search(*options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pzc", "search", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)


def done(process: subprocess.Popen[bytes]) -> None:
    _, problems = process.communicate(timeout=PATIENT)
    assert process.returncode == 0, problems.decode()


def hall(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / "hall_of_fame").iterdir())}


def children(process: subprocess.Popen[bytes]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENT
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def wait_for(condition: Callable[[], bool | None], process: subprocess.Popen[bytes]) -> None:
    for _ in range(PATIENT * 20):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def claimed(run: Path, pid: int) -> bool:
    """Whether a process has claimed a slot of a run."""
    journal = run / JOURNAL
    return journal.is_file() and f":{pid}:".encode() in b"".join(
        line for line in journal.read_bytes().splitlines() if b'"place"' in line
    )


def moved_on(process: subprocess.Popen[bytes]) -> None:
    """Let a stopped process go on for a moment: it may have been stopped while it held the journal's lock."""
    process.send_signal(signal.SIGCONT)
    time.sleep(0.002)
    process.send_signal(signal.SIGSTOP)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the processes of a process are not listed here")
def test_one_seed_gives_one_hall_of_fame(tmp_path: Path) -> None:
    """Byte for byte: for one process; for two, of which one is killed; for four, of which the one that leads is killed
    and the run resumed."""
    one, two, four = (tmp_path / name for name in ("1", "2", "4"))
    done(search(*OPTIONS, "--run", str(one)))
    assert hall(one)

    process = search(*OPTIONS, "--workers", "2", "--run", str(two))
    wait_for(lambda: bool(children(process)), process)
    process.send_signal(signal.SIGSTOP)  # so that there is something left to do when the helper has started
    (helper,) = children(process)
    wait_for(lambda: claimed(two, helper) or moved_on(process), process)
    os.kill(helper, signal.SIGKILL)
    process.send_signal(signal.SIGCONT)
    done(process)
    assert hall(two) == hall(one)

    process = search(*OPTIONS, "--workers", "4", "--run", str(four))
    wait_for(lambda: len(children(process)) == 3 and claimed(four, process.pid), process)
    process.kill()
    process.communicate()
    done(search("--resume", str(four), "--quiet"))
    assert hall(four) == hall(one)


# A database

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))


def postgres(command: str) -> str | None:
    """A program of PostgreSQL; Debian keeps its newest outside of the path."""
    return shutil.which(command) or next((str(b / command) for b in reversed(BINARIES) if (b / command).exists()), None)


@dataclass(frozen=True)
class Server:
    """A database server: `create()` gives the URL of a new database."""

    create: Callable[[], str]
    restart: Callable[[], None]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A PostgreSQL server on a socket in a folder of its own."""
    pytest.importorskip("psycopg", reason="the driver of PostgreSQL is not installed: pip install 'pzc[postgresql]'")
    initdb, pg_ctl = postgres("initdb"), postgres("pg_ctl")
    if not initdb or not pg_ctl:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(tempfile.gettempdir()) / f"pzc-pg-{os.getpid()}"  # a socket's path may have 107 characters
    folder.mkdir(mode=0o700)
    before: list[str] = []
    user = pwd.getpwuid(os.getuid()).pw_name
    if os.getuid() == 0:  # the server refuses to run as root
        user = "postgres"
        try:
            shutil.chown(folder, user)
        except LookupError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        before = ["runuser", "-u", user, "--"]

    def run(*command: str) -> None:
        subprocess.run([*before, *command], check=True, capture_output=True, timeout=PATIENT, cwd=folder)

    try:
        run(initdb, "--pgdata", f"{folder}/data", "--auth", "trust", "--no-sync", "--username", user)
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        run(pg_ctl, "start", "--wait", "--pgdata", f"{folder}/data", "--options", options, "--log", f"{folder}/log")
        import psycopg

        def create() -> str:
            with psycopg.connect(f"host={folder} dbname=postgres user={user}", autocommit=True) as connection:
                name = f"run{time.monotonic_ns()}"
                connection.execute(f"CREATE DATABASE {name}".encode())
            return f"postgresql+psycopg://{user}@/{name}?host={folder}"

        def restart() -> None:
            pg_ctl_on = [pg_ctl, "--wait", "--pgdata", f"{folder}/data"]
            run(*pg_ctl_on, "stop", "--mode", "immediate")
            run(*pg_ctl_on, "start", "--options", options, "--log", f"{folder}/log")

        yield Server(create, restart)
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            run(pg_ctl, "stop", "--mode", "immediate", "--pgdata", f"{folder}/data")
        shutil.rmtree(folder)


@pytest.mark.parametrize("workers", [[None, 2], [None, 2, None, None]])
def test_processes_on_one_database(
    workers: list[int | None], server: Server, alone: list[Candidate], tmp_path: Path
) -> None:
    place = begun(Place(tmp_path, server.create(), "shared"))
    assert together(place, workers) == [0 if last is None else -signal.SIGKILL for last in workers]
    assert_one_run(place, alone, killed=1)


def test_a_server_that_goes_down_and_comes_back(server: Server, tmp_path: Path) -> None:
    store = Store(Place(tmp_path, server.create(), "shared"), resume=False)
    for c in SETTLED:
        claim = store.claim(PROPOSED)
        assert claim is not None
        server.restart()
        store.tell(claim, c)
    assert Store(store.place, resume=True).settled(0) == dict(enumerate(SETTLED))


def test_a_study_that_is_not_there_is_not_made_by_asking(server: Server, tmp_path: Path) -> None:
    import optuna

    url = server.create()
    begun(Place(tmp_path, url, "first"))
    with pytest.raises(StoreError, match="there is no search `frist` at") as caught:
        Store(Place(tmp_path, url, "frist"), resume=True)
    assert caught.value.hint == "--study names one of first"
    assert optuna.get_all_study_names(url) == ["first"]
