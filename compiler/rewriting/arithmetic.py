"""The arithmetic normal form: sums of collected terms, and products of joined powers.

These are the laws that the table of rules marks `normal`. Every argument here is canonical, and so is every result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from operator import attrgetter

from pzc.compiler.core import BOTH, ONE, Node, intern
from pzc.compiler.memo import remembered
from pzc.compiler.rewriting.engine import NORMAL, build, folded, note, rewritten, settle
from pzc.compiler.rewriting.terms import (
    ZERO,
    are_apart,
    base_and_exponent,
    coefficient,
    factors_of,
    held,
    is_extreme,
    is_turned,
    mark_of,
    marks_of,
    near_part,
    number_of,
    product_of,
    scaled,
    settled,
    split,
)

Weighted = tuple[tuple[Node, float], ...]
"""Terms with their weights, or factors with their exponents."""

LONGEST = 8
"""Terms of a sum into which a factor goes: more could square the size of a deep expression."""

_digest = attrgetter("digest")

# Sums


@remembered
def total(terms: Weighted) -> Node:
    """Σ weight · term: nested sums flattened, equal terms collected, zeros dropped, factors of all terms moved out, and
    then those of some, terms sorted by what they are without their numbers."""
    weights: dict[Node, float] = {}
    unchanged: dict[Node, Node] = {}
    for value, times in terms:
        for term in value.args if value.op == "add" else (value,):
            weight, rest = term.split or split(term)
            if rest is None:
                rest = term
            if times == 1:
                unchanged[rest] = term
            else:
                weight *= times
            if rest in weights:
                weight = held(weight) + weights[rest]
                unchanged.pop(rest, None)
                note("collect terms")
            weights[rest] = held(weight)
    if 0.0 in weights.values():
        weights = {rest: w for rest, w in weights.items() if w != 0}
        note("drop zero")
    if len(weights) < 2:
        for rest, weight in weights.items():
            return unchanged.get(rest) or scaled(weight, rest)
        return ZERO
    if ONE not in weights:
        common = common_factors(list(weights))
        if common:
            inner = total(tuple([(product(without(rest, common)), w) for rest, w in weights.items()]))
            return product((*common.items(), (inner, 1.0)))
    if _may_share(weights):
        spread = _spread(weights)
        if spread:
            return total(spread)
        grouped = _grouped(weights)
        if len(grouped) == 1:
            return total(tuple(grouped.items()))
        if len(grouped) < len(weights) and not any([rest.op == "add" for rest in grouped]):
            weights, unchanged = grouped, {}
    return settled(
        "add",
        tuple([unchanged.get(rest) or scaled(weights[rest], rest) for rest in sorted(weights, key=_digest)]),
    )


_Shared = tuple[Node, float | bool]
"""A factor as terms have it in common: the base, and its exponent, or of a base that is never negative whether that is
positive."""


def _may_share(rests: Iterable[Node]) -> bool:
    """Whether some two terms may have a factor in common, as they are or with their sums spread."""
    seen = 0
    for rest in rests:
        if rest is not ONE:
            marks = _marks(rest)
            inner = _sum_of(rest)
            if inner:
                for each in inner.args:
                    marks |= _marks(each)
            if seen & marks:
                return True
            seen |= marks
    return False


def _sum_of(term: Node) -> Node | None:
    """The sum among the factors of a product, if there is one that is not long, and no other."""
    if term.op != "mul":
        return None
    found = None
    for factor in term.args:
        if factor.op == "add":
            if found:
                return None
            found = factor
    return found if found and len(found.args) <= LONGEST else None


def _sharable(term: Node) -> list[_Shared]:
    """The factors of a term but for its number."""
    _, rest = split(term)
    found = factors_of(rest or term)
    return [(base, e > 0 if base.sign.non_negative else e) for base, e in map(magnitude, found) if base.op != "number"]


def _having(parts: Mapping[Node, Iterable[Node]]) -> dict[_Shared, list[Node]]:
    """The terms that have each factor, by the parts that each term has or is."""
    found: dict[_Shared, list[Node]] = {}
    for rest, some in parts.items():
        for each in dict.fromkeys([each for part in some for each in _sharable(part)]):
            found.setdefault(each, []).append(rest)
    return found


def _spread(weights: dict[Node, float]) -> Weighted:
    """The terms, with those of a sum behind a factor that could share one with another term: as if its own had never
    been moved out. Empty where there is no such sum."""
    parts: dict[Node, list[Node]] = {}
    for rest in weights:
        inner = _sum_of(rest)
        others = [(factor, 1.0) for factor in factors_of(rest) if factor is not inner]
        parts[rest] = [product(((each, 1.0), *others)) for each in inner.args] if inner else [rest]
    having = _having(parts)
    found: list[tuple[Node, float]] = []
    for rest, weight in weights.items():
        some = parts[rest]
        if len(some) > 1 and any([len(having[each]) > 1 for part in some for each in _sharable(part)]):
            note("spread terms")
            found += [(part, weight) for part in some]
        else:
            found.append((rest, weight))
    return tuple(found) if len(found) > len(weights) else ()


def _grouped(weights: dict[Node, float]) -> dict[Node, float]:
    """The terms, those that share a factor as one with the factor before it: first the factor that most terms have, and
    of several the one with the fewest axes, since signs are told best of what varies."""
    while True:
        having = _having({rest: [rest] for rest in weights})
        rests = max(having.items(), key=_weight_of_group)[1] if having else []
        if len(rests) < 2:
            return weights
        note("group terms")
        common = common_factors(rests)
        inner = total(tuple([(product(without(rest, common)), weights[rest]) for rest in rests]))
        weights = {rest: w for rest, w in weights.items() if rest not in rests}
        whole = product((*common.items(), (inner, 1.0)))
        weight, found = split(whole)
        found = found or whole
        weights[found] = held(weights.get(found, 0.0) + weight)


def _weight_of_group(group: tuple[_Shared, list[Node]]) -> tuple[int, int, int]:
    (base, _), rests = group
    return len(rests), -(base.bits & BOTH).bit_count(), base.digest


def multiple(value: Node, weight: float, divisor: float = 1.0) -> Node:
    """A canonical sum times one number, by another; neither is 0."""
    terms = [(t.split or split(t), t) for t in value.args]
    scaled_terms = [(held(w * weight / divisor), rest or t) for (w, rest), t in terms]
    if not all([w for w, _ in scaled_terms]):  # too small for a float
        return total(tuple([(rest, w) for w, rest in scaled_terms]))
    return settled("add", tuple([scaled(w, rest) for w, rest in scaled_terms]))


def common_factors(rests: list[Node]) -> dict[Node, float]:
    """The factors that all terms have, with the least exponent where the base is never negative, else the same."""
    if not _marks(rests[0]) & _marks(rests[1]):
        return {}
    common = dict(map(magnitude, factors_of(rests[0])))
    law = "common factor"
    for rest in rests[1:]:
        kept = {}
        for base, e in map(magnitude, factors_of(rest)):
            least = common.get(base)
            if least == e:
                kept[base] = e
            elif least is not None and base.sign.non_negative and (least > 0) == (e > 0):
                kept[base], law = min(least, e), "common power"
        if not kept:
            return kept
        common = kept
    note(law)
    return common


def magnitude(factor: Node) -> tuple[Node, float]:
    """A factor as base and exponent, an even power as one of a magnitude: x² and |x| have |x| in common."""
    base, e = base_and_exponent(factor)
    if e % 2 == 0 and not base.sign.non_negative and base.op != "sign":
        return build("abs", (base,)), e
    return base, e


def _marks(term: Node) -> int:
    """The marks of the factors of a term."""
    return (term.product or product_of(term))[2] if term.op == "mul" else term.mark or mark_of(term)


def without(rest: Node, common: dict[Node, float]) -> Weighted:
    left = []
    for factor in factors_of(rest):
        base, e = magnitude(factor)
        if base not in common:
            left.append((factor, 1.0))
        elif e != common[base]:
            left.append((base, e - common[base]))
    return tuple(left)


# Products and powers


@remembered
def product(factors: Weighted, weight: float = 1.0) -> Node:
    """Π factor ^ exponent, times a number: flattened, powers of one base joined where that is sound, sorted behind one
    number."""
    parts: list[Node] = []
    marks, apart = 0, True
    for value, exponent in factors:
        for each in (value,) if exponent == 1 else _powers(value, exponent):
            op = each.op
            if op == "number":
                weight *= each.value
                continue
            if op == "mul":
                number, found, own = each.product or product_of(each)
                weight *= number
                parts += found
            else:
                parts.append(each)
                own = each.mark or mark_of(each)
            if marks & own:
                apart = False
            marks |= own
    return _multiplied(held(weight), parts, marks, apart)


def _powers(value: Node, exponent: float) -> Iterable[Node]:
    """The factors of a power, each of which may be a number or a product again."""
    if value.op == "mul" and _distributes(value, exponent):
        note("whole power of product" if exponent.is_integer() else "power of product")
        return [power(f, exponent) for f in value.args]
    return (power(value, exponent),)


def _distributes(value: Node, exponent: float) -> bool:
    """Whether a power of a product is the product of the powers."""
    return exponent.is_integer() or all([f.sign.non_negative for f in value.args])


def _multiplied(weight: float, parts: list[Node], marks: int, apart: bool) -> Node:
    """A number times factors that are no numbers and no products, joined where they are not known to be apart."""
    if weight == 0:
        note("zero")
        return ZERO
    if len(parts) > 1:
        if not (apart or are_apart(parts)):
            return _joined(weight, parts)
        parts.sort(key=_digest)
        node = settled("mul", (number_of(weight), *parts) if weight != 1 else tuple(parts))
        if node.product is None:
            node.product = weight, tuple(parts), marks
        return node
    if not parts:
        return number_of(weight)
    only = parts[0]
    return _single(weight, only) if only.settled else _joined(weight, parts)


def _single(weight: float, only: Node) -> Node:
    """A number times one factor."""
    if weight == 1:
        return only
    if only.op == "add":
        note("number over sum")
        return multiple(only, weight)
    return scaled(weight, only)


class _Signed:
    """The powers of one base of any sign: sgnᵖ · |x|ᵉ, and whether `sign(x)` itself is among them."""

    __slots__ = ("e", "odd", "with_sign")

    def __init__(self) -> None:
        self.odd, self.e, self.with_sign = False, 0.0, False


def _joined(weight: float, factors: list[Node]) -> Node:
    """A number times factors, powers of one base joined."""
    powers: dict[Node, float] = {}
    signed: dict[Node, _Signed] = {}
    roots: dict[Node, float] = {}
    logarithms: list[Node] = []
    signs = {f.args[0] for f in factors if f.op == "sign"}  # of x ≥ 0 too: x · sign(x) is x
    for factor in factors:
        if factor.op == "exp":
            logarithms.append(factor.args[0])
            continue
        base, e = base_and_exponent(factor)
        inner = base
        if base.op in ("abs", "sign"):
            inner = base.args[0]
            inner = inner.args[0] if inner.op == "abs" else inner
        if inner.op == "add":
            content, inner = _primitive(inner, base, e)
            weight *= content
            base = inner if base.op not in ("abs", "sign") else base
        if base.op in ("abs", "sign") or base in signs:
            _join_signed(signed, base, inner, e)
        elif base.sign.non_negative:
            if base in powers:
                note("join powers")
                e = _joint(e, powers[base])
            powers[base] = e
        elif e.is_integer():
            _join_signed(signed, base, base, e)
        else:
            roots[base] = _joint(e, roots.get(base, 0.0))
    for base, e in roots.items():
        beside = signed.pop(base, None)
        if beside:  # where the root is defined, x is |x|
            note("join powers")
            e = _joint(e, beside.e)
        if e.is_integer():
            _join_signed(signed, base, base, e)
        else:
            powers[base] = e
    parts = [power(base, e) for base, e in powers.items() if e]
    for base, found in signed.items():
        parts += _signed_parts(base, found)
    if len(logarithms) == 1:
        parts.append(intern("exp", (logarithms[0],)))
    elif logarithms:
        note("join exponentials")
        parts.append(build("exp", (total(tuple([(x, 1.0) for x in logarithms])),)))
    parts = [settle(p) for p in parts]
    for p in parts:
        if p.op in ("number", "mul"):
            return product(tuple([(p, 1.0) for p in parts]), weight)
    return _multiplied(weight, parts, marks_of(parts), True)


def _join_signed(signed: dict[Node, _Signed], base: Node, inner: Node, e: float) -> None:
    """Another power of x, of |x| or of sign(x), for an x of any sign."""
    if inner in signed:
        note("join powers")
    found = signed.setdefault(inner, _Signed())
    if base.op == "sign":
        found.with_sign = True
        found.odd ^= base.args[0].op != "abs" and e % 2 == 1
        return
    found.e = _joint(found.e, e)
    found.odd ^= base.op != "abs" and e % 2 == 1


def _signed_parts(x: Node, powers: _Signed) -> list[Node]:
    """What joined powers of x are as factors: |x| only where the exponent does not say it."""
    e = powers.e
    if e == 0:
        if powers.odd:
            return [build("sign", (x,))]
        return [build("sign", (build("abs", (x,)),))] if powers.with_sign else []
    if x.sign.non_negative:
        return [power(x, e)]
    if e.is_integer() and powers.odd == (e % 2 == 1):
        return [_raised(x, e)]
    if e % 2 == 0:  # odd, as sign(x) · x²
        return [build("sign", (x,)), _raised(x, e)]
    magnitude = _raised(build("abs", (x,)), e)
    return [build("sign", (x,)), magnitude] if powers.odd else [magnitude]


def _raised(base: Node, exponent: float) -> Node:
    """A power as it stands, but for one of a number or product: (−x)^-½ · (−x)^-½ is (−x)⁻¹, which is −x⁻¹."""
    if exponent == 1:
        return base
    return power(base, exponent) if base.op in ("number", "mul") else settled("pow", (base, number_of(exponent)))


def _tidy(exponent: float) -> float:
    """Exponents are exact to 12 digits, so that 0.3 / 0.1 is 3; and thirds, sevenths and the like as near as a float
    is, so that three thirds are 1."""
    if exponent * 4 % 1 == 0:
        return exponent
    near = near_part(exponent, 1e-13)
    return float(f"{exponent:.12g}") if near is None else near


def _joint(one: float, other: float) -> float:
    """The exponent of two powers of one base together."""
    e = _tidy(one + other)
    return 0.0 if abs(e) < 1e-12 * abs(one) else e


def _primitive(sum_: Node, base: Node, exponent: float) -> tuple[float, Node]:
    """A power of a sum as a number and a sum whose first coefficient is 1 or −1: (2x − 2y)² is 4 · (x − y)². Of x and
    −x the one that is never negative is taken, else the one that begins with a plus."""
    content = abs(coefficient(sum_.args[0])[0])
    turn = exponent.is_integer() and is_turned(sum_)
    if content == 1 and not turn:
        return 1.0, sum_
    content_power = 1.0
    if base.op != "sign":
        try:
            content_power = content**exponent
        except ArithmeticError:
            return 1.0, sum_
        if content_power == 0 or not math.isfinite(content_power):
            return 1.0, sum_
    note("turned sum" if turn else "content")
    odd = turn and base.op != "abs" and exponent % 2 == 1
    return -content_power if odd else content_power, multiple(sum_, 1.0, -content if turn else content)


@remembered
def power(base: Node, exponent: float) -> Node:
    """base ^ exponent for a number: distributed over products and joined with inner powers where that is sound."""
    exponent = _tidy(exponent)
    if exponent == 1:
        return base
    if exponent == 0:
        return ONE
    special = _POWERS.get(base.op)
    return (special and special(base, exponent)) or settled("pow", (base, number_of(exponent)))


def _power_of_number(base: Node, exponent: float) -> Node:
    return folded("pow", (base, number_of(exponent)))


def _power_of_exp(base: Node, exponent: float) -> Node:
    note("power of exponential")
    return build("exp", (product(((base.args[0], 1.0),), exponent),))


def _power_of_product(base: Node, exponent: float) -> Node | None:
    if _distributes(base, exponent):
        return product(((base, exponent),))
    outside = [f for f in base.args if f.sign.positive]
    if not outside:
        return None
    note("power of product")
    inside = product(tuple([(f, 1.0) for f in base.args if not f.sign.positive]))
    return product(tuple([(f, exponent) for f in (*outside, inside)]))


def _power_of_power(base: Node, exponent: float) -> Node | None:
    inner, e = base.args
    if e.op != "number" or is_extreme(e.value * exponent) or is_extreme(e.value):
        return None
    if not inner.sign.non_negative and e.value % 2 == 0:
        note("root of even power")
        return power(build("abs", (inner,)), e.value * exponent)
    whole = exponent.is_integer()
    note("power of power" if inner.sign.non_negative else "whole power of power" if whole else "root of power")
    return power(inner, e.value * exponent)


def _power_of_sum(base: Node, exponent: float) -> Node | None:
    content, primitive = _primitive(base, base, exponent)
    return product(((primitive, exponent),), content) if primitive is not base else None


def _power_of_magnitude(base: Node, exponent: float) -> Node | None:
    if exponent % 2:
        return None
    note("even power")
    return power(base.args[0], exponent)


def _power_of_sign(base: Node, exponent: float) -> Node | None:
    return product(((intern("pow", (base, number_of(exponent))), 1.0),))


_POWERS = {
    "number": _power_of_number,
    "exp": _power_of_exp,
    "mul": _power_of_product,
    "pow": _power_of_power,
    "add": _power_of_sum,
    "abs": _power_of_magnitude,
    "sign": _power_of_sign,
}
"""Powers of what does not simply stand under an exponent."""


def _pow(args: tuple[Node, ...]) -> Node:
    base, exponent = args
    return power(base, exponent.value) if exponent.op == "number" else rewritten("pow", args)


NORMAL.update(
    {
        "add": lambda args: total(tuple([(a, 1.0) for a in args])),
        "mul": lambda args: product(tuple([(a, 1.0) for a in args])),
        "pow": _pow,
    }
)
