"""Check a syntax tree and lower its metrics to core nodes, collecting every error on the way.

Names are resolved in the order of the file: a `let` or `param` is known from the statement after it. A part that
has an error lowers to None, and whatever contains it is not reported again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pzc.compiler.core import Node, make, number
from pzc.compiler.functions import ELEMENTWISE, FUNCTION_NAMES, OPERATORS, REDUCTIONS, Function
from pzc.compiler.groups import GROUPS, constant_axes
from pzc.compiler.leaves import ALIASES, LEAVES
from pzc.grammar.diagnostics import Diagnostic, Label, did_you_mean
from pzc.grammar.parse import KEYWORDS
from pzc.grammar.syntax import (
    AxisName,
    Binary,
    Call,
    Edition,
    Expression,
    File,
    Let,
    MetricDefinition,
    Name,
    Negation,
    Number,
    Param,
    Span,
)

EDITION = 1
"""The newest edition this compiler reads."""

FLOAT32_MAX = 3.4028234663852886e38


@dataclass(frozen=True)
class Checked:
    """A metric whose names are resolved: its core graph, its group, and the parameters it was lowered with."""

    name: str
    core: Node
    per: str
    doc: str
    params: tuple[tuple[str, float], ...]
    definition: MetricDefinition


def check(file: File, settings: Mapping[str, float] | None = None) -> tuple[list[Checked], list[Diagnostic]]:
    """Every metric without an error, and everything there is to say about the file.

    `settings` replaces the defaults of parameters by name.
    """
    checker = _Checker(settings or {})
    checker.file(file)
    return checker.metrics, checker.diagnostics


@dataclass
class _Definition:
    """A `let` or `param` that is in scope; `node` is None when it has an error of its own."""

    span: Span
    kind: str
    node: Node | None
    used: bool = False


class _Checker:
    def __init__(self, settings: Mapping[str, float]) -> None:
        self.settings = settings
        self.scope: dict[str, _Definition] = {}
        self.later: dict[str, Span] = {}
        self.metrics: list[Checked] = []
        self.diagnostics: list[Diagnostic] = []

    def report(
        self,
        code: str,
        message: str,
        at: Span,
        label: str = "",
        *,
        also: tuple[Label, ...] = (),
        help: str | None = None,
    ) -> None:
        self.diagnostics.append(Diagnostic(code, message, Label(at, label), also, help))

    # Statements

    def file(self, file: File) -> None:
        if not file.broken or any(isinstance(s, Edition) for s in file.statements):
            self._edition(file)
        self.scope = {name: _Definition(Span(), "broken", None) for name in file.broken if name}
        self.later = {s.name: s.name_span for s in file.statements if isinstance(s, Let | Param)}
        for s in file.statements:
            match s:
                case Let(name, value):
                    node = self.lower(value)
                    self.define(name, s.name_span, "let", node)
                case Param():
                    self._param(s)
                case MetricDefinition():
                    self._metric(s)
        if file.broken:  # what they use and define is not known
            return
        for name, d in self.scope.items():
            if d.kind in ("let", "param") and not d.used:
                self.report("PZ0401", f"`{name}` is never used", d.span)
        if file.statements and not any(isinstance(s, MetricDefinition) for s in file.statements):
            self.report("PZ0402", "this file defines no metric", file.statements[-1].span)

    def _edition(self, file: File) -> None:
        first, *rest = file.statements or (None,)
        if not isinstance(first, Edition):
            at = first.span if first else Span(0, 1)
            self.report(
                "PZ0106", "a file begins with the edition it is written in", at, help=f"begin with `pzm {EDITION}`"
            )
        elif first.number != str(EDITION):
            self.report("PZ0106", f"edition {first.number} is not known; this pzc reads edition {EDITION}", first.span)
        for s in rest:
            if isinstance(s, Edition):
                self.report("PZ0106", "the edition is stated once, at the top of the file", s.span)

    def define(self, name: str, span: Span, kind: str, node: Node | None) -> None:
        taken = "a leaf" if name in LEAVES or name in ALIASES else "a function" if name in FUNCTION_NAMES else None
        if taken:
            self.report("PZ0204", f"`{name}` is the name of {taken}", span, help="choose another name")
        elif name in self.scope and self.scope[name].kind != "broken":
            before = Label(self.scope[name].span, "first defined here")
            self.report("PZ0204", f"`{name}` is defined twice", span, "again here", also=(before,))
        else:
            self.scope[name] = _Definition(span, kind, node)

    def _param(self, p: Param) -> None:
        default = float(self.settings.get(p.name, p.default))
        if p.low is not None and p.high is not None:
            low, high = float(p.low), float(p.high)
            if low > high:
                self.report("PZ0207", f"the range [{p.low}, {p.high}] is empty", p.span)
            elif not low <= default <= high:
                self.report("PZ0207", f"{default:g} is not in [{p.low}, {p.high}]", p.span)
        finite = abs(default) <= FLOAT32_MAX
        if not finite:
            self.report("PZ0104", f"{p.default} is beyond float32", p.span)
        self.define(p.name, p.name_span, "param", number(default) if finite else None)

    def _metric(self, m: MetricDefinition) -> None:
        node = self.lower(m.value)
        self.define(m.name, m.name_span, "metric", None)
        per = m.per or "row"
        if per not in GROUPS:
            hint = did_you_mean(per, GROUPS) or "the groups are " + ", ".join(f"`{g}`" for g in GROUPS)
            self.report("PZ0205", f"there is no comparison group `{per}`", m.per_span, help=hint)
        elif node is not None:
            reason = constant_axes(node, per)
            if reason:
                self.report(
                    "PZ0301",
                    f"the score of `{m.name}` is constant inside its group",
                    m.value.span,
                    reason[0],
                    help=reason[1],
                )
            else:
                params = tuple(
                    (n, float(d.node.value or 0.0)) for n, d in self.scope.items() if d.kind == "param" and d.node
                )
                self.metrics.append(Checked(m.name, node, per, m.doc, params, m))

    # Expressions

    def lower(self, e: Expression) -> Node | None:
        match e:
            case Number(text):
                return self._number(text, e.span)
            case Name(text):
                return self._name(text, e.span)
            case Negation(Number(text)):
                node = self._number(text, e.span)
                return number(-float(node.value or 0.0)) if node else None
            case Negation(operand):
                node = self.lower(operand)
                return make("neg", node) if node else None
            case Binary(operator, left, right):
                a, b = self.lower(left), self.lower(right)
                return make(OPERATORS[operator], a, b) if a and b else None
            case Call():
                return self._call(e)

    def _number(self, text: str, at: Span) -> Node | None:
        value = float(text)
        if value > FLOAT32_MAX:
            self.report("PZ0104", f"{text} is beyond float32", at, help="the largest number is about 3.4e38")
            return None
        return number(value)

    def _name(self, name: str, at: Span) -> Node | None:
        full = ALIASES.get(name, name)
        if full in LEAVES:
            return make("leaf", value=full)
        found = self.scope.get(name)
        if found is not None and found.kind != "metric":
            found.used = True
            return found.node
        self.report("PZ0201", *self._unknown(name, at, found))
        return None

    def _unknown(self, name: str, at: Span, found: _Definition | None) -> tuple[str, Span, str]:
        if found is not None:
            message = f"`{name}` is a metric, not a value; give its expression a name with `let` and use that"
        elif name in self.later:
            message = f"`{name}` is defined further down; a name is known from the statement after it"
        elif name in FUNCTION_NAMES:
            message = f"`{name}` is a function: write `{name}(…)`"
        elif "." in name and name.split(".")[0] in ALIASES:
            family = name.split(".")[0]
            members = ", ".join(f"`{n}`" for n in LEAVES if n.startswith(family + "."))
            message = f"`{family}` has no `{name.split('.', 1)[1]}`; there are {members}"
        else:
            known = [*LEAVES, *ALIASES, *self.scope, *FUNCTION_NAMES]
            hint = did_you_mean(name, known)
            message = f"`{name}` is not known here" + (f"; {hint}" if hint else "")
        return message, at, ""

    def _call(self, call: Call) -> Node | None:
        axes = [a for a in call.arguments if isinstance(a, AxisName)]
        function = self._function(call, bool(axes))
        values = [self.lower(a) for a in call.arguments if not isinstance(a, AxisName)]
        if function is None or not self._arguments_fit(call, function, axes):
            return None
        nodes = [v for v in values if v is not None]
        if len(nodes) < len(values):
            return None
        if function.name in ELEMENTWISE and function is ELEMENTWISE[function.name]:
            return make(function.op, *nodes)
        return self._reduction(call, function, nodes, axes)

    def _function(self, call: Call, has_axis: bool) -> Function | None:
        """`min(a, b)` is elementwise; `min(x)` and `min(x, in)` reduce."""
        name = call.function
        elementwise, reduction = ELEMENTWISE.get(name), REDUCTIONS.get(name)
        if elementwise and reduction:
            return reduction if has_axis or len(call.arguments) == 1 else elementwise
        if not (elementwise or reduction):
            if name in LEAVES or name in ALIASES or name in self.scope:
                message, hint = f"`{name}` is a value, not a function", f"write `{name} * (…)` to multiply"
            else:
                message, hint = f"there is no function `{name}`", did_you_mean(name, FUNCTION_NAMES) or ""
            self.report("PZ0201", message, call.function_span, help=hint or None)
        return elementwise or reduction

    def _arguments_fit(self, call: Call, function: Function, axes: list[AxisName]) -> bool:
        reduces = function is REDUCTIONS.get(function.name)
        values = len(call.arguments) - len(axes)
        if axes and not reduces:
            self.report(
                "PZ0206",
                f"`{function.name}` takes values, not an axis",
                axes[0].span,
                help="only reductions take an axis",
            )
        elif len(axes) > 1 or (axes and not isinstance(call.arguments[-1], AxisName)):
            self.report(
                "PZ0206",
                f"`{function.name}` takes one axis, as its last argument",
                axes[0].span,
                help=f"without an axis `{function.name}` reduces both",
            )
        elif values != function.arity:
            wanted = f"{function.arity} value{'s' if function.arity > 1 else ''}"
            extra = " and may be given an axis" if reduces else ""
            self.report("PZ0202", f"`{function.name}` takes {wanted}{extra}; {values} given", call.span)
        else:
            return True
        return False

    def _reduction(self, call: Call, function: Function, nodes: list[Node], axes: list[AxisName]) -> Node | None:
        argument = nodes[0]
        if function.op == "norm":
            p = nodes[1]
            if p.op != "number" or not 0 < float(p.value or 0.0) < math.inf:
                self.report("PZ0208", "the order of a norm is a number above 0", call.arguments[1].span)
                return None
        axis = axes[0].text if axes else None
        missing = axis not in argument.axes if axis else not argument.axes
        if missing:
            self._missing_axis(call, function.name, argument, axes)
            return None
        if axis and argument.axes == {axis}:
            axis = None  # the only axis: the same reduction, and one node for both spellings
        return make(function.op, *nodes, value=axis)

    def _missing_axis(self, call: Call, name: str, argument: Node, axes: list[AxisName]) -> None:
        first = call.arguments[0]
        has = ", ".join(a for a in ("out", "in") if a in argument.axes)
        about = Label(first.span, f"has axes [{has}]" if has else "has no axis")
        other = f"`{name}(…, {has})`" if has else f"leave `{name}` out"
        if axes:
            axis = axes[0].text
            self.report(
                "PZ0203",
                f"`{name}` over `{axis}`, but this value has no `{axis}` axis",
                axes[0].span,
                "no such axis here",
                also=(about,),
                help=f"did you mean {other}?",
            )
        else:
            self.report("PZ0203", f"`{name}` of a value that has no axis", first.span, "a single number", help=other)


RESERVED = frozenset(KEYWORDS) | {"per", "in", "out"}
"""Words that cannot be names."""
