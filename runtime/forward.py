"""Gathering what layers read and put out while a model runs: hooks that feed X, Y, H and leaves of users."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, TypeAlias

from torch import Tensor, nn

from pzc.compiler.leaves import LEAVES
from pzc.runtime.activations import Sums, Table, rows
from pzc.runtime.errors import PruningError
from pzc.runtime.hessian import Hessians
from pzc.runtime.layers import Layer
from pzc.runtime.leaves import COLLECTORS, as_leaf, own_leaves

Tables: TypeAlias = Callable[[], dict[str, Table]]


class Family(Protocol):
    """Leaves that are gathered together."""

    def add(self, layer: str, inputs: Tensor, outputs: Tensor) -> None: ...
    def finish(self, layer: str) -> Table: ...


def forward_leaves(leaves: Collection[str]) -> frozenset[str]:
    """Those that come from activations: of the tiers "forward" and "hessian"."""
    known = (LEAVES[name] for name in leaves if name in LEAVES)  # H.factor is none of the language
    return frozenset(leaf.name for leaf in known if leaf.tier in ("forward", "hessian"))


@contextmanager
def collecting(layers: Sequence[Layer], leaves: Collection[str], windows: int) -> Iterator[Tables]:
    """Gather the forward `leaves` of some layers while the context is open; `windows` will run through it.

    Yields a function that gives the tables by layer name, once. It raises PruningError for a layer that was never run.
    """
    every = (Sums("X", leaves), Sums("Y", leaves), Hessians(leaves, windows), _Own(layers, leaves))
    families: list[Family] = [family for family in every if family]

    def tables() -> dict[str, Table]:
        return {layer.name: _joined(family.finish(layer.name) for family in families) for layer in layers}

    with ExitStack() as stack:
        for layer in layers if families else ():
            handle = layer.module.register_forward_hook(_hook(layer.name, families), with_kwargs=True)
            stack.callback(handle.remove)
        yield tables


def _hook(name: str, families: Sequence[Family]) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        inputs = args[0] if args else next(iter(kwargs.values()))
        for family in families:
            family.add(name, inputs, output)

    return hook


def _joined(tables: Iterator[Table]) -> Table:
    return {name: value for table in tables for name, value in table.items()}


class _Own:
    """The leaves that users have added."""

    def __init__(self, layers: Sequence[Layer], leaves: Collection[str]) -> None:
        names = own_leaves(leaves, "forward", "hessian")
        self._layers = {layer.name: layer for layer in layers}
        self._collectors: dict[str, dict[str, Any]] = {
            layer.name: {name: COLLECTORS[name](layer) for name in names} for layer in layers if names
        }
        self._reached: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._collectors)

    def add(self, layer: str, inputs: Tensor, outputs: Tensor) -> None:
        self._reached.add(layer)
        x, y = rows(inputs), rows(outputs)
        for collector in self._collectors[layer].values():
            collector.update(x, y)

    def finish(self, layer: str) -> Table:
        if layer not in self._reached:
            raise PruningError(f"no calibration token reached the layer {layer}", layer=layer)
        collectors = self._collectors.pop(layer)
        return {n: as_leaf(n, self._layers[layer], collector.finish()) for n, collector in collectors.items()}
