"""The Hessian of a layer's reconstruction error, H = 2/n · Σ x xᵀ over the tokens of n calibration windows, and the
leaves that come from it, as in OBS (Hassibi and Stork, 1992) and SparseGPT (Frantar and Alistarh, 2023).

H is `[in, in]`, the same for every row of the weights. The inverse of an ill-conditioned H magnifies rounding by its
condition number, which damping bounds by 100 · in only: so products for the leaves are taken and factored in float64.
Where H serves the update of weights alone, products are float32, as in SparseGPT's release, and only the factoring is
float64: the damping is far above what float32 loses of a product.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from pzc.runtime.errors import Hopeless, NotPositiveDefinite
from pzc.runtime.statistics.activations import Table, changes_of, rows, wide

FACTOR, DEAD, DAMPING_USED = "H.factor", "H.dead", "H.damping"
MEMBERS = ("H.diag", "H.inv_diag", "H.chol_diag", FACTOR)
"""The leaves of the language, and H.factor, which `obs` reads: R `[in, in]`, upper, with H = R Rᵀ. Along with it come
H.dead `[1, in]`, 1 for inputs that are never active, and H.damping, the share that was added."""

DAMPING = (0.01, 0.1, 1.0)
"""Shares of the mean diagonal that are added to the diagonal, SparseGPT's first; the next where H is not positive
definite."""

_PANELS = 8
"""H is symmetric: its products are taken in so many panels of rows, each from its diagonal on."""

_NOTHING = (None, 0, None, None)
"""What was read last, how often it had been written to, and the sum before and after it, where there is none."""


class Hessians:
    """Σ x xᵀ of some layers' inputs. Layers that have read the same tensors so far, as q, k and v do, share one sum."""

    def __init__(self, leaves: Collection[str], windows: int) -> None:
        self._leaves = [name for name in MEMBERS if name in leaves]
        self._windows = windows
        self._totals: dict[str, Tensor] = {}
        self._last: tuple[Tensor | None, int, Tensor | None, Tensor | None] = _NOTHING
        self._finished: dict[str, Table] = {}

    def __bool__(self) -> bool:
        return bool(self._leaves)

    def add(self, layer: str, inputs: Tensor, outputs: Tensor) -> None:
        """Take in what one call of a layer read, `[..., in]`."""
        old = self._totals.get(layer)
        read, changes, before, after = self._last
        same = read is inputs and changes == changes_of(inputs)
        if same and before is old and after is not None:  # another layer with this sum has read it already
            self._totals[layer] = after
            return
        x = rows(inputs)
        if self._leaves != [FACTOR]:
            x = wide(x)
        if old is None:
            new = x.new_zeros((x.shape[1], x.shape[1]))
        elif sum(total is old for total in self._totals.values()) > 1:  # the others will follow, or not
            new = old.clone()
        else:
            new = old
        _add_products(new, x)
        self._totals[layer] = new
        self._last = (inputs, changes_of(inputs), old, new) if new is not old else _NOTHING

    def finish(self, layer: str) -> Table:
        """The leaves of a layer, each `[1, in]`; its sum is let go of.

        Raises Hopeless if the layer was never run, or its Hessian can't be factored.
        """
        self._last = _NOTHING
        if layer not in self._finished:
            if layer not in self._totals:
                raise Hopeless(f"no calibration token reached the layer {layer}", layer=layer)
            sharing = [name for name, total in self._totals.items() if total is self._totals[layer]]
            table = hessian_leaves(self._taken(sharing), self._leaves, layer)
            self._finished |= dict.fromkeys(sharing, table)
        return self._finished.pop(layer)

    def _taken(self, sharing: Collection[str]) -> Tensor:
        """H of layers that share a sum, in float64; the sum is let go of: either may be as large as all else
        together."""
        *_, total = (self._totals.pop(name) for name in sharing)
        return wide(total).mul_(2 / self._windows)


def _add_products(total: Tensor, x: Tensor) -> None:
    """Add xᵀx for `x` `[tokens, in]` to the upper triangle of `total` `[in, in]`; what is below it means nothing."""
    size = -(-len(total) // _PANELS)
    for start in range(0, len(total), size):
        total[start : start + size, start:].addmm_(x[:, start : start + size].T, x[:, start:])


def hessian_leaves(hessian: Tensor, leaves: Collection[str], layer: str) -> Table:
    """Leaves of a Hessian `[in, in]`, of which the upper triangle is read, and which is let go of: float32 `[1, in]`.

    A feature that is never active gets 1 on the diagonal, as in SparseGPT's release; then the diagonal is damped.
    Raises NotPositiveDefinite when H is not positive definite with any damping.
    """
    diagonal = hessian.diagonal()
    dead = diagonal == 0
    diagonal[dead] = 1
    mean = diagonal.mean().clone()
    # With both axes turned round, the lower factor L of H is that with H⁻¹ = UᵀU, U = L⁻¹ turned back: the upper factor
    # of the inverse without the inverse. And R = U⁻¹ is L turned back.
    hessian = hessian.flip(0, 1)
    diagonal = hessian.diagonal()
    factored = any(name != "H.diag" for name in leaves)
    added = 0.0
    for damping in DAMPING:
        diagonal += (damping - added) * mean
        added = damping
        lower, failed = torch.linalg.cholesky_ex(hessian) if factored else (hessian, 0)
        if not failed:
            break
    else:
        raise NotPositiveDefinite(
            f"the Hessian of {layer} is not positive definite, even when its mean diagonal is added to it",
            hint="activations that are not finite do that; calibrate on other text, or load the model as float32",
            layer=layer,
        )
    found = {"H.diag": diagonal.flip(0)}
    del hessian, diagonal
    if "H.inv_diag" in leaves:
        found["H.inv_diag"] = torch.cholesky_inverse(lower).diagonal().flip(0)
    if "H.chol_diag" in leaves:
        found["H.chol_diag"] = lower.diagonal().reciprocal().flip(0)
    table = {name: found[name].float().unsqueeze(0) for name in leaves if name != FACTOR}
    if FACTOR in leaves:
        table[FACTOR] = lower.float().flip(0, 1)
        table[DEAD] = dead.float().unsqueeze(0)
        table[DAMPING_USED] = torch.tensor(added)
    return table
