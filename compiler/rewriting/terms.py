"""Canonical terms taken apart: a term is a number and the rest, a product a number and factors, a factor a base and an
exponent. What was found is noted at the node."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from functools import lru_cache

from pzc.compiler.core import AXIS_BITS, BOTH, ONE, Node, Value, intern, number

Split = tuple[float, Node | None]
_WHOLE: Split = (1.0, None)

Product = tuple[float, tuple[Node, ...], int]
"""A number, the other factors, and the marks of their bases (`mark_of`)."""

_EXPONENTIAL, _HIDDEN = 1, -1

LARGEST = sys.float_info.max


_PARTS = 360_360
"""The least number that all up to 15 divide."""

_LAST_BITS = 1e-15


def near_part(value: float, tolerance: float) -> float | None:
    """The multiple of a third, a seventh or the like that a number is but for rounding; None where it is none."""
    if abs(value) > 1e6:
        return None
    near = round(value * _PARTS) / _PARTS
    return near if abs(near - value) <= tolerance * abs(value) else None


def held(weight: float) -> float:
    """A coefficient as float64 holds it, without the last bits that it takes to be one of twelve digits, or a multiple
    of a third, a seventh or the like: 0.1 + 0.2 is 0.3. One that is too large stands for values that are infinite
    wherever the score is computed, and so not defined: it only must not become infinite itself, since ∞ / ∞ is
    nothing."""
    if weight * 4 % 1 == 0:
        return weight
    if not -LARGEST <= weight <= LARGEST:
        return 0.0 if math.isnan(weight) else math.copysign(LARGEST, weight)
    short = float(f"{weight:.12g}")
    if abs(short - weight) <= _LAST_BITS * abs(weight):
        return short
    near = near_part(weight, _LAST_BITS)
    return weight if near is None else near


@lru_cache(maxsize=1 << 14)
def number_of(value: float) -> Node:
    """A number that is kept."""
    node = number(value)
    node.settled = True
    return node


ZERO, MINUS_ONE = number_of(0.0), number_of(-1.0)
ONE.settled = True


def settled(op: str, args: tuple[Node, ...]) -> Node:
    """A node that is known to be its own canonical form."""
    node = intern(op, args)
    node.settled = True
    return node


def over_of(node: Node) -> int:
    """The axes that a function goes over, as bits."""
    return over(node.args, node.value)


def over(args: tuple[Node, ...], axis: Value) -> int:
    """The axes that a reduction with this axis goes over, as bits."""
    return args[0].bits & BOTH if axis is None else AXIS_BITS[str(axis)]


def factors_of(node: Node) -> tuple[Node, ...]:
    """The factors of a product; anything else is its own only factor."""
    return node.args if node.op == "mul" else (node,)


_LARGEST_EXPONENT = 1e100


def is_extreme(exponent: float) -> bool:
    """Whether an exponent is so large or so small that products of exponents could end as infinity or zero."""
    return exponent != 0 and not 1 / _LARGEST_EXPONENT <= abs(exponent) <= _LARGEST_EXPONENT


def base_and_exponent(node: Node) -> tuple[Node, float]:
    """A factor as base and exponent. What has an extreme exponent stands for itself, so that none grows without end."""
    if node.op == "pow":
        base, exponent = node.args
        if exponent.op == "number" and not is_extreme(exponent.value):
            return base, exponent.value
    return node, 1.0


def coefficient(term: Node) -> tuple[float, Node]:
    """A term as number times rest."""
    weight, rest = term.split or split(term)
    return weight, rest or term


def split(term: Node) -> Split:
    """The number that a term begins with, and the rest, None for the whole term: whoever asks often looks at the note
    of this name first."""
    op = term.op
    if op == "mul" and term.args[0].op == "number":
        weight, *factors = term.args
        term.split = weight.value, factors[0] if len(factors) == 1 else settled("mul", tuple(factors))
    else:
        term.split = (term.value, ONE) if op == "number" else _WHOLE
    return term.split


def scaled(weight: float, rest: Node) -> Node:
    """A term from number and rest, which is no number but 1 and does not begin with one."""
    if weight == 1:
        return rest
    if rest is ONE:
        return number_of(weight)
    if rest.op == "mul":
        node = settled("mul", (number_of(weight), *rest.args))
    else:
        node = settled("mul", (number_of(weight), rest))
    node.split = weight, rest
    return node


def product_of(node: Node) -> Product:
    """A canonical product as a number and the rest."""
    found = node.product
    if found is None:
        args = node.args
        weight, factors = (args[0].value, args[1:]) if args[0].op == "number" else (1.0, args)
        found = node.product = weight, factors, marks_of(factors)
    return found


def marks_of(factors: Sequence[Node]) -> int:
    """The marks of several factors that have no base in common."""
    marks = 0
    for factor in factors:
        marks |= factor.mark or mark_of(factor)
    return marks


def mark_of(factor: Node) -> int:
    """A bit that stands for the base of a canonical factor: factors whose bits differ are powers of different bases.
    All bits, where a factor is not as products have it: a sum of which a number can be taken."""
    base = base_of(factor)
    if base is None:
        return _HIDDEN
    mark = _EXPONENTIAL if base.op == "exp" else 2 << base.digest % 59
    factor.mark = mark
    return mark


def base_of(factor: Node) -> Node | None:
    """What a canonical factor is a power of, up to sign; None where that is hidden."""
    op, base = factor.op, factor
    if op == "exp":
        return base
    if not factor.settled:
        return None
    if op == "pow" and factor.args[1].op == "number":
        base = factor.args[0]
        op = base.op
    elif op == "add":
        return None if abs(coefficient(factor.args[0])[0]) != 1 or is_turned(factor) else base
    if op == "abs":
        return base.args[0]
    if op == "sign":
        base = base.args[0]
        return base.args[0] if base.op == "abs" else base
    return base


def are_apart(factors: Sequence[Node]) -> bool:
    """Whether several factors are as products have them: no two are powers of one base, nor exponentials."""
    bases: set[Node | str] = set()
    for factor in factors:
        base = base_of(factor)
        if base is None:
            return False
        bases.add("exp" if base.op == "exp" else base)
    return len(bases) == len(factors)


def is_turned(x: Node) -> bool:
    """Whether a sum is never positive, or has no known sign and begins with a minus: of x and −x exactly one is so."""
    if x.op != "add" or x.sign.non_negative:
        return False
    return x.sign.non_positive or coefficient(x.args[0])[0] < 0
