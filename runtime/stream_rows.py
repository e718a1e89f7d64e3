"""Rows of embeddings that stay on the disk: a text looks up few of a vocabulary's, and the whole is often the largest
tensor of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pzc.runtime.errors import PruningError
from pzc.runtime.shards import Stored, fill


def is_looked_up(module: nn.Module) -> bool:
    """Whether a module does nothing with its weight but look up rows of it."""
    return isinstance(module, nn.Embedding) and module.max_norm is None


class LookingUp(TorchFunctionMode):
    """While the context is open, rows that are looked up in one of the tensors of `stored`, given by their `id`, are
    read from where its contents are stored; unless the tensor is `there`."""

    def __init__(self, stored: Mapping[int, Stored], there: Callable[[int], bool]) -> None:
        super().__init__()
        self._stored, self._there = stored, there

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is nn.functional.embedding and id(args[1]) in self._stored and not self._there(id(args[1])):
            rows, weight = args[:2]
            return looked_up(self._stored[id(weight)], rows).to(weight.device, weight.dtype)
        return func(*args, **(kwargs or {}))


def looked_up(stored: Stored, rows: Tensor) -> Tensor:
    """Rows of a matrix, `[*rows.shape, columns]`, in its stored type and on the CPU.

    Raises IndexError for a row that it doesn't have, as torch does.
    """
    wanted, places = torch.unique(rows.cpu(), return_inverse=True)
    if len(wanted) and not 0 <= int(wanted[0]) <= int(wanted[-1]) < stored.shape[0]:
        raise IndexError(f"{stored.key} has {stored.shape[0]} rows")
    found = torch.empty((len(wanted), *stored.shape[1:]), dtype=stored.torch_dtype)
    size = (stored.stop - stored.start) // stored.shape[0]
    gaps = (wanted.diff() != 1).nonzero().flatten() + 1
    with stored.file.open("rb", buffering=0) as stream:
        for run, into in zip(wanted.tensor_split(gaps), found.tensor_split(gaps), strict=True):
            stream.seek(stored.start + int(run[0]) * size if len(run) else stored.start)
            if not fill(stream, into):
                raise PruningError(f"the weights file {stored.file} is damaged: it is cut short")
    return found[places]
