"""What is really zero in a saved model: read from its safetensors files one parameter at a time, no model is loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pzc.compiler.pattern import Pattern
from pzc.runtime.errors import PruningError
from pzc.runtime.models.layers import Layer, find_layers, named_layers
from pzc.runtime.models.outline import Outline, outline
from pzc.runtime.saving.checkpoint import FORMAT, RECORD
from pzc.runtime.shards import INDEX, SINGLE, Shards, open_shards, read

PERIODS = (2, 4, 8, 16, 32)
"""The periods M among which patterns N:M are looked for."""

NEAR = 0.05
"""How much more of a layer may be zero than a pattern makes so: where more is, it holds by chance."""

TRANSPOSED = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer"})
"""Model types that store linear weights as `[in, out]` (transformers' `Conv1D`)."""

_FRACTIONS = frozenset({"F16", "BF16", "F32", "F64"})
_IN_A_BLOCK = re.compile(r"(?:^|\.)(\d+)\.(.+)$")
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


@dataclass(frozen=True)
class Inspected:
    """The weights of one layer as they are stored.

    `role` is its name inside the block `block`, with `*` for the number of an expert; `zeros` how many of its `weights`
    are exactly zero, `patterns` the N:M that hold for it along `in`, follow from no shorter one and account for its
    zeros; `broken` how many groups have more than the N weights that a pattern to be verified allows, and `first` where
    the first is: its row and its first column. Both are None where nothing is to be verified. `odd` counts weights that
    are not finite.
    """

    name: str
    role: str
    block: int
    shape: tuple[int, ...]
    zeros: int
    patterns: tuple[Pattern, ...]
    odd: int
    broken: int | None = None
    first: tuple[int, int] | None = None

    @property
    def weights(self) -> int:
        """Number of weights."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def sparsity(self) -> float:
        """The share of zeros."""
        return self.zeros / self.weights


def inspect(folder: Path, verify: Pattern | None = None) -> Iterator[Inspected]:
    """The layers of a model's folder in their order: those that its `pruning.json` names, or else those that a run
    prunes by default. Of a model that transformers doesn't know, every matrix inside numbered blocks.

    Raises PruningError for a folder without weights, a missing or damaged file.
    """
    _check_folder(folder)
    shards = open_shards(folder)
    recorded = (read_record(folder) or {"sparsity": {"layers": {}}})["sparsity"]["layers"]
    try:
        drawn = outline(str(folder), folder, device=torch.device("cpu"))
        layers = named_layers(drawn.model, recorded).layers or find_layers(drawn.model).layers
    except PruningError:
        return _by_place(shards, transposed=_config(folder).get("model_type") in TRANSPOSED, verify=verify)
    return _by_structure(drawn, layers, verify)


def _by_structure(drawn: Outline, layers: Sequence[Layer], verify: Pattern | None) -> Iterator[Inspected]:
    """Layers as the model has them, whatever they are stored as. A stack of experts is read once."""
    names = {id(parameter): name for name, parameter in drawn.model.named_parameters()}
    for parameter, stacked in groupby(layers, key=lambda layer: id(layer.parameter)):
        stored = drawn.sources[names[parameter]].read()
        for layer in stacked:
            yield _of(layer.oriented(stored), layer.name, layer.block, verify)


def _by_place(shards: Shards, *, transposed: bool, verify: Pattern | None) -> Iterator[Inspected]:
    """Whatever could be a layer by its key, its shape and its type."""
    for key in sorted(shards.tensors, key=_order):
        stored, place = shards.tensors[key], _IN_A_BLOCK.search(key)
        shape = stored.shape
        if place and stored.dtype in _FRACTIONS and len(shape) in (2, 3) and 1 not in shape[-2:]:
            weight = read(stored)
            weight = weight.T if transposed and weight.ndim == 2 else weight
            yield _of(weight, key.removesuffix(".weight"), int(place[1]), verify)


def _of(weight: Tensor, name: str, block: int, verify: Pattern | None) -> Inspected:
    place = _IN_A_BLOCK.search(name)
    role = _NUMBER.sub("*", place[2]) if place else name
    kept = (weight != 0).reshape(-1, weight.shape[-1])
    zeros = kept.numel() - int(torch.count_nonzero(kept))
    odd = kept.numel() - int(torch.count_nonzero(torch.isfinite(weight)))
    broken, first = None, None
    if verify is not None:
        broken, first = _broken(kept, verify)
    patterns = tuple(_patterns(kept)) if zeros else ()
    return Inspected(name, role, block, tuple(weight.shape), zeros, patterns, odd, broken, first)


def _counts(kept: Tensor, period: int) -> Tensor:
    """Weights that are not zero in each group of consecutive inputs: `[rows, in / period]`."""
    return kept.view(len(kept), -1, period).sum(-1, dtype=torch.int16)


def _patterns(kept: Tensor) -> Iterator[Pattern]:
    """The patterns that hold everywhere and account for nearly all zeros; one with the share of a shorter one follows
    from it."""
    densest = 1.0
    dense = int(torch.count_nonzero(kept)) / kept.numel()
    for period in (m for m in PERIODS if kept.shape[1] % m == 0):
        most = int(_counts(kept, period).max())
        if most / period < densest:
            densest = most / period
            if densest - dense <= NEAR:
                yield most, period


def _broken(kept: Tensor, pattern: Pattern) -> tuple[int, tuple[int, int] | None]:
    """How many groups hold more weights than the pattern allows, and row and first column of the first; a layer whose
    inputs are no multiple of M is broken in every row."""
    most, period = pattern
    if kept.shape[1] % period:
        return len(kept), (0, kept.shape[1] - kept.shape[1] % period)
    bad = (_counts(kept, period) > most).nonzero()
    return len(bad), (int(bad[0, 0]), int(bad[0, 1]) * period) if len(bad) else None


def disagreements(record: Mapping[str, Any], layers: Sequence[Inspected]) -> list[str]:
    """A sentence for each layer whose stored share of zeros is not the recorded one, and for each that is missing
    unless others are stored that have no record, which may be the same by other names."""
    said = record["sparsity"]["layers"]
    stored = {layer.name: layer for layer in layers}
    found = [f"{name}: pruning.json names it, but it is not stored" for name in said if name not in stored]
    found = [] if stored.keys() - said.keys() else found
    for name, share in said.items():
        if name in stored and stored[name].zeros != round(share * stored[name].weights):
            found.append(f"{name}: {stored[name].sparsity:.4%} is zero, pruning.json says {share:.4%}")
    return found


def read_record(folder: Path) -> dict[str, Any] | None:
    """The `pruning.json` of a folder, None where there is none. Raises PruningError where it is no record."""
    path = folder / RECORD
    if not path.is_file():
        return None
    record = _json(path)
    if record.get("format") != FORMAT:
        raise PruningError(f"{path} is no record of this version of pzc", hint=f"its format should be {FORMAT}")
    if not _is_whole(record):
        raise PruningError(f"{path} is damaged", hint="its schema is docs/pruning-1.schema.json")
    return record


def _is_whole(record: dict[str, Any]) -> bool:
    """Whether a record has what is read of it here and by `pzc inspect`, in the types that it should have."""
    try:
        made_by, target = record.get("metric"), record.get("target")
        calibration = (record.get("data") or {}).get("calibration")
        texts = [record["model"]["name"], *record.get("versions", {}).values()]
        texts += [made_by["name"], made_by["formula"]] if made_by else []
        texts += [calibration["name"], calibration["part"]] if calibration else []
        numbers = [*record["sparsity"]["layers"].values(), *([target["sparsity"]] if target else [])]
        numbers += [x for x in (record.get("perplexity") or {}).values() if x is not None]
        n, m = (target or {}).get("pattern") or (0, 0)
        return (
            all(isinstance(text, str) for text in texts)
            and all(isinstance(number, int | float) for number in (*numbers, n, m))
            and isinstance(record.get("options", {}), dict)
        )
    except (LookupError, ValueError, TypeError, AttributeError):
        return False


def _check_folder(folder: Path) -> None:
    if folder.is_file():
        raise PruningError(
            f"{folder} is a file, not a model's folder", hint="`pzc apply` puts a file of masks on a model"
        )
    if not folder.is_dir():
        raise PruningError(f"there is no folder `{folder}`")
    if not (folder / SINGLE).is_file() and not (folder / INDEX).is_file():
        raise PruningError(f"the folder {folder} holds no weights", hint="weights are read from safetensors files only")


def _config(folder: Path) -> dict[str, Any]:
    return _json(folder / "config.json") if (folder / "config.json").is_file() else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PruningError(f"{path} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise PruningError(f"{path} is damaged: it holds no object")
    return found


def _order(name: str) -> list[tuple[int, int, str]]:
    """Numbers in a name in their own order: block 10 comes after block 9."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in name.split(".")]
