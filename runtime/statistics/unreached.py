"""Experts that no calibration token reached: a router sends most tokens to few experts, so a large mixture has some.

Their statistics are unknown, and zeros would make an arbitrary mask: all scores of a row would tie. So they get values
that leave the magnitude to decide. X and Y are 1, H is the identity, and G is |W|: then |W|·X, |W|·G, W²·G and what is
made of them in the zoo order the weights of the layer as |W| does, but on another scale than other layers have.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from pzc.compiler.leaves import AXES, LEAVES
from pzc.runtime.models.layers import Layer
from pzc.runtime.statistics.hessian import DAMPING_USED, DEAD, FACTOR

UNREACHED, NO_GRADIENT = MARKS = ("unreached", "no gradient")
"""Stand among the statistics of a layer as marks: of such an expert, and of another layer that no gradient reaches, as
one that only chooses what others read."""


class UnreachedExperts(UserWarning):
    """Some experts are scored by magnitude, since no calibration token was routed to them."""


def neutral(layer: Layer, leaves: Collection[str]) -> dict[str, Tensor]:
    """Ones for leaves of the activations, float32 `[out, in]`, with 1 for an axis that the leaf lacks; the identity for
    the factor of H; and the mark."""
    device = layer.parameter.device
    sizes = dict(zip(AXES, layer.shape, strict=True))
    found = {
        name: torch.ones([sizes[axis] if axis in LEAVES[name].axes else 1 for axis in AXES], device=device)
        for name in leaves
        if name in LEAVES
    }
    if FACTOR in leaves:
        found[FACTOR] = torch.eye(layer.shape[1], device=device)
        found[DEAD], found[DAMPING_USED] = torch.zeros(1, layer.shape[1], device=device), torch.zeros(())
    return found | mark(layer)


def mark(layer: Layer, what: str = UNREACHED) -> dict[str, Tensor]:
    """A mark as it stands among the statistics of a layer."""
    return {what: torch.ones((), device=layer.parameter.device)}


def marks_in(kept: Collection[str], layer: Layer) -> dict[str, Tensor]:
    """The marks of a layer among the keys of a file, MARK/LAYER."""
    return {
        name: value for what in MARKS if f"{what}/{layer.name}" in kept for name, value in mark(layer, what).items()
    }


def unreached_of(tables: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
    """The layers that nothing reached, by their statistics."""
    return [name for name, table in tables.items() if UNREACHED in table]


def warn_of(layers: Sequence[Layer], what: str) -> None:
    """Warn that layers had none of `what`; nothing is said of none."""
    if not layers:
        return
    others = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
    text = (
        f"no {what} reached {layers[0].name}{others}: scored by magnitude, which in a group of several layers is a "
        "scale of its own; more calibration text helps"
    )
    warnings.warn(UnreachedExperts(text), stacklevel=2)
