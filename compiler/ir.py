"""`pzm-ir/1`: the core graph as canonical JSON, for any other program to read, and back again.

The format is described in docs/pzm-ir.md. A metric has one text: canonical JSON (RFC 8785) and a final line feed,
the nodes in the order of a depth-first walk. So the SHA-256 of the text identifies the metric.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from pzc.compiler import jcs
from pzc.compiler.arm import Arm
from pzc.compiler.core import Node, leaf, make, number, topological, value_of
from pzc.compiler.functions import ELEMENTWISE, OPERATORS, REDUCTIONS
from pzc.compiler.groups import GROUPS
from pzc.compiler.leaves import AXES, LEAVES
from pzc.compiler.limits import MAX_SIZE, in_float32
from pzc.compiler.metric import Metric
from pzc.compiler.names import is_name, taken
from pzc.grammar.parse import MAX_DEPTH
from pzc.grammar.words import BLANKS

FORMAT = "pzm-ir/1"

MAX_TEXT = 10_000_000
"""Characters of a document."""

Kind = Literal["elementwise", "reduction", "ranking"]


@dataclass(frozen=True)
class Operation:
    """How many arguments an operation takes, and what it does to axes.

    `elementwise`: the axes of all arguments together. `reduction`: those of the first, less `axis`, or less all
    where there is none. `ranking`: works along an axis and keeps it. `constant` is the least and the largest number
    that the last argument may be, where it must be a number.
    """

    kind: Kind
    arity: int
    constant: tuple[float, float] | None = None


OPERATIONS: dict[str, Operation] = {
    "neg": Operation("elementwise", 1),
    **{op: Operation("elementwise", 2) for op in OPERATORS.values()},
    **{f.op: Operation("elementwise", f.arity) for f in ELEMENTWISE.values()},
    **{f.op: Operation("ranking" if f.keeps else "reduction", f.arity, f.constant) for f in REDUCTIONS.values()},
}
"""Every operation of a document beside `number` and `leaf`."""


class InvalidDocument(Exception):
    """A text that is no `pzm-ir/1` document; the message says where and why."""


def graph(roots: Iterable[Node]) -> tuple[list[dict[str, Any]], dict[Node, int]]:
    """The nodes under `roots`, each once and after its arguments, and the place of each.

    The order is that of a depth-first walk from the roots, one after the other, arguments from left to right.
    """
    index: dict[Node, int] = {}
    rows: list[dict[str, Any]] = []
    for root in roots:
        for node in topological(root):
            if node not in index:
                index[node] = len(rows)
                rows.append(_row(node, index))
    return rows, index


def _row(node: Node, index: dict[Node, int]) -> dict[str, Any]:
    row: dict[str, Any] = {"op": node.op, "axes": [a for a in AXES if a in node.axes]}
    if node.op == "number":
        return row | {"value": node.value}
    if node.op == "leaf":
        return row | {"name": node.value}
    over = {} if node.value is None else {"axis": node.value}
    return row | over | {"args": [index[a] for a in node.args]}


def emit(metric: Metric) -> str:
    """The metric as a `pzm-ir/1` document: canonical JSON and a line feed."""
    rows, index = graph(arm.core for arm in metric.arms)
    arms = [{"layers": list(arm.layers), "per": arm.per, "score": index[arm.core]} for arm in metric.arms]
    content = {"format": FORMAT, "name": metric.name, "arms": arms, "leaves": sorted(metric.leaves), "nodes": rows}
    return jcs.dumps(content) + "\n"


def sha256(metric: Metric) -> str:
    """The SHA-256 of the metric's document, in hex."""
    return hashlib.sha256(emit(metric).encode()).hexdigest()


def parse(text: str) -> Metric:
    """The metric of a `pzm-ir/1` document in any layout of JSON; `emit` gives the canonical one.

    Raises InvalidDocument for anything else, however large or deep.
    """
    content = _object(_read(text), "the document", ("arms", "format", "leaves", "name", "nodes"))
    if content["format"] != FORMAT:
        _fail(f"the format is not {FORMAT}")
    name = content["name"]
    if not isinstance(name, str) or not is_name(name):
        _fail("the name is not a name of the language")
    if taken(name):
        _fail("the name is one that no source can say: it is taken")
    nodes = _nodes(_list(content["nodes"], "nodes"))
    arms = _arms(_list(content["arms"], "arms"), nodes)
    metric = Metric(name, arms[-1].core, arms[-1].per, roles=tuple(arms[:-1]))
    if content["leaves"] != sorted(metric.leaves):
        _fail("the leaves are not those that the scores read, sorted")
    if content["nodes"] != graph(arm.core for arm in arms)[0]:
        _fail("the nodes are not each there once, used, and in the order of a depth-first walk from the scores")
    return metric


def _fail(message: str) -> NoReturn:
    raise InvalidDocument(message)


# JSON

_TOKENS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[{]|[]}]', re.DOTALL)
_DEEPEST = 4


