r"""The score as a formula in LaTeX: `\frac`, norms, subscripts i for the row and j for the column.

An index that a reduction runs over is j′, or i′, and j″ in a reduction inside of that. The text needs amsmath.
"""

from __future__ import annotations

from typing import NamedTuple

from pzc.compiler.core import Node, value_of
from pzc.compiler.functions import OVER_AXES, REDUCING
from pzc.compiler.leaves import LEAVES
from pzc.compiler.metric import Metric

SUM, LARGE, PRODUCT, UNIT, ATOM = range(5)
"""How tight a text binds: a sum; Σ and its like; a product; what can be a factor anywhere; what can be raised."""


class Text(NamedTuple):
    """A part of the formula and how tight it binds."""

    tex: str
    binds: int


class Place(NamedTuple):
    """The indices at which a node is read: `W` at (i, j') is W_{ij'}."""

    out: str
    inn: str


HERE = Place("i", "j")

LEAF_TEX: dict[str, str] = {
    "W": "W_{{{ij}}}",
    "X.l2": r"\lVert X_{{{j}}} \rVert_2",
    "X.l1": r"\lVert X_{{{j}}} \rVert_1",
    "X.mean": r"\overline{{X_{{{j}}}}}",
    "X.var": r"\operatorname{{Var}}(X_{{{j}}})",
    "X.max": r"\lVert X_{{{j}}} \rVert_\infty",
    "Y.l2": r"\lVert Y_{{{i}}} \rVert_2",
    "Y.l1": r"\lVert Y_{{{i}}} \rVert_1",
    "Y.mean": r"\overline{{Y_{{{i}}}}}",
    "Y.var": r"\operatorname{{Var}}(Y_{{{i}}})",
    "Y.max": r"\lVert Y_{{{i}}} \rVert_\infty",
    "H.diag": r"H_{{{j}{j}}}",
    "H.inv_diag": r"(H^{{-1}})_{{{j}{j}}}",
    "H.chol_diag": r"U_{{{j}{j}}}",
    "G.l2": r"\lVert G_{{{ij}}} \rVert_2",
    "G.l1": r"\lVert G_{{{ij}}} \rVert_1",
    "G.mean": r"\overline{{G_{{{ij}}}}}",
    "noise": r"u_{{{ij}}}",
    "out_features": r"n_{{\mathrm{{out}}}}",
    "in_features": r"n_{{\mathrm{{in}}}}",
    "depth": r"\mathrm{{depth}}",
    "windows": r"N",
}
"""Each leaf; those that a program adds are their name with their indices."""

INFIX = {
    "add": (" + ", SUM, SUM, LARGE),
    "sub": (" - ", SUM, SUM, LARGE),
    "mul": (r" \cdot ", PRODUCT, PRODUCT, PRODUCT),
}
"""The sign between two parts, how tight the whole binds, and how tight the left and the right part must."""

LARGE_SIGNS = {
    "sum": r"\sum",
    "mean": r"\operatorname*{mean}",
    "std": r"\operatorname*{std}",
    "var": r"\operatorname*{Var}",
    "amin": r"\min",
    "amax": r"\max",
    "median": r"\operatorname*{median}",
    "quantile": r"\operatorname*{quantile}",
}
"""Signs of reductions, with the indices that they run over below them."""

CALLS = {
    "ln": r"\ln",
    "tanh": r"\tanh",
    "sigmoid": r"\sigma",
    "sign": r"\operatorname{sign}",
    "min": r"\min",
    "max": r"\max",
}

