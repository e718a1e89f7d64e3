"""Masks in a file of their own, a bit a weight, and putting them on a model.

`pzc-mask/1` is one safetensors file. For each layer, by its dotted name, it holds a uint8 tensor `[⌈out · in / 8⌉]`:
the mask `[out, in]` row after row, weight 8k + i in bit i (of value 2^i) of byte k, set where the weight is kept; the
bits after the last weight are zero. The metadata, all text: `format`; `layers`, JSON that gives each layer its
`[out, in]`; `about`, JSON about the run: where it is known the `model` with its `sha256`, the `metric` with its
`formula`, and the `target`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pzc.runtime.errors import PruningError
from pzc.runtime.files import check_writable, reason_of, refused_as
from pzc.runtime.models.layers import Layer, find_layers
from pzc.runtime.replacing import replacing, settle
from pzc.runtime.scoring.values import write_masked

FORMAT = "pzc-mask/1"


@dataclass(frozen=True)
class MaskFile:
    """What a mask file holds: bool masks `[out, in]` by layer, true where a weight stays, and where they are from."""

    masks: Mapping[str, Tensor]
    about: Mapping[str, Any]

    @property
    def sha256(self) -> str | None:
        """The hash of the model's weights that the masks were made for, where it is known."""
        model = self.about.get("model")
        return model.get("sha256") if isinstance(model, dict) else None


