"""What a pruning run will take, before it starts: passes, memory, time and disk, in memory and streamed.

Sizes are counted from the model's shapes, times reckoned from a moment's work on this machine (`speed`): both are good
for deciding whether and how to start, and are no promise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import nn

from pzc.compiler.groups import GROUPS
from pzc.compiler.leaves import LEAVES, Tier
from pzc.compiler.metric import Metric
from pzc.runtime.forward import forward_leaves
from pzc.runtime.layers import Layers
from pzc.runtime.masks import Target
from pzc.runtime.models import Loaded
from pzc.runtime.passes import device_of, vocabulary_of, windows_at_once
from pzc.runtime.speed import measure
from pzc.runtime.statistics import passes_for
from pzc.runtime.stream_sweeps import LOGITS_AT_ONCE
from pzc.runtime.targets import group_of

BASE = 550_000_000
"""Bytes that Python, torch and transformers take before there is a model."""

WAYS = ("memory", "stream")


@dataclass(frozen=True)
class Pass:
    """A pass over the calibration windows: the tier of leaves that it is for, and these leaves."""

    tier: Tier
    leaves: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What a run will do and take. `parameters` counts all of the model's, `weights` those that may be pruned; `tokens`
    are those to calibrate and to evaluate on. `memory` (bytes at the peak), `seconds` and `disk` (bytes written, those
    removed again included) have an entry for each way: "memory" and "stream"."""

    blocks: int
    linears: int
    weights: int
    parameters: int
    passes: tuple[Pass, ...]
    sequential: bool
    tokens: Mapping[str, int]
    memory: Mapping[str, int]
    seconds: Mapping[str, float]
    disk: Mapping[str, int]


@dataclass(frozen=True)
class _Sizes:
    """What both ways reckon with. Bytes: `element` of a weight, `model`, the largest `block`, what is `outside`
    blocks. `rows`: outputs of a block's linears, for each of which a token leaves a number behind."""

    element: int
    model: int
    block: int
    outside: int
    largest: int
    block_weights: int
    weights: int
    rows: int
    inputs: int
    hidden: int
    vocabulary: int
    depth: int


def plan(
    loaded: Loaded,
    layers: Layers,
    metric: Metric,
    target: Target,
    *,
    sequential: bool,
    windows: int,
    eval_windows: int,
    length: int,
    leaves: Collection[str] | None = None,
) -> Plan:
    """Plan a run. Of the model's weights only shapes are looked at, so that they may be placeholders.

    `leaves` are those to gather, if they are not the metric's: an allocation or an update of weights reads others.
    """
    leaves = metric.leaves if leaves is None else frozenset(leaves)
    passes = passes_for(leaves)
    by_block = sequential and bool(forward_leaves(leaves))
    sizes = _sizes(loaded.model, layers)
    tokens = {"calibration": windows * length if passes else 0, "evaluation": eval_windows * length}
    together = min(windows_at_once(loaded.model, length), max(windows, eval_windows))
    gradients = sum(name in leaves and LEAVES[name].tier == "backward" for name in LEAVES)
    arm = metric.arms[0]
    biggest = max(layers.layers, key=lambda layer: prod(layer.shape))
    file = next(iter(loaded.files), None)
    speed = measure(biggest.shape, loaded.dtype, device_of(loaded.model), arm, target, file)
    files = sum(path.stat().st_size for path in loaded.files)
    states = sizes.hidden * sizes.element * (2 * tokens["evaluation"] + tokens["calibration"])
    whole_written = sizes.model
    streamed_written = sizes.model + states * (sizes.depth + 1)
    if "backward" in passes:
        streamed_written += 2 * sizes.hidden * sizes.element * tokens["calibration"] * sizes.depth
        streamed_written += 4 * gradients * sizes.weights if by_block else 0
    written = {"memory": whole_written, "stream": streamed_written}
    work = _products(sizes, passes, by_block, tokens, length)
    reads = {"memory": files, "stream": files * _sweeps(passes, by_block)}
    return Plan(
        blocks=len(layers.blocks),
        linears=len(layers.layers),
        weights=sizes.weights,
        parameters=sum(p.numel() for p in loaded.model.parameters()),
        passes=tuple(Pass(tier, _leaves_of(tier, leaves, passes)) for tier in passes),
        sequential=by_block,
        tokens=tokens,
        memory=_memory(sizes, metric, target, passes, by_block, gradients, windows, length, together),
        seconds={
            way: work[way] / speed.product + sizes.weights / speed.mask + (reads[way] + written[way]) / speed.disk
            for way in WAYS
        },
        disk=written,
    )


