"""The store of a run: an Optuna study, in a journal file of the run's folder or in any storage that Optuna knows.

A trial is a slot of a generation. A worker claims a slot by a running trial; of two claims on one slot the trial with
the lower number counts, so that no lock is held while a candidate is measured. What is settled is in the trial when
`tell` returns. Workers send a heartbeat; the claims of one that is gone are free again.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from pzc.runtime.processes import is_running
from pzc.search.candidate import Candidate, from_attributes
from pzc.search.proposals import Proposal

JOURNAL = "study.journal"
STUDY = "search"

STALE_LOCK = 10
"""Seconds after which the lock of a journal is taken from a process that was killed while it wrote."""

BEAT, PATIENCE = 15.0, 60.0
"""Seconds between two heartbeats of a worker, and without one until it counts as gone."""

_STATES = {"evaluated": TrialState.COMPLETE, "refused": TrialState.FAIL}
_SETTINGS, _WORKER = "settings", "worker:"


class StoreError(Exception):
    """A run that cannot be opened, with a hint where there is one."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Place:
    """Where a run is stored: a folder with a journal, or a study at the URL of another storage."""

    folder: Path
    url: str | None = None
    study: str = STUDY

    def __str__(self) -> str:
        return f"study {self.study} at {self.url}" if self.url else str(self.folder)


@dataclass(frozen=True)
class Claim:
    """A slot that this worker is to settle, and the trial that says so."""

    slot: int
    trial: int


