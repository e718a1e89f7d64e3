"""Lower expressions to core nodes: names resolved, functions of the file written out, every error collected.

A part that has an error lowers to None, and whatever contains it is not reported again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

from pzc.compiler.core import Node, leaf, make, number, size, value_of
from pzc.compiler.functions import ELEMENTWISE, OPERATORS, REDUCTIONS
from pzc.compiler.functions import Function as Builtin
from pzc.compiler.language.bindings import Bindings, Frame
from pzc.compiler.language.calls import misfit, missing_axis, no_constant
from pzc.compiler.language.places import Places
from pzc.compiler.language.scope import Definition, Function
from pzc.compiler.leaves import ALIASES, AXES, LEAVES
from pzc.compiler.limits import FLOAT32_MAX, FLOAT32_MIN, MAX_PARTS, MAX_SIZE, Spent
from pzc.grammar.counting import count
from pzc.grammar.diagnostics import MAX_ERRORS, Diagnostic, Label, too_many
from pzc.grammar.parse import MAX_DEPTH
from pzc.grammar.syntax import AxisName, Binary, Call, Expression, Name, Negation, Number, Span

Argument = Node | str
"""What a function is given: a value, or the name of an axis."""


class TooManyErrors(Exception):
    """A file has more errors than are reported: what follows is not checked."""


MAX_TRIED = 4
"""Parameters that stand for an axis of which every choice is tried, where nobody calls their function."""

_TOO_LARGE = f"with every `let` and function written out, this has more than {MAX_SIZE:,} parts or {MAX_DEPTH} levels"


class Lowering:
    """Lowers the expressions of one file, one after another, and keeps what is said about them.

    `names` tells what names mean, `places` where the parts of the last expression are written, `reading` the params
    that it depends on.
    """

    def __init__(self, scope: dict[str, Definition], home: str, spent: Spent | None = None) -> None:
        self.names = Bindings(scope)
        self.home = home
        self.spent = spent or Spent()
        self.diagnostics: list[Diagnostic] = []
        self.errors = 0
        self.places = Places()
        self.reading: set[str] = set()
        self._known: dict[tuple[object, ...], tuple[Node, frozenset[str]]] = {}
        self._failed: set[tuple[object, ...]] = set()
        self._calls = self._level = 0

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
        """Say what is wrong, as `say` does."""
        self.say(Diagnostic(code, message, Label(at, label), also, help))

    def say(self, found: Diagnostic) -> None:
        """Say what is wrong. Inside a function that is written out, the call is at fault and the place is added.

        Raises TooManyErrors, having said so, where there were as many errors as are reported.
        """
        if self.names.frames:
            outer, inner = self.names.frames[0], self.names.frames[-1].function
            message, place = (
                f"in `{inner.name}`: {found.message}",
                replace(found.primary, text=found.primary.text or "here"),
            )
            own = inner.scope is self.names.scope
            found = replace(
                found,
                message=message if own else f"{message} (in {inner.home})",
                primary=Label(outer.call.span),
                secondary=(place,) if own else (),
            )
        self._keep(found)

    def _keep(self, found: Diagnostic) -> None:
        self.errors += found.severity == "error"
        if self.errors > MAX_ERRORS:
            self.diagnostics.append(too_many(found.primary.span))
            raise TooManyErrors
        self.diagnostics.append(found)

    def value(self, e: Expression) -> Node | None:
        """The node of a whole expression. Its size is limited, since a `let` can double it at every line."""
        self.reading, self.places = set(), Places()
        if self.spent.told:
            return None
        self._known.clear()  # what a call writes stands at the calls of this expression
        self._calls = self._level = 0
        node = self._limited(self.lower(e), e.span)
        return node if node is None or self._affordable(size(node), e.span) else None

    def _affordable(self, parts: int, at: Span) -> bool:
        """Whether the file may spend so much more. It is told once that it may not."""
        self.spent.parts += parts
        if self.spent.parts <= MAX_PARTS:
            return True
        if not self.spent.told:
            self.spent.told = True
            message = f"with every `let` and function written out, the file has more than {MAX_PARTS:,} parts"
            self.report("PZ0103", f"{message}; what follows is not checked", at)
        return False

    def attempt(self, function: Function) -> set[str] | None:
        """The parameters that the body of a function reads, which nobody has called yet; None where the body has an
        error whatever the arguments are.

        A value for which there is no error is one with both axes: a reduction asks for some axis and never for the lack
        of one. Of axes every choice is tried, as far as there are few.
        """
        few, more = sorted(function.axes)[:MAX_TRIED], sorted(function.axes)[MAX_TRIED:]
        fewest: list[Diagnostic] | None = None
        for axes in product(AXES[::-1], repeat=len(few)):
            said, used = self._tried(function, {**dict(zip(few, axes, strict=True)), **dict.fromkeys(more, "in")})
            if not said:
                return used
            if fewest is None or len(said) < len(fewest) or self.spent.told:
                fewest = said
            if self.spent.told:
                break
        for found in fewest or ():
            self._keep(found)
        return None

    def _tried(self, function: Function, axes: Mapping[str, str]) -> tuple[list[Diagnostic], set[str]]:
        """Errors of a function's body with these axes and any values, which are not kept; the parameters it reads."""
        values = {name: Definition("parameter", Span(), leaf("W")) for name in function.parameters}
        parameters = values | {name: Definition("parameter", Span(), axis=axis) for name, axis in axes.items()}
        before, errors = len(self.diagnostics), self.errors
        self.names.trying, self.names.parameters = function.name, parameters
        self.value(function.body)
        self.names.trying, self.names.parameters = "", {}
        said, self.diagnostics[before:], self.errors = self.diagnostics[before:], [], errors
        return said, {name for name, definition in parameters.items() if definition.used}

    def _limited(self, node: Node | None, at: Span) -> Node | None:
        if node is None or (size(node) <= MAX_SIZE and node.height <= MAX_DEPTH):
            return node
        self._too_large(at)
        return None

    def _too_large(self, at: Span, message: str = _TOO_LARGE) -> None:
        if not any(d.code == "PZ0103" and d.message.endswith(message) for d in self.diagnostics[-1:]):
            self.report("PZ0103", message, at)

    def lower(self, e: Expression) -> Node | None:
        """The node of an expression. Of its Python frames as few as can be lie on one level."""
        if self._level >= MAX_DEPTH:
            self._too_large(e.span, f"with calls inside calls counted, this has more than {MAX_DEPTH} levels")
            return None
        self._level += 1
        self.spent.parts += len(self.names.frames) > 0
        node: Node | None
        match e:
            case Number(text):
                node = self._number(text, e.span)
            case Name(text):
                node = self._name(text, e.span)
            case Negation(Number(text)):
                positive = self._number(text, e.span)
                node = number(-value_of(positive)) if positive else None
            case Negation(operand):
                inner = self.lower(operand)
                if inner and inner.op == "number" and isinstance(operand, Name | Call):
                    node = number(-inner.value)
                else:
                    node = make("neg", inner) if inner else None
            case Binary(operator, left, right):
                a, b = self.lower(left), self.lower(right)
                node = make(OPERATORS[operator], a, b) if a and b else None
            case Call():
                node = self._call(e)
        self._level -= 1
        if node is not None and not isinstance(e, Name):  # what a name stands for is written elsewhere
            self._placed(node, e.span)
        return node

    def _placed(self, node: Node, at: Span) -> None:
        frames = self.names.frames
        self.places.written.setdefault(node, frames[0].call.span if frames else at)

    def _number(self, text: str, at: Span) -> Node | None:
        return number(float(text)) if self.fits(text, float(text), at) else None

    def fits(self, text: str, value: float, at: Span) -> bool:
        """Whether float32 holds the number, neither as infinity nor, if it is not zero, as zero."""
        if not abs(value) <= FLOAT32_MAX:
            self.report("PZ0104", f"{text} is beyond float32", at, help="the largest number is about 3.4e38")
        elif abs(value) <= FLOAT32_MIN / 2 and text.strip("-").lower().split("e")[0].strip("0."):
            self.report("PZ0104", f"{text} is zero in float32", at, help="the smallest number is about 1.4e-45")
        else:
            return True
        return False

    def _name(self, name: str, at: Span) -> Node | None:
        full = ALIASES.get(name, name)
        if full in LEAVES:
            return leaf(full)
        found = self.names.find(name)
        if found is not None:
            found.used = True
            own = self.names.scope.get(name) is found  # else a parameter, or what another file reads
            self.reading |= found.reads if own else set()
            if own and found.places is not None:
                self.places.lets[found.places] = None
            elif found.kind == "let" and found.node is not None:
                self._placed(found.node, at)
            if found.node is not None or found.kind in ("broken", "let", "param"):
                return found.node
        code = "PZ0201" if found is None or not found.axis else "PZ0206"
        self.report(code, self.names.no_value(name, found), at)
        return None

    def _call(self, call: Call) -> Node | None:
        axes = [a for a in call.arguments if self.names.axis(a)]
        function = self._function(call, bool(axes))
        if isinstance(function, Function):
            return self._written_out(call, function)
        wrong = misfit(call, function, axes, self.names) if function else None
        if wrong:
            self.say(wrong)
        given = [a for a in call.arguments if not isinstance(a, AxisName) and a not in axes]
        if wrong and wrong.code == "PZ0201":  # which is about the last of them
            given = given[:-1]
        values = [self.lower(argument) for argument in given]
        if function is None or wrong:
            return None
        nodes = [v for v in values if v is not None]
        if len(nodes) < len(values):
            return None
        if function.name in ELEMENTWISE and function is ELEMENTWISE[function.name]:
            return make(function.op, *nodes)
        return self._reduction(call, function, nodes, axes)

    def _function(self, call: Call, has_axis: bool) -> Builtin | Function | None:
        """`min(a, b)` is elementwise; `min(x)` and `min(x, in)` reduce."""
        name = call.function
        found = self.names.find(name)
        if found is not None and (found.function is not None or found.kind == "broken"):
            found.used = True
            return found.function
        elementwise, reduction = ELEMENTWISE.get(name), REDUCTIONS.get(name)
        if elementwise and reduction:
            return reduction if has_axis or len(call.arguments) == 1 else elementwise
        if elementwise or reduction:
            return elementwise or reduction
        if found is not None:
            found.used = True
        message, hint = self.names.no_function(call, found)
        self.report("PZ0201", message, call.function_span, help=hint)
        return None

    def _written_out(self, call: Call, function: Function) -> Node | None:
        """The body of a function of the file, with what it is given in the place of its parameters."""
        given: list[Argument | None] = []
        for argument in call.arguments:
            axis = self.names.axis(argument)
            given.append(axis or (None if isinstance(argument, AxisName) else self.lower(argument)))
        if len(given) != len(function.parameters):
            wanted = count(len(function.parameters), "argument")
            here = (Label(function.span, "defined here"),) if function.scope is self.names.scope else ()
            message = f"`{function.written}` takes {wanted}; {len(given)} given"
            self.report("PZ0202", message, call.span, also=here)
            return None
        arguments = [a for a in given if a is not None]
        if len(arguments) < len(given):
            return None
        key = (function, *arguments)
        if not self.names.frames:
            self._failed.clear()  # a mistake is reported at every call of the expression, and once for each
        if key in self._failed:
            return None
        if key not in self._known:
            node, reads = self.call(call, function, arguments)
            if node is None:
                self._failed.add(key)
                return None
            self._known[key] = node, reads
        node, reads = self._known[key]
        self.reading |= reads
        return node

    def call(self, call: Call, function: Function, arguments: list[Argument]) -> tuple[Node | None, frozenset[str]]:
        """The value of a function for what it is given, and the params that it reads."""
        self._calls += 1
        if self._calls > MAX_SIZE:
            self._too_large(call.span, f"with those inside its functions, this makes more than {MAX_SIZE:,} calls")
            return None, frozenset()
        if not self._affordable(0, call.span):
            return None, frozenset()
        parameters = {
            name: Definition("parameter", function.span, axis=a)
            if isinstance(a, str)
            else Definition("parameter", function.span, a)
            for name, a in zip(function.parameters, arguments, strict=True)
        }
        before, self.reading = self.reading, set()
        self._level += 1  # a body takes more of Python's frames than an operation does
        self.names.frames.append(Frame(call, function, parameters))
        node = self._limited(self.lower(function.body), function.body.span)
        self.names.frames.pop()
        self._level -= 1
        reads, self.reading = frozenset(self.reading), before
        return node, reads

    def _reduction(
        self, call: Call, function: Builtin, nodes: list[Node], axes: list[Expression | AxisName]
    ) -> Node | None:
        value, last = nodes[0], nodes[-1]
        axis = self.names.axis(axes[0]) if axes else None
        known = last.op == "number" or not self.names.trying  # a parameter may be any number
        wrong = no_constant(call, function, last) if known else None
        wrong = wrong or missing_axis(call, function, value, axis, axes)
        if wrong:
            self.say(wrong)
            return None
        if axis and value.axes == {axis}:
            axis = None  # the only axis: the same reduction, and one node for both spellings
        return make(function.op, *nodes, value=axis)


def write_out(function: Function, arguments: Sequence[Node]) -> Node | None:
    """The value of a function of a file for values; None where they don't fit, as a number does not fit a reduction."""
    try:
        return Lowering({}, function.home).call(Call(function.name, ()), function, list(arguments))[0]
    except TooManyErrors:
        return None
