"""The engine: brings an operation on canonical arguments to canonical form, by the normal form or the first rule that
fits. A node remembers what became of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from pzc.compiler.core import Node, Value, existing, intern, value_of
from pzc.compiler.rewriting.rules import MATCHED
from pzc.compiler.rewriting.terms import coefficient, number_of

if TYPE_CHECKING:
    from pzc.compiler.rewriting.matching import Table

Make = Callable[[tuple[Node, ...]], Node]

HIGHEST = 100
"""Rules that move one operation past another go down an expression by recursion. They are left out for what is higher
than this, which only misses a likeness."""

SPELLINGS = frozenset({"neg", "sub", "div", "sqr", "sqrt", "clamp", "norm", "mean", "std", "median"})

NORMAL: dict[str, Make] = {}
"""What makes the canonical form of an operation whose arguments are canonical at once: filled by
`arithmetic.py`, and for minima and maxima by `makers.py`."""

_laws: list[str] | None = None


@contextmanager
def noting() -> Iterator[list[str]]:
    """The laws that the normal form needs inside this context, in their order."""
    global _laws
    before, _laws = _laws, []
    try:
        yield _laws
    finally:
        _laws = before


def note(law: str) -> None:
    """A law of the normal form was needed."""
    if _laws is not None:
        _laws.append(law)


_FOLDS: dict[str, Callable[..., float]] = {
    "pow": lambda x, y: float(x**y) if not isinstance(x**y, complex) else math.nan,
    "exp": math.exp,
    "ln": math.log,
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "abs": abs,
    "sign": lambda x: float((x > 0) - (x < 0)),
}


def folded(op: str, args: tuple[Node, ...]) -> Node:
    """A constant, or the operation as it stands where its value is not a finite real number."""
    try:
        result = _FOLDS[op](*(value_of(a) for a in args))
    except (ArithmeticError, ValueError):
        result = math.nan
    if math.isfinite(result):
        note("numbers")
        return number_of(result)
    node = intern(op, args)
    node.settled = True
    return node


@cache
def table() -> Table:
    """The rules of canonical forms, by operation."""
    from pzc.compiler.rewriting.makers import MAKERS  # which make what the rules write, by this module
    from pzc.compiler.rewriting.matching import compile_rule, dispatch

    return dispatch(compile_rule(rule, MAKERS) for rule in MATCHED)


def build(op: str, args: tuple[Node, ...], value: Value = None) -> Node:
    """The canonical form of an operation on canonical arguments. Nodes that become others are not made."""
    node = existing(op, args, value)
    if node is not None:
        return node if node.settled else settle(node)
    normal = NORMAL.get(op)
    if normal is not None:
        return normal(args)
    return rewritten(op, args, value)


def settle(node: Node) -> Node:
    """The canonical form of a node whose arguments are canonical."""
    if node.settled:
        return node
    form = node.form
    if form is None:
        normal = NORMAL.get(node.op)
        if normal is not None:
            form = normal(node.args)
        elif node.args:
            form = rewritten(node.op, node.args, node.value)
        else:
            form = node
        if form is node:
            node.settled = True
        else:
            node.form = form
    return form


def rewritten(op: str, args: tuple[Node, ...], value: Value = None) -> Node:
    """The canonical form of an operation whose arguments are canonical and in order, by the first rule of the table
    that fits."""
    first = args[0]
    if first.op == "number" and op in _FOLDS and (len(args) == 1 or args[1].op == "number"):
        return folded(op, args)
    rules = table().get(op)
    if rules and (first.height < HIGHEST or op in SPELLINGS):
        for rule in rules.get(first.op) or rules[None]:
            env = rule.match(args, value)
            if env is not None:
                return rule.build(env)
    node = intern(op, args, value)
    if op in ("abs", "sign") and first.op == "add" and abs(coefficient(first.args[0])[0]) != 1:
        return NORMAL["mul"]((node,))
    node.settled = True
    return node


def in_order(op: str, args: tuple[Node, ...]) -> Node:
    """The canonical form of a minimum or maximum whose arguments are canonical and sorted."""
    node = existing(op, args)
    return node if node is not None and node.settled else rewritten(op, args)
