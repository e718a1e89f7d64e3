"""Statistics of a layer over the calibration windows: what the leaves of a metric read.

A forward pass serves every leaf of the activations X and Y; a forward and backward pass serves those and the
gradients G. Hessians are gathered block by block, so that only those of one block are ever held.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pzc.compiler.leaves import LEAVES, TIERS, Tier
from pzc.runtime.errors import NoGradient, PruningError
from pzc.runtime.models.layers import Layer, Layers, check_finite, excluding
from pzc.runtime.models.passes import (
    Progress,
    batches,
    check_windows,
    evaluating,
    logits_of,
    run_blocks,
    silent,
    singly,
    unchanged,
)
from pzc.runtime.statistics.activations import Table
from pzc.runtime.statistics.forward import collecting, forward_leaves
from pzc.runtime.statistics.gradients import gradient_tables
from pzc.runtime.statistics.kept import file_of, keep, keepable, load_kept
from pzc.runtime.statistics.leaves import COLLECTORS, as_leaf, own_leaves
from pzc.runtime.statistics.sequential import NoChain, through_blocks
from pzc.runtime.statistics.unreached import NO_GRADIENT


@dataclass(frozen=True)
class Statistics:
    """What was gathered for each layer, and what follows from the weights, the seed and the sizes.

    `tables` holds the gathered leaves by layer name. `windows` is the number of calibration windows, `seed`
    the seed of `noise`, `blocks` the number of the model's decoder blocks. `weights`, where it has a layer, stands
    for the layer's own weight: a search keeps the dense weights there while the model's are pruned.
    """

    tables: Mapping[str, Table] = field(default_factory=dict)
    windows: int = 0
    seed: int = 0
    blocks: int = 1
    weights: Mapping[str, Tensor] = field(default_factory=dict)

    def of(self, layer: Layer, leaves: Collection[str]) -> dict[str, Any]:
        """The named leaves of one layer, as `scores.score` takes them. Raises NoGradient for those of gradients where
        none reached it."""
        if NO_GRADIENT in self.tables.get(layer.name, ()) and "backward" in {LEAVES[name].tier for name in leaves}:
            raise self._no_gradient(layer)
        return {n: _GIVEN[n](self, layer) if n in _GIVEN else self.tables[layer.name][n] for n in leaves}

    def _no_gradient(self, layer: Layer) -> NoGradient:
        alike = [name for name, table in self.tables.items() if NO_GRADIENT in table]
        others = f" and {len(alike) - 3} more" if len(alike) > 3 else ""
        return NoGradient(
            f"no gradient reaches {', '.join(alike[:3])}{others}",
            hint=f"leave that out with {excluding(alike, self.tables)}, or use a metric without gradients",
            layer=alike[0],
        )

    def beside(self, layers: Collection[Layer]) -> Statistics:
        """These statistics where each of `layers` has its weight; what is there already is not copied."""
        at = {layer.name: layer.parameter.device for layer in layers}
        return replace(
            self,
            tables={name: {leaf: x.to(at[name]) for leaf, x in table.items()} for name, table in self.tables.items()},
            weights={name: weight.to(at[name]) for name, weight in self.weights.items()},
        )

    def joined(self, tables: Mapping[str, Table]) -> Statistics:
        """These statistics with what else was gathered of the layers of `tables`."""
        both = {name: {**self.tables.get(name, {}), **table} for name, table in tables.items()}
        return replace(self, tables={**self.tables, **both})


def _count(statistics: Statistics, layer: Layer) -> int:
    if not statistics.windows:
        raise PruningError("this metric reads the number of calibration windows, but there are none")
    return statistics.windows


_GIVEN: dict[str, Callable[[Statistics, Layer], Any]] = {
    "W": lambda statistics, layer: statistics.weights.get(layer.name, layer.weight),
    "noise": lambda statistics, layer: noise(statistics.seed, layer.name, layer.shape).to(layer.parameter.device),
    "out_features": lambda statistics, layer: layer.shape[0],
    "in_features": lambda statistics, layer: layer.shape[1],
    "depth": lambda statistics, layer: min(1.0, layer.block / max(1, statistics.blocks - 1)),
    "windows": _count,
}
"""The leaves that are not gathered but made when they are asked for."""


def noise(seed: int, layer: str, shape: tuple[int, int]) -> Tensor:
    """Uniform numbers in [0, 1), float32 `[out, in]`, from the seed and the layer's name alone."""
    key = int.from_bytes(hashlib.sha256(f"{seed}/{layer}".encode()).digest()[:16], "little")
    generator = np.random.Generator(np.random.Philox(key=key))
    return torch.from_numpy(generator.random(shape, dtype=np.float32))


