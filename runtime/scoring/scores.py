"""Scores of a layer's weights, in float32 whatever the weights' type, and the masks that follow from them.

Metrics are evaluated in blocks of rows (`tape`); where the comparison groups lie in rows, so are their masks, and the
scores never exist as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pzc.compiler.core import Node, topological
from pzc.compiler.source import expression
from pzc.runtime.errors import NonFiniteScore
from pzc.runtime.scoring.blockwise import Given, Shape, Take, run
from pzc.runtime.scoring.compiled import compiled_score
from pzc.runtime.scoring.masks import Target, chooser, keep_mask, keep_mask_nm
from pzc.runtime.scoring.selection import Choose
from pzc.runtime.scoring.stripes import BLOCK, workers
from pzc.runtime.scoring.tape import Tape, plan
from pzc.runtime.scoring.values import is_finite

Masks = dict[Node, Tensor | None]

MEMORY = 1 << 28
"""Bytes that a batch of metrics may take at once beside the leaves."""


def score(core: Node, leaves: Mapping[str, Any], shape: Shape) -> Tensor:
    """Evaluate a metric on one layer of `shape` `(out, in)`.

    `leaves` holds a tensor, array or number for each leaf that `core` reads, by its full name; a leaf with
    the axis `in` may be `[in]` or `[1, in]`. Returns float32 `[out, in]`; a score of fewer axes is a
    broadcast view. What mathematics leaves undefined comes out as NaN or infinity. Raises
    PruningError for a leaf that is missing or has the wrong size.
    """
    return _scores((core,), Given((core,), leaves, shape))[core]


def checked_scores(core: Node, leaves: Mapping[str, Any], shape: Shape, layer: str, fused: bool = False) -> Tensor:
    """The same, checked within the one evaluation: raises NonFiniteScore if any score is infinite or NaN.

    Its message names the layer, the share of bad positions, and the first sub-expression, arguments before their users,
    that is not finite.

    With `fused`, on an accelerator, the metric is compiled to one kernel where that can be done; it takes seconds, so
    it is for a metric that scores many large layers.
    """
    given = Given((core,), leaves, shape)
    if fused and given.device.type != "cpu" and (found := compiled_score(core, given)) is not None:
        if not is_finite(found):
            raise _why(core, given, layer)
        return found
    (scores,) = score_each((core,), leaves, shape, layer)
    if isinstance(scores, NonFiniteScore):
        raise scores
    return scores


def score_each(
    cores: Sequence[Node], leaves: Mapping[str, Any], shape: Shape, layer: str, memory: int = MEMORY
) -> Iterator[Tensor | NonFiniteScore]:
    """The scores of several metrics on one layer, in their order; for one that is not finite, the error.

    What metrics have in common is computed once, for as many of them at a time as `memory` bytes allow, their scores
    included, but for one at least.
    """
    given = Given(tuple(cores), leaves, shape)
    for some in _batches(cores, given, 4 * shape[0] * shape[1], memory, direct=True):
        bad: set[Node] = set()
        scores = _scores(some, given, bad)
        for core in some:
            yield _why(core, given, layer) if core in bad else scores[core]


def checked_mask(
    core: Node,
    leaves: Mapping[str, Any],
    shape: Shape,
    layer: str,
    group: str,
    target: Target,
    fused: bool = False,
) -> Tensor:
    """What a metric keeps of one layer, bool `[out, in]`: by the pattern of `target`, or else its sparsity in every
    `group` (row, col or layer). `fused` is as in `checked_scores`. Raises NonFiniteScore, as `checked_scores` does."""
    if fused:
        return _selected(checked_scores(core, leaves, shape, layer, fused), group, target)
    (mask,) = mask_each((core,), leaves, shape, layer, group, target)
    if isinstance(mask, NonFiniteScore):
        raise mask
    return mask


def mask_each(
    cores: Sequence[Node],
    leaves: Mapping[str, Any],
    shape: Shape,
    layer: str,
    group: str,
    target: Target,
    memory: int = MEMORY,
) -> Iterator[Tensor | NonFiniteScore]:
    """What several metrics keep of one layer, in their order, as `checked_mask`; for one whose score is not finite, the
    error. They share what they have in common, as in `score_each`."""
    given = Given(tuple(cores), leaves, shape)
    choose = chooser(shape, group, target) if given.device.type == "cpu" else None
    if choose is None:
        for scores in score_each(cores, leaves, shape, layer, memory):
            yield scores if isinstance(scores, NonFiniteScore) else _selected(scores, group, target)
        return
    for some in _batches(cores, given, shape[0] * shape[1], memory, direct=False):
        masks = _masks(some, given, target, choose)
        for core in some:
            mask = masks[core]
            yield _why(core, given, layer) if mask is None else mask


def _scores(cores: tuple[Node, ...], given: Given, bad: set[Node] | None = None) -> dict[Node, Tensor]:
    """The scores of each; those that are not finite are put into `bad`, if it is given."""
    tape = plan(cores, given.converted(), direct=True)
    scores = {core: torch.empty(given.shape, device=given.device) for core in tape.by_blocks}

    def take(core: Node, start: int, stop: int, values: Tensor) -> None:
        if bad is not None and core not in bad and not is_finite(values):
            bad.add(core)

    whole = run(tape, given, into=scores, taker=lambda: take)
    for core in cores:
        if core not in scores:
            take(core, 0, given.shape[0], whole[core])
            scores[core] = whole[core].expand(given.shape)
    return scores


def _masks(cores: tuple[Node, ...], given: Given, target: Target, chooser: Callable[[], Choose]) -> Masks:
    """What each keeps, None for those whose scores are not finite."""
    tape = plan(cores, given.converted())
    masks: Masks = {core: torch.empty(given.shape, dtype=torch.bool) for core in tape.by_blocks}

    def taker() -> Take:
        choose = chooser()

        def take(core: Node, start: int, stop: int, values: Tensor) -> None:
            mask = masks[core]
            if mask is None:
                return
            if is_finite(values):
                choose(np.ascontiguousarray(values.numpy()), mask[start:stop].numpy())
            else:
                masks[core] = None

        return take

    whole = run(tape, given, taker=taker)
    for core in cores:
        if core not in masks:
            scores = whole[core].expand(given.shape)
            masks[core] = _selected(scores, "row", target) if is_finite(whole[core]) else None
    return masks


def _selected(scores: Tensor, group: str, target: Target) -> Tensor:
    return keep_mask_nm(scores, *target.pattern) if target.pattern else keep_mask(scores, group, target.sparsity)


def _batches(cores: Sequence[Node], given: Given, result: int, memory: int, direct: bool) -> Iterator[tuple[Node, ...]]:
    """The metrics in runs whose results, of so many bytes each, and buffers fit in memory."""
    waiting = tuple(cores)
    while waiting:
        count = len(waiting)
        while count > 1 and count * result + _size(plan(waiting[:count], given.converted(), direct), given) > memory:
            count = -(-count // 2)
        yield waiting[:count]
        waiting = waiting[count:]


def _size(tape: Tape, given: Given) -> int:
    """Bytes of the memory that a tape needs while it runs, but for its results."""
    rows, columns = given.shape
    block = rows * columns if given.one_block else max(BLOCK, columns) * workers(rows, columns)
    return 4 * (tape.buffers * block + tape.matrices * rows * columns)


def _why(core: Node, given: Given, layer: str) -> NonFiniteScore:
    """What is wrong with a score that is not finite: it is evaluated once more, every node looked at."""
    undefined: set[Node] = set()
    counts: list[tuple[int, int]] = []

    def look(node: Node, values: Tensor) -> None:
        if node not in undefined and not is_finite(values):
            undefined.add(node)
        if node is core:
            counts.append((int(torch.count_nonzero(torch.isfinite(values))), values.numel()))

    run(plan((core,), given.converted()), given, visit=look)
    finite, total = (sum(column) for column in zip(*counts, strict=True))
    share = 1.0 - finite / total
    first = next((node for node in topological(core) if node in undefined), core)
    text = expression(first)
    return NonFiniteScore(
        f"the score is not finite at {share:.3%} of the weights of {layer}: `{text}` gave infinity or NaN",
        hint="the model's files may be damaged; calibrate on other text, or load it as float32"
        if first.op == "leaf"
        else "keep logarithms, roots and divisors away from zero, for example `x + 1e-8`",
        layer=layer,
        share=share,
        expression=text,
    )
