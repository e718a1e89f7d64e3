"""What names mean at the place that is being lowered: in the file, in a function of it that is written out, in one that
nobody has called yet; and what to say of a name that means nothing there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pzc.compiler.functions import FUNCTION_NAMES
from pzc.compiler.language import hints
from pzc.compiler.language.scope import Definition, Function
from pzc.compiler.leaves import LEAVES
from pzc.compiler.names import is_family, is_leaf
from pzc.grammar.diagnostics import did_you_mean, some
from pzc.grammar.syntax import AxisName, Call, Expression, Name


@dataclass(frozen=True)
class Frame:
    """A call of a function of the file that is being written out."""

    call: Call
    function: Function
    parameters: Mapping[str, Definition]


class Bindings:
    """What names mean in a file with this `scope`.

    `later` are the names that are defined further down, `defining` is the one that is being defined. `trying` is the
    function whose body is looked at though nobody has called it, with its `parameters`; `frames` are the calls that are
    being written out, the outermost first.
    """

    def __init__(self, scope: dict[str, Definition]) -> None:
        self.scope = scope
        self.later: set[str] = set()
        self.defining = ""
        self.trying = ""
        self.parameters: Mapping[str, Definition] = {}
        self.frames: list[Frame] = []

    def find(self, name: str) -> Definition | None:
        """What a name, with or without the prefix of a library, stands for at this place."""
        family, _, member = name.partition(".")
        if self.frames:
            frame = self.frames[-1]
            found = frame.parameters.get(family) or frame.function.scope.get(family)
            if found is not None and found.kind != "parameter" and found.order >= frame.function.order:
                found = None  # defined further down: a function sees what is before it
        else:
            found = self.parameters.get(family) or self.scope.get(family)
        if found is None or not member or found.kind == "broken":
            return found
        found.used = True
        return found.members.get(member)

    def all(self) -> list[str]:
        """The names that mean something, those of the language aside."""
        frame = self.frames[-1] if self.frames else None
        return [*frame.parameters, *frame.function.scope] if frame else [*self.parameters, *self.scope]

    def axis(self, argument: Expression | AxisName) -> str | None:
        """The axis that an argument names, by itself or as a parameter that was given one."""
        if isinstance(argument, AxisName):
            return argument.text
        found = self.find(argument.text) if isinstance(argument, Name) else None
        if found is not None and found.axis:
            found.used = True
            return found.axis
        return None

    def means_nothing(self, argument: Expression | AxisName) -> bool:
        """Whether an argument is a name that is known nowhere in the file."""
        return (
            isinstance(argument, Name)
            and self.find(argument.text) is None
            and not is_leaf(argument.text)
            and argument.text not in self.later
        )

    def no_value(self, name: str, found: Definition | None) -> str:
        """Why a name is no value; `found` is what else it is."""
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
            return f"`{family}` has no `{member}`; {hints.for_member(name)}"
        if is_family(name):
            return f"`{name}` is no value by itself; there are {hints.members(name)}"
        library = self.find(family) if member else None
        if library is not None and library.kind == "library":
            hint = did_you_mean(member, library.members)
            return f"`{family}` has no `{member}`; " + (hint or f"it has {some(sorted(library.members))}")
        if member and (family in LEAVES or library is not None):
            return f"`{family}` has no members; write `{family}`"
        hint = hints.for_name(name, self.all())
        return f"`{name}` is not known here" + (f"; {hint}" if hint else "")

    def no_function(self, call: Call, found: Definition | None) -> tuple[str, str | None]:
        """Why what is called is no function, and what may help; `found` is what else it is."""
        name = call.function
        family, _, member = name.partition(".")
        library = self.find(family) if member else None
        if is_leaf(name) or (found is not None and found.kind != "library"):
            hint = f"write `{name} * (…)` to multiply" if call.arguments else f"write `{name}`"
            return f"`{name}` is a value, not a function", hint
        if library is not None and library.kind == "library":
            close = did_you_mean(member, library.members)
            return f"`{family}` has no function `{member}`", close or f"it has {some(sorted(library.members))}"
        if self.trying == name:
            return f"`{name}` calls itself", "functions are written out where they are called: no recursion"
        if name in self.later:
            return f"`{name}` is defined further down", "a name is known from the statement after it"
        own = [n for n, d in self.scope.items() if d.kind == "fn"]
        used = {n: d.members for n, d in self.scope.items() if d.kind == "library"}
        hidden = library.kind if library else None
        return f"there is no function `{name}`", hints.for_function(name, own, used, hidden)
