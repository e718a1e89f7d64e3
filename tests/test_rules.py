"""Every rule of the table holds over its stated domain, needs each of its conditions, and makes a term lighter."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pzc.compiler import core
from pzc.compiler.analysis.signs import Sign
from pzc.compiler.core import BOTH, IN, OUT, Node, leaf, leaves_of, make, number, topological
from pzc.compiler.load import inline
from pzc.compiler.paper.opposing import simplify
from pzc.compiler.reference import evaluate
from pzc.compiler.rewriting import engine
from pzc.compiler.rewriting import rank as ranking
from pzc.compiler.rewriting.building import Makers, builder
from pzc.compiler.rewriting.canonical import canonical, canonical_forms
from pzc.compiler.rewriting.conditions import PLACES
from pzc.compiler.rewriting.derive import derive
from pzc.compiler.rewriting.makers import MAKERS
from pzc.compiler.rewriting.matching import checks, compile_rule, dispatch
from pzc.compiler.rewriting.patterns import WIDEST
from pzc.compiler.rewriting.plain import plain
from pzc.compiler.rewriting.rank import rank_class
from pzc.compiler.rewriting.rules import BY_NAME, RULES, Rule, sides
from pzc.compiler.rewriting.terms import is_turned
from pzc.compiler.sameness.keys import keys
from pzc.compiler.source import expression
from pzc.compiler.structure import text
from tests.strategies import EXPRESSIONS, GROUPS

NUMBERS = [number(v) for v in (-3, -2, -1, -0.5, 0, 0.25, 0.5, 1, 1.5, 2, 3)]
AXES = [IN, OUT, BOTH]
W, X, Y = leaf("W"), leaf("X.mean"), leaf("Y.mean")


@cache
def values() -> tuple[Node, ...]:
    """Values of every sign over every set of axes."""
    atoms = [
        W,
        X,
        Y,
        leaf("G.l2"),
        leaf("X.l2"),
        leaf("Y.l2"),
        leaf("H.diag"),
        leaf("in_features"),
        number(2),
        number(-1),
    ]
    atoms += [
        make("exp", W),
        make("exp", Y),
        make("sum", W),
        make("sub", W, leaf("G.mean")),
        make("tanh", leaf("G.mean")),
    ]
    turned = [make("add", make("mul", number(-1), W), leaf("G.mean")), make("add", make("mul", number(-1), X), Y)]
    return (number(0), *turned, *atoms, *(make("neg", a) for a in atoms if a.op != "number"))


def spread(op: str, args: tuple[Node, ...], over: int) -> Node:
    """A reduction as it stands; a value without the axes is first laid out along them."""
    x = args[0]
    if over & ~x.bits:
        x = make("add", x, make("mul", number(0), W))
    return make(op, x, *args[1:], value=None if over == x.bits & BOTH else {IN: "in", OUT: "out"}[over])


WRITERS = Makers(lambda op, args: make(op, *args), spread, MAKERS.size, MAKERS.at_most)


def chained(node: Node) -> Node:
    """`min` and `max` of three as two of two, which the evaluator knows."""
    args = [chained(a) for a in node.args]
    while node.op in ("min", "max") and len(args) > 2:
        args[:2] = [make(node.op, *args[:2])]
    return make(node.op, *args, value=node.value) if args else node


def _names(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", re.sub(r"[A-Z][.a-z0-9]*", "", text)))


def cases(rule: Rule, seed: int, failing: str | None = None, count: int = 60) -> Iterator[tuple[Node, Node, str]]:
    """Both sides of a rule for random arguments that fulfil its conditions, or all but one, and the group."""
    left, right = sides(rule)
    build = [builder(side, WRITERS) for side in (left, right)]
    conditions = {per: checks(rule, MAKERS, per) for per in ("row", "col", "layer")}
    rng, found = random.Random(seed), 0
    for _ in range(20_000):
        env = [rng.choice(values()) for _ in range(4)] + [rng.choice(NUMBERS), rng.choice(NUMBERS)]
        if "<=" in str(rule.conditions) and rng.random() < 0.5:
            env[rng.randrange(2)] = number(rng.choice([-1, 0, 5]))
        case, per = [*env, rng.choice(AXES)], rng.choice(["row", "col", "layer"])
        names = _names(rule.left) & {"x", "k"}
        if "axis" in rule.left and "x" in names and not any(not case[6] & ~case[PLACES[v]].bits for v in names):
            continue
        if "quantile" in rule.left or rule.name == "norm":
            case[4] = number(rng.choice([0.0, 0.25, 0.5, 0.9, 1.0]) if rule.name != "norm" else rng.choice([0.5, 1, 2]))
        if all(holds(case) != (text == failing) for text, holds in conditions[per].items()):
            try:
                sides_of_case = [chained(b(case)) for b in build]
            except (ZeroDivisionError, KeyError):
                continue
            found += 1
            yield sides_of_case[0], sides_of_case[1], per
            if found == count:
                return


def probe(seed: int) -> dict[str, np.ndarray]:
    """Leaves of every sign, of moderate size; every third with zeros."""
    rng = np.random.default_rng(seed)
    out, inn = (int(n) for n in rng.integers(2, 6, size=2))
    made = {"in_features": np.float64(inn), "out_features": np.float64(out)}
    for name, shape in (("W", (out, inn)), ("G.mean", (out, inn)), ("X.mean", inn), ("Y.mean", out)):
        made[name] = rng.normal(size=shape)
    for name, shape in (("G.l2", (out, inn)), ("H.diag", inn), ("X.var", inn), ("Y.var", out)):
        made[name] = rng.uniform(0.2, 2.0, shape)
    if seed % 3 == 0:
        for name in ("W", "G.l2"):
            made[name] = made[name] * (rng.uniform(size=made[name].shape) > 0.4)
        for family in "XY":  # a feature that is always zero
            live = rng.uniform(size=made[f"{family}.mean"].shape) > 0.4
            made[f"{family}.mean"], made[f"{family}.var"] = made[f"{family}.mean"] * live, made[f"{family}.var"] * live
    for family in "XY":  # of three tokens
        made[f"{family}.l2"] = np.sqrt(3 * (made[f"{family}.var"] + made[f"{family}.mean"] ** 2))
    return made


def defined(root: Node, leaves: dict[str, np.ndarray]) -> bool:
    """Whether every step is finite, of moderate size, and not so near another that rounding hides which is larger."""
    steps = [evaluate(n, leaves) for n in topological(root)]
    return all(np.isfinite(s).all() and (np.abs(s) < 1e8).all() for s in steps)


def agree(rule: Rule, left: Node, right: Node, per: str, leaves: dict[str, np.ndarray]) -> bool:
    """Whether a right side does what the rule promises."""
    a = np.broadcast_to(evaluate(left, leaves), leaves["W"].shape)
    b = np.broadcast_to(evaluate(right, leaves), leaves["W"].shape)
    if not np.isfinite(b).all():
        return False
    scale = max(1.0, *(float(np.abs(evaluate(n, leaves)).max()) for n in (*topological(left), *topological(right))))
    if rule.kind != "rank":
        return bool((a == b).all()) if rule.kind == "exact" else bool(np.abs(a - b).max() <= 1e-9 * scale)
    if per == "col":
        a, b = a.T, b.T
    rows = [(a.ravel(), b.ravel())] if per == "layer" else list(zip(a, b, strict=True))
    for u, v in rows:
        du, dv = np.subtract.outer(u, u), np.subtract.outer(v, v)
        near = 1e-9 * scale
        if ((np.abs(du) > near) & (np.abs(dv) > near) & (np.sign(du) != np.sign(dv))).any():
            return False
        if ((np.abs(du) > 1e-6 * scale) & (dv == 0)).any() or ((np.abs(dv) > 1e-6 * scale) & (du == 0)).any():
            return False
    return True


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_a_rule_holds_over_its_domain(rule: Rule) -> None:
    checked = 0
    for i, (left, right, per) in enumerate(cases(rule, seed=1)):
        for seed in range(3 * i, 3 * i + 6):
            leaves = probe(seed)
            if defined(left, leaves):
                checked += 1
                assert agree(rule, left, right, per, leaves), (
                    f"{rule}: {expression(left)} is not {expression(right)} per {per}, probe {seed}"
                )
    assert checked >= 20


CONDITIONS = [(rule, c) for rule in RULES for c in rule.conditions]


@pytest.mark.parametrize(("rule", "condition"), CONDITIONS, ids=lambda v: v.name if isinstance(v, Rule) else v)
def test_a_rule_needs_each_of_its_conditions(rule: Rule, condition: str) -> None:
    """Without a condition there is a counterexample; without one in brackets there is none."""
    broken = checked = 0
    for i, (left, right, per) in enumerate(cases(rule, seed=2, failing=condition, count=150)):
        if condition.startswith("(") and any(n.value == 0 for n in topological(left)):
            continue  # x ^ 0 never stands in a normal form
        for seed in range(3 * i, 3 * i + 4):
            leaves = probe(seed)
            if defined(left, leaves):
                checked += 1
                broken += not agree(rule, left, right, per, leaves)
    assert checked > 0
    assert (broken > 0) == (not condition.startswith("("))


# Termination

WEIGHT = {"exp": (1, 3.0), "pow": (2, 0.5), "abs": (2, 0.0), "norm": (40, 7.0), "mean": (5, 30.0), "std": (10, 1.0)}
WEIGHT |= dict.fromkeys(("sign", "ln", "tanh", "sigmoid"), (2, 0.5)) | dict.fromkeys(("sqr", "sqrt"), (2, 1.0))
WEIGHT |= dict.fromkeys(("sum", "var", "amin", "amax", "quantile", "rank", "tail"), (5, 0.0))
WEIGHT |= {"median": (5, 1.0), "neg": (1, 1.0), "sub": (1, 1.0), "clamp": (1, 1.0)}


def weight(root: Node, ln: float = 0.5) -> float:
    """The weight of a term, as `rules.py` makes it up."""
    weights: dict[Node, float] = {}
    for node in topological(root):
        args = node.args
        if not args:
            weights[node] = 2.0
            continue
        if node.op in ("mul", "add", "min", "max"):
            args = tuple(a for a in args if a.op != "number") or args[:1]
        elif node.op in ("quantile", "norm") or (node.op == "pow" and args[1].op == "number"):
            args = args[:1]
        if node.op == "div":
            weights[node] = weights[args[0]] + 2 * weights[args[1]] + 2
            continue
        times, more = WEIGHT.get(node.op, (1, 0.0))
        inner = sum(weights[a] for a in args) + (0.25 if node.op in ("min", "max") else 1) * (len(args) - 1)
        weights[node] = times * inner + (ln if node.op == "ln" else more)
    return weights[root]


def sums_inside(root: Node) -> int:
    """How many signs stand between terms inside of reductions `sum`, each counted for every one around it."""
    inside: dict[Node, int] = {}
    signs: dict[Node, int] = {}
    for node in topological(root):
        signs[node] = sum(signs[a] for a in node.args) + (len(node.args) - 1 if node.op == "add" else 0)
        inside[node] = sum(inside[a] for a in node.args) + (signs[node.args[0]] if node.op == "sum" else 0)
    return inside[root]


TURNING = ("abs", "sign", "tanh", "amin", "amax", "var", "quantile")


def rest_of_measure(root: Node) -> tuple[int, ...]:
    """What is lowered by the rules that keep the weight: turned sums under functions that can turn them, maxima of
    minima, the minima and maxima around functions, the depth of negative numbers and of all."""
    turned = bounded = negative = depth = maxima = 0
    waiting = [(root, 1, "", 0)]
    while waiting:
        node, level, parent, bounds = waiting.pop()
        turned += node.op in TURNING and is_turned(node.args[0])
        maxima += node.op == "max" and any(a.op == "min" for a in node.args)
        bounded += bounds * (node.op in ("exp", "tanh", "sign", "pow"))
        if node.op == "number":
            depth += level
            negative += level * (float(node.value or 0) < 0 and parent != "add")
        bounds += node.op in ("min", "max")
        waiting += [(a, level + (node.op not in ("add", "mul")), node.op, bounds) for a in node.args]
    return turned, maxima, bounded, negative, depth


@settings(max_examples=400, deadline=None)
@given(EXPRESSIONS, GROUPS)
@example(inline("norm(sqrt(W + X), 2) * W").core, "row")  # of a sum whose terms have different axes
def test_every_rule_makes_a_term_lighter(node: Node, per: str) -> None:
    for step in derive(node, per):
        if step.rule.normal:
            continue
        if step.rule.name == "sum of sum":  # heavier by the sizes of axes that a term lacks
            assert sums_inside(step.after) < sums_inside(step.before)
            continue
        ln = 10.0 if step.rule.kind == "rank" else 0.5
        before, after = weight(step.before, ln), weight(step.after, ln)
        assert after <= before, f"{step.rule.name}: {step.before} → {step.after}"
        if after == before:
            assert rest_of_measure(canonical(step.after)) < rest_of_measure(step.before), step.rule.name


# The order of the rules


def copied(root: Node) -> Node:
    """The same expression, built anew."""
    copies: dict[Node, Node] = {}
    for node in topological(root):
        copies[node] = make(node.op, *(copies[a] for a in node.args), value=node.value)
    return copies[root]


@settings(max_examples=1500, deadline=None)
@given(EXPRESSIONS, GROUPS, st.integers(0, 7))
def test_the_order_of_the_rules_does_not_matter(node: Node, per: str, seed: int) -> None:
    if any(n.sign == Sign.NONE for n in topological(canonical(node))):
        return  # 0 ^ -1: nowhere defined
    if any(n.op == "ln" and n.args[0].sign.non_positive for n in topological(canonical(node))):
        return  # ln 0 neither
    forms = []
    for order in (None, seed):
        rules = list(RULES)
        if order is not None:
            random.Random(order).shuffle(rules)
        with pytest.MonkeyPatch.context() as patch, core.forgetting():
            kept, ranking_rules = (
                tuple(r for r in rules if not r.normal and (r.kind == "rank") == rank) for rank in (False, True)
            )
            patch.setattr(engine, "table", partial(compiled, kept))
            patch.setattr(ranking, "table", partial(compiled, ranking_rules))
            ranking.strip_of.cache_clear()
            root = copied(node)
            forms.append((text(canonical(root)), text(rank_class(root, per))))
    ranking.strip_of.cache_clear()
    assert forms[0] == forms[1], expression(node)


@cache
def compiled(rules: tuple[Rule, ...], per: str | None = None) -> object:
    return dispatch(compile_rule(r, MAKERS, per=per) for r in rules)


# Derivations


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS, GROUPS)
@example(inline("max(-X, sqrt(0.5)) + W").core, "row")
@example(inline("clamp(X * 3, -2, -2) + W").core, "row")
@example(inline("max(0, 0.25 * max(W, sqrt(0.5)))").core, "row")
@example(inline("quantile(W + (X + X), 0) + W").core, "row")
def test_a_derivation_leads_to_the_forms(node: Node, per: str) -> None:
    steps = derive(node, per)
    reals = [s for s in steps if s.rule.kind != "rank"]
    ranks = [s for s in steps if s.rule.kind == "rank"]
    assert steps == reals + ranks
    parts = {part for form in canonical_forms(node).values() for part in topological(form)}
    assume(all(part.op in ("number", "leaf") or leaves_of(part) for part in parts))  # 0⁻¹ equals anything
    if reals:
        assert canonical(reals[-1].whole) is canonical(node)
    assert (ranks[-1].whole if ranks else canonical(node)) is rank_class(node, per)


def test_a_derivation_reads_well() -> None:
    metric = inline("exp(sqr(W) * (G - min(G)) / (max(G) - min(G))) per row")
    steps = [s for s in derive(metric.core, "row") if s.rule.kind == "rank"]
    assert [(s.rule.name, expression(plain(s.whole))) for s in steps] == [
        ("strip exp", "sqr(W) * (G - min(G)) / (max(G) - min(G))"),
        ("strip factor", "sqr(W) * (G - min(G))"),
        ("scale exponents", "abs(W) * sqrt(G - min(G))"),
    ]


SAME = [
    ("mean(W + G, in)", "mean(W, in) + mean(G, in)"),
    ("sum(W, in)", "in_features * mean(W, in)"),
    ("std(-2 * W + 1)", "2 * std(W)"),
    ("median(2 * W + Y, in)", "Y + 2 * median(W, in)"),
    ("quantile(-W, 0.25, in)", "-quantile(W, 0.75, in)"),
    ("rank(exp(3 * W), in)", "rank(W, in)"),
    ("tail(3 * W * Y, in)", "3 * Y * tail(W, in)"),
    ("tail(2 * W + 4 * X, in)", "2 * tail(W + 2 * X, in)"),
    ("tail(Y + 0 * W, in)", "in_features * Y"),
    ("min(max(min(W, 3), 1), 2)", "clamp(W, 1, 2)"),
    ("clamp(clamp(W, 0, 1), -1, 5)", "clamp(W, 0, 1)"),
    ("min(W, max(W, G))", "W"),
    ("exp(ln(G) * 2 + W)", "sqr(G) * exp(W)"),
    ("W * G + W * X", "W * (G + X)"),
    ("abs(W - G.mean)", "abs(G.mean - W)"),
    ("sqrt(sqr(W))", "abs(W)"),
    ("W / abs(W)", "sign(W)"),
    ("min(tanh(W), 100)", "tanh(W)"),
    ("max(W, -W)", "abs(W)"),
    ("sum(sum(W, in))", "sum(W)"),
    ("max(sqrt(G), in)", "sqrt(max(G, in))"),
]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_the_same_function_is_found(a: str, b: str) -> None:
    assert canonical(inline(f"W + 0 * ({a})", analyse=False).core) is canonical(W)
    assert value(a) is value(b)


def value(text: str) -> Node:
    """The canonical form of an expression that may be the same for a whole row."""
    form = canonical(inline(f"exp(W) * ({text})", analyse=False).core)
    return canonical(make("div", form, make("exp", W)))


MMS, ZSN = "(({0}) - min({0})) / (max({0}) - min({0}))", "(({0}) - mean({0})) / std({0})"
SAME_RANK = [
    (MMS.format(MMS.format("G")), "G"),
    (ZSN.format(MMS.format("abs(W) * G")), "abs(W) * G"),
    (MMS.format(ZSN.format("G") + " * 3 + 1"), "G"),
    ("abs(W) * " + MMS.format("5 * G + 2"), "abs(W) * " + MMS.format("G")),
    ("abs(W) + tanh(abs(W))", "abs(W)"),
    ("abs(W) * exp(min(abs(W), 100))", "abs(W)"),
    ("G + min(G, 2)", "G"),
    ("ln(abs(W)) + ln(G)", "abs(W) * G"),
    ("abs(W) / (norm(X, 2) / norm(G, 2))", "abs(W)"),
    ("W ^ 3", "W"),
    ("rank(abs(W), in)", "abs(W)"),
    ("-tail(exp(W), in)", "W"),
    ("tail(-abs(W))", "-abs(W)"),
    ("-tail(-abs(W) * X, in) / sum(abs(W) * X, in)", "abs(W) * X"),
    ("sqr(W) / tail(sqr(W), in)", "abs(W)"),
    ("exp(min(-abs(W), 100))", "-abs(W)"),
    ("norm(Y, 2) * G + norm(Y, 2) * W", "norm(Y, 2) * (G + W)"),
]
DIFFERENT_RANK = [
    ("abs(W) * norm(G, 2)", "abs(W)"),  # all alike where G is zero throughout
    ("min(abs(W), 1)", "abs(W)"),
    ("W + sqr(W)", "W"),
    ("W * exp(W)", "W"),
    ("abs(W) - tanh(abs(W))", "abs(W)"),
    ("rank(abs(W), out)", "abs(W)"),
    ("abs(W) * sign(G)", "abs(W)"),
]


@pytest.mark.parametrize(("a", "b"), SAME_RANK)
def test_the_same_ranking_is_found(a: str, b: str) -> None:
    a, b = (inline(f"{text} per row", analyse=False).core for text in (a, b))
    assert rank_class(a, "row") is rank_class(b, "row")


@pytest.mark.parametrize(("a", "b"), DIFFERENT_RANK)
def test_different_rankings_are_kept_apart(a: str, b: str) -> None:
    a, b = (inline(f"{text} per row", analyse=False).core for text in (a, b))
    assert rank_class(a, "row") is not rank_class(b, "row")


def test_a_pattern_is_a_group_of_its_own() -> None:
    metric = inline("sqr(W) * X / sum(G, in) per row")
    assert rank_class(metric.core, "2:4") is rank_class(metric.core, "row")
    assert keys(metric.core, "2:4").rank != keys(metric.core, "row").rank
    assert keys(metric.core, "2:4").rank == keys(inline("abs(W) * sqrt(X)").core, "2:4").rank


def test_high_expressions_are_no_trouble() -> None:
    x = make("abs", W)
    for _ in range(3000):
        x = make("exp", make("neg", make("tanh", make("add", x, leaf("X.l2")))))
    assert rank_class(make("amin", x, value="out"), "row").height > 3000
    assert derive(make("neg", make("exp", W)), "row")


def test_nor_are_high_products_whose_factors_follow_each_other() -> None:
    x = make("abs", W)
    for _ in range(1000):
        x = make("mul", make("tanh", x), make("div", x, make("add", number(1.0), x)))
    assert rank_class(x, "row").height > 1000


def test_pairs_in_a_wide_maximum_are_looked_for_in_a_limited_part() -> None:
    compared = 0

    def never(x: Node, y: Node) -> bool:
        nonlocal compared
        compared += 1
        return False

    rule = compile_rule(BY_NAME["larger one"], replace(MAKERS, at_most=never))
    for width in (3, WIDEST, 4 * WIDEST, 16 * WIDEST):
        compared = 0
        wide = make("max", *(make("tanh", make("mul", number(2 + i), W)) for i in range(width)))
        assert rule.match(wide.args, None) is None
        assert compared == min(width, WIDEST) * (min(width, WIDEST) - 1)


def test_a_bound_of_a_wide_maximum_is_seen() -> None:
    sigmoids = [make("sigmoid", make("mul", number(2 + i), W)) for i in range(2 * WIDEST)]
    assert canonical(make("max", *sigmoids, number(-1))) is canonical(make("max", *sigmoids))


# Opposing operations, as published

LEAF = {name: {"data": name} for name in "WXG"}


def tree(op: str, left: dict, right: dict | None = None) -> dict:
    return {"data": op, "left": left, **({"right": right} if right else {})}


OPPOSING = [
    (tree("exp", tree("log", LEAF["W"])), LEAF["W"], [True]),
    (tree("log", tree("exp", LEAF["W"])), LEAF["W"], [True]),
    (tree("sqrt", tree("sqr", LEAF["W"])), LEAF["W"], [False]),
    (tree("sqrt", tree("sqr", tree("sub", LEAF["W"], LEAF["G"]))), tree("sub", LEAF["W"], LEAF["G"]), [True]),
    (tree("neg", tree("neg", LEAF["G"])), LEAF["G"], [False]),
    (tree("add", tree("sub", LEAF["W"], LEAF["X"]), LEAF["X"]), LEAF["W"], [False]),
    (tree("div", tree("mul", LEAF["W"], LEAF["X"]), LEAF["X"]), LEAF["W"], [True]),
    (tree("neg", tree("exp", tree("log", tree("neg", LEAF["W"])))), LEAF["W"], [True, False]),
    (tree("mul", tree("sqr", LEAF["W"]), tree("mms", LEAF["G"])), None, []),
]


@pytest.mark.parametrize(("before", "after", "changed"), OPPOSING)
def test_opposing_operations_are_removed_as_published(before: dict, after: dict | None, changed: list[bool]) -> None:
    found, steps = simplify(before)
    assert found == (after or before)
    assert [s.changed for s in steps] == changed
