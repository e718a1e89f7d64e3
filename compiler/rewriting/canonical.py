"""Canonical forms: one graph for all expressions that are equal as real functions.

The canonical graph uses n-ary `add` and `mul` with sorted arguments, and powers with a number as exponent; the
spellings `neg sub div sqr sqrt clamp norm mean std median` are gone. Every step keeps the value wherever the
expression is defined. It may be defined in more places: `x / x` becomes 1 though 0 / 0 is an error, which whoever runs
the metric as it is written will meet.

The rules are those of `rules.py`. Arguments come before their users: `arithmetic.py`, `extremes.py` and `reductions.py`
make what the table marks `normal`, `engine.py` applies the others by matching. A node remembers its canonical form.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from pzc.compiler.core import Node, topological
from pzc.compiler.functions import OVER_AXES
from pzc.compiler.rewriting.engine import NORMAL, build, settle
from pzc.compiler.rewriting.makers import reduced, spellings
from pzc.compiler.rewriting.terms import over_of

_NESTED = 50
"""Expressions that are higher are settled from the leaves on, lower ones by recursion."""


def canonical(root: Node) -> Node:
    """The canonical graph of an expression: equal results are equal real functions."""
    form = root if root.settled else root.form
    if form is None:
        if root.height > _NESTED:
            for node in topological(root):
                _form(node)
        form = _form(root)
    return form


@cache
def _heads() -> dict[str, Callable[[tuple[Node, ...]], Node]]:
    """What makes the canonical form of an operation from canonical arguments at once."""
    return {**NORMAL, **spellings()}


def _form(node: Node) -> Node:
    """The canonical form of a node, after those of its arguments."""
    if node.settled or node.form is not None:
        return node.form or node
    op, args = node.op, node.args
    if len(args) == 2:
        x, y = args
        forms: tuple[Node, ...] = (x if x.settled else x.form or _form(x), y if y.settled else y.form or _form(y))
    else:
        forms = tuple([a if a.settled else a.form or _form(a) for a in args])
    head = _heads().get(op)
    if head is not None:
        form = head(forms)
    elif op in OVER_AXES:
        form = reduced(op, forms, over_of(node))
    else:
        form = settle(node) if forms == args else build(op, forms, node.value)
    if form is node:
        node.settled = True
    else:
        node.form = form
    return form


def canonical_forms(root: Node) -> dict[Node, Node]:
    """The canonical graph of every part of an expression."""
    return {node: canonical(node) for node in topological(root)}
