"""Print a syntax tree in the one canonical layout, with every comment kept."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import zip_longest
from typing import assert_never

from pzc.grammar.syntax import (
    AxisName,
    Binary,
    Call,
    Comment,
    Edition,
    Expression,
    File,
    Let,
    MetricDefinition,
    Name,
    Negation,
    Number,
    Param,
    Statement,
)

WIDTH = 100
"""Columns after which an expression is broken at its outermost sums or products."""

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
        case Edition(number):
            return f"pzm {number}"
        case Let(name, value, doc):
            return _documented(doc, _assignment(f"let {name} =", value, ""))
        case Param(name, default, low, high, doc):
            bounds = f" in [{low}, {high}]" if low is not None else ""
            return _documented(doc, f"param {name} = {default}{bounds}")
        case MetricDefinition(name, value, per, doc):
            return _documented(doc, _assignment(f"metric {name} =", value, f"  per {per}" if per else ""))
        case _:
            assert_never(s)


def _documented(doc: str, text: str) -> str:
    return "".join(f"## {line}".rstrip() + "\n" for line in doc.split("\n") if doc) + text


def _assignment(head: str, value: Expression, tail: str) -> str:
    line = f"{head} {expression(value)}{tail}"
    if len(line) <= WIDTH or not isinstance(value, Binary) or value.operator == "^":
        return line
    return "\n    ".join([head, *_terms(value)]) + tail


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
class _Item:
    """Something that stands on lines of its own: a statement or a comment."""

    text: str
    start: int
    end: int
    kind: str


def format_source(file: File, source: str) -> str:
    """The file in canonical layout.

    A comment on a line of its own stays there, one behind a statement stays behind it, and one inside a statement
    moves before it. Blank lines separate metrics; elsewhere one stays where there was one.
    """
    lines: list[str] = []
    before: _Item | None = None
    for item in _items(file, source):
        if before is not None and _blank_between(before, item, source):
            lines.append("")
        lines.append(item.text)
        before = item
    return "\n".join(lines) + "\n" if lines else ""


def _items(file: File, source: str) -> list[_Item]:
    waiting = deque(file.comments)
    items: list[_Item] = []
    for s, following in zip_longest(file.statements, file.statements[1:]):
        while waiting and waiting[0].span.start < s.span.end:
            items.append(_comment(waiting.popleft()))
        text, end = statement(s), s.span.end
        last = bool(waiting) and (following is None or waiting[0].span.start < following.span.start)
        if last and "\n" not in source[end : waiting[0].span.start]:
            trailing = waiting.popleft()
            text, end = f"{text}  {trailing.text}", trailing.span.end
        items.append(_Item(text, s.span.start, end, type(s).__name__))
    return items + [_comment(c) for c in waiting]


def _comment(c: Comment) -> _Item:
    return _Item(c.text, c.span.start, c.span.end, "Comment")


def _blank_between(before: _Item, item: _Item, source: str) -> bool:
    if source[before.end : item.start].count("\n") > 1:
        return True
    if before.kind == "Comment":
        return False
    apart = {"Edition", "MetricDefinition"}
    return before.kind in apart or item.kind in apart or item.text.startswith("##")
