"""Canonical forms: one graph for all expressions that are equal as real functions.

The canonical graph uses n-ary `add` and `mul` with sorted arguments, and powers with a number as exponent; the
spellings `neg sub div sqr sqrt clamp norm mean std median` are gone. Every step keeps the value wherever the
expression is defined. It may be defined in more places: `x / x` becomes 1 though 0 / 0 is an error, which whoever runs
the metric as it is written will meet.

The rules are those of `rules.py`; here is what applies them, arguments before their users, and the arithmetic normal
form, whose laws the table marks `normal`. A node remembers its canonical form.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from functools import cache
from weakref import WeakKeyDictionary

from pzc.compiler import matching
from pzc.compiler.core import Node, digest, intern, leaf, number, topological
from pzc.compiler.functions import REDUCING
from pzc.compiler.intervals import interval
from pzc.compiler.matching import (
    ONE,
    Makers,
    coefficient,
    dispatch,
    factors_of,
    is_turned,
    number_of,
    over_of,
    scaled,
    settled,
)
from pzc.compiler.rules import RULES

ZERO, MINUS_ONE = number(0), number(-1)

SIZES = {"in": "in_features", "out": "out_features"}
_SORTED = {"add", "mul", "min", "max"}
_LONGEST = 1000
"""Characters of a text before its hash stands for it: a part that is shared at every level doubles at every level."""
_text: WeakKeyDictionary[Node, str] = WeakKeyDictionary()

laws: list[str] | None = None
"""Where the normal form notes the laws that it used, while a derivation is traced."""


def _note(law: str) -> None:
    if laws is not None:
        laws.append(law)


def text(node: Node) -> str:
    """A structural text that equal graphs share, up to the order of the arguments of commutative operations."""
    for n in topological(node):
        if n not in _text:
            inner = [_text[a] for a in n.args]
            parts = sorted(inner) if n.op in _SORTED else inner
            value = "" if n.value is None else f":{n.value!r}"
            written = f"({n.op}{value}{''.join(' ' + p for p in parts)})"
            _text[n] = written if len(written) <= _LONGEST else f"(# {hashlib.sha256(written.encode()).hexdigest()})"
    return _text[node]


def value_of(node: Node) -> float:
    """The value of a number."""
    return float(node.value or 0.0)


def base_and_exponent(node: Node) -> tuple[Node, float]:
    """A factor as base and exponent."""
    if node.op == "pow" and node.args[1].op == "number":
        return node.args[0], node.args[1].value
    return node, 1.0


def _tidy(exponent: float) -> float:
    """Exponents are exact to 12 digits, so that 0.3 / 0.1 is 3."""
    return exponent if exponent * 4 % 1 == 0 else float(f"{exponent:.12g}")


# Sums


def add(terms: Iterable[Node]) -> Node:
    """Σ terms, each canonical: nested sums flattened, equal terms collected, zeros dropped, common factors moved out,
    terms sorted."""
    weights: dict[Node, float] = {}
    parts: dict[Node, Node] = {}
    for term in terms:
        for part in term.args if term.op == "add" else (term,):
            weight, rest = coefficient(part)
            if rest in weights:
                weight += weights[rest]
                part = scaled(weight, rest)
                _note("collect terms")
            weights[rest] = weight
            parts[rest] = part
    if 0.0 in weights.values():
        weights = {rest: w for rest, w in weights.items() if w != 0}
        _note("drop zero")
    if len(weights) < 2:
        return next((parts[rest] for rest in weights), ZERO)
    if ONE not in weights:
        common = _common_factors(list(weights))
        if common:
            inner = add([mul([number_of(w), *_without(rest, common)]) for rest, w in weights.items()])
            return mul([*(_powered(base, e) for base, e in common.items()), inner])
    return settled("add", tuple([parts[rest] for rest in sorted(weights, key=_by_rest)]))


def times(total: Node, weight: float, divisor: float = 1.0) -> Node:
    """A canonical sum times one number, by another; neither is 0."""
    products = [(w * weight / divisor, rest) for w, rest in map(coefficient, total.args)]
    if any(w == 0 for w, _ in products):  # too small for a float
        return add([scaled(w, rest) for w, rest in products])
    return settled("add", tuple([scaled(w, rest) for w, rest in products]))


def _by_rest(rest: Node) -> int:
    """Terms by the digests of what is left without their numbers, a number last."""
    return 1 << 64 if rest is ONE else rest.digest or digest(rest)


def _common_factors(rests: list[Node]) -> dict[Node, float]:
    """The factors that all terms have, with the least exponent where the base is never negative, else the same."""
    common = dict(map(base_and_exponent, factors_of(rests[0])))
    law = "common factor"
    for rest in rests[1:]:
        kept = {}
        for base, e in map(base_and_exponent, factors_of(rest)):
            least = common.get(base)
            if least == e:
                kept[base] = e
            elif least is not None and base.sign.non_negative and (least > 0) == (e > 0):
                kept[base], law = min(least, e), "common power"
        if not kept:
            return kept
        common = kept
    _note(law)
    return common


def _without(rest: Node, common: dict[Node, float]) -> list[Node]:
    left = []
    for factor in factors_of(rest):
        base, e = base_and_exponent(factor)
        if base not in common:
            left.append(factor)
        elif e != common[base]:
            left.append(power(base, e - common[base]))
    return left


def _powered(base: Node, e: float) -> Node:
    return base if e == 1 else intern("pow", (base, number_of(e)))


# Products and powers


class _Signed:
    """The powers of one base of any sign: sgnᵖ · |x|ᵉ, and whether `sign(x)` itself is among them."""

    __slots__ = ("e", "odd", "with_sign")

    def __init__(self) -> None:
        self.odd, self.e, self.with_sign = False, 0.0, False


def mul(factors: Iterable[Node]) -> Node:
    """Π factors, each canonical: flattened, powers of one base joined where that is sound, sorted behind one number."""
    weight = 1.0
    parts: list[Node] = []
    for factor in factors:
        for part in factor.args if factor.op == "mul" else (factor,):
            if part.op == "number":
                weight *= part.value
            else:
                parts.append(part)
    if weight == 0:
        _note("zero")
        return ZERO
    if not parts:
        return number_of(weight)
    if len(parts) > 1 or not parts[0].settled:
        if not _apart(parts):
            content, parts = _joined(parts)
            weight *= content
            for p in parts:
                if p.op in ("number", "mul"):
                    return mul([number_of(weight), *parts])
            if not parts:
                return number_of(weight)
        parts.sort(key=digest)
    if len(parts) == 1:
        only = parts[0]
        if weight == 1:
            return settle(only)
        if only.op == "add":
            _note("number over sum")
            return times(only, weight)
    if weight != 1:
        parts.insert(0, number_of(weight))
    return settled("mul", tuple(parts))


def _apart(factors: list[Node]) -> bool:
    """Whether no two of several factors have a base in common, up to its sign, and each is in its normal form."""
    bases: set[Node | str] = set()
    for factor in factors:
        base, op = factor, factor.op
        if op == "exp":
            bases.add(op)
            continue
        if op == "add":
            if abs(coefficient(factor.args[0])[0]) != 1 or is_turned(factor):
                return False
        elif op == "pow" and factor.args[1].op == "number":
            base = factor.args[0]
            op = base.op
        if op in ("abs", "sign"):
            base = base.args[0]
            base = base.args[0] if base.op == "abs" else base
        if not factor.settled:
            return False
        bases.add(base)
    return len(bases) == len(factors)


def _joined(factors: list[Node]) -> tuple[float, list[Node]]:
    """A number, and factors of which no two have a base in common: powers of one base are joined."""
    weight = 1.0
    powers: dict[Node, float] = {}
    signed: dict[Node, _Signed] = {}
    roots: dict[Node, float] = {}
    logarithms: list[Node] = []
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
        if base.op in ("abs", "sign"):
            _join_signed(signed, base, inner, e)
        elif base.sign.non_negative:
            if base in powers:
                _note("join powers")
            powers[base] = powers.get(base, 0.0) + e
        elif e.is_integer():
            _join_signed(signed, base, base, e)
        else:
            roots[base] = roots.get(base, 0.0) + e
    parts: list[Node] = []
    for base, e in powers.items():
        e = _tidy(e)
        if e == 1:
            parts.append(base)
        elif e:
            parts.append(_settle_whole(intern("pow", (base, number_of(e)))))
    for base, joined in roots.items():
        parts.append(power(base, joined))
    for base, found in signed.items():
        parts += _signed_parts(base, found)
    if len(logarithms) == 1:
        parts.append(intern("exp", (logarithms[0],)))
    elif logarithms:
        _note("join exponentials")
        parts.append(build("exp", (add(logarithms),)))
    return weight, parts


def _join_signed(signed: dict[Node, _Signed], base: Node, inner: Node, e: float) -> None:
    """Another power of x, of |x| or of sign(x), for an x of any sign."""
    if inner in signed:
        _note("join powers")
    found = signed.setdefault(inner, _Signed())
    if base.op == "sign":
        found.with_sign = True
        found.odd ^= base.args[0].op != "abs" and e % 2 == 1
        return
    found.e = _tidy(found.e + e)
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
        return [x if e == 1 else _settle_whole(intern("pow", (x, number_of(e))))]
    if e % 2 == 0:  # odd, as sign(x) · x²
        return [build("sign", (x,)), _settle_whole(intern("pow", (x, number_of(e))))]
    magnitude = build("abs", (x,))
    size = magnitude if e == 1 else _settle_whole(intern("pow", (magnitude, number_of(e))))
    return [build("sign", (x,)), size] if powers.odd else [size]


def _primitive(total: Node, base: Node, exponent: float) -> tuple[float, Node]:
    """A power of a sum as a number and a sum whose first coefficient is 1 or −1: (2x − 2y)² is 4 · (x − y)². Of x and
    −x the one that is never negative is taken, else the one that begins with a plus."""
    content = abs(coefficient(total.args[0])[0])
    turn = False
    if exponent.is_integer():
        turn = is_turned(total)
    if content == 1 and not turn:
        return 1.0, total
    if base.op == "sign":
        content_power = 1.0
    else:
        try:
            content_power = content**exponent
        except ArithmeticError:
            return 1.0, total
        if content_power == 0 or not math.isfinite(content_power):
            return 1.0, total
    _note("turned sum" if turn else "content")
    weight = -content if turn else content
    odd = turn and base.op != "abs" and exponent % 2 == 1
    return -content_power if odd else content_power, times(total, 1.0, weight)


def power(base: Node, exponent: float) -> Node:
    """base ^ exponent for a number: distributed over products and joined with inner powers where that is sound."""
    exponent = _tidy(exponent)
    if exponent in (0.0, 1.0):
        return base if exponent else ONE
    op, whole = base.op, exponent.is_integer()
    if op == "number":
        return _folded("pow", (base, number_of(exponent)))
    if op == "exp":
        _note("power of exponential")
        return build("exp", (mul([number_of(exponent), base.args[0]]),))
    if op == "mul":
        if whole or all(f.sign.non_negative for f in base.args):
            _note("whole power of product" if whole else "power of product")
            return mul([power(f, exponent) for f in base.args])
        outside = [f for f in base.args if f.sign.positive]
        if outside:
            _note("power of product")
            return mul(
                [
                    *(power(f, exponent) for f in outside),
                    power(mul(f for f in base.args if not f.sign.positive), exponent),
                ]
            )
    if op == "pow" and base.args[1].op == "number":
        inner, e = base.args[0], value_of(base.args[1])
        if not inner.sign.non_negative and e % 2 == 0:
            _note("root of even power")
            return power(build("abs", (inner,)), e * exponent)
        _note("power of power" if inner.sign.non_negative else "whole power of power" if whole else "root of power")
        return power(inner, e * exponent)
    if op == "add":
        content, primitive = _primitive(base, base, exponent)
        if primitive is not base:
            return mul([number_of(content), power(primitive, exponent)])
    if op == "abs" and exponent % 2 == 0:
        _note("even power")
        return power(base.args[0], exponent)
    if op == "sign":
        return mul([intern("pow", (base, number_of(exponent)))])
    return _settle_whole(intern("pow", (base, number_of(exponent))))


# Minima and maxima


def _extreme(op: str, args: Iterable[Node]) -> Node:
    """min or max of several: flattened, without repetitions, numbers folded, sorted."""
    found: dict[Node, None] = {}
    numbers: list[float] = []
    for arg in args:
        for part in arg.args if arg.op == op else (arg,):
            if part.op == "number":
                numbers.append(value_of(part))
            else:
                found[part] = None
    parts = sorted(found, key=digest)
    if numbers:
        parts.append(number_of(min(numbers) if op == "min" else max(numbers)))
    if len(parts) == 1:
        _note("minimum of one" if op == "min" else "maximum of one")
        return parts[0]
    return _settle_whole(intern(op, tuple(parts)))


# Reductions


def reduction(op: str, args: tuple[Node, ...], over: frozenset[str]) -> Node:
    """A reduction, or a rank, over axes of which its argument may have lost some."""
    x = args[0]
    left = over & x.axes
    if op in _DESUGARED:
        return _defined(op, args, over)
    if left == over:
        return build(op, args, None if over == x.axes else next(iter(over)))
    lost = over - left
    if not left:
        return _of_constant(op, x, lost)
    if op in ("amin", "amax"):
        return reduction(op, args, left)
    if op == "sum":
        _note("sum of constant")
        return mul([sizes(lost), reduction(op, args, left)])
    if op == "rank":  # k equal copies count k times
        return mul([sizes(lost), reduction(op, args, left)])
    if op == "var":
        return _repeated_variance(reduction(op, args, left), left, lost)
    return _lost(op, args, over)


def _of_constant(op: str, x: Node, axes: frozenset[str]) -> Node:
    """The reduction of a value without the axes."""
    if op == "sum":
        _note("sum of constant")
        return mul([sizes(axes), x])
    names = {"var": "variance", "rank": "rank", "amin": "min", "amax": "max", "quantile": "quantile"}
    _note(f"{names[op]} of constant")
    return ZERO if op in ("var", "rank") else x


def sizes(axes: frozenset[str]) -> Node:
    """The number of positions along axes."""
    return mul([settle(leaf(SIZES[a])) for a in axes])


def _repeated_variance(variance: Node, left: frozenset[str], lost: frozenset[str]) -> Node:
    """The sample variance of values each of which stands k times, from that of the n values alone:
    var · k (n − 1) / (k n − 1)."""
    k, n = sizes(lost), sizes(left)
    return mul([variance, k, add([n, MINUS_ONE]), power(add([mul([k, n]), MINUS_ONE]), -1.0)])


_DESUGARED = {"norm", "mean", "std", "median"}


def _defined(op: str, args: tuple[Node, ...], over: frozenset[str]) -> Node:
    """A spelling of a reduction by its definition, over axes some of which the argument may have lost."""
    x = args[0]
    if op == "norm":
        p = value_of(args[1])
        return power(reduction("sum", (power(build("abs", (x,)), p),), over), 1 / p)
    if op == "mean":
        return mul([reduction("sum", args, over), power(sizes(over), -1.0)])
    if op == "std":
        return power(reduction("var", args, over), 0.5)
    return reduction("quantile", (x, number_of(0.5)), over)


def _lost(op: str, args: tuple[Node, ...], over: frozenset[str]) -> Node:
    """How values between neighbours are filled in depends on how many there are, so a quantile over an axis that its
    argument lost gets it back: x + 0 · W."""
    x = args[0]
    share = args[1]
    if share.value in (0.0, 1.0):
        return reduction("amax" if share.value else "amin", (x,), over)
    spread = intern("add", (x, intern("mul", (ZERO, leaf("W")))))
    spread.settled = True
    node = intern(op, (spread, share), None if over == spread.axes else next(iter(over)))
    node.settled = True
    return node


# The engine

_FOLDS: dict[str, Callable[..., float]] = {
    "pow": lambda x, y: float(x**y) if not isinstance(x**y, complex) else math.nan,
    "exp": math.exp,
    "ln": math.log,
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "abs": abs,
    "sign": lambda x: float((x > 0) - (x < 0)),
}


def _folded(op: str, args: tuple[Node, ...]) -> Node:
    """A constant, or the operation as it stands where its value is not a finite real number."""
    try:
        result = _FOLDS[op](*(value_of(a) for a in args))
    except (ArithmeticError, ValueError):
        result = math.nan
    if math.isfinite(result):
        _note("numbers")
        return number_of(result)
    node = intern(op, args)
    node.settled = True
    return node


def at_most(x: Node, y: Node) -> bool:
    """Whether x is never above y, wherever both are defined."""
    if x.op == "number" and y.op == "number":
        return value_of(x) <= value_of(y)
    if x.sign.non_positive and y.sign.non_negative:
        return True
    if x.op != "number" and y.op != "number":
        return False
    low, high = interval(x, usual=False), interval(y, usual=False)
    return not low.empty and not high.empty and low.high <= high.low


def _made(op: str, args: tuple[Node, ...]) -> Node:
    """The canonical form of an operation on canonical arguments, which the normal form computes at once."""
    if op == "mul":
        return mul(args)
    if op == "add":
        return add(args)
    if op == "pow" and args[1].op == "number":
        return power(args[0], args[1].value)
    return settle(intern(op, args))


MAKERS = Makers(node=_made, reduction=reduction, size=sizes, at_most=at_most)


@cache
def spellings() -> dict[str, Callable[[tuple[Node, ...]], Node]]:
    """What the rules without a pattern mean: functions of the arguments."""
    found = {}
    for rule in RULES:
        made = None if rule.kind == "rank" or rule.normal else matching.compile_spelling(rule, MAKERS)
        if made:
            found[made[0]] = made[1]
    return found


@cache
def table() -> matching.Table:
    """The rules of canonical forms, by operation."""
    return dispatch(matching.compile_rule(rule, MAKERS) for rule in RULES if rule.kind != "rank" and not rule.normal)


def build(op: str, args: tuple[Node, ...], value: float | str | None = None) -> Node:
    """The canonical form of an operation on canonical arguments."""
    return settle(intern(op, args, value))


HIGHEST = 100
"""Rules that move one operation past another go down an expression by recursion. They are left out for what is higher
than this, which only misses a likeness."""

SPELLINGS = frozenset({"neg", "sub", "div", "sqr", "sqrt", "clamp", "norm", "mean", "std", "median"})

_NORMAL: dict[str, Callable[[tuple[Node, ...]], Node]] = {
    "add": add,
    "mul": mul,
    "min": lambda args: _extreme("min", args),
    "max": lambda args: _extreme("max", args),
}


def settle(node: Node) -> Node:
    """The canonical form of a node whose arguments are canonical."""
    if node.settled:
        return node
    form = node.form
    if form is None:
        op, args = node.op, node.args
        if op in _NORMAL:
            form = _NORMAL[op](args)
        elif op == "pow" and args[1].op == "number":
            form = power(args[0], args[1].value)
        elif op in _FOLDS and all(a.op == "number" for a in args):
            form = _folded(op, args)
        else:
            form = _settle_whole(node)
        if form is node:
            node.settled = True
        else:
            node.form = form
    return form


def _settle_whole(node: Node) -> Node:
    """A node in normal form, by the first rule of the table that fits."""
    if node.settled:
        return node
    if node.form is not None:
        return node.form
    rules = table().get(node.op)
    if rules and (node.height <= HIGHEST or node.op in SPELLINGS):
        args = node.args
        for rule in rules.get(args[0].op if args else None) or rules[None]:
            env = rule.match(node, "")
            if env is not None:
                form = rule.build(env)
                node.form = form
                return form
    if node.op in ("abs", "sign") and node.args[0].op == "add" and abs(coefficient(node.args[0].args[0])[0]) != 1:
        node.form = form = mul((node,))
        return form
    node.settled = True
    return node


def canonical(root: Node) -> Node:
    """The canonical graph of an expression: equal results are equal real functions."""
    form = root if root.settled else root.form
    if form is None:
        if root.height > _NESTED:
            for node in topological(root):
                _form(node)
        form = _form(root)
    return form


_NESTED = 50
"""Expressions that are higher are settled from the leaves on, lower ones by recursion."""


@cache
def _heads() -> dict[str, Callable[[tuple[Node, ...]], Node]]:
    """What makes the canonical form of an operation from canonical arguments at once."""
    return {**_NORMAL, **spellings()}


def _form(node: Node) -> Node:
    """The canonical form of a node, after those of its arguments."""
    form = node if node.settled else node.form
    if form is not None:
        return form
    args = []
    for a in node.args:
        form = a if a.settled else a.form
        args.append(form if form is not None else _form(a))
    forms, op = tuple(args), node.op
    head = _heads().get(op)
    if head is not None:
        form = head(forms)
    elif op in REDUCING or op == "rank":
        form = reduction(op, forms, over_of(node))
    else:
        form = settle(node if forms == node.args else intern(op, forms, node.value))
    if form is node:
        node.settled = True
    else:
        node.form = form
    return form


def canonical_forms(root: Node) -> dict[Node, Node]:
    """The canonical graph of every part of an expression."""
    return {node: canonical(node) for node in topological(root)}
