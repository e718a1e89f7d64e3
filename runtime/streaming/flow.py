"""The way through a model whose decoder blocks are run one at a time: into the first, past all, and out of the last.

The model's own forward runs, with its blocks replaced by functions that compute nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pzc.runtime.errors import WITHOUT_STREAM, PruningError, is_out_of_memory
from pzc.runtime.models.passes import run_blocks
from pzc.runtime.statistics.sequential import HANDS_ON, Call, NoChain, alike, split_call


class _Reached(Exception):
    """Ends a forward pass at a block."""


class Flow:
    """A model's forward around its blocks. Weights outside the blocks must be readable while it is used."""

    def __init__(self, model: nn.Module, blocks: Sequence[nn.Module]) -> None:
        self._model = model
        self._blocks = blocks
        self._wrapped = False  # whether a block returns a tuple that starts with the hidden states

    def entering(self, ids: Tensor) -> Tensor:
        """The hidden states that enter the first block, `[n, length, hidden]`, for windows `[n, length]`.

        Raises PruningError when a weight outside the blocks is read in another way than by calling its module.
        """
        found: list[Tensor] = []

        def first(*args: Any, **kwargs: Any) -> Any:
            found.append(split_call(args, kwargs)[0])
            raise _Reached

        self._run([first] * len(self._blocks), ids)
        if not found or not torch.isfinite(found[0]).all():
            raise PruningError("the embeddings of this model cannot be run alone", hint=WITHOUT_STREAM)
        return found[0]

    def calls(self, ids: Tensor) -> list[Call]:
        """What each block is called with beside hidden states when windows of the shape of `ids` `[n, length]` run.

        Raises NoChain when blocks don't read each other's output in turn, when the arguments depend on the text, or
        when blocks hand on values to each other.
        """
        found = self._passed(ids)
        if len(found) < len(self._blocks):
            self._wrapped = not self._wrapped
            found = self._passed(ids)
        if len(found) < len(self._blocks):
            raise NoChain(
                "the blocks of this model are no chain in which each reads the output of the last", hint=WITHOUT_STREAM
            )
        if not alike(found, self._passed(ids.flip(1))):
            raise NoChain("what this model's blocks read beside hidden states depends on the text", hint=WITHOUT_STREAM)
        if any(isinstance(value, dict | list) for args, kwargs in found for value in (*args, *kwargs.values())):
            raise NoChain(HANDS_ON, hint=WITHOUT_STREAM)
        return found

    def leaving(self, hidden: Tensor) -> Tensor:
        """The logits `[n, length, vocabulary]` that follow from the last block's hidden states `[n, length, hidden]`.

        Only after `calls`, which finds out what blocks return.
        """

        def skipped(*args: Any, **kwargs: Any) -> Any:
            return self._output(split_call(args, kwargs)[0])

        def last(*args: Any, **kwargs: Any) -> Any:
            return self._output(hidden)

        nothing = hidden.new_zeros((*hidden.shape[:2], self._width()))  # a model may scale it in place
        with _replaced(self._blocks, [*[skipped] * (len(self._blocks) - 1), last]):
            logits = self._model(inputs_embeds=nothing, use_cache=False).logits
        if not isinstance(logits, Tensor):
            raise PruningError(f"{type(self._model).__name__} returns no logits")
        return logits

    def _width(self) -> int:
        """Features of an embedded token, which need not be those of the hidden states."""
        return int(self._model.get_input_embeddings().weight.shape[1])  # type: ignore[operator]

    def _output(self, hidden: Tensor) -> Any:
        return (hidden,) if self._wrapped else hidden

    def _passed(self, ids: Tensor) -> list[Call]:
        """The arguments of all blocks, each of which puts out what it reads; of fewer where that breaks the model."""
        calls: list[Call] = []
        passing: list[Tensor] = []

        def of(index: int) -> Callable[..., Any]:
            def forward(*args: Any, **kwargs: Any) -> Any:
                if not isinstance(args[0] if args else kwargs["hidden_states"], Tensor):
                    raise _Reached
                hidden, call = split_call(args, kwargs)
                if len(calls) != index or (passing and not _same(passing[-1], hidden)):
                    raise _Reached
                calls.append(call)
                passing.append(hidden)
                if index == len(self._blocks) - 1:
                    raise _Reached
                return self._output(hidden)

            return forward

        try:
            self._run([of(index) for index in range(len(self._blocks))], ids)
        except Exception as error:  # the model takes its blocks to return something else
            if isinstance(error, PruningError | OSError) or is_out_of_memory(error):
                raise
        return calls

    def _run(self, forwards: Sequence[Callable[..., Any]], ids: Tensor) -> None:
        try:
            with torch.no_grad(), _replaced(self._blocks, forwards):
                run_blocks(self._model, ids)
        except _Reached:
            pass


def _same(a: Tensor, b: Tensor) -> bool:
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape


@contextmanager
def _replaced(blocks: Sequence[nn.Module], forwards: Sequence[Callable[..., Any]]) -> Iterator[None]:
    """The blocks with other functions in place of their forward."""
    for block, forward in zip(blocks, forwards, strict=True):
        block.__dict__["forward"] = forward
    try:
        yield
    finally:
        for block in blocks:
            del block.__dict__["forward"]
