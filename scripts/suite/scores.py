"""Cases of scores: operators, functions, reductions, ranks, axes, numbers and names."""

from __future__ import annotations

from itertools import product

import numpy as np
from suite.build import INPUTS, Content, given, scored

SPECIAL = ["-inf", -2, -1, -0.5, 0, 0.5, 1, 3, "inf", "nan"]
LEFT = [[v] * len(SPECIAL) for v in SPECIAL]
RIGHT = [SPECIAL] * len(SPECIAL)

OPERATORS = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "^": np.power}
SIDES = {
    "a matrix and a matrix": ("abs(W)", "G.l2"),
    "a matrix and a row": ("abs(W)", "X"),
    "a row and a matrix": ("X", "G"),
    "a matrix and a column": ("G", "Y"),
    "a column and a matrix": ("Y", "noise"),
    "a row and a column": ("X", "Y"),
    "a column and a row": ("Y", "X"),
    "a matrix and a number": ("G", "3"),
    "a number and a matrix": ("2", "W"),
    "a row and a number of the layer": ("X", "in_features"),
}
PYTHON = {
    "abs(W)": lambda v: abs(v["W"]),
    "in_features": lambda v: v["in_features"],
    **{n: (lambda v, n=n: v[n.replace("G.l2", "G")]) for n in ("G.l2", "G", "W", "X", "Y", "noise")},
    **{n: (lambda v, n=n: float(n)) for n in ("2", "3")},
}
USED = ("X.l2", "Y.l2", "G.l2", "noise", "in_features")


def operators() -> list[Content]:
    """Each operator on each pair of axes, and on the values that IEEE 754 treats apart."""
    cases = []
    for (symbol, f), (which, (a, b)) in product(OPERATORS.items(), SIDES.items()):
        cases.append(
            scored(
                f"`{symbol}` of {which}",
                f"{a} {symbol} {b}",
                given(*USED),
                oracle=lambda f=f, a=a, b=b, **v: f(PYTHON[a](v), PYTHON[b](v)),
            )
        )
    for symbol in OPERATORS:
        cases.append(
            scored(f"`{symbol}` of zeros, infinities and NaN", f"W {symbol} G.mean", given(W=LEFT, G_mean=RIGHT))
        )
    two = given("G.l2", "X.l2", "Y.l2", "G.mean")
    rules = [
        ("products before sums", "W + G * X", lambda W, G, X, **_: W + (G * X)),
        ("quotients before differences", "W - G / X", lambda W, G, X, **_: W - (G / X)),
        ("a power before a product", "2 * G ^ 2 * X", lambda G, X, **_: 2 * (G**2) * X),
        ("a power before the minus in front of it", "-W ^ 2", lambda W, **_: -(W**2)),
        ("a minus in an exponent", "X ^ (-G)", lambda X, G, **_: X ** (-G)),
        ("a negative number to a power", "W * -2 ^ 2", lambda W, **_: W * -4),
        ("a minus before a negative number", "W * --2", lambda W, **_: W * 2),
        ("a minus before a number in parentheses", "W * -(2)", lambda W, **_: W * -2),
        ("minus nought is nought", "X / W + -0", lambda X, W, **_: X / W + 0),
        ("a power of numbers from the right", "W * 2 ^ 3 ^ 2", lambda W, **_: W * 512),
        ("a minus that an exponent carries", "X ^ -0.5", lambda X, **_: X**-0.5),
        ("numbers in all their forms", "W * 007 + 1E3 * X + 1e+3 - 2.50", lambda W, X, **_: W * 7 + 1000 * X + 997.5),
        (
            "numbers of all sizes",
            "W * 1e20 + X * 1e21 + W / 1e22 + 0.000001 * W + 1e-7 * X",
            lambda W, X, **_: W * 1e20 + X * 1e21 + W / 1e22 + 1e-6 * W + 1e-7 * X,
        ),
        ("powers from the right", "X ^ G ^ 2", lambda X, G, **_: X ** (G**2)),
        ("a power of a power in parentheses", "(X ^ G) ^ 2", lambda X, G, **_: (X**G) ** 2),
        ("differences from the left", "W - G - X", lambda W, G, X, **_: (W - G) - X),
        ("a difference in parentheses", "W - (G - X)", lambda W, G, X, **_: W - (G - X)),
        ("quotients from the left", "W / X / Y", lambda W, X, Y, **_: (W / X) / Y),
        ("a quotient in parentheses", "W / (X / Y)", lambda W, X, Y, **_: W / (X / Y)),
        ("products and quotients from the left", "W / X * Y", lambda W, X, Y, **_: (W / X) * Y),
        ("two minus signs", "--W", lambda W, **_: W),
        ("minus a minus", "X - -W", lambda X, W, **_: X + W),
        ("a minus before a product", "-W * X", lambda W, X, **_: -(W * X)),
        ("a product with a minus in it", "X * -W", lambda X, W, **_: -(X * W)),
        ("a sum in parentheses", "(W + G) * X", lambda W, G, X, **_: (W + G) * X),
        ("a minus in parentheses to a power", "(-W) ^ 3", lambda W, **_: -(W**3)),
        ("parentheses in parentheses", "((((W)))) * (((X)))", lambda W, X, **_: W * X),
        ("a call to a power", "abs(W) ^ 2 * X", lambda W, X, **_: W * W * X),
        ("a long chain", "W + X - Y * G / X + 2 - W", lambda W, X, Y, G, **_: W + X - Y * G / X + 2 - W),
        ("a negative base and a whole exponent", "G.mean ^ 3", lambda G_mean, **_: G_mean**3),
        ("an exponent that varies", "(abs(W) + 1) ^ X", lambda W, X, **_: (abs(W) + 1) ** X),
        ("a number to a power that varies", "2 ^ W", lambda W, **_: 2.0**W),
    ]
    return cases + [scored(f"precedence: {what}", text, two, oracle=oracle) for what, text, oracle in rules]


