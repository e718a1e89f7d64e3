"""What is said about the values of a metric, and what is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pzc
from pzc.compiler.core import Node, leaf, make, number, topological
from pzc.compiler.groups import constant_in
from pzc.compiler.language.findings import findings
from pzc.compiler.language.idle import idle_operation
from pzc.compiler.load import zoo_names
from pzc.compiler.reference import evaluate
from pzc.compiler.rewriting.canonical import canonical
from pzc.compiler.source import expression
from pzc.grammar.diagnostics import CODES
from tests.lowering import core
from tests.strategies import EXPRESSIONS, GROUPS, probe

OVERFLOW = [
    ("noise + exp(X)", "exp(X)"),
    ("noise + exp(min(X, 80))", None),
    ("noise + exp(-X.l1 - X)", None),
    ("noise + exp(X - max(X, in)) / sum(exp(X - max(X, in)), in)", None),
    ("noise + exp(X - mean(X, in))", "exp(X - mean(X))"),
    ("noise + exp(max(X, in) - X)", "exp(max(X) - X)"),
    ("noise + exp(W)", "exp(W)"),
    ("noise + exp(W / 2)", None),
    ("noise + exp(W / std(X))", "exp(W / std(X))"),
    ("noise + exp(abs(W) / max(abs(W)))", None),
    ("noise + W ^ 20", "W ^ 20"),
    ("noise + W ^ 19", None),
    ("noise + sqr(sqr(sqr(X)))", "sqr(sqr(sqr(X)))"),
    ("noise + sqr(sqr(sqr(sqr(X))))", "sqr(sqr(sqr(X)))"),
    ("noise + tanh(sqr(sqr(sqr(X.var / 1e9))))", None),
    ("noise + sqr(sqr(X))", None),
    ("noise + sqr(W / std(W))", None),
    ("noise + ((W - mean(W)) / (std(W) + 1e-8)) ^ 4", None),
    ("noise + W / 1e-37", "W / 1e-37"),
    ("noise + W / 1e-36", None),
    ("noise + 1e38 * 1e38 * W", "1e+38 * 1e+38"),
    ("noise + 1e38 / W ^ 0.5", None),
    ("noise + sqr(1e38 / H.diag)", "1e+38 / H.diag"),
    ("noise + norm(sqr(X.l1), 2)", "norm(sqr(X.l1), 2)"),
    ("noise + norm(X.l1, 2)", None),
    ("noise + sum(sqr(sqr(X)) * 1e8)", "sum(sqr(sqr(X)) * 100000000)"),
    ("noise + ln(1 + X)", None),
]


@pytest.mark.parametrize(("text", "where"), OVERFLOW)
def test_overflow_is_found_where_it_begins(text: str, where: str | None) -> None:
    found = [expression(f.node) for f in findings(core(text), "model") if f.code == "PZ0302"]
    assert found == ([where] if where else [])


CODES_OF = [
    # divisions by what a dead feature or one zero weight makes zero
    ("noise + X / X", "PZ0303"),
    ("noise + X / W", "PZ0303"),
    ("noise + X / abs(W)", "PZ0303"),
    ("noise + X / (X - mean(X))", "PZ0303"),
    ("noise + X / (X - min(X))", "PZ0303"),
    ("noise + X / (W + 3)", "PZ0303"),
    ("noise + X / (W + 200)", ""),
    ("noise + X / (W * X)", "PZ0303"),
    ("noise + X / (abs(W) + X)", "PZ0303"),
    ("noise + X / min(abs(W))", "PZ0303"),
    ("noise + X / min(abs(W), 1)", "PZ0303"),
    ("noise + X / quantile(abs(W), 0, in)", "PZ0303"),
    ("noise + X / rank(abs(W))", "PZ0303"),
    ("noise + X / max(W, 0)", "PZ0303"),
    ("noise + X / clamp(W, 0, 1)", "PZ0303"),
    ("noise + X / ln(X + 0.5)", "PZ0303"),
    ("noise + X / depth", "PZ0303"),
    ("noise + X / (windows - 1)", "PZ0303"),
    ("noise + X * W ^ -1", "PZ0303"),
    ("noise + W * X ^ -0.5", "PZ0303"),
    ("noise + W * X ^ X.mean", "PZ0303"),
    # reductions are zero only for a slice that is dead or constant
    ("noise + W / sum(abs(W), in)", ""),
    ("noise + W / norm(W, 2)", ""),
    ("noise + W / max(abs(W))", ""),
    ("noise + W / mean(X)", ""),
    ("noise + W / std(W)", ""),
    ("noise + W / median(abs(W), in)", ""),
    ("noise + W / quantile(abs(W), 0.5)", ""),
    ("noise + W / (sum(abs(W), in) * norm(W, 2, out))", ""),
    ("noise + W / sqrt(mean(sqr(W), in))", ""),
    ("noise + (G - min(G)) / (max(G) - min(G))", ""),
    ("noise + W / max(X, mean(X))", ""),
    ("noise + W / clamp(mean(abs(W)), 0, 1)", ""),
    # what is above zero
    ("noise + W / (X + 1e-8)", ""),
    ("noise + W / (X.var + 1)", ""),
    ("noise + W / (2 - noise)", ""),
    ("noise + W / (2 - tanh(W))", ""),
    ("noise + W / clamp(X, 0.1, 1)", ""),
    ("noise + W / H.inv_diag", ""),
    ("noise + W / (in_features - 1)", ""),
    ("noise + sqrt(in_features - rank(W, in))", ""),
    ("noise + sqrt(out_features - rank(W, in))", "PZ0304"),
    ("noise + sqrt(tail(sqr(W), in) - sqr(W))", ""),
    ("noise + sqrt(tail(W, in) - W)", "PZ0304"),
    ("noise + W / (X - X + 1)", ""),
    ("noise + W / exp(W / 100)", ""),
    # logarithms, roots and powers
    ("noise + ln(abs(W))", "PZ0304"),
    ("noise + ln(X)", "PZ0304"),
    ("noise + ln(W)", "PZ0304 PZ0304"),
    ("noise + ln(X.mean + 1)", "PZ0304 PZ0304"),
    ("noise + ln(abs(W) + 0.001)", ""),
    ("noise + ln(std(W, in))", ""),
    ("noise + ln(sum(X) / in_features)", ""),
    ("noise + ln(mean(W))", "PZ0304"),
    ("noise + sqrt(W)", "PZ0304"),
    ("noise + sqrt(X - mean(X))", "PZ0304"),
    ("noise + sqrt(X - min(X))", ""),
    ("noise + sqrt(1 - tanh(abs(W)))", ""),
    ("noise + sqrt(1 - exp(-abs(W)))", ""),
    ("noise + sqrt(0.99 - tanh(abs(W)))", "PZ0304"),
    ("noise + sqrt(W + 100)", ""),
    ("noise + sqrt(abs(W))", ""),
    ("noise + sqrt(X)", ""),
    ("noise + W ^ 0.5", "PZ0304"),
    ("noise + W ^ (1 / 2)", "PZ0304"),
    ("noise + W ^ (1 / 0.5)", ""),
    ("noise + W ^ 3", ""),
    ("noise + W ^ -0.5", "PZ0303 PZ0304"),
    ("noise + X ^ 0.5", ""),
    ("noise + W ^ noise", "PZ0304"),
    # saturation of most positions
    ("noise + tanh(X)", "PZ0305"),
    ("noise + tanh(1000 * abs(W) * X)", "PZ0305"),
    ("noise + tanh(W * 1e4)", "PZ0305"),
    ("noise + tanh(sum(abs(W), in))", "PZ0305"),
    ("noise + tanh(rank(W))", "PZ0305"),
    ("noise + tanh(max(X, -100))", "PZ0305"),
    ("noise + tanh(min(W, -20))", "PZ0305"),
    ("noise + tanh(W)", ""),
    ("noise + tanh(X / max(X))", ""),
    ("noise + tanh(X / norm(X, 2))", ""),
    ("noise + tanh((X - mean(X)) / std(X))", ""),
    ("noise + tanh(min(X, 1))", ""),
    ("noise + tanh(clamp(X, -1, 1))", ""),
    ("noise + tanh(clamp(W, -100, 100))", ""),
    ("noise + tanh(max(W, -100))", ""),
    ("noise + tanh(ln(1 + X))", ""),
    ("noise + tanh(mean(W) * 100)", ""),
    ("noise + sigmoid(X)", "PZ0305"),
    ("noise + sigmoid(-X.l1)", "PZ0305"),
    ("noise + sigmoid(-X.max * 5)", ""),
    ("noise + sigmoid(W)", ""),
    ("noise + exp(-X)", "PZ0305"),
    ("noise + exp(-abs(W))", ""),
    ("noise + clamp(X, 0, 0.001)", ""),
    # never defined
    ("noise + W / 0", "PZ0306"),
    ("noise + 0 / 0", "PZ0306"),
    ("noise + W / (X - X)", "PZ0306"),
    ("noise + (W - W) ^ -1", "PZ0306"),
    ("noise + W / sum(W - W)", "PZ0306"),
    ("noise + ln(0)", "PZ0306"),
    ("noise + ln(-abs(W))", "PZ0306"),
    ("noise + ln(min(W, -1))", "PZ0306"),
    ("noise + sqrt(-1 - X)", "PZ0306"),
    ("noise + sqrt(tanh(W) - 2)", "PZ0306"),
    ("noise + (-1 - X) ^ 0.5", "PZ0306"),
    ("noise + exp(sqrt(-1))", "PZ0306"),
    ("noise + sqrt(W - 200)", "PZ0304"),
    ("noise + (-1 - X) ^ 2", ""),
    ("noise + X * 0 ^ 0", ""),
]


@pytest.mark.parametrize(("text", "codes"), CODES_OF)
def test_codes(text: str, codes: str) -> None:
    """`per model`, under which no addend is idle."""
    assert " ".join(f.code for f in findings(core(text), "model")) == codes


IDLE = [
    ("sqrt(abs(W))", "row", "abs(W)"),
    ("exp(W / 2)", "row", "W / 2"),
    ("tanh(W)", "model", "W"),
    ("ln(1 + abs(W))", "row", "1 + abs(W)"),
    ("X ^ 2", "row", "X"),
    ("W ^ 3", "row", "W"),
    ("W ^ 2", "row", None),
    ("W ^ -1", "row", None),
    ("sqr(X)", "row", "X"),
    ("sqr(W)", "row", None),
    ("abs(X)", "row", "X"),
    ("abs(W)", "row", None),
    ("2 * W", "row", "W"),
    ("-2 * W", "row", None),
    ("W / 2", "row", "W"),
    ("2 / W", "row", None),
    ("W * mean(W)", "layer", None),
    ("W / mean(W)", "layer", None),
    ("W + 3", "row", "W"),
    ("W - 3", "row", "W"),
    ("3 - W", "row", None),
    ("X + windows", "row", "X"),
    ("W * in_features", "layer", "W"),
    ("W * in_features", "block", None),
    ("W + depth", "block", "W"),
    ("W + depth", "model", None),
    ("W * depth", "row", None),
    ("abs(W) * Y", "row", "abs(W)"),
    ("abs(W) * Y", "col", None),
    ("abs(W) * X", "row", None),
    ("abs(W) * X", "col", "abs(W)"),
    ("abs(W) * sqrt(X)", "col", "abs(W)"),
    ("abs(W) * max(Y.mean, 0)", "row", None),  # zero for half of the rows
    ("abs(W) / max(Y.mean, 0)", "row", "abs(W)"),
    ("W - mean(W)", "layer", "W"),
    ("W - mean(W, out)", "layer", None),
    ("(X - min(X)) / (max(X) - min(X))", "layer", "X - min(X)"),
    ("(X - min(X)) / (max(X) - min(X))", "model", None),
    ("rank(W, in)", "row", "W"),
    ("rank(W, in)", "layer", None),
    ("rank(W)", "col", "W"),
    ("rank(W)", "model", None),
    ("max(W, 0)", "row", None),
    ("(exp(1) - exp(1)) * W", "row", None),  # nothing is ranked
    ("sigmoid(W) * X", "row", None),
]


@pytest.mark.parametrize(("text", "per", "rest"), IDLE)
def test_an_idle_operation_at_the_root_is_noted_once(text: str, per: str, rest: str | None) -> None:
    root = core(text)
    idle = idle_operation(root, per)
    assert (idle and expression(idle[1])) == rest
    notes = [f for f in findings(root, per) if f.code == "PZ0307"]
    assert [f.node for f in notes] == ([root] if rest else [])


def same_order(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether no clear difference of one is turned round in the other."""
    da, db = (x[:, :, None] - x[:, None, :] for x in (a, b))
    clear = (np.abs(da) > 1e-7 * np.abs(a).max()) & (np.abs(db) > 1e-7 * np.abs(b).max())
    return bool((np.sign(da) == np.sign(db))[clear].all())


