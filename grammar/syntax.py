"""The syntax tree: frozen dataclasses with a span on every node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open range of character offsets in the source."""

    start: int = 0
    end: int = 0

    def to(self, other: Span) -> Span:
        """The range from the start of this span to the end of another."""
        return Span(self.start, other.end)


NOWHERE = Span()
"""The span of a node that was built, not parsed. Spans never take part in comparisons of trees."""


def _span() -> Span:
    return field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was written."""

    text: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Name:
    """A leaf, a `let`, a `param` or a parameter; dotted for a member of a family or of a library: `X.l1`."""

    text: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class AxisName:
    """`in` or `out` as an argument."""

    text: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Negation:
    """`-x`."""

    operand: Expression
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Binary:
    """`left operator right` for one of `+ - * / ^`."""

    operator: str
    left: Expression
    right: Expression
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Call:
    """`function(argument, …)`; dotted for a function of a library: `paper.mms(x)`."""

    function: str
    arguments: tuple[Expression | AxisName, ...]
    span: Span = _span()
    function_span: Span = _span()


Expression: TypeAlias = Number | Name | Negation | Binary | Call


@dataclass(frozen=True, slots=True)
class Edition:
    """`pzm 1`: the edition of the language that the file is written in."""

    number: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Use:
    """`use paper`, a library, or `use "norms.pzm"`, a file; with names, these alone and without the prefix."""

    source: str
    quoted: bool = False
    names: tuple[Name, ...] = ()
    doc: str = ""
    span: Span = _span()
    source_span: Span = _span()


@dataclass(frozen=True, slots=True)
class Fn:
    """`fn name(parameter, …) = expression`: written out wherever it is called."""

    name: str
    parameters: tuple[Name, ...]
    value: Expression
    doc: str = ""
    span: Span = _span()
    name_span: Span = _span()


@dataclass(frozen=True, slots=True)
class Let:
    """`let name = expression`."""

    name: str
    value: Expression
    doc: str = ""
    span: Span = _span()
    name_span: Span = _span()


@dataclass(frozen=True, slots=True)
class Param:
    """`param name = default in [low, high]`: a constant that `--set` and the search may change."""

    name: str
    default: str
    low: str | None = None
    high: str | None = None
    doc: str = ""
    span: Span = _span()
    name_span: Span = _span()


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """`metric name = expression per group`; without `per`, the group is `row`."""

    name: str
    value: Expression
    per: str | None = None
    doc: str = ""
    span: Span = _span()
    name_span: Span = _span()
    per_span: Span = _span()


@dataclass(frozen=True, slots=True)
class Layer:
    """A pattern of layer names: bare, or in quotes where it has `*` or `?`."""

    text: str
    quoted: bool = False
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class ArmDefinition:
    """`layer, …: expression per group`; without layers, the arm of `else`."""

    layers: tuple[Layer, ...]
    value: Expression
    per: str | None = None
    span: Span = _span()
    per_span: Span = _span()


@dataclass(frozen=True, slots=True)
class RolesDefinition:
    """`metric name { arm … }`: a score for each role that a layer can have."""

    name: str
    arms: tuple[ArmDefinition, ...]
    doc: str = ""
    span: Span = _span()
    name_span: Span = _span()


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a space's entry: a name or an operator with the weight by which it is drawn, or a range of numbers.

    `more` is the number behind it: the weight, or the upper end of a range, which is None for a single number.
    """

    text: str
    more: str | None = None
    span: Span = _span()

    @property
    def is_number(self) -> bool:
        """Whether it is a number or a range."""
        return self.text[0].isdigit()


@dataclass(frozen=True, slots=True)
class Entry:
    """`name: item, …` in a space."""

    name: str
    items: tuple[Item, ...]
    span: Span = _span()
    name_span: Span = _span()


@dataclass(frozen=True, slots=True)
class SpaceDefinition:
    """`space name { entry … }`: what a search may build."""

    name: str
    entries: tuple[Entry, ...]
    doc: str = ""
    span: Span = _span()
    name_span: Span = _span()


Statement: TypeAlias = Edition | Use | Let | Fn | Param | MetricDefinition | RolesDefinition | SpaceDefinition


@dataclass(frozen=True, slots=True)
class Comment:
    """A `#` comment, for the formatter."""

    text: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class File:
    """The statements of one file in order, its comments, and the names that statements with errors would define.

    `broken` holds `pzm` when the edition is among them, and an empty name for a statement that would define none.
    """

    statements: tuple[Statement, ...]
    comments: tuple[Comment, ...] = field(default=(), compare=False)
    broken: tuple[str, ...] = field(default=(), compare=False)


def expressions_of(statement: Statement) -> tuple[Expression, ...]:
    """The expressions that a statement holds."""
    match statement:
        case Let() | Fn() | MetricDefinition():
            return (statement.value,)
        case RolesDefinition():
            return tuple(arm.value for arm in statement.arms)
    return ()


def depth(e: Expression | AxisName) -> int:
    """Nodes on the longest way down; a number with its minus is one. Iterative, for input of any depth."""
    deepest = 0
    waiting: list[tuple[Expression | AxisName, int]] = [(e, 1)]
    while waiting:
        node, level = waiting.pop()
        deepest = max(deepest, level)
        if isinstance(node, Binary):
            waiting += [(node.left, level + 1), (node.right, level + 1)]
        elif isinstance(node, Call):
            waiting += [(a, level + 1) for a in node.arguments]
        elif isinstance(node, Negation) and not isinstance(node.operand, Number):
            waiting.append((node.operand, level + 1))
    return deepest
