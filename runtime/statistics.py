"""Statistics of a layer over the calibration windows: what the leaves of a metric read.

A forward pass serves every leaf of the activations X; a forward and backward pass serves those of X and of
the gradients G together. Gradients are folded into their statistic as each is produced, so the gradient of
the whole model is never held.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pzc.compiler.leaves import LEAVES
from pzc.runtime.errors import PruningError
from pzc.runtime.layers import Layer, Layers
from pzc.runtime.passes import (
    Progress,
    batches,
    check_windows,
    cross_entropy,
    device_of,
    evaluating,
    logits_of,
    run_blocks,
    silent,
)

Table = dict[str, Tensor]
"""Leaf name to its value: float32 `[out, in]` or `[1, in]`."""


@dataclass(frozen=True)
class Statistics:
    """What was gathered for each layer, and what follows from the weights, the seed and the sizes.

    `tables` holds the gathered leaves by layer name. `windows` is the number of calibration windows, `seed`
    the seed of `noise`. `weights`, where it has a layer, stands for the layer's own weight: a search keeps
    the dense weights there while the model's are pruned.
    """

    tables: Mapping[str, Table] = field(default_factory=dict)
    windows: int = 0
    seed: int = 0
    weights: Mapping[str, Tensor] = field(default_factory=dict)

    def of(self, layer: Layer, leaves: Collection[str]) -> dict[str, Any]:
        """The named leaves of one layer, as `scores.score` takes them."""
        values: dict[str, Any] = {}
        for name in leaves:
            if LEAVES[name].tier != "weights":
                values[name] = self.tables[layer.name][name]
            elif name == "W":
                values[name] = self.weights.get(layer.name, layer.weight)
            elif name == "noise":
                values[name] = noise(self.seed, layer.name, layer.shape).to(layer.parameter.device)
            elif name == "windows":
                values[name] = self._count()
            else:
                values[name] = layer.shape[0] if name == "out_features" else layer.shape[1]
        return values

    def _count(self) -> int:
        if not self.windows:
            raise PruningError("this metric reads the number of calibration windows, but there are none")
        return self.windows


def noise(seed: int, layer: str, shape: tuple[int, int]) -> Tensor:
    """Uniform numbers in [0, 1), float32 `[out, in]`, from the seed and the layer's name alone."""
    key = int.from_bytes(hashlib.sha256(f"{seed}/{layer}".encode()).digest()[:16], "little")
    generator = np.random.Generator(np.random.Philox(key=key))
    return torch.from_numpy(generator.random(shape, dtype=np.float32))


def passes_for(leaves: Collection[str]) -> str:
    """The dearest pass that the leaves need: "weights" (none), "forward" or "backward"."""
    tiers = {LEAVES[name].tier for name in leaves}
    return "backward" if "backward" in tiers else "forward" if "forward" in tiers else "weights"


