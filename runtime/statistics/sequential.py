"""Walking a model block by block: each block sees what the blocks before it, as they are by then, put out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from pzc.runtime.errors import Hopeless
from pzc.runtime.models.layers import Layer, Layers
from pzc.runtime.models.passes import Progress, batches, device_of, evaluating, logits_of, run_blocks, silent, unchanged
from pzc.runtime.statistics.forward import collecting
from pzc.runtime.statistics.shortcuts import handing_on, run_for_inputs

Call: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
"""The arguments of a block but for the hidden states: positional and by name."""

Visit: TypeAlias = Callable[[Mapping[str, dict[str, Tensor]], Sequence[Layer]], None]


_ONE_SHOT = "use --one-shot for this model, without --update"

HANDS_ON = "the blocks of this model hand on values to each other"
"""Why blocks can't be run one after another with what they were called with in the dense model."""


class NoChain(Hopeless):
    """A model whose blocks are no plain chain, in which each reads the output of the last."""


def through_blocks(
    model: nn.Module,
    layers: Layers,
    windows: Tensor,
    leaves: Collection[str],
    visit: Visit,
    progress: Progress = silent,
    *,
    changes: bool = True,
    skips: Callable[[Sequence[Layer]], bool] | None = None,
) -> None:
    """For each block in turn gather the forward `leaves` of its layers over `windows` `[n, length]` and
    call `visit(tables, layers of the block)`, which may change the block's weights; the next block reads what
    the changed block puts out. Layers outside of the blocks come last, together. Without `changes` the next block reads
    what the block put out as it was before, and no block runs twice. Where `skips` says so of a block's layers, nothing
    is gathered for them and their tables are empty.

    Raises NoChain before the first visit.
    """
    if shared := next((layer for layer in layers.layers if layer.others), None):
        raise NoChain(f"{shared.name} shares its weight with other layers", hint=_ONE_SHOT)
    with torch.no_grad(), evaluating(model):
        with unchanged(model):
            hidden, calls = _capture(model, layers.blocks, windows, changes=changes)
        for index, block in enumerate(layers.blocks):
            members = layers.of_block(index)
            gathers = leaves if members and not (skips and skips(members)) else frozenset[str]()
            with collecting(members, gathers, len(windows)) as tables:
                if changes and gathers:
                    states = zip(hidden, calls[index], strict=True)
                    run_for_inputs(block, members, gathers, (partial(run_block, block, h, call) for h, call in states))
                elif not changes:
                    for i, call in enumerate(calls[index]):
                        hidden[i] = run_block(block, hidden[i], call)
            visit(tables(), members)
            if changes and index + 1 < len(layers.blocks):
                for i, call in enumerate(calls[index]):
                    hidden[i] = run_block(block, hidden[i], call)
            progress("blocks", index + 1, len(layers.blocks))
        if layers.outside:  # the head and the like: the whole model once more, as it is by now
            gathers = frozenset[str]() if skips and skips(layers.outside) else leaves
            with collecting(layers.outside, gathers, len(windows)) as tables:
                for ids in batches(model, windows) if gathers else ():
                    logits_of(model, ids)
            visit(tables(), layers.outside)


def run_block(block: nn.Module, hidden: Tensor, call: Call) -> Tensor:
    return _first(block(hidden, *call[0], **call[1]))


def _first(output: Any) -> Tensor:
    """The hidden states among what a block returns: alone, or the first of a tuple."""
    states = output[0] if isinstance(output, tuple | list) else output
    if not isinstance(states, Tensor):
        raise NoChain("the blocks of this model return no hidden states", hint=_ONE_SHOT)
    return states


@dataclass(frozen=True)
class _Entry:
    """One window: the hidden states that enter the first block, and the other arguments of every block."""

    hidden: Tensor
    calls: list[Call]


class _Entered(Exception):
    """Ends a forward pass at the first block."""


