"""Rank forms: what is left of a metric when everything is dropped that changes no order inside a group.

What drops: strictly increasing functions at the root, positive factors and any addends that are constant inside the
group, and a common scale of the exponents of a product of non-negative factors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from operator import attrgetter

from pzc.compiler.core import BOTH, Node, bits_of_leaves, leaf, make
from pzc.compiler.groups import JOINT, constant_in, covers, varying_bits
from pzc.compiler.rewriting.arithmetic import multiple, power, product, total
from pzc.compiler.rewriting.canonical import canonical
from pzc.compiler.rewriting.engine import HIGHEST, build
from pzc.compiler.rewriting.makers import MAKERS
from pzc.compiler.rewriting.matching import Table, compile_rule, dispatch
from pzc.compiler.rewriting.rules import BY_NAME, RULES, Rule
from pzc.compiler.rewriting.terms import MINUS_ONE, base_and_exponent, coefficient, factors_of, over_of

_digest = attrgetter("digest")

Trace = Callable[[Rule, Node, Node, bool], None]


@cache
def table(per: str) -> Table:
    """The rank rules of the table under a comparison group, by operation."""
    return dispatch(compile_rule(r, MAKERS, per=per) for r in RULES if r.kind == "rank" and not r.normal)


def ranks_nothing(score: Node, per: str) -> bool:
    """Whether a score is constant inside its groups, as it is written or once it is simplified."""
    return constant_in(score, per) or constant_in(canonical(score), per)


def rank_class(root: Node, per: str) -> Node:
    """The canonical graph of what ranks as a score does: of two scores that are known to rank alike inside every
    comparison group it is the same node, for as long as one of them is kept."""
    form = rank_form(canonical(root), per)
    return divided(root, form, per) if form.op == "mul" and _has_open_factor(form, per) else form


def divided(root: Node, form: Node, per: str, trace: Trace | None = None) -> Node:
    """The rank form of a score without the factors by which the score divides somewhere: they are not zero where it is
    defined. Which these are, its canonical form no longer says: x / (1 / k) is x · k."""
    known: set[Node] | None = None
    while form.op == "mul" and _has_open_factor(form, per):
        known = _divisors(root) if known is None else known
        open_factors = [f for f in form.args if _is_open(f, per) and base_and_exponent(f)[0] in known]
        if not open_factors:
            break
        after = product(tuple([(f, 1.0) for f in form.args if f not in open_factors]))
        if trace:
            trace(BY_NAME["strip divisor"], form, after, False)
        form = rank_form(after, per, trace)
    return form


def _is_open(f: Node, per: str) -> bool:
    """Whether a factor would drop if only it could not be zero."""
    return f.sign.non_negative and not f.sign.positive and constant_in(f, per)


def _has_open_factor(form: Node, per: str) -> bool:
    for f in form.args:
        if _is_open(f, per):
            return True
    return False


def _divisors(root: Node) -> set[Node]:
    """The bases of the canonical forms of all divisors and of what is raised to negative powers."""
    found: set[Node] = set()
    seen, waiting = {root}, [root]
    while waiting:
        node = waiting.pop()
        op = node.op
        if op == "div" or (op == "pow" and node.args[1].op == "number" and node.args[1].value < 0):
            divisor = canonical(node.args[op == "div"])
            found.update([base_and_exponent(f)[0] for f in factors_of(divisor)])
        for a in node.args:
            if a not in seen:
                seen.add(a)
                waiting.append(a)
    return found


def rank_form(form: Node, per: str, trace: Trace | None = None) -> Node:
    """What is left of a canonical graph when everything is dropped that changes no order inside a group."""
    known = form.ranks
    if known is not None and trace is None and per in known:
        return known[per] or form
    node, turned = form, False
    strip, varying = strip_of(per), varying_bits(per)
    while node.bits & varying:
        found = strip(node)
        if found is None:
            break
        rule, after, flips = found
        if trace:
            trace(rule, node, after, flips)
        turned ^= flips
        node = after
    result = product(((node, 1.0),), -1.0) if turned else node
    if known is None:
        known = form.ranks = {}
    known[per] = None if result is form else result
    return result


Stripped = tuple[Rule, Node, bool]


@cache
def strip_of(per: str) -> Callable[[Node], Stripped | None]:
    """What takes one layer off at the root: gives the rule, what is left, and whether that turns the order round."""
    rules, varying = table(per), varying_bits(per)
    of_constants = {op: tuple(r for r in found[None] if r.needs_constant) for op, found in rules.items()}
    others = {
        op: {first: tuple(r for r in each if not r.needs_constant) for first, each in found.items()}
        for op, found in rules.items()
    }

    def strip(node: Node) -> Stripped | None:
        op, args = node.op, node.args
        by_first = others.get(op)
        if by_first is not None:
            of_op = of_constants[op]
            if of_op and not all([a.bits & varying for a in args]):
                for rule in of_op:
                    env = rule.match(args, node.value)
                    if env is not None:
                        return rule.rule, rule.build(env), rule.flips
            for rule in by_first.get(args[0].op) or by_first[None]:
                if rule.among is None or rule.among in [a.op for a in args]:
                    env = rule.match(args, node.value)
                    if env is not None:
                        return rule.rule, rule.build(env), rule.flips
        for law in _LAWS.get(op, ()):
            if not law.reads or node.bits & law.reads:
                after = law.apply(node, per)
                if after is not None and after is not node:
                    return law.rule, after, False
        return None

    return strip


def _leading(node: Node, per: str) -> Node | None:
    """What one part of a sum or product ranks as, if no part goes down where that goes up: the whole ranks so too."""
    axes, parts = node.bits & BOTH, node.args
    if node.height > HIGHEST:
        return None
    for part in parts:
        if part.bits & BOTH == axes:
            leader = rank_form(part, per)
            for other in parts:
                if other is not part and not _goes_along(other, leader, per):
                    break
            else:
                return leader
    return None


def _goes_along(x: Node, leader: Node, per: str) -> bool:
    """Whether x never goes down where the leader, a rank form, goes up, nor changes where it stays: it is constant, or
    made of the leader by functions that do not decrease."""
    if constant_in(x, per):
        return True
    if leader.bits & ~x.bits:  # it lacks a leaf of the leader
        return False
    return _follows(rank_form(x, per), leader, per)


def _follows(x: Node, leader: Node, per: str) -> bool:
    """The same of two rank forms."""
    if x is leader:
        return True
    op = x.op
    if op in ("min", "max", "add"):
        return all([_goes_along(a, leader, per) for a in x.args])
    if op == "mul":
        if len(x.args) == 2 and x.args[0] is MINUS_ONE:
            negated = x.args[1]
            if negated.op in ("min", "max"):
                return all([_goes_along(product(((a, 1.0),), -1.0), leader, per) for a in negated.args])
            if negated.op == "tail":  # the higher a value that is never negative, the fewer are not smaller
                (of,) = negated.args
                falls = of.sign.non_negative and covers(over_of(negated), of.bits, per)
                return falls and _goes_along(of, leader, per)
        return all([a.sign.non_negative and _goes_along(a, leader, per) for a in x.args])
    return op == "sign" and _goes_along(x.args[0], leader, per)


def _leading_factor(node: Node, per: str) -> Node | None:
    """The same for a product of factors that are never negative, nor zero where they do not follow strictly."""
    if not all([f.sign.non_negative for f in node.args]):
        return None
    form = _leading(node, per)
    if form and all([_positive_with(f, form, per) for f in node.args]):
        return form
    return _leading_product(node, per)


def _leading_product(node: Node, per: str) -> Node | None:
    """The same where all factors but one lead that: it is made of their product, as in |W| · X / tail(|W| · X)."""
    if node.height > HIGHEST:
        return None
    for last in node.args:
        others = [f for f in node.args if f is not last]
        if node.height > last.height + 1 or any([f.bits & ~last.bits or f.height >= last.height for f in others]):
            continue
        leader = rank_form(product(tuple([(f, 1.0) for f in others])), per)
        if _goes_along(last, leader, per) and _positive_with(last, leader, per):
            return leader
    return None


def _share(node: Node, per: str) -> Node | None:
    """x / (k + x) ranks as x, for an x that is never negative and a positive k that is constant in the group."""
    if node.height > HIGHEST:
        return None
    for last in node.args:
        base, e = base_and_exponent(last)
        if base.op != "add" or e != -1:
            continue
        constant = [t for t in base.args if constant_in(t, per)]
        x = total(tuple([(t, 1.0) for t in base.args if not constant_in(t, per)]))
        if not constant or not x.sign.non_negative or not total(tuple([(t, 1.0) for t in constant])).sign.positive:
            continue
        top = product(tuple([(f, 1.0) for f in node.args if f is not last]))
        if top is coefficient(x)[1]:
            return top
    return None


def _positive_with(f: Node, leader: Node, per: str) -> bool:
    """Whether a value that is never negative is positive wherever it does not stand at its least with the leader."""
    if f.sign.positive or rank_form(f, per) is leader:
        return True
    if f.op in ("min", "mul"):
        return all([_positive_with(a, leader, per) for a in f.args])
    if f.op == "pow":
        return f.args[1].sign.positive and _positive_with(f.args[0], leader, per)
    return f.op == "max" and any([a.sign.non_negative and _positive_with(a, leader, per) for a in f.args])


def _alike(node: Node, per: str) -> Node | None:
    """What all arguments rank as, where that is the same: their minimum and maximum rank so too."""
    if node.height > HIGHEST:
        return None
    form = rank_form(node.args[0], per)
    return form if all([rank_form(a, per) is form for a in node.args[1:]]) else None


def _second_moment(family: str) -> Callable[[Node, str], Node | None]:
    """A factor E[x²] = Var x + (E x)² becomes ‖x‖², which is n times as large, for a layer's n tokens."""

    def law(node: Node, per: str) -> Node | None:
        if per in JOINT:  # whose numbers of tokens may differ
            return None
        for factor in factors_of(node):
            base, e = base_and_exponent(factor)
            if base.op == "add" and base is _moment(family):
                size = power(canonical(leaf(f"{family}.l2")), 2 * e)
                return product(tuple([(f, 1.0) for f in (*factors_of(node), size) if f is not factor]))
        return None

    return law


