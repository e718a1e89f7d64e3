"""Pruning a model in memory with a metric: statistics, scores, masks, weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor, nn

from pzc.compiler.load import load, zoo_metric
from pzc.compiler.metric import Metric
from pzc.runtime.allocation import check_allocation, leaves_for, targets_for
from pzc.runtime.dense import Dense
from pzc.runtime.errors import PruningError
from pzc.runtime.forward import forward_leaves
from pzc.runtime.hessian import DAMPING, DAMPING_USED, FACTOR
from pzc.runtime.layers import Layer, Layers, find_layers, zeros
from pzc.runtime.masking import masks_each, masks_for, worth_compiling
from pzc.runtime.masks import Target, parse_pattern
from pzc.runtime.obs import prune_layers, update_layers
from pzc.runtime.passes import Progress, check_windows, silent
from pzc.runtime.sequential import through_blocks
from pzc.runtime.statistics import Statistics, gather, passes_for
from pzc.runtime.targets import Targets, check_sequential, check_target, shares_of, target_of
from pzc.runtime.unreached import unreached_of
from pzc.runtime.values import write_masked

UPDATES = ("none", "obs", "sparsegpt")
"""What becomes of the weights that are kept: nothing; SparseGPT's update, for the metric's mask; or the same with
SparseGPT's own mask, chosen on the way."""

Allocated: TypeAlias = str | Mapping[str, Any]
"""`uniform`, `owl`, `alpha`, or what an allocation file holds: {"blocks": […]} or {"layers": {…}}."""

TakeMask: TypeAlias = Callable[[str, Tensor], None]
"""Called with each layer's name and mask, bool `[out, in]`, true where a weight is kept."""


@dataclass(frozen=True)
class Pruned:
    """What a pruning run did.

    `layers` is the share of zeros of each layer, `sparsity` that of all layers together, `dense_sparsity`
    what it was before, `weights` their number. `passes` are the passes over the data that ran, by the tier of leaves
    that each was for. `sequential` says whether activations were taken after earlier blocks were pruned. `seconds`
    is the time of each stage. `update` is one of `UPDATES`; `damped` has the layers whose Hessians needed more damping
    than 0.01 of their mean diagonal, with how much they got. `allocated` has the share that each layer was to lose,
    where layers differ. `unreached` are the experts that no calibration token reached.
    """

    target: Target
    sequential: bool
    passes: tuple[str, ...]
    layers: Mapping[str, float]
    sparsity: float
    dense_sparsity: float
    weights: int
    seconds: Mapping[str, float]
    update: str = "none"
    damped: Mapping[str, float] = field(default_factory=dict)
    allocated: Mapping[str, float] = field(default_factory=dict)
    unreached: tuple[str, ...] = ()


