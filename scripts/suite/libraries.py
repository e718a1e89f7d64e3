"""Cases of functions, the standard library, and files that use each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from suite.build import Content, given, scored

FUNCTIONS: list[tuple[str, str, Callable[..., Any]]] = [
    ("one argument", "fn f(x) = x + 1 metric m = f(W) * X", lambda W, X: (W + 1) * X),
    ("two arguments in their order", "fn f(x, y) = x - y metric m = f(W, X)", lambda W, X: W - X),
    (
        "an axis as an argument",
        "fn f(x, a) = x / sum(x, a) metric m = f(abs(W), in) * X",
        lambda W, X: _share(W, 1) * X,
    ),
    ("the other axis", "fn f(x, a) = x / sum(x, a) metric m = f(abs(W), out) * X", lambda W, X: _share(W, 0) * X),
    (
        "a function of a function",
        "fn f(x) = x + 1 fn g(x) = f(f(x)) * x metric m = g(W) + X",
        lambda W, X: (W + 2) * W + X,
    ),
    ("an argument is a value, not a text", "fn f(x) = x * x metric m = f(W + X)", lambda W, X: (W + X) ** 2),
    ("an argument that is used twice", "fn f(x, y) = x + y + x metric m = f(W, X)", lambda W, X: W + X + W),
    ("a `let` in a function", "let b = 2 * X fn f(x) = x + b metric m = f(W)", lambda W, X: W + 2 * X),
    ("a parameter in a function", "param p = 3 fn f(x) = x ^ p metric m = f(W) + X", lambda W, X: W**3 + X),
    ("an argument hides a `let`", "let b = X fn f(b) = b * 2 metric m = f(W) * b", lambda W, X: 2 * W * X),
    ("a leaf in a function", "fn f(x) = x * X metric m = f(W) + f(X)", lambda W, X: W * X + X * X),
    (
        "a sum over an axis that the values need not have",
        "fn f(x, a) = sum(sum(x, in), a) metric m = W * f(W, out) + X",
        lambda W, X: W * W.sum() + X,
    ),
    (
        "two axes that must differ",
        "fn f(a, b) = sum(sum(W, a), b) metric m = W * f(in, out) + X",
        lambda W, X: W * W.sum() + X,
    ),
    (
        "an axis that must be the outputs",
        "fn f(a) = max(sum(W, in), a) metric m = W * f(out) + X",
        lambda W, X: W * W.sum(axis=1).max() + X,
    ),
    (
        "a function that hides one of the core",
        "fn abs(x) = abs(x) + 1 metric m = abs(W) * X",
        lambda W, X: (abs(W) + 1) * X,
    ),
    ("a call inside its own call", "fn f(x) = x - 1 metric m = f(f(f(W))) + X", lambda W, X: W - 3 + X),
    ("a minus binds looser than a power in an argument", "fn f(x) = x ^ 2 metric m = f(-W) - X", lambda W, X: W**2 - X),
]


def _share(x: Any, axis: int) -> Any:
    return abs(x) / abs(x).sum(axis=axis, keepdims=True)


def _log(x: Any) -> Any:
    return np.log(abs(x) + 0.001)


PAPER: list[tuple[str, Callable[..., Any]]] = [
    ("sqr(W)", lambda W, **_: W**2),
    ("pow(W)", lambda W, **_: W**2),
    ("neg(W)", lambda W, **_: -W),
    ("abs(W)", lambda W, **_: abs(W)),
    ("log(W)", lambda W, **_: _log(W)),
    ("exp(W)", lambda W, **_: np.exp(W)),
    ("exp(1000 * W)", lambda W, **_: np.exp(np.minimum(1000 * W, 100))),
    ("sqrt(W)", lambda W, **_: np.sqrt(abs(W))),
    ("tanh(W)", lambda W, **_: np.tanh(W)),
    ("skp(W)", lambda W, **_: W),
    ("mms(G)", lambda G, **_: (G - G.min()) / (G.max() - G.min())),
    ("zsn(G)", lambda G, **_: (G - G.mean()) / G.std(ddof=1)),
    ("add(W, G)", lambda W, G, **_: W + G),
    ("sub(W, G)", lambda W, G, **_: W - G),
    ("mul(W, G)", lambda W, G, **_: W * G),
    ("div(W, G)", lambda W, G, **_: W / np.sqrt((G**2).sum())),
]
"""Pruner-Zero's primitives as its paper and release have them (arXiv 2406.02924)."""

