"""Probe layers: small layers with made-up weights, activations and gradients, and every leaf that follows from these.

The leaves of a probe belong to one layer that could exist: `X.l2` is never above `X.l1`, H is that of the same
activations, the gradient of a weight is zero where its input is. So metrics that differ on a probe differ on a layer,
and `X.var + sqr(X.mean)` ranks as `sqr(X)` does. The random numbers are those of numpy's RandomState, whose streams are
frozen (NEP 19), so a probe is the same on every machine but for rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.random import RandomState

from pzc.compiler.groups import JOINT
from pzc.compiler.leaves import AXES, LEAVES, Leaf
from pzc.compiler.reference import Array

Layer = Mapping[str, Array]
"""The leaves of one layer by their full names."""


@dataclass(frozen=True)
class Kind:
    """How the values of a probe are spread: the usual magnitudes of weights, inputs and gradients, the spread `tail` of
    the logarithms of magnitudes, the share of weights that are negative, and the share of zeros."""

    weight: float
    activation: float
    gradient: float
    tail: float
    negative: float
    zeros: float = 0.0


KINDS = (
    Kind(1.0, 0.25, 0.01, 0.5, 0.5),
    Kind(0.02, 1.0, 1e-4, 1.5, 0.5),
    Kind(0.5, 0.05, 0.3, 1.0, 0.1),
    Kind(1.0, 0.5, 0.01, 0.5, 0.7, 0.25),
)
"""Moderate values; those of language models, with heavy tails; mostly positive weights, and gradients larger than
inputs, which are the smallest elsewhere; and ones with zeros."""

SHAPES = ((12, 16), (8, 12), (10, 8))
"""Sizes `(out, in)` of the layers of a probe. Groups of one layer need only the first."""

LONGER = 12
"""How many times as long the layers are along the only axis of a score: so few values of a usual probe order alike for
scores that are far from the same."""

_TOKENS = 12
BLOCK_DEPTH = 0.5


@dataclass(frozen=True)
class Probe:
    """A small model: its layers, and what their leaves are."""

    kind: Kind
    layers: tuple[Layer, ...]


def probe(kind: Kind, seed: int, per: str, along: str = "") -> Probe:
    """The probe of a kind and a seed for a comparison group: one layer, or three where a group goes over several.

    `along` is the axis of scores that have no other, `in` or `out`: the layers are longer there.
    """
    across = per if per in JOINT else ""
    return _probe(kind, seed, across, along, tuple(x for n, x in LEAVES.items() if n not in OWN))


@cache
def _probe(kind: Kind, seed: int, across: str, along: str, others: tuple[Leaf, ...]) -> Probe:
    layers = []
    for i, (rows, columns) in enumerate(SHAPES if across else SHAPES[:1]):
        shape = (rows * (LONGER if along == "out" else 1), columns * (LONGER if along == "in" else 1))
        random = RandomState((seed, i))
        windows = 3 + seed % 3  # the same for every layer of a model
        depth = BLOCK_DEPTH if across == "block" else i / (len(SHAPES) - 1)
        layers.append({**layer(random, kind, shape, windows, depth), **_others(random, shape, others)})
    return Probe(kind, tuple(layers))


def layer(random: RandomState, kind: Kind, shape: tuple[int, int], windows: int, depth: float) -> Layer:
    """The leaves of one random layer of `shape` `(out, in)` after some calibration `windows`."""
    rows, columns = shape
    live = random.random_sample(columns) >= kind.zeros
    scale = kind.activation * np.exp(kind.tail * random.standard_normal(columns)) * live
    tokens = max(_TOKENS, columns // 2 + 1)  # more than inputs: H has an inverse
    inputs = (random.standard_normal((windows, tokens, columns)) + random.standard_normal(columns)) * scale
    weight = kind.weight * np.exp(kind.tail * random.standard_normal(shape))
    weight *= np.where(random.random_sample(shape) < kind.negative, -1.0, 1.0) * (
        random.random_sample(shape) >= kind.zeros
    )
    bias = kind.weight * kind.activation * random.standard_normal(rows)
    size = kind.gradient * np.exp(kind.tail * random.standard_normal(shape)) * live
    gradients = random.standard_normal((windows, rows, columns)) * size
    given: dict[str, Array] = {"noise": random.random_sample(shape), "depth": np.array(depth)}
    return {**given, **measured(weight, inputs, bias, gradients)}


def measured(weight: Array, inputs: Array, bias: Array, gradients: Array) -> dict[str, Array]:
    """The statistics of a layer as docs/language.md defines them.

    `weight` is `[out, in]`, `inputs` `[windows, tokens, in]`, `bias` `[out]`, `gradients` `[windows, out, in]`.
    """
    rows, columns = weight.shape
    x = inputs.reshape(-1, columns)
    g = gradients
    return {
        "W": weight,
        **_family("X", x),
        **_family("Y", x @ weight.T + bias),
        **_hessian(x, len(inputs)),
        "G.l2": np.sqrt(np.square(g).sum(0)),
        "G.l1": np.abs(g).sum(0),
        "G.mean": g.mean(0),
        "out_features": np.array(float(rows)),
        "in_features": np.array(float(columns)),
        "windows": np.array(float(len(inputs))),
    }


def _family(name: str, x: Array) -> dict[str, Array]:
    """The leaves of `X` or `Y` from its values `[tokens, features]`."""
    return {
        f"{name}.l2": np.sqrt(np.square(x).sum(0)),
        f"{name}.l1": np.abs(x).sum(0),
        f"{name}.mean": x.mean(0),
        f"{name}.var": x.var(0),
        f"{name}.max": np.abs(x).max(0),
    }


def _hessian(x: Array, windows: int) -> dict[str, Array]:
    h = 2 / windows * x.T @ x
    diagonal = np.einsum("jj->j", h)
    diagonal[diagonal == 0] = 1.0
    diagonal += 0.01 * diagonal.mean()
    inverse = np.linalg.inv(h)
    return {
        "H.diag": diagonal.copy(),
        "H.inv_diag": np.diag(inverse).copy(),
        "H.chol_diag": np.diag(np.linalg.cholesky(inverse)).copy(),
    }


def _others(random: RandomState, shape: tuple[int, int], leaves: tuple[Leaf, ...]) -> dict[str, Array]:
    """Values of leaves that a program has added to the table, of which only axes and signs are known."""
    found: dict[str, Array] = {}
    for entry in leaves:
        size = tuple(shape[AXES.index(a)] for a in entry.axes)
        values = np.exp(random.standard_normal(size))
        found[entry.name] = values * random.choice([-1.0, 1.0], size) if entry.signed else values
    return found


OWN = frozenset(layer(RandomState(0), KINDS[0], (2, 2), 1, 0.0))
"""The leaves of the language; all others were added by a program."""
