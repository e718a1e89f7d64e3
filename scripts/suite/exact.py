"""An oracle for scores: a `pzm-ir/1` document evaluated with 60 decimal digits, by the standard library alone.

It is written from docs/pzm-ir.md and shares nothing with the reference evaluator, numpy or the core graph. Its numbers,
rounded to float64 once at the end, are the same on every machine, which those of a processor's `exp` are not.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from decimal import Context, Decimal, localcontext
from typing import Any

Matrix = list[list[Decimal]]

NAN, ONE = Decimal("nan"), Decimal(1)
LEAF_AXES = {"W": "io", "noise": "io", "G": "io", "X": "i", "H": "i", "Y": "o"}

ARITHMETIC = Context(prec=60, Emax=10**9, Emin=-(10**9), traps=[])
"""Sixty digits; without traps 0 / 0 is NaN, not an exception."""


def power(x: Decimal, y: Decimal) -> Decimal:
    """x to the y as in IEEE 754."""
    if y == 0 or x == 1 or (x == -1 and y.is_infinite()):
        return ONE
    if x == 0 and y > 0:
        return Decimal(0)
    if x.is_infinite() and x < 0 and not y.is_nan():
        odd = y == y.to_integral_value() and y % 2 != 0 and not y.is_infinite()
        return (-1 if odd else 1) * power(-x, y)
    if y.is_infinite() and not x.is_nan():
        return Decimal("inf") if (abs(x) > 1) == (y > 0) else Decimal(0)
    return x**y


def _first_nan(*values: Decimal) -> Decimal | None:
    return next((v for v in values if v.is_nan()), None)


ELEMENTWISE: dict[str, Callable[..., Decimal]] = {
    "neg": lambda x: -x,
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "pow": power,
    "abs": abs,
    "sqr": lambda x: x * x,
    "sqrt": Decimal.sqrt,
    "exp": Decimal.exp,
    "ln": Decimal.ln,
    "tanh": lambda x: 1 - 2 / ((2 * x).exp() + 1),
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "sign": lambda x: x if x.is_nan() else Decimal((x > 0) - (x < 0)),
    "min": lambda x, y: _first_nan(x, y) or min(x, y),
    "max": lambda x, y: _first_nan(x, y) or max(x, y),
    "clamp": lambda x, low, high: _first_nan(x, low, high) or min(max(x, low), high),
}


def quantile(values: Sequence[Decimal], q: Decimal) -> Decimal:
    """Linear between the two neighbours of the place q · (n − 1), where these differ and it is between them."""
    ordered = sorted(values)
    at = q * (len(ordered) - 1)
    below = int(at)
    low, high, part = ordered[below], ordered[min(below + 1, len(ordered) - 1)], at - below
    return low if part == 0 or low == high else (1 - part) * low + part * high


REDUCTIONS: dict[str, Callable[..., Decimal]] = {
    "sum": lambda v: sum(v, Decimal(0)),
    "mean": lambda v: sum(v, Decimal(0)) / len(v),
    "var": lambda v: statistics.variance(v) if len(v) > 1 else NAN,
    "std": lambda v: statistics.variance(v).sqrt() if len(v) > 1 else NAN,
    "amin": min,
    "amax": max,
    "median": statistics.median,
    "norm": lambda v, p: power(sum((power(abs(x), p) for x in v), Decimal(0)), 1 / p),
    "quantile": quantile,
}


KEEPING: dict[str, Callable[[list[Decimal], Decimal], Decimal]] = {
    "rank": lambda line, value: Decimal(sum(v < value for v in line)),
    "tail": lambda line, value: sum((v for v in line if v >= value), Decimal(0)),
}


def evaluate(document: str, score: int, inputs: dict[str, Any], shape: tuple[int, int]) -> list[list[float]]:
    """The value of the node at `score`, as float64 of `shape` `[out, in]`."""
    values: list[Matrix] = []
    with localcontext(ARITHMETIC):
        for node in json.loads(document)["nodes"]:
            if node["op"] == "number":
                values.append([[Decimal(node["value"])]])
            elif node["op"] == "leaf":
                values.append(_leaf(node["name"], inputs[node["name"]]) if node["name"] in inputs else [[NAN]])
            else:
                values.append(_apply(node, [values[i] for i in node["args"]]))
    return [[float(_at(values[score], i, j)) for j in range(shape[1])] for i in range(shape[0])]


def _leaf(name: str, given: Any) -> Matrix:
    axes = LEAF_AXES.get(name.split(".")[0], "")
    if axes == "o":
        return [[Decimal(v)] for v in given]
    rows = given if axes == "io" else [given] if axes == "i" else [[given]]
    return [[Decimal(v) for v in row] for row in rows]


def _at(x: Matrix, i: int, j: int) -> Decimal:
    row = x[i if len(x) > 1 else 0]
    return row[j if len(row) > 1 else 0]


def _apply(node: dict[str, Any], args: list[Matrix]) -> Matrix:
    op, axis = node["op"], node.get("axis")
    if op in ELEMENTWISE:
        rows, columns = max(len(x) for x in args), max(len(x[0]) for x in args)
        return [[ELEMENTWISE[op](*(_at(x, i, j) for x in args)) for j in range(columns)] for i in range(rows)]
    x, parameters = args[0], [p[0][0] for p in args[1:]]
    if axis == "out":
        lines = [list(column) for column in zip(*x, strict=True)]
    else:
        lines = x if axis == "in" else [[v for row in x for v in row]]
    if op in KEEPING:
        values = [[NAN if any(v.is_nan() for v in line) else KEEPING[op](line, v) for v in line] for line in lines]
        width = len(x[0])
        if axis == "out":
            return [list(row) for row in zip(*values, strict=True)]
        return values if axis == "in" else [values[0][i : i + width] for i in range(0, len(values[0]), width)]
    reduced = [_reduce(op, line, parameters) for line in lines]
    return [reduced] if axis == "out" else [[v] for v in reduced]


def _reduce(op: str, line: list[Decimal], parameters: list[Decimal]) -> Decimal:
    if any(v.is_nan() for v in line):
        return NAN
    if op in ("var", "std") and any(v.is_infinite() for v in line):
        return NAN
    return REDUCTIONS[op](line, *parameters)


def is_close(found: float, want: float) -> bool:
    """Whether two numbers are equal but for rounding in float64; NaN is NaN."""
    return (math.isnan(found) and math.isnan(want)) or math.isclose(found, want, rel_tol=1e-12, abs_tol=1e-12)
