"""The interval analysis is sound: no value that is defined lies outside its interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pzc.compiler.analysis.intervals import EMPTY, interval
from pzc.compiler.core import Node, leaf, make, number, topological
from pzc.compiler.leaves import ALIASES, LEAVES
from pzc.compiler.load import inline
from pzc.compiler.reference import evaluate
from pzc.compiler.source import expression
from tests.strategies import EXPRESSIONS

SEEDS = st.integers(0, 2**32 - 1)


def _over(op: str, x: Node, *rest: Node) -> Node:
    return make(op, x, *rest) if x.axes else x


def _share(x: Node, op: str, eps: float) -> Node:
    """A value over its own reduction: what the analysis knows to be bounded."""
    if not x.axes:
        return x
    if op == "range":
        return make("div", make("sub", x, make("amin", x)), make("sub", make("amax", x), make("amin", x)))
    if op == "z":
        return make("div", make("sub", x, make("mean", x)), make("add", make("std", x), number(eps)))
    divisor = make("norm", x, number(2)) if op == "norm" else make(op, make("abs", x))
    return make("div", x, make("add", divisor, number(eps)))


WIDER = st.one_of(
    EXPRESSIONS,
    st.builds(make, st.sampled_from(["add", "sub", "mul", "div", "pow", "min", "max"]), EXPRESSIONS, EXPRESSIONS),
    st.builds(_over, st.sampled_from(["median", "rank", "tail", "amax", "var"]), EXPRESSIONS),
    st.builds(lambda x, q: _over("quantile", x, number(q)), EXPRESSIONS, st.sampled_from([0.0, 0.3, 1.0])),
    st.builds(
        _share,
        EXPRESSIONS,
        st.sampled_from(["sum", "mean", "amax", "norm", "range", "z"]),
        st.sampled_from([0.0, 1e-8]),
    ),
    st.sampled_from(sorted(LEAVES)).map(leaf),
)
"""Every operation of the core, over every leaf."""

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 5))


def values(seed: int, shape: tuple[int, int], usual: bool) -> dict[str, np.ndarray]:
    """Values of every leaf inside its range: its ends, zero, and numbers of all sizes between them."""
    rng = np.random.default_rng(seed)
    sizes = {"out": shape[0], "in": shape[1]}
    found = {}
    for name, entry in LEAVES.items():
        low, high = entry.usual[:2] if usual else (-1e30 if entry.signed else 0.0, 1e30)
        at = tuple(sizes[a] for a in entry.axes)
        drawn = 10.0 ** rng.uniform(-12, math.log10(high), at) * rng.choice([-1.0, 1.0], at)
        drawn = np.where(rng.uniform(size=at) < 0.3, rng.choice([low, high, 0.0], at), drawn)
        drawn = np.where(rng.uniform(size=at) < 0.3, rng.normal(size=at), drawn)
        floor = max(low, 1e-30) if entry.positive else low
        found[name] = np.clip(drawn, floor, high)
    return found


def outside(node: Node, leaves: dict[str, np.ndarray], usual: bool) -> str | None:
    """The first part whose value is outside its interval, where all that it is made of is finite."""
    finite: dict[Node, bool] = {}
    for part in topological(node):
        value = evaluate(part, leaves)
        finite[part] = bool(np.isfinite(value).all()) and all(finite[a] for a in part.args)
        if not finite[part]:
            continue
        low, high = interval(part, usual)
        if not ((low <= value) & (value <= high)).all():
            return f"{expression(part)} is {value.min()!r} .. {value.max()!r}, outside [{low!r}, {high!r}]"
    return None


@settings(deadline=None, max_examples=1000)
@given(WIDER, SEEDS, SHAPES, st.booleans())
def test_no_value_is_outside_its_interval(node: Node, seed: int, shape: tuple[int, int], usual: bool) -> None:
    assert outside(node, values(seed, shape, usual), usual) is None


@settings(deadline=None, max_examples=100)
@given(
    st.builds(_share, EXPRESSIONS, st.sampled_from(["sum", "mean", "amax", "norm", "range", "z"]), st.just(0.0)), SEEDS
)
def test_nor_over_many_positions(node: Node, seed: int) -> None:
    assert outside(node, values(seed, (40, 70), True), True) is None


W, X, N = 1e2, 1e7, 2.0**17


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("W", -W, W),
        ("abs(W)", 0, W),
        ("W * W", 0, W * W),
        ("W * X", -W * X, W * X),
        ("W - W", 0, 0),
        ("W - min(W)", 0, 2 * W),
        ("X - max(X, in)", -X, 0),
        ("exp(X - max(X, in))", 0, 1),
        ("1 - tanh(abs(W))", 0, 1),
        ("1 - sigmoid(W)", 0, 1),
        ("abs(W) + 1", 1, W + 1),
        ("2 - noise", 1, 2),
        ("1 / (1 + X)", 1 / (1 + X), 1),
        ("1 / X", 1 / X, math.inf),
        ("1 / W", -math.inf, math.inf),
        ("W ^ 3", -(W**3), W**3),
        ("W ^ -2", W**-2, math.inf),
        ("X ^ 0.5", 0, X**0.5),
        ("noise ^ noise", 0, 1),
        ("tanh(W)", -1, 1),
        ("sigmoid(X)", 0.5, 1),
        ("sign(X)", 0, 1),
        ("exp(noise)", 1, math.e),
        ("exp(min(X, 80))", 1, math.exp(80)),
        ("ln(1 + noise)", 0, math.log(2)),
        ("ln(X)", math.log(5e-324), math.log(X)),
        ("clamp(W, -1, X)", -1, W),
        ("sum(abs(W), in)", 0, N * W),
        ("sum(W)", -N * N * W, N * N * W),
        ("mean(W, in)", -W, W),
        ("std(W, in)", 0, 2 * W / math.sqrt(2)),
        ("var(noise)", 0, 0.5),
        ("norm(W, 2, in)", 0, math.sqrt(N) * W),
        ("norm(max(abs(W), 0.001), 150, in)", 0, W * N ** (1 / 150)),  # 0.001 ^ 150 is 0
        ("median(abs(W))", 0, W),
        ("quantile(abs(W), 0.5, in)", 0, W),
        ("rank(W, in)", 0, N - 1),
        ("sqr(W) / tail(sqr(W))", 0, 1),
        ("abs(W) / sum(abs(W), in)", 0, 1),
        ("W / max(abs(W))", -1, 1),
        ("X / (sum(X) + 1e-8)", 0, 1),
        ("W / (abs(W) + 1e-30)", -1, 1),
        ("W / norm(W, 2, out)", -1, 1),
        ("X / (X + W)", -math.inf, math.inf),
        ("X / (X + sum(W))", -math.inf, math.inf),
        ("X / mean(X)", 0, N),
        ("(G - min(G)) / (max(G) - min(G))", 0, 1),
        ("(W - mean(W, in)) / std(W, in)", -math.sqrt(N), math.sqrt(N)),
        ("(W - mean(W, in)) / std(W, out)", -math.inf, math.inf),
    ],
)
def test_intervals(text: str, low: float, high: float) -> None:
    found = interval(inline(f"noise ^ 2 + ({text}) per model").core.args[1])
    assert tuple(found) == pytest.approx((low, high), rel=1e-7, abs=1e-8)


def test_where_nothing_is_defined_the_interval_is_empty() -> None:
    for node in (make("sqrt", number(-1)), make("ln", number(0)), make("div", leaf("W"), number(0))):
        assert interval(node, usual=False) == EMPTY
        assert interval(make("add", node, leaf("W")), usual=False).empty


def test_what_rounds_to_zero_is_not_taken_for_zero() -> None:
    tiny = make("pow", number(1e-30), number(20))
    assert not interval(make("div", number(1), tiny), usual=False).empty


def test_the_usual_values_agree_with_the_signs() -> None:
    for entry in LEAVES.values():
        low, high, typical = entry.usual
        assert low < 0 if entry.signed else low >= 0, entry.name
        assert low > 0 or not entry.positive, entry.name
        assert low < typical <= high < math.inf, entry.name
    assert set(ALIASES.values()) <= set(LEAVES)