@settings(deadline=None, max_examples=600)
@given(
    EXPRESSIONS,
    st.sampled_from(["", "exp", "sqrt", "tanh", "sqr", "X", "abs", "rank"]),
    GROUPS,
    st.integers(0, 2**32 - 1),
)
def test_without_the_idle_operation_the_order_is_the_same(x: Node, op: str, per: str, seed: int) -> None:
    root = make("mul", x, leaf("X.l2")) if op == "X" else make(op, x) if op and (op != "rank" or x.axes) else x
    idle = idle_operation(root, per)
    if idle is None:
        return
    leaves = probe(seed)
    steps = [evaluate(n, leaves) for n in topological(root)]
    if not all(np.isfinite(s).all() and (np.abs(s) < 1e9).all() for s in steps) or constant_in(canonical(root), per):
        return
    a, b = (np.broadcast_to(evaluate(n, leaves), leaves["W"].shape) for n in (root, idle[1]))
    groups = (4, 5) if per == "row" else (1, 20)
    a, b = (v.reshape(groups) if per != "col" else v.T for v in (a, b))
    assert same_order(a, b), f"{expression(root)} per {per}"


@settings(deadline=None, max_examples=600)
@given(EXPRESSIONS, GROUPS, st.integers(0, 2**32 - 1), st.booleans())
def test_what_is_said_never_to_be_defined_never_is(root: Node, per: str, seed: int, zeros: bool) -> None:
    leaves = probe(seed, zeros=zeros)
    for finding in findings(root, per):
        assert finding.code in CODES
        assert finding.node in topological(root)
        if finding.code == "PZ0306":
            steps = [evaluate(a, leaves) for a in topological(finding.node) if a is not finding.node]
            tiny = any(((s != 0) & (np.abs(s) < 1e-9)).any() or (np.abs(s) > 1e9).any() for s in steps)
            assert tiny or not np.isfinite(evaluate(finding.node, leaves)).any(), expression(finding.node)


