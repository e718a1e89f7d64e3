"""Leaving out what nobody reads while a model is walked block by block.

A block is run once for what its layers read, and once more when it is pruned, for what it puts out. The first time all
that follows the last layer's input is in vain, that layer's own product among it. And to see that blocks read one
another's output, in turn, they need not compute anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from torch import Tensor, nn

from pzc.runtime.models.layers import Layer
from pzc.runtime.models.matrices import LINEARS
from pzc.runtime.statistics.leaves import COLLECTORS


class Enough(Exception):
    """Ends a block's forward pass where no layer is left that is observed."""


def last_to_read(block: nn.Module, layers: Sequence[Layer], leaves: Collection[str], run: Callable[[], object]) -> Any:
    """`run` a block with its layers, and give the layer's module at whose product later runs may end; or None, where
    they may not: outputs are read too, a layer does not run just once, or which one is last may change."""
    order: list[nn.Module] = []

    def note(module: nn.Module, args: Any, output: Any) -> None:
        order.append(module)

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.module.register_forward_hook(note).remove)
        run()
    once = 0 < len(order) == len(set(order)) == len(layers)
    plain = all(isinstance(layer.module, LINEARS) and not layer.expert for layer in layers)
    moved = any(hasattr(module, "_hf_hook") for module in block.modules())  # accelerate acts after a forward pass too
    outputs = any(name.startswith("Y.") or name in COLLECTORS for name in leaves)
    return order[-1] if once and plain and not moved and not outputs and _is_free(order[-1]) else None


def run_for_inputs(
    block: nn.Module, layers: Sequence[Layer], leaves: Collection[str], runs: Iterable[Callable[[], object]]
) -> None:
    """Run a block for what its layers read: the first time whole, then as far as need be."""
    following = iter(runs)
    first = next(following)
    with ending_at(last_to_read(block, layers, leaves, first)):
        for run in following:
            with suppress(Enough):
                run()


@contextmanager
def ending_at(module: nn.Module | None) -> Iterator[None]:
    """While the context is open, raise Enough instead of computing a module's product, after its hooks were called."""

    def stop(module: nn.Module, args: Any, output: Any) -> None:
        raise Enough

    if module is None:
        yield
        return
    handle = module.register_forward_hook(stop)
    try:
        with _replaced(module, lambda *args, **kwargs: [*args, *kwargs.values()][0]):
            yield
    finally:
        handle.remove()


@contextmanager
def handing_on(blocks: Sequence[nn.Module], like: nn.Module) -> Iterator[None]:
    """While the context is open, blocks of the same kind as `like` put out a copy of the hidden states they read."""

    def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return hidden_states.clone()

    with ExitStack() as stack:
        for block in blocks:
            if type(block) is type(like) and _is_free(block):
                stack.enter_context(_replaced(block, forward))
        yield


def _is_free(module: nn.Module) -> bool:
    return "forward" not in vars(module)


@contextmanager
def _replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
