"""Pruning a model in memory with a metric: statistics, scores, masks, weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from pzc.compiler.arm import Arm
from pzc.compiler.canonical import canonical
from pzc.compiler.core import leaves_of
from pzc.compiler.groups import constant_axes
from pzc.compiler.load import load, zoo_metric
from pzc.compiler.metric import Metric
from pzc.runtime.allocation import check_allocation, leaves_for, targets_for
from pzc.runtime.dense import Dense
from pzc.runtime.errors import ConstantScore, PruningError
from pzc.runtime.forward import forward_leaves
from pzc.runtime.hessian import DAMPING, DAMPING_USED, FACTOR
from pzc.runtime.layers import Layer, Layers, find_layers, write_masked, zeros
from pzc.runtime.masks import Target, joint_masks, keep_mask, keep_mask_nm, parse_pattern, pruned_count
from pzc.runtime.obs import prune_layers, update_layers
from pzc.runtime.passes import Progress, check_windows, silent
from pzc.runtime.scores import checked_mask, checked_scores
from pzc.runtime.sequential import through_blocks
from pzc.runtime.statistics import Statistics, gather, passes_for

COMPILED_FROM = 1 << 30
"""Weights of a model on an accelerator from which a metric is compiled for it, which takes seconds."""


UPDATES = ("none", "obs", "sparsegpt")
"""What becomes of the weights that are kept: nothing; SparseGPT's update, for the metric's mask; or the same with
SparseGPT's own mask, chosen on the way."""

Allocated: TypeAlias = str | Mapping[str, Any]
"""`uniform`, `owl`, `alpha`, or what an allocation file holds: {"blocks": […]} or {"layers": {…}}."""

Targets: TypeAlias = Target | Mapping[str, Target | None]
"""One target for all layers, or one for each by name, None for a layer that stays dense."""

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
    where layers differ.
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
    model's weights are untouched.
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
    if not by_block or not sequential:
        with _timed(seconds, "masks"):
            if update != "sparsegpt":
                fused = worth_compiling(layers)
                masks = masks_for(metric, targets, statistics, layers.layers, progress, fused=fused)
    if by_block and windows is not None:
        with restored_on_error() as apply, _timed(seconds, "blocks"):

            def prune_block(tables: Mapping[str, dict[str, Tensor]], block: Sequence[Layer]) -> None:
                new: Mapping[str, Tensor] = {}
                own: Mapping[str, Tensor] = masks
                if update == "sparsegpt":
                    new, own = prune_layers(block, tables, {x.name: _target_of(targets, x.name) for x in block})
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
    return replace(done, update=update, damped=damped, allocated=_shares(targets))


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
            yield replace(done, allocated=_shares(own))
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


def _target_of(targets: Targets, layer: str) -> Target | None:
    return targets if isinstance(targets, Target) else targets[layer]


def _shares(targets: Targets) -> dict[str, float]:
    if isinstance(targets, Target):
        return {}
    return {name: target.share if target else 0.0 for name, target in targets.items()}


def _hand_out(masks: Mapping[str, Tensor], on_mask: TakeMask | None) -> None:
    if on_mask is not None:
        for name, mask in masks.items():
            on_mask(name, mask)


def _damped(tables: Mapping[str, dict[str, Tensor]]) -> dict[str, float]:
    """The layers whose Hessians needed more than the first damping, and theirs."""
    given = {name: round(float(table[DAMPING_USED]), 6) for name, table in tables.items()}
    return {name: damping for name, damping in given.items() if damping > DAMPING[0]}


def group_of(arm: Arm, target: Target) -> str:
    """The comparison group of the layers of an arm, unless a pattern replaces it."""
    return target.per or arm.per


def masks_for(
    metric: Metric,
    target: Targets,
    statistics: Statistics,
    layers: Sequence[Layer],
    progress: Progress = silent,
    *,
    fused: bool = False,
) -> dict[str, Tensor]:
    """The masks of these layers, bool `[out, in]` by name, true where a weight is kept. No weight is written.

    Layers of one arm of the metric are compared with each other where its group is a block or the model; a block is
    finished when its last layer is scored. `fused` says that the model is large enough for a compiler's time to be well
    spent on the metric, if it is on an accelerator. Raises NonFiniteScore at the first layer with a score that is not
    finite.
    """
    return masks_each(metric, [target], statistics, layers, progress, fused=fused)[0]


def masks_each(
    metric: Metric,
    several: Sequence[Targets],
    statistics: Statistics,
    layers: Sequence[Layer],
    progress: Progress = silent,
    *,
    fused: bool = False,
) -> list[dict[str, Tensor]]:
    """The same for several targets, which differ in how much is pruned and not in the comparison groups: every layer is
    scored once."""
    found: list[dict[str, Tensor]] = [{} for _ in several]
    groups = [_joint_group(metric, several, layer) for layer in layers]
    waiting: dict[JointGroup, dict[str, Tensor]] = {}
    for i, (layer, group) in enumerate(zip(layers, groups, strict=True)):
        if group is None:
            own = [_target_of(target, layer.name) for target in several]
            for masks, mask in zip(
                found, _own_masks(metric.arm(layer.name), own, statistics, layer, fused), strict=True
            ):
                masks[layer.name] = mask
        else:
            waiting.setdefault(group, {})[layer.name] = checked_score(group[0], statistics, layer, fused)
            if group not in groups[i + 1 :]:
                scores = waiting.pop(group)
                for masks, target in zip(found, several, strict=True):
                    masks.update(_joint(scores, target))
        progress("masks", i + 1, len(layers))
    return [{layer.name: masks[layer.name] for layer in layers} for masks in found]


