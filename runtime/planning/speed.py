"""How fast this machine is, from a moment's work: what a plan's times are reckoned from. They are guesses."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from pzc.compiler.arm import Arm
from pzc.compiler.core import leaves_of
from pzc.compiler.leaves import AXES, LEAVES
from pzc.runtime.errors import PruningError
from pzc.runtime.scoring.masks import Target
from pzc.runtime.scoring.scores import checked_mask

_ENOUGH, _ROUNDS = 0.05, 20
"""Seconds, or repetitions, after which a measurement ends: the whole takes less than half a second."""

_SIDE, _TOKENS = 2048, 256
"""The largest matrix that is multiplied, and with how many tokens."""

_PIECE = 1 << 24
"""Bytes that are read at once."""

_USUAL_MASK, _USUAL_DISK = 2e7, 5e8
"""Weights masked and bytes read a second where neither can be measured: a core's and an SSD's, on the low side."""


@dataclass(frozen=True)
class Speed:
    """Operations of a matrix product, weights scored and masked, and bytes read from the disk or its cache: each a
    second."""

    product: float
    mask: float
    disk: float


def measure(
    shape: tuple[int, int], dtype: torch.dtype, device: torch.device, arm: Arm, target: Target, file: Path | None
) -> Speed:
    """The speed for a layer of `shape` `(out, in)` and a metric's arm. Takes less than a second."""
    rows, columns = (min(size, _SIDE) for size in shape)
    weight = torch.rand(rows, columns, device=device).to(dtype)
    tokens = torch.rand(_TOKENS, columns, device=device).to(dtype)

    def product() -> None:
        torch.nn.functional.linear(tokens, weight)
        if device.type != "cpu":
            torch.accelerator.synchronize(device)

    product()  # the first call makes ready what later ones find
    return Speed(
        2 * weight.numel() * _TOKENS / _seconds(product),
        _masks_a_second(arm, target, device),
        _read_a_second(file) if file else _USUAL_DISK,
    )


def _masks_a_second(arm: Arm, target: Target, device: torch.device) -> float:
    """Weights of one small layer, with leaves from nowhere. A score that they break tells nothing."""
    shape = 256, 1 << 10
    sizes = dict(zip(AXES, shape, strict=True))

    def leaf(name: str) -> torch.Tensor:
        return torch.rand([sizes[a] if a in LEAVES[name].axes else 1 for a in AXES], device=device) + 0.1

    leaves: Mapping[str, torch.Tensor] = {name: leaf(name) for name in leaves_of(arm.core)}
    fits = target if target.pattern is None or shape[1] % target.pattern[1] == 0 else Target()
    try:
        mask = _seconds(lambda: checked_mask(arm.core, leaves, shape, "a layer", "row", fits))
    except PruningError:
        return _USUAL_MASK
    return shape[0] * shape[1] / mask


def _read_a_second(file: Path) -> float:
    start = time.perf_counter()
    count = 0
    with file.open("rb", buffering=0) as stream:
        while time.perf_counter() - start < _ENOUGH and (piece := stream.read(_PIECE)):
            count += len(piece)
    return max(count, 1) / max(time.perf_counter() - start, 1e-9)


def _seconds(action: Callable[[], object]) -> float:
    """Of one call: the fastest of some, since other work on a machine only slows it down."""
    best = float("inf")
    spent = 0.0
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        action()
        took = time.perf_counter() - start
        best, spent = min(best, took), spent + took
        if spent > _ENOUGH:
            break
    return max(best, 1e-9)
