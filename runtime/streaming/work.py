"""Where a run writes until it is done, and what it has done: what makes it resumable.

For an output NAME that is the folder `.NAME.partial-KIND-FINGERPRINT` beside it, with what is to be published in
`output/`, and all else in `work/`. The kind is how the run goes (`stream`, `blocks`); the fingerprint is of all that
the result depends on, so that another run never goes on from this one's work.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pzc.runtime.errors import PruningError
from pzc.runtime.files import refused_as

INNER = ("output", "work")
"""The folders in that of a run: what is to be published, and all else."""


class Journal:
    """Which stages are done, how far the one that runs is, and what they found: a JSON file that is replaced whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content: dict[str, Any] = {"done": {}, "values": {}, "seconds": {}}
        self._since = time.perf_counter()
        if path.is_file():
            self._content = _read(path)

    def done(self, stage: str) -> int:
        """How many steps of a stage are done."""
        return int(self._content["done"].get(stage, 0))

    def finish(self, stage: str, steps: int, **values: Any) -> None:
        """Note that so many steps of a stage are done, with what they found, and the time since the last note."""
        now = time.perf_counter()
        seconds = self._content["seconds"]
        seconds[stage] = seconds.get(stage, 0.0) + now - self._since
        self._since = now
        self._content["done"][stage] = steps
        self._content["values"] |= values
        fresh = self._path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as stream:
            json.dump(self._content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(self._path)

    @property
    def begun(self) -> bool:
        """Whether any block is done."""
        return bool(self._content["done"].keys() - {"embeddings"})

    def value(self, name: str, default: Any = None) -> Any:
        """What a step found."""
        return self._content["values"].get(name, default)

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each stage, those of runs that were cut off included."""
        return {stage: round(float(value), 3) for stage, value in self._content["seconds"].items()}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(content[name], dict) for name in ("done", "values", "seconds")):
            return dict(content)
    except (ValueError, RecursionError, LookupError, TypeError):
        pass
    raise PruningError(f"{path} is damaged", hint=f"delete {path.parent.parent} to begin anew")


def fingerprint(facts: Mapping[str, Any]) -> str:
    """A short hash of what a result depends on, 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def work_folder(output: Path, mark: str) -> Iterator[Path]:
    """The folder of the run `mark`, KIND-FINGERPRINT, that writes `output`, made if there is none. It stays when the
    context ends.

    Raises PruningError while another process is at it, and where there can be no such folder.
    """
    folder = _name(output, mark)
    with refused_as(f"{output} cannot be written"):
        folder.mkdir(parents=True, exist_ok=True)
        for inner in INNER:
            (folder / inner).mkdir(exist_ok=True)
    lock = FileLock(folder / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise PruningError(f"another process is writing {output} already, with the same options") from error
    try:
        yield folder
    finally:
        lock.release()


def unfinished(output: Path, mark: str) -> list[Path]:
    """What runs other than `mark` that were to write `output` have left unfinished beside it."""
    if not output.parent.is_dir():
        return []
    name = re.compile(rf"{re.escape(_name(output, '').name)}[a-z]+-[0-9a-f]{{16}}")
    found = [path for path in sorted(output.parent.iterdir()) if name.fullmatch(path.name)]
    return [path for path in found if path != _name(output, mark)]


def remove(folder: Path) -> None:
    """Remove a run's folder with all in it, unless a process is at it."""
    lock = FileLock(folder / "lock", timeout=0)
    try:
        with lock:
            clear(folder)
    except Timeout:
        return


def empty(folder: Path) -> None:
    """Begin one's own run anew."""
    for inner in INNER:
        shutil.rmtree(folder / inner)
        (folder / inner).mkdir()


def clear(folder: Path) -> None:
    """Remove the folder of one's own run."""
    shutil.rmtree(folder, ignore_errors=True)


def _name(output: Path, mark: str) -> Path:
    return output.with_name(f".{output.name}.partial-{mark}")
