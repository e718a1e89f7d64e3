"""Safetensors files written tensor by tensor from others: several joined, or the same shards with other contents."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from pzc.runtime.errors import PruningError
from pzc.runtime.replacing import settle
from pzc.runtime.shards import DTYPES, PIECE, Shards, Stored, as_bytes, pieces_of

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


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
            piece = source.read(min(left, PIECE))
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
                for piece in pieces_of(stored):
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
            sizes |= {t.key: prod(t.shape) * DTYPES[wanted[t.key]].itemsize for t in tensors if t.key in dtypes}
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
