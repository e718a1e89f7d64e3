"""What selection means: which weights are kept, by a stable sort of every comparison group.

This is the meaning that the conformance suite is computed from; `runtime.scoring.masks` does the same at the speed that
models need. Scores are float64 `[out, in]` and finite; masks are bool `[out, in]`, True where a weight is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from pzc.compiler.reference import Array

Mask = npt.NDArray[np.bool_]


def pruned_count(size: int, sparsity: float) -> int:
    """⌊sparsity · size + 10⁻⁹⌋, with the sparsity as it is written: 0.29 of 100 are 29, not 28.999…"""
    return math.floor(Fraction(repr(float(sparsity))) * size + Fraction(1, 10**9))


def keep(scores: Array, per: str, sparsity: float) -> Mask:
    """The mask of one layer, compared inside its rows, its columns, or as a whole (`layer`, `block`, `model`)."""
    if per == "row":
        return np.stack([_keep(row, pruned_count(row.size, sparsity)) for row in scores])
    if per == "col":
        return keep(scores.T, "row", sparsity).T
    return keep_across([scores], sparsity)[0]


def keep_across(layers: Sequence[Array], sparsity: float) -> list[Mask]:
    """The masks of layers that are one group, as those of a model or a block; of equal scores the earlier layer's goes
    first, then the lower index's."""
    flat = np.concatenate([scores.ravel() for scores in layers])
    kept = np.split(_keep(flat, pruned_count(flat.size, sparsity)), np.cumsum([s.size for s in layers])[:-1])
    return [mask.reshape(scores.shape) for mask, scores in zip(kept, layers, strict=True)]


def keep_pattern(scores: Array, n: int, m: int) -> Mask:
    """The mask of a pattern N:M: the n largest scores of every m consecutive inputs; `in` is a multiple of m."""
    return np.stack([_keep(run, m - n) for run in scores.reshape(-1, m)]).reshape(scores.shape)


def _keep(scores: Array, count: int) -> Mask:
    """All but the first `count` of a stable ascending sort, so that of equal scores the lower index is pruned first."""
    mask = np.ones(scores.size, dtype=bool)
    mask[np.argsort(scores, kind="stable")[:count]] = False
    return mask
