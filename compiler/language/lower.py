"""Lower expressions to core nodes: names resolved, functions of the file written out, every error collected.

A part that has an error lowers to None, and whatever contains it is not reported again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pzc.compiler.core import Node, leaf, make, number, size, value_of
from pzc.compiler.functions import ELEMENTWISE, FUNCTION_NAMES, OPERATORS, REDUCTIONS
from pzc.compiler.functions import Function as Builtin
from pzc.compiler.language import hints
from pzc.compiler.language.places import Places
from pzc.compiler.language.scope import Definition, Function
from pzc.compiler.leaves import ALIASES, AXES, LEAVES
from pzc.compiler.limits import FLOAT32_MAX, FLOAT32_MIN, MAX_PARTS, MAX_SIZE, Spent
from pzc.compiler.names import is_family, is_leaf
from pzc.grammar import printer
from pzc.grammar.diagnostics import MAX_ERRORS, Diagnostic, Label, did_you_mean, some, too_many
from pzc.grammar.parse import MAX_DEPTH
from pzc.grammar.syntax import AxisName, Binary, Call, Expression, Name, Negation, Number, Span

Argument = Node | str
"""What a function is given: a value, or the name of an axis."""


class TooManyErrors(Exception):
    """A file has more errors than are reported: what follows is not checked."""


@dataclass(frozen=True)
class _Frame:
    """A call of a function of the file that is being written out."""

    call: Call
    function: Function
    parameters: Mapping[str, Definition]


_TOO_LARGE = f"with every `let` and function written out, this has more than {MAX_SIZE:,} parts or {MAX_DEPTH} levels"


class Lowering:
    """Lowers the expressions of one file, one after another, and keeps what is said about them.

    `places` tells where the parts of the last expression are written, `reading` the params that it depends on.
    """

    def __init__(self, scope: dict[str, Definition], home: str, spent: Spent | None = None) -> None:
        self.scope = scope
        self.home = home
        self.spent = spent or Spent()
        self.later: set[str] = set()
        self.defining = ""
        self.diagnostics: list[Diagnostic] = []
        self.errors = 0
        self.places = Places()
        self.reading: set[str] = set()
        self._frames: list[_Frame] = []
        self._known: dict[tuple[object, ...], tuple[Node, frozenset[str]]] = {}
        self._failed: set[tuple[object, ...]] = set()
        self._calls = self._level = 0
        self._trying = ""
        self._parameters: Mapping[str, Definition] = {}

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
        """Say what is wrong. Inside a function that is written out, the call is at fault and the place is added.

        Raises TooManyErrors, having said so, where there were as many errors as are reported.
        """
        primary = Label(at, label)
        if self._frames:
            outer, inner = self._frames[0], self._frames[-1].function
            message = f"in `{inner.name}`: {message}"
            primary, also = Label(outer.call.span), (Label(at, label or "here"),)
            if inner.scope is not self.scope:
                message, also = f"{message} (in {inner.home})", ()
        found = Diagnostic(code, message, primary, also, help)
        self.errors += found.severity == "error"
        if self.errors > MAX_ERRORS:
            self.diagnostics.append(too_many(primary.span))
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

    def attempt(self, function: Function) -> bool:
        """Look for errors in the body of a function that nobody has called yet; its arguments could be anything."""
        before = len(self.diagnostics)
        parameters = {
            name: Definition("parameter", Span(), axis="in")
            if name in function.axes
            else Definition("parameter", Span(), leaf("W"))
            for name in function.parameters
        }
        self._trying, self._parameters = function.name, parameters
        self.value(function.body)
        self._trying, self._parameters = "", {}
        for name in function.parameters:
            if not parameters[name].used and len(self.diagnostics) == before:
                self.report("PZ0401", f"`{name}` is never used in `{function.name}`", function.span)
        return not any(d.severity == "error" for d in self.diagnostics[before:])

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
        self.spent.parts += len(self._frames) > 0
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
        self.places.written.setdefault(node, self._frames[0].call.span if self._frames else at)

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

    # Names

    def find(self, name: str) -> Definition | None:
        """What a name, with or without the prefix of a library, stands for at this place."""
        family, _, member = name.partition(".")
        if self._frames:
            frame = self._frames[-1]
            found = frame.parameters.get(family) or frame.function.scope.get(family)
            if found is not None and found.kind != "parameter" and found.order >= frame.function.order:
                found = None  # defined further down: a function sees what is before it
        else:
            found = self._parameters.get(family) or self.scope.get(family)
        if found is None or not member or found.kind == "broken":
            return found
        found.used = True
        return found.members.get(member)

    def _name(self, name: str, at: Span) -> Node | None:
        full = ALIASES.get(name, name)
        if full in LEAVES:
            return leaf(full)
        found = self.find(name)
        if found is not None:
            found.used = True
            own = self.scope.get(name) is found  # else a parameter, or what another file reads
            self.reading |= found.reads if own else set()
            if own and found.places is not None:
                self.places.lets[found.places] = None
            elif found.kind == "let" and found.node is not None:
                self._placed(found.node, at)
            if found.node is not None or found.kind in ("broken", "let", "param"):
                return found.node
        self.report("PZ0201" if found is None or not found.axis else "PZ0206", self._unknown(name, found), at)
        return None

    def _unknown(self, name: str, found: Definition | None) -> str:
        family, _, member = name.partition(".")
        if found is not None and found.axis:
            return f"`{name}` is an axis here, not a value"
        if found is not None and found.kind in ("metric", "space"):
            return f"`{name}` is a {found.kind}, not a value; give its expression a name with `let` and use that"
        if found is not None and found.kind == "library":
            return f"`{name}` is a library: write `{name}.` and one of its names"
        if (found is not None and found.kind == "fn") or name in FUNCTION_NAMES:
            return f"`{name}` is a function: write `{name}(…)`"
        if name == self.defining:
            return f"`{name}` stands in its own definition"
        if name in self.later:
            return f"`{name}` is defined further down; a name is known from the statement after it"
        if member and is_family(family):
            close = did_you_mean(name, LEAVES)
            return f"`{family}` has no `{member}`; {close or f'there are {hints.members(family)}'}"
        if is_family(name):
            return f"`{name}` is no value by itself; there are {hints.members(name)}"
        library = self.find(family) if member else None
        if library is not None and library.kind == "library":
            hint = did_you_mean(member, library.members)
            return f"`{family}` has no `{member}`; " + (hint or f"it has {some(sorted(library.members))}")
        if member and (family in LEAVES or library is not None):
            return f"`{family}` has no members; write `{family}`"
        hint = hints.for_name(name, self._names())
        return f"`{name}` is not known here" + (f"; {hint}" if hint else "")

    def _names(self) -> list[str]:
        frame = self._frames[-1] if self._frames else None
        return [*frame.parameters, *frame.function.scope] if frame else [*self._parameters, *self.scope]

    # Calls

    def _axis(self, argument: Expression | AxisName) -> str | None:
        """The axis that an argument names, by itself or as a parameter that was given one."""
        if isinstance(argument, AxisName):
            return argument.text
        found = self.find(argument.text) if isinstance(argument, Name) else None
        if found is not None and found.axis:
            found.used = True
            return found.axis
        return None

    def _call(self, call: Call) -> Node | None:
        axes = [a for a in call.arguments if self._axis(a)]
        function = self._function(call, bool(axes))
        if isinstance(function, Function):
            return self._written_out(call, function)
        fits = function is not None and self._arguments_fit(call, function, axes)
        values: list[Node | None] = []
        for argument in [a for a in call.arguments if not isinstance(a, AxisName) and a not in axes][
            : function.arity if function else None
        ]:
            values.append(self.lower(argument))
        if function is None or not fits:
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
        found = self.find(name)
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
        self._no_function(call, found)
        return None

    def _no_function(self, call: Call, found: Definition | None) -> None:
        name = call.function
        family, _, member = name.partition(".")
        library = self.find(family) if member else None
        hint: str | None
        if is_leaf(name) or (found is not None and found.kind != "library"):
            message = f"`{name}` is a value, not a function"
            hint = f"write `{name} * (…)` to multiply" if call.arguments else f"write `{name}`"
        elif library is not None and library.kind == "library":
            message = f"`{family}` has no function `{member}`"
            hint = did_you_mean(member, library.members) or f"it has {some(sorted(library.members))}"
        elif self._trying == name:
            message, hint = f"`{name}` calls itself", "functions are written out where they are called: no recursion"
        elif name in self.later:
            message, hint = f"`{name}` is defined further down", "a name is known from the statement after it"
        else:
            message = f"there is no function `{name}`"
            own = [n for n, d in self.scope.items() if d.kind == "fn"]
            used = {n: d.members for n, d in self.scope.items() if d.kind == "library"}
            hint = hints.for_function(name, own, used, library.kind if library else None)
        self.report("PZ0201", message, call.function_span, help=hint)

    def _written_out(self, call: Call, function: Function) -> Node | None:
        """The body of a function of the file, with what it is given in the place of its parameters."""
        given: list[Argument | None] = []
        for argument in call.arguments:
            axis = self._axis(argument)
            given.append(axis or (None if isinstance(argument, AxisName) else self.lower(argument)))
        if len(given) != len(function.parameters):
            wanted = f"{len(function.parameters)} argument{'s' if len(function.parameters) > 1 else ''}"
            here = (Label(function.span, "defined here"),) if function.scope is self.scope else ()
            message = f"`{function.written}` takes {wanted}; {len(given)} given"
            self.report("PZ0202", message, call.span, also=here)
            return None
        arguments = [a for a in given if a is not None]
        if len(arguments) < len(given):
            return None
        key = (function, *arguments)
        if not self._frames:
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
        self._frames.append(_Frame(call, function, parameters))
        node = self._limited(self.lower(function.body), function.body.span)
        self._frames.pop()
        self._level -= 1
        reads, self.reading = frozenset(self.reading), before
        return node, reads

    def _arguments_fit(self, call: Call, function: Builtin, axes: list[Expression | AxisName]) -> bool:
        reduces = function is REDUCTIONS.get(function.name)
        values = len(call.arguments) - len(axes)
        if axes and not reduces:
            self.report(
                "PZ0206",
                f"`{function.name}` takes values, not an axis",
                axes[0].span,
                help="only reductions take an axis",
            )
        elif len(axes) > 1 or (axes and call.arguments[-1] is not axes[0]):
            self.report(
                "PZ0206",
                f"`{function.name}` takes one axis, as its last argument",
                axes[0].span,
                help=f"without an axis `{function.name}` takes both",
            )
        elif reduces and values == function.arity + 1 and self._is_unknown(call.arguments[-1]):
            last = call.arguments[-1]
            hint = did_you_mean(printer.expression(last), [*AXES, *self._names()])
            message = f"`{printer.expression(last)}` is not known here"
            self.report("PZ0201", message, last.span, help=hint or "an axis is `in` or `out`")
        elif values != function.arity:
            wanted = f"{function.arity} value{'s' if function.arity > 1 else ''}"
            extra = " and may be given an axis" if reduces else ""
            where = "" if function.domain == "everywhere" else f", for {function.domain}"
            hint = f"`{function.written}`: {function.doc}{where}"
            if axes and function.name in ELEMENTWISE:
                hint = f"`{function.name}(x, y)`, of two values, takes no axis"
            elif reduces and not axes and values == function.arity + 1:
                hint = f"an axis is `in` or `out`, as in `{function.written[:-1]}, in)`"
            self.report("PZ0202", f"`{function.name}` takes {wanted}{extra}; {values} given", call.span, help=hint)
        else:
            return True
        return False

    def _is_unknown(self, argument: Expression | AxisName) -> bool:
        return (
            isinstance(argument, Name)
            and self.find(argument.text) is None
            and not is_leaf(argument.text)
            and argument.text not in self.later
        )

    def _reduction(
        self, call: Call, function: Builtin, nodes: list[Node], axes: list[Expression | AxisName]
    ) -> Node | None:
        argument = nodes[0]
        known = nodes[-1].op == "number" or not self._trying  # a parameter may be any number
        if function.constant and known and not _is_constant(nodes[1], function.constant):
            code, message = _CONSTANTS[function.op]
            share = value_of(nodes[1]) if nodes[1].op == "number" else 0.0
            hint = f"{share:g} % is {share / 100:g}" if code == "PZ0209" and 1 < share <= 100 else None
            self.report(code, message, call.arguments[1].span, help=hint)
            return None
        axis = self._axis(axes[0]) if axes else None
        missing = axis not in argument.axes if axis else not argument.axes
        if missing:
            self._missing_axis(call, function.name, argument, axes)
            return None
        if axis and argument.axes == {axis}:
            axis = None  # the only axis: the same reduction, and one node for both spellings
        return make(function.op, *nodes, value=axis)

    def _missing_axis(self, call: Call, name: str, argument: Node, axes: list[Expression | AxisName]) -> None:
        first = call.arguments[0]
        has = [a for a in AXES if a in argument.axes]
        about = Label(first.span, f"has axes [{', '.join(has)}]" if has else "has no axis")
        if not axes:
            hint = f"leave `{name}` out"
            self.report("PZ0203", f"`{name}` of a value that has no axis", first.span, "a single number", help=hint)
            return
        axis = self._axis(axes[0])
        written = ", ".join(printer.expression(a) for a in call.arguments[:-1])
        self.report(
            "PZ0203",
            f"`{name}` over `{axis}`, but this value has no `{axis}` axis",
            axes[0].span,
            "no such axis here",
            also=(about,),
            help=f"did you mean `{name}({written}, {has[0]})`?" if has else f"leave `{name}` out",
        )


def write_out(function: Function, arguments: Sequence[Node]) -> Node | None:
    """The value of a function of a file for values; None where they don't fit, as a number does not fit a reduction."""
    try:
        return Lowering({}, function.home).call(Call(function.name, ()), function, list(arguments))[0]
    except TooManyErrors:
        return None


