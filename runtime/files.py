"""Writing files: what stands in the way, and JSON and CSV as their standards have them."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from pzc.runtime.errors import PruningError


def check_writable(path: Path) -> None:
    """Raise PruningError now if nothing could be written to `path` later: its nearest folder that exists is tried, and
    that of what it is a link to."""
    for place in dict.fromkeys((path.absolute(), path.resolve())):
        parent = next((p for p in place.parents if p.exists()), Path("/"))
        name = place.relative_to(parent).parts[0]
        try:
            if len(os.fsencode(f".{name}.partial-stream-{'0' * 16}")) > os.pathconf(parent, "PC_NAME_MAX"):
                raise PruningError(f"{path} cannot be written: the name is too long")
            with tempfile.TemporaryFile(dir=parent):
                pass
        except OSError as error:
            raise PruningError(f"{path} cannot be written: {reason_of(error)}: {parent}") from error


def check_space(path: Path, needed: int) -> None:
    """Raise PruningError now if so many bytes could not be written to `path`."""
    parent = next((p for p in path.absolute().parents if p.exists()), Path("/"))
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise PruningError(
            f"{path} needs {size_text(needed)}, but the disk has {size_text(free)} left: {parent}",
            hint="name a folder on another disk, or write masks alone with --mask-only",
        )


def size_text(count: int) -> str:
    """Bytes as people read them: `58 kB`, `1.2 GB`."""
    unit, size = next(((u, s) for u, s in (("GB", 1e9), ("MB", 1e6)) if count >= s), ("kB", 1e3))
    return f"{count / size:.3g} {unit}"


def apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors takes them: contiguous, in main memory, and each alone there. They are copied only where
    they are not so: layers share what they read, and the gradients of a model are as large as the model."""
    found: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.cpu().contiguous()
        storage = plain.untyped_storage()
        found[name] = plain if storage.nbytes() == plain.nbytes and storage.data_ptr() not in taken else plain.clone()
        taken.add(found[name].untyped_storage().data_ptr())
    return found


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file. What the system says against it is an OSError, as of any other file."""
    try:
        save_file(dict(tensors), path)
    except SafetensorError as error:
        if (number := _system_error(error)) is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def _system_error(error: Exception) -> int | None:
    """What the system said, as safetensors tells it."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


@contextmanager
def refused_as(message: str) -> Iterator[None]:
    """Turn what the system says against writing into a PruningError: `message`, and why."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise PruningError(f"{message}: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """Why something could not be written, in a few words."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    number = _system_error(error)
    reason = reason if number is None else os.strerror(number)
    return "the disk is full" if "No space left" in reason else reason[:1].lower() + reason[1:]


def strict_json(value: Any) -> str:
    """Indented JSON in which numbers that are not finite are null."""
    return json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False)


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """CSV (RFC 4180, but lines end as text does): a head, empty cells for what is missing or not finite, numbers so
    that they read back the same, lists joined by spaces."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows([_cell(row.get(column)) for column in columns] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    found = finite(value)
    return " ".join(map(str, found)) if isinstance(found, list) else found


def finite(value: Any) -> Any:
    """A value as JSON holds it: numbers that are not finite are None, mappings dicts, tuples lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(inner) for key, inner in value.items()}
    return [finite(inner) for inner in value] if isinstance(value, list | tuple) else value
