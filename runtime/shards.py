"""Safetensors shards read tensor by tensor, by plain file access at the offsets that their headers give.

Nothing is memory-mapped: pages of a mapped file count as memory of the process for as long as they are mapped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from pzc.runtime.errors import WITHOUT_STREAM, PruningError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The types of the format that torch's plain tensors have."""

_LARGEST_HEADER = 100_000_000
PIECE, _CONVERTED = 1 << 24, 1 << 20
"""Bytes that are copied, and values that are converted, at a time."""


@dataclass(frozen=True)
class Stored:
    """One tensor of a shard: its bytes are `[start, stop)` of the file. `dtype` is the format's own name."""

    file: Path
    key: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def torch_dtype(self) -> torch.dtype:
        """Raises PruningError for a type that torch's plain tensors lack."""
        if self.dtype not in DTYPES:
            raise PruningError(f"{self.key} is stored as {self.dtype}, which cannot be pruned", key=self.key)
        return DTYPES[self.dtype]


@dataclass(frozen=True)
class Shards:
    """The weights of a model: their files in order, the tensors by key, and the index where there is one."""

    files: tuple[Path, ...]
    tensors: Mapping[str, Stored]
    index: Path | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.files)


def open_shards(folder: Path) -> Shards:
    """Read the headers of the shards of a model's folder, and check them against the index and the files' sizes.

    Raises PruningError for a shard that is missing, cut short or no safetensors file, and for a tensor that the index
    promises and no shard has.
    """
    if (folder / SINGLE).is_file():
        headers = header_of(folder / SINGLE)
        return Shards((folder / SINGLE,), headers)
    index = folder / INDEX
    if not index.is_file():
        raise PruningError(f"{folder} holds no safetensors weights: neither {SINGLE} nor {INDEX}", hint=WITHOUT_STREAM)
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = tuple(folder / name for name in sorted(set(places.values())))
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise PruningError(f"{index} is no index of safetensors files") from error
    if any(file.parent != folder for file in files):
        raise PruningError(f"{index} names files outside its folder")
    tensors: dict[str, Stored] = {}
    for file in files:
        tensors |= header_of(file)
    for key, name in places.items():
        if key not in tensors or tensors[key].file.name != name:
            raise PruningError(f"{name} lacks the tensor {key} that {INDEX} promises", key=key)
    return Shards(files, tensors, index)


