"""Opposing operations, as Pruner-Zero simplifies: an operator directly over its opposite is removed together with it.

That is done to its trees after mutation (Dong et al., Pruner-Zero, ICML 2024, arXiv 2406.02924, algorithm 1); the code
was never released. The pairs are exp and log, sqr and sqrt, neg and neg, add and sub, mul and div. Of a pair of binary
operators one operand is left, and the paper does not say which; here a pair goes where the same operand was put on and
taken off, as in (a + b) − b, and a is left. On the release's own operators most of these pairs are not opposite:
exp(log x) is |x| + 0.001, and div(mul(a, b), b) is a · b / ‖b‖. Each step says whether it kept the meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from pzc.compiler.core import Node, leaf, make, number
from pzc.compiler.language.lower import write_out
from pzc.compiler.language.spaces import Op
from pzc.compiler.metric import compile_source
from pzc.compiler.rewriting.canonical import canonical

Tree = dict[str, Any]

UNARY = {"exp": "log", "log": "exp", "sqr": "sqrt", "sqrt": "sqr", "neg": "neg"}
BINARY = {"add": "sub", "sub": "add", "mul": "div", "div": "mul"}
"""Each operator of the release with its opposite."""


@dataclass(frozen=True)
class Removal:
    """A pair that was removed: the operator above, the tree before and after, and whether the release's operators give
    another value after it than before."""

    operator: str
    before: Tree
    after: Tree
    changed: bool


def simplify(tree: Tree) -> tuple[Tree, list[Removal]]:
    """The tree of the release (`trees.py`) without opposing pairs, innermost first, and what was removed."""
    steps: list[Removal] = []
    done: list[Tree] = []
    waiting: list[tuple[Tree, bool]] = [(tree, False)]
    while waiting:  # children before their parents, without recursion
        node, entered = waiting.pop()
        sides = [side for side in ("left", "right") if node.get(side) is not None]
        if not entered:
            waiting.append((node, True))
            waiting += [(node[side], False) for side in reversed(sides)]
            continue
        children = [done.pop() for _ in sides][::-1]
        current = {"data": node["data"], **dict(zip(sides, children, strict=True))}
        done.append(_without_pair(current, steps))
    return done[0], steps


def _without_pair(node: Tree, steps: list[Removal]) -> Tree:
    """A node whose children are simplified; what is left of a pair may be simplified already."""
    after = _left_of_pair(node)
    if after is None:
        return node
    operator = node["data"]
    changed = canonical(graph(node)) is not canonical(graph(after))
    steps.append(Removal(operator, node, after, changed))
    return after


def _left_of_pair(node: Tree) -> Tree | None:
    operator, left, right = node["data"], node.get("left"), node.get("right")
    if operator in UNARY and left is not None and left["data"] == UNARY[operator]:
        inner: Tree = left["left"]
        return inner
    if operator not in BINARY or left is None or right is None:
        return None
    if left["data"] == BINARY[operator]:  # (a − b) + b, (a + b) − b, (a / b) · b, (a · b) / b
        a, b = left["left"], left["right"]
        if b == right:
            return dict(a)
        if a == right and operator in ("sub", "div"):  # (a + b) − a, (a · b) / a
            return dict(b)
    if operator in ("add", "mul") and right["data"] == BINARY[operator] and right["right"] == left:  # b + (a − b)
        return dict(right["left"])
    return None


@cache
def _operators() -> dict[str, Op]:
    source = "pzm 1 use paper space all { leaves: W ops: paper.* }"
    return {op.name.removeprefix("paper."): op for op, _ in compile_source(source, "paper").spaces[0].ops}


@cache
def _leaves() -> dict[str, Node]:
    return {
        "W": make("abs", leaf("W")),
        "X": make("div", make("sqr", leaf("X.l2")), leaf("windows")),
        "G": make("mul", number(100), leaf("G.l2")),
    }


def graph(tree: Tree) -> Node:
    """The core graph of a tree as the release computes it. Scaling a single number leaves it as it is."""
    if tree["data"] in _leaves():
        return _leaves()[tree["data"]]
    args = tuple(graph(tree[side]) for side in ("left", "right") if tree.get(side) is not None)
    return apply(tree["data"], args)


def apply(operator: str, args: tuple[Node, ...]) -> Node:
    """One operator of the release on core graphs."""
    op = _operators()[operator]
    if op.function is None:
        return make(op.core, *args)
    written = write_out(op.function, args)
    return args[0] if written is None else written
