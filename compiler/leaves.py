"""The leaves: what a metric can read, and what reading it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Axis = Literal["out", "in"]
Tier = Literal["weights", "forward", "backward"]

AXES: tuple[Axis, ...] = ("out", "in")
"""The two named axes of a linear layer, in the order in which tensors store them: `[out, in]`."""

TIERS: tuple[Tier, ...] = ("weights", "forward", "backward")
"""Cost tiers, cheapest first: no pass over the data, a forward pass, a forward and a backward pass."""


@dataclass(frozen=True)
class Leaf:
    """One statistic of a linear layer.

    `axes` are the axes it has, `signed` says whether it can be negative, `positive` whether it can never be
    zero, `tier` which pass produces it.
    """

    name: str
    axes: tuple[Axis, ...]
    tier: Tier
    doc: str
    signed: bool = False
    positive: bool = False


_MATRIX: tuple[Axis, ...] = ("out", "in")

LEAVES: dict[str, Leaf] = {
    leaf.name: leaf
    for leaf in (
        Leaf("W", _MATRIX, "weights", "the weight", signed=True),
        Leaf("X.l2", ("in",), "forward", "‖x_j‖₂ of input feature j over all calibration tokens"),
        Leaf("X.l1", ("in",), "forward", "Σ|x_j| over all calibration tokens"),
        Leaf("X.mean", ("in",), "forward", "mean of x_j over all calibration tokens", signed=True),
        Leaf("X.var", ("in",), "forward", "variance of x_j over all calibration tokens, divisor n"),
        Leaf("X.max", ("in",), "forward", "max|x_j| over all calibration tokens"),
        Leaf("G.l2", _MATRIX, "backward", "√Σ g_n² over calibration windows n"),
        Leaf("G.l1", _MATRIX, "backward", "Σ|g_n| over calibration windows n"),
        Leaf("G.mean", _MATRIX, "backward", "mean of g_n over calibration windows n", signed=True),
        Leaf("noise", _MATRIX, "weights", "uniform in [0, 1), from the run's seed and the layer's name"),
        Leaf("out_features", (), "weights", "number of rows of the layer", positive=True),
        Leaf("in_features", (), "weights", "number of columns of the layer", positive=True),
        Leaf("windows", (), "weights", "number of calibration windows", positive=True),
    )
}

ALIASES: dict[str, str] = {"X": "X.l2", "G": "G.l2"}
"""Short names: what is written on the left means the leaf on the right."""


def short(name: str) -> str:
    """The name as people write it: `X` for `X.l2`."""
    return next((alias for alias, full in ALIASES.items() if full == name), name)
