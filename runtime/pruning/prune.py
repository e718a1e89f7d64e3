"""Pruning a model in memory with a metric: statistics, scores, masks, weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any, TypeAlias, Unpack

from torch import Tensor, nn

from pzc.compiler.metric import Metric
from pzc.runtime.errors import PruningError
from pzc.runtime.models.layers import Layer, Layers, find_layers, zeros
from pzc.runtime.models.passes import Progress, check_windows, silent
from pzc.runtime.pruning.allocation import measures_of, targets_for
from pzc.runtime.pruning.block import pruned_blocks
from pzc.runtime.pruning.dense import Dense
from pzc.runtime.pruning.finished import Finished
from pzc.runtime.pruning.masking import masks_each, masks_for, worth_compiling
from pzc.runtime.pruning.request import How, Request
from pzc.runtime.pruning.targets import Targets, shares_of
from pzc.runtime.scoring.masks import Target
from pzc.runtime.scoring.values import write_masked
from pzc.runtime.statistics.gather import Statistics, gather
from pzc.runtime.statistics.sequential import through_blocks
from pzc.runtime.statistics.unreached import unreached_of

TakeMask: TypeAlias = Callable[[str, Tensor], None]
"""Called with each layer's name and mask, bool `[out, in]`, true where a weight is kept."""


@dataclass(frozen=True)
class Pruned:
    """What a pruning run did.

    `layers` is the share of zeros of each layer, `sparsity` that of all layers together, `dense_sparsity`
    what it was before, `weights` their number. `passes` are the passes over the data that ran, by the tier of leaves
    that each was for. `sequential` says whether activations were taken after earlier blocks were pruned. `seconds`
    is the time of each stage. `update` is that of the request; `damped` has the layers whose Hessians needed more
    damping than 0.01 of their mean diagonal, with how much they got. `allocated` has the share that each layer was to
    lose, where layers differ. `unreached` are the experts that no calibration token reached.
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

    @classmethod
    def of(
        cls,
        counts: Mapping[str, tuple[int, int, int]],
        request: Request,
        target: Target,
        seconds: Mapping[str, float],
        **more: Any,
    ) -> Pruned:
        """What follows from each layer's `counts`: its zeros before and after, and its weights."""
        weights = sum(size for _, _, size in counts.values())
        return cls(
            target=target,
            sequential=request.sequential and request.by_block,
            passes=request.passes,
            layers={name: after / size for name, (_, after, size) in counts.items()},
            sparsity=sum(after for _, after, _ in counts.values()) / weights,
            dense_sparsity=sum(before for before, _, _ in counts.values()) / weights,
            weights=weights,
            seconds=dict(seconds),
            update=request.update,
            **more,
        )


def prune(
    model: nn.Module,
    metric: Metric | str | PathLike[str],
    *,
    windows: Tensor | None = None,
    progress: Progress = silent,
    on_mask: TakeMask | None = None,
    restores: bool = True,
    **how: Unpack[How],
) -> Pruned:
    """Set the least important weights of the linear layers of every decoder block to zero, in place.

    `metric` may be what `pzc.load` takes: a zoo name, a file, an expression. `windows` are calibration tokens
    `[n, length]`; a metric of weights alone needs none. `on_mask` gets every layer's mask. All else is said by
    `pzc.runtime.pruning.request.How`: `sparsity=0.5`, `pattern`, `per`, `sequential`, `update`, `allocation`,
    `include`, `exclude`, `seed`, `cache`.

    Raises PruningError, and its kind NonFiniteScore when a score is not finite. Whatever is raised, by `on_mask` too,
    the model's weights are untouched; without `restores` a run that goes block by block holds no copy of them, and
    blocks that were done stay pruned.
    """
    request = Request.of(metric, **how)
    if len(request.targets) > 1:
        raise PruningError("a model is pruned to one sparsity at a time", hint="`prune_each` yields one after another")
    return carry_out(model, request, windows, progress=progress, on_mask=on_mask, restores=restores)


def prune_each(
    model: nn.Module,
    metric: Metric | str | PathLike[str],
    *,
    windows: Tensor | None = None,
    progress: Progress = silent,
    on_mask: TakeMask | None = None,
    **how: Unpack[How],
) -> Iterator[Pruned]:
    """Prune a model one-shot to one `sparsity` of several after another, each from the dense weights: statistics are
    gathered once, and every layer is scored once. The model is pruned to a sparsity while its result is yielded, and
    dense afterwards.

    Arguments are those of `prune`. Holds a copy of the dense weights, and the masks of all sparsities.
    """
    return carry_out_each(model, Request.of(metric, **how), windows, progress=progress, on_mask=on_mask)


