"""Pruner-Zero's trees: the JSON files of its release, read as metrics and written from them.

A tree is `{"data": "mul", "left": {…}, "right": {…}}`; a unary operator has only `left`, a leaf neither. The release
feeds its trees |W|, the mean over windows of the squared column norm, and 100 times the gradient norm, so its leaves
are `abs(W)`, `sqr(X) / windows` and `100 * G` here. Its operators are those of the library `paper`.
Dong et al., Pruner-Zero, ICML 2024, arXiv 2406.02924, and its public release.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from pzc.compiler import leaves
from pzc.compiler.core import Node, topological
from pzc.compiler.functions import FUNCTION_NAMES
from pzc.compiler.language.hints import FAMILIES
from pzc.compiler.metric import Metric, compile_source
from pzc.compiler.source import expression
from pzc.grammar import printer
from pzc.grammar.diagnostics import did_you_mean
from pzc.grammar.parse import RESERVED
from pzc.grammar.syntax import (
    Binary,
    Call,
    Edition,
    Expression,
    File,
    Let,
    MetricDefinition,
    Name,
    Negation,
    Number,
    Statement,
    Use,
)

Tree = dict[str, Any]

MAX_NODES, MAX_LEVELS = 1000, 100
"""The largest tree that is read."""


class TreeError(ValueError):
    """A tree that is none, or a metric that no tree of the release says; the message says why."""


# Reading

LEAVES: dict[str, tuple[str, Expression]] = {
    "W": ("w", Call("abs", (Name("W"),))),
    "X": ("x", Binary("/", Call("sqr", (Name("X"),)), Name("windows"))),
    "G": ("g", Binary("*", Number("100"), Name("G"))),
}
"""The leaves of the release: the name that a metric gives to each, and what it is."""

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_TAKEN: tuple[tuple[Collection[str], str], ...] = (
    (RESERVED, "a reserved word"),
    ({*leaves.LEAVES, *leaves.ALIASES, *FAMILIES}, "the name of a leaf"),
    (FUNCTION_NAMES, "the name of a function"),
    ({"paper", *(short for short, _ in LEAVES.values())}, "what the file of a tree names otherwise"),
)


def _call(name: str) -> Callable[..., Expression]:
    return lambda *args: Call(name, args)


UNARY: dict[str, Callable[[Expression], Expression]] = {
    "sqr": _call("sqr"),
    "pow": _call("sqr"),
    "neg": Negation,
    "abs": _call("abs"),
    "log": _call("paper.log"),
    "exp": _call("paper.exp"),
    "sqrt": _call("paper.sqrt"),
    "tanh": _call("tanh"),
    "skp": lambda x: x,
    "mms": _call("paper.mms"),
    "zsn": _call("paper.zsn"),
}
BINARY: dict[str, Callable[[Expression, Expression], Expression]] = {
    "add": lambda x, y: Binary("+", x, y),
    "sub": lambda x, y: Binary("-", x, y),
    "mul": lambda x, y: Binary("*", x, y),
    "div": _call("paper.div"),
}
"""The operators of the release as they are written here; where the core means the same, by the core."""


def read_tree(text: str) -> Tree:
    """The tree that a JSON text holds. Raises TreeError."""
    try:
        tree = json.loads(text, object_pairs_hook=_distinct)
    except RecursionError:
        raise TreeError(f"the tree is deeper than {MAX_LEVELS} levels") from None
    except ValueError as error:
        raise TreeError(f"this is not JSON: {error}") from None
    if not isinstance(tree, dict):
        raise TreeError('a tree is an object such as {"data": "W"}')
    return tree


def _distinct(pairs: list[tuple[str, Any]]) -> Tree:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def check_name(name: str) -> None:
    """Raise TreeError for what cannot name a metric in the file of a tree."""
    if not _NAME.fullmatch(name):
        raise TreeError(f"`{name}` is no name for a metric: write letters, digits and `_`, first no digit")
    for names, what in _TAKEN:
        if name in names:
            raise TreeError(f"`{name}` is no name for a metric: it is {what}")


def source_of_tree(tree: Tree, name: str = "imported", doc: str = "") -> str:
    """The `.pzm` file that means what a tree means in the release, compared per row as there. Raises TreeError."""
    check_name(name)
    used: set[str] = set()
    value = _expression(tree, used)
    statements: list[Statement] = [Edition("1")]
    if "paper." in printer.expression(value):
        statements.append(Use("paper"))
    statements += [Let(short, meaning) for leaf, (short, meaning) in LEAVES.items() if leaf in used]
    statements.append(MetricDefinition(name, value, "row", doc))
    return printer.format_source(File(tuple(statements)), "")


def import_paper_tree(tree: Tree, name: str = "imported") -> Metric:
    """The metric of a tree of Pruner-Zero's release, `{"data": "mul", "left": {…}, "right": {…}}`.

    Raises TreeError for what is no tree or no name, and SourceError for one whose score could not rank anything.
    """
    return compile_source(source_of_tree(tree, name), f"{name}.pzm")[0][0]


@dataclass(frozen=True)
class _Visit:
    tree: Any
    level: int
    entered: bool = False


def _expression(tree: Any, used: set[str]) -> Expression:
    """The expression of a tree. Without recursion: a file may be nested as deep as it likes."""
    built: list[Expression] = []
    waiting = [_Visit(tree, 1)]
    nodes = 0
    while waiting:
        visit = waiting.pop()
        if visit.entered:
            _combine(visit.tree, built)
            continue
        nodes += 1
        if nodes > MAX_NODES or visit.level > MAX_LEVELS:
            raise TreeError(f"the tree has more than {MAX_NODES:,} nodes or {MAX_LEVELS} levels")
        data, children = _read_node(visit.tree)
        if data in LEAVES:
            used.add(data)
            built.append(Name(LEAVES[data][0]))
            continue
        waiting.append(_Visit(visit.tree, visit.level, entered=True))
        waiting += [_Visit(child, visit.level + 1) for child in reversed(children)]
    return built[0]


def _combine(tree: Tree, built: list[Expression]) -> None:
    data = tree["data"]
    if data in UNARY:
        built.append(UNARY[data](built.pop()))
    else:
        right, left = built.pop(), built.pop()
        built.append(BINARY[data](left, right))


def _read_node(tree: Any) -> tuple[str, list[Any]]:
    """A node's name and its children. Raises TreeError unless they fit each other."""
    if not isinstance(tree, dict) or not isinstance(tree.get("data"), str):
        raise TreeError(f'a node of a tree is an object with "data", not {_short(tree)}')
    data = tree["data"]
    children = [tree[side] for side in ("left", "right") if tree.get(side) is not None]
    wanted = 0 if data in LEAVES else 1 if data in UNARY else 2 if data in BINARY else None
    if wanted is None:
        hint = did_you_mean(data, [*LEAVES, *UNARY, *BINARY])
        raise TreeError(f"the release has no operator `{data[:40]}`" + (f"; {hint}" if hint else ""))
    if len(children) != wanted or (wanted == 1 and tree.get("left") is None):
        sides = {0: "no children", 1: '"left"', 2: '"left" and "right"'}[wanted]
        raise TreeError(f"`{data}` takes {sides}")
    return data, children