UNARY = {
    "abs": (np.abs, ("W", "X.mean", "Y.mean")),
    "sqr": (np.square, ("W", "X.mean", "Y.mean")),
    "sqrt": (np.sqrt, ("G", "X", "Y")),
    "exp": (np.exp, ("W", "X.mean", "Y.mean")),
    "ln": (np.log, ("G + 1", "X", "Y")),
    "tanh": (np.tanh, ("W", "X.mean", "Y.mean")),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), ("W", "X.mean", "Y.mean")),
    "sign": (np.sign, ("W", "X.mean", "Y.mean")),
}
MEANT = {"G": "G", "G + 1": "G", "W": "W", "X": "X", "Y": "Y", "X.mean": "X_mean", "Y.mean": "Y_mean"}


def functions() -> list[Content]:
    """Each function of the core on a matrix, a row, a column, a number, and on special values."""
    cases = []
    leaves = given("G.l2", "X.l2", "X.mean", "Y.l2", "Y.mean")
    for name, (f, arguments) in UNARY.items():
        for argument, axes in zip(arguments, ("a matrix", "a row", "a column"), strict=True):
            plus = 1 if "+" in argument else 0

            def oracle(f=f, of=MEANT[argument], plus=plus, **v):  # type: ignore[no-untyped-def]
                return f(v[of] + plus)

            cases.append(scored(f"`{name}` of {axes}", f"{name}({argument})", leaves, oracle=oracle))
        cases.append(scored(f"`{name}` of zero, infinities and NaN", f"{name}(W)", given(W=[SPECIAL])))
        value = f(np.float64(0.5))
        cases.append(
            scored(f"`{name}` of a number", f"W * {name}(0.5)", given(), oracle=lambda W, value=value: W * value)
        )
        cases.append(
            scored(
                f"`{name}` in itself",
                f"X * {name}(1 + abs({name}(abs(W) / 4 + 1)))",
                given("X.l2"),
                oracle=lambda W, X, f=f: X * f(1 + abs(f(abs(W) / 4 + 1))),
            )
        )
    for name, f in {"min": np.minimum, "max": np.maximum}.items():
        for which, (a, b) in SIDES.items():
            cases.append(
                scored(
                    f"`{name}` of {which}",
                    f"{name}({a}, {b})",
                    given(*USED),
                    oracle=lambda f=f, a=a, b=b, **v: f(PYTHON[a](v), PYTHON[b](v)),
                )
            )
        cases.append(
            scored(f"`{name}` of two values with infinities and NaN", f"{name}(W, G.mean)", given(W=LEFT, G_mean=RIGHT))
        )
    clamps = [
        ("between numbers", "clamp(W, -1, 2)"),
        ("between a row and a column", "clamp(W, X.mean, X.mean + Y)"),
        ("of a row between matrices", "clamp(X, G.mean, G.mean + 1)"),
        ("where the bounds cross: the upper one wins", "clamp(W, 2, -1) + X"),
        ("to one number", "clamp(W, 1, 1) + X"),
    ]
    cases += [scored(f"`clamp` {what}", text, leaves | {"G.mean": INPUTS["G.mean"]}) for what, text in clamps]
    cases.append(scored("`clamp` of infinities and NaN", "clamp(W, -1, 2)", given(W=[SPECIAL])))
    cases.append(scored("`clamp` with a NaN bound", "clamp(W, X.mean, 2)", given(X_mean=[0, "nan", -1, 1])))
    far = [[-1000, -100, -20, 20, 100, 1000]]
    cases.append(scored("`sigmoid` far from zero", "sigmoid(W)", given(W=far)))
    cases.append(scored("`tanh` far from zero", "tanh(W)", given(W=far)))
    cases.append(scored("`exp` that leaves float64", "exp(W)", given(W=[[-1000, 0, 1000]])))
    cases.append(scored("`exp` that leaves float32 alone", "exp(W)", given(W=[[-200, 200]]), precision="float64"))
    cases.append(
        scored("a sum that needs more than float32", "(W + 1) - 1", given(W=[[2.0**-40, 1]]), precision="float64")
    )
    return cases


