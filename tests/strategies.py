"""Random expressions for property tests: core nodes that the checker would accept."""

from __future__ import annotations

from functools import reduce

import numpy as np
from hypothesis import strategies as st

from pzc.compiler.core import Node, leaf, make, number

LEAVES = st.sampled_from(["W", "X.l2", "X.mean", "G.l2", "G.mean", "in_features"]).map(leaf)
NUMBERS = st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 3.0, -1.0, -0.5]).map(number)
UNARY = st.sampled_from(["neg", "abs", "sqr", "sqrt", "exp", "ln", "tanh", "sigmoid", "sign"])
BINARY = st.sampled_from(["add", "sub", "mul", "mul", "div", "min", "max"])
REDUCTIONS = st.sampled_from(["sum", "mean", "std", "var", "amin", "amax", "median", "rank", "tail"])
EXPONENTS = st.sampled_from([-2.0, -1.0, -0.5, 0.3, 0.5, 0.7, 1.0, 1.1, 2.0, 3.0])


def _larger(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    return st.one_of(
        st.builds(make, UNARY, children),
        st.builds(make, BINARY, children, children),
        st.builds(lambda x, e: make("pow", x, number(e)), children, EXPONENTS),
        st.builds(
            lambda x, a, b: make("clamp", x, number(min(a, b)), number(max(a, b))), children, EXPONENTS, EXPONENTS
        ),
        st.builds(_reduction, REDUCTIONS, children, st.integers(0, 2)),
        st.builds(
            lambda x, p: make("norm", x, number(p), value=None) if x.axes else x, children, st.sampled_from([1, 2, 3])
        ),
        st.builds(
            lambda x, q: make("quantile", x, number(q), value=None) if x.axes else x,
            children,
            st.sampled_from([0.0, 0.25, 0.5, 0.9]),
        ),
    )


def _reduction(op: str, x: Node, choice: int) -> Node:
    """A reduction over one of the argument's axes, or over all of them; the argument itself where it has none."""
    if not x.axes:
        return x
    axes: list[str | None] = [None] if len(x.axes) == 1 else [None, *sorted(x.axes)]
    return make(op, x, value=axes[choice % len(axes)])


EXPRESSIONS = st.recursive(st.one_of(LEAVES, LEAVES, NUMBERS), _larger, max_leaves=8)


def _product(factors: list[tuple[Node, float]]) -> Node:
    powers = [x if e == 1 else make("pow", x, number(e)) for x, e in factors]
    return reduce(lambda a, b: make("mul", a, b), powers)


_BASES = ["W", "W", "abs", "sign", "neg", "X.mean", "X.l2"]
_POWERS = st.tuples(
    st.sampled_from([make(b, leaf("W")) if b in ("abs", "sign", "neg") else leaf(b) for b in _BASES]), EXPONENTS
)
_PRODUCTS = st.lists(_POWERS, min_size=1, max_size=4).map(_product)
_SUMS = st.lists(_PRODUCTS, min_size=1, max_size=3).map(lambda terms: reduce(lambda a, b: make("sub", a, b), terms))
POWERS = st.tuples(_SUMS, _PRODUCTS).map(lambda both: make("mul", *both))
"""Sums of products of whole and broken powers of a few values, some of any sign, times such a product."""

GROUPS = st.sampled_from(["row", "col", "layer", "block", "model"])


def probe(seed: int, zeros: bool = False, shape: tuple[int, int] | None = (4, 5)) -> dict[str, np.ndarray]:
    """Values for every leaf of `EXPRESSIONS`, of moderate size; with zeros where a leaf can be zero. A shape of None
    varies."""
    rng = np.random.default_rng(seed)
    out, inn = shape or (int(n) for n in rng.integers(2, 7, size=2))
    values = {
        "W": rng.normal(size=(out, inn)),
        "X.l2": rng.uniform(0.2, 2.0, inn),
        "X.mean": rng.normal(size=inn),
        "G.l2": rng.uniform(0.1, 1.5, (out, inn)),
        "G.mean": rng.normal(size=(out, inn)),
        "in_features": np.float64(inn),
        "out_features": np.float64(out),
    }
    if zeros:
        for name in ("W", "X.l2", "X.mean", "G.l2", "G.mean"):
            values[name] = values[name] * (rng.uniform(size=values[name].shape) > 0.3)
    return values
