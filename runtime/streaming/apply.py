"""Putting a file of masks on a model that is larger than memory: one decoder block at a time, from shard to shard."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pzc.runtime.files import refused_as
from pzc.runtime.models.layers import Layers, check_finite, zeros
from pzc.runtime.models.passes import Progress, silent
from pzc.runtime.pruning.block import Block
from pzc.runtime.pruning.mask_files import check_shapes, unpacked
from pzc.runtime.saving.checkpoint import check_free, check_output
from pzc.runtime.scoring.values import write_masked
from pzc.runtime.shards import header_of, read
from pzc.runtime.streaming.model import Shell, check_inside
from pzc.runtime.streaming.stream import weights_output


@dataclass(frozen=True)
class Applied:
    """A masked model that is on the disk but has no name yet: zeros of each masked layer before and after, and the
    layers' sizes; `save(record)` gives it its name."""

    before: Mapping[str, int]
    after: Mapping[str, int]
    sizes: Mapping[str, int]
    save: Callable[[Mapping[str, Any]], None]


@contextmanager
def stream_masks(
    shell: Shell, file: Path, output: Path, *, overwrite: bool = False, progress: Progress = silent
) -> Iterator[Applied]:
    """Put the masks of a file on a model, from shards to shards. The folder `output` appears when `save` is called, or
    not at all.

    Raises PruningError, before anything is written, where the model has no layer in its blocks that a mask is for, or
    one of another shape.
    """
    check_output(output, overwrite=overwrite)
    check_inside(shell.layers)
    stored = header_of(file)
    layers = check_shapes(shell.layers.layers, file)
    final = output.absolute()
    partial = final.with_name(f".{final.name}.partial-{os.getpid()}")
    before: dict[str, int] = {}
    after: dict[str, int] = {}
    try:
        with refused_as(f"{output} cannot be written"):
            partial.mkdir(parents=True)
            written = weights_output(shell, partial)
            for index in range(len(shell.blocks)):
                members = tuple(layer for layer in layers if layer.block == index)
                some = Layers(shell.layers.blocks, members)
                with shell.block(index, following=index + 1 if index + 1 < len(shell.blocks) else None):
                    check_finite(members)
                    before |= zeros(some)
                    for layer in members:
                        mask = unpacked(read(stored[layer.name]), layer.shape, layer.name)
                        write_masked(layer.weight, layer.weight, mask.to(layer.weight.device))
                    after |= zeros(some)
                    written.write(index, members, Block({}))
                progress("blocks", index + 1, len(shell.blocks))
            written.rest()

            def save(record: Mapping[str, Any]) -> None:
                check_free(output, overwrite=overwrite)
                written.save(record, final, output)

            yield Applied(before, after, {layer.name: layer.size for layer in layers}, save)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
