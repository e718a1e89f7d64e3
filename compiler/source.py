"""From a core node back to source text."""

from __future__ import annotations

from pzc.compiler.core import Node, topological, value_of
from pzc.compiler.functions import ELEMENTWISE, OPERATORS, REDUCTIONS
from pzc.compiler.leaves import short
from pzc.grammar import printer, syntax

_INFIX = {op: symbol for symbol, op in OPERATORS.items()}
_NAMES = {f.op: f.name for f in (*REDUCTIONS.values(), *ELEMENTWISE.values())}


def number_text(value: float) -> str:
    """The shortest text that reads back as the same float64: `2`, `0.5`, `1e-05`."""
    return str(int(value)) if abs(value) < 1e15 and value == int(value) else repr(value)


def to_syntax(root: Node) -> syntax.Expression:
    """The expression as a syntax tree; a node that is shared is written out wherever it is used."""
    built: dict[Node, syntax.Expression] = {}
    for node in topological(root):
        built[node] = _one(node, [built[a] for a in node.args])
    return built[root]


def _one(node: Node, args: list[syntax.Expression]) -> syntax.Expression:
    if node.op == "number":
        value = value_of(node)
        text = syntax.Number(number_text(abs(value)))
        return syntax.Negation(text) if value < 0 else text
    if node.op == "leaf":
        return syntax.Name(short(str(node.value)))
    if node.op == "neg":
        return syntax.Negation(args[0])
    if node.op in _INFIX:
        return syntax.Binary(_INFIX[node.op], args[0], args[1])
    axis = () if node.value is None else (syntax.AxisName(str(node.value)),)
    return syntax.Call(_NAMES[node.op], (*args, *axis))


def expression(node: Node) -> str:
    """The node as one line of `.pzm`."""
    return printer.expression(to_syntax(node))