def _read(text: str) -> Any:
    if len(text) > MAX_TEXT:
        _fail(f"the document has more than {MAX_TEXT:,} characters")
    depth = 0
    for token in _TOKENS.finditer(text):  # before the JSON reader, which recurses
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > _DEEPEST:
            _fail("the document is nested too deep")
    try:
        return json.loads(
            text, parse_int=float, parse_float=float, parse_constant=_constant, object_pairs_hook=_distinct
        )
    except ValueError as error:
        raise InvalidDocument(f"this is not JSON: {error}") from None


def _constant(name: str) -> NoReturn:
    _fail(f"JSON has no {name}")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        _fail("a key is there twice")
    return found


def _object(value: Any, what: str, keys: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict) or sorted(value) != sorted(keys):
        _fail(f"{what} is not an object with the keys {', '.join(sorted(keys))}")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        _fail(f"{what} is not a list with an entry")
    return value


def _place(value: Any, below: int, what: str) -> int:
    """A place in the list of nodes; numbers are read as floats, as JSON means them."""
    if not isinstance(value, float) or not value.is_integer() or not 0 <= value < below:
        _fail(f"{what} is not the place of an earlier node")
    return int(value)


# Nodes and arms


def _nodes(rows: list[Any]) -> list[Node]:
    nodes: list[Node] = []
    sizes: list[tuple[int, int]] = []
    for i, row in enumerate(rows):
        op = row.get("op") if isinstance(row, dict) else None
        if op == "number":
            node = _number(_object(row, f"node {i}", ("axes", "op", "value"))["value"], i)
        elif op == "leaf":
            node = _leaf(_object(row, f"node {i}", ("axes", "name", "op"))["name"], i)
        elif isinstance(op, str) and op in OPERATIONS:
            node = _operation(row, OPERATIONS[op], nodes, i)
        else:
            _fail(f"node {i} has no operation that is known")
        if row["axes"] != [a for a in AXES if a in node.axes]:
            _fail(f"node {i} has other axes than it says")
        below = [sizes[int(place)] for place in row.get("args", [])]
        sizes.append((1 + sum(n for n, _ in below), 1 + max((d for _, d in below), default=0)))
        if sizes[i][0] > MAX_SIZE or sizes[i][1] > MAX_DEPTH:
            _fail(f"node {i}, written out, has more than {MAX_SIZE:,} parts or {MAX_DEPTH} levels")
        nodes.append(node)
    return nodes


def _number(value: Any, i: int) -> Node:
    if not isinstance(value, float) or not in_float32(value):
        _fail(f"node {i} is not a number that float32 holds")
    return number(value)


def _leaf(name: Any, i: int) -> Node:
    if not isinstance(name, str) or name not in LEAVES:
        _fail(f"node {i} is no leaf that is known")
    return leaf(name)


def _operation(row: dict[str, Any], operation: Operation, nodes: list[Node], i: int) -> Node:
    over = ("axis",) if "axis" in row and operation.kind != "elementwise" else ()
    _object(row, f"node {i}", ("args", "axes", "op", *over))
    places = row["args"]
    if not isinstance(places, list) or len(places) != operation.arity:
        _fail(f"node {i} does not have {operation.arity} arguments")
    args = [nodes[_place(place, i, f"an argument of node {i}")] for place in places]
    if operation.kind != "elementwise" and not args[0].axes:
        _fail(f"node {i} works along an axis of a value that has none")
    if over and row["axis"] not in (AXES if len(args[0].axes) == 2 else ()):
        _fail(f"node {i} names an axis, but its argument has not both")
    if operation.constant:
        low, high = operation.constant
        if args[-1].op != "number" or not low <= value_of(args[-1]) <= high:
            what = "above 0" if row["op"] == "norm" else f"from {low:g} to {high:g}"
            _fail(f"node {i} needs a number {what} as its last argument")
    return make(row["op"], *args, value=row.get("axis"))


def _arms(rows: list[Any], nodes: list[Node]) -> list[Arm]:
    arms: list[Arm] = []
    for i, row in enumerate(rows):
        arm = _object(row, f"arm {i}", ("layers", "per", "score"))
        layers = arm["layers"]
        if not isinstance(layers, list) or not all(isinstance(p, str) and p for p in layers):
            _fail(f"arm {i} does not have a list of patterns")
        if bool(layers) != (i < len(rows) - 1):
            _fail("every arm but the last names layers")
        if any("\ud800" <= c <= "\udfff" for p in layers for c in p):
            _fail(f"arm {i} has a pattern that is not Unicode")
        if any(not p.strip(BLANKS) or set(p) & set('"#\r\n') for p in layers):
            _fail(f"arm {i} has a pattern that no source can say")
        if not isinstance(arm["per"], str) or arm["per"] not in GROUPS:
            _fail(f"arm {i} has no comparison group that is known")
        score = _place(arm["score"], len(nodes), f"the score of arm {i}")
        arms.append(Arm(nodes[score], arm["per"], tuple(layers)))
    return arms
