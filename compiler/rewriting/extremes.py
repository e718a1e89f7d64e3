"""The normal form of minima and maxima: of all values at once, without common factors.

These laws, too, are marked `normal` in the table of rules. Every argument here is canonical, and so is every result.
"""

from __future__ import annotations

from collections.abc import Iterable

from pzc.compiler.core import ONE, Node
from pzc.compiler.rewriting.arithmetic import common_factors, magnitude, multiple, product, without
from pzc.compiler.rewriting.engine import in_order, note
from pzc.compiler.rewriting.terms import ZERO, coefficient, factors_of, held, number_of, scaled, split

_DUAL = {"min": "max", "max": "min"}


def extreme(op: str, args: Iterable[Node]) -> Node:
    """min or max of several: flattened, without repetitions, numbers folded, common factors moved out, sorted by what
    the values are without their numbers, of which the first is 1."""
    parts: dict[tuple[Node, float], tuple[float, float]] = {}
    numbers: dict[float, tuple[float, float]] = {}
    for arg in args:
        for outer, inner, rest in _flat(op, arg):
            weight = outer * inner  # which may come about in several ways: the same one counts in any order
            if rest is ONE:
                numbers[weight] = max(numbers.get(weight, (outer, inner)), (outer, inner))
            else:
                parts[rest, weight] = max(parts.get((rest, weight), (outer, inner)), (outer, inner))
    weighted = sorted(parts, key=_first)
    bound = (min(numbers) if op == "min" else max(numbers)) if numbers else None
    if not weighted or (len(weighted) == 1 and bound is None):
        note("minimum of one" if op == "min" else "maximum of one")
        return _times(*weighted[0]) if weighted else number_of(bound or 0.0)
    common = _common_to_all([rest for rest, _ in weighted], bound)
    if common:
        note("factor of minimum" if op == "min" else "factor of maximum")
        left = [product(without(rest, common), weight) for rest, weight in weighted]
        return product((*common.items(), (extreme(op, left if bound is None else [*left, ZERO]), 1.0)))
    content = weighted[0][1]
    if content != 1:
        note(f"{'turned' if content < 0 else 'content of'} {'minimum' if op == 'min' else 'maximum'}")
        values = [_times(part[0], _quotient(*parts[part], content)) for part in weighted]
        number = None if bound is None else number_of(_quotient(*numbers[bound], content))
        found = extreme(op if content > 0 else _DUAL[op], values if number is None else [*values, number])
        if bound is not None and found is number:  # it alone is left, with every bit that it had
            return number_of(bound)
        return product(((found, 1.0),), content)
    made = [_times(rest, weight) for rest, weight in weighted]
    return in_order(op, tuple(made) if bound is None else (*made, number_of(bound)))


def _quotient(outer: float, inner: float, content: float) -> float:
    """outer · inner / content: the inner number as it was where the others cancel."""
    return inner if outer == content else held(outer * inner / content)


def _first(part: tuple[Node, float]) -> tuple[int, bool]:
    return part[0].digest, part[1] < 0


def _flat(op: str, arg: Node) -> list[tuple[float, float, Node]]:
    """A value of a minimum or maximum as numbers and values without: several, where it is such a one itself. Of two
    numbers the first stands before that one."""
    weight, rest = arg.split or split(arg)
    if rest is None:
        rest = arg
    if rest.op == (op if weight > 0 else _DUAL[op]):
        return [(weight * outer, inner, r) for part in rest.args for outer, inner, r in _flat(rest.op, part)]
    if rest.op == "add":
        content = coefficient(rest.args[0])[0]
        return [(1.0, content, rest if content == 1 else multiple(rest, 1.0, content))]
    return [(1.0, weight, rest)]


def _times(rest: Node, weight: float) -> Node:
    return multiple(rest, weight) if rest.op == "add" and weight != 1 else scaled(weight, rest)


def _common_to_all(rests: list[Node], bound: float | None) -> dict[Node, float]:
    """The factors, never negative, that all values have; a number beside them has none, unless it is 0."""
    if len(rests) + (bound is not None) < 2 or bound:
        return {}
    found = dict(map(magnitude, factors_of(rests[0]))) if len(rests) == 1 else common_factors(rests)
    if len(rests) == 1 and len(found) == 1:
        return {}
    return {base: e for base, e in found.items() if base.sign.non_negative}
