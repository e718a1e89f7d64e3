"""Scores in many decimal digits, for the few pairs where float64 can't tell rounding from falsity.

A slow evaluator of the reference's operations in mpmath: `exp(x) + y` keeps y beside an exponential of 10⁴⁰, and
`tanh(x)` stays below 1 for an x of 100.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mpmath
import numpy as np

from pzc.compiler.core import Node, topological
from pzc.compiler.reference import DIMENSION, Array, aligned

DIGITS = 400
_ONE_BY_ONE = {
    name: np.frompyfunc(f, 1, 1)
    for name, f in {
        "exp": mpmath.exp,
        "ln": mpmath.log,
        "sqrt": mpmath.sqrt,
        "tanh": mpmath.tanh,
        "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
        "sign": lambda x: mpmath.mpf(mpmath.sign(x)),
    }.items()
}
_EXACT = {
    "neg": lambda x: -x,
    "abs": np.abs,
    "sqr": lambda x: x * x,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "pow": np.power,
    "min": np.minimum,
    "max": np.maximum,
    **_ONE_BY_ONE,
}


def precise(root: Node, leaves: Mapping[str, Any]) -> Array:
    """The value of a core graph as an array of mpmath numbers, `[out or 1, in or 1]`. Raises KeyError for an operation
    that random trees lack, ZeroDivisionError where it divides by zero."""
    values: dict[Node, Any] = {}
    with mpmath.workdps(DIGITS):
        for node in topological(root):
            values[node] = _apply(node, [values[a] for a in node.args], leaves)
    return values[root]


def _apply(node: Node, args: list[Any], leaves: Mapping[str, Any]) -> Any:
    if node.op == "number":
        return np.full((1, 1), mpmath.mpf(node.value), dtype=object)
    if node.op == "leaf":
        return np.frompyfunc(mpmath.mpf, 1, 1)(aligned(node.value, leaves[node.value]).astype(object))
    if node.op in _EXACT:
        return _EXACT[node.op](*args)
    at: dict[str, Any] = {"axis": DIMENSION[node.value], "keepdims": True}
    x, count = args[0], args[0].size // np.sum(args[0], **at).size
    if node.op == "norm":
        p = args[1].item()
        return np.sum(np.abs(x) ** p, **at) ** (1 / p)
    if node.op in ("var", "std"):
        mean = np.sum(x, **at) / count
        variance = np.sum((x - mean) * (x - mean), **at) / (count - 1)
        return variance if node.op == "var" else _ONE_BY_ONE["sqrt"](variance)
    if node.op == "median":
        axis = DIMENSION[node.value]
        rows = x.reshape(1, -1) if axis == (0, 1) else x if axis == 1 else x.T
        ordered = np.sort(rows, axis=1)
        middle = (ordered[:, [(count - 1) // 2]] + ordered[:, [count // 2]]) / 2
        return middle.T if axis == 0 else middle
    return {
        "sum": lambda: np.sum(x, **at),
        "mean": lambda: np.sum(x, **at) / count,
        "amin": lambda: np.min(x, **at),
        "amax": lambda: np.max(x, **at),
    }[node.op]()


def alike(a: Node, b: Node, leaves: Mapping[str, Any]) -> bool:
    """Whether two scores order all weights of each row alike. Differences of all but the last tenth of the digits
    count as none."""
    shape = np.shape(leaves["W"])
    with mpmath.workdps(DIGITS):
        signs = []
        for root in (a, b):
            x = np.broadcast_to(precise(root, leaves), shape)
            gap = x[:, :, None] - x[:, None, :]
            size = np.maximum(np.abs(x[:, :, None]), np.abs(x[:, None, :])) * mpmath.mpf(10) ** (-DIGITS * 9 // 10)
            signs.append((gap > size).astype(int) - (gap < -size).astype(int))
    return bool((signs[0] == signs[1]).all())