def passes_for(leaves: Collection[str]) -> tuple[Tier, ...]:
    """The passes over the data that the leaves need, cheapest first, by the tiers that they are for.

    The leaves of "forward" come along with any other pass, so that one stands alone or not at all.
    """
    tiers = {LEAVES[name].tier for name in leaves}
    dear = tuple(tier for tier in TIERS if tier in tiers & {"hessian", "backward"})
    return dear or (("forward",) if "forward" in tiers else ())


def gather(
    model: nn.Module,
    layers: Layers,
    windows: Tensor | None,
    leaves: Collection[str],
    *,
    seed: int = 0,
    progress: Progress = silent,
    cache: Path | None = None,
    together: bool = True,
) -> Statistics:
    """Gather the leaves that need passes over calibration `windows` `[n, length]`; the model is left as it
    was.

    Leaves of the tier "weights" cost nothing here, but for those of users: `Statistics.of` makes them when they are
    asked for. In the folder `cache` statistics of gradients are kept and taken from. `together` says that a forward
    pass may take several windows at once.

    Raises PruningError when a weight is not finite, a pass is needed and there are no windows, or the model cannot
    read them.
    """
    check_finite(layers.layers)
    count = 0 if windows is None else len(windows)
    tables = {layer.name: of_weights(layer, leaves) for layer in layers.layers}
    statistics = Statistics(tables, count, seed, len(layers.blocks))
    if not passes_for(leaves):
        return statistics
    if windows is None:
        raise PruningError("this metric needs calibration windows", hint="give calibration text")
    windows = check_windows(model, windows)
    if "backward" in passes_for(leaves) and (away := next((x for x in layers.layers if x.is_offloaded), None)):
        raise PruningError(
            f"gradients need all weights where they are used, but {away.name} is offloaded",
            hint="`pzc prune --stream` holds one block at a time",
            layer=away.name,
        )
    lasting = frozenset() if cache is None else keepable(leaves)
    if cache is None or not lasting:
        return statistics.joined(_gathered(model, layers, windows, leaves, progress, together=together))
    file = file_of(cache, model, layers.layers, windows, lasting)
    kept = load_kept(file, layers.layers, lasting)
    others = frozenset(leaves) - lasting if kept else leaves
    rest = statistics.joined(_gathered(model, layers, windows, others, progress, together=together))
    if kept is None:
        keep(file, rest.tables, lasting)
    return rest.joined(kept or {})


def _gathered(
    model: nn.Module,
    layers: Layers,
    windows: Tensor,
    leaves: Collection[str],
    progress: Progress,
    *,
    together: bool,
) -> dict[str, Table]:
    """What the passes that `leaves` need give of each layer."""
    passes, forward = passes_for(leaves), forward_leaves(leaves)
    found: list[Mapping[str, Table]] = []
    with evaluating(model), unchanged(model):
        if "hessian" in passes:
            found.append(_by_block(model, layers, windows, forward, progress))
            forward = frozenset()
        if set(passes) - {"hessian"}:
            with collecting(layers.layers, forward, len(windows)) as collected:
                if "backward" in passes:
                    found.append(gradient_tables(model, layers.layers, windows, leaves, progress))
                else:
                    _forward(model, layers, windows, progress, together=together)
            found.append(collected())
    return {
        layer.name: {n: x for tables in found for n, x in tables.get(layer.name, {}).items()} for layer in layers.layers
    }


def of_weights(layer: Layer, leaves: Collection[str]) -> Table:
    return {name: as_leaf(name, layer, COLLECTORS[name](layer)) for name in own_leaves(leaves, "weights")}


def _forward(model: nn.Module, layers: Layers, windows: Tensor, progress: Progress, *, together: bool = True) -> None:
    done = 0
    run = logits_of if layers.outside else run_blocks
    with torch.no_grad():
        for batch in batches(model, windows) if together else singly(model, windows):
            run(model, batch)
            done += len(batch)
            progress("statistics", done, len(windows))


def _by_block(
    model: nn.Module, layers: Layers, windows: Tensor, leaves: Collection[str], progress: Progress
) -> dict[str, Table]:
    """The forward `leaves` of the dense model, one block after another; where its blocks are no chain, of all at
    once."""
    found: dict[str, Table] = {}

    def keep(tables: Mapping[str, Table], block: Sequence[Layer]) -> None:
        found.update(tables)

    def as_hessians(stage: str, done: int, total: int) -> None:
        progress("hessians", done, total)

    try:
        through_blocks(model, layers, windows, leaves, keep, as_hessians, changes=False)
    except NoChain:
        with collecting(layers.layers, leaves, len(windows)) as collected:
            _forward(model, layers, windows, progress)
        return collected()
    return found
