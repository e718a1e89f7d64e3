"""The leaves: what a metric can read, and what reading it costs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

Axis = Literal["out", "in"]
Tier = Literal["weights", "forward", "hessian", "backward"]

AXES: tuple[Axis, ...] = ("out", "in")
"""The two named axes of a linear layer, in the order in which tensors store them: `[out, in]`."""

TIERS: tuple[Tier, ...] = ("weights", "forward", "hessian", "backward")
"""Cost tiers, cheapest first: no pass over the data, a forward pass, one that sums up X·Xᵀ, one with gradients."""


def within(names: Iterable[str], tier: Tier | None) -> bool:
    """Whether leaves, by their full names, all cost at most a tier; None sets no bound."""
    return tier is None or all(TIERS.index(LEAVES[name].tier) <= TIERS.index(tier) for name in names)


class Usual(NamedTuple):
    """The usual values of a leaf in a language model: their range, and the magnitude of most of them."""

    low: float = -math.inf
    high: float = math.inf
    typical: float = 1.0


@dataclass(frozen=True)
class Leaf:
    """One statistic of a linear layer.

    `axes` are the axes it has, `tier` which pass produces it, `signed` says whether it can be negative, `positive`
    whether it can never be zero. Warnings rest on its `usual` values, errors only on its signs.
    """

    name: str
    axes: tuple[Axis, ...]
    tier: Tier
    doc: str
    usual: Usual = Usual()
    signed: bool = False
    positive: bool = False


MOST_POSITIONS = 2.0**17
"""Positions along one axis of a layer, at most; the widest layers of today's models have about 10⁵."""

TYPICAL_POSITIONS = 4096.0
"""Positions along one axis of a layer of common size."""

_MATRIX: tuple[Axis, ...] = ("out", "in")

# Activations stay within ±10⁴, the order of the "massive activations" of Sun et al. (arXiv 2402.17762), over 10⁶
# calibration tokens at most: ‖x‖₂ ≤ 10⁴ · √10⁶. Typical are 10⁴ tokens of size 1, a small calibration set, so that a
# warning about large values holds for larger sets as well.
_WEIGHT = Usual(-1e2, 1e2, 0.02)
_NORM = Usual(0, 1e7, 1e2)
_TOTAL = Usual(0, 1e10, 1e4)
_MEAN = Usual(-1e4, 1e4, 0.1)
_VARIANCE = Usual(0, 1e8, 1.0)
_LARGEST = Usual(0, 1e4, 5.0)
# H is 2/n · XXᵀ, damped by a hundredth of its mean diagonal, which keeps it and its inverse off zero.
_CURVATURE = Usual(1e-8, 1e9, 1.0)
_INVERSE = Usual(1e-9, 1e10, 10.0)
_FACTOR = Usual(1e-5, 1e5, 3.0)
# One window's gradient of a mean cross-entropy is small; 10 leaves room for a model that is broken already.
_GRADIENT_NORM = Usual(0, 1e4, 1e-3)
_GRADIENT_TOTAL = Usual(0, 1e7, 1e-2)
_GRADIENT = Usual(-10, 10, 1e-4)
_UNIT = Usual(0, 1, 0.5)
_SIZE = Usual(1, MOST_POSITIONS, TYPICAL_POSITIONS)
_WINDOWS = Usual(1, 1e6, 128)

LEAVES: dict[str, Leaf] = {
    leaf.name: leaf
    for leaf in (
        Leaf("W", _MATRIX, "weights", "the weight", _WEIGHT, signed=True),
        Leaf("X.l2", ("in",), "forward", "‖x_j‖₂ of input feature j over all calibration tokens", _NORM),
        Leaf("X.l1", ("in",), "forward", "Σ|x_j| over all calibration tokens", _TOTAL),
        Leaf("X.mean", ("in",), "forward", "mean of x_j over all calibration tokens", _MEAN, signed=True),
        Leaf("X.var", ("in",), "forward", "variance of x_j over all calibration tokens, divisor n", _VARIANCE),
        Leaf("X.max", ("in",), "forward", "max|x_j| over all calibration tokens", _LARGEST),
        Leaf("Y.l2", ("out",), "forward", "‖y_i‖₂ of output feature i over all calibration tokens", _NORM),
        Leaf("Y.l1", ("out",), "forward", "Σ|y_i| over all calibration tokens", _TOTAL),
        Leaf("Y.mean", ("out",), "forward", "mean of y_i over all calibration tokens", _MEAN, signed=True),
        Leaf("Y.var", ("out",), "forward", "variance of y_i over all calibration tokens, divisor n", _VARIANCE),
        Leaf("Y.max", ("out",), "forward", "max|y_i| over all calibration tokens", _LARGEST),
        Leaf("H.diag", ("in",), "hessian", "diagonal of the damped Hessian H", _CURVATURE, positive=True),
        Leaf("H.inv_diag", ("in",), "hessian", "diagonal of H⁻¹", _INVERSE, positive=True),
        Leaf("H.chol_diag", ("in",), "hessian", "diagonal of the upper Cholesky factor of H⁻¹", _FACTOR, positive=True),
        Leaf("G.l2", _MATRIX, "backward", "√Σ g_n² over calibration windows n", _GRADIENT_NORM),
        Leaf("G.l1", _MATRIX, "backward", "Σ|g_n| over calibration windows n", _GRADIENT_TOTAL),
        Leaf("G.mean", _MATRIX, "backward", "mean of g_n over calibration windows n", _GRADIENT, signed=True),
        Leaf("noise", _MATRIX, "weights", "uniform in [0, 1), from the run's seed and the layer's name", _UNIT),
        Leaf("out_features", (), "weights", "number of rows of the layer", _SIZE, positive=True),
        Leaf("in_features", (), "weights", "number of columns of the layer", _SIZE, positive=True),
        Leaf("depth", (), "weights", "position of the layer's block: 0 for the first, 1 for the last", _UNIT),
        Leaf("windows", (), "weights", "number of calibration windows", _WINDOWS, positive=True),
    )
}

ALIASES: dict[str, str] = {"X": "X.l2", "Y": "Y.l2", "G": "G.l2"}
"""Short names: what is written on the left means the leaf on the right."""


def short(name: str) -> str:
    """The name as people write it: `X` for `X.l2`."""
    return next((alias for alias, full in ALIASES.items() if full == name), name)
