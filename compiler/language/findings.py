"""What a checker says about the values of a metric: overflow, division by zero, domains, saturation, idle operations.

Errors rest on what holds for all values of the leaves that their signs allow. Warnings rest on their usual values
(`leaves.Usual`), and leave out what happens only in degenerate layers (`zeros`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from pzc.compiler.analysis.intervals import interval
from pzc.compiler.analysis.shares import removed_axes
from pzc.compiler.analysis.signs import Sign
from pzc.compiler.analysis.typical import typical
from pzc.compiler.analysis.zeros import zeros
from pzc.compiler.core import Node, size, topological, value_of
from pzc.compiler.groups import constant_in
from pzc.compiler.language.idle import idle_operation
from pzc.compiler.leaves import MOST_POSITIONS
from pzc.compiler.limits import FLOAT32_MAX, MAX_SHOWN
from pzc.compiler.rewriting.canonical import canonical_forms
from pzc.compiler.source import expression


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to say about a part of a metric. `code` is one of `grammar.diagnostics.CODES`."""

    node: Node
    code: str
    message: str
    label: str
    help: str | None = None


def findings(root: Node, per: str) -> list[Finding]:
    """Everything there is to say about a score's values under a comparison group: arguments before their users."""
    forms = canonical_forms(root)

    def signs(node: Node) -> Sign:
        return node.sign & forms[node].sign & interval(node, usual=False).signs

    found = [*_domains(root, forms, signs), *_overflows(root), *_saturations(root, per)]
    idle = idle_operation(root, per)
    if idle and not any(f.code == "PZ0306" for f in found):
        operation, rest = idle
        hint = f"`{expression(rest)}` ranks the same" if _to_paste(rest) else "leave it out"
        found.append(
            Finding(
                root, "PZ0307", f"{operation} changes no ranking per {per}", "the order is the same without it", hint
            )
        )
    place = {node: i for i, node in enumerate(topological(root))}
    return sorted(found, key=lambda f: (place[f.node], f.code))


def _written(node: Node) -> str:
    return f"`{expression(node)}`" if size(node) <= MAX_SHOWN else "this"


def _to_paste(node: Node) -> bool:
    """Whether a part is shown for a file: it is short and has no number, which may stand for a parameter."""
    return size(node) <= MAX_SHOWN and all(n.op != "number" for n in topological(node))


def _example(node: Node) -> str:
    return expression(node) if _to_paste(node) else "x"


def _rough(size: float) -> str:
    """A positive number to one digit: 100, 2000, 1e+07."""
    return f"{float(f'{size:.0e}'):g}"


# PZ0303, PZ0304, PZ0306: arguments outside the domain of an operation


@dataclass(frozen=True)
class _Domain:
    """The argument of an operation that has to have one of `signs`. It is an error of its own if it never has."""

    argument: Node
    signs: Sign
    name: str
    strict: bool = True


def _domain(node: Node, forms: Mapping[Node, Node]) -> _Domain | None:
    nonzero = Sign.NEGATIVE | Sign.POSITIVE
    if node.op == "div":
        return _Domain(node.args[1], nonzero, "a division")
    if node.op == "ln":
        return _Domain(node.args[0], Sign.POSITIVE, "a logarithm")
    if node.op == "sqrt":
        return _Domain(node.args[0], Sign.NON_NEGATIVE, "a square root")
    if node.op != "pow":
        return None
    base, exponent = node.args
    form = forms[exponent]
    if form.op != "number":  # a whole exponent is defined for a negative base: no more than a warning
        allowed = Sign.POSITIVE if exponent.sign & interval(exponent).signs & Sign.NEGATIVE else Sign.NON_NEGATIVE
        return _Domain(base, allowed, "a power", strict=False)
    e = value_of(form)
    if e.is_integer():
        return _Domain(base, nonzero, "a negative power") if e < 0 else None
    return _Domain(base, Sign.NON_NEGATIVE if e > 0 else Sign.POSITIVE, "a fractional power")


def _domains(root: Node, forms: Mapping[Node, Node], signs: Callable[[Node], Sign]) -> Iterator[Finding]:
    reasons = zeros(root, signs)
    for node in topological(root):
        domain = _domain(node, forms)
        if domain is None or signs(domain.argument) == Sign.NONE:
            continue
        x, possible = domain.argument, signs(domain.argument)
        if not possible & domain.signs:
            if domain.strict:
                yield _never(node, domain, possible)
            continue
        if possible & interval(x).signs & Sign.NEGATIVE & ~domain.signs:
            yield Finding(
                node,
                "PZ0304",
                f"{domain.name} of what can be negative",
                f"{_written(x)} can be negative",
                f"`abs({_example(x)})` or `max({_example(x)}, 0)` is never negative",
            )
        if reasons[x] is not None and not domain.signs & Sign.ZERO:
            yield _zero(node, domain, f"{_written(x)} can be zero", reasons[x] or "")


