"""The file of a run: a line of JSON for every operation on its study, as Optuna's own journal has it, so that anything
that reads such journals reads ours.

Unlike Optuna's, it survives a last line that was cut short, waits for the disk only where something is settled, and
may hand the lines on in less memory than they have as they stand. Who writes holds a lock on the file itself, which
the kernel frees when a process is killed; who only reads opens it for nothing else.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from optuna.storages.journal import BaseJournalBackend

from pzc.search.errors import StoreError
from pzc.search.heartbeats import WORKER

Line = dict[str, Any]


class Journal(BaseJournalBackend):
    """A journal at `path`, which is made by the first line. Every line goes through `slim` before Optuna keeps it."""

    def __init__(self, path: Path, slim: Callable[[Line], Line] = lambda line: line) -> None:
        self._path = path
        self._slim = slim
        self._lines, self._offset = 0, 0

    def read_logs(self, log_number_from: int) -> Iterator[Line]:
        """The lines from this number on, as far as they are whole: a last one without its end is still being written,
        or never will be. Raises StoreError for one that has its end but is no operation."""
        if log_number_from < self._lines:
            self._lines, self._offset = 0, 0
        with suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                wanted = self._lines >= log_number_from
                read = self._slim(self._read(line)) if wanted else {}
                self._lines += 1
                self._offset += len(line)
                if wanted:
                    yield read

    def _read(self, line: bytes) -> Line:
        with suppress(ValueError, RecursionError):
            read = json.loads(line)
            if isinstance(read, dict) and "op_code" in read:
                return read
        raise StoreError(
            f"line {self._lines + 1} of {self._path} is damaged",
            f"what `head -n {self._lines}` prints of it is whole; with that in its place --resume goes on from there",
        )

    def append_logs(self, logs: list[Line]) -> None:
        """Add lines. Those that settle something are on the disk when this returns; without power the others may be
        lost, and nobody misses them."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with self._locked() as file:
            if (end := _end(file)) != file.seek(0, os.SEEK_END):
                file.truncate(end)  # nobody else is writing now, so a line without an end will never have one
            file.write(lines.encode("utf-8"))
            file.flush()
            fcntl.flock(file, fcntl.LOCK_UN)  # who waits for the disk keeps nobody waiting
            if any(map(_settles, logs)):
                os.fsync(file.fileno())

    def _locked(self) -> BinaryIO:
        """The file to add to, when nobody else does. Raises StoreError where it cannot be written to or locked."""
        try:
            file = self._path.open("a+b")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise StoreError(f"{self._path} cannot be written to: {error.strerror}") from error
        return file


def _end(file: BinaryIO) -> int:
    """Where the last whole line of a file ends."""
    end = file.seek(0, os.SEEK_END)
    if not end:
        return 0
    file.seek(end - 1)
    if file.read(1) == b"\n":
        return end
    file.seek(0)
    return file.read().rfind(b"\n") + 1


def _settles(log: Line) -> bool:
    """Whether a line ends a trial or says something of the whole study; heartbeats alone are not worth a wait."""
    if "trial_id" in log:
        return "state" in log
    return "user_attrs" not in log and not any(name.startswith(WORKER) for name in log.get("user_attr", {}))
