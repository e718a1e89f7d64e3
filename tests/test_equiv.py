"""Sameness of two metrics: proofs, counterexamples that hold, and neither."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pzc.compiler.core import Node, forgetting, make
from pzc.compiler.groups import constant_in
from pzc.compiler.load import inline, load, zoo
from pzc.compiler.metric import Metric, compile_source
from pzc.compiler.paper.trees import import_paper_tree
from pzc.compiler.rewriting.simplify import redundant, simplest
from pzc.compiler.sameness.counterexample import Counterexample, Scored, find
from pzc.compiler.sameness.equiv import equivalent
from pzc.compiler.sameness.keys import keys
from pzc.compiler.source import expression
from tests.strategies import EXPRESSIONS
from tests.strategies import GROUPS as PER

PUBLISHED = {
    "data": "mul",
    "left": {"data": "abs", "left": {"data": "mul", "left": {"data": "W"}, "right": {"data": "W"}}},
    "right": {"data": "mms", "left": {"data": "G"}},
}


def kept(scores: np.ndarray, per: str, share: float) -> np.ndarray:
    """The mask by Python's own sort."""
    if per == "row":
        return np.array([kept(row[None], "layer", share)[0] for row in scores])
    if per == "col":
        return kept(scores.T, "row", share).T
    order = sorted(range(scores.size), key=lambda i: scores.ravel()[i])
    mask = np.ones(scores.size, dtype=bool)
    mask[order[: int(share * scores.size + 1e-9)]] = False
    return mask.reshape(scores.shape)


def checked(c: Counterexample | None, a: Scored, b: Scored) -> Counterexample:
    """The counterexample, which must be one: its masks are those of its scores, and they differ."""
    assert c is not None
    assert any((x != y).any() for x, y in zip(*c.masks, strict=True))
    for scored, scores, masks in zip((a, b), c.scores, c.masks, strict=True):
        if c.sparsity is not None and len(c.layers) == 1:
            wanted = kept(scores[0], "layer" if scored.per in ("block", "model") else scored.per, c.sparsity)
            np.testing.assert_array_equal(masks[0], wanted)
    return c


def test_wanda_is_optimal_brain_damage_per_row() -> None:
    found = equivalent(load("wanda"), load("obd"), per="row")
    (pair,) = found.pairs
    assert (found.same, found.kind) == (True, "rank")
    assert [bool(steps) for steps in pair.verdict.steps] == [False, True]
    assert expression(load("wanda").core) == "abs(W) * X"


def test_gblm_is_not_wanda() -> None:
    a, b = load("wanda"), load("gblm")
    found = equivalent(a, b)
    c = checked(found.pairs[0].verdict.counterexample, *(Scored(m.core, m.per) for m in (a, b)))
    assert found.same is False
    assert c.layers[0]["W"].shape == (1, 2)
    w, x, g = (c.layers[0][name] for name in ("W", "X.l2", "G.l2"))
    np.testing.assert_array_equal(c.scores[0][0], np.abs(w) * x)
    np.testing.assert_array_equal(c.scores[1][0], np.abs(w) * x + 100 * np.abs(w) * g)
    assert all(float(v).is_integer() for v in np.concatenate([w.ravel(), x, g.ravel()]))


def test_the_published_metric_is_its_tree() -> None:
    found = equivalent(load("pruner_zero"), import_paper_tree(PUBLISHED))
    assert (found.same, found.kind) == (True, "real")


@pytest.mark.parametrize(
    ("a", "b", "kind"),
    [
        ("abs(W) * X", "X * abs(W)", "exact"),
        ("sqr(W) * X", "abs(W) ^ 2 * X", "real"),
        ("exp(abs(W)) per layer", "abs(W) per layer", "rank"),
        ("sqr(W) / tail(sqr(W)) per layer", "abs(W) per layer", "rank"),
        ("abs(W) / sum(abs(W), in)", "abs(W)", "rank"),
    ],
)
def test_the_strongest_sameness_is_said(a: str, b: str, kind: str) -> None:
    found = equivalent(inline(a), inline(b))
    assert (found.same, found.kind) == (True, kind)


