"""Blocks that a run in memory has pruned already, kept in a folder, so that a run that was cut off goes on behind them.

Of each block there is one safetensors file: `NAME/mask` is a layer's mask as bits (`mask_files.packed`), `NAME/weight`
its weight `[out, in]` in the model's own type, where weights are updated. The metadata say what else was found.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pzc.runtime.errors import PruningError
from pzc.runtime.files import refused_as
from pzc.runtime.models.layers import Layer
from pzc.runtime.pruning.block import Block
from pzc.runtime.pruning.mask_files import packed, unpacked
from pzc.runtime.replacing import settle


class Finished:
    """The finished blocks of one run, in a folder that is there and serves no other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def some(self) -> bool:
        """Whether any block is finished."""
        return any(self._folder.glob("block-*.safetensors"))

    def has(self, members: Sequence[Layer]) -> bool:
        """Whether a block with these layers is finished."""
        return self.block(members) is not None

    def block(self, members: Sequence[Layer]) -> Block | None:
        """What became of these layers, all of one block; None where that is not kept, or the file is damaged."""
        if not members:
            return None
        device = {layer.name: layer.parameter.device for layer in members}
        try:
            with safe_open(self._path(members), framework="pt") as stored:
                about = json.loads((stored.metadata() or {})["about"])
                bits = {layer: stored.get_tensor(f"{layer.name}/mask") for layer in members}
                masks = {x.name: unpacked(b, x.shape, x.name).to(device[x.name]) for x, b in bits.items()}
                weights = {name: stored.get_tensor(f"{name}/weight").to(device[name]) for name in about["updated"]}
                return Block(masks, weights, about["damped"], tuple(about["unreached"]))
        except (OSError, SafetensorError, PruningError, ValueError, RecursionError, LookupError, TypeError):
            return None

    def keep(self, members: Sequence[Layer], block: Block) -> None:
        """Keep a block that is finished, whole or not at all. Raises PruningError where that can't be done."""
        if not members:
            return
        types = {layer.name: layer.parameter.dtype for layer in members}
        tensors = {f"{name}/mask": packed(mask) for name, mask in block.masks.items()}
        for name, weight in block.weights.items():
            tensors[f"{name}/weight"] = weight.to("cpu", types[name]).contiguous()
        about = {
            "updated": list(block.weights),
            "damped": dict(block.damped),
            "unreached": list(block.unreached),
        }
        path = self._path(members)
        partial = path.with_suffix(".new")
        with refused_as(f"finished blocks cannot be kept in {self._folder}"):
            save_file(tensors, partial, {"about": json.dumps(about)})
            settle(partial)
            partial.replace(path)

    def _path(self, members: Sequence[Layer]) -> Path:
        return self._folder / f"block-{members[0].block:04d}.safetensors"
