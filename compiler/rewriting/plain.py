"""From canonical graphs back to what people write: differences, quotients, squares and roots."""

from __future__ import annotations

from pzc.compiler.core import ONE, Node, make, number, topological, value_of
from pzc.compiler.rewriting.terms import MINUS_ONE, base_and_exponent, coefficient, factors_of
from pzc.compiler.structure import text


def plain(form: Node) -> Node:
    """A canonical graph in the operations that people write: differences, quotients, `sqr`, `sqrt`."""
    built: dict[Node, Node] = {}
    for node in topological(form):
        built[node] = _plain(node, built)
    return built[form]


def _plain(node: Node, built: dict[Node, Node]) -> Node:
    if node.op == "add":
        terms = sorted(node.args, key=lambda t: coefficient(t)[0] < 0)
        total = built[terms[0]]
        for term in terms[1:]:
            weight, rest = coefficient(term)
            if weight < 0:
                total = make("sub", total, _plain_product(number(-weight), rest, built))
            else:
                total = make("add", total, built[term])
        return total
    if node.op == "mul":
        return _plain_product(ONE, node, built)
    if node.op == "pow" and node.args[1].op == "number":
        return _plain_power(built[node.args[0]], value_of(node.args[1]))
    if node.op in ("min", "max") and len(node.args) > 2:
        result = built[node.args[0]]
        for arg in node.args[1:]:
            result = make(node.op, result, built[arg])
        return result
    return make(node.op, *(built[a] for a in node.args), value=node.value) if node.args else node


def _plain_power(base: Node, exponent: float) -> Node:
    if exponent < 0:
        return make("div", ONE, _plain_power(base, -exponent))
    if exponent == 1:
        return base
    if exponent == 2:
        return make("sqr", base.args[0] if base.op == "abs" else base)
    return make("sqrt", base) if exponent == 0.5 else make("pow", base, number(exponent))


def _plain_product(weight: Node, node: Node, built: dict[Node, Node]) -> Node:
    """weight · node, with the factors of negative exponent under one fraction bar."""
    above: list[Node] = [] if weight is ONE else [weight]
    below: list[Node] = []
    for factor in sorted(factors_of(node), key=_reading_order):
        base, e = base_and_exponent(factor)
        if e < 0:
            below.append(_plain_power(_readable(base, built), -e))
        elif factor is MINUS_ONE and not above:
            above.append(factor)
        elif factor is not ONE:
            above.append(_readable(factor, built))
    top = _chain(above) if above else ONE
    return make("div", top, _chain(below)) if below else top


def _reading_order(factor: Node) -> tuple[bool, bool, int]:
    """Numbers first, then the weight, then short factors before long ones."""
    base, _ = base_and_exponent(factor)
    weight = base.args[0] if base.op == "abs" else base
    return factor.op != "number", weight.value != "W", len(text(factor))


def _readable(node: Node, built: dict[Node, Node]) -> Node:
    return built[node] if node in built else plain(node)


def _chain(factors: list[Node]) -> Node:
    result = factors[0]
    rest = factors[1:]
    if result is MINUS_ONE and rest:
        return make("neg", _chain(rest))
    for factor in rest:
        result = make("mul", result, factor)
    return result
