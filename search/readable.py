"""A candidate's metric as people read it: shorter than it was bred, with numbers of a few digits."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

from pzc.compiler.core import Node, make, number, size, topological, value_of
from pzc.compiler.load import inline
from pzc.compiler.metric import Metric
from pzc.compiler.rewriting.canonical import canonical
from pzc.compiler.rewriting.plain import plain
from pzc.compiler.rewriting.rank import rank_form
from pzc.compiler.structure import key
from pzc.grammar.diagnostics import SourceError
from pzc.search.candidate import Candidate


def forms(candidate: Candidate) -> list[Metric]:
    """Forms of a candidate's metric, shortest first: as it was bred, but for ones, and shortened."""
    return shortened(candidate.metric("found"))


def shortened(bred: Metric) -> list[Metric]:
    """A metric without its ones, and its canonical and rank forms with numbers of four digits, shortest first.

    But for the rounded numbers they rank alike over the reals; in float32 a short form may overflow where the long
    one does not.
    """
    name, form = bred.name, canonical(bred.core)
    found = [Metric(name, without_ones(bred.core), bred.per)]
    for node in (form, rank_form(form, bred.per)):
        metric = Metric(name, plain(canonical(rounded(node))), bred.per)  # an exponent may have become 1
        try:
            found.append(inline(f"{metric.formula} per {metric.per}", name, analyse=False))
        except SourceError:  # a number that was folded beyond float32
            continue
    return sorted(found, key=lambda m: size(m.core))


def readable(candidate: Candidate) -> Metric:
    """The shortest form."""
    return forms(candidate)[0]


def rounded(root: Node) -> Node:
    """The same graph with every number rounded to four significant digits."""
    return _with_numbers(root, lambda value: float(f"{value:.4g}"))


def without_ones(root: Node) -> Node:
    """The same graph, but for powers of one, and factors and divisors of one, which change no bit."""
    built: dict[Node, Node] = {}
    for node in topological(root):
        args = [built[a] for a in node.args]
        ones = [a.op == "number" and value_of(a) == 1 for a in args]
        if node.op in ("pow", "mul", "div") and ones[-1]:
            built[node] = args[0]
        elif node.op == "mul" and ones[0]:
            built[node] = args[-1]
        else:
            built[node] = make(node.op, *args, value=node.value)
    return built[root]


def _with_numbers(root: Node, change: Callable[[float], float]) -> Node:
    built: dict[Node, Node] = {}
    for node in topological(root):
        if node.op == "number":
            built[node] = number(change(value_of(node)))
        else:
            built[node] = make(node.op, *(built[a] for a in node.args), value=node.value)
    return built[root]


def shape(core: Node, per: str) -> str:
    """A hash of what a metric ranks by with every number made one: the same for formulas that differ in those."""
    skeleton = _with_numbers(rank_form(canonical(core), per), lambda value: 1.0)
    return blake2b(f"{per} ".encode() + key(skeleton), digest_size=8).hexdigest()
