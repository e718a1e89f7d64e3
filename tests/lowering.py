"""From text to core nodes with none of the checker's objections: for tests of metrics that the checker refuses."""

from __future__ import annotations

from pzc.compiler.core import Node, leaf, make, number
from pzc.compiler.functions import ELEMENTWISE, OPERATORS, REDUCTIONS
from pzc.compiler.leaves import ALIASES
from pzc.grammar.parse import parse
from pzc.grammar.syntax import AxisName, Binary, Call, Expression, MetricDefinition, Name, Negation, Number


def core(text: str) -> Node:
    """The node of one expression."""
    file, errors = parse(f"pzm 1 metric m = {text}")
    assert not errors, errors
    (metric,) = (s for s in file.statements if isinstance(s, MetricDefinition))
    return _lower(metric.value)


def _lower(e: Expression) -> Node:
    match e:
        case Number(text):
            return number(float(text))
        case Name(text):
            return leaf(ALIASES.get(text, text))
        case Negation(Number(text)):
            return number(-float(text))
        case Negation(operand):
            return make("neg", _lower(operand))
        case Binary(operator, left, right):
            return make(OPERATORS[operator], _lower(left), _lower(right))
        case Call():
            return _call(e)


def _call(call: Call) -> Node:
    axes = [a.text for a in call.arguments if isinstance(a, AxisName)]
    nodes = [_lower(a) for a in call.arguments if not isinstance(a, AxisName)]
    reduces = call.function in REDUCTIONS and len(nodes) == REDUCTIONS[call.function].arity
    if not reduces:
        return make(ELEMENTWISE[call.function].op, *nodes)
    axis = axes[0] if axes and nodes[0].axes != {axes[0]} else None
    return make(REDUCTIONS[call.function].op, *nodes, value=axis)