def prune(
    model: nn.Module,
    metric: Metric | str,
    *,
    windows: Tensor | None = None,
    sparsity: float = 0.5,
    pattern: str | tuple[int, int] | None = None,
    per: str | None = None,
    sequential: bool | None = None,
    update: str | None = None,
    allocation: Allocated = "uniform",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    seed: int = 0,
    progress: Progress = silent,
    on_mask: TakeMask | None = None,
    cache: Path | None = None,
    restores: bool = True,
) -> Pruned:
    """Set the least important weights of the linear layers of every decoder block to zero, in place.

    `metric` may be what `pzc.load` takes: a zoo name, a file, an expression. `windows` are calibration tokens
    `[n, length]`; a metric of weights alone needs none. `per` overrides the metric's comparison groups; `pattern`
    (`N:M`: of every M consecutive inputs N are kept) replaces groups and sparsity. `allocation` gives blocks or layers
    sparsities of their own that make `sparsity` together, and blocks their own N of M.

    With `update` "obs" the weights that are kept make up for those that go (`obs`). The zoo's `sparsegpt` is the
    published method unless `update` says otherwise: it is "sparsegpt" then, and chooses its mask on the way.

    With `sequential`, what a block's layers read and put out is taken after the blocks before it were pruned, and
    before it is itself; gradients are the dense model's either way. Left to None, runs that update weights are
    sequential, as published, and others are not. `include` and `exclude` are patterns of layers' names, as
    `find_layers` takes them. `on_mask` gets every layer's mask. In the folder `cache` statistics of gradients are kept
    and taken from.

    Raises PruningError, and its kind NonFiniteScore when a score is not finite. Whatever is raised, the
    model's weights are untouched. A run that goes block by block holds a copy of them for that; without `restores`, for
    a model that would be given up then, it holds none, and blocks that were done stay pruned.
    """
    metric = load(metric) if isinstance(metric, str) else metric
    target = Target(per, sparsity, parse_pattern(pattern) if isinstance(pattern, str) else pattern)
    sequential, update = way_of(metric, target, sequential, update)
    layers = find_layers(model, include, exclude)
    check_target(metric, target, layers.layers)
    leaves = metric.leaves if update != "sparsegpt" else frozenset()
    activations = forward_leaves(leaves)
    by_block = update != "none" or (sequential and bool(activations))
    if by_block and windows is None:
        what = "this metric" if update == "none" else "the update of weights"
        raise PruningError(f"{what} needs calibration windows", hint="give calibration text")
    if by_block and windows is not None:
        check_windows(model, windows)
    seconds: dict[str, float] = {}
    zeros_before = zeros(layers)
    with _timed(seconds, "statistics"):
        early = leaves - activations if sequential and by_block else leaves
        early |= leaves_for(allocation)
        statistics = gather(model, layers, windows, early, seed=seed, progress=progress, cache=cache)
        targets = _targets(allocation, metric, target, layers, statistics, adaptive=update == "sparsegpt")
    masks: dict[str, Tensor] = {}
    damped: dict[str, float] = {}
    unreached = dict.fromkeys(unreached_of(statistics.tables))
    if not by_block or not sequential:
        with _timed(seconds, "masks"):
            if update != "sparsegpt":
                fused = worth_compiling(layers)
                masks = masks_for(metric, targets, statistics, layers.layers, progress, fused=fused)
    if by_block and windows is not None:
        with restored_on_error(restores) as apply, _timed(seconds, "blocks"):

            def prune_block(tables: Mapping[str, dict[str, Tensor]], block: Sequence[Layer]) -> None:
                new: Mapping[str, Tensor] = {}
                unreached.update(dict.fromkeys(unreached_of(tables)))
                own: Mapping[str, Tensor] = masks
                if update == "sparsegpt":
                    new, own = prune_layers(block, tables, {x.name: target_of(targets, x.name) for x in block})
                elif sequential:
                    joined = {name: {**statistics.tables[name], **tables[name]} for name in tables}
                    own = masks_for(metric, targets, replace(statistics, tables=joined), block)
                if update == "obs":
                    new = update_layers(block, tables, own)
                if update != "none":
                    damped.update(_damped(tables))
                for layer in block:
                    apply(layer, own[layer.name], new.get(layer.name))
                _hand_out({layer.name: own[layer.name] for layer in block}, on_mask)

            read = (activations if sequential else frozenset()) | ({FACTOR} if update != "none" else frozenset())
            through_blocks(model, layers, windows, read, prune_block, progress, changes=sequential)
    else:
        with _timed(seconds, "weights"):  # nothing can fail any more
            for layer in layers.layers:
                write_masked(layer.weight, layer.weight, masks[layer.name])
        _hand_out(masks, on_mask)
    passes = passes_for(leaves)
    if update != "none":
        passes = ("hessian", *(tier for tier in passes if tier == "backward"))
    if leaves_for(allocation) and (by_block or not passes):  # of the dense model, before it is walked
        passes = ("forward", *passes)
    done = _summary(layers, zeros_before, target, by_block and sequential, passes, seconds)
    return replace(done, update=update, damped=damped, allocated=shares_of(targets), unreached=tuple(unreached))


def prune_each(
    model: nn.Module,
    metric: Metric | str,
    sparsities: Sequence[float],
    *,
    windows: Tensor | None = None,
    per: str | None = None,
    allocation: Allocated = "uniform",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    seed: int = 0,
    progress: Progress = silent,
    on_mask: TakeMask | None = None,
    cache: Path | None = None,
) -> Iterator[Pruned]:
    """Prune a model one-shot to one sparsity after another, each from the dense weights: statistics are gathered once,
    and every layer is scored once. The model is pruned to a sparsity while its result is yielded, and dense afterwards.

    Arguments are those of `prune`. Holds a copy of the dense weights, and the masks of all sparsities.
    """
    metric = load(metric) if isinstance(metric, str) else metric
    targets = [Target(per, sparsity) for sparsity in sparsities]
    layers = find_layers(model, include, exclude)
    seconds: dict[str, float] = {}
    for target in targets:
        way_of(metric, target, False, "none")
        check_target(metric, target, layers.layers)
    with _timed(seconds, "statistics"):
        leaves = metric.leaves | leaves_for(allocation)
        statistics = gather(model, layers, windows, leaves, seed=seed, progress=progress, cache=cache)
        allocated = [_targets(allocation, metric, target, layers, statistics) for target in targets]
    with _timed(seconds, "masks"):
        every = masks_each(metric, allocated, statistics, layers.layers, progress, fused=worth_compiling(layers))
    zeros_before = zeros(layers)
    dense = Dense(layers)
    try:
        for target, own, masks in zip(targets, allocated, every, strict=True):
            with _timed(seconds, "weights"):
                dense.apply(masks)
            _hand_out(masks, on_mask)
            done = _summary(layers, zeros_before, target, False, passes_for(leaves), seconds)
            yield replace(done, allocated=shares_of(own), unreached=tuple(unreached_of(statistics.tables)))
    finally:
        dense.restore()


