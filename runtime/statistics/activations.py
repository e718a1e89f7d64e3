"""Statistics of what a layer reads (X) and puts out (Y): running sums over tokens, one row a token.

Sums of one call are taken in float32 and folded in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Literal

import torch
from torch import Tensor

from pzc.runtime.errors import Hopeless

Table = dict[str, Tensor]
"""Leaf name to its value: float32 `[out, in]`, with 1 for an axis that the leaf lacks."""

Parts = dict[str, Any]
"""Sums over some tokens: their number `tokens`, and vectors by the names in `_SUMS`, one entry a feature."""

_PARTS: dict[str, tuple[str, ...]] = {
    "l2": ("squares",),
    "l1": ("absolute",),
    "max": ("largest",),
    "mean": ("mean",),
    "var": ("mean", "deviation"),
}
"""What each member of X and Y is made of; the last part becomes its value."""

_SUMS: dict[str, Callable[[Tensor], Tensor]] = {
    "squares": lambda rows: rows.square().sum(0),
    "absolute": lambda rows: rows.abs().sum(0),
    "largest": lambda rows: rows.abs().amax(0),
    "mean": lambda rows: rows.mean(0),
    "deviation": lambda rows: (rows - rows.mean(0)).square().sum(0),
}

_JOINED: dict[str, Callable[[Parts, Parts, float], Tensor]] = {
    "squares": lambda a, b, share: a["squares"] + b["squares"],
    "absolute": lambda a, b, share: a["absolute"] + b["absolute"],
    "largest": lambda a, b, share: torch.maximum(a["largest"], b["largest"]),
    "mean": lambda a, b, share: a["mean"] + (b["mean"] - a["mean"]) * share,
    "deviation": lambda a, b, share: (
        a["deviation"] + b["deviation"] + (b["mean"] - a["mean"]).square() * (a["tokens"] * share)
    ),
}
"""How the sums of two sets of tokens join, as in Chan, Golub and LeVeque (1979); `share` is that of the second."""


class Sums:
    """The leaves of one `side` of some layers: of their inputs (X) or of their outputs (Y).

    Layers that read the same tensor, as q, k and v do, share its sums.
    """

    def __init__(self, side: Literal["X", "Y"], leaves: Collection[str]) -> None:
        self._side = side
        self._members = [member for member in _PARTS if f"{side}.{member}" in leaves]
        self._parts = {part for member in self._members for part in _PARTS[member]}
        self._totals: dict[str, Parts] = {}
        self._last: tuple[Tensor | None, int, Parts] = (None, 0, {})

    def __bool__(self) -> bool:
        return bool(self._members)

    def add(self, layer: str, inputs: Tensor, outputs: Tensor) -> None:
        """Take in what one call of a layer read and put out: `[..., in]` and `[..., out]`."""
        values = inputs if self._side == "X" else outputs
        read, changes, part = self._last
        if read is not values or changes != changes_of(values):
            part = self._sum(values)
            self._last = (values, changes_of(values), part)
        self._totals[layer] = _fold(self._totals[layer], part) if layer in self._totals else part

    def finish(self, layer: str) -> Table:
        """The leaves of a layer: `[1, in]` of X, `[out, 1]` of Y. Raises Hopeless if it was never run."""
        self._last = (None, 0, {})
        if layer not in self._totals:
            raise Hopeless(f"no calibration token reached the layer {layer}", layer=layer)
        total = self._totals.pop(layer)
        axis = 0 if self._side == "X" else 1
        return {f"{self._side}.{member}": _value(member, total).unsqueeze(axis) for member in self._members}

    def _sum(self, values: Tensor) -> Parts:
        flat = rows(values)
        return {"tokens": len(flat), **{part: wide(_SUMS[part](flat)) for part in self._parts}}


def changes_of(values: Tensor) -> int:
    """How often a tensor has been written to in place: what it held before is not what it holds now. Torch does not
    count it for those of its inference mode."""
    return 0 if values.is_inference() else values._version


def rows(values: Tensor) -> Tensor:
    """Activations `[..., features]` as float32 `[tokens, features]`."""
    return values.detach().reshape(-1, values.shape[-1]).float()


def wide(values: Tensor) -> Tensor:
    """Float64, except on Apple's devices, which have none."""
    return values if values.device.type == "mps" else values.double()


def _fold(a: Parts, b: Parts) -> Parts:
    tokens = a["tokens"] + b["tokens"]
    share = b["tokens"] / tokens
    return {"tokens": tokens, **{part: _JOINED[part](a, b, share) for part in a if part != "tokens"}}


def _value(member: str, total: Parts) -> Tensor:
    value: Tensor = total[_PARTS[member][-1]]
    if member == "l2":
        value = value.sqrt()
    if member == "var":
        value = value / total["tokens"]
    return value.float()
