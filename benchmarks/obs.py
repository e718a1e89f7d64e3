"""`--update obs` beside a plain column sweep with one Hessian for each linear layer, in one run.

    python benchmarks/obs.py [--model smollm2] [--blocks 3] [--windows 16] [--length 512] [--repeats 3]

Both prune the first blocks of a model to 50 % with Wanda's mask, sequentially, and update what is kept. The plain way
sums up xxᵀ for every layer, takes H⁻¹ and its Cholesky factor in float32, and hands the error of every column on to all
columns after it. "update" is the time for Hessians, factors and sweeps; "all" also has the forward passes, which are
the same in both. Medians of the repeats, which alternate; the share of mask bits and the largest relative difference of
a weight that both keep.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pzc.compiler.load import load
from pzc.runtime.data.texts import sides
from pzc.runtime.data.windows import calibration_windows, tokenise
from pzc.runtime.models.layers import Layer, find_layers
from pzc.runtime.models.loading import load_model
from pzc.runtime.pruning.masking import masks_for
from pzc.runtime.pruning.obs import update_layers
from pzc.runtime.scoring.masks import Target, keep_mask
from pzc.runtime.statistics import forward, hessian
from pzc.runtime.statistics.gather import Statistics
from pzc.runtime.statistics.sequential import through_blocks

Tables = Mapping[str, dict[str, Tensor]]


class Clock:
    """Adds up the time of some calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - start

        return run


def plain(model: Any, windows: Tensor) -> float:
    """One Hessian a layer, one column at a time. Returns seconds of the update."""
    layers, clock = find_layers(model), Clock()
    totals: dict[str, Tensor] = {}

    def add(name: str, x: Tensor) -> None:
        x = x.flatten(0, -2)
        totals[name] = totals.get(name, 0) + x.T @ x

    def hook(module: nn.Module, args: Any, output: Tensor, *, name: str) -> None:
        clock.timed(add)(name, args[0])

    def sweep(layer: Layer) -> None:
        h = totals.pop(layer.name) * (2 / len(windows))
        w = layer.weight.clone()
        norms = h.diagonal().sqrt()
        keep = keep_mask(w.abs() * norms, "row", 0.5)
        h.diagonal().add_(0.01 * h.diagonal().mean())
        u = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
        for j in range(w.shape[1]):
            error = w[:, j] * ~keep[:, j] / u[j, j]
            w[:, j] *= keep[:, j]
            w[:, j + 1 :] -= error.unsqueeze(1) @ u[j : j + 1, j + 1 :]
        layer.weight.copy_(w)

    with torch.no_grad():
        hidden, others = entering(model, windows)
        for index, block in enumerate(layers.blocks):
            members = layers.of_block(index)
            handles = [layer.module.register_forward_hook(partial(hook, name=layer.name)) for layer in members]
            for state in hidden:
                block(state, **others)
            for handle in handles:
                handle.remove()
            for layer in members:
                clock.timed(sweep)(layer)
            if index + 1 < len(layers.blocks):
                hidden = [block(state, **others) for state in hidden]
    return clock.seconds


class Entered(Exception):
    """Ends a forward pass at the first block."""


def entering(model: Any, windows: Tensor) -> tuple[list[Tensor], dict[str, Any]]:
    """What the first block of a LLaMA is called with: hidden states by window, and what all windows share."""
    found: list[tuple[Tensor, dict[str, Any]]] = []

    def before(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        found.append((args[0], kwargs))
        raise Entered

    handle = model.model.layers[0].register_forward_pre_hook(before, with_kwargs=True)
    for window in windows.split(1):
        with suppress(Entered):
            model(input_ids=window, use_cache=False)
    handle.remove()
    return [hidden for hidden, _ in found], found[0][1]


def shared(model: nn.Module, windows: Tensor) -> float:
    """The way of `--update obs`. Returns seconds of the update."""
    layers, clock, wanda = find_layers(model), Clock(), load("wanda")
    own = {name: getattr(hessian.Hessians, name) for name in ("add", "finish")}

    def visit(tables: Tables, block: Sequence[Layer]) -> None:
        masks = clock.timed(masks_for)(wanda, Target(), Statistics(tables), block)
        for name, new in clock.timed(update_layers)(block, tables, masks).items():
            next(layer for layer in block if layer.name == name).weight.copy_(new)

    for name, method in own.items():
        setattr(forward.Hessians, name, clock.timed(method))
    try:
        through_blocks(model, layers, windows, {"X.l2", "H.factor"}, visit)
    finally:
        for name, method in own.items():
            setattr(forward.Hessians, name, method)
    return clock.seconds


def main() -> None:
    """Measure both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--data", default="pydoc")
    for name, value in {"blocks": 3, "windows": 16, "length": 512, "repeats": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    loaded = load_model(options.model, device="cpu", dtype="float32")
    text, _ = sides(options.data)
    windows = calibration_windows(tokenise(loaded.tokenizer, text.text), options.windows, options.length)
    model: Any = loaded.model
    model.model.layers = model.model.layers[: options.blocks]
    model.config.num_hidden_layers = options.blocks
    layers = find_layers(model).layers
    dense = [layer.weight.clone() for layer in layers]
    seconds: dict[str, list[tuple[float, float]]] = {"plain": [], "pzc": []}
    weights: dict[str, list[Tensor]] = {}
    for _ in range(options.repeats):
        for name, way in (("plain", plain), ("pzc", shared)):
            for layer, weight in zip(layers, dense, strict=True):
                layer.weight.copy_(weight)
            start = time.process_time()
            update = way(model, windows)
            seconds[name].append((update, time.process_time() - start))
            weights[name] = [layer.weight.clone() for layer in layers]
    middle = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in seconds.items()}
    print(f"{options.model}, {options.blocks} blocks, {options.windows} × {options.length} tokens, "
          f"{torch.get_num_threads()} threads, medians of {options.repeats}")  # fmt: skip
    print(f"{'':8} {'update':>9} {'all':>9}")
    for name, (update, whole) in middle.items():
        print(f"{name:8} {update:7.2f} s {whole:7.2f} s")
    print(f"{'faster':8} {middle['plain'][0] / middle['pzc'][0]:8.2f}× {middle['plain'][1] / middle['pzc'][1]:8.2f}×")
    pairs = list(zip(weights["plain"], weights["pzc"], strict=True))
    same = sum(int(((a != 0) == (b != 0)).sum()) for a, b in pairs) / sum(a.numel() for a, _ in pairs)
    off = max(float((a - b)[(a != 0) & (b != 0)].abs().max() / a.abs().max()) for a, b in pairs)
    print(f"masks the same: {same:.4%}; weights that both keep differ by {off:.1e} of a layer's largest at most")


if __name__ == "__main__":
    main()
