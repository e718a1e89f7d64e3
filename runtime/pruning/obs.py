"""Updating the weights that are kept, so that a layer puts out what it did before some were pruned: the column sweep of
SparseGPT (Frantar and Alistarh, ICML 2023, arXiv 2301.00774), for a mask that is given or chosen on the way.

Columns are pruned from the first to the last, and the error of each is made up for by those after it: with H⁻¹ = UᵀU, U
upper, and w the row as it is by then,

    e_j = (w_j − q_j) / U_jj,   q_j = w_j or 0,   w_k −= e_j · U_jk  for k > j.

All errors together are W − Q = E · U. So with R = U⁻¹, the upper factor of H = R Rᵀ, E = (W − Q) · R: columns up to s
hand on (W − Q)[:s] · R[:s, s:e] to a block of columns s … e at once, and inside of the block U is the inverse of R's
block on the diagonal. Neither H⁻¹ nor U is ever made, and every column is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pzc.runtime.models.layers import Layer, check_finite
from pzc.runtime.scoring.masks import Target, keep_mask_nm, keep_most, pruned_count
from pzc.runtime.statistics.activations import Table
from pzc.runtime.statistics.hessian import DAMPING_USED, DEAD, FACTOR

COLUMNS = 128
"""Columns whose errors are handed on together, and among which SparseGPT's own mask compares, as in its release."""

_STRIP = 32
"""Columns of a block that are updated one by one; the rest of the block follows in one product."""

Choose = Callable[[int, Tensor, Tensor], Tensor]
"""Gets the first of some columns, their weights as they are by then `[columns, rows]` and U's diagonal `[columns, 1]`;
returns which are kept, bool `[columns, rows]`."""


@dataclass(frozen=True)
class Factor:
    """What the sweep needs of a Hessian: R `[in, in]` with H = R Rᵀ, upper, float32; which inputs are never active,
    bool `[in]`; and the share of H's mean diagonal that damps it."""

    upper: Tensor
    dead: Tensor
    damping: float

    @classmethod
    def of(cls, table: Table) -> Factor:
        """The factor among the statistics of a layer, gathered as the leaf H.factor."""
        return cls(table[FACTOR], table[DEAD][0] > 0, float(table[DAMPING_USED]))


def updated(weights: Sequence[Tensor], keeps: Sequence[Tensor], factor: Factor) -> list[Tensor]:
    """The weights `[out, in]` of layers that read the same inputs, with what their masks drop at zero and the rest
    updated: float32. Masks are bool `[out, in]`."""
    keep = _joined(keeps)

    def given(start: int, w: Tensor, diagonal: Tensor) -> Tensor:
        return keep[start : start + len(w)]

    swept = _sweep(_joined(weights).float(), factor.upper, given, COLUMNS, COLUMNS)
    return _parted(swept, weights)