def _of(name: str, argument: str, axis: str) -> str:
    """`sum(W, in)` from `sum`, or `norm(W, 3, in)` from `norm 3`."""
    name, _, parameter = name.partition(" ")
    return f"{name}({', '.join(filter(None, (argument, parameter, axis)))})"


def _numpy(name: str):  # type: ignore[no-untyped-def]
    name, _, parameter = name.partition(" ")
    p = float(parameter or 0)
    return {
        "sum": np.sum,
        "mean": np.mean,
        "var": lambda x, **at: np.var(x, ddof=1, **at),
        "std": lambda x, **at: np.std(x, ddof=1, **at),
        "min": np.min,
        "max": np.max,
        "median": np.median,
        "norm": lambda x, **at: np.sum(np.abs(x) ** p, **at) ** (1 / p),
        "quantile": lambda x, **at: np.quantile(x, p, **at),
    }[name]


REDUCTIONS = [
    *("sum", "mean", "var", "std", "min", "max", "median"),
    *("norm 1", "norm 2", "norm 0.5", "norm 3"),
    *("quantile 0", "quantile 0.25", "quantile 0.9", "quantile 1"),
]
AXES = {"": (0, 1), "in": 1, "out": 0}
OVER = {"": "both axes", "in": "`in`", "out": "`out`"}
MATRICES = {
    "a matrix": INPUTS["W"],
    "a matrix with ties and zeros": [[0, 2, 2, -2, 0], [0, 0, 0, 0, 0], [1, 1, 1, -1, 1]],
    "a matrix of five by two": [[5, -1], [0.25, 8], [-3, 2], [7, -0.5], [1, 1]],
}

ORDERED = [name for name in REDUCTIONS if name.startswith(("median", "quantile"))]
INFINITE = {
    "four with infinities": [
        [1, 2, "inf", "inf"],
        ["inf", "inf", "inf", -1],
        [2, "-inf", 3, "-inf"],
        ["-inf", 1, "-inf", "-inf"],
        ["-inf", "inf", "inf", "-inf"],
    ],
    "five with infinities": [
        ["inf", 3, 2, "inf", 1],
        ["inf", "-inf", 0, 1, -1],
        [2, "-inf", 3, "-inf", "-inf"],
        ["-inf", "-inf", "-inf", "inf", "inf"],
    ],
}


