"""Canonical forms: one graph for all expressions that are equal as real functions.

The canonical graph uses n-ary `add` and `mul` with sorted arguments, and powers with a number as exponent instead of
`neg sub div sqr sqrt norm clamp`. Every step keeps the value wherever the expression is defined. It may be defined in
more places: `x / x` becomes 1 though 0 / 0 is an error, which whoever runs the metric as it is written will meet.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from weakref import WeakKeyDictionary

from pzc.compiler.core import Node, leaf, make, number, topological
from pzc.compiler.functions import REDUCING

ZERO, ONE, MINUS_ONE = number(0), number(1), number(-1)

_SIZES = {"in": "in_features", "out": "out_features"}
_text: WeakKeyDictionary[Node, str] = WeakKeyDictionary()
_SORTED = {"add", "mul", "min", "max"}
_LONGEST = 1000
"""Characters of a text before its hash stands for it: a part that is shared at every level doubles at every level."""


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


def coefficient(node: Node) -> tuple[float, Node]:
    """A term as number times rest."""
    if node.op == "number":
        return value_of(node), ONE
    if node.op == "mul" and node.args[0].op == "number":
        rest = node.args[1:]
        return value_of(node.args[0]), rest[0] if len(rest) == 1 else make("mul", *rest)
    return 1.0, node


def factors_of(node: Node) -> tuple[Node, ...]:
    """The factors of a product; anything else is its own only factor."""
    return node.args if node.op == "mul" else (node,)


def base_and_exponent(node: Node) -> tuple[Node, float]:
    """A factor as base and exponent."""
    if node.op == "pow" and node.args[1].op == "number":
        return node.args[0], value_of(node.args[1])
    return node, 1.0


def _tidy(exponent: float) -> float:
    """Exponents are exact to 12 digits, so that 0.3 / 0.1 is 3."""
    return float(f"{exponent:.12g}")


def add(terms: Iterable[Node]) -> Node:
    """Σ terms: nested sums flattened, equal terms collected, zeros dropped, terms sorted."""
    weights: dict[Node, float] = {}
    for term in terms:
        for part in term.args if term.op == "add" else (term,):
            weight, rest = coefficient(part)
            weights[rest] = weights.get(rest, 0.0) + weight
    parts = [scaled(w, rest) for rest, w in weights.items() if w != 0]
    if len(parts) < 2:
        return parts[0] if parts else ZERO
    return make("add", *sorted(parts, key=lambda t: text(coefficient(t)[1])))


def scaled(weight: float, rest: Node) -> Node:
    """A term from number and rest."""
    if weight == 1:
        return rest
    return number(weight) if rest is ONE else make("mul", number(weight), *factors_of(rest))


def mul(factors: Iterable[Node]) -> Node:
    """Π factors: flattened, powers of one base joined where that is sound, sorted behind one number."""
    weight = 1.0
    powers: dict[Node, float] = {}
    logarithms: list[Node] = []
    for factor in (f for product in factors for f in factors_of(product)):
        if factor.op == "number":
            weight *= value_of(factor)
            continue
        if factor.op == "exp":
            logarithms.append(factor.args[0])
            continue
        base, exponent = base_and_exponent(factor)
        if base.op == "add":
            content, base = _primitive(base, exponent)
            weight *= content
        _join(powers, base, exponent)
    if weight == 0:
        return ZERO
    parts = [power(base, e) for base, e in powers.items()]
    if logarithms:
        parts.append(exponential(add(logarithms)) if len(logarithms) > 1 else make("exp", logarithms[0]))
    parts = [p for p in parts if p is not ONE]
    if any(p.op in ("number", "mul") for p in parts):
        return mul([number(weight), *parts])
    if not parts:
        return number(weight)
    if len(parts) == 1 and parts[0].op == "add" and weight != 1:
        return add(mul([number(weight), t]) for t in parts[0].args)
    parts.sort(key=text)
    if weight != 1:
        parts.insert(0, number(weight))
    return parts[0] if len(parts) == 1 else make("mul", *parts)


def _primitive(total: Node, exponent: float) -> tuple[float, Node]:
    """A power of a sum as a number above 0 and a sum whose first coefficient is 1 or −1: (2x − 2y)² is 4 · (x − y)²."""
    terms = [coefficient(t) for t in total.args]
    content = abs(terms[0][0])
    factor = _folded("pow", [number(content), number(exponent)], lambda: content**exponent)
    if content == 1 or factor.op != "number" or value_of(factor) == 0:
        return 1.0, total
    return value_of(factor), add(scaled(weight / content, rest) for weight, rest in terms)


def _join(powers: dict[Node, float], base: Node, exponent: float) -> None:
    """Add an exponent to its base: x^a · x^b = x^(a+b) wherever the left side is defined.

    A base of any sign is kept to exponents between −2 and 2, and the even rest goes to |x|: x³ = x · |x|².
    """
    joined = _tidy(powers.pop(base, 0.0) + exponent)
    if not base.sign.non_negative and joined.is_integer() and abs(joined) >= 2:
        even = 2 * int(joined / 2)
        _join(powers, absolute(base), float(even))
        joined -= even
    if joined != 0:
        powers[base] = joined


def power(base: Node, exponent: float) -> Node:
    """base ^ exponent for a number: distributed over products and joined with inner powers where that is sound."""
    if _tidy(exponent) in (0.0, 1.0):
        return base if exponent else ONE
    whole = exponent.is_integer()
    if base.op == "number":
        return _folded("pow", [base, number(exponent)], lambda: value_of(base) ** exponent)
    if base.op == "exp":
        return exponential(mul([number(exponent), base.args[0]]))
    if base.op == "mul" and (whole or all(f.sign.non_negative for f in base.args)):
        return mul(power(f, exponent) for f in base.args)
    inner, e = base_and_exponent(base)
    if inner is not base:
        return power(inner, e * exponent)
    if base.op == "add":
        content, primitive = _primitive(base, exponent)
        if primitive is not base:
            return mul([number(content), power(primitive, exponent)])
    if not base.sign.non_negative and whole and abs(exponent) >= 2:
        return mul([make("pow", base, number(exponent))])
    return make("pow", base, number(_tidy(exponent)))


def absolute(x: Node) -> Node:
    """|x|: inside products and powers, and nothing where x cannot be negative."""
    if x.sign.non_negative:
        return x
    if x.op == "number":
        return number(-value_of(x))
    if x.op == "mul":
        return mul(absolute(f) for f in x.args)
    base, e = base_and_exponent(x)
    if base is not x and e.is_integer():
        return power(absolute(base), e)
    if x.op == "add" and coefficient(x.args[0])[0] < 0:
        return absolute(mul([MINUS_ONE, x]))
    return make("abs", x)


def exponential(x: Node) -> Node:
    """eˣ; e^(ln x) = x."""
    if x.op == "number":
        return _folded("exp", [x], lambda: math.exp(value_of(x)))
    return x.args[0] if x.op == "ln" else make("exp", x)


def logarithm(x: Node) -> Node:
    """ln x; ln eˣ = x, ln xᵃ = a · ln x, ln (c·x) = ln c + ln x for a number c > 0."""
    if x.op == "number" and value_of(x) > 0:
        return number(math.log(value_of(x)))
    if x.op == "exp":
        return x.args[0]
    base, e = base_and_exponent(x)
    if base is not x:
        return mul([number(e), logarithm(base)])
    weight, rest = coefficient(x)
    if weight > 0 and weight != 1 and rest is not ONE:
        return add([number(math.log(weight)), logarithm(rest)])
    return make("ln", x)


def _tanh(x: Node) -> Node:
    if x.op == "number":
        return number(math.tanh(value_of(x)))
    weight, _ = coefficient(x)
    if weight < 0:
        return mul([MINUS_ONE, make("tanh", mul([MINUS_ONE, x]))])
    return make("tanh", x)


def _sigmoid(x: Node) -> Node:
    if x.op == "number" and abs(value_of(x)) < 700:
        return number(1 / (1 + math.exp(-value_of(x))))
    return make("sigmoid", x)


def _sign(x: Node) -> Node:
    if x.sign.positive or x.sign.negative:
        return ONE if x.sign.positive else MINUS_ONE
    if x is ZERO or x.op == "sign":
        return x
    if x.op == "mul":
        return mul(_sign(f) for f in x.args)
    return make("sign", x)


def _extreme(op: str, args: Iterable[Node]) -> Node:
    """min or max of several: flattened, without repetitions, numbers folded, sorted."""
    found: set[Node] = set()
    numbers: list[float] = []
    for arg in args:
        for part in arg.args if arg.op == op else (arg,):
            if part.op == "number":
                numbers.append(value_of(part))
            else:
                found.add(part)
    parts = sorted(found, key=text)
    if numbers:
        parts.append(number(min(numbers) if op == "min" else max(numbers)))
    return parts[0] if len(parts) == 1 else make(op, *parts)


def _folded(op: str, args: list[Node], compute: Callable[[], object]) -> Node:
    """A constant, or the operation as it stands where its value is not a finite real number."""
    try:
        result = compute()
    except (ArithmeticError, ValueError):
        return make(op, *args)
    return number(result) if isinstance(result, float) and math.isfinite(result) else make(op, *args)


def _reduce(node: Node, x: Node) -> Node:
    """A reduction of a canonical argument, over the axes that the argument had as it was written."""
    over = node.args[0].axes if node.value is None else frozenset({str(node.value)})
    left = over & x.axes
    lost = [leaf(_SIZES[a]) for a in sorted(over - x.axes)]
    if node.op == "norm":
        p = value_of(node.args[1])
        inner = power(absolute(x), p)
        return power(_reduced("sum", inner, over, left, lost), 1 / p)
    if node.op == "quantile":
        return _quantile(node, x, over)
    return _reduced(node.op, x, over, left, lost)


def _quantile(node: Node, x: Node, over: frozenset[str]) -> Node:
    """Factors that are never negative move out. How values between neighbours are filled in depends on how many there
    are, so an argument that lost an axis stays as it was written."""
    if not x.axes & over:
        return x
    if over - x.axes:
        return node
    outside = [f for f in factors_of(x) if not f.axes & over and f.sign.non_negative]
    inner = mul(f for f in factors_of(x) if f not in outside)
    axis = None if inner.axes == over else next(iter(over))
    return mul([*outside, make("quantile", inner, node.args[1], value=axis)])


def _ranked(node: Node, x: Node) -> Node:
    """Factors that are positive and the same along the axis change no rank; k equal copies count k times."""
    over = node.args[0].axes if node.value is None else frozenset({str(node.value)})
    left = over & x.axes
    if not left:
        return ZERO
    inner = mul(f for f in factors_of(x) if f.axes & over or not f.sign.positive)
    lost = [leaf(_SIZES[a]) for a in sorted(over - x.axes)]
    return mul([make("rank", inner, value=None if inner.axes == left else next(iter(left))), *lost])


def _reduced(op: str, x: Node, over: frozenset[str], left: frozenset[str], lost: list[Node]) -> Node:
    if not left:  # the value is the same at every position that is reduced
        return mul([x, *lost]) if op == "sum" else ZERO if op in ("std", "var") else x
    if op in ("std", "var") and lost:
        return power(_repeated_variance(_reduced("var", x, left, left, []), left, lost), 0.5 if op == "std" else 1.0)
    if op in ("std", "var") and x.op == "add":
        x = add(t for t in x.args if t.axes & over)
    outside = [f for f in factors_of(x) if not f.axes & over and _leaves_by(op, f)]
    inside = [f for f in factors_of(x) if f not in outside]
    inner = mul(inside)
    axis = None if inner.axes == left else next(iter(left))
    flips = op in ("amin", "amax") and sum(1 for f in outside if f.sign.negative) % 2 == 1
    kept = {"amin": "amax", "amax": "amin"}[op] if flips else op
    result = make(kept, inner, value=axis)
    through = {"std": absolute, "var": lambda f: power(absolute(f), 2.0)}.get(op, lambda f: f)
    return mul([*map(through, outside), result, *(lost if op == "sum" else [])])


def _repeated_variance(variance: Node, left: frozenset[str], lost: list[Node]) -> Node:
    """The sample variance of values each of which stands k times, from that of the n values alone:
    var · k (n − 1) / (k n − 1)."""
    n = [leaf(_SIZES[a]) for a in sorted(left)]
    once, all_together = (add([mul(sizes), MINUS_ONE]) for sizes in (n, [*n, *lost]))
    return mul([variance, *lost, once, power(all_together, -1.0)])


def _leaves_by(op: str, factor: Node) -> bool:
    """Whether a factor without the reduced axis moves out of the reduction; a minimum needs to know its sign."""
    return op not in ("amin", "amax") or factor.sign.non_negative or factor.sign.negative


_RULES: dict[str, Callable[..., Node]] = {
    "neg": lambda x: mul([MINUS_ONE, x]),
    "add": lambda *xs: add(xs),
    "sub": lambda a, b: add([a, mul([MINUS_ONE, b])]),
    "mul": lambda *xs: mul(xs),
    "div": lambda a, b: mul([a, power(b, -1.0)]),
    "sqr": lambda x: mul([x, x]),
    "sqrt": lambda x: power(x, 0.5),
    "abs": absolute,
    "exp": exponential,
    "ln": logarithm,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "sign": _sign,
    "min": lambda *xs: _extreme("min", xs),
    "max": lambda *xs: _extreme("max", xs),
    "clamp": lambda x, low, high: _extreme("min", [_extreme("max", [x, low]), high]),
}


def canonical(root: Node) -> Node:
    """The canonical graph of an expression: equal results are equal real functions."""
    return canonical_forms(root)[root]


def canonical_forms(root: Node) -> dict[Node, Node]:
    """The canonical graph of every part of an expression."""
    forms: dict[Node, Node] = {}
    for node in topological(root):
        args = [forms[a] for a in node.args]
        if node.op in ("number", "leaf"):
            forms[node] = node
        elif node.op in REDUCING:
            forms[node] = _reduce(node, args[0])
        elif node.op == "rank":
            forms[node] = _ranked(node, args[0])
        elif node.op == "pow":
            base, exponent = args
            forms[node] = power(base, value_of(exponent)) if exponent.op == "number" else make("pow", base, exponent)
        else:
            forms[node] = _RULES[node.op](*args)
    return forms