def adaptive(weights: Sequence[Tensor], targets: Sequence[Target], factor: Factor) -> list[tuple[Tensor, Tensor]]:
    """The same with SparseGPT's own masks: weights in float32 and what is kept, `[out, in]` each.

    Scores are w² / U_jj², of the weights as they are by then. Of a layer's block of 128 columns the lowest are pruned,
    at its target's sparsity; with a pattern, of each run of m inputs when the sweep reaches it. Weights of inputs that
    are never active count as 0, as in the release. The targets' sparsities may differ, their patterns only in n.
    """
    joined = _joined(weights).float()
    joined[factor.dead] = 0
    sizes = [len(weight) for weight in weights]
    keep = torch.empty(joined.shape, dtype=torch.bool, device=joined.device)
    pattern = targets[0].pattern
    run = pattern[1] if pattern else COLUMNS
    width = max(run, COLUMNS // run * run)

    def choose(start: int, w: Tensor, diagonal: Tensor) -> Tensor:
        scores = (w / diagonal).square_().T.split(sizes)
        found = [_lowest_go(part, start, target) for part, target in zip(scores, targets, strict=True)]
        keep[start : start + len(w)] = torch.cat(found).T
        return keep[start : start + len(w)]

    swept = _sweep(joined, factor.upper, choose, width, run)
    return list(zip(_parted(swept, weights), [part.T for part in keep.split(sizes, dim=1)], strict=True))


def update_layers(
    layers: Sequence[Layer], tables: Mapping[str, Table], masks: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The updated weights of some layers by name, float32 `[out, in]`; those with one Hessian are swept together.

    Raises PruningError where a weight is not finite, before or afterwards.
    """
    found: dict[str, Tensor] = {}
    for members in _sharing(layers, tables):
        weights = [layer.weight for layer in members]
        check_finite(members)
        swept = updated(weights, [masks[layer.name] for layer in members], Factor.of(tables[members[0].name]))
        check_finite(members, swept)
        found.update({layer.name: weight for layer, weight in zip(members, swept, strict=True)})
    return found


def prune_layers(
    layers: Sequence[Layer], tables: Mapping[str, Table], targets: Mapping[str, Target | None]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """SparseGPT on some layers: their weights, float32 `[out, in]`, and masks by name. A layer without a target gets a
    mask that keeps all, and no weights. Raises PruningError as `update_layers` does."""
    found: dict[str, Tensor] = {}
    masks = {layer.name: torch.ones_like(layer.weight, dtype=torch.bool) for layer in layers}
    for members in _sharing([layer for layer in layers if targets[layer.name]], tables):
        weights = [layer.weight for layer in members]
        check_finite(members)
        chosen = [target for layer in members if (target := targets[layer.name])]
        swept = adaptive(weights, chosen, Factor.of(tables[members[0].name]))
        check_finite(members, [weight for weight, _ in swept])
        for layer, (weight, keep) in zip(members, swept, strict=True):
            found[layer.name], masks[layer.name] = weight, keep
    return found, masks


def _sharing(layers: Sequence[Layer], tables: Mapping[str, Table]) -> list[list[Layer]]:
    """The layers by the Hessian that they share, in their order."""
    found: dict[int, list[Layer]] = {}
    for layer in layers:
        found.setdefault(id(tables[layer.name][FACTOR]), []).append(layer)
    return list(found.values())


def _joined(matrices: Sequence[Tensor]) -> Tensor:
    """Matrices `[out, in]` side by side as one `[in, rows]`, contiguous and new: a column of a layer is a row of it."""
    return torch.cat([matrix.T for matrix in matrices], dim=1)


def _parted(joined: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    return [part.T for part in joined.split([len(matrix) for matrix in like], dim=1)]


def _sweep(w: Tensor, upper: Tensor, choose: Choose, width: int, run: int) -> Tensor:
    """Prune and update `w` `[in, rows]`, in place: blocks of `width` columns, whose masks are chosen for every `run` of
    them. `upper` is R."""
    lost = torch.empty_like(w)  # W − Q of the columns that are done
    strip = run if run < width else _STRIP
    strip *= max(1, _STRIP // strip)
    for start in range(0, len(w), width):
        stop = min(start + width, len(w))
        own = upper[start:stop, start:stop]
        identity = torch.eye(stop - start, dtype=w.dtype, device=w.device)
        u = torch.linalg.solve_triangular(own, identity, upper=True)
        now = w[start:stop].clone()
        if start:
            handed_on = upper[:start, start:stop].T @ lost[:start]
            now.addmm_(u.T, handed_on)
        _block(now, u, start, choose, strip, run)
        torch.sub(w[start:stop], now, out=lost[start:stop])
        w[start:stop] = now
    return w


def _block(w: Tensor, u: Tensor, start: int, choose: Choose, strip: int, run: int) -> None:
    """The textbook's sweep of a block of columns from `start` on: `w` `[columns, rows]`, `u` `[columns, columns]`."""
    diagonal = u.diagonal().unsqueeze(1)
    errors = torch.empty((min(strip, len(w)), w.shape[1]), dtype=w.dtype, device=w.device)
    kept, lost = torch.empty_like(w), torch.empty_like(w)
    columns, shares, after = w.unbind(), lost.unbind(), u.unbind()
    chosen = 0  # columns whose mask is known
    for first in range(0, len(w), strip):
        last = min(first + strip, len(w))
        for j, error in enumerate(errors[: last - first].unbind(), first):
            if j == chosen:
                chosen = min(j + run, len(w))
                kept[j:chosen] = choose(start + j, w[j:chosen], diagonal[j:chosen])
                torch.sub(1, kept[j:chosen], out=lost[j:chosen]).div_(diagonal[j:chosen])  # of a weight, its error
            torch.mul(columns[j], shares[j], out=error)
            if j + 1 < last:
                w[j + 1 : last].addr_(after[j][j + 1 : last], error, alpha=-1)
        w[first:last] *= kept[first:last]  # no column before these is read again
        if last < len(w):
            w[last:].addmm_(u[first:last, last:].T, errors[: last - first], alpha=-1)


def _lowest_go(scores: Tensor, start: int, target: Target) -> Tensor:
    """What is kept of columns of a layer from `start` on, by scores `[out, columns]`.

    As many as `target` asks for of all columns up to the last of these, less those of the columns before: so a whole
    layer loses exactly its share.
    """
    if target.pattern:
        return keep_mask_nm(scores.contiguous(), *target.pattern)
    rows, columns = scores.shape
    before = pruned_count(rows * start, target.sparsity)
    count = pruned_count(rows * (start + columns), target.sparsity) - before
    return keep_most(scores, count)