def header_of(file: Path) -> dict[str, Stored]:
    """The tensors of one file by their keys, in the order of their bytes. Raises PruningError for what is no whole
    safetensors file."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or not 0 < length <= min(size - 8, _LARGEST_HEADER):
                raise PruningError(f"the weights file {file} is damaged: it has no safetensors header")
            header = json.loads(stream.read(length))
    except FileNotFoundError as error:
        raise PruningError(f"the weights file {file} is missing") from error
    except (ValueError, RecursionError) as error:
        raise PruningError(f"the weights file {file} is damaged: its header is no JSON") from error
    try:
        found = [
            Stored(file, key, str(e["dtype"]), tuple(e["shape"]), *(8 + length + int(at) for at in e["data_offsets"]))
            for key, e in header.items()
            if key != "__metadata__"
        ]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise PruningError(f"the weights file {file} is damaged: its header describes no tensors") from error
    found.sort(key=lambda stored: (stored.start, stored.stop))
    end = 8 + length
    for stored in found:
        known = DTYPES.get(stored.dtype)
        fits = known is None or prod(stored.shape) * known.itemsize == stored.stop - stored.start
        if stored.start != end or not fits:
            raise PruningError(f"the weights file {file} is damaged at the tensor {stored.key}", key=stored.key)
        end = stored.stop
    if end != size:
        what = "cut short" if size < end else "longer than its header says"
        raise PruningError(f"the weights file {file} is damaged: it is {what}")
    return {stored.key: stored for stored in found}


def read(stored: Stored, *, pinned: bool = False) -> Tensor:
    """One tensor in memory, in its stored type; `pinned` for copies to an accelerator that need not be waited for."""
    with _opened(stored) as stream:
        return _filled(torch.empty(stored.shape, dtype=stored.torch_dtype, pin_memory=pinned), stored, stream)


def read_as(stored: Stored, dtype: torch.dtype) -> Tensor:
    """One tensor in memory, in another type: it is converted piece by piece, and never there in both."""
    if dtype == stored.torch_dtype:
        return read(stored)
    found = torch.empty(stored.shape, dtype=dtype)
    for into, piece in zip(found.view(-1).split(_CONVERTED), pieces_of(stored), strict=False):  # of nothing no piece
        into.copy_(piece)
    return found


def read_rows(stored: Stored, rows: Tensor) -> Tensor:
    """Some rows of a matrix, `[len(rows), columns]`, in memory and in its stored type; `rows` are int64 `[n]`, each
    once and ascending. Raises IndexError for a row that it doesn't have, as torch does."""
    if len(rows) and not 0 <= int(rows[0]) <= int(rows[-1]) < stored.shape[0]:
        raise IndexError(f"{stored.key} has {stored.shape[0]} rows")
    found = torch.empty((len(rows), *stored.shape[1:]), dtype=stored.torch_dtype)
    size = (stored.stop - stored.start) // stored.shape[0]
    gaps = (rows.diff() != 1).nonzero().flatten() + 1
    with _opened(stored) as stream:
        for run, into in zip(rows.tensor_split(gaps), found.tensor_split(gaps), strict=True):
            if len(run):
                stream.seek(stored.start + int(run[0]) * size)
                _filled(into, stored, stream)
    return found


def same_contents(one: Stored, other: Stored) -> bool:
    """Whether two tensors have the same type, shape and bytes."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    with one.file.open("rb") as first, other.file.open("rb") as second:
        first.seek(one.start)
        second.seek(other.start)
        for start in range(one.start, one.stop, PIECE):
            size = min(PIECE, one.stop - start)
            if first.read(size) != second.read(size):
                return False
    return True


def pieces_of(stored: Stored) -> Iterator[Tensor]:
    """A tensor's values in their stored type, some at a time: each piece until the next is asked for."""
    size = prod(stored.shape)
    buffer = torch.empty(min(size, _CONVERTED), dtype=stored.torch_dtype)
    with _opened(stored) as stream:
        for start in range(0, size, _CONVERTED):
            yield _filled(buffer[: size - start], stored, stream)


@contextmanager
def _opened(stored: Stored) -> Iterator[IO[bytes]]:
    """Its file, to be read from its first byte on."""
    with stored.file.open("rb", buffering=0) as stream:
        stream.seek(stored.start)
        yield stream


def _filled(tensor: Tensor, stored: Stored, stream: IO[bytes]) -> Tensor:
    if not fill(stream, tensor):
        raise PruningError(f"the weights file {stored.file} is damaged: it is cut short")
    return tensor


def fill(stream: Any, tensor: Tensor) -> bool:
    """Read a contiguous tensor's bytes from a binary stream; whether there were enough."""
    view = memoryview(as_bytes(tensor))
    while view:
        count = stream.readinto(view)
        if not count:
            return False
        view = view[count:]
    return True


def as_bytes(tensor: Tensor) -> Any:
    """The bytes of a contiguous tensor in memory, as a numpy array that shares them."""
    return tensor.reshape(-1).view(torch.uint8).numpy()


def will_need(tensors: Iterable[Stored]) -> None:
    """Have the system read these into its cache, which is no memory of this process, while something else goes on."""
    if not hasattr(os, "posix_fadvise"):
        return
    for stored in tensors:
        with stored.file.open("rb", buffering=0) as stream:
            os.posix_fadvise(stream.fileno(), stored.start, stored.stop - stored.start, os.POSIX_FADV_WILLNEED)
