"""Pruning a model in memory with a metric: statistics, scores, masks, weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import Tensor, nn

from pzc.compiler.arm import Arm
from pzc.compiler.canonical import canonical
from pzc.compiler.core import leaves_of
from pzc.compiler.groups import constant_axes
from pzc.compiler.load import load
from pzc.compiler.metric import Metric
from pzc.runtime.errors import ConstantScore, PruningError
from pzc.runtime.forward import forward_leaves
from pzc.runtime.layers import Layer, Layers, find_layers, write_masked, zeros
from pzc.runtime.masks import Target, joint_masks, parse_pattern
from pzc.runtime.passes import Progress, check_windows, silent
from pzc.runtime.scores import checked_mask, checked_scores
from pzc.runtime.sequential import through_blocks
from pzc.runtime.statistics import Statistics, gather, passes_for

COMPILED_FROM = 1 << 30
"""Weights of a model on an accelerator from which a metric is compiled for it, which takes seconds."""


@dataclass(frozen=True)
class Pruned:
    """What a pruning run did.

    `layers` is the share of zeros of each layer, `sparsity` that of all layers together, `dense_sparsity`
    what it was before, `weights` their number. `passes` are the passes over the data that ran, by the tier of leaves
    that each was for. `sequential` says whether activations were taken after earlier blocks were pruned. `seconds`
    is the time of each stage.
    """

    target: Target
    sequential: bool
    passes: tuple[str, ...]
    layers: Mapping[str, float]
    sparsity: float
    dense_sparsity: float
    weights: int
    seconds: Mapping[str, float]


def prune(
    model: nn.Module,
    metric: Metric | str,
    *,
    windows: Tensor | None = None,
    sparsity: float = 0.5,
    pattern: str | tuple[int, int] | None = None,
    per: str | None = None,
    sequential: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> Pruned:
    """Set the least important weights of every decoder block's linear layers to zero, in place.

    `metric` may be what `pzc.load` takes: a zoo name, a file, an expression. `windows` are calibration tokens
    `[n, length]`; a metric of weights alone needs none. `per` overrides the metric's comparison groups; `pattern`
    (`N:M`: of every M consecutive inputs N are kept) replaces groups and sparsity. With `sequential`, what a block's
    layers read and put out is taken after the blocks before it were pruned, and before it is itself; gradients are
    the dense model's either way.

    Raises PruningError, and its kind NonFiniteScore when a score is not finite. Whatever is raised, the
    model's weights are untouched.
    """
    metric = load(metric) if isinstance(metric, str) else metric
    kept = parse_pattern(pattern) if isinstance(pattern, str) else pattern
    target = Target(per, sparsity, kept)
    if sequential:
        check_sequential(metric, target)
    layers = find_layers(model)
    check_target(metric, target, layers.layers)
    leaves = metric.leaves
    seconds: dict[str, float] = {}
    zeros_before = zeros(layers)
    activations = forward_leaves(leaves)
    by_block = sequential and bool(activations)
    if by_block:
        if windows is None:
            raise PruningError("this metric needs calibration windows", hint="give calibration text")
        check_windows(model, windows)
    with _timed(seconds, "statistics"):
        early = leaves - activations if by_block else leaves
        statistics = gather(model, layers, windows, early, seed=seed, progress=progress)

    if by_block and windows is not None:
        with restored_on_error() as apply, _timed(seconds, "blocks"):

            def prune_block(tables: Mapping[str, dict[str, Tensor]], block: Sequence[Layer]) -> None:
                joined = {name: {**statistics.tables[name], **tables[name]} for name in tables}
                masks = masks_for(metric, target, replace(statistics, tables=joined), block)
                for layer in block:
                    apply(layer, masks[layer.name])

            through_blocks(model, layers, windows, activations, prune_block, progress)
    else:
        with _timed(seconds, "masks"):
            masks = masks_for(metric, target, statistics, layers.layers, progress, fused=worth_compiling(layers))
        with _timed(seconds, "weights"):  # nothing can fail any more
            for layer in layers.layers:
                write_masked(layer.weight, layer.weight, masks[layer.name])
    return _summary(layers, zeros_before, target, by_block, passes_for(leaves), seconds)


def group_of(arm: Arm, target: Target) -> str:
    """The comparison group of the layers of an arm, unless a pattern replaces it."""
    return target.per or arm.per


def masks_for(
    metric: Metric,
    target: Target,
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
    found: dict[str, Tensor] = {}
    groups = [_joint_group(metric, target, layer) for layer in layers]
    waiting: dict[JointGroup, dict[str, Tensor]] = {}
    for i, (layer, group) in enumerate(zip(layers, groups, strict=True)):
        arm = metric.arm(layer.name)
        if group is None:
            values = statistics.of(layer, leaves_of(arm.core))
            per = group_of(arm, target)
            found[layer.name] = checked_mask(arm.core, values, layer.shape, layer.name, per, target, fused)
        else:
            waiting.setdefault(group, {})[layer.name] = checked_score(arm, statistics, layer, fused)
            if group not in groups[i + 1 :]:
                found.update(joint_masks(waiting.pop(group), target.sparsity))
        progress("masks", i + 1, len(layers))
    return {layer.name: found[layer.name] for layer in layers}


def worth_compiling(layers: Layers) -> bool:
    on_cpu = all(layer.parameter.device.type == "cpu" for layer in layers.layers)
    return not on_cpu and layers.size >= COMPILED_FROM


JointGroup = tuple[Arm, int | None]
"""Layers that are compared with each other: those of an arm, in one block or, for None, in the model."""


def _joint_group(metric: Metric, target: Target, layer: Layer) -> JointGroup | None:
    """The group that a layer shares with others, None where it has groups of its own."""
    arm = metric.arm(layer.name)
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
def restored_on_error() -> Iterator[Callable[[Layer, Tensor], None]]:
    """Yield a function `(layer, keep)` that prunes a layer, and keep a copy of its weight: all get
    theirs back if the context is left by an exception."""
    originals: list[tuple[Layer, Tensor]] = []

    def apply(layer: Layer, keep: Tensor) -> None:
        originals.append((layer, layer.weight.clone()))
        write_masked(layer.weight, originals[-1][1], keep)

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
    sizes = {layer.name: layer.parameter.numel() for layer in layers.layers}
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