def _own_masks(
    arm: Arm, targets: Sequence[Target | None], statistics: Statistics, layer: Layer, fused: bool
) -> list[Tensor]:
    """A layer's masks for each target, where its groups are its own."""
    asked = [target for target in targets if target]
    if len(asked) == 1:  # masks follow block by block, and the scores never exist as a whole
        values = statistics.of(layer, leaves_of(arm.core))
        per = group_of(arm, asked[0])
        made = [checked_mask(arm.core, values, layer.shape, layer.name, per, asked[0], fused)]
    elif asked:
        scores = checked_score(arm, statistics, layer, fused)
        made = [
            keep_mask_nm(scores, *target.pattern)
            if target.pattern
            else keep_mask(scores, group_of(arm, target), target.sparsity)
            for target in asked
        ]
    masks = iter(made if asked else ())
    return [next(masks) if target else _dense_mask(layer) for target in targets]


def _dense_mask(layer: Layer) -> Tensor:
    return torch.ones(layer.shape, dtype=torch.bool, device=layer.parameter.device)


def _joint(scores: Mapping[str, Tensor], targets: Targets) -> dict[str, Tensor]:
    """The masks of layers that are one group: where each has a target, together they lose what these say."""
    if isinstance(targets, Target):
        return joint_masks(scores, targets.sparsity)
    asked = {name: target for name in scores if (target := targets[name])}
    masks = {name: torch.ones_like(values, dtype=torch.bool) for name, values in scores.items() if name not in asked}
    if asked:
        count = sum(pruned_count(scores[name].numel(), target.sparsity) for name, target in asked.items())
        size = sum(scores[name].numel() for name in asked)
        masks.update(joint_masks({name: scores[name] for name in asked}, Fraction(count, size)))
    return masks


def worth_compiling(layers: Layers) -> bool:
    on_cpu = all(layer.parameter.device.type == "cpu" for layer in layers.layers)
    return not on_cpu and layers.size >= COMPILED_FROM


JointGroup = tuple[Arm, int | None]
"""Layers that are compared with each other: those of an arm, in one block or, for None, in the model."""


def _joint_group(metric: Metric, several: Sequence[Targets], layer: Layer) -> JointGroup | None:
    """The group that a layer shares with others, None where it has groups of its own."""
    arm = metric.arm(layer.name)
    target = next((found for targets in several if (found := _target_of(targets, layer.name))), None)
    if target is None:
        return None
    per = group_of(arm, target)
    if target.pattern or per not in ("block", "model"):
        return None
    return arm, layer.block if per == "block" else None


def checked_score(arm: Arm, statistics: Statistics, layer: Layer, fused: bool = False) -> Tensor:
    """The scores of a layer, float32 `[out, in]`. Raises NonFiniteScore where one is not finite."""
    values = statistics.of(layer, leaves_of(arm.core))
    return checked_scores(arm.core, values, layer.shape, layer.name, fused)


def check_target(metric: Metric, target: Target, layers: Sequence[Layer] = ()) -> None:
    """Raise ConstantScore when a score is constant inside every group, PruningError when a pattern fits no layer."""
    check_pattern(target, layers)
    for arm in metric.arms:
        group = "row" if target.pattern else group_of(arm, target)
        if constant_axes(arm.core, group) or constant_axes(canonical(arm.core), group):
            compared = f"{target.pattern[0]}:{target.pattern[1]}" if target.pattern else f"per {group}"
            whose = f" of {', '.join(arm.layers)}" if arm.layers else ""
            raise ConstantScore(
                f"the score{whose} is constant inside its group ({compared}), so what is pruned would be arbitrary",
                hint=None if target.pattern else "choose another group with --per",
            )


def check_sequential(metric: Metric, target: Target) -> None:
    """Raise PruningError when layers of several blocks are compared with each other."""
    if not target.pattern and any(group_of(arm, target) == "model" for arm in metric.arms):
        raise PruningError(
            "one group for the whole model cannot be pruned block by block",
            hint="use --one-shot, or another group with --per",
        )


def check_pattern(target: Target, layers: Sequence[Layer]) -> None:
    """Raise PruningError when a pattern does not fit a layer."""
    for layer in layers:
        if target.pattern and layer.shape[1] % target.pattern[1]:
            n, m = target.pattern
            raise PruningError(
                f"{n}:{m} needs a multiple of {m} inputs, but {layer.name} has {layer.shape[1]}",
                layer=layer.name,
            )


@contextmanager
def restored_on_error() -> Iterator[Callable[[Layer, Tensor, Tensor | None], None]]:
    """Yield a function `(layer, keep, new)` that prunes a layer, of its own weight or the `new` one, which is rounded
    to the layer's type once. It keeps a copy of the weight: all get theirs back if the context is left by an
    exception."""
    originals: list[tuple[Layer, Tensor]] = []

    def apply(layer: Layer, keep: Tensor, new: Tensor | None = None) -> None:
        originals.append((layer, layer.weight.clone()))
        dense = originals[-1][1]
        write_masked(layer.weight, dense if new is None else new.to(dense.dtype), keep)

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
