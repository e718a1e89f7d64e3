"""What a pruning run will take, before it starts: passes, memory, time and disk, in memory and streamed.

Sizes are counted from the model's shapes, times reckoned from a moment's work on this machine (`speed`): both are good
for deciding whether and how to start, and are no promise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor, nn

from pzc.compiler.groups import GROUPS
from pzc.compiler.leaves import LEAVES, Tier
from pzc.runtime.models.layers import Layers
from pzc.runtime.models.loading import Loaded
from pzc.runtime.models.passes import device_of, vocabulary_of, windows_at_once
from pzc.runtime.planning.speed import measure
from pzc.runtime.pruning.allocation import is_measured
from pzc.runtime.pruning.request import Request, as_tiers
from pzc.runtime.pruning.targets import group_of
from pzc.runtime.statistics.gather import passes_for
from pzc.runtime.statistics.hessian import FACTOR
from pzc.runtime.streaming.rows import is_looked_up
from pzc.runtime.streaming.sweeps import LOGITS_AT_ONCE

BASE = 550_000_000
"""Bytes that Python, torch and transformers take before there is a model."""

HELD, SAVED = 6, 12
"""Tensors `[tokens, hidden]` beside the outputs of its layers that a block holds at once in a forward pass, and keeps
for a backward pass: the sum that runs through the blocks, norms, attention, products of gates."""

LOSS = 8
"""Bytes for each logit beside itself while the loss is worked out: two tensors in float32."""

SINGULAR_VALUES = 10.0
"""Operations for each weight of a matrix and each of its shorter side that its singular values take."""

WAYS = ("memory", "stream")


@dataclass(frozen=True)
class Pass:
    """A pass over the calibration windows: the tier of leaves that it is for, these leaves, and whether it goes block
    by block through what is pruned already (else through the dense model)."""

    tier: Tier
    leaves: tuple[str, ...]
    by_block: bool = False


@dataclass(frozen=True)
class Plan:
    """What a run will do and take. `parameters` counts all of the model's, `weights` those that may be pruned,
    `results` the models that are written (or their masks); `tokens` are those to calibrate and to evaluate on. `memory`
    (bytes at the peak), `seconds` and `disk` (bytes written, those removed again included) have an entry for each way:
    "memory" and "stream". `output` are the bytes that stay."""

    blocks: int
    linears: int
    weights: int
    parameters: int
    results: int
    passes: tuple[Pass, ...]
    sequential: bool
    update: str
    allocation: str
    tokens: Mapping[str, int]
    memory: Mapping[str, int]
    seconds: Mapping[str, float]
    disk: Mapping[str, int]
    output: int


@dataclass(frozen=True)
class _Sizes:
    """What both ways reckon with. Bytes: `element` of a weight, `model`, the largest `block`, and what is read whole
    `outside` of blocks. `active`: the weights that a token meets, of a mixture those of its experts; `rows`: outputs
    of what it meets of a block, for each of which it leaves a number behind."""

    element: int
    model: int
    block: int
    outside: int
    largest: int
    block_weights: int
    weights: int
    active: int
    rows: int
    inputs: int
    hidden: int
    vocabulary: int
    depth: int


def plan(
    loaded: Loaded,
    layers: Layers,
    request: Request,
    *,
    windows: int,
    eval_windows: int,
    length: int,
    mask_only: bool = False,
) -> Plan:
    """Plan a run. Of the model's weights only shapes are looked at, so that they may be placeholders."""
    sizes = _sizes(loaded.model, layers)
    passes = _passes(request)
    tokens = {"calibration": windows * length if passes else 0, "evaluation": eval_windows * length}
    biggest = max(layers.layers, key=lambda layer: prod(layer.shape))
    arm, file = request.metric.arms[0], next(iter(loaded.files), None)
    speed = measure(biggest.shape, loaded.dtype, device_of(loaded.model), arm, request.target, file)
    files = sum(path.stat().st_size for path in loaded.files)
    output = output_size(sizes.model, sizes.weights, request, mask_only=mask_only)
    written = _written(sizes, request, passes, tokens, output)
    work = _products(sizes, request, passes, tokens, length)
    reads = {"memory": files, "stream": files * _sweeps(request, passes)}
    return Plan(
        blocks=len(layers.blocks),
        linears=len(layers.layers),
        weights=sizes.weights,
        parameters=sum(p.numel() for p in loaded.model.parameters()),
        results=len(request.targets),
        passes=passes,
        sequential=request.sequential and request.by_block,
        update=request.update,
        allocation=request.allocation if isinstance(request.allocation, str) else "file",
        tokens=tokens,
        memory=_memory(loaded.model, sizes, request, windows, eval_windows, length),
        seconds={
            way: work[way] / speed.product
            + len(request.targets) * sizes.weights / speed.mask
            + (reads[way] + written[way]) / speed.disk
            for way in WAYS
        },
        disk=written,
        output=output,
    )