SCALE: dict[str, Callable[[Any, int], Any]] = {
    "share": lambda x, a: x / abs(x).sum(axis=a, keepdims=True),
    "unit": lambda x, a: x / np.sqrt((x**2).sum(axis=a, keepdims=True)),
    "peak": lambda x, a: x / abs(x).max(axis=a, keepdims=True),
    "centred": lambda x, a: x - x.mean(axis=a, keepdims=True),
    "zscore": lambda x, a: (x - x.mean(axis=a, keepdims=True)) / x.std(axis=a, ddof=1, keepdims=True),
    "minmax": lambda x, a: (
        (x - x.min(axis=a, keepdims=True)) / (x.max(axis=a, keepdims=True) - x.min(axis=a, keepdims=True))
    ),
}
"""Scaling along an axis."""

NORMS = "pzm 1\n\nlet half = 1 / 2\n\nfn share(x, axis) = x / sum(abs(x), axis)\n"
INNER = 'pzm 1\n\nuse "inner.pzm" (twice)\n\nfn four(x) = twice(twice(x))\n'
FILES: list[tuple[str, str, dict[str, str], Callable[..., Any]]] = [
    (
        "a name of a file",
        'use "norms.pzm" (share) metric m = share(W, in) * X',
        {"norms.pzm": NORMS},
        lambda W, X: _signed(W, 1) * X,
    ),
    (
        "a `let` of a file",
        'use "norms.pzm" (half) metric m = half * W * X',
        {"norms.pzm": NORMS},
        lambda W, X: W * X / 2,
    ),
    (
        "two names of a file",
        'use "norms.pzm" (share, half) metric m = share(W, out) * X ^ half',
        {"norms.pzm": NORMS},
        lambda W, X: _signed(W, 0) * X**0.5,
    ),
    (
        "a whole file by its name",
        'use "norms.pzm" metric m = norms.share(W, in) * X',
        {"norms.pzm": NORMS},
        lambda W, X: _signed(W, 1) * X,
    ),
    (
        "a file of a folder",
        'use "lib/norms.pzm" (share) metric m = share(W, in) * X',
        {"lib/norms.pzm": NORMS},
        lambda W, X: _signed(W, 1) * X,
    ),
    (
        "a file that uses another beside it",
        'use "lib/outer.pzm" (four) metric m = four(W) + X',
        {"lib/outer.pzm": INNER, "lib/inner.pzm": "pzm 1 fn twice(x) = x + x"},
        lambda W, X: 4 * W + X,
    ),
    (
        "a file that two others use",
        'use "a.pzm" (f) use "b.pzm" (g) metric m = f(W) + g(X)',
        {
            "a.pzm": 'pzm 1 use "c.pzm" (h) fn f(x) = h(x) + 1',
            "b.pzm": 'pzm 1 use "c.pzm" (h) fn g(x) = h(x) + 2',
            "c.pzm": "pzm 1 fn h(x) = x * 3",
        },
        lambda W, X: 3 * W + 1 + 3 * X + 2,
    ),
    (
        "a file that uses the library",
        'use "a.pzm" (f) metric m = f(W) * X',
        {"a.pzm": "pzm 1 use paper (log) fn f(x) = log(x)"},
        lambda W, X: _log(W) * X,
    ),
]


def _signed(x: Any, axis: int) -> Any:
    return x / abs(x).sum(axis=axis, keepdims=True)


def libraries() -> list[Content]:
    """Functions are inlined; libraries and files give functions and values."""
    cases = [
        scored(f"fn: {what}", f"pzm 1 {text} per layer", given("X.l2"), oracle=oracle)
        for what, text, oracle in FUNCTIONS
    ]
    inputs = given("X.l2", "G.l2")
    for call, oracle in PAPER:
        name, double = call.split("(")[0], {"precision": "float64"} if "1000" in call else {}
        qualified = f"pzm 1 use paper metric m = paper.{call} per layer"
        cases.append(scored(f"`paper.{call}`", qualified, inputs, oracle=oracle, **double))
        if not double:
            named = f"pzm 1 use paper ({name}) metric m = {call} * X per layer"
            cases.append(scored(f"`{call}` from `paper`", named, inputs, oracle=_times_x(oracle)))
    for name, scale in SCALE.items():
        for axis, place in (("in", 1), ("out", 0)):
            text = f"pzm 1 use scale metric m = scale.{name}(W, {axis}) * X per layer"
            cases.append(scored(f"`scale.{name}` over {axis}", text, given("X.l2"), oracle=_scaled(scale, place)))
    both = "pzm 1 use paper (mms) metric m = sqr(W) * mms(G) per row"
    cases.append(scored("one name of the library beside the core's", both, inputs, select=(0.5, "2:4")))
    return cases + [
        scored(f"use: {what}", f"pzm 1 {text} per layer", given("X.l2"), oracle=oracle, files=files)
        for what, text, files, oracle in FILES
    ]


def _scaled(scale: Callable[[Any, int], Any], axis: int) -> Callable[..., Any]:
    return lambda W, X: scale(W, axis) * X


def _times_x(oracle: Callable[..., Any]) -> Callable[..., Any]:
    return lambda X, **v: oracle(**v) * X
