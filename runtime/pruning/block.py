"""What becomes of a decoder block's layers when it is pruned: masks, and weights where they are updated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from pzc.runtime.models.layers import Layer
from pzc.runtime.pruning.masking import masks_each
from pzc.runtime.pruning.obs import prune_layers, update_layers
from pzc.runtime.pruning.request import Request
from pzc.runtime.pruning.targets import Targets, target_of
from pzc.runtime.statistics.activations import Table
from pzc.runtime.statistics.gather import Statistics
from pzc.runtime.statistics.hessian import DAMPING, DAMPING_USED
from pzc.runtime.statistics.unreached import unreached_of


@dataclass(frozen=True)
class Block:
    """What becomes of a block's layers, by name: bool masks `[out, in]`, true where a weight is kept, and weights
    `[out, in]` where they are updated. `damped` has the layers whose Hessians needed more than the first damping, with
    how much they got, `unreached` the experts that no calibration token reached."""

    masks: Mapping[str, Tensor]
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    damped: Mapping[str, float] = field(default_factory=dict)
    unreached: tuple[str, ...] = ()


def pruned_blocks(
    request: Request,
    several: Sequence[Targets],
    statistics: Statistics,
    tables: Mapping[str, Table],
    members: Sequence[Layer],
    known: Sequence[Mapping[str, Tensor]] = (),
    *,
    fused: bool = False,
) -> list[Block]:
    """What becomes of the layers of a block for each of the request's targets; no weight is written.

    `tables` is what was gathered of the block when it was reached, `statistics` what was before. `known` are masks of
    layers that are compared with those of other blocks, for each target.
    """
    unreached = tuple(unreached_of(tables))
    if request.chooses:
        weights, own = prune_layers(members, tables, {x.name: target_of(several[0], x.name) for x in members})
        return [Block(own, weights, _damped(tables), unreached)]
    given = known or [{} for _ in several]
    alone = [layer for layer in members if layer.name not in given[0]]
    found = masks_each(request.metric, several, statistics.joined(tables), alone, fused=fused)
    blocks = [Block({**masks, **own}, unreached=unreached) for masks, own in zip(found, given, strict=True)]
    if request.update == "none":
        return blocks
    masks = blocks[0].masks
    return [replace(blocks[0], weights=update_layers(members, tables, masks), damped=_damped(tables))]


def _damped(tables: Mapping[str, Table]) -> dict[str, float]:
    found = {name: round(float(table[DAMPING_USED]), 6) for name, table in tables.items()}
    return {name: damping for name, damping in found.items() if damping > DAMPING[0]}
