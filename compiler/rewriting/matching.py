"""Rules compiled to closures: each is read once, and tried only on nodes of its root operation.

A rule such as `abs(x * y) = abs(x) * abs(y)` is applied to all factors at once, and one on two values of a minimum or
maximum to any two of its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pzc.compiler.core import Node, Value
from pzc.compiler.rewriting.building import OPS, Build, Makers, builder, operation
from pzc.compiler.rewriting.conditions import AXIS, NUMBERS, PLACES, Condition, Env, Setting, condition
from pzc.compiler.rewriting.patterns import Reader
from pzc.compiler.rewriting.rules import Rule, sides
from pzc.compiler.rewriting.terms import over
from pzc.grammar.syntax import Binary, Call, Expression, Name, Negation, Number

_EMPTY: Env = [None] * len(PLACES)
_X = PLACES["x"]


@dataclass(frozen=True)
class Compiled:
    """A rule ready to be tried: `match` fills a new environment from the arguments of an operation, and the axis of a
    reduction, or returns None, `build` makes the right side; `flips` says that a rank rule turns the order round,
    `needs_constant` that it takes parts off that are constant in the group. `first` is the operation of
    the first argument that the pattern asks for, None for any; `among` one that some factor or term must have."""

    rule: Rule
    op: str
    first: str | None
    match: Callable[[tuple[Node, ...], Value], Env | None]
    build: Build
    flips: bool = False
    needs_constant: bool = False
    among: str | None = None


def compile_rule(rule: Rule, makers: Makers, writers: Makers | None = None, per: str | None = None) -> Compiled:
    """A rule as functions; a rank rule under a comparison group. With `writers` its right side is built by these, and
    not brought to canonical form at once."""
    left, right = sides(rule)
    writers = writers or makers
    flips = rule.kind == "rank" and isinstance(right, Negation)
    if flips:
        assert isinstance(right, Negation)  # noqa: S101
        right = right.operand
    reader = Reader(rule, makers, per)
    all_at_once = _homomorphism(rule, left, right, writers)
    if all_at_once:
        return all_at_once
    if isinstance(left, Call) and left.function in ("min", "max") and operation(left)[2] is None:
        return _pair_rule(rule, left, right, reader, writers)
    matcher, conditions = reader.operation(left)[1], reader.conditions

    def match(args: tuple[Node, ...], value: Value) -> Env | None:
        env = _EMPTY.copy()
        if not matcher(args, value, env):
            return None
        for holds in conditions:
            if not holds(env):
                return None
        return env

    op, args = _root(left)
    needs_constant = "k constant in the group" in rule.conditions
    first, among = _first(args), None
    if op in ("add", "mul"):  # in any order
        first, among = None, first
    return Compiled(rule, op, first, match, builder(right, writers), flips, needs_constant, among)


def checks(rule: Rule, makers: Makers, per: str) -> dict[str, Condition]:
    """Each condition of a rule, as it is written, as a function of an environment: for tests."""
    return {c: condition(c.strip("()"), Setting(makers.at_most, per)) for c in rule.conditions}


def compile_spelling(rule: Rule, makers: Makers) -> tuple[str, Callable[[tuple[Node, ...]], Node]] | None:
    """The operation of a rule whose left side is that of any values, `x - y`, and its right side as a function of them.
    None for every other rule."""
    left, right = sides(rule)
    op, args = _root(left)
    names = [a.text for a in args if isinstance(a, Name)]
    if rule.conditions or names != ["x", "y", "z"][: len(args)] or (isinstance(left, Call) and operation(left)[2]):
        return None
    build = builder(right, makers)
    return op, lambda values: build(list(values))


def compile_reduction(rule: Rule, makers: Makers) -> tuple[str, Callable[[tuple[Node, ...], int], Node]] | None:
    """The same of a reduction of any value, `mean(x, axis)`: a function of its arguments and of the axes."""
    left, right = sides(rule)
    if rule.conditions or not isinstance(left, Call) or not operation(left)[2]:
        return None
    op, args, _ = operation(left)
    names = [a.text for a in args if isinstance(a, Name)]
    if names != ["x", "c"][: len(args)]:
        return None
    places, build = [PLACES[name] for name in names], builder(right, makers)

    def made(values: tuple[Node, ...], over: int) -> Node:
        env = _EMPTY.copy()
        env[AXIS] = over
        for place, value in zip(places, values, strict=True):
            env[place] = value
        return build(env)

    return op, made


def _root(e: Expression) -> tuple[str, list[Expression]]:
    if isinstance(e, Negation):
        return "neg", [e.operand]
    if isinstance(e, Binary):
        return OPS[e.operator], [e.left, e.right]
    assert isinstance(e, Call)  # noqa: S101
    op, args, _ = operation(e)
    return op, args


def _first(args: list[Expression]) -> str | None:
    """The operation that the first argument must have, where that follows from the pattern."""
    e = args[0]
    if isinstance(e, Number) or (isinstance(e, Name) and e.text in NUMBERS):
        return "number"
    if isinstance(e, Name | Negation):
        return None
    op, inner = _root(e)
    if op == "mul" and isinstance(inner[0], Name) and inner[0].text in NUMBERS:
        return None  # a coefficient of 1 is not written
    return op


def _homomorphism(rule: Rule, left: Expression, right: Expression, makers: Makers) -> Compiled | None:
    """`f(x ∘ y) = g(x) • g(y)`: on all parts at once."""
    op, args = _root(left)
    pair = args[0]
    if rule.kind == "rank" or not isinstance(pair, Binary | Call) or not isinstance(right, Binary | Call):
        return None
    inner, parts = _root(pair)
    outer, images = _root(right)
    names = [p.text for p in parts if isinstance(p, Name)]
    if names != ["x", "y"] or inner not in ("add", "mul", "min", "max") or len(images) != 2:
        return None
    image = builder(images[0], makers)
    reduces = isinstance(left, Call) and operation(left)[2] is not None

    def match(args: tuple[Node, ...], value: Value) -> Env | None:
        if args[0].op != inner:
            return None
        env = _EMPTY.copy()
        env[_X] = args[0].args
        env[AXIS] = over(args, value) if reduces else None
        return env

    def build(env: Env) -> Node:
        made, each = [], env.copy()
        for part in env[_X]:
            each[_X] = part
            made.append(image(each))
        return makers.node(outer, tuple(made))

    return Compiled(rule, op, inner, match, build)


def _pair_rule(rule: Rule, left: Call, right: Expression, reader: Reader, makers: Makers) -> Compiled:
    op, args, _ = operation(left)
    find = reader.pairs(args)
    result = builder(right, makers)

    def match(args: tuple[Node, ...], value: Value) -> Env | None:
        env = _EMPTY.copy()
        others = find(args, env)
        if others is None:
            return None
        env.append(others)
        return env

    def build(env: Env) -> Node:
        made, others = result(env), env[-1]
        return makers.node(op, (made, *others)) if others else made

    return Compiled(rule, op, None, match, build)


Table = dict[str, dict[str | None, tuple[Compiled, ...]]]


def dispatch(compiled: Iterable[Compiled]) -> Table:
    """Rules by root operation, then by the operation of the first argument; those for any stand in every list."""
    by_op: dict[str, list[Compiled]] = {}
    for each in compiled:
        by_op.setdefault(each.op, []).append(each)
    return {
        op: {first: tuple(r for r in rules if r.first in (None, first)) for first in {None, *(r.first for r in rules)}}
        for op, rules in by_op.items()
    }
