"""The right sides of rules as functions from what was matched to the node that is made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pzc.compiler.core import BOTH, Node, leaf, number
from pzc.compiler.functions import ELEMENTWISE, REDUCTIONS
from pzc.compiler.rewriting.conditions import AXIS, PLACES, Env
from pzc.grammar.syntax import AxisName, Binary, Call, Expression, Name, Negation, Number

Build = Callable[[Env], Node]
Weighted = tuple[tuple[Node, float], ...]

OPS = {"+": "add", "-": "sub", "*": "mul", "/": "div", "^": "pow"}


@dataclass(frozen=True)
class Makers:
    """How right sides are built: `node` makes an operation, `reduction` one over axes, as bits, `size` the number of
    positions along axes; `at_most` says whether one value is never above another. With `product`, of factors with
    exponents and a number, and `total`, of terms with weights, whole products and sums are made at once."""

    node: Callable[[str, tuple[Node, ...]], Node]
    reduction: Callable[[str, tuple[Node, ...], int], Node]
    size: Callable[[int], Node]
    at_most: Callable[[Node, Node], bool]
    product: Callable[[Weighted, float], Node] | None = None
    total: Callable[[Weighted], Node] | None = None


def literal(e: Expression | AxisName) -> float | None:
    """The value of a number that is written out."""
    if isinstance(e, Number):
        return float(e.text)
    if isinstance(e, Negation) and isinstance(e.operand, Number):
        return -float(e.operand.text)
    return None


def operation(call: Call) -> tuple[str, list[Expression], str | None]:
    """The core operation of a call in a rule, its arguments, and the axes it goes over: `axis`, `all` or None for a
    function that works position by position."""
    args = [a for a in call.arguments if not isinstance(a, AxisName)]
    with_axis = isinstance(args[-1], Name) and args[-1].text == "axis"
    values = args[:-1] if with_axis else args
    reduces = call.function in REDUCTIONS and (with_axis or call.function not in ELEMENTWISE or len(values) == 1)
    if reduces and len(values) == REDUCTIONS[call.function].arity:
        return REDUCTIONS[call.function].op, values, "axis" if with_axis else "all"
    return ELEMENTWISE[call.function].op if call.function in ELEMENTWISE else call.function, values, None


def builder(e: Expression, makers: Makers) -> Build:
    """A function from an environment to the node of a right side."""
    value = literal(e)
    if value is not None:
        constant = number(value)
        return lambda env: constant
    if isinstance(e, Name):
        return _name(e.text)
    assert not isinstance(e, Number)  # noqa: S101
    if isinstance(e, Negation):
        return _product(e, makers) if makers.product else _applied("neg", [builder(e.operand, makers)], makers)
    if isinstance(e, Binary):
        if makers.product and e.operator in "*/":
            return _product(e, makers)
        if makers.total and e.operator in "+-":
            return _total(e, makers)
        return _applied(OPS[e.operator], [builder(s, makers) for s in (e.left, e.right)], makers)
    if e.function == "size":
        return lambda env: makers.size(env[AXIS])
    op, values, axis = operation(e)
    args = [builder(a, makers) for a in values]
    return _applied(op, args, makers) if axis is None else _reduction(op, args, axis, makers)


def _name(text: str) -> Build:
    if text not in PLACES:
        read = leaf(text)
        return lambda env: read
    place = PLACES[text]
    return lambda env: env[place]


def _reduction(op: str, args: list[Build], axis: str, makers: Makers) -> Build:
    def reduction(env: Env) -> Node:
        made = tuple([a(env) for a in args])
        return makers.reduction(op, made, env[AXIS] if axis == "axis" else made[0].bits & BOTH)

    return reduction


def _applied(op: str, args: list[Build], makers: Makers) -> Build:
    node = makers.node
    if len(args) == 1:
        only = args[0]
        return lambda env: node(op, (only(env),))
    if len(args) == 2:
        left, right = args
        return lambda env: node(op, (left(env), right(env)))
    return lambda env: node(op, tuple([a(env) for a in args]))


def _product(e: Expression, makers: Makers) -> Build:
    weight, factors = _factors(e)
    product = makers.product
    assert product is not None  # noqa: S101
    named = _places(factors)
    if named:
        return lambda env: product(tuple([(env[place], exponent) for place, exponent in named]), weight)
    built = [(builder(base, makers), exponent) for base, exponent in factors]
    return lambda env: product(tuple([(base(env), exponent) for base, exponent in built]), weight)


def _factors(e: Expression) -> tuple[float, list[tuple[Expression, float]]]:
    """A product as a number, and factors with the exponents that are written out."""
    value = literal(e)
    if value is not None:
        return value, []
    if isinstance(e, Negation):
        weight, factors = _factors(e.operand)
        return -weight, factors
    if isinstance(e, Binary) and e.operator in "*/":
        (a, above), (b, below) = _factors(e.left), _factors(e.right)
        sign = 1.0 if e.operator == "*" else -1.0
        return a * b**sign, above + [(base, sign * exponent) for base, exponent in below]
    if isinstance(e, Binary) and e.operator == "^" and (exponent := literal(e.right)) is not None:
        return 1.0, [(e.left, exponent)]
    return 1.0, [(e, 1.0)]


def _total(e: Expression, makers: Makers) -> Build:
    total = makers.total
    assert total is not None  # noqa: S101
    terms = _terms(e)
    named = _places(terms)
    if named:
        return lambda env: total(tuple([(env[place], weight) for place, weight in named]))
    built = [(builder(term, makers), weight) for term, weight in terms]
    return lambda env: total(tuple([(term(env), weight) for term, weight in built]))


def _places(parts: list[tuple[Expression, float]]) -> list[tuple[int, float]] | None:
    """Where the metavariables stand, if all parts are such."""
    names = [(part.text, number) for part, number in parts if isinstance(part, Name) and part.text in PLACES]
    return [(PLACES[name], number) for name, number in names] if len(names) == len(parts) else None


def _terms(e: Expression) -> list[tuple[Expression, float]]:
    """A sum as terms with the weights that are written out."""
    if isinstance(e, Binary) and e.operator in "+-":
        sign = 1.0 if e.operator == "+" else -1.0
        return _terms(e.left) + [(term, sign * weight) for term, weight in _terms(e.right)]
    if isinstance(e, Binary) and e.operator == "*" and (weight := literal(e.left)) is not None:
        return [(e.right, weight)]
    return [(e, 1.0)]
