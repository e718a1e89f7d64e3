"""Derivations: how an expression becomes its canonical form and its rank form, one rule of the table at a time.

They are made only when asked for: the same rules are applied in the same order, but each right side is first written
down as it stands in the table and then brought to canonical form by further steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from pzc.compiler.core import BOTH, OUT, Node, make
from pzc.compiler.functions import OVER_AXES
from pzc.compiler.memo import forget_results
from pzc.compiler.rewriting.arithmetic import product
from pzc.compiler.rewriting.building import Makers
from pzc.compiler.rewriting.canonical import canonical
from pzc.compiler.rewriting.engine import HIGHEST, SPELLINGS, noting, settle
from pzc.compiler.rewriting.makers import MAKERS, reduced
from pzc.compiler.rewriting.matching import Table, compile_rule, dispatch
from pzc.compiler.rewriting.rank import divided, rank_form
from pzc.compiler.rewriting.rules import BY_NAME, MATCHED, Rule
from pzc.compiler.rewriting.terms import over_of

Place = Callable[[Node], Node]
"""The whole expression with a part put where it belongs."""


@dataclass(frozen=True)
class Step:
    """One application of a rule: `before` becomes `after` where it stands in the expression; `whole` is the whole
    expression after it. `rule.kind` says what is kept: `exact`, `real` or `rank`.

    The nodes may hold n-ary sums and products; `compiler.rewriting.plain.plain` turns them into what people write.
    """

    rule: Rule
    before: Node
    after: Node
    whole: Node


def derive(root: Node, per: str) -> list[Step]:
    """The steps from an expression to its canonical form, then to its rank form under a comparison group."""
    steps: list[Step] = []
    form = _Derivation(steps).settle(root, lambda x: x)
    turned = False

    def trace(rule: Rule, before: Node, after: Node, flips: bool) -> None:
        nonlocal turned
        turned ^= flips
        steps.append(Step(rule, before, after, product(((after, 1.0),), -1.0) if turned else after))

    ranked = rank_form(form, per, trace)
    turned = False
    divided(root, ranked, per, trace)
    return steps


@cache
def _table() -> Table:
    """The rules of canonical forms, with right sides that are written down as they stand."""
    writers = Makers(node=_noted, reduction=_written, size=MAKERS.size, at_most=MAKERS.at_most)
    return dispatch(compile_rule(rule, MAKERS, writers) for rule in MATCHED)


def _noted(op: str, args: tuple[Node, ...]) -> Node:
    """An operation as it stands; one on numbers is worked out."""
    node = make(op, *args)
    return canonical(node) if all(a.op == "number" for a in args) else node


def _written(op: str, args: tuple[Node, ...], over: int) -> Node:
    """A reduction as it stands; one over axes that its argument lacks can't be written."""
    axes = args[0].bits & BOTH
    if over & ~axes:
        return reduced(op, tuple(canonical(a) for a in args), over)
    return make(op, *args, value=None if over == axes else "out" if over == OUT else "in")


class _Derivation:
    def __init__(self, steps: list[Step]) -> None:
        self.steps = steps
        self.forms: dict[Node, Node] = {}

    def settle(self, node: Node, place: Place) -> Node:
        """The canonical form of a part; every rule on the way becomes a step."""
        if not node.args or node in self.forms or node.settled:
            return self.forms.get(node, node)
        args = list(node.args)
        for i in range(len(args)):
            args[i] = self.settle(args[i], self._inside(node, args, i, place))
        self.forms[node] = form = self._head(node, tuple(args), place)
        return form

    @staticmethod
    def _inside(node: Node, args: list[Node], i: int, place: Place) -> Place:
        return lambda x: place(make(node.op, *args[:i], x, *args[i + 1 :], value=node.value))

    def _head(self, node: Node, args: tuple[Node, ...], place: Place) -> Node:
        """The form of an operation whose arguments are canonical."""
        reduces = node.op in OVER_AXES
        if reduces:
            over = over_of(node)
            if over & ~args[0].bits:
                before = make(node.op, *args, value=node.value)
                return self._by_laws(before, lambda: reduced(node.op, args, over), place)
            current = _written(node.op, args, over)
        else:
            current = make(node.op, *args, value=node.value)
        if current.op in ("min", "max"):
            parts = [p for a in args for p in (a.args if a.op == current.op else (a,))]
            flat = tuple(dict.fromkeys(parts))
            if flat != args:
                after = make(current.op, *flat) if len(flat) > 1 else flat[0]
                law = ("{}imum of one" if len(flat) < len(parts) else "flat {}imum").format(current.op)
                self.steps.append(Step(BY_NAME[law], current, after, place(after)))
                return self._head(after, flat, place) if len(flat) > 1 else after
        matched = args[0].height < HIGHEST or current.op in SPELLINGS
        if all(a.op == "number" for a in args) or (current.op == "pow" and args[1].op == "number"):
            matched = False
        rules = _table().get(current.op, {}) if matched else {}
        for rule in rules.get(args[0].op, rules.get(None, ())):
            env = rule.match(current.args, current.value)
            if env is not None:
                after = rule.build(env)
                self.steps.append(Step(rule.rule, current, after, place(after)))
                return self.settle(after, place)
        return self._by_laws(current, lambda: reduced(node.op, args, over) if reduces else settle(current), place)

    def _by_laws(self, before: Node, compute: Callable[[], Node], place: Place) -> Node:
        """The arithmetic normal form is computed at once: one step, named for the first law that was needed."""
        before.form = None
        forget_results()  # which laws led to them is not remembered
        with noting() as laws:
            after = compute()
        if after is not before and laws:
            self.steps.append(Step(BY_NAME[laws[0]], before, after, place(after)))
        return after
