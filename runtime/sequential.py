"""Walking a model block by block: each block sees what the blocks before it, as they are by then, put out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from pzc.runtime.errors import PruningError
from pzc.runtime.layers import Layer, Layers
from pzc.runtime.passes import Progress, device_of, evaluating, logits_of, silent
from pzc.runtime.statistics import collecting_inputs

Call: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
"""The arguments of a block but for the hidden states: positional and by name."""

Visit: TypeAlias = Callable[[Mapping[str, dict[str, Tensor]], Sequence[Layer]], None]


def through_blocks(
    model: nn.Module,
    layers: Layers,
    windows: Tensor,
    leaves: Collection[str],
    visit: Visit,
    progress: Progress = silent,
) -> None:
    """For each block in turn gather the activation `leaves` of its layers over `windows` `[n, length]` and
    call `visit(tables, layers of the block)`, which may change the block's weights; the next block reads what
    the changed block puts out.

    Raises PruningError for a model whose blocks are no plain chain, in which each reads the output of the
    last.
    """
    with torch.no_grad(), evaluating(model):
        hidden, calls = _capture(model, layers.blocks, windows)
        for index, block in enumerate(layers.blocks):
            members = layers.of_block(index)
            with collecting_inputs(members, leaves) as inputs:
                for state, call in zip(hidden, calls[index], strict=True):
                    _run(block, state, call)
            visit(inputs.tables(), members)
            if index + 1 < len(layers.blocks):
                hidden = [_run(block, state, call) for state, call in zip(hidden, calls[index], strict=True)]
            progress("blocks", index + 1, len(layers.blocks))


def _run(block: nn.Module, hidden: Tensor, call: Call) -> Tensor:
    return _first(block(hidden, *call[0], **call[1]))


def _first(output: Any) -> Tensor:
    """The hidden states among what a block returns: alone, or the first of a tuple."""
    states = output[0] if isinstance(output, tuple | list) else output
    if not isinstance(states, Tensor):
        raise PruningError("the blocks of this model return no hidden states", hint="use --one-shot")
    return states


def _capture(
    model: nn.Module, blocks: Sequence[nn.Module], windows: Tensor
) -> tuple[list[Tensor], list[list[Call]]]:
    """Run each window once; return the hidden states that enter the first block, by window, and the other
    arguments of every block, by block and window. Blocks may differ in them: sliding and full attention."""
    entering: list[Tensor] = []
    calls: list[list[Call]] = [[] for _ in blocks]
    leaving: list[Tensor | None] = [None]

    def before(index: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            others = dict(kwargs)
            hidden = args[0] if args else others.pop("hidden_states")
            if index == 0:
                entering.append(hidden.detach())
            elif leaving[0] is not hidden and (leaving[0] is None or not torch.equal(leaving[0], hidden)):
                raise PruningError(
                    f"block {index} does not read the output of the block before it",
                    hint="use --one-shot for this model",
                )
            call = (args[1:], others)
            calls[index].append(_shared(calls[index][0], call) if calls[index] else call)

        return hook

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        leaving[0] = _first(output)

    with ExitStack() as stack:
        for index, block in enumerate(blocks):
            stack.callback(block.register_forward_pre_hook(before(index), with_kwargs=True).remove)
            stack.callback(block.register_forward_hook(after).remove)
        for window in windows.split(1):
            logits_of(model, window.to(device_of(model)))
    return entering, calls


def _shared(first: Any, value: Any) -> Any:
    """`value`, with every tensor that equals the one at its place in `first` replaced by that one: masks and
    position embeddings are alike in all windows and are kept once."""
    if isinstance(value, Tensor) and isinstance(first, Tensor):
        same = value.shape == first.shape and value.dtype == first.dtype and torch.equal(value, first)
        return first if same else value
    if type(value) is tuple and type(first) is tuple and len(value) == len(first):
        return tuple(map(_shared, first, value))
    if type(value) is dict and type(first) is dict and value.keys() == first.keys():
        return {name: _shared(first[name], value[name]) for name in value}
    return value
