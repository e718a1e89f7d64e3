"""Rank forms and keys: what is left of a metric when everything is dropped that changes no order inside a group.

What drops: strictly increasing functions at the root, positive factors and any addends that are constant inside the
group, and a common scale of the exponents of a product of non-negative factors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from pzc.compiler import matching
from pzc.compiler.canonical import (
    HIGHEST,
    MAKERS,
    MINUS_ONE,
    base_and_exponent,
    build,
    canonical,
    mul,
    power,
    text,
    times,
)
from pzc.compiler.core import Node, digest, leaf, make, topological
from pzc.compiler.groups import constant_in
from pzc.compiler.matching import SEVERAL_LAYERS, coefficient, dispatch, factors_of
from pzc.compiler.rules import BY_NAME, RULES, Rule

Trace = Callable[[Rule, Node, Node, bool], None]


@cache
def table() -> matching.Table:
    """The rank rules of the table, by operation."""
    return dispatch(matching.compile_rule(r, MAKERS) for r in RULES if r.kind == "rank" and not r.normal)


def rank_class(root: Node, per: str) -> Node:
    """The canonical graph of what ranks as a score does: of two scores that are known to rank alike inside every
    comparison group it is the same node, for as long as one of them is kept."""
    form = rank_form(canonical(root), per)
    return divided(root, form, per) if _has_open_factor(form, per) else form


def divided(root: Node, form: Node, per: str, trace: Trace | None = None) -> Node:
    """The rank form of a score without the factors by which the score divides somewhere: they are not zero where it is
    defined. Which these are, its canonical form no longer says: x / (1 / k) is x · k."""
    known: set[Node] | None = None
    while _has_open_factor(form, per):
        known = _divisors(root) if known is None else known
        open_factors = [f for f in form.args if _is_open(f, per) and base_and_exponent(f)[0] in known]
        if not open_factors:
            break
        after = mul(f for f in form.args if f not in open_factors)
        if trace:
            trace(BY_NAME["strip divisor"], form, after, False)
        form = rank_form(after, per, trace)
    return form


def _is_open(f: Node, per: str) -> bool:
    """Whether a factor would drop if only it could not be zero."""
    return f.sign.non_negative and not f.sign.positive and constant_in(f, per)


def _has_open_factor(form: Node, per: str) -> bool:
    return form.op == "mul" and any(_is_open(f, per) for f in form.args)


def _divisors(root: Node) -> set[Node]:
    """The bases of the canonical forms of all divisors and of what is raised to negative powers."""
    found: set[Node] = set()
    for node in topological(root):
        if node.op == "div" or (
            node.op == "pow" and node.args[1].op == "number" and float(node.args[1].value or 0) < 0
        ):
            divisor = canonical(node.args[node.op == "div"])
            found.update(base_and_exponent(f)[0] for f in factors_of(divisor))
    return found


def rank_form(form: Node, per: str, trace: Trace | None = None) -> Node:
    """What is left of a canonical graph when everything is dropped that changes no order inside a group."""
    if form.ranks is not None and per in form.ranks and trace is None:
        return form.ranks[per] or form
    node, turned = form, False
    while not constant_in(node, per):
        found = _strip(node, per)
        if found is None:
            break
        rule, after, flips = found
        if trace:
            trace(rule, node, after, flips)
        turned ^= flips
        node = after
    result = mul([MINUS_ONE, node]) if turned else node
    if form.ranks is None:
        form.ranks = {}
    form.ranks[per] = None if result is form else result
    return result


def _strip(node: Node, per: str) -> tuple[Rule, Node, bool] | None:
    """One layer less at the root: the rule, what is left, and whether that turns the order round."""
    rules = table().get(node.op)
    if rules:
        for rule in rules.get(node.args[0].op) or rules[None]:
            env = rule.match(node, per)
            if env is not None:
                return rule.rule, rule.build(env), rule.flips
    for name, law in _LAWS.get(node.op, ()):
        after = law(node, per)
        if after is not None and after is not node:
            return BY_NAME[name], after, False
    return None


def _leading(node: Node, per: str) -> Node | None:
    """What one part of a sum or product ranks as, if no part goes down where that goes up: the whole ranks so too."""
    axes = node.axes
    for part in node.args if node.height <= HIGHEST else ():
        if part.axes == axes:
            form = rank_form(part, per)
            if all(other is part or _follows(rank_form(other, per), form, per) for other in node.args):
                return form
    return None


def _follows(x: Node, leader: Node, per: str) -> bool:
    """Whether x never goes down where the leader goes up, nor changes where it stays: it is made of it by functions
    that do not decrease. Both are rank forms."""
    if x is leader or constant_in(x, per):
        return True
    if x.op in ("min", "max", "add"):
        return all(_follows(rank_form(a, per), leader, per) for a in x.args)
    if x.op == "mul":
        return all(a.sign.non_negative and _follows(rank_form(a, per), leader, per) for a in x.args)
    return x.op == "sign" and _follows(rank_form(x.args[0], per), leader, per)


def _leading_factor(node: Node, per: str) -> Node | None:
    """The same for a product of factors that are never negative, nor zero where they do not follow strictly."""
    if not all(f.sign.non_negative for f in node.args):
        return None
    form = _leading(node, per)
    return form if form and all(f.sign.positive or rank_form(f, per) is form for f in node.args) else None


def _alike(node: Node, per: str) -> Node | None:
    """What all arguments rank as, where that is the same: their minimum and maximum rank so too."""
    if node.height > HIGHEST:
        return None
    form = rank_form(node.args[0], per)
    return form if all(rank_form(a, per) is form for a in node.args[1:]) else None


def _second_moment(family: str) -> Callable[[Node, str], Node | None]:
    """A factor E[x²] = Var x + (E x)² becomes ‖x‖², which is n times as large, for a layer's n tokens."""

    variance = f"{family}.var"

    def law(node: Node, per: str) -> Node | None:
        if per in SEVERAL_LAYERS:  # whose numbers of tokens may differ
            return None
        for factor in factors_of(node):
            base, e = base_and_exponent(factor)
            if base.op == "add" and any(a.value == variance for a in base.args) and base is _moment(family):
                size = power(canonical(leaf(f"{family}.l2")), 2 * e)
                return mul([*(f for f in factors_of(node) if f is not factor), size])
        return None

    return law