def _never(node: Node, domain: _Domain, possible: Sign) -> Finding:
    words = {
        Sign.ZERO: "is always zero",
        Sign.NEGATIVE: "is always negative",
        Sign.NEGATIVE | Sign.ZERO: "is never positive",
    }
    return Finding(
        node,
        "PZ0306",
        f"{_written(node)} is never defined",
        f"{_written(domain.argument)} {words[possible]}",
        f"{domain.name} has no value there",
    )


def _zero(node: Node, domain: _Domain, label: str, reason: str) -> Finding:
    x = domain.argument
    label += f", {reason}" if reason else ""
    text = _example(x) if x.sign.non_negative else f"abs({_example(x)})"
    hint = f"add 1, as in `{text} + 1`" if x.op == "rank" else f"add a small number, as in `{text} + 1e-8`"
    if node.op == "ln":
        return Finding(node, "PZ0304", "a logarithm of what can be zero", label, hint)
    what = "a division by" if node.op == "div" else "a negative power of"
    return Finding(node, "PZ0303", f"{what} what can be zero", label, hint)


# PZ0302: overflow

_FINE, _UNBOUNDED, _OVERFLOWS = range(3)


def _overflows(root: Node) -> Iterator[Finding]:
    """Operations that can pass float32's largest number though their arguments cannot, each at its first place.

    A quotient whose divisor gets near zero has no bound at all. That is for PZ0303 to say, and says nothing about what
    is built on it, but for `exp`, for which a quotient of 89 is too much.
    """
    state: dict[Node, int] = {}
    for node in topological(root):
        found = interval(node)
        before = max((state[a] for a in node.args), default=_FINE)
        if found.empty or max(found.magnitude, _on_the_way(node)) <= FLOAT32_MAX:
            state[node] = _FINE
        elif before == _OVERFLOWS or node.op in ("leaf", "number"):
            state[node] = before if node.args else _UNBOUNDED
        elif node.op != "exp" and (before == _UNBOUNDED or _near_zero(node)):
            state[node] = _UNBOUNDED
        else:
            state[node] = _OVERFLOWS
            yield _overflow(node)


def _on_the_way(node: Node) -> float:
    """The largest value that is met inside an operation: a norm sums up powers before it takes the root."""
    if node.op != "norm":
        return 0.0
    p, largest = value_of(node.args[1]), interval(node.args[0]).magnitude
    try:
        return math.pow(largest, p) * MOST_POSITIONS ** len(removed_axes(node))
    except OverflowError:
        return math.inf


def _near_zero(node: Node) -> bool:
    """Whether an operation divides by a value that gets near zero."""
    if node.op == "div":
        return Sign.ZERO in interval(node.args[1]).signs
    return node.op == "pow" and interval(node.args[1]).low < 0 and Sign.ZERO in interval(node.args[0]).signs


def _overflow(node: Node) -> Finding:
    reach = max(interval(node).magnitude, _on_the_way(node))
    label = f"reaches {reach:.0e} for usual values" if reach < math.inf else "has no bound for usual values"
    x = node.args[0]
    hint = "scale its arguments first, as in `x / max(x)`"
    if node.op == "exp":
        top = interval(x).high
        reaches = f"reaches {_rough(top)}" if top < math.inf else "has no bound"
        label = f"{_written(x)} {reaches} for usual values; e⁸⁹ is beyond float32"
        hint = f"`exp(min({_example(x)}, 80))` stays inside"
    return Finding(node, "PZ0302", f"{_written(node)} can overflow float32", label, hint)


# PZ0305: saturation


def _saturations(root: Node, per: str) -> Iterator[Finding]:
    """Functions that give most positions one and the same float32.

    Every float32 from 9.02 on has the tanh 1, every one from 17 on the sigmoid 1, and below −87 e^x loses its digits.
    The usual range of nearly every leaf reaches there, and a few tied scores change little; so what counts is the
    magnitude of most values (`typical`): that of `tanh(W)` is 0.02, of `tanh(x / max(x))` a quarter, and of `tanh(X)`,
    a norm over all tokens, 100. What is the same for a whole comparison group ties nothing. To limit values by `clamp`,
    `min` or `max` is meant as it is written.
    """
    sizes: dict[Node, float] = {}
    for node in topological(root):
        if node.op not in ("tanh", "sigmoid", "exp") or constant_in(node, per):
            continue
        x = node.args[0]
        sizes = sizes or typical(root)
        falls = x.sign.non_positive and node.op != "tanh"
        if node.op == "exp" and not falls:
            continue
        limit, end = (9.02, "1") if node.op == "tanh" else (87.0, "0") if falls else (17.0, "1")
        if sizes[x] > limit and interval(x).magnitude > limit:
            label = f"{_written(x)} is mostly about {'−' if falls else ''}{_rough(sizes[x])}"
            end = "±1" if node.op == "tanh" and not x.sign.non_negative else end
            yield Finding(
                node,
                "PZ0305",
                f"`{node.op}` saturates here, which ties scores",
                f"{label}; beyond {'−' if falls else ''}{limit:.0f}, `{node.op}` is {end} in float32",
                "scale its argument first, as in `x / max(x)` or `x / std(x)`",
            )
