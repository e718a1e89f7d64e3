"""Rules compiled to closures: each is read once, and tried only on nodes of its root operation.

A pattern becomes a function of a node and an environment, a list with one place for each metavariable. Sums and
products are matched modulo order: `k * x` and `k + x` split the parts by the conditions on k, `exp(x) * y` finds one
such factor and gives y the rest, and a rule such as `abs(x * y) = abs(x) * abs(y)` is applied to all factors at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pzc.compiler.core import Node, intern, leaf, number
from pzc.compiler.functions import ELEMENTWISE, REDUCTIONS
from pzc.compiler.groups import constant_in, varying
from pzc.compiler.rules import Rule, sides
from pzc.compiler.signs import Sign
from pzc.grammar.syntax import AxisName, Binary, Call, Expression, Name, Negation, Number

Env = list[Any]
Match = Callable[[Node, Env], bool]
Build = Callable[[Env], Node]
Condition = Callable[[Env], bool]
Test = Callable[[Node, Env], bool]

ONE = number(1)
_OPS = {"+": "add", "-": "sub", "*": "mul", "/": "div", "^": "pow"}
_NUMBERS = ("c", "d")
_AXIS, _PER = "axis", "the group"

WIDEST = 24
"""Pairs are looked for among so many arguments of a minimum or maximum, the last among them, which may be a number; the
others of a wider one stay, which only misses a likeness."""

SEVERAL_LAYERS = ("block", "model")


@dataclass(frozen=True)
class Makers:
    """How right sides are built: `node` makes an operation, `reduction` one over a set of axes, `size` the number of
    positions along axes; `at_most` says whether one value is never above another."""

    node: Callable[[str, tuple[Node, ...]], Node]
    reduction: Callable[[str, tuple[Node, ...], frozenset[str]], Node]
    size: Callable[[frozenset[str]], Node]
    at_most: Callable[[Node, Node], bool]

    def joined(self, op: str, parts: tuple[Node, ...]) -> Node:
        """Some of the parts of a canonical sum, product, minimum or maximum. Some factors of a product are canonical
        too, unless a number meets a sum."""
        if len(parts) == 1:
            return parts[0]
        if op == "mul" and (len(parts) > 2 or parts[0].op != "number"):
            return settled(op, parts)
        return self.node(op, parts)


@dataclass(frozen=True)
class Compiled:
    """A rule ready to be tried: `match` fills a new environment from a node or returns None, `build` makes the right
    side; `flips` says that a rank rule turns the order round. `first` is the operation of the first argument that the
    pattern asks for, None for any."""

    rule: Rule
    op: str
    first: str | None
    match: Callable[[Node, str], Env | None]
    build: Build
    flips: bool = False


def over_of(node: Node) -> frozenset[str]:
    """The axes that a reduction, or a rank, goes over."""
    return node.args[0].axes if node.value is None else frozenset((str(node.value),))


def factors_of(node: Node) -> tuple[Node, ...]:
    """The factors of a product; anything else is its own only factor."""
    return node.args if node.op == "mul" else (node,)


def coefficient(node: Node) -> tuple[float, Node]:
    """A term as number times rest."""
    split = node.split
    if split is not None:
        return split
    op = node.op
    if op == "mul":
        args = node.args
        if args[0].op == "number":
            rest = args[1] if len(args) == 2 else settled("mul", args[1:])
            split = node.split = args[0].value, rest
            return split
    elif op == "number":
        return node.value, ONE
    return 1.0, node


def scaled(weight: float, rest: Node) -> Node:
    """A term from number and rest, which is no number but 1 and does not begin with one."""
    if weight == 1:
        return rest
    if rest is ONE:
        return number_of(weight)
    node = settled("mul", (number_of(weight), *factors_of(rest)))
    node.split = weight, rest
    return node


@lru_cache(maxsize=1 << 14)
def number_of(value: float) -> Node:
    """A number that is kept."""
    node = number(value)
    node.settled = True
    return node


def settled(op: str, args: tuple[Node, ...]) -> Node:
    """A node that is known to be its own canonical form."""
    node = intern(op, args)
    node.settled = True
    return node


def is_turned(x: Node) -> bool:
    """Whether a sum is never positive, or has no known sign and begins with a minus: of x and −x exactly one is so."""
    if x.op != "add" or x.sign.non_negative:
        return False
    return x.sign.non_positive or coefficient(x.args[0])[0] < 0


# Conditions

_COMPARE: dict[str, tuple[bool, ...]] = {
    ">= 0": tuple(s.non_negative for s in map(Sign, range(8))),
    "> 0": tuple(s.positive for s in map(Sign, range(8))),
    "<= 0": tuple(s.non_positive and not s.non_negative for s in map(Sign, range(8))),  # what is 0 alone is >= 0
    "< 0": tuple(s.negative for s in map(Sign, range(8))),
}
_OF_NUMBERS: dict[str, Callable[[float], bool]] = {
    "whole": lambda v: v.is_integer(),
    "even": lambda v: v % 2 == 0 and v != 0,
    "odd": lambda v: v % 2 == 1,
    "not even": lambda v: v % 2 != 0,
    "> 0": lambda v: v > 0,
    "< 0": lambda v: v < 0,
}


def _test(words: str, slots: dict[str, int]) -> Test:
    """A condition on one value."""
    if words in _COMPARE:
        allowed = _COMPARE[words]
        return lambda node, env: allowed[node.sign]
    axis = slots[_AXIS]
    if words == "without the axis":
        return lambda node, env: not node.axes & env[axis]
    if words == "constant in the group":
        per = slots[_PER]
        return lambda node, env: constant_in(node, env[per])
    if words == "varies by term":
        per = slots[_PER]
        return lambda node, env: (
            not any(constant_in(term, env[per]) for term in (node.args if node.op == "add" else (node,)))
        )
    if words == "of both signs":
        return lambda node, env: not (node.sign.non_negative or node.sign.non_positive)
    if words == "not a number":
        return lambda node, env: node.op != "number"
    if words == "a divisor":  # known of a whole score only, by `rank.divided`; here it is what follows from it
        return lambda node, env: not node.sign & Sign.ZERO
    if words == "a turned sum":
        return lambda node, env: is_turned(node)
    raise ValueError(f"no such condition: {words}")


def _condition(text: str, slots: dict[str, int], at_most: Callable[[Node, Node], bool]) -> Condition:
    if text == "the axis covers the group":
        axis, per, x = slots[_AXIS], slots[_PER], slots["x"]
        return lambda env: _covers(env[axis], env[per], env[x])
    name, _, words = text.partition(" ")
    place = slots[name]
    if words.startswith("<= ") and words[3:] in slots:
        other = slots[words[3:]]
        return lambda env: at_most(env[place], env[other])
    if name in _NUMBERS:
        holds = _OF_NUMBERS[words]
        return lambda env: holds(env[place].value)
    test = _test(words, slots)
    return lambda env: test(env[place], env)


def checks(rule: Rule, makers: Makers) -> dict[str, Condition]:
    """Each condition of a rule, as it is written, as a function of an environment: for tests."""
    slots = _Reader(rule, makers).slots
    return {c: _condition(c.strip("()"), slots, makers.at_most) for c in rule.conditions}


def _covers(axes: frozenset[str], per: str, x: Node) -> bool:
    """Whether all positions of a group are ranked together: those of one layer, along every axis that varies there."""
    return per not in SEVERAL_LAYERS and x.axes & varying(per) <= axes


# Patterns


class _Reader:
    """The patterns of one rule: where each metavariable stands, and which conditions pick k."""

    def __init__(self, rule: Rule, makers: Makers) -> None:
        self.joined = makers.joined
        self.slots: dict[str, int] = {name: i for i, name in enumerate(("x", "y", "z", "k", "c", "d", _AXIS, _PER))}
        self.bound: set[str] = set()
        stated = [c.strip("()") for c in rule.conditions]
        picks = [c.removeprefix("k ") for c in stated if c.startswith("k ")]
        picks.sort(key=lambda words: words not in _COMPARE)  # signs first: they are cheap to look at
        self.picks = [_test(words, self.slots) for words in picks]
        self.one_only = "< 0" in picks
        self.k_needed = "k" in re.findall(r"\w+", rule.right)
        self.conditions = [_condition(c, self.slots, makers.at_most) for c in stated if not c.startswith("k ")]

    def pattern(self, e: Expression | AxisName) -> Match:
        """The matcher of a pattern; metavariables are bound from left to right."""
        if isinstance(e, Negation) and not isinstance(e.operand, Number):
            return self._positional("neg", [e.operand])
        if isinstance(e, Number | Negation):
            return _is_number(_number_of(e))
        if isinstance(e, Name):
            return self._metavariable(e.text)
        if isinstance(e, Binary):
            return self._parts(e) if e.operator in "+*" else self._positional(_OPS[e.operator], [e.left, e.right])
        assert isinstance(e, Call)  # noqa: S101
        op, args, axis = operation(e)
        if axis is not None:
            return self._reduction(op, args, axis)
        return self._absorbing(op, args) if op in ("min", "max") else self._positional(op, args)

    def _metavariable(self, name: str) -> Match:
        place = self.slots[name]
        if name in self.bound:
            return lambda node, env: env[place] is node
        self.bound.add(name)

        def match(node: Node, env: Env) -> bool:
            env[place] = node
            return True

        return (lambda node, env: node.op == "number" and match(node, env)) if name in _NUMBERS else match

    def _positional(self, op: str, args: list[Expression]) -> Match:
        inner = [self.pattern(a) for a in args]

        def match(node: Node, env: Env) -> bool:
            if node.op != op:
                return False
            for m, a in zip(inner, node.args, strict=False):  # noqa: SIM110 (a generator is slower)
                if not m(a, env):
                    return False
            return True

        return match

    def _reduction(self, op: str, args: list[Expression], axis: str) -> Match:
        place = self.slots[_AXIS]
        known = axis == _AXIS and _AXIS in self.bound
        if axis == _AXIS:
            self.bound.add(_AXIS)
        inner = [self.pattern(a) for a in args]

        def match(node: Node, env: Env) -> bool:
            if node.op != op:
                return False
            if axis == _AXIS:
                over = over_of(node)
                if known and env[place] != over:
                    return False
                env[place] = over
            return all(m(a, env) for m, a in zip(inner, node.args, strict=False))

        return match

    def _parts(self, e: Binary) -> Match:
        """`c * p`, `-1 * p`, `k * x`, `k + x`, and a pattern and a rest: `exp(x) * y`, `c * ln(x) + y`."""
        op = _OPS[e.operator]
        if op == "mul" and isinstance(e.left, Name) and e.left.text in _NUMBERS:
            return self._scaled(self.slots[e.left.text], None, self._bind_first(e.left.text, e.right))
        if op == "mul" and isinstance(e.left, Number | Negation):
            return self._scaled(None, _number_of(e.left), self.pattern(e.right))
        if isinstance(e.left, Name) and e.left.text == "k":
            return self._picked(op, e.right)
        one, rest, joined = self.pattern(e.left), self.pattern(e.right), self.joined

        def match(node: Node, env: Env) -> bool:
            if node.op != op:
                return False
            for i, part in enumerate(node.args):
                if one(part, env) and rest(joined(op, node.args[:i] + node.args[i + 1 :]), env):
                    return True
            return False

        return match

    def _bind_first(self, name: str, rest: Expression) -> Match:
        self.bound.add(name)
        return self.pattern(rest)

    @staticmethod
    def _scaled(place: int | None, value: float | None, rest: Match) -> Match:
        def match(node: Node, env: Env) -> bool:
            if node.op == "number":
                return False
            weight, other = coefficient(node)
            if value is not None and weight != value:
                return False
            if place is not None:
                env[place] = number_of(weight)
            return rest(other, env)

        return match

    def _picked(self, op: str, rest: Expression) -> Match:
        self.bound.add("k")
        joined = self.joined
        place, picks, one_only, then = self.slots["k"], self.picks, self.one_only, self.pattern(rest)
        needed = self.k_needed

        def match(node: Node, env: Env) -> bool:
            if node.op != op:
                return False
            chosen: list[Node] = []
            left: list[Node] = []
            for part in node.args:
                fits = not (one_only and chosen)
                for test in picks if fits else ():
                    if not test(part, env):
                        fits = False
                        break
                (chosen if fits else left).append(part)
            if not chosen:
                return False
            if not left:
                left.append(chosen.pop())
            if needed:
                env[place] = joined(op, tuple(chosen))
            return then(joined(op, tuple(left)), env)

        return match

    def _absorbing(self, op: str, args: list[Expression]) -> Match:
        """A minimum or maximum inside a pattern: metavariables that are bound are found among its arguments."""
        joined = self.joined
        first, second = (self.pattern(a) for a in args)

        def match(node: Node, env: Env) -> bool:
            return node.op == op and any(
                first(part, env) and second(joined(op, node.args[:i] + node.args[i + 1 :]), env)
                for i, part in enumerate(node.args)
            )

        return match

    def pairs(self, op: str, args: list[Expression]) -> Callable[[Node, Env], tuple[Node, ...] | None]:
        """Any two arguments of a minimum or maximum at the root, in either order; gives the others."""
        first, second = (self.pattern(a) for a in args)

        def match(node: Node, env: Env) -> tuple[Node, ...] | None:
            args = node.args if len(node.args) <= WIDEST else (*node.args[: WIDEST - 1], node.args[-1])
            for a in args:
                if first(a, env):
                    for b in args:
                        if a is not b and second(b, env) and all(c(env) for c in self.conditions):
                            return tuple(p for p in node.args if p is not a and p is not b)
            return None

        return match


def _is_number(value: float) -> Match:
    return lambda node, env: node.op == "number" and node.value == value


def _number_of(e: Expression) -> float:
    return float(e.text) if isinstance(e, Number) else -float(e.operand.text)  # type: ignore[union-attr]


def operation(call: Call) -> tuple[str, list[Expression], str | None]:
    """The core operation of a call in a rule, its arguments, and the axes it goes over: `axis`, `all` or None for a
    function that works position by position."""
    args = [a for a in call.arguments if not isinstance(a, AxisName)]
    with_axis = isinstance(args[-1], Name) and args[-1].text == _AXIS
    values = args[:-1] if with_axis else args
    reduces = call.function in REDUCTIONS and (with_axis or call.function not in ELEMENTWISE or len(values) == 1)
    if reduces and len(values) == REDUCTIONS[call.function].arity:
        return REDUCTIONS[call.function].op, values, _AXIS if with_axis else "all"
    return ELEMENTWISE[call.function].op if call.function in ELEMENTWISE else call.function, values, None


def builder(e: Expression, makers: Makers, slots: dict[str, int]) -> Build:
    """A function from an environment to the node of a right side."""
    if isinstance(e, Number):
        constant = number(float(e.text))
        return lambda env: constant
    if isinstance(e, Name) and e.text not in slots:
        read = leaf(e.text)
        return lambda env: read
    if isinstance(e, Name):
        place = slots[e.text]
        return lambda env: env[place]
    if isinstance(e, Negation):
        if isinstance(e.operand, Number):
            negative = number(-float(e.operand.text))
            return lambda env: negative
        return _applied("neg", [builder(e.operand, makers, slots)], makers)
    if isinstance(e, Binary):
        return _applied(_OPS[e.operator], [builder(s, makers, slots) for s in (e.left, e.right)], makers)
    if e.function == "size":
        axes = slots[_AXIS]
        return lambda env: makers.size(env[axes])
    op, values, axis = operation(e)
    args = [builder(a, makers, slots) for a in values]
    if axis is None:
        return _applied(op, args, makers)
    axes = slots[_AXIS]

    def reduction(env: Env) -> Node:
        made = tuple([a(env) for a in args])
        return makers.reduction(op, made, env[axes] if axis == _AXIS else made[0].axes)

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


# Whole rules


def compile_rule(rule: Rule, makers: Makers, writers: Makers | None = None) -> Compiled:
    """A rule as functions. With `writers` its right side is built by these, and not brought to canonical form at
    once."""
    left, right = sides(rule)
    writers = writers or makers
    flips = rule.kind == "rank" and isinstance(right, Negation)
    if flips:
        assert isinstance(right, Negation)  # noqa: S101
        right = right.operand
    reader = _Reader(rule, makers)
    slots = reader.slots
    count, per_place = len(slots), slots[_PER]
    all_at_once = _homomorphism(rule, left, right, reader, writers)
    if all_at_once:
        return all_at_once
    if isinstance(left, Call) and left.function in ("min", "max") and operation(left)[2] is None:
        return _pair_rule(rule, left, right, reader, writers)
    matcher, conditions = reader.pattern(left), reader.conditions

    def match(node: Node, per: str) -> Env | None:
        env: Env = [None] * count
        env[per_place] = per
        if not matcher(node, env):
            return None
        for holds in conditions:
            if not holds(env):
                return None
        return env

    op, args = _root(left)
    return Compiled(rule, op, _first(args), match, builder(right, writers, slots), flips)


def compile_spelling(rule: Rule, makers: Makers) -> tuple[str, Callable[[tuple[Node, ...]], Node]] | None:
    """The operation of a rule whose left side is that of any values, `x - y`, and its right side as a function of them.
    None for every other rule."""
    left, right = sides(rule)
    op, args = _root(left)
    names = [a.text for a in args if isinstance(a, Name)]
    if rule.conditions or names != ["x", "y", "z"][: len(args)] or (isinstance(left, Call) and operation(left)[2]):
        return None
    slots = {name: i for i, name in enumerate(names)}
    build = builder(right, makers, slots)
    return op, lambda values: build(list(values))


def _root(e: Expression) -> tuple[str, list[Expression]]:
    if isinstance(e, Negation):
        return "neg", [e.operand]
    if isinstance(e, Binary):
        return _OPS[e.operator], [e.left, e.right]
    assert isinstance(e, Call)  # noqa: S101
    op, args, _ = operation(e)
    return op, args


def _first(args: list[Expression]) -> str | None:
    """The operation that the first argument must have, where that follows from the pattern."""
    e = args[0]
    if isinstance(e, Number) or (isinstance(e, Name) and e.text in _NUMBERS):
        return "number"
    if isinstance(e, Name | Negation):
        return None
    op, inner = _root(e)
    if op == "mul" and isinstance(inner[0], Name) and inner[0].text in _NUMBERS:
        return None  # a coefficient of 1 is not written
    return op


def _homomorphism(rule: Rule, left: Expression, right: Expression, reader: _Reader, makers: Makers) -> Compiled | None:
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
    slots, count = reader.slots, len(reader.slots)
    x, axes = slots["x"], slots[_AXIS]
    image = builder(images[0], makers, slots)
    reduces = isinstance(left, Call) and operation(left)[2] is not None

    def match(node: Node, per: str) -> Env | None:
        if node.args[0].op != inner:
            return None
        env: Env = [None] * count
        env[x] = node.args[0].args
        env[axes] = over_of(node) if reduces else None
        return env

    def build(env: Env) -> Node:
        made = []
        for part in env[x]:
            each = env.copy()
            each[x] = part
            made.append(image(each))
        return makers.node(outer, tuple(made))

    return Compiled(rule, op, inner, match, build)


def _pair_rule(rule: Rule, left: Call, right: Expression, reader: _Reader, makers: Makers) -> Compiled:
    op, args, _ = operation(left)
    find, slots = reader.pairs(op, args), reader.slots
    count = len(slots)
    result = builder(right, makers, slots)

    def match(node: Node, per: str) -> Env | None:
        env: Env = [None] * (count + 1)
        others = find(node, env)
        env[count] = others
        return env if others is not None else None

    def build(env: Env) -> Node:
        made = result(env)
        return makers.node(op, (made, *env[count])) if env[count] else made

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