def _moment(family: str) -> Node:
    return canonical(make("add", leaf(f"{family}.var"), make("sqr", leaf(f"{family}.mean"))))


def _scaled_terms(node: Node, per: str) -> Node:
    """The first coefficient becomes 1 or −1."""
    scale = abs(coefficient(node.args[0])[0])
    return node if scale == 1 else times(node, 1.0, scale)


def _scaled_exponents(node: Node, per: str) -> Node | None:
    """The exponent of one factor becomes 1: that of |W|, else of the base whose digest is the least. Neither choice
    changes when all exponents are scaled; e^x is no such base, since its scale goes into x."""
    exponents: dict[Node, float] = {}
    of_weight = None
    for factor in factors_of(node):
        if not factor.sign.non_negative:
            return None
        base, e = base_and_exponent(factor)
        if base.op != "exp":
            base = base if base.sign.non_negative else build("abs", (base,))
            exponents[base] = e
            if base.op == "abs" and base.args[0].value == "W":
                of_weight = e
    if not exponents:
        return None
    e = abs(exponents[min(exponents, key=digest)] if of_weight is None else of_weight)
    return None if e == 1 else power(node, 1 / e)


_MOMENTS = (("second moment", _second_moment("X")), ("second moment of outputs", _second_moment("Y")))

_LAWS: dict[str, tuple[tuple[str, Callable[[Node, str], Node | None]], ...]] = {
    "add": (*_MOMENTS, ("scale terms", _scaled_terms), ("monotone sum", _leading)),
    "mul": (*_MOMENTS, ("scale exponents", _scaled_exponents), ("monotone product", _leading_factor)),
    "min": (("monotone minimum", _alike),),
    "max": (("monotone maximum", _alike),),
}
"""The laws of the table that are code, by operation."""


@dataclass(frozen=True)
class Keys:
    """What identifies a metric: SHA-256 in hex.

    `exact`: the same graph up to commutative order; `real`: the same real function; `rank`: the same order inside
    every comparison group, so the same mask for every model and sparsity.
    """

    exact: str
    real: str
    rank: str


def _sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def keys_of_arms(arms: Sequence[tuple[tuple[str, ...], Keys]]) -> Keys:
    """The keys of a metric by role, from the layers and the keys of each of its arms in their order."""

    def joined(kind: str) -> str:
        return _sha256("\n".join(f"{', '.join(layers)}: {getattr(each, kind)}" for layers, each in arms))

    return Keys(joined("exact"), joined("real"), joined("rank"))


def keys(root: Node, per: str) -> Keys:
    """The three keys of a score under a comparison group, which may be a pattern such as `2:4`."""
    return Keys(_sha256(text(root)), _sha256(text(canonical(root))), _sha256(f"{per} {text(rank_class(root, per))}"))
