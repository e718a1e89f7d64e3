"""The matrices of a model, told apart by structure: linear layers, stacked experts, routers, and what is none of them.

transformers 5 keeps the experts of a block in one parameter `[experts, out, in]` or `[experts, in, out]`; older code
keeps them as modules in a list. What chooses among experts is small and decides much: it is a router here, be it a
linear layer or a module of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from pzc.runtime.errors import PruningError

LINEARS = (nn.Linear, Conv1D)
"""Modules whose `weight` multiplies what they are called with. GPT-2's `Conv1D` stores it as `[in, out]`."""

_PLAIN = (nn.Embedding, nn.EmbeddingBag, nn.modules.conv._ConvNd)
_SMALL = 0.05
_PACKED = (torch.int8, torch.uint8, torch.int16, torch.int32)

Kind = Literal["linear", "router", "unknown"]


@dataclass(frozen=True, eq=False)
class Matrix:
    """A parameter that multiplies activations, or one of its slices.

    `name` is its dotted name, `module` holds it as its parameter `key`; `index` is the slice of a stacked parameter.
    `transposed` says that it is stored as `[in, out]`, `expert` that it is part of one of several experts.
    """

    name: str
    module: nn.Module
    key: str = "weight"
    index: int | None = None
    transposed: bool = False
    kind: Kind = "linear"
    expert: bool = False


def matrices_of(block: nn.Module, path: str) -> list[Matrix]:
    """The matrices of a decoder block at `path`, in the module's order.

    Of kind "unknown" are those that hold 5 % of the block's weights or more without being a linear layer; smaller ones,
    embeddings and convolutions are passed over. Raises PruningError for a quantised module.
    """
    experts = _expert_counts(block)
    whole = sum(parameter.numel() for parameter in block.parameters() if parameter.ndim > 1)
    found: list[Matrix] = []
    for name, module in block.named_modules():
        full = f"{path}.{name}" if name else path
        _refuse_packed(full, module)
        stacks = _stacks(module)
        for key, parameter in module.named_parameters(recurse=False):
            if parameter.ndim < 2 or isinstance(module, _PLAIN):
                continue
            if key in stacks:
                found += _slices(full, module, key, parameter, stacks[key])
            elif isinstance(module, LINEARS) and key == "weight":
                kind: Kind = "router" if _is_router(name, parameter, block, experts) else "linear"
                turned, expert = isinstance(module, Conv1D), _is_expert(name, block)
                found.append(Matrix(full, module, transposed=turned, kind=kind, expert=expert))
            elif parameter.ndim == 2 and _is_router(name, parameter, block, experts):
                found.append(Matrix(_joined(full, key), module, key, kind="router"))
            elif not _is_bias(parameter, stacks, module) and parameter.numel() >= _SMALL * whole:
                found.append(Matrix(_joined(full, key), module, key, kind="unknown"))
    return found


def outside_of(model: nn.Module, path: str) -> list[Matrix]:
    """The linear layers of a model that are not in its list of blocks at `path`, such as the head."""
    inside = f"{path}." if path else ""
    return [
        Matrix(name, module, transposed=isinstance(module, Conv1D))
        for name, module in model.named_modules()
        if isinstance(module, LINEARS) and inside and not name.startswith(inside)
    ]


def has_linear(module: nn.Module) -> bool:
    """Whether there is a linear layer or a stack of experts in a module."""
    return any(isinstance(inner, LINEARS) or _stacks(inner) for inner in module.modules())


def packed_module(model: nn.Module) -> str | None:
    """The first module that stores a matrix of integers, as quantised ones do: `NAME, a CLASS,`."""
    for name, module in model.named_modules():
        if any(_is_packed(stored) for stored in _stored(module)):
            return f"{name}, a {type(module).__name__},"
    return None


def _stored(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters(recurse=False)
    yield from module.buffers(recurse=False)


def _is_packed(stored: Tensor) -> bool:
    return stored.dtype in _PACKED and stored.ndim == 2 and min(stored.shape) > 1


def _refuse_packed(name: str, module: nn.Module) -> None:
    """Linear layers are checked where they are chosen, so that a message can tell their type."""
    if not isinstance(module, LINEARS) and any(_is_packed(stored) for stored in _stored(module)):
        raise PruningError(
            f"{name} is a {type(module).__name__}, which stores integers and cannot be pruned",
            hint="use the model without quantisation",
            layer=name,
        )


def _stacks(module: nn.Module) -> dict[str, bool]:
    """The stacked matrices of a module, and whether they are `[experts, in, out]`.

    transformers says so in `is_transposed`. Without it, two stacks tell by their sizes: what the first puts out goes,
    gated or not, into the second, and both begin and end in hidden states: `[e, 2i, h]` and `[e, h, i]`, or
    `[e, h, 2i]` and `[e, i, h]`. Empty where neither tells.
    """
    found = {
        key: parameter
        for key, parameter in module.named_parameters(recurse=False)
        if parameter.ndim == 3 and not isinstance(module, _PLAIN)
    }
    said = getattr(module, "is_transposed", None)
    if isinstance(said, bool):
        return dict.fromkeys(found, said)
    if len(found) == 2:
        (_, a, b), (_, c, d) = (parameter.shape for parameter in found.values())
        if (b == c) != (a == d):
            return dict.fromkeys(found, a == d)
    return {}


def _slices(full: str, module: nn.Module, key: str, stack: Tensor, transposed: bool) -> Iterator[Matrix]:
    """`mlp.experts.gate_up_proj` becomes `mlp.experts.0.gate_up_proj`, …: as experts in a list are named."""
    *outer, last = _joined(full, key).split(".")
    for index in range(len(stack)):
        yield Matrix(".".join([*outer, str(index), last]), module, key, index, transposed, expert=True)


def _is_expert(name: str, block: nn.Module) -> bool:
    """Whether a module is in a list of modules inside its block."""
    parts = name.split(".")
    return any(isinstance(block.get_submodule(".".join(parts[:i])), nn.ModuleList) for i in range(1, len(parts)))


def _is_bias(parameter: Tensor, stacks: dict[str, bool], module: nn.Module) -> bool:
    """Whether a matrix is the biases of stacked experts, `[experts, out]`."""
    counts = {len(getattr(module, key)) for key in stacks}
    return parameter.ndim == 2 and parameter.shape[0] in counts


def _expert_counts(block: nn.Module) -> dict[str, int]:
    """The modules that hold experts, by name in the block: how many."""
    counts: dict[str, int] = {}
    for name, module in block.named_modules():
        parent = name.rpartition(".")[0]
        stacks = _stacks(module)
        if stacks:
            counts[parent] = len(getattr(module, next(iter(stacks))))
        elif isinstance(module, nn.ModuleList) and len(module) > 1 and all(map(has_linear, module)):
            counts[parent] = len(module)
    return counts


def _is_router(name: str, weight: Tensor, block: nn.Module, experts: dict[str, int]) -> bool:
    """Whether a matrix stands beside experts, alone in its module, and puts out one number, or one an expert."""
    parts = name.split(".")
    for depth in (1, 2):
        parent, child = ".".join(parts[:-depth]), ".".join(parts[: len(parts) - depth + 1])
        if len(parts) >= depth and parent in experts and weight.shape[0] in (1, experts[parent]):
            return _matrices_in(block.get_submodule(child)) == 1
    return False


def _matrices_in(module: nn.Module) -> int:
    return sum(parameter.ndim > 1 for parameter in module.parameters())


def _joined(full: str, key: str) -> str:
    return full if key == "weight" else f"{full}.{key}"
