"""Whether a function of the language can be called so: the diagnostic that says why not."""

from __future__ import annotations

from collections.abc import Sequence

from pzc.compiler.core import Node, value_of
from pzc.compiler.functions import ELEMENTWISE, REDUCTIONS, Function
from pzc.compiler.language.bindings import Bindings
from pzc.compiler.leaves import AXES
from pzc.grammar import printer
from pzc.grammar.counting import count
from pzc.grammar.diagnostics import Diagnostic, Label, did_you_mean
from pzc.grammar.syntax import AxisName, Call, Expression


def misfit(call: Call, function: Function, axes: Sequence[Expression | AxisName], names: Bindings) -> Diagnostic | None:
    """What is wrong with the number and the places of the arguments, of which `axes` name one."""
    name, reduces = function.name, function is REDUCTIONS.get(function.name)
    values, last = len(call.arguments) - len(axes), call.arguments[-1] if call.arguments else None
    if axes and not reduces:
        message = f"`{name}` takes values, not an axis"
        return Diagnostic("PZ0206", message, Label(axes[0].span), help="only reductions take an axis")
    if len(axes) > 1 or (axes and last is not axes[0]):
        message, hint = f"`{name}` takes one axis, as its last argument", f"without an axis `{name}` takes both"
        return Diagnostic("PZ0206", message, Label(axes[0].span), help=hint)
    if reduces and values == function.arity + 1 and last and names.means_nothing(last):
        written = printer.expression(last)
        close = did_you_mean(written, [*AXES, *names.all()])
        message = f"`{written}` is not known here"
        return Diagnostic("PZ0201", message, Label(last.span), help=close or "an axis is `in` or `out`")
    if values == function.arity:
        return None
    wanted = count(function.arity, "value")
    extra = " and may be given an axis" if reduces else ""
    if axes and name in ELEMENTWISE:
        hint = f"`{name}(x, y)`, of two values, takes no axis"
    elif reduces and not axes and values == function.arity + 1:
        hint = f"an axis is `in` or `out`, as in `{function.written[:-1]}, in)`"
    else:
        where = "" if function.domain == "everywhere" else f", for {function.domain}"
        hint = f"`{function.written}`: {function.doc}{where}"
    return Diagnostic("PZ0202", f"`{name}` takes {wanted}{extra}; {values} given", Label(call.span), help=hint)


CONSTANTS = {
    "norm": ("PZ0208", "the order of a norm is a number above 0"),
    "quantile": ("PZ0209", "the share of a quantile is a number from 0 to 1"),
}
"""The code and the message for what is no constant of a reduction that takes one."""


def no_constant(call: Call, function: Function, second: Node) -> Diagnostic | None:
    """What is wrong with the second argument of a reduction that takes a constant there."""
    if function.constant is None:
        return None
    low, high = function.constant
    if second.op == "number" and low <= value_of(second) <= high:
        return None
    code, message = CONSTANTS[function.op]
    share = value_of(second) if second.op == "number" else 0.0
    hint = f"{share:g} % is {share / 100:g}" if code == "PZ0209" and 1 < share <= 100 else None
    return Diagnostic(code, message, Label(call.arguments[1].span), help=hint)


def missing_axis(
    call: Call, function: Function, value: Node, axis: str | None, axes: Sequence[Expression | AxisName]
) -> Diagnostic | None:
    """What is wrong with a reduction over `axis`, or, for None, over all axes, of a value that has none such."""
    name, first = function.name, call.arguments[0]
    if axis in value.axes if axis else value.axes:
        return None
    has = [a for a in AXES if a in value.axes]
    if not axis:
        message, at = f"`{name}` of a value that has no axis", Label(first.span, "a single number")
        return Diagnostic("PZ0203", message, at, help=f"leave `{name}` out")
    written = ", ".join(printer.expression(a) for a in call.arguments[:-1])
    return Diagnostic(
        "PZ0203",
        f"`{name}` over `{axis}`, but this value has no `{axis}` axis",
        Label(axes[0].span, "no such axis here"),
        (Label(first.span, f"has axes [{', '.join(has)}]" if has else "has no axis"),),
        f"did you mean `{name}({written}, {has[0]})`?" if has else f"leave `{name}` out",
    )