def _capture(
    model: nn.Module, blocks: Sequence[nn.Module], windows: Tensor, *, changes: bool
) -> tuple[list[Tensor], list[list[Call]]]:
    """The hidden states that enter the first block, by window, and the other arguments of every block, by
    block and window. Blocks may differ in them, as sliding and full attention do.

    Where the arguments (masks, position embeddings) are alike in the first two windows, they don't depend on
    the text, and are kept once; the other windows then end at the first block.
    """
    parts = [window.to(device_of(model)) for window in windows.split(1)]
    entries = [_walk(model, blocks, ids, changes=changes) for ids in parts[:2]]
    if alike(entries[0].calls, entries[-1].calls):
        calls = [[call] * len(parts) for call in entries[0].calls]
        return [entry.hidden for entry in entries] + [_enter(model, blocks[0], i) for i in parts[2:]], calls
    entries += [_walk(model, blocks, ids, changes=changes) for ids in parts[2:]]
    return [entry.hidden for entry in entries], [list(c) for c in zip(*(e.calls for e in entries), strict=True)]


def _walk(model: nn.Module, blocks: Sequence[nn.Module], ids: Tensor, *, changes: bool) -> _Entry:
    """Run one window through all blocks, and see to it that each reads what the one before it puts out, and nothing
    else that a block has made if the walk `changes` them. Where the first block puts out hidden states alone, others of
    its kind do so too, and just hand on theirs."""
    made: list[Tensor] = []
    entering: list[Tensor] = []
    leaving: list[Tensor] = []
    calls: list[Call] = []

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden, call = split_call(args, kwargs)
        index = len(calls)
        calls.append(call)
        if index == 0:
            entering.append(hidden)
        elif index == len(blocks):
            raise NoChain("this model runs its blocks several times", hint=_ONE_SHOT)
        elif len(leaving) != index or module is not blocks[index] or not alike(leaving[-1], hidden):
            raise NoChain(
                f"block {index} does not read the output of the block before it",
                hint=_ONE_SHOT,
            )
        elif changes and not _places(call).isdisjoint(_places(made)):
            raise NoChain(HANDS_ON, hint="use --one-shot for this model")

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        leaving.append(_first(output))
        beside = _tensors_in(output[1:]) if isinstance(output, tuple | list) else ()
        made.extend(tensor for tensor in beside if _places(tensor).isdisjoint(_places(calls[-1])))
        if module is blocks[0] and isinstance(output, Tensor):
            stack.enter_context(handing_on(blocks[1:], module))

    with ExitStack() as stack:
        for block in blocks:
            stack.callback(block.register_forward_pre_hook(before, with_kwargs=True).remove)
            stack.callback(block.register_forward_hook(after).remove)
        run_blocks(model, ids)
    if len(calls) != len(blocks):
        raise NoChain("this model does not run all of its blocks", hint=_ONE_SHOT)
    return _Entry(entering[0], calls)


def _enter(model: nn.Module, block: nn.Module, ids: Tensor) -> Tensor:
    """The hidden states of one window that enter the first block."""
    entering: list[Tensor] = []

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        entering.append(split_call(args, kwargs)[0])
        raise _Entered

    handle = block.register_forward_pre_hook(before, with_kwargs=True)
    try:
        run_blocks(model, ids)
    except _Entered:
        pass
    finally:
        handle.remove()
    return entering[0]


def split_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Call]:
    """The arguments of a block: its hidden states, and all others."""
    others = dict(kwargs)
    hidden: Tensor = args[0] if args else others.pop("hidden_states")
    return hidden.detach(), (args[1:], others)


def _tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in an argument, however deep in tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _tensors_in(inner)


def _places(value: Any) -> set[int]:
    """Where in memory the tensors in an argument are."""
    return {tensor.untyped_storage().data_ptr() for tensor in _tensors_in(value) if tensor.numel()}


def alike(a: Any, b: Any) -> bool:
    """Whether two arguments are the same: tensors by content, containers by what they hold."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a is b or (a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b))
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[name], b[name]) for name in a)
    plain = bool | int | float | str
    return a is b or (isinstance(a, plain) and isinstance(b, plain) and a == b)