def _is_constant(node: Node, of: tuple[float, float]) -> bool:
    return node.op == "number" and of[0] <= value_of(node) <= of[1]


_CONSTANTS = {
    "norm": ("PZ0208", "the order of a norm is a number above 0"),
    "quantile": ("PZ0209", "the share of a quantile is a number from 0 to 1"),
}
"""The code and the message for what is no constant of a reduction that takes one."""


def axis_parameters(parameters: tuple[str, ...], body: Expression, scope: Mapping[str, Definition]) -> frozenset[str]:
    """The parameters that stand in a body where an axis belongs: last in a reduction, or where a function of the file
    has such a parameter."""
    found: set[str] = set()
    waiting: list[Expression | AxisName] = [body]
    while waiting:
        e = waiting.pop()
        match e:
            case Binary():
                waiting += [e.left, e.right]
            case Negation():
                waiting.append(e.operand)
            case Call():
                waiting += e.arguments
                found |= {a.text for a in _in_axis_position(e, scope) if isinstance(a, Name)}
    return frozenset(found & set(parameters))


def _in_axis_position(call: Call, scope: Mapping[str, Definition]) -> list[Expression | AxisName]:
    family, _, member = call.function.partition(".")
    definition = scope.get(family)
    if definition is not None and member:
        definition = definition.members.get(member)
    function = definition.function if definition else None
    if function is None:
        reduction = REDUCTIONS.get(call.function)
        if reduction is None or call.function in ELEMENTWISE:
            return []
        return list(call.arguments[reduction.arity : reduction.arity + 1])
    pairs = zip(function.parameters, call.arguments, strict=False)
    return [argument for name, argument in pairs if name in function.axes]
