"""Idle operations: what stands at the root of a metric and changes no order inside its comparison group."""

from __future__ import annotations

from pzc.compiler.analysis.signs import Sign
from pzc.compiler.analysis.zeros import zeros
from pzc.compiler.core import Node, size, topological, value_of
from pzc.compiler.groups import constant_in, covers
from pzc.compiler.limits import MAX_SHOWN
from pzc.compiler.rewriting.canonical import canonical
from pzc.compiler.rewriting.rank import ranks_nothing
from pzc.compiler.rewriting.terms import over_of
from pzc.compiler.source import expression

_INCREASING = {"exp", "tanh", "sigmoid"}
_INCREASING_ABOVE_ZERO = {"ln", "sqrt", "sqr"}


def idle_operation(root: Node, per: str) -> tuple[str, Node] | None:
    """The outermost operation of a score if it changes no ranking, in words, and what ranks the same without it.

    The order stays the same wherever the score is defined, over the reals. A factor that is zero for single groups,
    such as `Y` of a dead output under `per row`, counts too; one that is zero for a whole layer does not.
    """
    if ranks_nothing(root, per) or not root.args:
        return None
    x = root.args[0]
    if root.op in _INCREASING or (root.op in _INCREASING_ABOVE_ZERO and x.sign.non_negative):
        return f"`{root.op}` at the root", x
    if root.op == "abs" and x.sign.non_negative:
        return "`abs` of what is never negative", x
    if root.op == "pow" and _increasing_power(x, root.args[1]):
        return f"the power `{expression(root.args[1])}` at the root", x
    if root.op == "rank" and covers(over_of(root), x.bits, per):
        return "`rank` at the root", x
    return _idle_operand(root, per) if root.op in _OPERANDS else None


def _increasing_power(base: Node, exponent: Node) -> bool:
    """xᵉ grows with x for e > 0 where x is never negative, and for odd whole e everywhere."""
    form = canonical(exponent)
    e = value_of(form) if form.op == "number" else 0.0
    return e > 0 and (base.sign.non_negative or e % 2 == 1)


_OPERANDS = {
    "add": ((0, 1), "the addend"),
    "sub": ((1,), "the subtrahend"),
    "mul": ((0, 1), "the factor"),
    "div": ((1,), "the divisor"),
}
"""Of each operation, the operands that may be idle, and what they are called."""


def _idle_operand(root: Node, per: str) -> tuple[str, Node] | None:
    places, name = _OPERANDS[root.op]
    for i in places:
        operand = root.args[i]
        if constant_in(operand, per) and (root.op in ("add", "sub") or _scales(operand, root.op)):
            written = f"{name} `{expression(operand)}`" if size(operand) <= MAX_SHOWN else name
            return f"{written} at the root", root.args[1 - i]
    return None


def _scales(operand: Node, op: str) -> bool:
    """Whether a factor or divisor is positive, wherever the score is defined and ranks anything."""
    if not operand.sign.non_negative or not operand.sign & Sign.POSITIVE:
        return False
    if op == "div" or zeros(operand)[operand] is None:
        return True
    return bool(operand.axes) and all(n.op in _ZERO_WITH_A_LEAF for n in topological(operand))


_ZERO_WITH_A_LEAF = frozenset({"leaf", "number", "abs", "sqr", "sqrt", "pow", "mul"})
"""What is zero only where a statistic is, as that of an input which no token reached."""
