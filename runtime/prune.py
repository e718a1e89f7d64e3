"""Pruning a model in memory with a metric: statistics, scores, masks, weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from pzc.compiler.canonical import canonical
from pzc.compiler.core import Node, leaves_of
from pzc.compiler.groups import constant_axes
from pzc.runtime.errors import PruningError
from pzc.runtime.layers import Layer, Layers, find_layers, write_masked, zeros
from pzc.runtime.masks import Target, keep_mask, keep_mask_nm, model_masks, parse_pattern
from pzc.runtime.passes import Progress, check_windows, silent
from pzc.runtime.scores import check_finite, score
from pzc.runtime.sequential import through_blocks
from pzc.runtime.statistics import Statistics, gather, passes_for


class Metric(Protocol):
    """What pruning needs of a metric: its core graph and its comparison group."""

    @property
    def name(self) -> str: ...
    @property
    def core(self) -> Node: ...
    @property
    def per(self) -> str: ...


@dataclass(frozen=True)
class Pruned:
    """What a pruning run did.

    `layers` is the share of zeros of each layer, `sparsity` that of all layers together, `dense_sparsity`
    what it was before, `weights` their number. `passes` is "weights", "forward" or "backward": the dearest
    pass that ran. `sequential` says whether activations were taken block by block. `seconds` is the time of
    each stage.
    """

    target: Target
    sequential: bool
    passes: str
    layers: Mapping[str, float]
    sparsity: float
    dense_sparsity: float
    weights: int
    seconds: Mapping[str, float]


def prune(
    model: nn.Module,
    metric: Metric,
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

    `windows` are calibration tokens `[n, length]`; a metric of weights alone needs none. `per` overrides the
    metric's comparison group; `pattern` (`N:M`: of every M consecutive inputs N are kept) replaces group and
    sparsity. With `sequential`, a block's activations are taken after the blocks before it were pruned;
    gradients are the dense model's either way.

    Raises PruningError, and its kind NonFiniteScore when a score is not finite. Whatever is raised, the
    model's weights are untouched.
    """
    kept = parse_pattern(pattern) if isinstance(pattern, str) else pattern
    target = Target(metric.per if per is None else per, sparsity, kept)
    if sequential and target.per == "model" and not kept:
        raise PruningError(
            "one group for the whole model cannot be pruned block by block",
            hint="use --one-shot, or another group with --per",
        )
    layers = find_layers(model)
    check_target(metric.core, target, layers.layers)
    leaves = leaves_of(metric.core)
    seconds: dict[str, float] = {}
    zeros_before = zeros(layers)
    inputs = frozenset(name for name in leaves if name.startswith("X."))
    by_block = sequential and bool(inputs)
    if by_block:
        if windows is None:
            raise PruningError("this metric needs calibration windows", hint="give calibration text")
        check_windows(model, windows)
    with _timed(seconds, "statistics"):
        early = leaves - inputs if by_block else leaves
        statistics = gather(model, layers, windows, early, seed=seed, progress=progress)

    if by_block and windows is not None:
        with restored_on_error() as apply, _timed(seconds, "blocks"):

            def prune_block(tables: Mapping[str, dict[str, Tensor]], block: Sequence[Layer]) -> None:
                joined = {name: {**statistics.tables.get(name, {}), **tables[name]} for name in tables}
                masks = masks_for(metric.core, target, Statistics(joined, len(windows), seed), block)
                for layer in block:
                    apply(layer, masks[layer.name])

            through_blocks(model, layers, windows, inputs, prune_block, progress)
    else:
        with _timed(seconds, "masks"):
            masks = masks_for(metric.core, target, statistics, layers.layers, progress)
        with _timed(seconds, "weights"):  # nothing can fail any more
            for layer in layers.layers:
                write_masked(layer.weight, layer.weight, masks[layer.name])
    return _summary(layers, zeros_before, target, by_block, passes_for(leaves), seconds)


def masks_for(
    core: Node,
    target: Target,
    statistics: Statistics,
    layers: Sequence[Layer],
    progress: Progress = silent,
) -> dict[str, Tensor]:
    """The masks of these layers, bool `[out, in]` by name, true where a weight is kept. No weight is written.

    Raises NonFiniteScore at the first layer with a score that is not finite.
    """
    leaves = leaves_of(core)
    found: dict[str, Tensor] = {}
    whole = target.per == "model" and not target.pattern
    for done, layer in enumerate(layers, start=1):
        values = statistics.of(layer, leaves)
        scores = score(core, values, layer.shape)
        check_finite(core, values, scores, layer.name)
        if whole:
            found[layer.name] = scores
        elif target.pattern:
            found[layer.name] = keep_mask_nm(scores, *target.pattern)
        else:
            found[layer.name] = keep_mask(scores, target.per, target.sparsity)
        progress("masks", done, len(layers))
    return model_masks(found, target.sparsity) if whole else found


def check_target(core: Node, target: Target, layers: Sequence[Layer] = ()) -> None:
    """Raise PruningError when a score is constant inside every group, or a pattern does not fit a layer."""
    if target.pattern:
        n, m = target.pattern
        for layer in layers:
            if layer.shape[1] % m:
                raise PruningError(
                    f"{n}:{m} needs a multiple of {m} inputs, but {layer.name} has {layer.shape[1]}",
                    layer=layer.name,
                )
    group = "row" if target.pattern else target.per
    if constant_axes(core, group) or constant_axes(canonical(core), group):
        compared = f"{target.pattern[0]}:{target.pattern[1]}" if target.pattern else f"per {target.per}"
        raise PruningError(
            f"the score is constant inside its group ({compared}), so what is pruned would be arbitrary",
            hint=None if target.pattern else "choose another group with --per",
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
    passes: str,
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