def way_of(metric: Metric, target: Target, sequential: bool | None, update: str | None) -> tuple[bool, str]:
    """Whether a run goes block by block, and its update: as asked for, or the metric's own way where that is None.

    Raises PruningError for what does not go together.
    """
    published = metric == zoo_metric("sparsegpt")
    chosen = update or ("sparsegpt" if published else "none")
    if chosen not in UPDATES:
        raise PruningError(f"there is no update `{chosen}`", hint=f"use {', '.join(UPDATES[:-1])} or {UPDATES[-1]}")
    if chosen == "sparsegpt" and not published:
        raise PruningError(
            f"the update `sparsegpt` chooses its own mask, so it does not go with `{metric.name}`",
            hint="use the metric sparsegpt, or the update `obs` for this metric's mask",
        )
    if chosen == "sparsegpt" and target.per:
        raise PruningError(
            f"SparseGPT compares the weights of 128 columns with each other, not those of a {target.per}",
            hint="with --update obs or none its score prunes in any group",
        )
    sequential = chosen != "none" if sequential is None else sequential
    if sequential:
        check_sequential(metric, target)
    return sequential, chosen


def _targets(
    allocation: Allocated,
    metric: Metric,
    target: Target,
    layers: Layers,
    statistics: Statistics,
    *,
    adaptive: bool = False,
) -> Targets:
    if allocation == "uniform":
        return target
    if not isinstance(allocation, str):
        allocation = check_allocation(allocation, "the allocation")
    return targets_for(allocation, metric, target, layers.layers, statistics, adaptive=adaptive)


def _hand_out(masks: Mapping[str, Tensor], on_mask: TakeMask | None) -> None:
    if on_mask is not None:
        for name, mask in masks.items():
            on_mask(name, mask)


def _damped(tables: Mapping[str, dict[str, Tensor]]) -> dict[str, float]:
    """The layers whose Hessians needed more than the first damping, and theirs."""
    given = {name: round(float(table[DAMPING_USED]), 6) for name, table in tables.items()}
    return {name: damping for name, damping in given.items() if damping > DAMPING[0]}


@contextmanager
def restored_on_error(restores: bool = True) -> Iterator[Callable[[Layer, Tensor, Tensor | None], None]]:
    """Yield a function `(layer, keep, new)` that prunes a layer, of its own weight or the `new` one, which is rounded
    to the layer's type once. Unless `restores` is off it keeps a copy of the weight: all get theirs back if the context
    is left by an exception."""
    originals: list[tuple[Layer, Tensor]] = []

    def apply(layer: Layer, keep: Tensor, new: Tensor | None = None) -> None:
        if restores:
            originals.append((layer, layer.weight.clone()))
        write_masked(layer.weight, layer.weight if new is None else new.to(layer.weight.dtype), keep)

    try:
        yield apply
    except BaseException:
        for layer, weight in originals:
            layer.weight.copy_(weight)
        raise


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = round(time.perf_counter() - start, 3)


def _summary(
    layers: Layers,
    before: Mapping[str, int],
    target: Target,
    sequential: bool,
    passes: tuple[str, ...],
    seconds: Mapping[str, float],
) -> Pruned:
    after = zeros(layers)
    sizes = {layer.name: layer.size for layer in layers.layers}
    return Pruned(
        target=target,
        sequential=sequential,
        passes=passes,
        layers={name: after[name] / size for name, size in sizes.items()},
        sparsity=sum(after.values()) / layers.size,
        dense_sparsity=sum(before.values()) / layers.size,
        weights=layers.size,
        seconds=dict(seconds),
    )
