"""How much of each layer is pruned, where layers differ: OWL, AlphaPruning, or a file.

An allocation proposes a sparsity for every layer. What is pruned then comes in whole steps, such as one weight more of
every row, so the proposals are rounded together: of all weights ⌊total · sparsity⌋ are pruned, or as many fewer as
are left over when no layer's next step fits any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any

from pzc.compiler.arm import matches
from pzc.compiler.metric import Metric
from pzc.grammar.diagnostics import did_you_mean
from pzc.runtime.errors import PruningError
from pzc.runtime.models.layers import Layer
from pzc.runtime.pruning.allocation_file import read_allocation
from pzc.runtime.pruning.apportion import Cell, whole_steps
from pzc.runtime.pruning.measures import BY_BLOCK
from pzc.runtime.pruning.targets import group_of
from pzc.runtime.scoring.masks import Target, pruned_count
from pzc.runtime.statistics.gather import Statistics

HIGHEST = 0.99
"""The highest sparsity that an allocation gives to a layer."""

ROUNDING = 1e-9
"""How far a sparsity that follows from others may be outside of what is allowed: 0.3 is not 0.1 + 0.2."""

Allocation = str | Mapping[str, Any]
"""`uniform`, `owl`, `alpha`, or what an allocation file holds."""

Proposed = dict[str, float]
"""A sparsity by layer, before rounding."""


def leaves_for(allocation: Allocation) -> frozenset[str]:
    """The leaves that an allocation reads."""
    return frozenset({"W", "X.l2"}) if allocation == "owl" else frozenset()


def is_measured(allocation: Allocation) -> bool:
    """Whether an allocation depends on a measure of every block (`measure`)."""
    return isinstance(allocation, str) and allocation in BY_BLOCK


def measure(allocation: str, members: Sequence[Layer], statistics: Statistics) -> float:
    """What an allocation's proposals follow from, of one block's layers: a number for `targets_for`."""
    return BY_BLOCK[allocation].measure(members, statistics)


def measures_of(allocation: Allocation, layers: Sequence[Layer], statistics: Statistics) -> dict[int, float]:
    """The measure of each block, by the block's number; empty where the allocation needs none."""
    if not isinstance(allocation, str) or not is_measured(allocation):
        return {}
    return {block: measure(allocation, members, statistics) for block, members in _blocks(layers).items()}


def check_reachable(
    allocation: Allocation, metric: Metric, target: Target, layers: Sequence[Layer], *, adaptive: bool = False
) -> None:
    """Raise PruningError for an allocation that is none or can't reach the target, before anything is measured.

    `adaptive` says that SparseGPT chooses the masks, so that there are no groups.
    """
    if allocation == "uniform":
        return
    if isinstance(allocation, str) and allocation not in BY_BLOCK:
        raise _unknown(allocation)
    if target.pattern is None and not adaptive and any(group_of(arm, target) == "model" for arm in metric.arms):
        raise PruningError(
            "one group for the whole model leaves nothing to allocate", hint="choose another group with --per"
        )
    _proposed(allocation, target.share, layers, dict.fromkeys(_blocks(layers), 0.0))


def targets_for(
    allocation: Allocation,
    metric: Metric,
    target: Target,
    layers: Sequence[Layer],
    measures: Mapping[int, float],
    *,
    adaptive: bool = False,
) -> dict[str, Target | None]:
    """The target of each layer, None for one that stays dense; together they prune the share that `target` says.

    `allocation` is `uniform`, `owl`, `alpha`, or what an allocation file holds (`read_allocation`), `measures` are
    those of its blocks (`measures_of`). With a pattern N:M every block gets its own N. `adaptive` says that SparseGPT
    chooses the masks, so that a layer can lose any number. Raises PruningError as `check_reachable` does.
    """
    check_reachable(allocation, metric, target, layers, adaptive=adaptive)
    if allocation == "uniform":
        return {layer.name: target for layer in layers}
    proposed, by_block = _proposed(allocation, target.share, layers, measures)
    if target.pattern is not None:
        return _patterns(target, layers, proposed, by_block)

    def cell(layer: Layer) -> Cell:
        group = "layer" if adaptive else group_of(metric.arm(layer.name), target)
        step = {"row": layer.shape[0], "col": layer.shape[1]}.get(group, 1)
        return Cell(layer.size, step, proposed[layer.name])

    cells = [cell(layer) for layer in layers]
    counts = whole_steps(cells, pruned_count(sum(cell.size for cell in cells), target.sparsity))
    shares = (Fraction(count * cell.step, cell.size) for count, cell in zip(counts, cells, strict=True))
    return {
        layer.name: replace(target, sparsity=share) if share else None
        for layer, share in zip(layers, shares, strict=True)
    }


