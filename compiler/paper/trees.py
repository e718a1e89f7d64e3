"""Pruner-Zero's trees: the JSON files of its release, read as metrics.

A tree is `{"data": "mul", "left": {…}, "right": {…}}`; a unary operator has only `left`, a leaf neither. The release
feeds its trees |W|, the mean over windows of the squared column norm, and 100 times the gradient norm, so its leaves
are `abs(W)`, `sqr(X) / windows` and `100 * G` here. Its operators are those of the library `paper`.
Dong et al., Pruner-Zero, ICML 2024, arXiv 2406.02924, and its public release.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pzc.compiler.metric import Metric, compile_source
from pzc.compiler.names import is_name, taken
from pzc.grammar import printer
from pzc.grammar.diagnostics import did_you_mean
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


LEAVES: dict[str, tuple[str, Expression]] = {
    "W": ("w", Call("abs", (Name("W"),))),
    "X": ("x", Binary("/", Call("sqr", (Name("X"),)), Name("windows"))),
    "G": ("g", Binary("*", Number("100"), Name("G"))),
}
"""The leaves of the release: the name that a metric gives to each, and what it is."""

_OWN = {"paper", *(short for short, _ in LEAVES.values())}
"""The names that the file of a tree has itself."""


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
    if not is_name(name):
        raise TreeError(f"`{name}` is no name for a metric: write letters, digits and `_`, first no digit")
    what = "a name in the file of every tree" if name in _OWN else taken(name)
    if what:
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
    return compile_source(source_of_tree(tree, name), f"{name}.pzm").metrics[0]


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