def reductions() -> list[Content]:
    """Each reduction over each axis of matrices, and of rows and columns; single values and NaN."""
    cases = []
    for name, axis, (which, matrix) in product(REDUCTIONS, AXES, MATRICES.items()):
        call, ones, f = _of(name, "W", axis), [1] * len(matrix[0]), _numpy(name)
        cases.append(
            scored(
                f"`{call}`: {name} over {OVER[axis]} of {which}",
                f"{call} * X" if axis == "" else call,
                given(W=matrix, X_l2=ones),
                oracle=lambda W, X, f=f, axis=AXES[axis]: f(W, axis=axis, keepdims=True) * X,
            )
        )
    for name in REDUCTIONS:
        f = _numpy(name)
        for leaf, axis in (("X", "in"), ("Y", "out")):
            for written in ("", axis):
                call = _of(name, leaf, written)
                cases.append(
                    scored(
                        f"`{call}`: the only axis" + (" by name" if written else ""),
                        f"W * {call}",
                        given(f"{leaf}.l2"),
                        oracle=lambda W, f=f, leaf=leaf, **v: W * f(v[leaf]),
                    )
                )
        cases.append(
            scored(
                f"`{_of(name, 'W', 'in')}` of a layer with one input", _of(name, "W", "in"), given(W=[[2], [-3], [0.5]])
            )
        )
        cases.append(
            scored(
                f"`{_of(name, 'W', 'out')}` of a layer with one output",
                _of(name, "W", "out"),
                given(W=[[2, -3, 0.5]]),
            )
        )
        cases.append(
            scored(
                f"`{_of(name, 'W', 'in')}` where a row has a NaN",
                f"{_of(name, 'W', 'in')} + 0 * X",
                given(W=[[1, "nan", 3], [4, 5, 7]], X_l2=[1, 2, 3]),
            )
        )
    for name in ("sum", "mean", "min", "max", "norm 2"):
        call = _of(name, "W", "in")
        cases.append(scored(f"`{call}` of an infinity", call, given(W=[[1, "inf", 3], ["-inf", 2, 5]])))
    cases.append(scored("`sum(W, in)` of both infinities", "sum(W, in)", given(W=[["-inf", "inf", 3], [1, 2, 3]])))
    for name, axis, (which, matrix) in product(ORDERED, AXES, INFINITE.items()):
        rows = [list(column) for column in zip(*matrix, strict=True)] if axis == "out" else matrix
        call = _of(name, "W", axis)
        cases.append(scored(f"`{call}` of {which}", f"{call} + 0 * X", given(W=rows, X_l2=[1] * len(rows[0]))))
    x, w = [0, 1, 2], [[1, -2, 1]]
    cases.append(scored("a median beside an infinity", "median(1 / X) * abs(W)", given(W=w, X_l2=x)))
    cases.append(scored("a highest value that is infinite", "exp(-quantile(1 / X, 1)) + W", given(W=w, X_l2=x)))
    cases.append(scored("a median of minus infinities", "exp(median(ln(abs(W)), in)) + W", given(W=[[0, 0, 0, 1]])))
    nested = [
        ("a reduction of a reduction", "max(sum(abs(W), in))", "W * {}"),
        ("a reduction of an expression", "sum(abs(W) * X, in)", "{}"),
        ("a mean over rows of a mean over columns", "mean(mean(W, in), out)", "W * {}"),
        ("a deviation of a power", "std(sqr(W) * X, out)", "{}"),
        ("a median of differences", "median(abs(W - median(W, in)), in)", "{}"),
        ("a reduction of one and of the other axis", "sum(abs(W), in) * sum(abs(W), out)", "{}"),
    ]
    return cases + [scored(what, form.format(text), given("X.l2")) for what, text, form in nested]


def ranks() -> list[Content]:
    """Ranks, and sums of what is not smaller, along each axis: ties, zeros, NaN."""
    matrices = {
        "distinct values": [[3, 1, 2], [9, 7, 8]],
        "ties": [[2, 2, 1, 2], [0, 0, 0, 0], [5, 4, 4, 5]],
        "negative values": [[-1, -3, 2], [0, -2, -2]],
        "one row": [[4, 2, 2, 8]],
        "one column": [[4], [2], [2], [8]],
        "infinities": [["inf", 1, "-inf"], [0, "inf", 2]],
        "a NaN": [["nan", 1, 2], [3, 1, 2]],
    }
    cases = []
    for name, (which, matrix), axis in product(("rank", "tail"), matrices.items(), AXES):
        call = _of(name, "W", axis)
        cases.append(scored(f"`{call}` of {which}", call, given(W=matrix)))
    zeros = [[-1, 0, 1], [0, 1, -1]]
    cases.append(
        scored("`rank` takes minus zero and zero as equal", "rank(W * 0 * X, in) + W", given(W=zeros, X_l2=[1, 1, 1]))
    )
    cases.append(scored("`rank` of a row", "rank(X)", given("X.l2")))
    cases.append(scored("`rank` of a column by its axis", "rank(Y, out)", given("Y.l2")))
    cases.append(
        scored("`rank` of an expression", "rank(abs(W) * X, out) / out_features", given("X.l2", "out_features"))
    )
    cases.append(
        scored("`tail` takes minus zero and zero as equal", "tail(W * 0 * X, in) + W", given(W=zeros, X_l2=[1, 1, 1]))
    )
    cases.append(scored("`tail` of a column by its axis", "tail(Y, out) * X", given("Y.l2", "X.l2")))
    cases.append(scored("`tail` of an expression", "sqr(W) / tail(sqr(W))", given()))
    cases.append(scored("the values that are no larger", "-tail(-abs(W) * X, in) / sum(abs(W) * X, in)", given("X.l2")))
    cases.append(scored("a sum of ranks", "rank(abs(W), in) + rank(X)", given("X.l2")))
    return cases