def output_size(model: int, weights: int, request: Request, *, mask_only: bool) -> int:
    """Bytes of what a run leaves, for a model of so many bytes and so many weights that may be pruned."""
    return len(request.targets) * (-(-weights // 8) if mask_only else model)


def kept_size(element: int, weights: int, request: Request) -> int:
    """Bytes of what a run in memory keeps beside its output to be resumed, for so many weights of `element` bytes each:
    of finished blocks, and of gradients unless they go into a folder of the user's."""
    if not request.by_block:
        return 0
    gradients = 0 if request.cache else 4 * _gradients(request) * weights
    return weights // 8 + (element * weights if request.update != "none" else 0) + gradients


def _passes(request: Request) -> tuple[Pass, ...]:
    """The passes in the order in which they run: those of the dense model, then the walk over the blocks."""
    dense = passes_for(request.early)
    found = [Pass(tier, _leaves_of(tier, request.early, dense)) for tier in dense]
    if request.by_block:
        (tier,) = passes_for(as_tiers(request.walked))
        named = tuple(name for name in (*LEAVES, FACTOR) if name in request.walked)
        found.append(Pass(tier, named, request.sequential))
    return tuple(found)


def _leaves_of(tier: Tier, leaves: frozenset[str], passes: tuple[Tier, ...]) -> tuple[str, ...]:
    """The leaves that a pass is for: those of its tier, and those of "forward" that come along with the first."""
    tiers = {tier, "forward"} if tier == passes[0] else {tier}
    return tuple(name for name in LEAVES if name in leaves and LEAVES[name].tier in tiers)


def _sizes(model: nn.Module, layers: Layers) -> _Sizes:
    def total(parameters: Iterable[Tensor]) -> int:
        return sum(p.numel() * p.element_size() for p in parameters)

    whole = {p for module in model.modules() if not is_looked_up(module) for p in module.parameters(recurse=False)}
    inside = {p for block in layers.blocks for p in block.parameters()}
    per_block = [layers.of_block(index) for index in range(len(layers.blocks))]
    embeddings: Any = model.get_input_embeddings()  # type: ignore[operator]
    shapes = [[layer.shape for layer in members] for members in per_block]
    routed = _routed(model.config)
    met = [[(routed if layer.expert else 1.0, layer.shape) for layer in members] for members in per_block]
    return _Sizes(
        element=layers.layers[0].parameter.element_size(),
        model=total(model.parameters()),
        block=max(total(block.parameters()) for block in layers.blocks),
        outside=total(whole - inside),
        largest=max(prod(layer.shape) for layer in layers.layers),
        block_weights=max(sum(map(prod, some)) for some in shapes),
        weights=sum(map(prod, (shape for some in shapes for shape in some))),
        active=round(sum(share * prod(shape) for some in met for share, shape in some)),
        rows=round(max(sum(share * out for share, (out, _) in some) for some in met)),
        inputs=max(sum(width * width for width in {width for _, width in some}) for some in shapes),
        hidden=int(embeddings.weight.shape[1]),
        vocabulary=vocabulary_of(model),
        depth=len(layers.blocks),
    )


_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""How configurations call the number of experts of a block."""


def _routed(config: Any) -> float:
    """The share of a block's experts to which a token is routed; all where the configuration does not say it."""
    text = config.get_text_config()
    experts = next((n for name in _EXPERTS if (n := getattr(text, name, None))), None)
    chosen = getattr(text, "num_experts_per_tok", None)
    return min(1.0, chosen / experts) if experts and chosen else 1.0


def _memory(
    model: nn.Module, sizes: _Sizes, request: Request, windows: int, eval_windows: int, length: int
) -> dict[str, int]:
    """Bytes at the peak of each way: of what is there all the time, and the largest of what comes and goes."""
    tiers = request.passes
    together = min(windows_at_once(model, length), max(windows, eval_windows))
    groups = [group_of(arm, request.target) for arm in request.metric.arms] if not request.target.pattern else ["row"]
    widest = max(groups, key=list(GROUPS).index)
    compared = {"row": 0, "model": sizes.weights, "block": sizes.block_weights}.get(widest, 2 * sizes.largest)
    batch = length * together
    activations = batch * (sizes.rows + HELD * sizes.hidden) * sizes.element
    graph = length * (sizes.rows + SAVED * sizes.hidden) * sizes.element if "backward" in tiers else 0
    logits = length * together * sizes.vocabulary * (sizes.element + LOSS) if eval_windows else 0
    chunk = min(LOGITS_AT_ONCE, length * sizes.vocabulary) * (sizes.element + LOSS) if eval_windows else 0
    if "backward" in tiers:
        backward = length * sizes.vocabulary * 3 * (sizes.element + 4)
        logits, chunk = max(logits, backward), max(chunk, backward)
    hessians = 8 * 2 * sizes.inputs if "hessian" in tiers else 0
    swept = 12 * sizes.largest if request.update != "none" else 0  # weights before and after, and what is lost
    walked = request.by_block or "hessian" in tiers
    states = windows * length * sizes.hidden * sizes.element if walked else 0
    several = len(request.targets)
    gathered = 4 * _gradients(request)
    whole = sizes.model + gathered * sizes.weights + states
    if several > 1:  # the dense weights, to come back to
        whole += sizes.element * sizes.weights
    masks = several * sizes.weights
    whole += max(logits + graph * sizes.depth, masks + 4 * compared, activations + hessians + swept)
    dense = sizes.element * sizes.block_weights if several > 1 else 0
    block = sizes.block + dense + (gathered + several) * sizes.block_weights + hessians + swept
    if gathered:  # of one layer, in its own type and in float32; the backward's thread keeps as much for itself again
        graph += 2 * (sizes.element + 4) * sizes.largest
    block += max(activations + graph, 4 * compared)
    head = sizes.outside + chunk if chunk else 0
    return {"memory": BASE + whole, "stream": BASE + max(block, head)}


def _gradients(request: Request) -> int:
    """How many statistics of each weight's gradients there are."""
    return sum(LEAVES[name].tier == "backward" for name in request.early)


def _written(
    sizes: _Sizes, request: Request, passes: tuple[Pass, ...], tokens: Mapping[str, int], output: int
) -> dict[str, int]:
    """Bytes written in each way: the result, what a walk over the blocks keeps to be resumed, and hidden states."""
    results = len(request.targets)
    states = sizes.hidden * sizes.element * ((1 + results) * tokens["evaluation"] + tokens["calibration"])
    streamed = output + states * (sizes.depth + 1)
    if "backward" in {each.tier for each in passes}:
        streamed += 2 * sizes.hidden * sizes.element * tokens["calibration"] * sizes.depth
        streamed += 4 * _gradients(request) * sizes.weights if request.by_block and request.sequential else 0
    return {"memory": output + kept_size(sizes.element, sizes.weights, request), "stream": streamed}


def _products(
    sizes: _Sizes, request: Request, passes: tuple[Pass, ...], tokens: Mapping[str, int], length: int
) -> dict[str, float]:
    """Operations of matrix products in each way: two a weight and token for a forward pass, four more for a backward
    one, and those of attention, whose keys a token has half of the window of. Blocks that are walked run twice where
    what they read has gone through pruned ones."""
    forward = 2.0 * sizes.active + 2.0 * length * sizes.hidden * sizes.depth
    head = 2.0 * sizes.vocabulary * sizes.hidden
    found = dict.fromkeys(WAYS, (1 + len(request.targets)) * tokens["evaluation"] * (forward + head))
    dense = {each.tier for each in passes if each.tier != "backward" and not each.by_block}
    for way in WAYS:
        if way == "stream" and "backward" in request.passes:
            dense -= {"hessian", "forward"}  # they come along with the backward sweep
        runs = float(len(dense)) + sum(2 * each.by_block for each in passes)
        if "backward" in request.passes:
            runs += 4.0 if way == "stream" else 3.0
            found[way] += tokens["calibration"] * head * 3
        found[way] += tokens["calibration"] * forward * runs
        if "hessian" in request.passes:  # sums of products in float64, half as fast
            found[way] += tokens["calibration"] * 4.0 * sizes.inputs * sizes.depth
        if request.update != "none":  # a factor an input, and half of a product with it for each weight
            found[way] += sizes.depth * (sizes.inputs**1.5 + sizes.block_weights * sizes.inputs**0.5)
        if request.allocation == "alpha":  # singular values
            found[way] += SINGULAR_VALUES * sizes.weights * sizes.hidden
    return found


def _sweeps(request: Request, passes: tuple[Pass, ...]) -> int:
    """How often streaming reads every block."""
    if "backward" in request.passes:
        return 3
    return 1 + (request.joint or is_measured(request.allocation))