def _moment(family: str) -> Node:
    return canonical(make("add", leaf(f"{family}.var"), make("sqr", leaf(f"{family}.mean"))))


def _without_constants(node: Node, per: str) -> Node | None:
    """A term, with a sum behind a factor that is constant in the group, without those of the sum that are, too."""
    terms = node.args if node.op == "add" else (node,)
    for term in terms:
        inner, *others = sorted(factors_of(term), key=lambda factor: constant_in(factor, per))
        if inner.op == "add" and all([constant_in(factor, per) for factor in others]):
            left = [each for each in inner.args if not constant_in(each, per)]
            if len(left) < len(inner.args):
                shorter = product(((total(tuple([(each, 1.0) for each in left])), 1.0), *((f, 1.0) for f in others)))
                return total(tuple([(shorter if each is term else each, 1.0) for each in terms]))
    return None


def _scaled_terms(node: Node, per: str) -> Node:
    """The first coefficient becomes 1 or −1."""
    scale = abs(coefficient(node.args[0])[0])
    return node if scale == 1 else multiple(node, 1.0, scale)


def _scaled_exponents(node: Node, per: str) -> Node | None:
    """The exponent of one factor becomes 1: that of |W|, else of the base whose digest is the least. Neither choice
    changes when all exponents are scaled; e^x is no such base, since its scale goes into x."""
    exponents: dict[Node, float] = {}
    of_weight = None
    for factor in factors_of(node):
        if not factor.sign.non_negative:
            return None
        base, e = base_and_exponent(factor)
        base = base if base.sign.non_negative else build("abs", (base,))
        e = exponents[base] = exponents.get(base, 0.0) + e
        if e == 0:  # of √−x and |x|^−½, which no law joins
            return None
        if base.op == "abs" and base.args[0].value == "W":
            of_weight = e
    bases = [base for base in exponents if base.op != "exp"]
    if not bases:
        return None
    scale = abs(exponents[min(bases, key=_digest)] if of_weight is None else of_weight)
    return None if scale == 1 else product(tuple([(base, e / scale) for base, e in exponents.items()]))


@dataclass(frozen=True)
class _Law:
    """A law of the table that is code: what it makes of a node, None or the node itself where it does not apply.
    `reads` are bits of leaves of which a node must have one, 0 for any."""

    rule: Rule
    apply: Callable[[Node, str], Node | None]
    reads: int = 0


def _law(name: str, apply: Callable[[Node, str], Node | None], *leaves: str) -> _Law:
    return _Law(BY_NAME[name], apply, bits_of_leaves(leaves))


_MOMENTS = (
    _law("second moment", _second_moment("X"), "X.var"),
    _law("second moment of outputs", _second_moment("Y"), "Y.var"),
)

_LAWS: dict[str, tuple[_Law, ...]] = {
    "add": (
        *_MOMENTS,
        _law("strip inside", _without_constants),
        _law("scale terms", _scaled_terms),
        _law("monotone sum", _leading),
    ),
    "mul": (
        *_MOMENTS,
        _law("strip inside", _without_constants),
        _law("scale exponents", _scaled_exponents),
        _law("monotone product", _leading_factor),
        _law("share with a constant", _share),
    ),
    "min": (_law("monotone minimum", _alike),),
    "max": (_law("monotone maximum", _alike),),
}
"""By operation."""