@pytest.mark.parametrize(
    ("a", "b", "per", "layers"),
    [
        ("abs(W)", "min(abs(W), 2)", "row", 1),  # they differ by ties alone
        ("abs(W) / sum(abs(W), in)", "abs(W)", "layer", 1),
        ("abs(W) / max(abs(W))", "abs(W)", "model", 2),
        ("abs(W) * (1 + depth)", "abs(W)", "model", 2),
        ("abs(W) * X.l1", "abs(W) * X.l2", "row", 1),  # two members of a family: their values must fit each other
        ("sqr(W) / H.inv_diag", "sqr(W) * H.diag", "row", 1),
        ("abs(W) * std(W, in)", "abs(W)", "layer", 1),
        ("max(W, 0) * exp(W)", "W", "row", 1),  # 0 for whatever is negative
        ("max(W, 0) * sigmoid(W)", "W", "layer", 1),
        ("sqrt(max(W, 0)) * exp(W)", "W", "row", 1),
        ("min(max(W, 0), exp(W)) * exp(W)", "W", "row", 1),
        # over other axes a sum counts other numbers of values
        ("W * abs(sum(W) - sum(min(W, in)))", "W * (sum(W) - sum(min(W, in)))", "layer", 1),
        ("W * abs(sum(max(W, in)) - sum(W))", "W * (sum(max(W, in)) - sum(W))", "layer", 1),
    ],
)
def test_counterexamples(a: str, b: str, per: str, layers: int) -> None:
    first, second = (Scored(inline(text).core, per) for text in (a, b))
    found = checked(find(first, second), first, second)
    assert len(found.layers) == layers


def test_values_of_a_counterexample_belong_to_one_layer() -> None:
    a, b = (Scored(inline(text).core, "row") for text in ("abs(W) * X.l1", "abs(W) * X.l2"))
    layer = checked(find(a, b), a, b).layers[0]
    assert (layer["X.l2"] <= layer["X.l1"] + 1e-12).all()
    a, b = (Scored(inline(text).core, "row") for text in ("abs(W) * G", "abs(W) * X"))
    layer = checked(find(a, b), a, b).layers[0]
    assert (layer["G.l2"][:, layer["X.l2"] == 0] == 0).all()


def test_other_groups_prune_other_weights() -> None:
    found = equivalent(inline("abs(W) per row"), inline("abs(W) per col"))
    assert (found.same, found.kind) == (False, "exact")
    assert equivalent(inline("abs(W) per row"), inline("abs(W) per col"), pattern=(2, 4)).same is True


def test_a_pattern_is_compared_by_its_masks() -> None:
    found = equivalent(load("wanda"), load("magnitude"), pattern=(2, 4)).pairs[0].verdict.counterexample
    assert found is not None
    assert (found.pattern, found.sparsity) == ((2, 4), None)
    assert [int(m[0].sum()) for m in found.masks] == [2 * len(found.masks[0][0])] * 2
    assert equivalent(load("wanda"), load("obd"), pattern=(2, 4)).kind == "rank"


def test_what_follows_from_the_statistics_alone_is_proven_inside_a_layer() -> None:
    """Σx² = n · (Var x + mean²), where n is the number of tokens, the same for all weights of a layer."""
    found = equivalent(inline("abs(W) * X"), inline("sqr(W) * (X.var + sqr(X.mean))"))
    assert found.same is True
    assert any("second moment" in step.rule.name for side in found.pairs[0].verdict.steps for step in side)
    assert equivalent(load("wanda"), load("wanda_variance")).same is True


def test_layers_may_have_read_different_numbers_of_tokens() -> None:
    """So between layers the same is not known: experts of a mixture see tokens of their own."""
    found = equivalent(inline("abs(W) * X per model"), inline("sqr(W) * (X.var + sqr(X.mean)) per model"))
    assert found.same is None
    assert found.pairs[0].verdict.evidence is True
    assert found.pairs[0].verdict.counterexample is None


def test_saturation_and_absorption_are_no_counterexamples() -> None:
    """In float64 both tie everything; in the reals they do not."""
    weight = Scored(inline("abs(W)").core, "row")
    for text in ("tanh(1000 * abs(W))", "abs(W) * 1e-12 + 1e6 * tanh(40 + 0 * W)"):
        assert find(weight, Scored(inline(text).core, "row")) is None


