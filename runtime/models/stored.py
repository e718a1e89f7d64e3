"""Where the contents of a model's parameters are stored: under the model's own names, under older ones, or in parts.

transformers holds the experts of a block in one stack, and the checkpoints of most mixtures hold them one by one. It
knows how to join and to rename (`conversion_mapping`): what it does when it loads and saves a model is done here for
one parameter at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
    revert_weight_conversion,
)

from pzc.runtime.errors import WITHOUT_STREAM, PruningError
from pzc.runtime.shards import Shards, Stored, read, read_as, same_contents


@dataclass(frozen=True, eq=False)
class Source:
    """Where a parameter's contents are: in one tensor, or in several, in an order that `join` understands. `part` is
    its reverse: what each key is to hold."""

    parts: tuple[Stored, ...]
    join: Callable[[Sequence[Tensor]], Tensor] | None = None
    part: Callable[[Tensor], Mapping[str, Tensor]] | None = None

    def read(
        self, places: Mapping[str, Stored] | None = None, *, dtype: torch.dtype | None = None, pinned: bool = False
    ) -> Tensor:
        """The contents in memory, in their stored type or, where they are in one tensor, in that of `dtype`. `places`
        has the same keys elsewhere."""
        found = (places[stored.key] if places else stored for stored in self.parts)
        if self.join is None:
            return read_as(next(found), dtype) if dtype else read(next(found), pinned=pinned)
        joined = self.join([read(stored) for stored in found])
        return joined.pin_memory() if pinned else joined

    def split(self, tensor: Tensor) -> Mapping[str, Tensor]:
        """What is to be stored under each key for these contents."""
        return {self.parts[0].key: tensor} if self.part is None else self.part(tensor)


def find_sources(name: str, model: Any, shards: Shards) -> dict[str, Source]:
    """Where the contents of each parameter and saved buffer are, by its name in the model.

    A tied weight may be stored under any of its names. Raises PruningError for names that transformers does not know, a
    tensor that is missing, one of another size, and tied weights that are stored with different contents, which
    transformers would not tie.
    """
    wanted: dict[int, list[tuple[str, Tensor]]] = {}
    for key, tensor in model.state_dict(keep_vars=True).items():
        wanted.setdefault(id(tensor), []).append((key, tensor))
    by_name = _by_name(name, model, shards)
    found: dict[str, Source] = {}
    missing: list[str] = []
    for tied in wanted.values():
        names = [key for key, _ in tied]
        sources = [by_name[key] for key in names if key in by_name]
        source = sources[0] if sources else None
        for other in sources[1:]:
            if not same_contents(sources[0].parts[0], other.parts[0]):
                one, two = sources[0].parts[0].key, other.parts[0].key
                raise PruningError(
                    f"{one} and {two} of {name} differ, but its config.json ties them",
                    hint='if they are meant to differ, say `"tie_word_embeddings": false` there; or prune without '
                    "--stream",
                    model=name,
                )
        if source is None or not _fits(source, tied[0][1]):
            missing.append(names[0])
        else:
            found |= dict.fromkeys(names, source)
    if missing:
        raise _missing(name, missing, found, shards)
    return found


def _by_name(model_name: str, model: Any, shards: Shards) -> dict[str, Source]:
    """Everything stored that transformers would load, by the name of the parameter that it becomes or is a part of.
    Raises PruningError where several parameters are made of one tensor."""
    transforms = get_model_conversion_mapping(model)
    model._weight_conversions = transforms  # what `revert_weight_conversion` reverts, as after loading
    renamings = [each for each in transforms if isinstance(each, WeightRenaming)]
    converters = [each for each in transforms if isinstance(each, WeightConverter)]
    by_pattern = {pattern: each for each in converters for pattern in each.source_patterns}
    state = model.state_dict()
    single: dict[str, Source] = {}
    several: dict[str, list[tuple[str, Stored]]] = {}
    for key in sorted(shards.tensors, key=dot_natural_key):
        target, pattern = rename_source_key(key, renamings, converters, model.base_model_prefix, state)
        if target not in state and key in state:
            target, pattern = key, None
        if pattern is not None and len(by_pattern[pattern].target_patterns) > 1:
            raise PruningError(
                f"several parameters are made of {key} when {model_name} is loaded",
                hint=WITHOUT_STREAM,
                model=model_name,
            )
        if target in state and pattern is None:
            single.setdefault(target, Source((shards.tensors[key],)))
        elif target in state and pattern is not None:
            several.setdefault(target, []).append((pattern, shards.tensors[key]))
    return {name: _joined(model, name, by_pattern, parts) for name, parts in several.items()} | single


def _joined(
    model: Any, name: str, converters: Mapping[str, WeightConverter], parts: Sequence[tuple[str, Stored]]
) -> Source:
    """The source of a parameter that a converter of transformers makes of several tensors."""

    def join(tensors: Sequence[Tensor]) -> Tensor:
        converter = deepcopy(converters[parts[0][0]])
        for (pattern, stored), tensor in zip(parts, tensors, strict=True):
            converter.add_tensor(name, stored.key, pattern, tensor)
        made = converter.convert(name, model=model, config=model.config)[name]
        found: Tensor = made[0] if isinstance(made, list) else made
        return found.contiguous()

    def part(tensor: Tensor) -> Mapping[str, Tensor]:
        found: Mapping[str, Tensor] = revert_weight_conversion(model, {name: tensor})
        return found

    return Source(tuple(stored for _, stored in parts), join, part)


def _fits(source: Source, parameter: Tensor) -> bool:
    """Whether what would be stored for a parameter is what is stored."""
    shapes = {key: tuple(part.shape) for key, part in source.split(parameter.detach().to("meta")).items()}
    return shapes == {stored.key: stored.shape for stored in source.parts}


def _missing(name: str, missing: Sequence[str], found: Mapping[str, Source], shards: Shards) -> PruningError:
    used = {stored.key for source in found.values() for stored in source.parts}
    other = [key for key in shards.tensors if key not in used]
    if len(other) >= len(missing):
        return PruningError(
            f"the weights of {name} are stored under other names than the model's: {other[0]} is none of its "
            f"parameters, and {missing[0]} is not stored",
            hint=WITHOUT_STREAM,
            model=name,
        )
    return PruningError(
        f"the weights of {name} don't fit its config.json: {len(missing)} are missing or have another size, such as "
        f"{missing[0]}",
        model=name,
    )
