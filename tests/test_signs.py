"""The sign analysis is sound: no value takes a sign that it excludes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pzc.compiler.analysis.signs import Sign, add, magnitude, multiply, negate
from pzc.compiler.core import Node, leaf, make, number, topological
from pzc.compiler.load import inline
from pzc.compiler.reference import evaluate
from pzc.compiler.rewriting.canonical import canonical
from pzc.compiler.source import expression
from tests.strategies import EXPRESSIONS, probe

SIGNS = [Sign(s) for s in range(1, 8)]


def values_of(s: Sign) -> list[float]:
    return [v for v in (-3.0, -0.5, 0.0, 0.5, 3.0) if sign_of(v) & s]


def sign_of(v: float) -> Sign:
    return Sign.NEGATIVE if v < 0 else Sign.POSITIVE if v > 0 else Sign.ZERO


def assert_sound(root: Node, leaves: dict[str, np.ndarray]) -> None:
    steps = {node: evaluate(node, leaves) for node in topological(root)}
    sizes = np.abs(np.concatenate([v.ravel() for v in steps.values()]))
    sizes = sizes[np.isfinite(sizes)]
    # not so large or small that rounding takes a sign away: e ^ -1000 is 0 in float64
    assume(not ((sizes > 50).any() or ((sizes > 0) & (sizes < 1e-12)).any()))
    for node, value in steps.items():
        if not all(np.isfinite(evaluate(n, leaves)).all() for n in topological(node)):
            continue  # not defined here
        for v in value.ravel():
            assert sign_of(float(v)) & node.sign, f"{expression(node)} = {v}, but {node.sign!r}"


@settings(deadline=None, max_examples=600)
@given(EXPRESSIONS, st.integers(0, 2**32 - 1), st.booleans())
def test_no_value_takes_a_sign_that_is_excluded(node: Node, seed: int, zeros: bool) -> None:
    assert_sound(node, probe(seed, zeros=zeros))


@settings(deadline=None, max_examples=300)
@given(EXPRESSIONS, st.integers(0, 2**32 - 1), st.booleans())
def test_nor_in_canonical_forms(node: Node, seed: int, zeros: bool) -> None:
    leaves = probe(seed, zeros=zeros)
    original = [evaluate(n, leaves) for n in topological(node)]
    if all(np.isfinite(v).all() for v in original):
        form = canonical(node)
        value = evaluate_canonical(form, leaves)
        tiny = np.abs(np.concatenate([v.ravel() for v in original]))
        if ((tiny > 1e6) | ((tiny > 0) & (tiny < 1e-6))).any() or not np.isfinite(value).all():
            return
        for v in value.ravel():
            assert abs(v) < 1e-9 or sign_of(float(v)) & form.sign, f"{expression(node)}: {form!r}"


def evaluate_canonical(form: Node, leaves: dict[str, np.ndarray]) -> np.ndarray:
    from pzc.compiler.rewriting.plain import plain

    return evaluate(plain(form), leaves)


@pytest.mark.parametrize("a", SIGNS)
@pytest.mark.parametrize("b", SIGNS)
def test_the_tables_are_exact(a: Sign, b: Sign) -> None:
    """Every sign that a result can take, and no other."""
    pairs = [(x, y) for x in values_of(a) for y in values_of(b)]
    assert add(a, b) == union(x + y for x, y in [*pairs, *((2 * x, y / 7) for x, y in pairs)])
    assert multiply(a, b) == union(x * y for x, y in pairs)
    assert negate(a) == union(-x for x in values_of(a))
    assert magnitude(a) == union(abs(x) for x in values_of(a))


def union(values: object) -> Sign:
    out = Sign.NONE
    for v in values:  # type: ignore[attr-defined]
        out |= sign_of(v)
    return out


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("W", Sign.ANY),
        ("X", Sign.NON_NEGATIVE),
        ("X.mean", Sign.ANY),
        ("in_features", Sign.POSITIVE),
        ("abs(W) + 1", Sign.POSITIVE),
        ("-exp(W)", Sign.NEGATIVE),
        ("sqr(W) * X", Sign.NON_NEGATIVE),
        ("W * W", Sign.NON_NEGATIVE),
        ("W - min(W)", Sign.NON_NEGATIVE),
        ("max(W, in) - W", Sign.NON_NEGATIVE),
        ("W - max(W, in)", Sign.NEGATIVE | Sign.ZERO),
        ("max(W) - min(W)", Sign.NON_NEGATIVE),
        ("W - X", Sign.ANY),
        ("max(W, 1)", Sign.POSITIVE),
        ("min(W, 0)", Sign.NEGATIVE | Sign.ZERO),
        ("clamp(W, 0, 1)", Sign.NON_NEGATIVE),
        ("W ^ 2", Sign.NON_NEGATIVE),
        ("W ^ 3", Sign.ANY),
        ("X ^ -1", Sign.POSITIVE),
        ("1 / X", Sign.POSITIVE),
        ("sigmoid(W)", Sign.POSITIVE),
        ("ln(X)", Sign.ANY),
        ("std(W, in) + 0 * W", Sign.NON_NEGATIVE),
    ],
)
def test_signs(text: str, sign: Sign) -> None:
    assert inline(f"{text} + 0 * noise per model").core.args[0].sign == sign


def test_a_value_that_is_defined_nowhere_has_no_sign() -> None:
    assert make("sqrt", number(-1)).sign == Sign.NONE
    assert make("div", leaf("out_features"), number(0)).sign == Sign.NONE
