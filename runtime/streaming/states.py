"""Hidden states between decoder blocks, kept in files: of each block's input one file, one batch of windows after
another.

They are in no memory but a batch's, and are there still when the process is killed. The files are read and written
plainly; the system's cache keeps what fits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from pzc.runtime.errors import PruningError
from pzc.runtime.shards import as_bytes, fill


class States:
    """Sets of hidden states in a folder, by name and by the block that reads them."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._folder = folder
        self._device = device

    def write(self, name: str, block: int, batches: Iterable[Tensor]) -> None:
        """Keep the batches, each taken from the iterator when the one before it is on the disk."""
        with self._path(name, block).open("wb", buffering=0) as stream:
            for batch in batches:
                contents = batch.detach().to("cpu").contiguous()
                line = json.dumps({"dtype": str(contents.dtype).removeprefix("torch."), "shape": list(contents.shape)})
                stream.write(line.encode().ljust(_LINE - 1) + b"\n")
                view = memoryview(as_bytes(contents))
                while view:
                    view = view[stream.write(view) :]
            stream.write(_END)

    def read(self, name: str, block: int) -> Iterator[Tensor]:
        """The batches in their order, on the device. Raises PruningError for a file that lacks its end, as one may be
        after a machine was cut off."""
        path = self._path(name, block)
        with path.open("rb", buffering=0) as stream:
            while (line := stream.read(_LINE)) != _END:
                try:
                    form = json.loads(line)
                except (ValueError, RecursionError):
                    raise cut_short(path) from None
                batch = torch.empty(form["shape"], dtype=getattr(torch, form["dtype"]))
                if not fill(stream, batch):
                    raise cut_short(path)
                yield batch.to(self._device)

    def drop(self, name: str, block: int) -> None:
        """Forget the states of one block's input."""
        self._path(name, block).unlink(missing_ok=True)

    def _path(self, name: str, block: int) -> Path:
        return self._folder / f"{name}-{block:04d}.states"


def cut_short(path: Path) -> PruningError:
    """For a file of a run's work that was not written to its end."""
    return PruningError(f"{path} is cut short", hint=f"delete {path.parent.parent} to begin anew")


_LINE = 128
_END = b"end".ljust(_LINE - 1) + b"\n"