def axes() -> list[Content]:
    """Values of fewer axes join by name, and a score of fewer is repeated."""
    cases = [
        scored("a score of the inputs alone", "X", given("X.l2"), oracle=lambda X, W: X + 0 * W),
        scored("a score of the outputs alone", "Y", given("Y.l2"), oracle=lambda Y, W: Y + 0 * W),
        scored("a row's number to every input", "sum(abs(W), in)", given()),
        scored("a square layer: a row is no column", "X - Y", given(W=[[0, 0], [0, 0]], X_l2=[1, 2], Y_l2=[10, 20])),
        scored("a square layer: norms of both axes", "norm(W, 2, in) / norm(W, 2, out)", given(W=[[1, 2], [3, 4]])),
        scored("a layer of one weight", "abs(W) * X * Y", given(W=[[-2]], X_l2=[3], Y_l2=[5])),
        scored("a layer of one output", "W * X + Y", given(W=[[1, 2, 3]], X_l2=[1, 2, 3], Y_l2=[10])),
        scored("a layer of one input", "W * X + Y", given(W=[[1], [2]], X_l2=[3], Y_l2=[10, 20])),
    ]
    for leaf in INPUTS:
        if leaf != "W":
            short = leaf.removesuffix(".l2")
            cases.append(scored(f"the leaf `{leaf}`", f"W * {short}", given(leaf)))
            if short != leaf:
                cases.append(scored(f"`{leaf}` by its full name", f"W + {leaf}", given(leaf)))
    return cases


def names() -> list[Content]:
    """Numbers as they are written; `let`, `param`, comments and layout."""
    numbers = ["0", "7", "007", "2.50", "1e3", "1E3", "1e+3", "25e-2", "0.1", "1.5e2", "123456789", "3.4e38", "1.5e-45"]
    narrow = {"0.1", "1.5e-45", "123456789"}
    cases = [
        scored(
            f"the number `{text}`",
            f"W + {text}",
            given(W=[[0, 1]] if text != "1.5e-45" else [[0, 0]]),
            oracle=lambda W, value=float(text): W + value,
            **({"precision": "float64"} if text in narrow else {}),
        )
        for text in numbers
    ]
    sources = {
        "a `let`": "pzm 1 let a = abs(W) metric m = a * X",
        "a `let` of a `let`": "pzm 1 let a = abs(W) let b = a * X metric m = b / sum(b, in)",
        "a `let` that is used twice": "pzm 1 let a = abs(W) * X metric m = a / sum(a, in) + a / sum(a, out)",
        "a `let` is a value, not a text": "pzm 1 let a = 1 + X metric m = W * a",
        "a parameter": "pzm 1 param a = 0.5 in [0, 1] metric m = abs(W) * X ^ a",
        "a parameter without a range": "pzm 1 param a = 2 metric m = abs(W) ^ a",
        "a negative parameter": "pzm 1 param a = -1.5 in [-2, -1] metric m = abs(W) + a",
        "a parameter as the order of a norm": "pzm 1 param p = 3 metric m = W * norm(W, p, in)",
        "a parameter as the share of a quantile": "pzm 1 param q = 0.25 metric m = W * quantile(W, q, out)",
        "comments anywhere": "# first\npzm 1 # edition\nmetric m # name\n = # is\n W * # times\n X # the end",
        "a doc comment": "pzm 1\n\n## What it is.\n## In two lines.\nmetric m = abs(W) * X",
        "one line": "pzm 1 metric m=abs(W)*X per row",
        "many lines": "\n\n\npzm\n1\nmetric\nm\n=\nabs\n(\nW\n)\n*\nX\nper\nrow\n",
        "tabs and carriage returns": "pzm 1\r\n\tmetric m =\tabs(W)\r\n\t* X\tper row\r\n",
        "carriage returns alone": "pzm 1\r# one\r## doc\rmetric m =\rabs(W) # two\r* X",
        "form feeds": "pzm 1\fmetric m =\fabs(W) * X",
        "a byte order mark at the start": "\ufeffpzm 1 metric m = abs(W) * X",
        "a minus before a `let` that is a number": "pzm 1 let a = 2 metric m = abs(W) ^ -a * X",
        "a minus before a call that is a number": "pzm 1 fn two(x) = 2 metric m = abs(W) * -two(X)",
        "a minus before a parameter": "pzm 1 param p = 2 metric m = W * -p",
        "two minus signs before a `let` that is a number": "pzm 1 let a = 2 metric m = W * - -a",
        "a minus before a negative number in parentheses": "pzm 1 metric m = W * -(-2)",
        "without a group": "pzm 1 metric m = W * X",
        "a name with digits and underscores": "pzm 1 let _a_1B = abs(W) metric m = _a_1B * X",
        "a name in capitals": "pzm 1 let WW = abs(W) metric m = WW * X",
        "a name that begins like a keyword": "pzm 1 let letter = abs(W) metric metric_1 = letter * X",
        "an axis name inside a name": "pzm 1 let inner = abs(W) let outer = X metric m = inner * outer",
    }
    cases += [scored(what, text, given("X.l2")) for what, text in sources.items()]
    two = "pzm 1 metric a = W * X metric b = abs(W) + X per col metric c = sqr(W)"
    cases += [
        scored(f"the metric `{name}` of a source of three", two, given("X.l2"), metric=name) for name in ("a", "b", "c")
    ]
    settable = "pzm 1 param a = 0.5 in [0, 1] param b = 1 metric m = abs(W) ^ a * X ^ b"
    for values in ({"a": 1}, {"b": 2}, {"a": 0.25, "b": 0}):
        what = " and ".join(f"`{k}` = {v:g}" for k, v in values.items())
        cases.append(scored(f"with {what} set", settable, given("X.l2"), set=values))
    return cases


