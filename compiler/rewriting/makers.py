"""How the right sides of rules are made: in canonical form at once; and what the spellings mean."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from pzc.compiler.analysis.differences import below
from pzc.compiler.analysis.intervals import interval
from pzc.compiler.core import Node, value_of
from pzc.compiler.rewriting.arithmetic import product, total
from pzc.compiler.rewriting.building import Makers
from pzc.compiler.rewriting.engine import NORMAL, build
from pzc.compiler.rewriting.extremes import extreme
from pzc.compiler.rewriting.matching import compile_reduction, compile_spelling
from pzc.compiler.rewriting.reductions import reduction, sizes
from pzc.compiler.rewriting.rules import MATCHED


def made(op: str, args: tuple[Node, ...]) -> Node:
    """The canonical form of an operation on canonical arguments."""
    normal = NORMAL.get(op)
    return normal(args) if normal is not None else build(op, args)


def reduced(op: str, args: tuple[Node, ...], over: int) -> Node:
    """The canonical form of a function over axes, as bits."""
    spelled = spelled_reductions().get(op)
    return spelled(args, over) if spelled else reduction(op, args, over)


def at_most(x: Node, y: Node) -> bool:
    """Whether x is never above y, wherever both are defined."""
    if x.op == "number" and y.op == "number":
        return value_of(x) <= value_of(y)
    if x.sign.non_positive and y.sign.non_negative:
        return True
    if x.op == "number" or y.op == "number":
        low, high = interval(x, usual=False), interval(y, usual=False)
        return not low.empty and not high.empty and low.high <= high.low
    return below(x, y) or total(((y, 1.0), (x, -1.0))).sign.non_negative


MAKERS = Makers(node=made, reduction=reduced, size=sizes, at_most=at_most, product=product, total=total)


NORMAL.update({"min": lambda args: extreme("min", args), "max": lambda args: extreme("max", args)})


@cache
def spellings() -> dict[str, Callable[[tuple[Node, ...]], Node]]:
    """What the rules without a pattern mean, `x - y`: functions of the arguments."""
    return dict(found for rule in MATCHED if (found := compile_spelling(rule, MAKERS)))


@cache
def spelled_reductions() -> dict[str, Callable[[tuple[Node, ...], int], Node]]:
    """The same of reductions, `mean(x, axis)`: functions of the arguments and the axes."""
    return dict(found for rule in MATCHED if (found := compile_reduction(rule, MAKERS)))
