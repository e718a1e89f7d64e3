"""What a streaming run writes of a pruned model, block by block: its shards, or only its masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from pzc.runtime.files import refused_as, save_tensors
from pzc.runtime.models.layers import Layer
from pzc.runtime.pruning.block import Block
from pzc.runtime.pruning.mask_files import metadata_of, packed, unpacked
from pzc.runtime.replacing import replacing, settle
from pzc.runtime.saving.checkpoint import publish
from pzc.runtime.scoring.values import write_masked
from pzc.runtime.shard_writing import Copy, Piece, write_joined
from pzc.runtime.shards import Shards, header_of, read
from pzc.runtime.streaming.model import Shell


class Output(Protocol):
    """Where one of a run's results goes."""

    def write(self, index: int, members: tuple[Layer, ...], block: Block) -> None:
        """Keep the block that is in memory, whose layers `members` have been pruned as `block` says."""

    def settle(self) -> None:
        """Have what was written on the disk, before anyone says that it is."""

    def pruned(self, index: int, following: int | None) -> Any:
        """A context in which a block that was written is in memory as it was pruned."""

    def rest(self) -> None:
        """Write what is in no block."""

    def save(self, record: Mapping[str, Any], place: Path, given: Path) -> None:
        """Give the whole its name `place`, which the user wrote as `given`, with its record."""


@dataclass(frozen=True)
class Weights:
    """The model's shards, in a folder that becomes a model's."""

    shell: Shell
    copy: Copy
    folder: Path
    settings: Callable[[Path], None]

    def write(self, index: int, members: tuple[Layer, ...], block: Block) -> None:
        for slot in self.shell.blocks[index]:
            for key, tensor in slot.source.split(slot.tensor).items():
                self.copy.write(key, tensor)

    def settle(self) -> None:
        self.copy.settle()

    @contextmanager
    def pruned(self, index: int, following: int | None) -> Iterator[nn.Module]:
        source = Shards(self.shell.shards.files, self.copy.places)
        with self.shell.block(index, following=following, source=source) as block:
            yield block

    def rest(self) -> None:
        inside = {part.key for slots in self.shell.blocks for slot in slots for part in slot.source.parts}
        for key, stored in self.shell.shards.tensors.items():
            if key not in inside:
                self.copy.copy(stored)
        self.copy.settle()

    def save(self, record: Mapping[str, Any], place: Path, given: Path) -> None:
        self.settings(self.folder)
        publish(self.folder, record, place, given)


@dataclass(frozen=True)
class Masks:
    """A file of masks. Those of each block are in a file of their own until all are known."""

    shell: Shell
    folder: Path

    def write(self, index: int, members: tuple[Layer, ...], block: Block) -> None:
        save_tensors(self._path(index), {name: packed(mask) for name, mask in block.masks.items()})
        settle(self._path(index))

    def settle(self) -> None:
        """Nothing: every file was settled when it was written."""

    @contextmanager
    def pruned(self, index: int, following: int | None) -> Iterator[nn.Module]:
        members = self.shell.layers.of_block(index)
        stored = header_of(self._path(index))
        with self.shell.block(index, following=following) as block:
            for layer in members:
                mask = unpacked(read(stored[layer.name]), layer.shape, layer.name)
                write_masked(layer.weight, layer.weight, mask.to(layer.weight.device))
            yield block

    def rest(self) -> None:
        """Nothing: a mask file holds the layers in the blocks alone."""

    def save(self, record: Mapping[str, Any], place: Path, given: Path) -> None:
        layers = self.shell.layers.layers
        stored = {k: v for index in range(len(self.shell.blocks)) for k, v in header_of(self._path(index)).items()}
        pieces = [Piece(layer.name, stored[layer.name]) for layer in sorted(layers, key=lambda layer: layer.name)]
        with refused_as(f"{place} cannot be written"):
            place.parent.mkdir(parents=True, exist_ok=True)
            with replacing(place) as whole:
                write_joined(whole, pieces, metadata_of({layer.name: layer.shape for layer in layers}, record))

    def _path(self, index: int) -> Path:
        return self.folder / f"masks-{index:04d}.safetensors"
