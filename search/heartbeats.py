"""Who is at work on a run: every worker sends a heartbeat, and without one for a minute it counts as gone."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import optuna

from pzc.runtime.processes import is_running, process_table
from pzc.search.errors import StoreError
from pzc.search.patient import LOST, PATIENCE, Patient, unanswered

BEAT = 15.0
"""Seconds between two heartbeats of a worker; without one for `PATIENCE` it counts as gone."""

STALE = 3600.0
"""Seconds after which a heartbeat that is seen once is taken for that of a worker that is gone."""

WORKER = "worker:"
"""What the names of notes with heartbeats begin with."""


class Workers:
    """The workers of a run, whose heartbeats stand among the study's notes, and this process as one of them.

    `lost` says why this worker's heartbeats no longer arrive: to the others it is gone.
    """

    def __init__(self, study: optuna.Study, notes: Callable[[], Mapping[str, Any]]) -> None:
        self.me = f"{process_table()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.lost: StoreError | None = None
        self._study = study
        self._notes = notes
        self._beats: dict[str, tuple[Any, float]] = {}
        self._changing: set[str] = set()

    @contextmanager
    def beating(self, led: Callable[[], float] = lambda: 0.0, interval: float = BEAT) -> Iterator[None]:
        """Send heartbeats while the context is open, with the seconds that this worker has led the run.

        The first is sent until it arrives, for a minute; one that fails later is made up for by the next.
        """
        done = threading.Event()

        def beat(when: float, study: Any = self._study) -> None:
            study.set_user_attr(WORKER + self.me, {"beat": when, "led": round(led(), 1)})

        def keep_beating() -> None:
            arrived = time.monotonic()
            while not done.wait(interval):
                try:
                    beat(time.time())
                    arrived, self.lost = time.monotonic(), None
                except Exception as error:
                    if time.monotonic() - arrived >= PATIENCE:
                        self.lost = error if isinstance(error, StoreError) else unanswered(error)

        beat(time.time(), Patient(self._study))
        thread = threading.Thread(target=keep_beating, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            with suppress(*LOST, OSError, StoreError):  # what ends the context is more worth saying
                beat(0.0)

    def spent(self) -> float:
        """Seconds of searching so far, by those who led the run."""
        return sum(float(kept.get("led", 0.0)) for kept in _kept(self._notes()).values())

    def at_work(self) -> list[str]:
        """Their names, from one look at the notes. A heartbeat that was not seen to change counts for gone when it is
        `STALE`."""
        known, now = self._notes(), time.time()
        at_work = {name: kept["beat"] for name, kept in _kept(known).items() if self.is_at_work(name, known)}
        return [name for name, beat in at_work.items() if name in self._changing or now - float(beat) < STALE]

    def is_at_work(self, worker: str, known: Mapping[str, Any]) -> bool:
        """Whether a worker is at work, as the notes `known` have it: in sight by its process, elsewhere by its
        heartbeat, whose clock is not trusted: what counts is whether it changes."""
        if worker == self.me:
            return True
        beat = known.get(WORKER + worker, {}).get("beat", 0.0)
        if beat == 0.0:
            return False
        where, pid, _ = worker.rsplit(":", 2)
        if where == process_table() and not is_running(int(pid)):
            return False
        last, since = self._beats.get(worker, (None, 0.0))
        if last != beat:
            self._beats[worker] = (beat, time.monotonic())
            if last is not None:
                self._changing.add(worker)
            return True
        return time.monotonic() - since < PATIENCE


def _kept(notes: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of each worker, by name."""
    return {name.removeprefix(WORKER): kept for name, kept in notes.items() if name.startswith(WORKER)}
