"""Gathering what layers read and put out while a model runs: hooks that feed X, Y, H and leaves of users."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, TypeAlias

from torch import Tensor, nn

from pzc.compiler.leaves import LEAVES
from pzc.runtime.errors import Hopeless
from pzc.runtime.models.layers import Layer, excluding
from pzc.runtime.models.matrices import LINEARS
from pzc.runtime.statistics.activations import Sums, Table, rows
from pzc.runtime.statistics.hessian import Hessians
from pzc.runtime.statistics.leaves import COLLECTORS, as_leaf, collect_from, own_leaves
from pzc.runtime.statistics.unreached import neutral, warn_of
from pzc.runtime.statistics.watch import See, watching

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

    Yields a function that gives the tables by layer name, once. It raises Hopeless for a layer that was never run,
    but for experts, which are warned of and get neutral values.
    """
    every = (Sums("X", leaves), Sums("Y", leaves), Hessians(leaves, windows), _Own(layers, leaves))
    families: list[Family] = [family for family in every if family]
    gathered = sorted(set(leaves) - set(COLLECTORS))
    reached: set[str] = set()

    def see(layer: str, inputs: Tensor, outputs: Tensor) -> None:
        reached.add(layer)
        for family in families:
            family.add(layer, inputs, outputs)

    def table(layer: Layer) -> Table:
        if layer.name in reached:
            return _joined(family.finish(layer.name) for family in families)
        own = every[-1].finish(layer.name) if every[-1] else {}
        return {**neutral(layer, gathered), **own}

    def tables() -> dict[str, Table]:
        if not families:
            return {layer.name: {} for layer in layers}
        missed = [layer.name for layer in layers if not layer.expert and layer.name not in reached]
        if missed:
            raise Hopeless(
                f"no calibration token reached the layer {missed[0]}"
                + (f" and {len(missed) - 1} more" if missed[1:] else ""),
                hint=f"a model that reads weights in another way needs {excluding(missed, [x.name for x in layers])}",
                layer=missed[0],
            )
        warn_of([layer for layer in layers if layer.expert and layer.name not in reached], "calibration token")
        return {layer.name: _beside(layer, table(layer)) for layer in layers}

    with ExitStack() as stack:
        if families:
            stack.enter_context(watching([layer for layer in layers if not _has_hook(layer)], see))
        for layer in filter(_has_hook, layers if families else ()):
            for module in layer.modules:
                stack.callback(module.register_forward_hook(_hook(layer.name, see), with_kwargs=True).remove)
        yield tables


def _beside(layer: Layer, table: Table) -> Table:
    """A table on the device of the weight, which is another than where it runs if accelerate has offloaded it."""
    if not layer.is_offloaded:
        return table
    device = layer.parameter.device
    return {name: value.to(device) for name, value in table.items()}


def _has_hook(layer: Layer) -> bool:
    """Whether the layer's module is called with what the layer reads, and returns what it puts out."""
    return isinstance(layer.module, LINEARS)


def _hook(name: str, see: See) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not isinstance(output, Tensor):
            raise Hopeless(f"{name} does not return its product, so it cannot be observed", layer=name)
        see(name, args[0] if args else next(iter(kwargs.values())), output)

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

    def __bool__(self) -> bool:
        return bool(self._collectors)

    def add(self, layer: str, inputs: Tensor, outputs: Tensor) -> None:
        collect_from(self._collectors[layer], layer, rows(inputs), rows(outputs))

    def finish(self, layer: str) -> Table:
        collectors = self._collectors.pop(layer)
        return {n: as_leaf(n, self._layers[layer], collector.finish()) for n, collector in collectors.items()}
