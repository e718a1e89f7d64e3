"""The functions of the core: one table for elementwise functions, one for reductions."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Function:
    """A function as it is written, the core operation it means, how many arguments it takes, and where it is defined.

    A function of an axis may be given it after its `arity` arguments; without one it takes both. It removes them,
    unless it `keeps` them. `constant` is the least and the largest number that the last argument may be, where it must
    be a number.
    """

    name: str
    op: str
    arity: int
    doc: str
    domain: str = "everywhere"
    keeps: bool = False
    constant: tuple[float, float] | None = None

    @property
    def written(self) -> str:
        """A call with every argument: `clamp(x, lo, hi)`."""
        arguments = {"norm": ("x", "p"), "quantile": ("x", "q"), "clamp": ("x", "lo", "hi")}.get(
            self.name, ("x", "y")[: self.arity]
        )
        return f"{self.name}({', '.join(arguments)})"


ELEMENTWISE: dict[str, Function] = {
    f.name: f
    for f in (
        Function("abs", "abs", 1, "|x|"),
        Function("sqr", "sqr", 1, "x²"),
        Function("sqrt", "sqrt", 1, "√x", "x ≥ 0"),
        Function("exp", "exp", 1, "eˣ"),
        Function("ln", "ln", 1, "natural logarithm", "x > 0"),
        Function("tanh", "tanh", 1, "hyperbolic tangent"),
        Function("sigmoid", "sigmoid", 1, "1 / (1 + e⁻ˣ)"),
        Function("sign", "sign", 1, "−1, 0 or 1"),
        Function("min", "min", 2, "the smaller of x and y"),
        Function("max", "max", 2, "the larger of x and y"),
        Function("clamp", "clamp", 3, "x, but at least lo and at most hi"),
    )
}

REDUCTIONS: dict[str, Function] = {
    f.name: f
    for f in (
        Function("sum", "sum", 1, "Σ x"),
        Function("mean", "mean", 1, "arithmetic mean"),
        Function("std", "std", 1, "sample standard deviation, divisor n − 1", "n ≥ 2"),
        Function("var", "var", 1, "sample variance, divisor n − 1", "n ≥ 2"),
        Function("min", "amin", 1, "smallest value"),
        Function("max", "amax", 1, "largest value"),
        Function("norm", "norm", 2, "(Σ|x|ᵖ)^(1/p)", "a number p > 0", constant=(math.ulp(0.0), math.inf)),
        Function("median", "median", 1, "middle value; the mean of both where there are two"),
        Function(
            "quantile",
            "quantile",
            2,
            "the q-quantile, linear between neighbours",
            "a number 0 ≤ q ≤ 1",
            constant=(0.0, 1.0),
        ),
        Function("rank", "rank", 1, "how many values are smaller than x", keeps=True),
        Function("tail", "tail", 1, "sum of the values that are not smaller than x", keeps=True),
    )
}

OPERATORS: dict[str, str] = {"+": "add", "-": "sub", "*": "mul", "/": "div", "^": "pow"}
"""Infix operators and the core operations they mean; unary minus is `neg`."""

OVER_AXES: frozenset[str] = frozenset(f.op for f in REDUCTIONS.values())
"""The core operations that go over axes."""

REDUCING: frozenset[str] = frozenset(f.op for f in REDUCTIONS.values() if not f.keeps)
"""Those of them that remove the axes. The others keep them: a value for each of those they go over."""

FUNCTION_NAMES: tuple[str, ...] = tuple(sorted({*ELEMENTWISE, *REDUCTIONS}))

ELSEWHERE: dict[str, str] = {
    "log": "ln(x)",
    "log1p": "ln(1 + x)",
    "pow": "x ^ 2",
    "power": "x ^ 2",
    "square": "sqr(x)",
    "clip": "clamp(x, lo, hi)",
    "avg": "mean(x)",
    "average": "mean(x)",
    "minimum": "min(x, y)",
    "maximum": "max(x, y)",
    "absolute": "abs(x)",
    "neg": "-x",
    "relu": "max(x, 0)",
    "log2": "ln(x) / ln(2)",
    "log10": "ln(x) / ln(10)",
    "exp2": "2 ^ x",
    "expm1": "exp(x) - 1",
    "rsqrt": "x ^ -0.5",
    "reciprocal": "1 / x",
    "cube": "x ^ 3",
    "softplus": "ln(1 + exp(x))",
    "softmax": "exp(x) / sum(exp(x), in)",
    "silu": "x * sigmoid(x)",
    "percentile": "quantile(x, q)",
    "argsort": "rank(x)",
    "sort": "rank(x)",
    "dot": "sum(x * y, in)",
    "len": "in_features",
    "numel": "in_features * out_features",
    "size": "in_features * out_features",
    "minmax": "(x - min(x)) / (max(x) - min(x))",
    "zscore": "(x - mean(x)) / std(x)",
    "l1": "norm(x, 1)",
    "l2": "norm(x, 2)",
    "frobenius": "norm(x, 2)",
    "normalize": "x / norm(x, 2)",
    "rms": "sqrt(mean(sqr(x)))",
}
"""How to write functions that have another name, or none, here."""