class _Journal(JournalFileBackend):
    """A journal whose last line may have been cut short, by a full disk or a machine that went down: it is dropped
    before the next is written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own_lock = JournalFileOpenLock(str(path), grace_period=STALE_LOCK)
        super().__init__(str(path), lock_obj=self._own_lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        if not self._whole():
            self._own_lock.acquire()
            try:
                if not self._whole():  # nobody else is writing now, so the line will never be finished
                    os.truncate(self._path, self._path.read_bytes().rfind(b"\n") + 1)
            finally:
                self._own_lock.release()
        super().append_logs(logs)

    def _whole(self) -> bool:
        with self._path.open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                return True
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"


class Store:
    """The trials of one run. Several processes may work on it at once.

    Raises StoreError when `place` holds a run that was not asked for, or none that was. A run that ended before its
    settings were written never began: a new one may take its place.
    """

    def __init__(self, place: Place, *, resume: bool) -> None:
        self.place = place
        self.worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._beats: dict[str, tuple[Any, float]] = {}
        self._seen = 0
        self._open: dict[int, int] = {}
        self._known: dict[int, dict[int, FrozenTrial]] = {}
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            storage = _storage(place, resume=resume)
            if resume and place.study not in optuna.get_all_study_names(storage):
                raise StoreError(f"there is no search to resume in {place}")
            self.study = optuna.create_study(
                storage=storage, study_name=place.study, direction="minimize", load_if_exists=True
            )
        except (StorageInternalError, SQLAlchemyError, ImportError, ValueError, KeyError) as error:
            reason = str(error).strip().split("\n")[0]
            raise StoreError(f"{place} cannot be opened: {reason}", "is the URL one that Optuna knows?") from error
        if not resume and self.settings is not None:
            raise StoreError(f"{place} already holds a search", f"go on with it: pzc search --resume {place.folder}")

    @property
    def settings(self) -> dict[str, Any] | None:
        """What the run was started with, or None before it is set."""
        kept = self.study.user_attrs.get(_SETTINGS)
        return json.loads(kept) if kept else None

    def set_settings(self, settings: Mapping[str, Any]) -> None:
        """Keep what the run was started with, and the hashes of its model and texts."""
        if dict(settings) != self.settings:
            self.study.set_user_attr(_SETTINGS, json.dumps(settings, sort_keys=True))

    # Reading

    def generations(self) -> dict[int, tuple[dict[int, list[Candidate]], int]]:
        """What is settled of each generation, by slot: the drafts that only repeated others, then the candidate; and
        how many slots the generation has. A run whose budget was changed may have planned it with fewer before."""
        found: dict[int, tuple[dict[int, list[Candidate]], int]] = {}
        for trial in self._trials():
            if _is_settled(trial):
                generation, slot, size = trial.user_attrs["place"]
                slots, planned = found.get(generation, ({}, 0))
                slots.setdefault(slot, _candidates(trial))
                found[generation] = slots, max(size, planned)
        return found

    def settled(self, generation: int) -> dict[int, Candidate]:
        """What became of the slots of a generation so far."""
        found: dict[int, Candidate] = {}
        for trial in self._of(generation):
            if _is_settled(trial):
                found.setdefault(trial.user_attrs["place"][1], from_attributes(trial.user_attrs["result"]))
        return found

    def _of(self, generation: int) -> list[FrozenTrial]:
        """The trials of a generation, oldest first; a late worker may claim a slot of one when the next has begun.

        Only trials that are new or were not finished when last seen are asked for: to list all of them takes longer
        the longer a run goes on.
        """
        storage, study = self.study._storage, self.study._study_id
        with suppress(KeyError):  # until there is no such number yet
            while True:
                self._open[self._seen] = storage.get_trial_id_from_study_id_trial_number(study, self._seen)
                self._seen += 1
        for number, identity in list(self._open.items()):
            trial = storage.get_trial(identity)
            self._known.setdefault(trial.user_attrs["place"][0], {})[number] = trial
            if trial.state.is_finished():
                del self._open[number]
        return list(self._known.get(generation, {}).values())

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    # Working

    def claim(self, proposals: Sequence[Proposal]) -> Claim | None:
        """A slot that nobody has settled or is at work on; None where there is none left, for now at least."""
        generation = proposals[0].candidate.generation
        while True:
            taken = self._claims(generation)
            free = next((slot for slot in range(len(proposals)) if slot not in taken), None)
            if free is None:
                return None
            nonce = uuid.uuid4().hex
            self.study.add_trial(
                create_trial(
                    state=TrialState.RUNNING,
                    user_attrs={
                        "place": [generation, free, len(proposals)],
                        "claim": [self.worker, nonce],
                        **_shown(proposals[free]),
                    },
                )
            )
            mine = next(t.number for t in reversed(self._of(generation)) if t.user_attrs["claim"][1] == nonce)
            if self._claims(generation).get(free) == mine:
                return Claim(free, mine)
            self.study.tell(mine, state=TrialState.FAIL)

    def _claims(self, generation: int) -> dict[int, int]:
        """The trial that settled each slot of a generation, or is at work on it."""
        workers = self.study.user_attrs
        settled: dict[int, int] = {}
        running: dict[int, int] = {}
        for trial in self._of(generation):
            slot = trial.user_attrs["place"][1]
            if _is_settled(trial):
                settled.setdefault(slot, trial.number)
            elif not trial.state.is_finished() and self._alive(trial.user_attrs["claim"][0], workers):
                running.setdefault(slot, trial.number)
        return {**running, **settled}

    def rung(self, claim: Claim, number: int, loss: float) -> None:
        """Note how a race stands."""
        self._trial(claim).report(loss, number)

    def tell(self, claim: Claim, settled: Candidate) -> None:
        """Keep what became of a slot. It is stored when this returns. Who was taken for dead may find it settled."""
        if claim.slot in self.settled(settled.generation):
            self.study.tell(claim.trial, state=TrialState.FAIL)
            return
        state = _STATES.get(settled.status, TrialState.PRUNED)
        self._trial(claim).set_user_attr("result", json.loads(json.dumps(_attributes(settled))))
        value = settled.fitness if state == TrialState.COMPLETE else None
        self.study.tell(claim.trial, value, state=state)

    def _trial(self, claim: Claim) -> optuna.Trial:
        study = self.study  # a trial that was added has no other handle than its identity in the storage
        identity = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, claim.trial)
        return optuna.Trial(study, identity)

    # Workers

    @contextmanager
    def beating(self, led: Callable[[], float] = lambda: 0.0, interval: float = BEAT) -> Iterator[None]:
        """Send heartbeats while the context is open, with the seconds that this worker has led the run."""
        done = threading.Event()

        def beat(when: float) -> None:
            self.study.set_user_attr(_WORKER + self.worker, {"beat": when, "led": round(led(), 1)})

        def keep_beating() -> None:
            while not done.wait(interval):
                beat(time.time())

        beat(time.time())
        thread = threading.Thread(target=keep_beating, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            beat(0.0)

    def spent(self) -> float:
        """Seconds of searching so far, by those who led the run."""
        workers = (v for k, v in self.study.user_attrs.items() if k.startswith(_WORKER))
        return sum(float(worker.get("led", 0.0)) for worker in workers)

    def workers(self) -> int:
        """How many are at work."""
        found = self.study.user_attrs
        names = [name.removeprefix(_WORKER) for name in found if name.startswith(_WORKER)]
        return sum(self._alive(name, found) for name in names)

    def _alive(self, worker: str, known: Mapping[str, Any]) -> bool:
        """Whether a worker is at work: on this machine by its process, elsewhere by its heartbeat, whose clock is not
        trusted: what counts is whether it changes."""
        if worker == self.worker:
            return True
        beat = known.get(_WORKER + worker, {}).get("beat", 0.0)
        if beat == 0.0:
            return False
        host, pid, _ = worker.rsplit(":", 2)
        if host == socket.gethostname() and not is_running(int(pid)):
            return False
        last, since = self._beats.get(worker, (None, 0.0))
        if last != beat:
            self._beats[worker] = (beat, time.monotonic())
            return True
        return time.monotonic() - since < PATIENCE


def _storage(place: Place, *, resume: bool) -> BaseStorage | str:
    if place.url:
        return place.url
    journal = place.folder / JOURNAL
    if resume and not journal.is_file():
        raise StoreError(f"there is no search to resume in {place.folder}")
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
        return JournalStorage(_Journal(journal))
    except OSError as error:
        raise StoreError(f"{place.folder} cannot be written to: {error.strerror}") from error


def _attributes(c: Candidate) -> dict[str, Any]:
    return asdict(c)


def _shown(proposal: Proposal) -> dict[str, Any]:
    """What is known of a slot before it is settled, for whoever looks at the study."""
    c = proposal.candidate
    return {
        "source": f"{c.formula} per {c.per}",
        "operator": c.operator,
        "parents": list(c.parents),
        "island": c.island,
        "complexity": c.complexity,
        "repeated": [_plain(r) for r in proposal.repeated],
    }


def _plain(c: Candidate) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(_attributes(c)))
    return found


def _is_settled(trial: FrozenTrial) -> bool:
    return trial.state.is_finished() and "result" in trial.user_attrs


def _candidates(trial: FrozenTrial) -> list[Candidate]:
    repeated = trial.user_attrs.get("repeated", [])
    return [from_attributes(a) for a in (*repeated, trial.user_attrs["result"])]