LARGE = probe(7, zeros=True, shape=(30, 40))


@settings(deadline=None, max_examples=600)
@given(EXPRESSIONS)
def test_a_score_without_findings_is_finite(root: Node) -> None:
    """On a layer with dead features and zero weights, every value that is not finite was warned of."""
    codes = {f.code for f in findings(root, "model")}
    if codes & {"PZ0302", "PZ0303", "PZ0304", "PZ0306"} or degenerate(root):
        return
    assert np.isfinite(evaluate(root, LARGE)).all(), expression(root)


def degenerate(root: Node) -> bool:
    """Whether some reduction of this layer is zero, which is not warned of, or a value is lost to rounding."""
    steps = {n: evaluate(n, LARGE) for n in topological(root)}
    flat = any(n.args and n.axes != {"out", "in"} and (np.abs(v) < 1e-9).any() for n, v in steps.items())
    return flat or any(((v != 0) & (np.abs(v) < 1e-9)).any() or (np.abs(v) > 1e9).any() for v in steps.values())


@pytest.mark.parametrize("name", zoo_names())
def test_the_zoo_is_quiet(name: str) -> None:
    for arm in pzc.load(name).arms:
        assert [f.code for f in findings(arm.core, arm.per) if CODES[f.code][0] != "note"] == []


