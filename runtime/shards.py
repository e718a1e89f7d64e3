"""Safetensors shards read and written tensor by tensor, by plain file access at the offsets that their headers give.

Nothing is memory-mapped: pages of a mapped file count as memory of the process for as long as they are mapped.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from pzc.runtime.errors import WITHOUT_STREAM, PruningError
from pzc.runtime.files import settle

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

_DTYPES = {
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
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_LARGEST_HEADER = 100_000_000
_PIECE, _CONVERTED = 1 << 24, 1 << 20


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
        if self.dtype not in _DTYPES:
            raise PruningError(f"{self.key} is stored as {self.dtype}, which cannot be pruned", key=self.key)
        return _DTYPES[self.dtype]


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
    except (ValueError, LookupError, TypeError, AttributeError) as error:
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
    except ValueError as error:
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
        known = _DTYPES.get(stored.dtype)
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
    for into, piece in zip(found.view(-1).split(_CONVERTED), _pieces(stored), strict=False):  # of nothing no piece
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
        for start in range(one.start, one.stop, _PIECE):
            size = min(_PIECE, one.stop - start)
            if first.read(size) != second.read(size):
                return False
    return True


def _pieces(stored: Stored) -> Iterator[Tensor]:
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


@dataclass(frozen=True)
class Piece:
    """A tensor of one file that goes into another under a key of its own."""

    key: str
    stored: Stored


def write_joined(path: Path, pieces: Sequence[Piece], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file of tensors that are in other files, a piece at a time, and have it on the disk."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for piece in pieces:
        size = piece.stored.stop - piece.stored.start
        entry = {"dtype": piece.stored.dtype, "shape": list(piece.stored.shape), "data_offsets": [at, at + size]}
        header[piece.key] = entry
        at += size
    with path.open("wb") as stream:
        stream.write(_encoded(header))
        for piece in pieces:
            _pour(piece.stored, stream)
    settle(path)


def _pour(stored: Stored, stream: IO[bytes]) -> None:
    """Write a tensor's bytes as they are."""
    with stored.file.open("rb") as source:
        source.seek(stored.start)
        left = stored.stop - stored.start
        while left:
            piece = source.read(min(left, _PIECE))
            if not piece:
                raise PruningError(f"the weights file {stored.file} is damaged: it is cut short")
            stream.write(piece)
            left -= len(piece)


def _encoded(header: Mapping[str, Any]) -> bytes:
    """The bytes before the tensors: the header's length, and the header, padded to a multiple of 8."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


class Copy:
    """The same shards in another folder: same names, same order of tensors, each written at its place.

    A tensor named in `dtypes` is stored in that type instead. Until every tensor has been written the files have holes;
    to write a tensor again writes the same bytes again, so that a run that was killed goes on anywhere.
    """

    def __init__(self, shards: Shards, folder: Path, dtypes: Mapping[str, torch.dtype]) -> None:
        self.places: dict[str, Stored] = {}
        self._folder = folder
        self._dirty: set[Path] = set()
        for file in shards.files:
            tensors = [stored for stored in shards.tensors.values() if stored.file == file]
            self._lay_out(file, tensors, dtypes)
        if shards.index is not None:
            self._write_index(shards, shards.index)

    def write(self, key: str, tensor: Tensor) -> None:
        """Write a tensor, converted to the type it is stored in."""
        place = self.places[key]
        contents = tensor.detach().to("cpu", place.torch_dtype).contiguous()
        with place.file.open("r+b", buffering=0) as stream:
            stream.seek(place.start)
            view = memoryview(as_bytes(contents))
            while view:
                view = view[stream.write(view) :]
        self._dirty.add(place.file)

    def copy(self, stored: Stored) -> None:
        """Write a tensor of the source as it is: byte for byte where the type stays."""
        place = self.places[stored.key]
        with place.file.open("r+b") as stream:
            stream.seek(place.start)
            if place.dtype == stored.dtype:
                _pour(stored, stream)
            else:
                for piece in _pieces(stored):
                    stream.write(memoryview(as_bytes(piece.to(place.torch_dtype))))
        self._dirty.add(place.file)

    def settle(self) -> None:
        """Have what was written on the disk, before anyone says that it is."""
        for file in self._dirty:
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        self._dirty.clear()

    def _lay_out(self, file: Path, tensors: list[Stored], dtypes: Mapping[str, torch.dtype]) -> None:
        target = self._folder / file.name
        with file.open("rb") as stream:
            raw = stream.read(8)
            raw += stream.read(int.from_bytes(raw, "little"))
        wanted = {t.key: _NAMES[dtypes[t.key]] if t.key in dtypes else t.dtype for t in tensors}
        sizes = {t.key: t.stop - t.start for t in tensors}
        if any(wanted[t.key] != t.dtype for t in tensors):
            sizes |= {t.key: prod(t.shape) * _DTYPES[wanted[t.key]].itemsize for t in tensors if t.key in dtypes}
            raw = _encoded(_described(json.loads(raw[8:]), tensors, wanted, sizes))
        at = len(raw)
        for t in tensors:
            self.places[t.key] = Stored(target, t.key, wanted[t.key], t.shape, at, at + sizes[t.key])
            at += sizes[t.key]
        with target.open("r+b" if target.exists() else "w+b") as stream:
            stream.write(raw)
            stream.truncate(at)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, at)  # a disk that is too small shows now, not hours later

    def _write_index(self, shards: Shards, index: Path) -> None:
        target = self._folder / index.name
        if all(place.dtype == shards.tensors[key].dtype for key, place in self.places.items()):
            shutil.copyfile(index, target)
            return
        content = json.loads(index.read_text(encoding="utf-8"))
        total = sum(place.stop - place.start for place in self.places.values())
        content["metadata"] = {**content.get("metadata", {}), "total_size": total}
        target.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _described(
    old: Mapping[str, Any], tensors: list[Stored], dtypes: Mapping[str, str], sizes: Mapping[str, int]
) -> dict[str, Any]:
    """The header of tensors whose types and sizes may have changed, with what the old one says beside."""
    header: dict[str, Any] = {"__metadata__": old["__metadata__"]} if "__metadata__" in old else {}
    at = 0
    for t in tensors:
        header[t.key] = {"dtype": dtypes[t.key], "shape": list(t.shape), "data_offsets": [at, at + sizes[t.key]]}
        at += sizes[t.key]
    return header
