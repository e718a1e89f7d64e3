"""Statistics of gradients kept on the disk (`kept`), of a model that is streamed: the same files under the same names
as those of models in memory, read and written a block at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from pzc.runtime.errors import PruningError
from pzc.runtime.files import refused_as, save_tensors
from pzc.runtime.pruning.request import Request
from pzc.runtime.replacing import replacing
from pzc.runtime.shard_writing import Piece, write_joined
from pzc.runtime.shards import Stored, header_of
from pzc.runtime.statistics.activations import Table
from pzc.runtime.statistics.kept import METADATA, flattened, keepable, named
from pzc.runtime.streaming.model import Shell


def kept_leaves(request: Request) -> frozenset[str]:
    """The leaves that a run keeps, or takes from an earlier one."""
    return keepable(request.early) if request.cache else frozenset()


def kept_file(shell: Shell, request: Request, windows: Tensor | None) -> Path | None:
    """Where the statistics of a run's gradients are, or would be; None where they are not to be kept. Reads all weights
    once."""
    leaves = kept_leaves(request)
    if request.cache is None or windows is None or not leaves:
        return None
    return named(request.cache, shell.model.config, _state(shell), shell.layers.layers, windows, leaves)


def kept_statistics(file: Path | None, shell: Shell, leaves: Collection[str]) -> dict[str, Stored]:
    """Where each layer's leaves are in a file, by LEAF/LAYER; nothing where there is no such file, or it is damaged."""
    if file is None or not file.is_file():
        return {}
    with suppress(PruningError):
        found = header_of(file)
        if all(f"{leaf}/{layer.name}" in found for leaf in leaves for layer in shell.layers.layers):
            return found
    return {}


def keep_block(work: Path, index: int, tables: Mapping[str, Table], leaves: Collection[str]) -> None:
    """Keep a block's leaves in the folder of a run, until those of all blocks are there."""
    save_tensors(_part(work, index), flattened(tables, leaves))


def join_blocks(work: Path, depth: int, file: Path) -> None:
    """Write what was kept of every block as one file, whole or not at all. The parts stay until `drop_blocks`."""
    pieces = [Piece(key, stored) for index in range(depth) for key, stored in header_of(_part(work, index)).items()]
    with refused_as(f"statistics cannot be kept in {file.parent}"):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as partial:
            write_joined(partial, pieces, METADATA)


def drop_blocks(work: Path, depth: int) -> None:
    """Remove what was kept of every block."""
    for index in range(depth):
        _part(work, index).unlink(missing_ok=True)


def _part(work: Path, index: int) -> Path:
    return work / f"gradients-{index:04d}.safetensors"


def _state(shell: Shell) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer as it would be in memory, one at a time."""
    slots = {id(slot.tensor): slot for slot in shell.slots.values()}
    for name, tensor in shell.model.state_dict(keep_vars=True).items():
        slot = slots.get(id(tensor))
        yield name, tensor if slot is None else slot.source.read().to(tensor.dtype)
