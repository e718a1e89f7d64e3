"""What pruning costs beside plain passes of the same model over the same windows.

    OMP_NUM_THREADS=1 python benchmarks/runtime.py [--model smollm2] [--windows 16] [--length 512] [--repeat 3]

Each way of pruning and its yardstick run in turn, several times. The ratio is the median over the turns, in CPU time
of this process, so that other work on the machine disturbs it little (with one thread, CPU time is the time an idle
machine takes); seconds of the wall clock are medians too. The yardsticks:

    forward             each window alone through the whole model, no gradients
    forward, backward   the same with the loss and its backward pass, all parameters having gradients
    load, save          from_pretrained and save_pretrained, nothing between them

Windows are random tokens: the time depends on their number only. Exits with 1 when a ratio is above its limit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from pzc.compiler.load import load
from pzc.runtime.models.layers import find_layers
from pzc.runtime.models.loading import load_model
from pzc.runtime.pruning.prune import prune
from pzc.runtime.quiet import quiet

Times = tuple[float, float]
"""Seconds of the wall clock, and of this process's CPU time."""


def forward(model: Any, windows: Tensor) -> None:
    """Each window alone."""
    with torch.no_grad():
        for window in windows.split(1):
            model(input_ids=window, use_cache=False)


def backward(model: Any, windows: Tensor) -> None:
    """Each window alone, with its gradients."""
    for window in windows.split(1):
        model(input_ids=window, labels=window, use_cache=False).loss.backward()
        model.zero_grad(set_to_none=True)


def timed(action: Callable[[], object]) -> Times:
    """How long something takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - cpu


def loaded_and_saved(name: str, metric: str | None, scratch: Path) -> None:
    """Load a model on the CPU, prune it or don't, and save it."""
    loaded = load_model(name, device="cpu")
    if metric:
        prune(loaded.model, metric)
    with tempfile.TemporaryDirectory(dir=scratch) as folder, quiet():
        loaded.model.save_pretrained(folder)


def main() -> int:
    """Measure every way, print the table, and tell by the exit code whether all keep their limits."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", help="a part of the names of the ways to measure")
    chosen = parser.parse_args()
    model: Any = load_model(chosen.model, device="cpu").model
    tokens = (chosen.windows, chosen.length)
    windows = torch.randint(0, model.config.vocab_size, tokens, generator=torch.Generator().manual_seed(0))
    layers = find_layers(model).layers
    dense = [layer.weight.clone() for layer in layers]

    def pruned(metric: str, *, sequential: bool = False) -> Callable[[], object]:
        def run() -> None:
            prune(model, load(metric), windows=windows, sequential=sequential)

        return run

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)

        def kept(metric: str | None) -> Callable[[], object]:
            return lambda: loaded_and_saved(chosen.model, metric, folder)

        ways: dict[str, tuple[str, Callable[[], object], Callable[[], object], float]] = {
            "wanda, one-shot": ("forward", lambda: forward(model, windows), pruned("wanda"), 1.3),
            "wanda, sequential": (
                "forward",
                lambda: forward(model, windows),
                pruned("wanda", sequential=True),
                2.4,
            ),
            "pruner_zero": ("forward, backward", lambda: backward(model, windows), pruned("pruner_zero"), 1.25),
            "magnitude": ("load, save", kept(None), kept("magnitude"), 1.5),
        }
        print(f"{chosen.model}, {tokens[0]} × {tokens[1]} tokens, {torch.get_num_threads()} threads", flush=True)
        print(f"{'':20}{'beside':20}{'plain s':>9}{'pzc s':>9}{'ratio':>8}{'limit':>8}", flush=True)
        failed = False
        for name, (yardstick, plain, ours, limit) in ways.items():
            if chosen.only and chosen.only not in name:
                continue
            turns = []
            for _ in range(chosen.repeat):
                turns.append((timed(plain), timed(ours)))
                for layer, weight in zip(layers, dense, strict=True):
                    layer.weight.copy_(weight)
            ratio = median(b[1] / a[1] for a, b in turns)
            before, after = median(a[0] for a, _ in turns), median(b[0] for _, b in turns)
            print(f"{name:20}{yardstick:20}{before:9.2f}{after:9.2f}{ratio:8.2f}{limit:8.2f}", flush=True)
            failed |= ratio > limit
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