def _short(value: Any) -> str:
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 40 else f"{text[:40]}…"


# Writing


@dataclass(frozen=True)
class _Scaled:
    """A tree and what its value must be multiplied by: a number above 0 times a power of the number of windows."""

    tree: Tree
    factor: float = 1.0
    windows: float = 0.0

    @property
    def plain(self) -> bool:
        return self.factor == 1 and self.windows == 0

    def power(self, data: str, e: float) -> _Scaled:
        """An operator that raises its argument to a power. Raises TreeError where its factor is beyond a float."""
        try:
            return _Scaled(_node(data, self.tree), self.factor**e, self.windows * e)
        except OverflowError:
            raise TreeError("a number that goes into a power is too large") from None


def _node(data: str, *children: Tree) -> Tree:
    return {"data": data, **dict(zip(("left", "right"), children, strict=False))}


def export_paper_tree(metric: Metric) -> Tree:
    """A tree of the release that ranks weights as a metric does.

    The release has no numbers, so positive factors are kept aside; one that is left at the root changes no ranking
    and is dropped. Raises TreeError, with the part that is to blame, for what its operators can't say.
    """
    if metric.roles:
        raise TreeError("a tree has no roles: every layer gets the same score")
    if metric.per != "row":
        raise TreeError(f"the release compares per row, and this metric per {metric.per}")
    found: dict[Node, _Scaled | None] = {}
    for node in topological(metric.core):
        found[node] = _written(node, found)
        if found[node] is None and node is metric.core:
            blame = next((n for n in topological(node) if found[n] is None and _is_whole(n)), node)
            raise TreeError(f"no operator of the release says `{expression(blame)}`")
    result = found[metric.core]
    if result is None:
        raise TreeError("the release has no numbers")
    return result.tree


def _is_whole(node: Node) -> bool:
    """Whether a part can be blamed: a number or a leaf alone may yet be part of something that can be said."""
    return node.op not in ("number", "leaf", "amin", "amax", "mean", "std", "norm")


def _written(node: Node, found: dict[Node, _Scaled | None]) -> _Scaled | None:
    for pattern in _PATTERNS:
        result = pattern(node, found)
        if result is not None:
            return result
    return None


Found = dict[Node, "_Scaled | None"]


