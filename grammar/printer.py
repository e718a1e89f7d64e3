"""Print a syntax tree in the one canonical layout, with every comment kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import assert_never

from pzc.grammar.syntax import (
    ArmDefinition,
    AxisName,
    Binary,
    Call,
    Comment,
    Edition,
    Entry,
    Expression,
    File,
    Fn,
    Item,
    Let,
    MetricDefinition,
    Name,
    Negation,
    Number,
    Param,
    RolesDefinition,
    SpaceDefinition,
    Statement,
    Use,
)

WIDTH = 100
"""Columns after which an expression is broken at its outermost sums or products."""

WIDEST_HEAD = 24
"""Columns of a list of layers after which the expressions of the other arms don't line up with its own."""

_LEVEL = {"+": 1, "-": 1, "*": 2, "/": 2, "^": 4}
_NEGATION, _ATOM = 3, 5


def level(e: Expression | AxisName) -> int:
    """How tightly the outermost operator binds: 1 sums, 2 products, 3 minus, 4 powers, 5 everything else."""
    if isinstance(e, Binary):
        return _LEVEL[e.operator]
    return _NEGATION if isinstance(e, Negation) else _ATOM


def expression(e: Expression | AxisName) -> str:
    """The expression on one line, with no parenthesis that is not needed."""
    match e:
        case Number(text) | Name(text) | AxisName(text):
            return text
        case Negation(operand):
            return "-" + _within(operand, _NEGATION)
        case Binary("^", left, right):
            return f"{_within(left, _ATOM)} ^ {_within(right, _NEGATION)}"
        case Binary(operator, left, right):
            own = _LEVEL[operator]
            return f"{_within(left, own)} {operator} {_within(right, own + 1)}"
        case Call(function, arguments):
            return f"{function}({', '.join(expression(a) for a in arguments)})"
        case _:
            assert_never(e)


def _within(e: Expression, least: int) -> str:
    text = expression(e)
    return text if level(e) >= least else f"({text})"


def statement(s: Statement) -> str:
    """One statement with its doc comment."""
    match s:
        case RolesDefinition() | SpaceDefinition():
            return "\n".join([block_head(s), *(f"    {part}" for part in parts_of(s)), "}"])
        case Edition(number):
            return f"pzm {number}"
        case Use(source, quoted, names, doc):
            listed = f" ({', '.join(n.text for n in names)})" if names else ""
            return _documented(doc, f'use "{source}"{listed}' if quoted else f"use {source}{listed}")
        case Fn(name, parameters, value, doc):
            head = f"fn {name}({', '.join(p.text for p in parameters)}) ="
            return _documented(doc, _assignment(head, value, ""))
        case Let(name, value, doc):
            return _documented(doc, _assignment(f"let {name} =", value, ""))
        case Param(name, default, low, high, doc):
            bounds = f" in [{low}, {high}]" if low is not None else ""
            return _documented(doc, f"param {name} = {default}{bounds}")
        case MetricDefinition(name, value, per, doc):
            return _documented(doc, _assignment(f"metric {name} =", value, f"  per {per}" if per else ""))
        case _:
            assert_never(s)


def block_head(s: RolesDefinition | SpaceDefinition) -> str:
    """The first line of a statement with braces, below its doc comment."""
    keyword = "metric" if isinstance(s, RolesDefinition) else "space"
    return _documented(s.doc, f"{keyword} {s.name} {{")


def _parts(s: RolesDefinition | SpaceDefinition) -> tuple[ArmDefinition, ...] | tuple[Entry, ...]:
    return s.arms if isinstance(s, RolesDefinition) else s.entries


def parts_of(s: RolesDefinition | SpaceDefinition) -> list[str]:
    """What stands between the braces, a part a line, what follows the colons in one column."""
    parts: Sequence[ArmDefinition | Entry] = _parts(s)
    heads = [_part_head(p) for p in parts]
    width = max((len(h) for h in heads if len(h) <= WIDEST_HEAD), default=0)
    return [_part(f"{head:<{width}}", p) for head, p in zip(heads, parts, strict=True)]


def _part_head(part: ArmDefinition | Entry) -> str:
    if isinstance(part, Entry):
        return f"{part.name}:"
    return (", ".join(f'"{x.text}"' if x.quoted else x.text for x in part.layers) or "else") + ":"


def _part(head: str, part: ArmDefinition | Entry) -> str:
    if isinstance(part, Entry):
        return f"{head} {', '.join(_item(i, part.name) for i in part.items)}"
    return _assignment(head, part.value, f"  per {part.per}" if part.per else "", indent="        ")


