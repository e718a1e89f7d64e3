"""Statistics in one file, so that the processes of a search gather them once and hold them in memory once.

The file is safetensors, mapped into memory: its pages are the same for every process of a machine.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pzc.runtime.errors import PruningError
from pzc.runtime.files import apart, refused_as
from pzc.runtime.replacing import replacing
from pzc.runtime.statistics.activations import Table
from pzc.runtime.statistics.gather import Statistics

_WEIGHT = "W"


def private_folder() -> Path:
    """A folder for temporary files of this user that nobody else can read, write or put in its place.

    Raises PruningError where somebody else has made one of its name.
    """
    folder = Path(tempfile.gettempdir()) / f"pzc-{os.geteuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077 or found.st_uid != os.geteuid():
        raise PruningError(
            f"{folder} is not a folder that you alone may use", hint="remove it, or let TMPDIR name another place"
        )
    return folder


def shared(path: Path, about: str, gather: Callable[[], Statistics]) -> Statistics:
    """The statistics of a file, which is written first if it is not there or is about something else.

    Of several processes one gathers, and the others wait for it. `about` says what the statistics depend on.
    """
    with FileLock(path.with_name(f".{path.name}.lock")):
        found = _read(path, about)
        if found is None:
            _write(path, about, gather())
            found = _read(path, about)
    if found is None:
        raise PruningError(
            f"statistics cannot be read back from {path}", hint="let the variable TMPDIR name another folder"
        )
    return found


def _write(path: Path, about: str, statistics: Statistics) -> None:
    tensors = {
        f"{layer}/{leaf}": value
        for layer, table in statistics.tables.items()
        for leaf, value in (*table.items(), (_WEIGHT, statistics.weights[layer]))
    }
    counts = {name: str(getattr(statistics, name)) for name in ("windows", "seed", "blocks")}
    with refused_as(f"statistics cannot be shared in {path.parent}"), replacing(path) as partial:
        save_file(apart(tensors), partial, metadata={"about": about, "layers": "\n".join(statistics.tables), **counts})


def _read(path: Path, about: str) -> Statistics | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            kept = file.metadata() or {}
            if kept.get("about") != about:
                return None
            tables: dict[str, Table] = {layer: {} for layer in kept["layers"].split("\n")}
            for key in file.keys():  # noqa: SIM118 - a safe_open is no mapping
                layer, _, leaf = key.rpartition("/")
                tables[layer][leaf] = file.get_tensor(key)
    except (SafetensorError, KeyError):
        return None
    weights = {layer: table.pop(_WEIGHT) for layer, table in tables.items()}
    return Statistics(
        tables=tables,
        windows=int(kept["windows"]),
        seed=int(kept["seed"]),
        blocks=int(kept["blocks"]),
        weights=weights,
    )