def test_a_finding_says_what_is_wrong_and_what_would_help() -> None:
    (overflow,) = findings(core("noise + exp(X)"), "model")
    assert overflow.message == "`exp(X)` can overflow float32"
    assert overflow.label == "`X` reaches 1e+07 for usual values; e⁸⁹ is beyond float32"
    assert overflow.help == "`exp(min(X, 80))` stays inside"
    (zero,) = findings(core("noise / W"), "model")
    assert zero.label == "`W` can be zero, where a weight is zero"
    assert zero.help == "add a small number, as in `abs(W) + 1e-8`"
    (ties,) = findings(core("noise * tanh(X)"), "model")
    assert ties.label == "`X` is mostly about 100; beyond 9, `tanh` is 1 in float32"
    (idle,) = findings(core("sqrt(abs(W))"), "row")
    assert (idle.message, idle.help) == ("`sqrt` at the root changes no ranking per row", "`abs(W)` ranks the same")


def test_what_is_the_same_for_a_whole_group_ties_nothing() -> None:
    text = core("abs(W) * tanh(norm(W, 2)) * X")
    assert [f.code for f in findings(text, "layer")] == []
    assert [f.code for f in findings(text, "model")] == ["PZ0305"]


def test_long_expressions_are_not_written_out() -> None:
    x = leaf("W")
    for _ in range(100):
        x = make("add", x, number(0.5))
    for root in (make("sqrt", make("ln", x)), make("div", leaf("W"), x), make("mul", leaf("W"), make("std", x))):
        found = findings(root, "layer")
        assert found
        assert all(len(f.message + f.label + (f.help or "")) < 200 for f in found)