def _leaves_of(tier: Tier, leaves: frozenset[str], passes: tuple[Tier, ...]) -> tuple[str, ...]:
    """The leaves that a pass is for: those of its tier, and those of "forward" that come along with the first."""
    tiers = {tier, "forward"} if tier == passes[0] else {tier}
    return tuple(name for name in LEAVES if name in leaves and LEAVES[name].tier in tiers)


def _sizes(model: nn.Module, layers: Layers) -> _Sizes:
    def total(module: nn.Module) -> int:
        return sum(p.numel() * p.element_size() for p in module.parameters())

    per_block = [layers.of_block(index) for index in range(len(layers.blocks))]
    inside = sum(map(total, layers.blocks))
    embeddings: Any = model.get_input_embeddings()  # type: ignore[operator]
    shapes = [[layer.shape for layer in members] for members in per_block]
    return _Sizes(
        element=layers.layers[0].parameter.element_size(),
        model=total(model),
        block=max(map(total, layers.blocks)),
        outside=total(model) - inside,
        largest=max(prod(layer.shape) for layer in layers.layers),
        block_weights=max(sum(map(prod, some)) for some in shapes),
        weights=sum(map(prod, (shape for some in shapes for shape in some))),
        rows=max(sum(out for out, _ in some) for some in shapes),
        inputs=max(sum(width * width for width in {width for _, width in some}) for some in shapes),
        hidden=int(embeddings.weight.shape[1]),
        vocabulary=vocabulary_of(model),
        depth=len(layers.blocks),
    )


def _memory(
    sizes: _Sizes, metric: Metric, target: Target, passes: tuple[Tier, ...], by_block: bool, gradients: int,
    windows: int, length: int, together: int,
) -> dict[str, int]:  # fmt: skip
    """Bytes at the peak of each way: of what is there all the time, and the largest of what comes and goes."""
    groups = [group_of(arm, target) for arm in metric.arms] if target.pattern is None else ["row"]
    widest = max(groups, key=list(GROUPS).index)
    compared = {"row": 0, "model": sizes.weights, "block": sizes.block_weights}.get(widest, 2 * sizes.largest)
    batch = length * together
    activations = batch * (sizes.rows + 6 * sizes.hidden) * sizes.element
    graph = length * (sizes.rows + 12 * sizes.hidden) * sizes.element if "backward" in passes else 0
    logits = length * together * sizes.vocabulary * (sizes.element + 8)
    chunk = min(LOGITS_AT_ONCE, length * sizes.vocabulary) * (sizes.element + 8)
    if "backward" in passes:
        backward = length * sizes.vocabulary * (3 * sizes.element + 12)
        logits, chunk = max(logits, backward), max(chunk, backward)
    hessians = 8 * 2 * sizes.inputs if "hessian" in passes else 0
    states = windows * length * sizes.hidden * sizes.element if by_block or "hessian" in passes else 0
    gathered = 4 * gradients
    whole = sizes.model + gathered * sizes.weights + states
    whole += max(logits + graph * sizes.depth, sizes.weights + 4 * compared, activations + hessians)
    block = sizes.block + (gathered + 1) * sizes.block_weights + hessians
    if gradients:  # of one layer, in its own type and in float32; the backward's thread keeps as much for itself again
        graph += 2 * (sizes.element + 4) * sizes.largest
    block += max(activations + graph, 4 * compared)
    return {"memory": BASE + whole, "stream": BASE + max(block, sizes.outside + chunk)}


def _products(
    sizes: _Sizes, passes: tuple[Tier, ...], by_block: bool, tokens: Mapping[str, int], length: int
) -> dict[str, float]:
    """Operations of matrix products in each way: two a weight and token for a forward pass, four more for a backward
    one, and those of attention, whose keys a token has half of the window of."""
    forward = 2.0 * sizes.weights + 2.0 * length * sizes.hidden * sizes.depth
    head = 2.0 * sizes.vocabulary * sizes.hidden
    found = dict.fromkeys(WAYS, 2 * tokens["evaluation"] * (forward + head))
    passes_over = {
        "memory": {"forward": 1.0, "hessian": 1.0, "backward": 3.0},
        "stream": {"forward": 1.0, "hessian": 0.0 if "backward" in passes else 1.0, "backward": 4.0},
    }
    for way in WAYS:
        count = sum(passes_over[way][tier] for tier in passes if not (by_block and tier != "backward"))
        found[way] += tokens["calibration"] * forward * (count + 2 * by_block)
        found[way] += tokens["calibration"] * head * 3 * ("backward" in passes)
        if "hessian" in passes:  # sums of products in float64, half as fast
            found[way] += tokens["calibration"] * 4.0 * sizes.inputs * sizes.depth
    return found


def _sweeps(passes: tuple[Tier, ...], by_block: bool) -> int:
    """How often streaming reads every block."""
    return 3 if "backward" in passes else 1