def _item(item: Item, entry: str) -> str:
    if item.more is None:
        return item.text
    if item.text == "-" and entry != "ops":
        return f"-{item.more}"
    return f"{item.text} .. {item.more}" if item.is_number else f"{item.text} {item.more}"


def _documented(doc: str, text: str) -> str:
    return "".join(f"## {line}".rstrip() + "\n" for line in doc.split("\n") if doc) + text


def _assignment(head: str, value: Expression, tail: str, indent: str = "    ") -> str:
    line = f"{head} {expression(value)}{tail}"
    if len(line) <= WIDTH or not isinstance(value, Binary) or value.operator == "^":
        return line
    return f"\n{indent}".join([head.rstrip(), *_terms(value)]) + tail


def _terms(value: Binary) -> list[str]:
    """The outermost chain of sums (or of products), an operand a line behind its operator."""
    own = _LEVEL[value.operator]
    chain: list[str] = []
    left: Expression = value
    while isinstance(left, Binary) and _LEVEL[left.operator] == own:
        chain.append(f"{left.operator} {_within(left.right, own + 1)}")
        left = left.left
    return [_within(left, own), *reversed(chain)]


@dataclass(frozen=True)
class _Line:
    """Something that stands on lines of its own: a statement, a part of one, or a comment."""

    text: str
    start: int
    end: int
    kind: str


def format_source(file: File, source: str) -> str:
    """The file in canonical layout.

    A comment on a line of its own stays there, one behind a statement (or a part of one with braces) stays behind it,
    and one inside an expression moves before it. Blank lines separate metrics; elsewhere one stays where there was
    one.
    """
    comments = deque(file.comments)
    lines: list[_Line] = []
    for s, following in zip_longest(file.statements, file.statements[1:]):
        braces = s if isinstance(s, RolesDefinition | SpaceDefinition) else None
        lines += _before((braces.name_span if braces else s.span).start, comments)  # one below a doc comment too
        inside = bool(comments) and comments[0].span.start < s.span.end
        if inside and braces:
            line = _Line(_block(braces, comments, source), s.span.start, s.span.end, type(s).__name__)
        else:
            lines += _before(s.span.end, comments)
            line = _Line(statement(s), s.span.start, s.span.end, type(s).__name__)
        lines.append(_trailed(line, following.span.start if following else len(source), comments, source))
    lines += _before(len(source) + 1, comments)
    return "".join(f"{text}\n" for text in _spaced(lines, source))


def _block(s: RolesDefinition | SpaceDefinition, comments: deque[Comment], source: str) -> str:
    """A statement with braces and comments between them."""
    parts: Sequence[ArmDefinition | Entry] = _parts(s)
    lines: list[_Line] = []
    for part, text, following in zip_longest(parts, parts_of(s), parts[1:]):
        lines += _before(part.span.end, comments)
        line = _Line(text, part.span.start, part.span.end, "")
        lines.append(_trailed(line, following.span.start if following else s.span.end, comments, source))
    lines += _before(s.span.end, comments)
    return "\n".join([block_head(s), *(f"    {text}" if text else "" for text in _spaced(lines, source)), "}"])


def _before(end: int, comments: deque[Comment]) -> list[_Line]:
    """The comments that begin before an offset, each on a line of its own."""
    lines = []
    while comments and comments[0].span.start < end:
        c = comments.popleft()
        lines.append(_Line(c.text, c.span.start, c.span.end, "Comment"))
    return lines


def _trailed(line: _Line, end: int, comments: deque[Comment], source: str) -> _Line:
    """The line with the comment behind it on the same line of the source, if there is one before `end`."""
    if not comments or comments[0].span.start >= end or "\n" in source[line.end : comments[0].span.start]:
        return line
    c = comments.popleft()
    return _Line(f"{line.text}  {c.text}", line.start, c.span.end, line.kind)


def _spaced(lines: list[_Line], source: str) -> Iterator[str]:
    """The texts of the lines, and an empty one where a blank line belongs."""
    for before, line in zip([None, *lines], lines, strict=False):
        if before is not None and _blank_between(before, line, source):
            yield ""
        yield line.text


def _blank_between(before: _Line, line: _Line, source: str) -> bool:
    if source[before.end : line.start].count("\n") > 1:
        return True
    if before.kind == "Comment":
        return False
    apart = {"Edition", "MetricDefinition", "RolesDefinition", "SpaceDefinition"}
    return before.kind in apart or line.kind in apart or line.text.startswith("##")
