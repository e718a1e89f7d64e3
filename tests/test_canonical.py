"""Canonical forms keep the value, and rank forms keep the order: against the reference evaluator."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pzc.compiler.analysis.signs import Sign
from pzc.compiler.core import Node, forgetting, leaf, make, number, topological
from pzc.compiler.load import inline
from pzc.compiler.reference import evaluate
from pzc.compiler.rewriting.canonical import canonical
from pzc.compiler.rewriting.plain import plain
from pzc.compiler.rewriting.rank import rank_form
from pzc.compiler.sameness.keys import keys
from pzc.compiler.source import expression
from pzc.compiler.structure import text
from pzc.search.space import random_genotype, space_for
from tests.strategies import EXPRESSIONS, GROUPS, POWERS, probe

SEEDS = st.integers(0, 2**32 - 1)


def values_of(node: Node, leaves: dict[str, np.ndarray]) -> np.ndarray:
    return np.broadcast_to(evaluate(node, leaves), leaves["W"].shape)


def undefined(node: Node, leaves: dict[str, np.ndarray]) -> bool:
    """Whether some step is not finite, or so large that rounding or overflow hides what it means."""
    steps = [evaluate(n, leaves) for n in topological(node)]
    return not all(np.isfinite(s).all() and (np.abs(s) < 1e9).all() for s in steps)


@settings(max_examples=600, deadline=None)
@given(EXPRESSIONS, SEEDS, st.booleans())
def test_the_canonical_form_is_the_same_function(node: Node, seed: int, zeros: bool) -> None:
    same_function(node, probe(seed, zeros=zeros, shape=None))


@settings(max_examples=400, deadline=None)
@given(POWERS, SEEDS)
def test_powers_are_joined_where_a_root_is_defined(node: Node, seed: int) -> None:
    same_function(node, {name: np.abs(value) for name, value in probe(seed, shape=None).items()})


def same_function(node: Node, leaves: dict[str, np.ndarray]) -> None:
    form = plain(canonical(node))
    assume(not undefined(node, leaves))
    want, got = values_of(node, leaves), values_of(form, leaves)
    assert np.isfinite(got).all(), expression(form)
    scale = max(np.abs(evaluate(n, leaves)).max() for n in topological(node))
    assert np.abs(want - got).max() <= 1e-6 * max(scale, 1.0), f"{expression(node)}  →  {expression(form)}"


@settings(max_examples=800, deadline=None)
@given(EXPRESSIONS, GROUPS, SEEDS)
def test_the_rank_form_orders_alike_inside_every_group(node: Node, per: str, seed: int) -> None:
    same_order(node, per, probe(seed, shape=None))


@settings(max_examples=400, deadline=None)
@given(POWERS, GROUPS, SEEDS)
def test_so_do_rank_forms_of_powers_of_any_sign(node: Node, per: str, seed: int) -> None:
    same_order(node, per, {name: np.abs(value) for name, value in probe(seed, shape=None).items()})


def same_order(node: Node, per: str, leaves: dict[str, np.ndarray]) -> None:
    form = plain(rank_form(canonical(node), per))
    assume(not (undefined(node, leaves) or undefined(form, leaves)))
    want, got = values_of(node, leaves), values_of(form, leaves)
    if per in ("layer", "model"):
        want, got = want.reshape(1, -1), got.reshape(1, -1)
    if per == "col":
        want, got = want.T, got.T
    scale = max(np.abs(evaluate(n, leaves)).max() for n in topological(node))
    for w, g in zip(want, got, strict=True):
        dw, dg = w[:, None] - w[None, :], g[:, None] - g[None, :]
        clear_w, clear_g = np.abs(dw) > 1e-7 * max(scale, 1.0), np.abs(dg) > 1e-7 * max(1.0, np.abs(g).max())
        opposite = clear_w & clear_g & (np.sign(dw) != np.sign(dg))
        assert not opposite.any(), f"{expression(node)} per {per}  ~  {expression(form)}"
        clear = np.abs(dw) > 1e-2 * max(scale, 1.0)
        assert (dg[clear] != 0).all(), f"{expression(node)} per {per} ties as {expression(form)}"


def test_a_power_of_a_number_is_a_number_after_what_is_defined_nowhere() -> None:
    root = make("pow", number(-1.0), number(-0.5))
    canonical(make("mul", root, root))
    assert canonical(make("pow", number(-1.0), number(-1.0))) is number(-1.0)


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS | POWERS, GROUPS)
def test_canonical_forms_are_fixed_points(node: Node, per: str) -> None:
    form = canonical(node)
    if any(n.sign == Sign.NONE for n in topological(form)):
        return  # 0 ^ -2: nowhere defined
    assert canonical(plain(form)) is form, (
        f"{expression(node)} → {expression(plain(form))} → {expression(plain(canonical(plain(form))))}"
    )
    ranked = rank_form(form, per)
    assert rank_form(canonical(plain(ranked)), per) is ranked


SAME_RANK = [
    ("abs(W) * X per row", "sqr(W) * sqr(X) per row"),
    ("abs(W) * X per row", "sqr(W) * (sqr(X.mean) + X.var) per row"),
    ("W * sqr(Y) per col", "3 * W * (X.mean - X.mean + sqr(Y.mean) + Y.var) per col"),
    ("abs(W) * X per row", "exp(tanh(abs(W) * X / 7)) per row"),
    ("abs(W) * X per row", "abs(W) * X * sqrt(sum(sqr(W) + 1, in)) per row"),
    ("abs(W) * X per row", "-1 / (1 + abs(W) * X) per row"),
    ("sqr(W) * ((G - min(G)) / (max(G) - min(G))) per row", "abs(W) * sqrt(G - min(G)) per row"),
    ("abs(W) * G per model", "sqr(W) * sqr(G) / windows per model"),
    ("abs(W) per layer", "exp(norm(W, 2)) * abs(3 * W) - mean(W) per layer"),
    ("sum(3 * W, in) * abs(W) per col", "sum(W, in) * abs(W) per col"),
    ("abs(W) * X / tail(abs(W) * X, in) per row", "abs(W) * X per row"),
    ("sqr(W) * H.diag / tail(sqr(W) * H.diag) per layer", "abs(W) * sqrt(H.diag) per layer"),
    ("abs(W) * X * (1 + abs(W) * X) per layer", "abs(W) * X per layer"),
    ("abs(W) * X / (abs(W) * X + 1) per row", "abs(W) * X per row"),
    ("abs(W) / (2 * exp(Y) + 3 * abs(W)) per row", "abs(W) per row"),
]

DIFFERENT_RANK = [
    ("(abs(W) + std(W - W + X)) * X per row", "(abs(W) + std(X)) * X per row"),
    ("abs(W) * X per row", "abs(W) * X per layer"),
    ("abs(W) * X per row", "abs(W) * X.l1 per row"),
    ("abs(W) * X per model", "abs(W) * X / sum(X) per model"),
    ("W per row", "W * X.mean / X.mean * sign(X.mean) per row"),
    ("abs(W) * X per layer", "abs(W) * X / sum(X, in) / norm(W, 2, in) per layer"),
    ("abs(W) + X per row", "abs(W) * X per row"),
    ("sqrt(W) / abs(W) per row", "abs(W) per row"),
    ("abs(W) * X / tail(abs(W) * X, in) per layer", "abs(W) * X per layer"),
    ("W / (1 + W) per row", "W per row"),
    ("abs(W) / (exp(X) + abs(W)) per row", "abs(W) per row"),
    ("abs(W) / (1 + sqr(W)) per row", "abs(W) per row"),
    ("sqrt(X.l1 - X) / abs(X.l1 - X) * abs(W) per row", "abs(X.l1 - X) * abs(W) per row"),
    ("X * sqr(W) * sqrt(-W) / sqr(W) per row", "X * sqr(W) per row"),
    ("W - W * X / sqrt(W) per row", "W * (1 - X / W ^ 1.5) per row"),
]


@pytest.mark.parametrize(("a", "b"), SAME_RANK)
def test_the_same_ranking_is_found(a: str, b: str) -> None:
    assert inline(a).keys.rank == inline(b).keys.rank


@pytest.mark.parametrize(("a", "b"), DIFFERENT_RANK)
def test_different_rankings_are_kept_apart(a: str, b: str) -> None:
    assert inline(a).keys.rank != inline(b).keys.rank


def test_the_keys_grow_coarser() -> None:
    a, b, c = (inline(s).keys for s in ("abs(W) * X", "X * abs(W)", "abs(W * X)"))
    assert a.exact == b.exact != c.exact
    assert a.real == b.real == c.real
    assert keys(inline("abs(W) * X").core, "row").rank != keys(inline("abs(W) * X").core, "col").rank


def test_a_form_does_not_depend_on_what_came_before() -> None:
    """Workers of a search have seen different things, and must find the same keys: `W * abs(W)` once did not."""
    rng, space = np.random.default_rng(4), space_for("default")
    texts = ["G * (abs(W) * abs(W) ^ 2)", "X + abs(W) * W"]
    texts += [f"{expression(g.core)} per {g.per}" for g in (random_genotype(space, rng) for _ in range(300))]

    def form(source: str) -> str:
        return text(canonical(inline(source, analyse=False).core))

    cold = []
    for source in texts:
        with forgetting():
            cold.append(form(source))
    with forgetting():
        kept = [inline(source, analyse=False) for source in texts]
        assert [form(source) for source in texts] == cold
        assert len(kept) == len(texts)


def copied(root: Node) -> Node:
    """The same expression, built anew."""
    copies: dict[Node, Node] = {}
    for node in topological(root):
        copies[node] = make(node.op, *(copies[a] for a in node.args), value=node.value)
    return copies[root]


@settings(max_examples=300, deadline=None)
@given(st.lists(EXPRESSIONS, min_size=2, max_size=8))
@example([inline("median(X + 0 * W) + W").core, inline("sqrt(X + 0 * W)").core])
def test_nor_on_the_order_of_expressions(nodes: list[Node]) -> None:
    """What a reduction over a lost axis keeps, x + 0 · W, was once taken for the form of what a user wrote."""

    def forms(roots: list[Node]) -> list[str]:
        with forgetting():
            kept = [copied(root) for root in roots]
            return [text(canonical(root)) + text(rank_form(canonical(root), "row")) for root in kept]

    assert forms(nodes) == forms(nodes[::-1])[::-1]


def test_keys_are_the_same_in_every_process() -> None:
    sources = [
        "sqr(W) * (G - min(G)) / (max(G) - min(G))",
        "max(abs(W) * X, sum(G, in) - W + 2)",
        "G ^ 0.3 - ln(X + 1)",
    ]
    code = f"from pzc.compiler.load import inline; print(*(inline(s).keys for s in {sources!r}), sep='\\n')"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines() == [str(inline(s).keys) for s in sources]


def test_signed_even_powers_have_one_form() -> None:
    for source in ("W * abs(W)", "sign(W) * sqr(W)", "sign(W) * abs(W) ^ 2", "abs(W) * abs(W) * sign(W)"):
        core = inline(source).core
        assert canonical(core) is canonical(inline("W * abs(W)").core)
        assert keys(core, "row").rank == keys(leaf("W"), "row").rank


@pytest.mark.parametrize("op", ["min", "max"])
@pytest.mark.parametrize("root", ["sqrt(0.5)", "sqrt(0.3)", "0.7", "sqrt(7)"])
@pytest.mark.parametrize(("a", "b"), [(0.25, 0.5), (0.1, 0.3), (0.3, 0.9), (0.7, 0.2)])
def test_nor_on_which_of_two_equal_bounds_comes_first(op: str, root: str, a: float, b: float) -> None:
    one, other = f"{a} * {op}(W, {root})", f"{b} * {op}(X, {a} / {b} * {root})"
    forms = {canonical(inline(f"{op}({x}, {y})").core) for x, y in ((one, other), (other, one))}
    assert len(forms) == 1


@pytest.mark.parametrize("score", ["sqr(W) * X.mean", "sqr(W) * sqrt(G) * G.mean", "abs(W) ^ 3 * exp(X) * X.mean"])
def test_exponents_of_a_product_of_any_sign_are_not_scaled(score: str) -> None:
    form = canonical(inline(f"{score} per row").core)
    assert rank_form(form, "row") is form


@pytest.mark.parametrize(
    "spellings",
    [
        ("(W * X + W) + Y", "W * X + (W + Y)", "W + (Y + X * W)", "W * (X + 1) + Y", "Y - W * (-1 - X)"),
        ("(W * X + W * G) + X * G", "W * X + (X * G + W * G)", "W * (X + G) + X * G", "X * (W + G) + W * G"),
        ("W * (X + 1) + G * (X + 2)", "W * X + (W + (G * X + 2 * G))", "X * (W + G) + (2 * G + W)"),
        ("(W + X) * Y + Y * G", "Y * W + (X * Y + G * Y)", "Y * (W + (X + G))"),
        ("sum(X + in_features + 0.25)", "in_features * (in_features + 0.25) + sum(X)"),
        ("sum(X + Y + 0.25, in)", "sum(X) + in_features * Y + in_features / 4"),
        ("X ^ 1.5 * W + (X ^ 0.5 + Y)", "Y + X ^ 0.5 * (X * W + 1)"),
        ("W * sqrt(W) + W", "W + W ^ 1.5", "abs(W) * sqrt(W) + W", "W ^ 2 / sqrt(W) + W"),
        ("W + (0.1 ^ 3 - 0.1 ^ 3) * X", "W", "W - (sqr(0.1) - sqr(0.1)) * Y"),
    ],
)
def test_sums_are_one_however_their_terms_were_added_up(spellings: tuple[str, ...]) -> None:
    forms = {canonical(inline(f"G.l1 * ({text}) per layer", analyse=False).core) for text in spellings}
    assert len(forms) == 1, [expression(plain(form)) for form in forms]


def test_what_is_constant_inside_of_a_sum_behind_a_constant_factor_changes_no_order() -> None:
    for per, score, rank in (
        ("row", "sqr(X) / windows - mean(X) / windows + W", "W + sqr(X) / windows"),
        ("row", "(Y - 1) * (abs(W) - mean(abs(W), in))", "(Y - 1) * abs(W)"),
    ):
        first, second = (keys(inline(f"{text} per {per}", analyse=False).core, per) for text in (score, rank))
        assert first.rank == second.rank
        assert first.real != second.real
