"""Leaves of one's own: a statistic that a user adds to the language, and how it is gathered.

    class FourthPowers:                                 # Σ x_j⁴
        def __init__(self, layer):
            self.total = torch.zeros(layer.shape[1], device=layer.parameter.device)

        def update(self, inputs, outputs):              # [tokens, in], [tokens, out]
            self.total += inputs.pow(4).sum(0)

        def finish(self):
            return self.total

    pzc.register_leaf(pzc.Leaf("X.l4", ("in",), "forward", "Σ x_j⁴ over all calibration tokens"), FourthPowers)
    pzc.prune(model, pzc.load("abs(W) * X.l4 ^ 0.25 per row"), windows=tokens)

`layer` is a `pzc.runtime.models.layers.Layer`: its `name`, `block`, `shape` and dense `weight` `[out, in]`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from pzc.compiler.arguments import argument
from pzc.compiler.core import forget
from pzc.compiler.functions import FUNCTION_NAMES
from pzc.compiler.leaves import AXES, LEAVES, TIERS, Leaf
from pzc.compiler.load import packaged_names
from pzc.compiler.names import is_family, is_leaf
from pzc.grammar.words import NAME, RESERVED
from pzc.runtime.errors import PruningError

if TYPE_CHECKING:
    from torch import Tensor

    from pzc.runtime.models.layers import Layer


class ActivationCollector(Protocol):
    """Gathers a leaf of the tiers "forward" and "hessian" of one layer.

    `update` gets the float32 rows of some tokens, `inputs` `[tokens, in]` and the layer's `outputs` `[tokens, out]`, on
    the layer's device; every token comes once. It must not change or keep them: they are the model's own memory.
    `finish` gives the leaf.
    """

    def update(self, inputs: Tensor, outputs: Tensor) -> None: ...
    def finish(self) -> Tensor: ...


class GradientCollector(Protocol):
    """Gathers a leaf of the tier "backward" of one layer.

    `update` gets the float32 `gradient` `[out, in]` of one window's mean cross-entropy, which it must not change or
    keep. `finish` gives the leaf.
    """

    def update(self, gradient: Tensor) -> None: ...
    def finish(self) -> Tensor: ...


Collect: TypeAlias = "Callable[[Layer], Tensor | ActivationCollector | GradientCollector]"
"""Called with each layer once a run: gives the leaf itself (tier "weights") or a collector for it."""

COLLECTORS: dict[str, Collect] = {}
"""The leaves that users have added, by name; what they are stands in `LEAVES`, as for all others."""

_NAME = re.compile(rf"{NAME}(\.{NAME})?")


def register_leaf(leaf: Leaf, collect: Collect) -> None:
    """Add a leaf to the language of this process, to be used in metrics like any other.

    A leaf that a metric does not read is never gathered. Leaves of the tier "hessian" are gathered as those of
    "forward", but one decoder block after another where the model allows it: for collectors that hold much. The
    weights that a collector sees are dense, whatever is pruned later.

    Raises ValueError when the name is no `NAME` or `FAMILY.member`, or is taken, by the language, the zoo or a library,
    or is that of another leaf as an argument of compiled metrics (`A_b` and `A.b`), or when the axes or the tier are
    none.
    """
    if not _NAME.fullmatch(leaf.name):
        raise ValueError(f"`{leaf.name}` is no name for a leaf: write NAME or FAMILY.member")
    family, _, member = leaf.name.partition(".")
    reserved = family in RESERVED or family in FUNCTION_NAMES or family in packaged_names()
    if is_leaf(leaf.name) or reserved or (is_family(family) and not member):
        raise ValueError(f"the name `{leaf.name}` is taken")
    alike = next((name for name in LEAVES if argument(name) == argument(leaf.name)), None)
    if alike is not None:
        raise ValueError(f"`{leaf.name}` and `{alike}` are both `{argument(alike)}` as an argument of compiled metrics")
    if leaf.axes not in ((), *((axis,) for axis in AXES), AXES):
        raise ValueError(f"{leaf.axes} are no axes: write (), ('out',), ('in',) or ('out', 'in')")
    if leaf.tier not in TIERS:
        raise ValueError(f"`{leaf.tier}` is no cost tier: there are {', '.join(TIERS)}")
    LEAVES[leaf.name] = leaf
    COLLECTORS[leaf.name] = collect


def unregister_leaf(name: str) -> None:
    """Take a leaf out again. Metrics that read it are of no use any more.

    Raises ValueError for a leaf that was not registered.
    """
    if name not in COLLECTORS:
        raise ValueError(f"no leaf `{name}` was registered")
    del LEAVES[name], COLLECTORS[name]
    forget(name)


def own_leaves(leaves: Collection[str], *tiers: str) -> list[str]:
    """Those of the `leaves` that users have added, of some tiers."""
    return [name for name in COLLECTORS if name in leaves and LEAVES[name].tier in tiers]


def collect_from(collectors: Mapping[str, Any], layer: str, *given: Tensor) -> None:
    """Hand tensors to the collectors of a layer. Raises PruningError where one changes them: they are the model's."""
    versions = [tensor._version for tensor in given]
    for name, collector in collectors.items():
        collector.update(*given)
        if [tensor._version for tensor in given] != versions:
            raise PruningError(
                f"the collector of `{name}` changes the tensors that it is given",
                hint="use operations that make a new tensor: `x.pow(2)`, not `x.pow_(2)`",
                leaf=name,
                layer=layer,
            )


def as_leaf(name: str, layer: Layer, value: Any) -> Tensor:
    """What a collector gave, as statistics are kept: float32 on the layer's device, `[out, in]` with 1 for an axis that
    the leaf lacks.

    Raises PruningError when it has another shape than the leaf.
    """
    import torch

    tensor = torch.as_tensor(value).detach().to(layer.parameter.device, torch.float32)
    axes = LEAVES[name].axes
    sizes = [size for axis, size in zip(AXES, layer.shape, strict=True) if axis in axes]
    wanted = [size if axis in axes else 1 for axis, size in zip(AXES, layer.shape, strict=True)]
    if list(tensor.shape) not in (sizes, wanted):
        raise PruningError(
            f"the collector of `{name}` gave the shape {list(tensor.shape)} for {layer.name}, which needs {sizes}",
            leaf=name,
            layer=layer.name,
        )
    return tensor.reshape(wanted)
