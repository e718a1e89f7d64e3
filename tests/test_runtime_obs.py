"""The update of weights against the textbook: H⁻¹ = UᵀU in float64, one column after another, one layer at a time."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pzc.runtime.errors import PruningError
from pzc.runtime.models.layers import Layer
from pzc.runtime.models.loading import resolve_device
from pzc.runtime.pruning.obs import Factor, adaptive, prune_layers, update_layers, updated
from pzc.runtime.scoring.masks import Target, pruned_count
from pzc.runtime.statistics.hessian import FACTOR, hessian_leaves
from pzc.runtime.statistics.unreached import neutral

LAYER = Layer("layer", nn.Linear(6, 4), 0)
Masks = Callable[[int, np.ndarray, np.ndarray], None]


def hessian(x: np.ndarray, windows: int) -> np.ndarray:
    """H = 2/n · XᵀX of inputs `[tokens, in]`, 1 for dead features, damped by 0.01 of the mean."""
    h = 2 / windows * x.T @ x
    h[np.diag_indices_from(h)] += h.diagonal() == 0
    return h + 0.01 * h.diagonal().mean() * np.eye(len(h))


def textbook(w: np.ndarray, h: np.ndarray, keep: np.ndarray, choose: Masks | None = None) -> np.ndarray:
    """The sweep: every column hands its error on to all columns after it. `choose(j, w, d)` may fill in `keep` before
    column j is pruned, from the weights as they are by then and the diagonal of U."""
    w = w.copy()
    u = np.linalg.cholesky(np.linalg.inv(h)).T
    for j in range(w.shape[1]):
        if choose:
            choose(j, w, u.diagonal())
        error = w[:, j] * ~keep[:, j] / u[j, j]
        w[:, j] *= keep[:, j]
        w[:, j + 1 :] -= np.outer(error, u[j, j + 1 :])
    return w


def lowest(scores: np.ndarray, count: int) -> np.ndarray:
    keep = np.ones(scores.size, bool)
    keep[np.argsort(scores, axis=None, kind="stable")[:count]] = False
    return keep.reshape(scores.shape)


def sparsegpt(w: np.ndarray, h: np.ndarray, target: Target, block: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """The published method with its own mask."""
    keep = np.ones(w.shape, bool)

    def by_block(j: int, w: np.ndarray, d: np.ndarray) -> None:
        if j % block == 0:
            at = slice(j, j + block)
            scores = (w[:, at] / d[at]) ** 2
            before, done = (pruned_count(len(w) * c, target.sparsity) for c in (j, j + scores.shape[1]))
            keep[:, at] = lowest(scores, done - before)

    def by_run(j: int, w: np.ndarray, d: np.ndarray) -> None:
        n, m = target.pattern or (0, 0)
        if j % m == 0:
            at = slice(j, j + m)
            keep[:, at] = np.stack([lowest(row, m - n) for row in (w[:, at] / d[at]) ** 2])

    return textbook(w, h, keep, by_run if target.pattern else by_block), keep


def inputs(features: int, seed: int = 0, tokens: int = 400) -> np.ndarray:
    """Correlated inputs `[tokens, in]` of very different size, as language models have them."""
    generator = np.random.default_rng(seed)
    mixed = generator.normal(size=(tokens, features)) @ generator.normal(size=(features, features)) / features**0.5
    return (mixed * np.exp(generator.normal(size=features))).astype(np.float32)


def factor_of(x: np.ndarray, windows: int = 4) -> Factor:
    h = torch.from_numpy(2 / windows * x.astype(np.float64).T @ x.astype(np.float64))
    return Factor.of(hessian_leaves(h, ["H.factor"], "layer"))


def close(found: torch.Tensor, expected: np.ndarray) -> None:
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("features", [5, 128, 129, 300])
def test_a_given_mask_is_swept_as_in_the_textbook(features: int) -> None:
    x = inputs(features)
    generator = np.random.default_rng(1)
    weights = [generator.normal(size=(rows, features)).astype(np.float32) for rows in (7, 3)]
    keeps = [generator.random(w.shape) < 0.5 for w in weights]
    found = updated([torch.from_numpy(w) for w in weights], [torch.from_numpy(k) for k in keeps], factor_of(x))
    for new, w, keep in zip(found, weights, keeps, strict=True):
        close(new, textbook(w.astype(np.float64), hessian(x.astype(np.float64), 4), keep))
        assert not new.numpy()[~keep].any()


@pytest.mark.parametrize("target", [Target(sparsity=0.5), Target(sparsity=0.37), *(Target(pattern=p) for p in
    ((2, 4), (1, 3), (4, 8), (20, 48), (100, 150)))], ids=str)  # fmt: skip
def test_the_adaptive_mask_is_that_of_the_published_method(target: Target) -> None:
    x = inputs(300 if not target.pattern else 300 // target.pattern[1] * target.pattern[1])
    weights = [np.random.default_rng(s).normal(size=(64, x.shape[1])).astype(np.float32) for s in (1, 2)]
    found = adaptive([torch.from_numpy(w) for w in weights], [target, target], factor_of(x))
    for (new, keep), w in zip(found, weights, strict=True):
        expected, kept = sparsegpt(w.astype(np.float64), hessian(x.astype(np.float64), 4), target)
        assert (keep.numpy() == kept).mean() >= 0.999
        same = (keep.numpy() == kept).all(1)  # one other choice changes what follows in its row
        close(new[torch.from_numpy(same)], expected[same])
        assert torch.equal(new != 0, keep)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 99), st.integers(0, 5))
def test_of_every_layer_exactly_the_share_is_pruned(features: int, rows: int, percent: int, seed: int) -> None:
    weight = torch.randn(rows, features * 10, generator=torch.Generator().manual_seed(seed))
    target = Target(sparsity=Fraction(percent, 100))
    ((_, keep),) = adaptive([weight], [target], factor_of(inputs(features * 10, seed, tokens=50)))
    assert int((~keep).sum()) == weight.numel() * percent // 100


def test_layers_of_one_hessian_may_have_targets_of_their_own() -> None:
    x = inputs(64)
    weights = [torch.from_numpy(np.random.default_rng(s).normal(size=(8, 64)).astype(np.float32)) for s in (1, 2)]
    targets = [Target(pattern=(1, 8)), Target(pattern=(6, 8))]
    together = adaptive(weights, targets, factor_of(x))
    for (new, keep), weight, target in zip(together, weights, targets, strict=True):
        ((alone, kept),) = adaptive([weight], [target], factor_of(x))
        assert torch.equal(keep, kept)
        torch.testing.assert_close(new, alone)


def test_the_update_makes_up_for_what_was_pruned() -> None:
    """The squared error of what the layer puts out is what H measures: it must shrink, whatever the mask."""
    x = inputs(200)
    weight = np.random.default_rng(3).normal(size=(32, 200)).astype(np.float32)
    keep = np.random.default_rng(4).random(weight.shape) < 0.5
    (new,) = updated([torch.from_numpy(weight)], [torch.from_numpy(keep)], factor_of(x))
    before, after = (np.square(x @ (weight - other).T).sum() for other in (weight * keep, new.numpy()))
    assert after < 0.7 * before


def test_a_dense_mask_changes_nothing() -> None:
    weight = torch.randn(6, 200, generator=torch.Generator().manual_seed(0))
    (new,) = updated([weight], [torch.ones(6, 200, dtype=torch.bool)], factor_of(inputs(200)))
    assert torch.equal(new, weight)


def test_weights_of_inputs_that_are_never_active_go_first() -> None:
    x = inputs(40)
    x[:, [3, 17]] = 0
    weight = torch.randn(12, 40, generator=torch.Generator().manual_seed(0)) * 1000
    ((_, keep),) = adaptive([weight], [Target(sparsity=0.1)], factor_of(x))
    assert not keep[:, [3, 17]].any()


def test_layers_that_no_token_reached_lose_their_smallest_weights() -> None:
    before = LAYER.weight.clone()
    tables = {"layer": neutral(LAYER, [FACTOR])}
    new, masks = prune_layers([LAYER], tables, {"layer": Target()})
    expected = lowest(np.abs(before.numpy()), 12)
    assert np.array_equal(masks["layer"].numpy(), expected)
    assert torch.equal(new["layer"], before * masks["layer"])
    assert torch.equal(update_layers([LAYER], tables, masks)["layer"], new["layer"])


def test_the_factor_is_that_of_the_damped_hessian() -> None:
    x = inputs(50).astype(np.float64)
    x[:, 7] = 0
    factor = factor_of(x)
    upper = factor.upper.double().numpy()
    np.testing.assert_allclose(upper @ upper.T, hessian(x, 4), rtol=1e-5, atol=1e-4)
    assert np.array_equal(upper, np.triu(upper))
    assert factor.dead.nonzero().flatten().tolist() == [7]
    assert factor.damping == pytest.approx(0.01)


def test_only_the_upper_triangle_of_a_hessian_is_read() -> None:
    h = torch.from_numpy(hessian(inputs(30).astype(np.float64), 4))
    whole, half = (hessian_leaves(x.clone(), ["H.factor", "H.inv_diag", "H.diag"], "a") for x in (h, h.triu()))
    assert all(torch.equal(whole[name], half[name]) for name in whole)


def test_what_is_not_positive_definite_is_damped_more_and_told() -> None:
    h = torch.tensor([[1.0, 1.05], [1.05, 1.0]], dtype=torch.float64)
    assert Factor.of(hessian_leaves(h, ["H.factor"], "layer")).damping == pytest.approx(0.1)
    with pytest.raises(PruningError, match="the Hessian of layer is not positive definite"):
        hessian_leaves(torch.tensor([[1.0, 5.0], [5.0, 1.0]], dtype=torch.float64), ["H.factor"], "layer")


@pytest.mark.gpu
def test_a_gpu_sweeps_as_the_cpu_does() -> None:
    x = inputs(300)
    factor = factor_of(x)
    device = resolve_device("auto")
    there = Factor(factor.upper.to(device), factor.dead.to(device), factor.damping)
    weight = torch.randn(64, 300, generator=torch.Generator().manual_seed(0))
    for target in (Target(sparsity=0.5), Target(pattern=(2, 4))):
        ((here, keep),) = adaptive([weight], [target], factor)
        ((_, kept),) = adaptive([weight.to(device)], [target], there)
        assert (keep == kept.cpu()).float().mean() >= 0.999
        (again,) = updated([weight.to(device)], [keep.to(device)], there)
        torch.testing.assert_close(again.cpu(), here, rtol=1e-3, atol=1e-3)