def gather(
    model: nn.Module,
    layers: Layers,
    windows: Tensor | None,
    leaves: Collection[str],
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Statistics:
    """Gather the leaves that need passes over calibration `windows` `[n, length]`; the model is left as it
    was.

    Leaves of the tier "weights" cost nothing here: `Statistics.of` makes them when they are asked for.
    Raises PruningError when a pass is needed and there are no windows, or the model cannot read them.
    """
    count = 0 if windows is None else len(windows)
    tier = passes_for(leaves)
    if tier == "weights":
        return Statistics(windows=count, seed=seed)
    if windows is None:
        raise PruningError("this metric needs calibration windows", hint="give calibration text")
    check_windows(model, windows)
    tables: dict[str, Table] = {layer.name: {} for layer in layers.layers}
    with evaluating(model), collecting_inputs(layers.layers, leaves) as inputs:
        if tier == "forward":
            _forward(model, windows, progress)
        else:
            for name, table in _backward(model, layers.layers, windows, leaves, progress).items():
                tables[name].update(table)
    for name, table in inputs.tables().items():
        tables[name].update(table)
    return Statistics(tables, count, seed)


def _forward(model: nn.Module, windows: Tensor, progress: Progress) -> None:
    done = 0
    with torch.no_grad():
        for batch in batches(model, windows):
            run_blocks(model, batch)
            done += len(batch)
            progress("statistics", done, len(windows))


# Activations


class InputSums:
    """Running sums over the inputs of some layers, one row of `[tokens, in]` a token.

    Sums of one call are taken in float32 and folded in float64. Layers that read the same tensor, as q, k and
    v do, share its sums.
    """

    def __init__(self, leaves: Collection[str]) -> None:
        self._leaves = [name for name in _PARTS if name in leaves]
        self._totals: dict[str, Parts | None] = {}
        self._last: tuple[Tensor | None, Parts] = (None, {})

    def watch(self, layer: Layer) -> torch.utils.hooks.RemovableHandle:
        """Sum up every input of a layer from now on, until the returned handle is removed."""
        self._totals[layer.name] = None

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = args[0] if args else kwargs["input"]
            if self._last[0] is not x:
                self._last = (x, self._sum(x))
            self._totals[layer.name] = _fold(self._totals[layer.name], self._last[1])

        return layer.module.register_forward_pre_hook(hook, with_kwargs=True)

    def forget(self) -> None:
        """Let go of the last input."""
        self._last = (None, {})

    def tables(self) -> dict[str, Table]:
        """The leaves of each layer, float32 `[1, in]`. Raises PruningError for a layer that was never run."""
        tables = {}
        for name, total in self._totals.items():
            if self._leaves and total is None:
                raise PruningError(f"no calibration token reached the layer {name}", layer=name)
            tables[name] = {} if total is None else {leaf: _finish(leaf, total) for leaf in self._leaves}
        return tables

    def _sum(self, x: Tensor) -> Parts:
        rows = x.detach().reshape(-1, x.shape[-1]).float()
        parts: Parts = {"tokens": len(rows)}
        for leaf in self._leaves:
            for name in _PARTS[leaf]:
                if name not in parts:
                    parts[name] = _wide(_SUMS[name](rows))
        return parts


@contextmanager
def collecting_inputs(layers: tuple[Layer, ...], leaves: Collection[str]) -> Iterator[InputSums]:
    """Sum up what the layers read while the context is open, if `leaves` has any of the activations."""
    sums = InputSums(leaves)
    with ExitStack() as stack:
        if any(name in leaves for name in _PARTS):
            for layer in layers:
                stack.callback(sums.watch(layer).remove)
        try:
            yield sums
        finally:
            sums.forget()


Parts = dict[str, Any]
"""Sums over some tokens: their number `tokens`, and `[in]` tensors by the names in `_SUMS`."""

_PARTS: dict[str, tuple[str, ...]] = {
    "X.l2": ("squares",),
    "X.l1": ("absolute",),
    "X.max": ("largest",),
    "X.mean": ("mean",),
    "X.var": ("mean", "deviation"),
}

_SUMS: dict[str, Callable[[Tensor], Tensor]] = {
    "squares": lambda rows: rows.square().sum(0),
    "absolute": lambda rows: rows.abs().sum(0),
    "largest": lambda rows: rows.abs().amax(0),
    "mean": lambda rows: rows.mean(0),
    "deviation": lambda rows: (rows - rows.mean(0)).square().sum(0),
}


def _fold(total: Parts | None, part: Parts) -> Parts:
    """Join the sums of two sets of tokens, as in Chan, Golub and LeVeque (1979)."""
    if total is None:
        return part
    tokens = total["tokens"] + part["tokens"]
    share = part["tokens"] / tokens
    joined: Parts = {"tokens": tokens}
    for name, a in total.items():
        b = part[name]
        if name in ("squares", "absolute"):
            joined[name] = a + b
        elif name == "largest":
            joined[name] = torch.maximum(a, b)
        elif name == "mean":
            joined[name] = a + (b - a) * share
        elif name == "deviation":
            between = (part["mean"] - total["mean"]).square()
            joined[name] = a + b + between * (total["tokens"] * share)
    return joined


def _finish(leaf: str, total: Parts) -> Tensor:
    value: Tensor = total[_PARTS[leaf][-1]]
    if leaf == "X.l2":
        value = value.sqrt()
    if leaf == "X.var":
        value = value / total["tokens"]
    return value.float().unsqueeze(0)


def _wide(values: Tensor) -> Tensor:
    """Float64, except on Apple's devices, which have none."""
    return values if values.device.type == "mps" else values.double()


# Gradients


def _backward(
    model: nn.Module, layers: tuple[Layer, ...], windows: Tensor, leaves: Collection[str], progress: Progress
) -> dict[str, Table]:
    """Fold the gradients of each window's mean cross-entropy into the leaves of G, float32 `[out, in]`.

    In float16 the loss is scaled by 1024, as in mixed-precision training, so that small gradients don't
    vanish.
    """
    wanted = [name for name in _GRADIENTS if name in leaves]
    totals = {
        layer.name: {leaf: torch.zeros_like(layer.parameter, dtype=torch.float32) for leaf in wanted}
        for layer in layers
    }
    half = any(layer.parameter.dtype == torch.float16 for layer in layers)
    scale = _HALF_SCALE if half else 1.0
    with _only_gradients_of(model, [layer.parameter for layer in layers]), ExitStack() as stack:
        for layer in layers:
            hook = _folding_hook(totals[layer.name], scale)
            stack.callback(layer.parameter.register_post_accumulate_grad_hook(hook).remove)
        device = device_of(model)
        for done, window in enumerate(windows.split(1), start=1):
            ids = window.to(device)
            logits = logits_of(model, ids)
            loss = cross_entropy(logits, ids).sum() * scale
            loss.backward()
            progress("statistics", done, len(windows))
    return {
        layer.name: {
            leaf: layer.oriented(_finish_gradient(leaf, total, len(windows)))
            for leaf, total in totals[layer.name].items()
        }
        for layer in layers
    }


_HALF_SCALE = 1024.0

_GRADIENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "G.l2": lambda total, g: total.addcmul_(g, g),
    "G.l1": lambda total, g: total.add_(g.abs()),
    "G.mean": lambda total, g: total.add_(g),
}


def _folding_hook(totals: Table, scale: float) -> Callable[[Tensor], None]:
    def hook(parameter: Tensor) -> None:
        gradient = parameter.grad
        parameter.grad = None
        if gradient is not None:
            g = gradient.float() / scale if scale != 1 else gradient.float()
            for leaf, total in totals.items():
                _GRADIENTS[leaf](total, g)

    return hook


def _finish_gradient(leaf: str, total: Tensor, windows: int) -> Tensor:
    if leaf == "G.l2":
        return total.sqrt_()
    return total.div_(windows) if leaf == "G.mean" else total


@contextmanager
def _only_gradients_of(model: nn.Module, weights: list[nn.Parameter]) -> Iterator[None]:
    """Let only these weights have gradients, from none; flags and gradients are put back afterwards."""
    found = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    try:
        for parameter, _, _ in found:
            parameter.requires_grad_(False)
            parameter.grad = None
        for weight in weights:
            weight.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for parameter, required, gradient in found:
            parameter.grad = gradient
            parameter.requires_grad_(required)