_ESCAPES = {
    **{c: f"\\{c}" for c in "_%&#${}"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
}


def emit(metric: Metric, version: str) -> str:
    """One line `S_{ij} = …`; the arms of a metric by role as cases."""
    if not metric.roles:
        return f"% {metric.name}, per {metric.per}; written by pzc {version}\nS_{{ij}} = {formula(metric.core)}\n"
    rows = [rf"  {formula(arm.core)} & {_layers(arm.layers)}, \text{{per {arm.per}}} \\" for arm in metric.arms]
    head = f"% {metric.name}, by layer; written by pzc {version}"
    return "\n".join([head, r"S_{ij} = \begin{cases}", *rows, r"\end{cases}", ""])


def _layers(patterns: tuple[str, ...]) -> str:
    written = ["".join(_ESCAPES.get(c, c) for c in p) for p in patterns]
    return ", ".join(rf"\texttt{{{p}}}" for p in written) if written else r"\text{else}"


def formula(core: Node) -> str:
    """The value at row i and column j."""
    built: dict[tuple[Node, Place], Text] = {}
    stack = [(core, HERE)]
    while stack:  # a loop, since a graph may be deeper than Python recurses
        node, place = stack[-1]
        parts = [(arg, where) for arg in node.args for where in _places(node, place)]
        missing = [part for part in parts if part not in built]
        if missing:
            stack += missing
        else:
            built[stack.pop()] = _one(node, place, [built[part] for part in parts])
    return built[core, HERE].tex


def _places(node: Node, place: Place) -> list[Place]:
    """Where the arguments of a node are read: a reduction's over its own indices, a rank's at the place, too."""
    if node.op in OVER_AXES - REDUCING:
        return [_inner(node, place), place]
    if node.op in LARGE_SIGNS or node.op == "norm":
        return [_inner(node, place)]
    return [place]


def _over(node: Node) -> list[str]:
    """The axes that a reduction runs over."""
    return [a for a in ("out", "in") if a in node.args[0].axes and node.value in (None, a)]


def _inner(node: Node, place: Place) -> Place:
    over = _over(node)
    if node.op == "norm" and len(over) == 1 and _is_matrix(node.args[0]):  # ‖W_{i:}‖ for a row of a leaf
        return Place(":" if "out" in over else place.out, ":" if "in" in over else place.inn)
    return Place(place.out + "'" if "out" in over else place.out, place.inn + "'" if "in" in over else place.inn)


def _is_matrix(node: Node) -> bool:
    """Whether a node is a leaf that is written as an entry of a matrix, not as the norm or the mean of one."""
    return node.op == "leaf" and len(node.axes) == 2 and not LEAF_TEX.get(str(node.value), "").startswith("\\")


def _indices(node: Node, place: Place) -> str:
    inner = _inner(node, place)
    return ",".join(inner.out if axis == "out" else inner.inn for axis in _over(node))


def _one(node: Node, place: Place, args: list[Text]) -> Text:
    op = node.op
    if op == "number":
        return number(value_of(node))
    if op == "leaf":
        return Text(_leaf(str(node.value), place), ATOM)
    if op in INFIX:
        sign, binds, left, right = INFIX[op]
        return Text(f"{_inside(args[0], left)}{sign}{_inside(args[1], right)}", binds)
    if op in LARGE_SIGNS:
        under = f"{LARGE_SIGNS[op]}_{{{_indices(node, place)}}}"
        if op == "quantile":
            return Text(_call(under, args), UNIT)
        return Text(f"{under} {_inside(args[0], PRODUCT if op == 'sum' else UNIT)}", LARGE)
    if op in CALLS:
        return Text(_call(CALLS[op], args), UNIT)
    return _special(node, place, args)


def _special(node: Node, place: Place, args: list[Text]) -> Text:
    x = args[0]
    match node.op:
        case "neg":
            return Text(f"-{_inside(x, LARGE)}", SUM)
        case "div":
            return Text(rf"\frac{{{x.tex}}}{{{args[1].tex}}}", UNIT)
        case "pow":
            return Text(f"{_inside(x, ATOM)}^{{{args[1].tex}}}", UNIT)
        case "sqr":
            return Text(f"{_inside(x, ATOM)}^{{2}}", UNIT)
        case "sqrt":
            return Text(rf"\sqrt{{{x.tex}}}", ATOM)
        case "exp":
            return Text(f"e^{{{x.tex}}}", UNIT)
        case "abs":
            return Text(rf"\left\lvert {x.tex} \right\rvert", ATOM)
        case "clamp":
            return Text(_call(r"\min", [Text(_call(r"\max", args[:2]), UNIT), args[2]]), UNIT)
        case "rank":
            return Text(rf"\#\left\{{ {_indices(node, place)} : {x.tex} < {args[1].tex} \right\}}", UNIT)
        case "tail":
            values = rf"{_indices(node, place)} : {x.tex} \ge {args[1].tex}"
            return Text(rf"\sum_{{{values}}} {_inside(x, PRODUCT)}", LARGE)
        case _:
            vector = x.tex if ":" in _inner(node, place) else rf"\left({x.tex}\right)_{{{_indices(node, place)}}}"
            return Text(rf"\left\lVert {vector} \right\rVert_{{{args[1].tex}}}", ATOM)


def _call(name: str, args: list[Text]) -> str:
    arguments = r",\, ".join(a.tex for a in args)
    return rf"{name}\left({arguments}\right)"


def _inside(part: Text, least: int) -> str:
    return part.tex if part.binds >= least else rf"\left({part.tex}\right)"


def _leaf(name: str, place: Place) -> str:
    i, j = place
    if name in LEAF_TEX:
        return LEAF_TEX[name].format(i=i, j=j, ij=i + j)
    index = "".join(place[("out", "in").index(axis)] for axis in LEAVES[name].axes)
    text = rf"\mathrm{{{''.join(_ESCAPES.get(c, c) for c in name)}}}"
    return f"{text}_{{{index}}}" if index else text


def number(value: float) -> Text:
    """A number; a power of ten where it is written with one."""
    mantissa, _, exponent = f"{value!r}".removesuffix(".0").partition("e")
    if not exponent:
        return Text(mantissa, ATOM if value >= 0 else SUM)
    power = f"10^{{{int(exponent)}}}"
    if mantissa == "1":
        return Text(power, UNIT)
    return Text(rf"{mantissa} \cdot {power}", PRODUCT if value >= 0 else SUM)
