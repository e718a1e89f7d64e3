"""The store of a run: an Optuna study in a journal file; a trial is a settled candidate.

A candidate is appended as one line when it is settled, so a run that is killed loses at most the one at work.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from pzc.search.candidate import Candidate, from_attributes

JOURNAL = "study.journal"
STUDY = "search"

_STATES = {"evaluated": TrialState.COMPLETE, "refused": TrialState.FAIL}


class StoreError(Exception):
    """A run that cannot be opened, with a hint where there is one."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Store:
    """The candidates of one run, in the order in which they were settled.

    Only one process at a time may hold a run. Raises StoreError when another does, when `folder` holds a run that
    was not asked for, or none that was. A run that ended before its settings were written never began: a new one may
    take its place.
    """

    def __init__(self, folder: Path, *, resume: bool) -> None:
        journal = folder / JOURNAL
        if resume and not journal.is_file():
            raise StoreError(f"there is no search to resume in {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(f"another process is working on {folder}") from None
        try:
            self._open(journal)
            if not resume and self.settings is not None:
                raise StoreError(f"{folder} already holds a search", f"go on with it: pzc search --resume {folder}")
        except BaseException:
            self.close()
            raise

    def _open(self, journal: Path) -> None:
        _mend(journal)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = JournalStorage(JournalFileBackend(str(journal)))
        self.study = optuna.create_study(storage=storage, study_name=STUDY, direction="minimize", load_if_exists=True)
        self.candidates: list[Candidate] = [_candidate(t) for t in self.study.get_trials(deepcopy=False)]

    @property
    def settings(self) -> dict[str, Any] | None:
        """What the run was started with, or None before it is set."""
        kept = self.study.user_attrs.get("settings")
        return json.loads(kept) if kept else None

    def set_settings(self, settings: dict[str, Any]) -> None:
        """Keep what the run was started with, and the hashes of its model and texts."""
        if settings != self.settings:
            self.study.set_user_attr("settings", json.dumps(settings, sort_keys=True))

    def add(self, candidate: Candidate) -> None:
        """Append a settled candidate. It is on disk when this returns."""
        attributes = asdict(candidate)
        del attributes["number"]
        state = _STATES.get(candidate.status, TrialState.PRUNED)
        self.study.add_trial(
            create_trial(
                state=state,
                value=candidate.fitness if state == TrialState.COMPLETE else None,
                user_attrs=json.loads(json.dumps(attributes)),
            )
        )
        self.candidates.append(candidate)

    def close(self) -> None:
        """Let other processes work on the run."""
        self._lock.release()


def _candidate(trial: FrozenTrial) -> Candidate:
    return from_attributes(trial.number, trial.user_attrs)


def _mend(journal: Path) -> None:
    """Drop a last line that was cut short, and a lock that its holder can no longer release."""
    content = journal.read_bytes() if journal.is_file() else b""
    if content and not content.endswith(b"\n"):
        with journal.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)
    journal.with_name(JOURNAL + ".lock").unlink(missing_ok=True)
