"""Statistics of gradients kept on disk: they cost a backward pass a window, and depend on the weights and the windows
alone.

A file is named by the SHA-256 of the configuration, of every parameter and buffer, as it is in memory, of the windows'
tokens and of the names of the layers and leaves: what is different in any of them is another file, and nothing can be
stale. Leaves of users are never kept, since their code may change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pzc.compiler.leaves import LEAVES
from pzc.runtime.files import apart, refused_as
from pzc.runtime.models.layers import Layer
from pzc.runtime.replacing import replacing
from pzc.runtime.shards import as_bytes
from pzc.runtime.statistics.activations import Table
from pzc.runtime.statistics.leaves import COLLECTORS
from pzc.runtime.statistics.unreached import MARKS, marks_in

_FORMAT = "pzc-gradients/3"

METADATA = {"format": _FORMAT}
"""What a file says of itself."""


def keepable(leaves: Collection[str]) -> frozenset[str]:
    """The leaves that are kept: of the tier "backward", but for those of users."""
    return frozenset(name for name in leaves if LEAVES[name].tier == "backward" and name not in COLLECTORS)


def file_of(folder: Path, model: nn.Module, layers: Sequence[Layer], windows: Tensor, leaves: Collection[str]) -> Path:
    """Where the statistics of these gradients are, or would be."""
    return named(folder, model.config, model.state_dict().items(), layers, windows, leaves)


def named(
    folder: Path,
    config: Any,
    state: Iterable[tuple[str, Tensor]],
    layers: Sequence[Layer],
    windows: Tensor,
    leaves: Collection[str],
) -> Path:
    """The same for a model that is given by its configuration and its state: every parameter and buffer with its name,
    in order."""
    digest = hashlib.sha256(_FORMAT.encode())
    digest.update(config.to_json_string().encode())
    for name, value in chain(state, [("windows", windows)]):
        plain = value.detach().cpu().contiguous()
        digest.update(f"\n{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(as_bytes(plain))
    digest.update("\n".join([*sorted(leaves), "", *(layer.name for layer in layers)]).encode())
    return folder / f"gradients-{digest.hexdigest()}.safetensors"


def load_kept(file: Path, layers: Sequence[Layer], leaves: Collection[str]) -> dict[str, Table] | None:
    """The tables by layer, each on its layer's device; None where there is no such file, or one that is damaged."""
    try:
        stored = load_file(file)
        return {
            layer.name: {leaf: stored[f"{leaf}/{layer.name}"].to(layer.parameter.device) for leaf in leaves}
            | marks_in(stored, layer)
            for layer in layers
        }
    except (OSError, SafetensorError, KeyError):
        return None


def flattened(tables: Mapping[str, Table], leaves: Collection[str]) -> dict[str, Tensor]:
    """The leaves of some layers as a file holds them, by LEAF/LAYER, with the marks of what nothing reached."""
    return apart(
        {
            f"{leaf}/{name}": table[leaf]
            for name, table in tables.items()
            for leaf in (*leaves, *MARKS)
            if leaf in table or leaf not in MARKS
        }
    )


def keep(file: Path, tables: Mapping[str, Table], leaves: Collection[str]) -> None:
    """Write the leaves of all layers, whole or not at all. Raises PruningError when that can't be done."""
    tensors = flattened(tables, leaves)
    with refused_as(f"statistics cannot be kept in {file.parent}"):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as partial:
            save_file(tensors, partial, metadata=METADATA)