@pytest.mark.parametrize(
    "text",
    [
        "exp(ln(abs(W)) + ln(X) + ln(G))",  # 1 · 2 · 3 and 3 · 2 · 1 are apart by rounding
        "(0.001 * exp(ln(abs(W)) + ln(X) + ln(G)) + 5e6) - 5e6",  # and here by more than that
    ],
)
def test_rounding_is_no_counterexample(text: str) -> None:
    product = Scored(inline("abs(W) * X * G").core, "row")
    assert find(product, Scored(inline(text).core, "row")) is None


def test_a_weight_whose_input_is_dead_has_no_gradient() -> None:
    """The two differ only where X is zero and G is not, which no layer has."""
    a, b = (Scored(inline(text).core, "row") for text in ("abs(W) * G", "abs(W) * G * sign(X)"))
    assert find(a, b) is None


@given(EXPRESSIONS, st.sampled_from(["neg", "sqr", "abs", "exp", "sqrt", "tanh"]), PER)
@settings(max_examples=25, deadline=None)
def test_never_both_a_proof_and_a_counterexample(x: Node, op: str, per: str) -> None:
    y = make(op, x)
    if not constant_in(x, per) and keys(x, per).rank == keys(y, per).rank:
        assert find(Scored(x, per), Scored(y, per)) is None


@given(EXPRESSIONS, PER)
@settings(max_examples=25, deadline=None)
def test_simplest_forms_have_no_counterexample(x: Node, per: str) -> None:
    assert constant_in(x, per) or find(Scored(x, per), Scored(simplest(x, per), per)) is None


# Metrics by role

ROLES = "pzm 1 metric m {{ gate_proj: {} per row else: abs(W) * X per {} }}"


def by_role(score: str, per: str = "row") -> Metric:
    return compile_source(ROLES.format(score, per), "m.pzm").metrics[0]


def test_arms_are_compared_in_their_order() -> None:
    found = equivalent(by_role("abs(W)"), by_role("sqr(W)"))
    assert [pair.verdict.kind for pair in found.pairs] == ["rank", "exact"]
    assert (found.same, found.kind) == (True, "rank")
    found = equivalent(by_role("abs(W)"), by_role("abs(W) * X"))
    assert [pair.verdict.same for pair in found.pairs] == [False, True]
    assert found.same is False


def test_one_score_stands_beside_every_arm() -> None:
    assert equivalent(by_role("sqr(W) * sqr(X)"), load("wanda")).same is True
    assert equivalent(load("wanda"), by_role("abs(W)")).same is False
    joint = equivalent(by_role("sqr(W) * sqr(X)"), load("wanda"), per="model")
    assert joint.same is None
    assert joint.reason is not None


def test_arms_for_other_layers_are_not_compared() -> None:
    a = by_role("abs(W)")
    b = compile_source("pzm 1 metric m { up_proj: abs(W) else: abs(W) * X }", "m.pzm").metrics[0]
    found = equivalent(a, b)
    assert (found.same, found.pairs) == (None, ())
    assert found.reason is not None


# Simplification


def test_what_is_redundant_in_the_published_metric() -> None:
    core = load("pruner_zero").core
    assert [part.what for part in redundant(core, "row")] == ["the divisor `max(G) - min(G)`", "`abs` of `W * W`"]
    assert expression(simplest(core, "row")) == "sqr(W) * (G - min(G))"
    gone = [part.what for part in redundant(import_paper_tree(PUBLISHED).core, "row")]
    assert "`abs` of `abs(W) * abs(W)`" in gone
    assert expression(simplest(import_paper_tree(PUBLISHED).core, "row")) == "sqr(W) * (G - min(G))"


@pytest.mark.parametrize("metric", zoo().values(), ids=lambda m: m.name)
def test_the_shortest_form_of_a_published_metric_ranks_as_it_does(metric: Metric) -> None:
    for arm in metric.arms:
        short = simplest(arm.core, arm.per)
        assert keys(short, arm.per).rank == keys(arm.core, arm.per).rank
        assert len(expression(short)) <= len(expression(arm.core))
        real = simplest(arm.core, arm.per, "real")
        assert keys(real, arm.per).real == keys(arm.core, arm.per).real