ZOO = {
    "magnitude": ("abs(W)", "layer", lambda W, **_: abs(W)),
    "LAMP": (
        "sqr(W) / tail(sqr(W))",
        "layer",
        lambda W, **_: W**2 / np.where(abs(W.ravel()) >= abs(W)[..., None], W.ravel() ** 2, 0).sum(2),
    ),
    "Wanda": ("abs(W) * X", "row", lambda W, X, **_: abs(W) * X),
    "RIA": (
        "(abs(W) / sum(abs(W), in) + abs(W) / sum(abs(W), out)) * X ^ 0.5",
        "row",
        lambda W, X, **_: (abs(W) / abs(W).sum(1, keepdims=True) + abs(W) / abs(W).sum(0, keepdims=True)) * X**0.5,
    ),
    "Pruner-Zero": (
        "sqr(W) * ((G - min(G)) / (max(G) - min(G)))",
        "row",
        lambda W, G, **_: W**2 * (G - G.min()) / (G.max() - G.min()),
    ),
    "GBLM-Pruner": ("abs(W) * X + 100 * abs(W) * G", "row", lambda W, X, G, **_: abs(W) * X + 100 * abs(W) * G),
    "gradient times magnitude": ("abs(W) * G", "row", lambda W, G, **_: abs(W) * G),
    "Fisher": ("sqr(W) * sqr(G) / windows", "model", lambda W, G, windows, **_: W**2 * G**2 / windows),
    "SparseGPT's saliency": (
        "sqr(W) / sqr(H.chol_diag)",
        "row",
        lambda W, H_chol_diag, **_: W**2 / H_chol_diag**2,
    ),
    "Optimal Brain Surgeon": ("sqr(W) / H.inv_diag", "layer", lambda W, H_inv_diag, **_: W**2 / H_inv_diag),
    "random": ("noise", "row", lambda noise, **_: noise),
    "weights by outputs": ("abs(W) * Y", "col", lambda W, Y, **_: abs(W) * Y),
    "a z-score": ("(W - mean(W)) / std(W)", "layer", lambda W, **_: (W - W.mean()) / W.std(ddof=1)),
    "depth-weighted magnitude": ("abs(W) * (1 + depth)", "model", lambda W, depth, **_: abs(W) * (1 + depth)),
}


def zoo() -> list[Content]:
    """Published formulae, with their masks."""
    distinct = {"W": [[1, -2, 0.5, 3], [-1.5, 0.25, 2.25, -0.75], [4, -3, 1, 0.125]], "G.l2": INPUTS["G.l1"]}
    cases = []
    for name, (formula, per, oracle) in ZOO.items():
        source = f"pzm 1\n\nmetric m = {formula}  per {per}\n"
        select = ((per, 0.5), (per, 0.7), "2:4", "1:4")
        cases.append(scored(name, source, INPUTS | distinct, select=select, oracle=oracle))
    return cases
