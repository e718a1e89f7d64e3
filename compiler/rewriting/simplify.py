"""Shorter metrics that mean the same: without what is redundant, or from the canonical form, whichever is shorter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pzc.compiler.core import Node, make, size, topological
from pzc.compiler.limits import in_float32
from pzc.compiler.rewriting.arithmetic import power
from pzc.compiler.rewriting.canonical import canonical
from pzc.compiler.rewriting.plain import plain
from pzc.compiler.rewriting.rank import rank_class
from pzc.compiler.rewriting.terms import base_and_exponent, factors_of
from pzc.compiler.source import expression

Keep = Literal["rank", "real"]

LARGEST = 300
"""Operations and leaves of a score of which every part is tried without; a larger one only gets its canonical form."""


@dataclass(frozen=True)
class Redundant:
    """A part of a score that can go, in words, and the score without it."""

    what: str
    score: Node


def form_of(root: Node, per: str, keep: Keep = "rank") -> Node:
    """The canonical graph that all scores share that rank alike inside a group, or that are one real function."""
    return rank_class(root, per) if keep == "rank" else canonical(root)


def simplest(root: Node, per: str, keep: Keep = "rank") -> Node:
    """The shortest known score that ranks as `root` does (or, with `real`, is the same function), in the operations
    that people write."""
    form = form_of(root, per, keep)
    parts = redundant(root, per, keep)
    candidates = [root, parts[-1].score if parts else root, plain(form)]
    if keep == "rank":
        candidates += [plain(each) for each in _powers(form)]
    same = [c for c in candidates if c is root or (_can_be_written(c) and form_of(c, per, keep) is form)]
    return min(same, key=lambda c: (size(c), len(expression(c))))


def _can_be_written(score: Node) -> bool:
    """Whether float32 holds all of its numbers."""
    return all(in_float32(n.value) for n in topological(score) if n.op == "number")


def _powers(form: Node) -> Iterator[Node]:
    """A product of factors that are never negative, raised so that one of its exponents becomes 1 or 2."""
    factors = [base_and_exponent(f) for f in factors_of(form)]
    if len(factors) > 1 and form.sign.non_negative:
        for exponent in {abs(e) for _, e in factors}:
            yield power(form, 1 / exponent)
            yield power(form, 2 / exponent)


def redundant(root: Node, per: str, keep: Keep = "rank") -> list[Redundant]:
    """What can go from a score and change no order inside a group (or, with `real`, no value), one part after another:
    each result is what is left after all before it. The largest parts come first."""
    found: list[Redundant] = []
    form = form_of(root, per, keep)
    while size(root) <= LARGEST:
        step = _first(root, form, per, keep)
        if step is None:
            break
        found.append(step)
        root = step.score
    return found


def _first(root: Node, form: Node, per: str, keep: Keep) -> Redundant | None:
    for node in reversed(topological(root)):
        for what, rest in _without(node):
            score = _replaced(root, node, rest)
            if score is not None and score.axes == root.axes and form_of(score, per, keep) is form:
                return Redundant(what, score)
    return None


_OPERANDS = {
    "add": ("the addend", (0, 1)),
    "mul": ("the factor", (0, 1)),
    "sub": ("the subtrahend", (1,)),
    "div": ("the divisor", (1,)),
    "pow": ("the exponent", (1,)),
    "min": ("the bound", (0, 1)),
    "max": ("the bound", (0, 1)),
}
"""Which operands an operation may lose, and what they are called."""

_FUNCTIONS = ("neg", "abs", "sqr", "sqrt", "exp", "ln", "tanh", "sigmoid", "sign", "rank")


def _without(node: Node) -> Iterator[tuple[str, Node]]:
    """What may go from one operation, and what is left of it."""
    if node.op in _FUNCTIONS:
        name = "the minus" if node.op == "neg" else f"`{node.op}`"
        yield f"{name} of `{expression(node.args[0])}`", node.args[0]
    elif node.op in _OPERANDS:
        name, places = _OPERANDS[node.op]
        for i in places:
            yield f"{name} `{expression(node.args[i])}`", node.args[1 - i]
    elif node.op == "clamp":
        yield f"`clamp` of `{expression(node.args[0])}`", node.args[0]


def _replaced(root: Node, node: Node, by: Node) -> Node | None:
    """The score with another node in the place of one, wherever it stands; None where that leaves a reduction without
    its axis."""
    built: dict[Node, Node] = {node: by}
    for each in topological(root):
        if each not in built:
            args = [built[a] for a in each.args]
            value = each.value
            if value in ("in", "out") and each.op != "leaf" and value not in args[0].axes:
                return None
            built[each] = make(each.op, *args, value=value) if args else each
    return built[root]
