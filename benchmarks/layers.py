"""Scores and masks of real layers: pzc against the usual way, side by side.

    python benchmarks/layers.py [--repeat 5] [--threads 2] [--table compiled]

The usual way is that of the published code: an eager tree in torch, a fresh tensor for every operation, a stable
`torch.sort`, a scatter; for N:M one top-k for every group of columns. Both run in turn, several times; times are
medians, so that other work on the machine touches both. Masks must be equal, bit by bit. Extra memory is how far a
process of its own grows beyond its leaves while it makes one mask, the mask included, as a share of the layer in
float32.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch
from torch import Tensor

from pzc.compiler.core import leaves_of
from pzc.compiler.load import load
from pzc.runtime.scoring.blockwise import Given
from pzc.runtime.scoring.compiled import compiled_score
from pzc.runtime.scoring.masks import Target, keep_mask_nm
from pzc.runtime.scoring.scores import checked_mask, mask_each, score

SHAPES = ((4096, 4096), (11008, 4096), (4096, 11008))
ROW, PATTERN = Target(sparsity=0.5), Target(pattern=(2, 4))
BATCH = ("magnitude", "wanda", "ria", "pruner_zero", "gblm", "gradient_magnitude")
Leaves = dict[str, Tensor]
T = TypeVar("T")


def pruner_zero(leaves: Leaves) -> Tensor:
    w, g = leaves["W"].float(), leaves["G.l2"]
    return torch.mul(torch.abs(torch.mul(w, w)), (g - torch.min(g)) / (torch.max(g) - torch.min(g)))


def wanda(leaves: Leaves) -> Tensor:
    return torch.abs(leaves["W"].float()) * leaves["X.l2"]


def ria(leaves: Leaves) -> Tensor:
    w = leaves["W"].float()
    relative = torch.abs(w) / torch.sum(torch.abs(w), dim=0) + torch.abs(w) / torch.sum(torch.abs(w), dim=1)[:, None]
    return relative * leaves["X.l2"] ** 0.5


USUAL: dict[str, Callable[[Leaves], Tensor]] = {"pruner_zero": pruner_zero, "wanda": wanda, "ria": ria}


def usual_rows(scores: Tensor) -> Tensor:
    """Half of each row is pruned, as the published code does it."""
    mask = torch.zeros_like(scores) == 1
    order = torch.sort(scores, dim=-1, stable=True)[1]
    return ~mask.scatter_(1, order[:, : int(scores.shape[1] * 0.5)], True)


def usual_pattern(scores: Tensor) -> Tensor:
    """Of every 4 inputs 2 are pruned, as the published code does it."""
    mask = torch.zeros_like(scores) == 1
    for start in range(0, scores.shape[1], 4):
        run = scores[:, start : start + 4].float()
        mask.scatter_(1, start + torch.topk(run, 2, dim=1, largest=False)[1], True)
    return ~mask


def leaves_for(names: Sequence[str], shape: tuple[int, int], dtype: torch.dtype) -> Leaves:
    """Random leaves: weights as a trained layer has them, activations and gradients of uneven size."""
    generator = torch.Generator().manual_seed(0)
    leaves = {"W": (torch.randn(shape, generator=generator) * 0.02).to(dtype)}
    read = {leaf for name in names for leaf in leaves_of(load(name).core)}
    if "X.l2" in read:
        leaves["X.l2"] = torch.randn(1, shape[1], generator=generator).exp_()
    if "G.l2" in read:
        leaves["G.l2"] = torch.randn(shape, generator=generator).square_()
    return leaves


def ours(name: str, leaves: Leaves, target: Target) -> Tensor:
    shape = leaves["W"].shape
    return checked_mask(load(name).core, leaves, (shape[0], shape[1]), "layer", "row", target)


def in_turn(ways: list[Callable[[], T]], repeat: int) -> tuple[list[float], list[T]]:
    """The median seconds of each, all taking turns, and what each gave; the first turn does not count."""
    found = [way() for way in ways]
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(repeat):
        for spent, way in zip(seconds, ways, strict=True):
            start = time.perf_counter()
            way()
            spent.append(time.perf_counter() - start)
    return [median(spent) for spent in seconds], found


def fewer_differences(a: Tensor, b: Tensor) -> str:
    """`equal`, or the share of the bits that differ."""
    differing = int(torch.count_nonzero(a != b))
    return "equal" if not differing else f"{differing / a.numel():.1e}"


def resident() -> int:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def grown(work: Callable[[], object]) -> int:
    """How many bytes this process grows by at most while it works, looked at every half millisecond."""
    most, done = resident(), threading.Event()
    before = most

    def look() -> None:
        nonlocal most
        while not done.wait(0.0005):
            most = max(most, resident())

    watch = threading.Thread(target=look)
    watch.start()
    work()
    done.set()
    watch.join()
    return max(most, resident()) - before


def memory_here(name: str, shape: tuple[int, int], dtype: torch.dtype, way: str) -> float:
    """The extra memory of one mask as a share of the layer in float32, in this process."""
    small = leaves_for([name], (256, 1024), dtype)
    work: Callable[[Leaves], Tensor] = (
        (lambda leaves: usual_rows(USUAL[name](leaves))) if way == "usual" else lambda leaves: ours(name, leaves, ROW)
    )
    work(small)  # what is loaded once is not the mask's
    leaves = leaves_for([name], shape, dtype)
    return grown(lambda: work(leaves)) / (4 * shape[0] * shape[1])


def memory(name: str, shape: tuple[int, int], dtype: torch.dtype, way: str, threads: int) -> float:
    """The same in a process of its own."""
    given = json.dumps([name, shape, str(dtype).removeprefix("torch."), way, threads])
    done = subprocess.run([sys.executable, __file__, "--memory", given], check=True, capture_output=True, text=True)
    return float(done.stdout)


def rows(repeat: int, threads: int) -> bool:
    print("score and 50 % row mask   usual      pzc   faster  memory: usual  pzc    masks")
    met = True
    for shape in SHAPES:
        for name in USUAL:
            for dtype in (torch.float32, torch.bfloat16):
                leaves = leaves_for([name], shape, dtype)
                (slow, fast), (a, b) = in_turn(
                    [lambda: usual_rows(USUAL[name](leaves)), lambda: ours(name, leaves, ROW)],  # noqa: B023
                    repeat,
                )
                extra = [memory(name, shape, dtype, way, threads) for way in ("usual", "pzc")]
                size, kind = f"{shape[0]} × {shape[1]}", str(dtype).removeprefix("torch.")
                print(
                    f"{name:11} {size:12} {kind:8} {slow * 1e3:6.0f} ms {fast * 1e3:5.0f} ms {slow / fast:5.1f} ×"
                    f" {extra[0]:8.2f} × {extra[1]:5.2f} ×  {fewer_differences(a, b)}",
                    flush=True,
                )
                met &= slow / fast >= 8 and extra[1] <= 0.5
    return met


def patterns(repeat: int) -> bool:
    print("\nmask at 2:4, of scores     loop      pzc   faster   score and mask: pzc    masks")
    met = True
    for shape in SHAPES:
        leaves = leaves_for(["wanda"], shape, torch.float32)
        scores = score(load("wanda").core, leaves, shape)
        (slow, fast, fused), (a, b, c) = in_turn(
            [
                lambda: usual_pattern(scores),  # noqa: B023
                lambda: keep_mask_nm(scores, 2, 4),  # noqa: B023
                lambda: ours("wanda", leaves, PATTERN),  # noqa: B023
            ],
            3 * repeat,
        )
        size = f"{shape[0]} × {shape[1]}"
        print(
            f"{size:22} {slow * 1e3:7.0f} ms {fast * 1e3:5.0f} ms {slow / fast:5.1f} × {fused * 1e3:18.0f} ms"
            f"    {fewer_differences(a, b)}, {fewer_differences(a, c)}",
            flush=True,
        )
        met &= slow / fast >= 20
    return met


def batch(repeat: int) -> None:
    """Row masks of several metrics on one layer: together, with what they have in common computed once."""
    shape = SHAPES[0]
    leaves = leaves_for(BATCH, shape, torch.float32)
    cores = [load(name).core for name in BATCH]
    (alone, together), (a, b) = in_turn(
        [
            lambda: [checked_mask(core, leaves, shape, "layer", "row", ROW) for core in cores],
            lambda: list(mask_each(cores, leaves, shape, "layer", "row", ROW)),
        ],
        repeat,
    )
    same = all(isinstance(y, Tensor) and torch.equal(x, y) for x, y in zip(a, b, strict=True))
    print(
        f"\nrow masks of {len(cores)} metrics: one by one {alone * 1e3:.0f} ms, together {together * 1e3:.0f} ms, "
        f"masks {'equal' if same else 'differ'}"
    )


def compiled(repeat: int) -> None:
    """Scores alone, in blocks and by a compiled kernel; it takes a C++ compiler, so it must be asked for."""
    print("\nscores alone               blocks   compiled   first call")
    for name in USUAL:
        shape = SHAPES[0]
        leaves = leaves_for([name], shape, torch.float32)
        core = load(name).core
        given = Given((core,), leaves, shape)
        start = time.perf_counter()
        if compiled_score(core, given) is None:
            return
        first = time.perf_counter() - start
        (blocks, kernel), _ = in_turn(
            [lambda: score(core, leaves, shape), lambda: compiled_score(core, given)],  # noqa: B023
            3 * repeat,
        )
        size = f"{shape[0]} × {shape[1]}"
        print(f"{name:11} {size:12} {blocks * 1e3:7.0f} ms {kernel * 1e3:7.0f} ms {first:10.1f} s", flush=True)


def main() -> int:
    """Print the tables, and tell by the exit code whether the goals are met: 8 and 20 times faster, 0.5 of a layer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table", choices=["rows", "patterns", "batch", "compiled"], help="this table alone")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        name, (out, inn), dtype, way, threads = json.loads(options.memory)
        torch.set_num_threads(threads)
        print(memory_here(name, (out, inn), getattr(torch, dtype), way))
        return 0
    torch.set_num_threads(options.threads)
    met = True
    if options.table in (None, "rows"):
        met &= rows(options.repeat, options.threads)
    if options.table in (None, "patterns"):
        met &= patterns(options.repeat)
    if options.table in (None, "batch"):
        batch(options.repeat)
    if options.table == "compiled":
        compiled(options.repeat)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
