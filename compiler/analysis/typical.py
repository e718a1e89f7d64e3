"""How large most values of an expression are: one rough number for every node of a core graph.

Ranges say what can happen; this says what happens. It is an estimate for layers of common size, good to an order of
magnitude, and serves only to tell a function that saturates now and then from one that nearly always does.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from pzc.compiler.analysis.shares import removed_axes, share_bound
from pzc.compiler.core import Node, topological, value_of
from pzc.compiler.leaves import LEAVES, TYPICAL_POSITIONS

_LARGEST = 1e300
_EXTREME = 4.0
"""How far the extremes of a layer's values lie from most of them: about four standard deviations."""


def typical(root: Node) -> dict[Node, float]:
    """The usual magnitude of the values of every part of an expression."""
    sizes: dict[Node, float] = {}
    for node in topological(root):
        try:
            size = _of(node, [sizes[a] for a in node.args])
        except OverflowError:
            size = _LARGEST
        sizes[node] = min(size, _LARGEST)
    return sizes


def _of(node: Node, args: list[float]) -> float:
    if node.op == "number":
        return abs(value_of(node))
    if node.op == "leaf":
        return LEAVES[str(node.value)].usual.typical
    if node.op in _OVER_AXES:
        n = TYPICAL_POSITIONS ** len(removed_axes(node))
        mixed = not (node.args[0].sign.non_negative or node.args[0].sign.non_positive)
        return _OVER_AXES[node.op](n, mixed, *args)
    if node.op in _OF_NODES:
        return _OF_NODES[node.op](node, *args)
    return _ELEMENTWISE[node.op](*args)


def _power(x: float, e: float) -> float:
    return math.pow(x, e) if x > 0 else 0.0


def _quotient(node: Node, a: float, b: float) -> float:
    return min(a / b if b > 0 else _LARGEST, share_bound(node.args[0], node.args[1]))


def _smaller(node: Node, a: float, b: float) -> float:
    """`min(x, -9)` is about −9, `min(x, 80)` is about x where x is small."""
    below = [size for arg, size in zip(node.args, (a, b), strict=True) if arg.sign.negative]
    return max(below) if below else min(a, b)


def _larger(node: Node, a: float, b: float) -> float:
    above = [size for arg, size in zip(node.args, (a, b), strict=True) if not arg.sign.negative]
    return max(above) if above else min(a, b)


def _clamped(node: Node, x: float, low: float, high: float) -> float:
    least = low if node.args[1].sign.positive else 0.0
    return min(max(x, least), max(low, high))


_ELEMENTWISE: dict[str, Callable[..., float]] = {
    "neg": abs,
    "abs": abs,
    "sqr": lambda x: x * x,
    "sqrt": math.sqrt,
    "ln": lambda x: abs(math.log(x)) if x > 0 else 0.0,
    "tanh": math.tanh,
    "sigmoid": lambda x: 1.0,
    "sign": lambda x: 1.0,
    "add": max,
    "sub": max,
    "mul": lambda a, b: a * b,
}

_OF_NODES: dict[str, Callable[..., float]] = {
    "exp": lambda node, x: math.exp(-x if node.args[0].sign.non_positive else x),
    "div": _quotient,
    "pow": lambda node, x, e: _power(x, -e if node.args[1].sign.negative else e),
    "min": _smaller,
    "max": _larger,
    "clamp": _clamped,
}

_OVER_AXES: dict[str, Callable[..., float]] = {
    # of n values of size x, with mixed signs or all of one sign
    "sum": lambda n, mixed, x: x * (math.sqrt(n) if mixed else n),
    "mean": lambda n, mixed, x: x / (math.sqrt(n) if mixed else 1.0),
    "median": lambda n, mixed, x: x / (math.sqrt(n) if mixed else 1.0),
    "std": lambda n, mixed, x: x,
    "var": lambda n, mixed, x: x * x,
    "amin": lambda n, mixed, x: x * _EXTREME if mixed else x / _EXTREME,
    "amax": lambda n, mixed, x: x * _EXTREME,
    "norm": lambda n, mixed, x, p: x * _power(n, 1 / p),
    "quantile": lambda n, mixed, x, q: x,
    "rank": lambda n, mixed, x: n / 2,
    "tail": lambda n, mixed, x: x * n / 2,
}
