"""One comparison group for the whole model, when only one block is in memory: scores go to the disk, and the score of
the last weight to go is found in files.

The result is that of `masks.joint_masks`, ties included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from pzc.runtime.errors import PruningError
from pzc.runtime.scoring.masks import drop_lowest, kth_by_radix, pruned_count
from pzc.runtime.shards import as_bytes, fill

Limit = tuple[float, int]
"""The largest score that is pruned of a group, and how many of those that tie at it go when a layer is reached."""

_CHUNK = 1 << 22


@dataclass(frozen=True)
class ScoreFile:
    """The scores of a layer of `shape` `(out, in)`, float32, in a file of nothing else."""

    path: Path
    shape: tuple[int, int]

    def write(self, scores: Tensor) -> None:
        with self.path.open("wb") as stream:
            stream.write(memoryview(as_bytes(scores.to("cpu", torch.float32).contiguous())))

    def read(self) -> Tensor:
        """All of them, `[out, in]`."""
        return torch.cat(list(self.split(_CHUNK))).view(self.shape)

    def numel(self) -> int:
        return prod(self.shape)

    def split(self, size: int) -> Iterator[Tensor]:
        """So many at a time, in their order."""
        with self.path.open("rb", buffering=0) as stream:
            for start in range(0, self.numel(), size):
                chunk = torch.empty(min(size, self.numel() - start))
                if not fill(stream, chunk):
                    raise PruningError(f"{self.path} is cut short", hint="delete its folder")
                yield chunk


def limits_of(files: Sequence[ScoreFile], sparsity: float) -> list[Limit]:
    """For each of the layers that are one group, in their order, what `drop_lowest` needs to prune its share."""
    count = pruned_count(sum(file.numel() for file in files), sparsity)
    if count == 0:
        return [(float("-inf"), 0)] * len(files)
    limit = kth_by_radix(files, count)
    below, ties = [], []
    for file in files:
        counts = [
            (int(torch.count_nonzero(c < limit)), int(torch.count_nonzero(c == limit))) for c in file.split(_CHUNK)
        ]
        below.append(sum(b for b, _ in counts))
        ties.append(sum(t for _, t in counts))
    left = count - sum(below)
    found: list[Limit] = []
    for tied in ties:
        found.append((limit, left))
        left -= min(tied, left)
    return found


def kept(file: ScoreFile, limit: Limit) -> Tensor:
    """The mask of a layer, bool `[out, in]`."""
    drop, _ = drop_lowest(file.read().view(-1), *limit)
    return ~drop.view(file.shape)
