"""Rows of embeddings that stay on the disk: a text looks up few of a vocabulary's, and the whole is often the largest
tensor of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pzc.runtime.shards import Stored, read_rows


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
    """Rows of a matrix, `[*rows.shape, columns]`, in its stored type and on the CPU; of each one copy is read."""
    wanted, places = torch.unique(rows.cpu(), return_inverse=True)
    return read_rows(stored, wanted)[places]