def write_masks(path: Path | str, masks: Mapping[str, Tensor], about: Mapping[str, Any] | None = None) -> Path:
    """Write bool masks `[out, in]` by layer name to a file, whole or not at all; `about` is anything that JSON holds.

    Raises PruningError when the file cannot be written, TypeError for what is no such mask, ValueError for what no JSON
    holds.
    """
    for name, mask in masks.items():
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.ndim != 2:
            raise TypeError(f"the mask of {name} is no bool tensor [out, in]")
    path = Path(path).absolute()
    metadata = metadata_of({name: tuple(mask.shape) for name, mask in masks.items()}, about or {})
    with refused_as(f"{path} cannot be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            save_file({name: packed(mask) for name, mask in masks.items()}, partial, metadata)
            settle(partial)
    return path


def metadata_of(shapes: Mapping[str, tuple[int, ...]], about: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of a file of masks with these shapes."""
    return {
        "format": FORMAT,
        "layers": json.dumps({name: list(shape) for name, shape in shapes.items()}),
        "about": json.dumps(dict(about), ensure_ascii=False, allow_nan=False),
    }


def read_masks(path: Path | str) -> MaskFile:
    """Read a file that `write_masks` wrote. Raises PruningError when it is none, or is damaged."""
    with _opened(path) as (file, shapes, about):
        masks = {name: unpacked(file.get_tensor(name), shape, name) for name, shape in shapes.items()}
        return MaskFile(masks, about)


def read_about(path: Path | str) -> tuple[dict[str, tuple[int, ...]], MaskFile]:
    """The shapes of the masks in a file, and the file without them. Raises PruningError as `read_masks` does."""
    with _opened(path) as (_, shapes, about):
        return shapes, MaskFile({}, about)


@contextmanager
def _opened(path: Path | str) -> Iterator[tuple[Any, dict[str, tuple[int, ...]], dict[str, Any]]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise PruningError(f"{path} is no mask file: its format is not {FORMAT}")
            shapes, about = json.loads(metadata["layers"]), json.loads(metadata["about"])
            if not isinstance(shapes, dict) or not isinstance(about, dict):
                raise PruningError(f"the mask file {path} is damaged: what it says of itself is no table")
            if sorted(shapes) != sorted(file.keys()):
                raise PruningError(f"the mask file {path} is damaged: its layers are not those that it lists")
            yield file, {name: tuple(shape) for name, shape in shapes.items()}, about
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else reason_of(error)
        raise PruningError(f"cannot read {path}: {reason}") from error
    except (SafetensorError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise PruningError(f"{path} is no mask file, or is damaged: {error}") from error


def recorded_masks(path: Path) -> str | None:
    """The run that a file of masks came from, None where there is no such file, or it does not say."""
    try:
        found = read_about(path)[1].about.get("run")
    except PruningError:
        return None
    return found if isinstance(found, str) else None


def packed(mask: Tensor) -> Tensor:
    """A bool mask as uint8 `[⌈n / 8⌉]`, eight weights a byte, the first in the lowest bit."""
    return torch.from_numpy(np.packbits(mask.cpu().contiguous().numpy().reshape(-1), bitorder="little"))


def unpacked(bits: Tensor, shape: tuple[int, ...], layer: str = "") -> Tensor:
    """The mask of `shape` `(out, in)`. Raises PruningError when there are more or fewer bytes than it needs."""
    size = prod(shape)
    if len(shape) != 2 or bits.dtype != torch.uint8 or bits.shape != (-(-size // 8),):
        raise PruningError(f"the mask of {layer} is damaged: {list(shape)} does not fit it", layer=layer)
    flat = np.unpackbits(bits.numpy(), count=size, bitorder="little")
    return torch.from_numpy(flat.view(np.bool_).reshape(shape))


def apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set the weights of a model that the masks don't keep to zero, in place; layers without a mask stay as they are.

    Masks are bool `[out, in]` by the dotted name of the layer. Raises PruningError, before any weight is written, when
    the model has no such layer, or one of another shape.
    """
    for layer in masked_layers(model, masks):
        write_masked(layer.weight, layer.weight, masks[layer.name].to(layer.weight.device))


def masked_layers(model: nn.Module, masks: Mapping[str, Tensor]) -> tuple[Layer, ...]:
    """The layers that the masks are for, in the model's order. Raises PruningError as `apply_masks` does."""
    found = _check(_named(model, masks), {name: tuple(mask.shape) for name, mask in masks.items()})
    for name, mask in masks.items():
        if mask.dtype != torch.bool:
            raise PruningError(f"the mask of {name} holds {mask.dtype}, not torch.bool", layer=name)
    return found


def check_shapes(layers: Sequence[Layer], path: Path) -> tuple[Layer, ...]:
    """Those of the layers that a file has masks for. Raises PruningError as `apply_masks` does."""
    shapes, _ = read_about(path)
    return _check({layer.name: layer for layer in layers}, shapes)


def _check(layers: Mapping[str, Layer], shapes: Mapping[str, tuple[int, ...]]) -> tuple[Layer, ...]:
    for name, shape in shapes.items():
        if name not in layers:
            raise PruningError(f"the model has no layer {name}, for which there is a mask", layer=name)
        if shape != layers[name].shape:
            raise PruningError(
                f"the mask of {name} is {list(shape)}, but its weight is {list(layers[name].shape)}", layer=name
            )
    return tuple(layer for name, layer in layers.items() if name in shapes)


def _named(model: nn.Module, names: Collection[str]) -> dict[str, Layer]:
    """The layers of these names, those among them that are pruned only when they are asked for, whatever else the model
    has; should it lack one of them, those that are pruned by default, too."""
    with suppress(PruningError):
        return {layer.name: layer for layer in find_layers(model, include=sorted(names)).layers if layer.name in names}
    found = {layer.name: layer for layer in find_layers(model).layers}
    for name in names:
        if name not in found:
            with suppress(PruningError):  # the model has none of that name
                found |= {
                    layer.name: layer for layer in find_layers(model, include=[name]).layers if layer.name == name
                }
    return found


def check_model(file: MaskFile, sha256: str) -> None:
    """Raise PruningError when masks were made for other weights than those of this hash."""
    if file.sha256 is not None and file.sha256 != sha256:
        name = file.about["model"].get("name", "another model")
        raise PruningError(
            f"the masks were made for other weights: {name} with the hash {file.sha256[:12]}…, not {sha256[:12]}…",
            hint="name that model, or add --force to put them on this one",
            expected=file.sha256,
            found=sha256,
        )


def check_mask_output(path: Path, *, overwrite: bool = False) -> None:
    """Raise PruningError now if a mask file could not be written to `path` later."""
    if path.is_dir():
        raise PruningError(f"{path} is a folder", hint="name a file for the masks, such as masks.safetensors")
    if path.exists() and not overwrite:
        raise PruningError(f"{path} exists already", hint="name another file, or add --overwrite")
    check_writable(path)