@pytest.mark.parametrize(
    "text",
    [
        "1e38 ^ 5 * 1e38 ^ 5 * (W - X)",
        "abs(1e38 ^ 5 * 1e38 ^ 5 * (W - X))",
        "W * var(1e38 ^ 5 * (W + X), in)",
        "max(1e38 ^ 5 * 1e38 ^ 5 * W, X)",
        "1e38 ^ 5 * (1e38 ^ 5 * W - X) + 1e38 ^ 5 * 1e38 ^ 5 * W",
        "1e-30 * W * 1e-30 + X",
    ],
)
def test_numbers_beyond_a_float_are_no_trouble(text: str) -> None:
    """What is computed from them may not end, or be infinite; what is printed can be compiled."""
    core = inline(text, analyse=False).core
    before = keys(core, "row").rank
    with forgetting():
        assert keys(inline(text, analyse=False).core, "row").rank == before
    for keep in ("rank", "real"):
        short = expression(simplest(core, "row", keep))
        assert "inf" not in short
        assert inline(short, analyse=False).core
    (metric,) = compile_source(f"pzm 1 metric m = {text} per row", "m.pzm").metrics
    assert metric.core is core


@pytest.mark.parametrize("e", ["0.3", "0.7", "0.9", "0.437", "1.762", "(1/3)", "(1/7)", "(2/13)", "3", "11"])
def test_exponents_that_no_float_holds_are_scaled_and_joined(e: str) -> None:
    for text in (
        f"(abs(W) * X)^{e}",
        f"abs(W)^{e} * X^{e}",
        f"{e} * ln(abs(W) * X)",
        f"ln(abs(W)) / {e} + ln(X) / {e}",
    ):
        assert equivalent(inline(text), load("wanda")).kind == "rank"
    assert equivalent(inline(f"(abs(W)^{e})^(1/{e}) * X"), load("wanda")).kind == "real"
    for text in ("abs(W)^0.3 * abs(W)^-0.1 * abs(W)^-0.2 * X", "abs(W)^(1/3) * abs(W)^(1/6) * abs(W)^-0.5 * X"):
        assert equivalent(inline(text), inline("X")).kind == "real"


@pytest.mark.parametrize("e", ["0.3", "3", "7"])
def test_a_power_of_a_norm_is_a_sum(e: str) -> None:
    one, other = f"norm(W, {e}, in)^{e} * abs(W)", f"sum(abs(W)^{e}, in) * abs(W)"
    assert equivalent(inline(one), inline(other), per="layer").kind == "real"


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("0.1 * abs(W) + 0.3 * X", "abs(W) + 3 * X"),
        ("0.7 * abs(W) + 0.1 * X", "7 * abs(W) + X"),
        ("abs(W) + 0.1 * X + 0.2 * X", "abs(W) + 0.3 * X"),
        ("abs(W) / 10 + X / 3", "3 * abs(W) + 10 * X"),
        ("min(3 * X, 1) * abs(W)", "min(X, 1 / 3) * abs(W)"),
        ("var(0.1 * W, in) + abs(W) * X", "0.01 * var(W, in) + abs(W) * X"),
    ],
)
def test_coefficients_that_no_float_holds_are_compared_without_their_last_bits(a: str, b: str) -> None:
    assert equivalent(inline(a), inline(b), per="layer").same
    assert equivalent(inline(a), inline(b.replace("X", "1.0000000001 * X", 1)), per="layer").same is not True


def test_exponents_that_grow_beyond_all_bounds_prove_nothing() -> None:
    """Nine and twelve powers of 3e37 of |W| are both infinite: that says nothing of their order beside another leaf."""

    def tower(leaf: str, levels: int) -> str:
        return f"{'(' * levels}{leaf}{' ^ 3e37)' * levels}"

    a, b = (inline(f"{tower('abs(W)', levels)} * {tower('X', 9)}", analyse=False) for levels in (9, 12))
    assert keys(a.core, "layer").rank != keys(b.core, "layer").rank
    assert not constant_in(simplest(a.core, "layer"), "layer")
