"""Scores against numpy in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pzc.compiler.core import Node, leaf, make, number
from pzc.compiler.load import inline
from pzc.compiler.reference import evaluate
from pzc.runtime.errors import NonFiniteScore, PruningError
from pzc.runtime.scoring.operations import apply
from pzc.runtime.scoring.scores import checked_scores, score
from tests.strategies import EXPRESSIONS, probe

W, X, G = leaf("W"), leaf("X.l2"), leaf("G.l2")
A = make("abs", W)
SHAPE = (4, 5)


def values() -> dict[str, np.ndarray]:
    """Leaves in float64, `X` as `[1, in]`, which float32 holds exactly."""
    found = {name: np.float32(value).astype(np.float64) for name, value in probe(1).items()}
    return {name: value[None] if value.ndim == 1 else value for name, value in found.items()}


def tensors() -> dict[str, Any]:
    return {name: torch.as_tensor(value, dtype=torch.float32) for name, value in values().items()}


def matches(core: Node, expected: np.ndarray) -> None:
    found = score(core, tensors(), SHAPE)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), np.broadcast_to(expected, SHAPE), rtol=1e-5, atol=1e-6)


UNARY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "neg": lambda w: -w,
    "abs": np.abs,
    "sqr": lambda w: w**2,
    "exp": np.exp,
    "tanh": np.tanh,
    "sigmoid": lambda w: 1 / (1 + np.exp(-w)),
    "sign": np.sign,
}

BINARY: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "add": lambda w, x: w + x,
    "sub": lambda w, x: w - x,
    "mul": lambda w, x: w * x,
    "div": lambda w, x: w / x,
    "min": np.minimum,
    "max": np.maximum,
}

REDUCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "sum": np.sum,
    "mean": np.mean,
    "std": lambda w, **at: np.std(w, ddof=1, **at),
    "var": lambda w, **at: np.var(w, ddof=1, **at),
    "amin": np.min,
    "amax": np.max,
}


@pytest.mark.parametrize("op", UNARY)
def test_functions_of_one_value(op: str) -> None:
    matches(make(op, W), UNARY[op](values()["W"]))


@pytest.mark.parametrize("op", BINARY)
def test_values_combine_by_axis(op: str) -> None:
    matches(make(op, W, X), BINARY[op](values()["W"], values()["X.l2"]))
    matches(make(op, X, W), BINARY[op](values()["X.l2"], values()["W"]))


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize(("axis", "dimension"), [("in", 1), ("out", 0), (None, (0, 1))])
def test_reductions_remove_their_axis(op: str, axis: str | None, dimension: Any) -> None:
    matches(make(op, W, value=axis), REDUCTIONS[op](values()["W"], axis=dimension, keepdims=True))


@pytest.mark.parametrize("name", ["rank", "tail"])
@pytest.mark.parametrize(("axis", "shape"), [("", (2, 40_000)), (", in", (2, 70_000)), (", out", (70_000, 2))])
def test_values_among_many_others(name: str, axis: str, shape: tuple[int, int]) -> None:
    """Long lines are searched in another way than short ones; whole numbers have exact sums."""
    w = np.random.default_rng(3).integers(-40, 60, shape).astype(np.float32)
    metric = inline(f"{name}(W{axis})", analyse=False)
    np.testing.assert_array_equal(metric.score(W=torch.from_numpy(w)).numpy(), metric.reference_score(W=w))
    w[1, 1] = np.nan
    core = metric.core
    found, want = score(core, {"W": torch.from_numpy(w)}, shape).numpy(), evaluate(core, {"W": w})
    np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize(("axis", "dimension"), [("in", 1), ("out", 0), (None, (0, 1))])
def test_norms(p: float, axis: str | None, dimension: Any) -> None:
    expected = (np.abs(values()["W"]) ** p).sum(axis=dimension, keepdims=True) ** (1 / p)
    matches(make("norm", W, number(p), value=axis), expected)


def test_roots_logarithms_powers_and_limits() -> None:
    w, x, g = (values()[name] for name in ("W", "X.l2", "G.l2"))
    matches(make("sqrt", X), np.sqrt(x))
    matches(make("ln", G), np.log(g))
    matches(make("pow", W, number(3)), w**3)
    matches(make("pow", G, number(-0.5)), g**-0.5)
    matches(make("pow", G, W), g**w)
    matches(make("pow", number(2), W), 2**w)
    matches(make("clamp", W, number(-0.5), X), np.minimum(np.maximum(w, -0.5), x))
    matches(make("div", leaf("in_features"), W), 5 / w)


def test_published_metrics() -> None:
    w, x, g = (values()[name] for name in ("W", "X.l2", "G.l2"))
    matches(make("mul", A, X), np.abs(w) * x)
    low, high = make("amin", G), make("amax", G)
    scaled = make("div", make("sub", G, low), make("sub", high, low))
    matches(make("mul", make("sqr", W), scaled), w**2 * (g - g.min()) / (g.max() - g.min()))
    shares = make("add", *(make("div", A, make("sum", A, value=axis)) for axis in ("out", "in")))
    expected = np.abs(w) / np.abs(w).sum(0) + np.abs(w) / np.abs(w).sum(1, keepdims=True)
    matches(make("mul", shares, make("pow", X, number(0.5))), expected * np.sqrt(x))


@given(EXPRESSIONS, st.integers(0, 100))
@settings(deadline=None)
def test_reused_buffers_change_nothing(core: Node, seed: int) -> None:
    leaves = {name: torch.as_tensor(value) for name, value in probe(seed, zeros=True).items()}
    before = {name: value.clone() for name, value in leaves.items()}

    def plain(node: Node) -> torch.Tensor:
        if node.op in ("leaf", "number"):
            value = leaves[str(node.value)] if node.op == "leaf" else torch.tensor(node.value)
            return value.float().reshape((1, -1) if value.ndim < 2 else SHAPE)
        return apply(node, [plain(arg) for arg in node.args])

    expected = plain(core).expand(SHAPE)
    assert torch.equal(score(core, leaves, SHAPE).nan_to_num(7.0), expected.nan_to_num(7.0))
    assert all(torch.equal(leaves[name], before[name]) for name in leaves)


def test_scores_are_float32_for_half_weights() -> None:
    half = {"W": tensors()["W"].half(), "X.l2": tensors()["X.l2"] * 1e-6}
    expected = half["W"].float() * half["X.l2"]
    assert torch.equal(score(make("mul", W, X), half, SHAPE), expected)


def test_a_score_of_one_axis_is_broadcast() -> None:
    assert score(X, tensors(), SHAPE).shape == SHAPE
    assert score(X, {"X.l2": tensors()["X.l2"][0]}, SHAPE).shape == SHAPE


def test_leaves_that_are_missing_or_misshapen_are_named() -> None:
    with pytest.raises(PruningError, match=r"`X\.l2`, which is not given"):
        score(make("mul", W, X), {"W": tensors()["W"]}, SHAPE)
    with pytest.raises(PruningError, match=r"`X\.l2` has shape \[1, 4\], but this layer needs \[5\]"):
        score(make("mul", W, X), {"W": tensors()["W"], "X.l2": torch.ones(1, 4)}, SHAPE)


@pytest.mark.parametrize(
    ("core", "share", "text"),
    [
        (make("mul", W, make("ln", make("sub", G, make("amin", G)))), 1 / 20, "ln(G - min(G))"),
        (make("tanh", make("div", W, make("sub", X, X))), 0.0, ""),
        (make("add", W, make("sqrt", number(-1))), 1.0, "sqrt(-1)"),
        (make("sign", make("sqrt", make("neg", A))), 1.0, "sqrt(-abs(W))"),
        (make("exp", make("mul", number(1e5), A)), 1.0, "exp(100000 * abs(W))"),
    ],
)
def test_the_first_expression_that_is_not_finite_is_named(core: Node, share: float, text: str) -> None:
    leaves = tensors()
    if not text:
        assert torch.equal(checked_scores(core, leaves, SHAPE, "a layer"), score(core, leaves, SHAPE))
        return
    with pytest.raises(NonFiniteScore) as caught:
        checked_scores(core, leaves, SHAPE, "a layer")
    assert caught.value.data["expression"] == text
    assert caught.value.data["share"] == pytest.approx(share)
    assert "a layer" in caught.value.message


def test_a_sum_that_overflows_is_no_error() -> None:
    large = torch.full(SHAPE, 3e38)
    assert torch.equal(checked_scores(W, {"W": large}, SHAPE, "a layer"), large)


@pytest.mark.parametrize(
    ("formula", "scores"),
    [
        ("median(1 / X) * abs(W)", [1, 2, 1]),
        ("exp(-quantile(1 / X, 1)) + abs(W)", [1, 2, 1]),
        ("exp(-quantile(1 / X, 0.9)) + abs(W)", [1, 2, 1]),
        ("quantile(1 / X, 0.5) * abs(W)", [1, 2, 1]),
    ],
)
def test_quantiles_beside_an_infinity(formula: str, scores: list[float]) -> None:
    leaves = {"W": torch.tensor([[1.0, -2.0, 1.0]]), "X.l2": torch.tensor([0.0, 1.0, 2.0])}
    assert score(inline(formula).core, leaves, (1, 3)).tolist() == [scores]
