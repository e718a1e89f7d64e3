"""The left sides of rules as functions that find them in a node, made once.

A pattern becomes a function of a node and an environment, a list with one place for each metavariable. Sums and
products are matched modulo order: `k * x` and `k + x` split the parts by the conditions on k, `exp(x) * y` finds one
such factor and gives y the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pzc.compiler.core import Node, Value
from pzc.compiler.rewriting.building import OPS, Makers, literal, operation
from pzc.compiler.rewriting.conditions import AXIS, NUMBERS, PLACES, Condition, Env, Setting, condition, picked
from pzc.compiler.rewriting.rules import Rule
from pzc.compiler.rewriting.terms import coefficient, number_of, over, settled
from pzc.grammar.syntax import AxisName, Binary, Call, Expression, Name, Negation

Match = Callable[[Node, Env], bool]
MatchArgs = Callable[[tuple[Node, ...], Value, Env], bool]
"""On the arguments of an operation, and the axis of a reduction."""

WIDEST = 24
"""Pairs are looked for among so many arguments of a minimum or maximum, the last among them, which may be a number; the
others of a wider one stay, which only misses a likeness."""


class Reader:
    """The patterns of one rule: which metavariables are bound already, and which conditions pick k."""

    def __init__(self, rule: Rule, makers: Makers, per: str | None) -> None:
        self.make = makers.node
        self.bound: set[str] = set()
        setting = Setting(makers.at_most, per)
        stated = [c.strip("()") for c in rule.conditions]
        self.pick = picked([c.removeprefix("k ") for c in stated if c.startswith("k ")], setting)
        self.k_needed = "k" in re.findall(r"\w+", rule.right)
        self.conditions: list[Condition] = [condition(c, setting) for c in stated if not c.startswith("k ")]

    def pattern(self, e: Expression | AxisName) -> Match:
        """The matcher of a pattern; metavariables are bound from left to right."""
        value = literal(e)
        if value is not None:
            return lambda node, env: node.op == "number" and node.value == value
        if isinstance(e, Name):
            return self._metavariable(e.text)
        if isinstance(e, Binary) and e.operator == "*":
            if isinstance(e.left, Name) and e.left.text in NUMBERS:
                self.bound.add(e.left.text)
                return self._scaled(PLACES[e.left.text], None, e.right)
            if (weight := literal(e.left)) is not None:
                return self._scaled(None, weight, e.right)
        op, inside = self.operation(e)
        return lambda node, env: node.op == op and inside(node.args, node.value, env)

    def operation(self, e: Expression | AxisName) -> tuple[str, MatchArgs]:
        """An operation, and the matcher of what it is applied to."""
        if isinstance(e, Negation):
            return "neg", self._positional([e.operand])
        if isinstance(e, Binary):
            op = OPS[e.operator]
            if isinstance(e.left, Name) and e.left.text == "k":
                return op, self._picked(op, e.right)
            if e.operator in "+*":
                return op, self._one_and_rest(op, e.left, e.right)
            return op, self._positional([e.left, e.right])
        assert isinstance(e, Call)  # noqa: S101
        op, args, axis = operation(e)
        if axis is not None:
            return op, self._reduction(args, axis)
        return op, self._one_and_rest(op, *args) if op in ("min", "max") else self._positional(args)

    def _scaled(self, place: int | None, value: float | None, rest: Expression) -> Match:
        """A term with a coefficient: any, which is kept, or a given one."""
        op = operation(rest)[0] if isinstance(rest, Call) else None
        inside = self.pattern(rest)

        def match(node: Node, env: Env) -> bool:
            if op and node.op != op and (node.op != "mul" or node.args[-1].op != op):
                return False
            if node.op == "number":
                return False
            weight, other = coefficient(node)
            if value is not None and weight != value:
                return False
            if place is not None:
                env[place] = number_of(weight)
            return inside(other, env)

        return match

    def _metavariable(self, name: str) -> Match:
        place = PLACES[name]
        if name in self.bound:
            return lambda node, env: env[place] is node
        self.bound.add(name)

        def match(node: Node, env: Env) -> bool:
            env[place] = node
            return True

        return (lambda node, env: node.op == "number" and match(node, env)) if name in NUMBERS else match

    def _positional(self, args: list[Expression]) -> MatchArgs:
        inner = [self.pattern(a) for a in args]
        if len(inner) == 1:
            only = inner[0]
            return lambda args, value, env: only(args[0], env)
        if len(inner) == 2:
            left, right = inner
            return lambda args, value, env: left(args[0], env) and right(args[1], env)
        return lambda args, value, env: all(m(a, env) for m, a in zip(inner, args, strict=True))

    def _reduction(self, args: list[Expression], axis: str) -> MatchArgs:
        known = axis == "axis" and "axis" in self.bound
        if axis == "axis":
            self.bound.add("axis")
        inside = self._positional(args)

        def match(args: tuple[Node, ...], value: Value, env: Env) -> bool:
            if axis == "axis":
                axes = over(args, value)
                if known and env[AXIS] != axes:
                    return False
                env[AXIS] = axes
            return inside(args, value, env)

        return match

    def _one_and_rest(self, op: str, left: Expression, right: Expression) -> MatchArgs:
        """Any one of the arguments, and all others: `exp(x) * y`, and inside a pattern `min(x, y)`."""
        one, rest, joined = self.pattern(left), self.pattern(right), self.joined

        def match(args: tuple[Node, ...], value: Value, env: Env) -> bool:
            for i, part in enumerate(args):
                if one(part, env) and rest(joined(op, args[:i] + args[i + 1 :]), env):
                    return True
            return False

        return match

    def _picked(self, op: str, rest: Expression) -> MatchArgs:
        """`k * x` and `k + x`: the parts that fulfil the conditions on k, and all others."""
        self.bound.add("k")
        joined, pick = self.joined, self.pick
        allowed, axes, varying, one_only = pick.allowed, pick.axes, pick.varying, pick.one_only
        place, then, needed = PLACES["k"], self.pattern(rest), self.k_needed

        def match(args: tuple[Node, ...], value: Value, env: Env) -> bool:
            varies = env[AXIS] if axes else varying
            chosen = [part for part in args if not part.bits & varies and allowed[part.sign]]
            if not chosen:
                return False
            if one_only:
                del chosen[1:]
            if len(chosen) == len(args):
                chosen.pop()
            left = tuple([part for part in args if part not in chosen])
            if needed:
                env[place] = joined(op, tuple(chosen))
            return then(joined(op, left), env)

        return match

    def joined(self, op: str, parts: tuple[Node, ...]) -> Node:
        """Some of the parts of a canonical sum, product, minimum or maximum. Some factors of a product are canonical
        too, unless a number meets a sum."""
        if len(parts) == 1:
            return parts[0]
        if op == "mul" and (len(parts) > 2 or parts[0].op != "number"):
            return settled(op, parts)
        return self.make(op, parts)

    def pairs(self, args: list[Expression]) -> Callable[[tuple[Node, ...], Env], tuple[Node, ...] | None]:
        """Any two arguments of a minimum or maximum at the root, in either order; gives the others."""
        first, second = (self.pattern(a) for a in args)
        conditions = self.conditions

        def match(args: tuple[Node, ...], env: Env) -> tuple[Node, ...] | None:
            some = args if len(args) <= WIDEST else (*args[: WIDEST - 1], args[-1])
            for a in some:
                if first(a, env):
                    for b in some:
                        if a is not b and second(b, env) and all(holds(env) for holds in conditions):
                            return tuple([p for p in args if p is not a and p is not b])
            return None

        return match