def _patterns(target: Target, layers: Sequence[Layer], proposed: Proposed, by_block: bool) -> dict[str, Target | None]:
    """N of every M for each block, or for each layer where the allocation tells layers apart; N on average as asked."""
    n, m = target.pattern or (0, 0)
    members: dict[Any, list[Layer]] = {}
    for layer in layers:
        members.setdefault(layer.block if by_block else layer.name, []).append(layer)
    sizes = [sum(layer.size for layer in group) for group in members.values()]
    cells = [
        Cell(size, size // m, proposed[group[0].name]) for size, group in zip(sizes, members.values(), strict=True)
    ]
    found: dict[str, Target | None] = {}
    for group, dropped in zip(members.values(), whole_steps(cells, sum(sizes) * (m - n) // m), strict=True):
        chosen = replace(target, pattern=(m - dropped, m)) if dropped else None
        found.update({layer.name: chosen for layer in group})
    return {layer.name: found[layer.name] for layer in layers}


def _proposed(
    allocation: Allocation, share: float, layers: Sequence[Layer], measures: Mapping[int, float]
) -> tuple[Proposed, bool]:
    """The proposals, which make `share` of all weights, and whether those of a block are the same."""
    if isinstance(allocation, str):
        way = BY_BLOCK[allocation]
        return _spread(way.propose(share, measures), share, layers, scale=way.scale), True
    blocks, by_layer = allocation.get("blocks"), allocation.get("layers")
    if blocks is not None:
        return _spread(_listed(blocks, layers), share, layers, scale=True), True
    return _by_pattern(by_layer or {}, share, layers), False


def _blocks(layers: Sequence[Layer]) -> dict[int, list[Layer]]:
    found: dict[int, list[Layer]] = {}
    for layer in layers:
        found.setdefault(layer.block, []).append(layer)
    return found


def _spread(by_block: Mapping[int, float], share: float, layers: Sequence[Layer], *, scale: bool) -> Proposed:
    """The sparsities of blocks for their layers, moved (or scaled) together until they make `share` of all weights."""
    proposed = {layer.name: by_block[layer.block] for layer in layers}
    return _to_share(proposed, {layer.name: layer.size for layer in layers}, share, scale=scale)


def _to_share(proposed: Proposed, sizes: Mapping[str, int], share: float, *, scale: bool) -> Proposed:
    """Sparsities moved by one number, or multiplied with one, and cut at 0 and `HIGHEST`, so that they make `share` of
    all weights. Raises PruningError where that cannot be."""
    total = sum(sizes.values())

    def moved(by: float) -> Proposed:
        return {n: min(max(p * by if scale else p + by, 0.0), HIGHEST) for n, p in proposed.items()}

    def reached(by: float) -> float:
        found = moved(by)
        return sum(found[name] * size for name, size in sizes.items()) / total

    low, high = (0.0, 1e6) if scale else (-1.0, 1.0)
    if not reached(low) <= share <= reached(high) + 1e-12:
        raise PruningError(
            f"this allocation makes a sparsity of {reached(high):.3f} at most, not {share:.3f}",
            hint=f"no layer is pruned by more than {HIGHEST:.0%}",
        )
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) < share else (low, middle)
    return moved(high)


def named_allocation(name: str | PathLike[str]) -> str | dict[str, Any]:
    """What `--allocation` names: `uniform`, `owl`, `alpha`, or the content of a file."""
    if not isinstance(name, str):
        return read_allocation(Path(name))
    if name == "uniform" or name in BY_BLOCK:
        return name
    if Path(name).suffix in (".toml", ".json") or Path(name).is_file():
        return read_allocation(name)
    raise _unknown(name)


def _unknown(name: str) -> PruningError:
    known = ["uniform", *BY_BLOCK]
    return PruningError(
        f"there is no allocation `{name}`",
        hint=did_you_mean(name, known) or f"use {', '.join(known)}, or a .toml or .json file",
    )


def _listed(blocks: Sequence[float], layers: Sequence[Layer]) -> dict[int, float]:
    count = 1 + max(layer.block for layer in layers)
    if len(blocks) != count:
        last = f"the last block with layers to prune is number {count} of the model"
        raise PruningError(f"the allocation lists {len(blocks)} blocks, but {last}")
    return dict(enumerate(blocks))


def _by_pattern(patterns: Mapping[str, float], share: float, layers: Sequence[Layer]) -> Proposed:
    """What the patterns say, and for all other layers the one sparsity that then makes `share` of all weights."""
    known = sorted({layer.name.rsplit(".", 1)[-1] for layer in layers})
    for pattern in patterns:
        if not any(matches(pattern, layer.name) for layer in layers):
            raise PruningError(
                f"the allocation names `{pattern}`, which is no layer of this model",
                hint=did_you_mean(pattern, known) or f"there are {', '.join(known)}",
                pattern=pattern,
            )
    fixed = {
        layer.name: next(float(s) for p, s in patterns.items() if matches(p, layer.name))
        for layer in layers
        if any(matches(p, layer.name) for p in patterns)
    }
    sizes = {layer.name: layer.size for layer in layers}
    total, rest = sum(sizes.values()), sum(size for name, size in sizes.items() if name not in fixed)
    gone = sum(s * sizes[name] for name, s in fixed.items())
    if not rest:
        if abs(gone / total - share) > 1e-3:
            raise PruningError(
                f"the allocation names every layer and makes a sparsity of {gone / total:.4f}, not {share:.4f}",
                hint=f"ask for --sparsity {gone / total:.4f}, or leave layers out: they get the rest",
            )
        return _to_share(fixed, sizes, share, scale=True)
    left = (share * total - gone) / rest
    if not -ROUNDING <= left <= HIGHEST + ROUNDING:
        raise PruningError(
            f"the layers that the allocation leaves out would need a sparsity of {left:.3f} to make {share:.3f} in all",
            hint="change the sparsities of the others, or --sparsity",
        )
    left = min(max(left, 0.0), HIGHEST)
    return {layer.name: fixed.get(layer.name, left) for layer in layers}