def _leaf(node: Node, found: Found) -> _Scaled | None:
    """|W|, W · W, ‖X‖₂ = (windows · x)^½ for the release's x, ‖G‖₂ = g / 100 for its g."""
    if node.op == "abs" and node.args[0].value == "W":
        return _Scaled(_node("W"))
    if node.value == "X.l2":
        return _Scaled(_node("sqrt", _node("X")), 1.0, 0.5)
    if node.op == "sqr" and node.args[0].value == "X.l2":
        return _Scaled(_node("X"), 1.0, 1.0)
    if node.op == "sqr" and node.args[0].value == "W":
        return _Scaled(_node("sqr", _node("W")))
    if node.op == "mul" and all(a.value == "W" for a in node.args):
        return _Scaled(_node("mul", _node("W"), _node("W")))
    return _Scaled(_node("G"), 0.01) if node.value == "G.l2" else None


def _factor(node: Node, found: Found) -> _Scaled | None:
    """c · x, x / c and x / windows for a number c."""
    if node.op not in ("mul", "div"):
        return None
    a, b = node.args
    if node.op == "mul" and a.op == "number":
        a, b = b, a
    x = found.get(a)
    e = 1 if node.op == "mul" else -1
    if x is not None and b.value == "windows":
        return _Scaled(x.tree, x.factor, x.windows + e)
    if x is None or b.op != "number" or not b.value:
        return None
    c = float(b.value) ** e
    return _Scaled(x.tree if c > 0 else _node("neg", x.tree), x.factor * abs(c), x.windows)


def _logarithm(node: Node, found: Found) -> _Scaled | None:
    """ln(|x| + 0.001)."""
    if node.op != "ln" or node.args[0].op != "add":
        return None
    a, b = node.args[0].args
    a, b = (b, a) if a.op == "number" else (a, b)
    inner = a.args[0] if a.op == "abs" and found.get(a.args[0]) is not None else a
    x = found.get(inner)
    fits = (
        b.op == "number" and b.value == 0.001 and x is not None and x.plain and (a.op == "abs" or a.sign.non_negative)
    )
    return _Scaled(_node("log", x.tree)) if fits and x else None


def _exponential(node: Node, found: Found) -> _Scaled | None:
    """e^min(x, 100)."""
    if node.op != "exp" or node.args[0].op != "min":
        return None
    a, b = node.args[0].args
    a, b = (b, a) if a.op == "number" else (a, b)
    x = found.get(a)
    return _Scaled(_node("exp", x.tree)) if b.value == 100.0 and b.op == "number" and x and x.plain else None


def _scaling(node: Node, found: Found) -> _Scaled | None:
    """(x − min x) / (max x − min x) and (x − mean x) / std x: a positive factor of x drops out."""
    if node.op != "div" or node.args[0].op != "sub":
        return None
    above, below = node.args
    x, offset = above.args
    inner = found.get(x)
    if inner is None or offset.args != (x,) or offset.value is not None:
        return None
    if offset.op == "mean" and below.op == "std" and below.args == (x,) and below.value is None:
        return _Scaled(_node("zsn", inner.tree))
    spread = below.op == "sub" and below.args[1] is offset and below.args[0].op == "amax"
    if offset.op == "amin" and spread and below.args[0].args == (x,) and below.args[0].value is None:
        return _Scaled(_node("mms", inner.tree))
    return None


def _norm_quotient(node: Node, found: Found) -> _Scaled | None:
    """x / ‖y‖_F."""
    if node.op != "div" or node.args[1].op != "norm" or node.args[1].args[1].value != 2.0:
        return None
    x, y = found.get(node.args[0]), found.get(node.args[1].args[0])
    if x is None or y is None or node.args[1].value is not None:
        return None
    return _Scaled(_node("div", x.tree, y.tree), x.factor / y.factor, x.windows - y.windows)


def _unary(node: Node, found: Found) -> _Scaled | None:
    x = found.get(node.args[0]) if node.args else None
    if node.op == "sqrt":
        inner = node.args[0]
        if inner.op == "abs" and found.get(inner.args[0]) is not None:  # the release's root takes the magnitude
            x = found[inner.args[0]]
        elif not inner.sign.non_negative:
            return None
        return x.power("sqrt", 0.5) if x else None
    if x is None:
        return None
    if node.op in ("neg", "abs"):
        return _Scaled(_node(node.op, x.tree), x.factor, x.windows)
    if node.op == "sqr" or (node.op == "pow" and node.args[1].value == 2.0 and node.args[1].op == "number"):
        return x.power("sqr", 2)
    return _Scaled(_node("tanh", x.tree)) if node.op == "tanh" and x.plain else None


def _binary(node: Node, found: Found) -> _Scaled | None:
    if node.op not in ("add", "sub", "mul"):
        return None
    x, y = (found.get(a) for a in node.args)
    if x is None or y is None:
        return None
    if node.op == "mul":
        tree = _node("sqr", x.tree) if x == y else _node("mul", x.tree, y.tree)
        return _Scaled(tree, x.factor * y.factor, x.windows + y.windows)
    alike = x.factor == y.factor and x.windows == y.windows
    return _Scaled(_node(node.op, x.tree, y.tree), x.factor, x.windows) if alike else None


_PATTERNS = (_leaf, _factor, _logarithm, _exponential, _scaling, _norm_quotient, _unary, _binary)
"""What the release can say, the more particular first."""