def carry_out(
    model: nn.Module,
    request: Request,
    windows: Tensor | None,
    *,
    progress: Progress = silent,
    on_mask: TakeMask | None = None,
    finished: Finished | None = None,
    restores: bool = True,
) -> Pruned:
    """Do what a request says, in place, to its first target: see `prune`.

    What goes block by block is kept in `finished`, and blocks that are there already are taken from it: they must come
    from the same request, model and windows. Such a run holds a copy of the weights, to give back whatever is raised;
    without `restores`, for a model that would be given up then, it holds none, and blocks that were done stay pruned.
    """
    layers = find_layers(model, request.include, request.exclude)
    request.check(layers.layers)
    windows = check_text(request, model, windows)
    seconds: dict[str, float] = {}
    zeros_before = zeros(layers)
    with _timed(seconds, "statistics"):
        statistics = _gathered(model, layers, request, windows, progress)
        targets = _targets(request, request.target, layers, statistics)
    masks: Mapping[str, Tensor] = {}
    if not request.by_block or request.joint:
        with _timed(seconds, "masks"):
            fused = worth_compiling(layers)
            masks = masks_for(request.metric, targets, statistics, layers.layers, progress, fused=fused)
    damped: dict[str, float] = {}
    unreached = dict.fromkeys(unreached_of(statistics.tables))
    if not request.by_block or windows is None:
        _hand_out(masks, on_mask)
        with _timed(seconds, "weights"):  # nothing can fail any more
            for layer in layers.layers:
                write_masked(layer.weight, layer.weight, masks[layer.name])
    else:
        with restored_on_error(restores) as apply, _timed(seconds, "blocks"):

            def visit(tables: Mapping[str, dict[str, Tensor]], members: Sequence[Layer]) -> None:
                block = finished.block(members) if finished else None
                if block is None:
                    known = [{layer.name: masks[layer.name] for layer in members}] if masks else []
                    (block,) = pruned_blocks(request, [targets], statistics, tables, members, known)
                    if finished:
                        finished.keep(members, block)
                for layer in members:
                    apply(layer, block.masks[layer.name], block.weights.get(layer.name))
                damped.update(block.damped)
                unreached.update(dict.fromkeys(block.unreached))
                _hand_out(block.masks, on_mask)

            through_blocks(
                model, layers, windows, request.walked, visit, progress, changes=request.sequential,
                skips=finished.has if finished else None,
            )  # fmt: skip
    done = _summary(layers, zeros_before, request, request.target, seconds)
    return replace(done, damped=damped, allocated=shares_of(targets), unreached=tuple(unreached))


def carry_out_each(
    model: nn.Module,
    request: Request,
    windows: Tensor | None,
    *,
    progress: Progress = silent,
    on_mask: TakeMask | None = None,
) -> Iterator[Pruned]:
    """Do what a request says to each of its targets: see `prune_each`."""
    if request.sequential or request.update != "none":  # of one target `Request.of` lets it pass
        raise PruningError("`prune_each` prunes one-shot, from the statistics of the dense model", hint="use `prune`")
    layers = find_layers(model, request.include, request.exclude)
    request.check(layers.layers)
    windows = check_text(request, model, windows)
    seconds: dict[str, float] = {}
    with _timed(seconds, "statistics"):
        statistics = _gathered(model, layers, request, windows, progress)
        allocated = [_targets(request, target, layers, statistics) for target in request.targets]
    with _timed(seconds, "masks"):
        fused = worth_compiling(layers)
        every = masks_each(request.metric, allocated, statistics, layers.layers, progress, fused=fused)
    zeros_before = zeros(layers)
    dense = Dense(layers)
    try:
        for target, own, masks in zip(request.targets, allocated, every, strict=True):
            with _timed(seconds, "weights"):
                dense.apply(masks)
            _hand_out(masks, on_mask)
            done = _summary(layers, zeros_before, request, target, seconds)
            yield replace(done, allocated=shares_of(own), unreached=tuple(unreached_of(statistics.tables)))
    finally:
        dense.restore()


def check_text(request: Request, model: nn.Module, windows: Tensor | None) -> Tensor | None:
    """The calibration windows as int64, where they are needed. Raises PruningError where there are none then, or the
    model can't read them."""
    if not request.passes:
        return windows
    if windows is None:
        what = "this metric" if request.update == "none" else "the update of weights"
        raise PruningError(f"{what} needs calibration windows", hint="give calibration text")
    return check_windows(model, windows)


def _gathered(
    model: nn.Module, layers: Layers, request: Request, windows: Tensor | None, progress: Progress
) -> Statistics:
    return gather(
        model, layers, windows, request.early, seed=request.seed, progress=progress, cache=request.cache,
        together=request.together,
    )  # fmt: skip


def _targets(request: Request, target: Target, layers: Layers, statistics: Statistics) -> Targets:
    """The target of each layer, where an allocation makes them differ."""
    if request.allocation == "uniform":
        return target
    measures = measures_of(request.allocation, layers.layers, statistics)
    return targets_for(request.allocation, request.metric, target, layers.layers, measures, adaptive=request.chooses)


def _hand_out(masks: Mapping[str, Tensor], on_mask: TakeMask | None) -> None:
    if on_mask is not None:
        for name, mask in masks.items():
            on_mask(name, mask)


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
    layers: Layers, before: Mapping[str, int], request: Request, target: Target, seconds: Mapping[str, float]
) -> Pruned:
    after = zeros(layers)
    counts = {layer.name: (before[layer.name], after[layer.name], layer.size) for layer in layers.layers}
    return Pruned.of(counts, request, target, seconds)
