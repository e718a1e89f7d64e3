"""Sketches: what a candidate would prune, from a few rows of every layer. A small part of the work that whole masks
take, and enough to tell how much alike two candidates are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pzc.compiler.core import Node, leaf, topological, value_of
from pzc.runtime.errors import NoGradient
from pzc.runtime.models.layers import Layer
from pzc.runtime.scoring.blockwise import Given
from pzc.runtime.scoring.masks import Target, joint_masks, keep_mask, keep_mask_nm
from pzc.runtime.scoring.operations import apply
from pzc.runtime.scoring.values import is_finite
from pzc.runtime.statistics.gather import Statistics
from pzc.search.predictors import READS, Predictors
from pzc.search.space import Genotype

WEIGHTS, ROWS = 1 << 21, 8
"""About how many weights of a model are looked at, and of each layer at least how many rows."""

BITS = 1 << 17
"""About how many bits of the masks are kept."""


@dataclass(frozen=True, eq=False)
class Sketch:
    """Some bits of the masks, packed as uint8 `[bits / 8]`, and what is `lost` of the rows by predictor."""

    bits: npt.NDArray[np.uint8]
    lost: Mapping[str, float]

    @cached_property
    def predicted(self) -> npt.NDArray[np.float64]:
        """The logarithms of what is lost, `[predictors]`."""
        return np.log([max(value, 1e-6) for value in self.lost.values()])


@dataclass(frozen=True, eq=False)
class _Stack:
    """Layers of one shape: what is looked at of all of them is computed at once.

    `shape` is `(layers, rows, in)`; `rows` and `stakes` are those of the predictors, `[layers, some rows, in]`.
    """

    layers: tuple[Layer, ...]
    shape: tuple[int, int, int]
    rows: slice
    stakes: dict[str, Tensor]
    leaves: dict[str, Tensor] = field(default_factory=dict)


class Sketches:
    """Makes sketches. Sums over `out` go over the rows that are looked at."""

    def __init__(self, layers: Sequence[Layer], statistics: Statistics, target: Target) -> None:
        stride = -(-sum(layer.size for layer in layers) // WEIGHTS)
        weights: dict[str, Tensor] = {}
        tables: dict[str, dict[str, Tensor]] = {}
        thin = []
        for layer in layers:
            out = layer.shape[0]
            rows = slice(None, None, max(1, min(stride, out // ROWS)))
            weight = statistics.of(layer, ("W",))["W"][rows].contiguous()
            tables[layer.name] = {
                name: value[rows].contiguous() if value.ndim and len(value) == out and out > 1 else value
                for name, value in statistics.tables[layer.name].items()
            }
            weights[layer.name] = weight
            thin.append(_thin(layer, weight))
        self._statistics = replace(statistics, tables=tables, weights=weights)
        self._target = target
        self._stacks = _stacked(thin, Predictors(thin, self._statistics))
        self._every = max(1, sum(layer.size for layer in thin) // BITS)

    def of(self, genotype: Genotype) -> Sketch | None:
        """The sketch of a candidate; None where its score is not finite, or not known."""
        scores = []
        for stack in self._stacks:
            try:
                scores.append(self._scored(genotype.core, stack))
            except NoGradient:
                return None
            if not is_finite(scores[-1]):
                return None
        masks = self._kept(scores, genotype.per)
        bits = np.concatenate([mask.numpy(force=True).reshape(-1) for mask in masks])
        lost = {name: self._lost(name, masks) for name in READS}
        known = {name: value for name, value in lost.items() if value is not None}
        return Sketch(np.packbits(bits[:: self._every]), known)

    def _scored(self, core: Node, stack: _Stack) -> Tensor:
        """The scores of a stack's layers, float32 `[layers, rows, in]`."""
        device = stack.layers[0].parameter.device
        values: dict[Node, Tensor] = {}
        with torch.no_grad():
            for node in topological(core):
                if node.op == "leaf":
                    values[node] = self._leaf(str(node.value), stack)
                elif node.op == "number":
                    values[node] = torch.full((1, 1, 1), value_of(node), device=device)
                else:
                    values[node] = apply(node, [values[arg] for arg in node.args])
        return values[core].expand(stack.shape)

    def _leaf(self, name: str, stack: _Stack) -> Tensor:
        """A leaf of all layers of a stack, float32 `[layers, rows or 1, in or 1]`."""
        if name not in stack.leaves:
            each = (
                Given((leaf(name),), self._statistics.of(layer, (name,)), layer.shape).values[name]
                for layer in stack.layers
            )
            stack.leaves[name] = torch.stack([value.float() for value in each])
        return stack.leaves[name]

    def _kept(self, scores: Sequence[Tensor], per: str) -> list[Tensor]:
        """The masks of every stack, bool `[layers, rows, in]`."""
        target = self._target
        if target.pattern:
            n, m = target.pattern
            return [keep_mask_nm(s.reshape(-1, s.shape[2]), n, m).view(s.shape) for s in scores]
        share = target.sparsity
        if per == "row":
            return [keep_mask(s.reshape(-1, s.shape[2]), "row", share).view(s.shape) for s in scores]
        if per == "col":
            return [keep_mask(s.mT.reshape(-1, s.shape[1]), "row", share).view(s.mT.shape).mT for s in scores]
        if per == "layer":
            return [keep_mask(s.reshape(len(s), -1), "row", share).view(s.shape) for s in scores]
        joint: dict[int | None, dict[str, Tensor]] = {}
        for stack, values in zip(self._stacks, scores, strict=True):
            for layer, one in zip(stack.layers, values, strict=True):
                joint.setdefault(layer.block if per == "block" else None, {})[layer.name] = one
        masks = {name: mask for group in joint.values() for name, mask in joint_masks(group, share).items()}
        return [torch.stack([masks[layer.name] for layer in stack.layers]) for stack in self._stacks]

    def _lost(self, predictor: str, masks: Sequence[Tensor]) -> float | None:
        """What a predictor says of masks, as `Predictors.of` does; None without its statistic."""
        lost = [
            (stack.stakes[predictor] * ~mask[:, stack.rows]).sum((1, 2)).cpu()
            for stack, mask in zip(self._stacks, masks, strict=True)
            if predictor in stack.stakes
        ]
        return float(torch.cat(lost).mean()) if lost else None


def _stacked(layers: Sequence[Layer], predictors: Predictors) -> list[_Stack]:
    """Layers put together by their shapes, their devices, and by what is known of them."""
    alike: dict[tuple[object, ...], list[Layer]] = {}
    for layer in layers:
        known = frozenset(name for name, by_layer in predictors.stakes.items() if layer.name in by_layer)
        alike.setdefault((layer.shape, layer.parameter.device, known), []).append(layer)
    found = []
    for some in alike.values():
        stakes = {
            name: torch.stack([by_layer[layer.name] for layer in some])
            for name, by_layer in predictors.stakes.items()
            if some[0].name in by_layer
        }
        found.append(_Stack(tuple(some), (len(some), *some[0].shape), predictors.rows[some[0].name], stakes))
    return found


def _thin(layer: Layer, weight: Tensor) -> Layer:
    """A layer of some rows of another."""
    module = nn.Module()
    module.register_parameter("weight", nn.Parameter(weight, requires_grad=False))
    return Layer(layer.name, module, layer.block, expert=layer.expert)
