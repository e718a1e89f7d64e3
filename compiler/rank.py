"""Rank forms and keys: what is left of a metric when everything is dropped that changes no order inside a group.

What drops: strictly increasing functions at the root, positive factors and any addends that are constant inside the
group, and a common scale of the exponents of a product of non-negative factors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from pzc.compiler.canonical import (
    MINUS_ONE,
    absolute,
    add,
    base_and_exponent,
    canonical,
    coefficient,
    mul,
    power,
    scaled,
    text,
)
from pzc.compiler.core import Node, leaf
from pzc.compiler.groups import constant_in

LAYERS = 200
"""How many layers a rank form strips at most; each is sound alone, so stopping early only misses a likeness."""

_INCREASING = {"exp", "tanh", "sigmoid", "ln"}


def rank_form(form: Node, per: str) -> Node:
    """What is left of a canonical graph when everything is dropped that changes no order inside a group."""
    direction = 1.0
    for _ in range(LAYERS):
        node, flips = _strip(form, per)
        direction *= -1.0 if flips else 1.0
        if node is form:
            break
        form = node
    return form if direction > 0 else mul([MINUS_ONE, form])


def _strip(node: Node, per: str) -> tuple[Node, bool]:
    """One layer less at the root, and whether that turns the order round."""
    if constant_in(node, per):
        return node, False
    if node.op in _INCREASING:
        return node.args[0], False
    base, e = base_and_exponent(node)
    if base is not node and base.sign.non_negative:
        return base, e < 0
    if node.op == "add":
        varying = add(t for t in node.args if not constant_in(t, per))
        if varying.op != "add":
            return varying, False
        terms = [coefficient(t) for t in varying.args]
        scale = abs(terms[0][0])
        return add(scaled(weight / scale, rest) for weight, rest in terms), False
    if node.op == "mul":
        return _strip_product(node, per)
    return node, False


def _strip_product(node: Node, per: str) -> tuple[Node, bool]:
    dropped = [f for f in node.args if constant_in(f, per) and (f.sign.positive or f.sign.negative)]
    if dropped:
        flips = sum(f.sign.negative for f in dropped) % 2 == 1
        return mul(f for f in node.args if f not in dropped), flips
    exponents = {base: e for base, e in map(base_and_exponent, node.args) if base.op != "exp"}
    if exponents and all(base.sign.non_negative for base in exponents):
        # The exponent of one factor becomes 1: that of |W|, else of the base whose text comes first. Neither choice
        # changes when all exponents are scaled; e^x is no such base, since its scale goes into x.
        base = absolute(leaf("W"))
        exponent = abs(exponents[base if base in exponents else min(exponents, key=text)])
        if exponent != 1:
            return power(node, 1 / exponent), False
    return node, False


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
    """The three keys of a score under a comparison group. A pattern N:M ranks as `row` does."""
    form = canonical(root)
    return Keys(_sha256(text(root)), _sha256(text(form)), _sha256(f"{per} {text(rank_form(form, per))}"))
