"""Which parameters of a function stand where an axis belongs."""

from __future__ import annotations

from collections.abc import Mapping

from pzc.compiler.functions import ELEMENTWISE, REDUCTIONS
from pzc.compiler.language.scope import Definition
from pzc.grammar.syntax import AxisName, Binary, Call, Expression, Name, Negation


def axis_parameters(parameters: tuple[str, ...], body: Expression, scope: Mapping[str, Definition]) -> frozenset[str]:
    """The parameters that stand in a body where an axis belongs: last in a reduction, or where a function of the file
    has such a parameter."""
    found: set[str] = set()
    waiting: list[Expression | AxisName] = [body]
    while waiting:
        e = waiting.pop()
        match e:
            case Binary():
                waiting += [e.left, e.right]
            case Negation():
                waiting.append(e.operand)
            case Call():
                waiting += e.arguments
                found |= {a.text for a in _in_axis_position(e, scope) if isinstance(a, Name)}
    return frozenset(found & set(parameters))


def _in_axis_position(call: Call, scope: Mapping[str, Definition]) -> list[Expression | AxisName]:
    family, _, member = call.function.partition(".")
    definition = scope.get(family)
    if definition is not None and member:
        definition = definition.members.get(member)
    function = definition.function if definition else None
    if function is None:
        reduction = REDUCTIONS.get(call.function)
        if reduction is None or call.function in ELEMENTWISE:
            return []
        return list(call.arguments[reduction.arity : reduction.arity + 1])
    pairs = zip(function.parameters, call.arguments, strict=False)
    return [argument for name, argument in pairs if name in function.axes]
