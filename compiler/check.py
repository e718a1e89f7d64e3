"""Check a syntax tree and lower its metrics to core nodes, collecting every error on the way.

Names are resolved in the order of the file: a `let` or `param` is known from the statement after it. A part that
has an error lowers to None, and whatever contains it is not reported again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pzc.compiler.canonical import canonical
from pzc.compiler.core import Node, depth, make, number, size
from pzc.compiler.functions import ELEMENTWISE, ELSEWHERE, FUNCTION_NAMES, OPERATORS, REDUCTIONS, Function
from pzc.compiler.groups import GROUPS, constant_axes
from pzc.compiler.leaves import ALIASES, AXES, LEAVES
from pzc.compiler.plain import plain
from pzc.compiler.source import expression
from pzc.grammar import printer
from pzc.grammar.diagnostics import MAX_ERRORS, Diagnostic, Label, did_you_mean, too_many
from pzc.grammar.parse import MAX_DEPTH
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
FLOAT32_MIN = 1.401298464324817e-45

MAX_SIZE = 2000
"""Operations and leaves of one expression with its `let`s written out."""
MAX_SHOWN = 30
"""Operations and leaves of an expression that a message writes out."""


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

    @property
    def broken(self) -> bool:
        """Whether it comes from a statement that does not parse."""
        return self.kind == "broken"


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
        if "pzm" not in file.broken:
            self._edition(file)
        self.scope = {name: _Definition(Span(), "broken", None) for name in file.broken if name}
        self.later = {s.name: s.name_span for s in file.statements if isinstance(s, Let | Param)}
        for s in file.statements:
            if len(self.diagnostics) >= MAX_ERRORS:
                self.diagnostics.append(too_many(s.span))
                return
            match s:
                case Let(name, value):
                    self.define(name, s.name_span, "let", self._value(value))
                case Param():
                    self._param(s)
                case MetricDefinition():
                    self._metric(s)
        if file.broken or any(d.severity == "error" for d in self.diagnostics):
            return  # what a part with an error would use is not known
        if file.statements and not any(isinstance(s, MetricDefinition) for s in file.statements):
            self.report("PZ0402", "this file defines no metric", file.statements[-1].span)
            return
        for name, d in self.scope.items():
            if d.kind in ("let", "param") and not d.used:
                self.report("PZ0401", f"`{name}` is never used", d.span)

    def _edition(self, file: File) -> None:
        stated = [s for s in file.statements if isinstance(s, Edition)]
        begin = f"begin with `pzm {EDITION}`"
        if not stated and not file.statements and not file.broken:
            self.report("PZ0106", "there is no metric here: this file has no statements", Span(0, 1), help=begin)
        elif not stated:
            at = file.statements[0].span if file.statements else Span(0, 1)
            self.report("PZ0106", "a file begins with the edition it is written in", at, help=begin)
        elif stated[0].number != str(EDITION):
            message = f"edition {stated[0].number} is not known; this pzc reads edition {EDITION}"
            self.report("PZ0106", message, stated[0].span)
        for s in stated if stated and stated[0] is not file.statements[0] else stated[1:]:
            self.report("PZ0106", "the edition is stated once, at the top of the file", s.span)

    def define(self, name: str, span: Span, kind: str, node: Node | None) -> None:
        taken = "a leaf" if name in LEAVES or name in ALIASES else "a function" if name in FUNCTION_NAMES else None
        if taken:
            self.report("PZ0204", f"`{name}` is the name of {taken}", span, help="choose another name")
        elif name in self.scope and not self.scope[name].broken:
            before = Label(self.scope[name].span, "first defined here")
            self.report("PZ0204", f"`{name}` is defined twice", span, "again here", also=(before,))
        else:
            self.scope[name] = _Definition(span, kind, node)

    def _param(self, p: Param) -> None:
        given = p.name in self.settings
        default = float(self.settings[p.name] if given else p.default)
        low, high = float(p.low or "-inf"), float(p.high or "inf")
        node = None
        if self._fits(f"{default:g}" if given else p.default, default, p.name_span):
            node = number(default)
            if low > high:
                self.report("PZ0207", f"the range [{p.low}, {p.high}] is empty", p.name_span)
            elif not low <= default <= high:
                self.report("PZ0207", f"`{p.name}` = {default:g} is not in its range [{p.low}, {p.high}]", p.name_span)
        self.define(p.name, p.name_span, "param", node)

    def _fits(self, text: str, value: float, at: Span) -> bool:
        """Whether float32 holds the number, neither as infinity nor, if it is not zero, as zero."""
        if not abs(value) <= FLOAT32_MAX:
            self.report("PZ0104", f"{text} is beyond float32", at, help="the largest number is about 3.4e38")
        elif abs(value) <= FLOAT32_MIN / 2 and text.strip("-").lower().split("e")[0].strip("0."):
            self.report("PZ0104", f"{text} is zero in float32", at, help="the smallest number is about 1.4e-45")
        else:
            return True
        return False

    def _value(self, value: Expression) -> Node | None:
        """The node of a whole expression. Its size is limited, since `let`s can double it at every line."""
        node = self.lower(value)
        if node is None or (size(node) <= MAX_SIZE and depth(node) <= MAX_DEPTH):
            return node
        message = f"with every `let` written out, this has more than {MAX_SIZE:,} parts or {MAX_DEPTH} levels"
        self.report("PZ0103", message, value.span)
        return None

    def _metric(self, m: MetricDefinition) -> None:
        node = self._value(m.value)
        self.define(m.name, m.name_span, "metric", None)
        per = m.per or "row"
        if per not in GROUPS:
            hint = did_you_mean(per, GROUPS) or "the groups are " + ", ".join(f"`{g}`" for g in GROUPS)
            self.report("PZ0205", f"there is no comparison group `{per}`", m.per_span, help=hint)
        elif node is not None:
            self._score(m, node, per)

    def _score(self, m: MetricDefinition, node: Node, per: str) -> None:
        reason, simplified = constant_axes(node, per), ""
        if reason is None:
            form = canonical(node)
            reason = constant_axes(form, per)
            if reason:
                written = f"`{expression(plain(form))}`, which" if size(form) <= MAX_SHOWN else "a score that"
                simplified = f"simplifies to {written} "
        if reason:
            message = f"the score of `{m.name}` is constant inside its group"
            self.report("PZ0301", message, m.value.span, simplified + reason[0], help=reason[1])
            return
        params = tuple((n, float(d.node.value or 0.0)) for n, d in self.scope.items() if d.kind == "param" and d.node)
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
        return number(float(text)) if self._fits(text, float(text), at) else None

    def _name(self, name: str, at: Span) -> Node | None:
        full = ALIASES.get(name, name)
        if full in LEAVES:
            return make("leaf", value=full)
        found = self.scope.get(name)
        if found is not None and found.kind != "metric":
            found.used = True
            return found.node
        self.report("PZ0201", self._unknown(name, found), at)
        return None

    def _unknown(self, name: str, found: _Definition | None) -> str:
        family, _, member = name.partition(".")
        if found is not None:
            return f"`{name}` is a metric, not a value; give its expression a name with `let` and use that"
        if name in self.later:
            return f"`{name}` is defined further down; a name is known from the statement after it"
        if name in FUNCTION_NAMES:
            return f"`{name}` is a function: write `{name}(…)`"
        if member and family in ALIASES:
            members = ", ".join(f"`{n}`" for n in LEAVES if n.startswith(family + "."))
            return f"`{family}` has no `{member}`; there are {members}"
        if member and (family in LEAVES or family in self.scope):
            return f"`{family}` has no members; write `{family}`"
        hint = did_you_mean(name, [*LEAVES, *ALIASES, *self.scope])
        return f"`{name}` is not known here" + (f"; {hint}" if hint else "")

    def _call(self, call: Call) -> Node | None:
        axes = [a for a in call.arguments if isinstance(a, AxisName)]
        function = self._function(call, bool(axes))
        fits = function is not None and self._arguments_fit(call, function, axes)
        written = [a for a in call.arguments if not isinstance(a, AxisName)]
        values: list[Node | None] = []
        for argument in written[: function.arity if function else None]:
            values.append(self.lower(argument))
        if function is None or not fits:
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
        if elementwise or reduction:
            return elementwise or reduction
        found = self.scope.get(name)
        if found is not None and found.broken:
            return None
        if found is not None:
            found.used = True
        if name in LEAVES or name in ALIASES or found is not None:
            message, hint = f"`{name}` is a value, not a function", f"write `{name} * (…)` to multiply"
        else:
            message = f"there is no function `{name}`"
            hint = f"write `{ELSEWHERE[name]}`" if name in ELSEWHERE else did_you_mean(name, FUNCTION_NAMES) or ""
        self.report("PZ0201", message, call.function_span, help=hint or None)
        return None

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
            written = f"`{function.written}` is {function.doc}"
            hint = f"an axis is `in` or `out`, as in `{function.name}(x, in)`" if reduces and values == 2 else written
            self.report("PZ0202", f"`{function.name}` takes {wanted}{extra}; {values} given", call.span, help=hint)
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
        has = [a for a in AXES if a in argument.axes]
        about = Label(first.span, f"has axes [{', '.join(has)}]" if has else "has no axis")
        if not axes:
            hint = f"leave `{name}` out"
            self.report("PZ0203", f"`{name}` of a value that has no axis", first.span, "a single number", help=hint)
            return
        axis = axes[0].text
        written = ", ".join(printer.expression(a) for a in call.arguments[:-1])
        self.report(
            "PZ0203",
            f"`{name}` over `{axis}`, but this value has no `{axis}` axis",
            axes[0].span,
            "no such axis here",
            also=(about,),
            help=f"did you mean `{name}({written}, {has[0]})`?" if has else f"leave `{name}` out",
        )
