"""The reference evaluator: what every operation means, in numpy float64.

It knows nothing of torch, of canonical forms or of speed. Every value is kept with both dimensions, `[out, in]`,
with length 1 for an axis it lacks, so that numpy's broadcasting joins axes by name.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pzc.compiler.core import Node, topological
from pzc.compiler.leaves import LEAVES

Array = npt.NDArray[np.float64]

DIMENSION: dict[str | None, int | tuple[int, int]] = {"out": 0, "in": 1, None: (0, 1)}
"""The array dimension that a reduction's axis removes."""


def sigmoid(x: Array) -> Array:
    """1 / (1 + e⁻ˣ), without overflow for large negative x."""
    e = np.exp(-np.abs(x))
    result: Array = np.where(x >= 0, 1 / (1 + e), e / (1 + e))
    return result


ELEMENTWISE: dict[str, Callable[..., Array]] = {
    "neg": np.negative,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "pow": np.power,
    "abs": np.abs,
    "sqr": np.square,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "ln": np.log,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "sign": np.sign,
    "min": np.minimum,
    "max": np.maximum,
    "clamp": lambda x, low, high: np.minimum(np.maximum(x, low), high),
}


def quantile(x: Array, q: float, axis: int | tuple[int, int]) -> Array:
    """Linear between the neighbours of the place q (n − 1), so that one infinite neighbour gives that infinity; a
    place without a fraction, or between equals, gives the value there. NaN where one value is NaN."""
    rows = x if axis == 1 else x.T if axis == 0 else x.reshape(1, -1)
    ordered = np.sort(rows, axis=1)
    at = q * (rows.shape[1] - 1)
    part = at - int(at)
    low, high = ordered[:, int(at)], ordered[:, min(int(at) + 1, rows.shape[1] - 1)]
    value = np.where((part == 0) | (low == high), low, (1 - part) * low + part * high)
    value[np.isnan(rows).any(axis=1)] = np.nan
    return value[np.newaxis] if axis == 0 else value[:, np.newaxis]


REDUCTIONS: dict[str, Callable[..., Array]] = {
    "sum": np.sum,
    "mean": np.mean,
    "std": lambda x, **at: np.std(x, ddof=1, **at),
    "var": lambda x, **at: np.var(x, ddof=1, **at),
    "amin": np.min,
    "amax": np.max,
    "median": lambda x, axis, **_: quantile(x, 0.5, axis),
}


def smaller(line: Array) -> Array:
    """How many values are smaller than each."""
    return np.searchsorted(np.sort(line), line, side="left").astype(np.float64)


def tail(line: Array) -> Array:
    """Of each value the sum of those that are not smaller, from the largest on."""
    ordered = np.sort(line)
    sums: Array = np.cumsum(ordered[::-1])[::-1]
    return sums[np.searchsorted(ordered, line, side="left")]


KEEPING: dict[str, Callable[[Array], Array]] = {"rank": smaller, "tail": tail}
"""A value for each of a line of values."""


def along(x: Array, axis: int | tuple[int, int], of_line: Callable[[Array], Array]) -> Array:
    """A function of a line of values for every line along the axis; NaN everywhere along it where one is NaN."""
    rows = x if axis == 1 else x.T if axis == 0 else x.reshape(1, -1)
    values = np.array([np.full(row.shape, np.nan) if np.isnan(row).any() else of_line(row) for row in rows])
    return values.T if axis == 0 else values.reshape(x.shape)


def aligned(leaf: str, value: Any) -> Array:
    """A leaf's value as float64 with both dimensions: `[out, in]`, `[1, in]`, `[out, 1]` or `[1, 1]`.

    Raises ValueError when its number of dimensions is not the leaf's number of axes.
    """
    array = np.asarray(value, dtype=np.float64)
    axes = LEAVES[leaf].axes
    if array.ndim != len(axes):
        wanted = f"[{', '.join(axes)}]" if axes else "a single number"
        raise ValueError(f"`{leaf}` has shape {list(array.shape)}; it takes {wanted}")
    return array[np.newaxis, :] if axes == ("in",) else array.reshape(array.shape + (1,) * (2 - array.ndim))


def evaluate(root: Node, leaves: Mapping[str, Any]) -> Array:
    """The value of a core graph, as float64 of shape `[out or 1, in or 1]`.

    `leaves` maps full leaf names to arrays. Raises KeyError for a leaf that is not given. Where the metric is not
    defined (`ln(0)`, `0 / 0`) the value is not finite.
    """
    values: dict[Node, Array] = {}
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the deviation of a single value: NaN, as it should be
        for node in topological(root):
            values[node] = apply(node, [values[a] for a in node.args], leaves)
    return values[root]


def apply(node: Node, args: list[Array], leaves: Mapping[str, Any]) -> Array:
    """The value of one node from those of its arguments."""
    if node.op == "number":
        return np.full((1, 1), node.value, dtype=np.float64)
    if node.op == "leaf":
        return aligned(str(node.value), leaves[str(node.value)])
    if node.op in ELEMENTWISE:
        return ELEMENTWISE[node.op](*args)
    at: dict[str, Any] = {"axis": DIMENSION[node.value], "keepdims": True}
    if node.op == "norm":
        p = float(args[1].item())
        norm: Array = np.sum(np.abs(args[0]) ** p, **at) ** (1 / p)
        return norm
    if node.op == "quantile":
        return quantile(args[0], float(args[1].item()), at["axis"])
    if node.op in KEEPING:
        return along(args[0], at["axis"], KEEPING[node.op])
    return REDUCTIONS[node.op](args[0], **at)
