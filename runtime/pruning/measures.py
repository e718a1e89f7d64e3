"""What sparsities of blocks can follow from: OWL and AlphaPruning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pzc.runtime.models.layers import Layer
from pzc.runtime.scoring.values import count_true
from pzc.runtime.statistics.activations import wide
from pzc.runtime.statistics.gather import Statistics

OUTLIER = 5.0
SPREAD = 0.08
"""OWL's M and λ (Yin et al., ICML 2024, arXiv 2310.05175): what counts as an outlier, in means, and how far sparsities
may be from the target on either side."""

TAU = 0.3
"""AlphaPruning's τ (Lu et al., NeurIPS 2024, arXiv 2410.10912): sparsities are spread over 1 ± τ before they are
scaled."""


def outliers(members: Sequence[Layer], statistics: Statistics) -> float:
    """The share of a block's weights that are outliers: whose score |W| · ‖x‖, Wanda's, is more than `OUTLIER` times
    the block's mean. The scores of one layer are held at a time."""
    size = sum(layer.size for layer in members)
    mean = sum(float(wide(_wanda(layer, statistics).sum(1)).sum()) for layer in members) / size
    return sum(count_true(_wanda(layer, statistics) > OUTLIER * mean) for layer in members) / size


def owl(share: float, shares: Mapping[int, float]) -> dict[int, float]:
    """A sparsity by block from its share of outliers: the more, the lower; linear, within `SPREAD` around the
    target."""
    low, high = min(shares.values()), max(shares.values())
    scale = 2 * SPREAD / (high - low) if high > low else 0.0
    return {block: share + SPREAD - scale * (found - low) for block, found in shares.items()}


def tail(members: Sequence[Layer], statistics: Statistics) -> float:
    """The mean exponent of the tails of a block's spectra."""
    exponents = [hill(statistics.weights.get(layer.name, layer.weight)) for layer in members]
    return sum(exponents) / len(exponents)


def alpha(share: float, exponents: Mapping[int, float]) -> dict[int, float]:
    """A sparsity by block from its mean exponent: the lighter the tails of its weights' spectra, the higher; linear,
    between 1 − `TAU` and 1 + `TAU` times the target."""
    low, high = min(exponents.values()), max(exponents.values())
    scale = 2 * TAU / (high - low) if high > low else 0.0
    return {block: share * (1 - TAU + scale * (found - low)) for block, found in exponents.items()}


def hill(weight: Tensor) -> float:
    """The exponent of the tail of the eigenvalues λ₁ ≤ … ≤ λ_n of WWᵀ, by the estimator of Hill (1975) over the larger
    half, k = n/2: 1 + k / Σ ln(λ_{n−i+1} / λ_{n−k})."""
    eigenvalues = torch.linalg.svdvals(weight.float()).cpu().double().square().flip(0)
    k = max(1, len(eigenvalues) // 2)
    tail = eigenvalues.clamp_min(1e-30)[-k - 1 :]
    total = float((tail[1:] / tail[0]).log().sum()) if len(tail) > 1 else 0.0
    return 1 + k / total if total > 0 else 1.0


def _wanda(layer: Layer, statistics: Statistics) -> Tensor:
    leaves = statistics.of(layer, ("W", "X.l2"))
    scores: Tensor = leaves["W"].float().abs().mul_(leaves["X.l2"])
    return scores


@dataclass(frozen=True)
class Way:
    """How sparsities of blocks are proposed: `measure` looks at a block's layers, `propose` at the measures of all;
    what it proposes is scaled to the target, or moved."""

    measure: Callable[[Sequence[Layer], Statistics], float]
    propose: Callable[[float, Mapping[int, float]], dict[int, float]]
    scale: bool


BY_BLOCK = {"owl": Way(outliers, owl, False), "alpha": Way(tail, alpha, True)}
