"""Parse `.pzm` text: one syntax tree, or every syntax error at once.

The token stream is cut where a statement begins, and each statement is parsed on its own: a mistake in one hides
nothing in the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedToken

from pzc.grammar.diagnostics import Diagnostic, Label
from pzc.grammar.syntax import (
    NOWHERE,
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
    Span,
    Statement,
)

MAX_LENGTH = 1_000_000
"""Characters in one source."""
MAX_DEPTH = 150
"""Levels of nesting in one expression."""

KEYWORDS = {"pzm": "PZM", "let": "LET", "param": "PARAM", "metric": "METRIC"}
"""The words that begin a statement, and their tokens."""

_READABLE = {
    "NAME": "a name",
    "NUMBER": "a number",
    "IN": "`in`",
    "OUT": "`out`",
    "PER": "`per`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "COMMA": "`,`",
    "EQUAL": "`=`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "DOT": "`.`",
    "PLUS": "`+`",
    "MINUS": "`-`",
    "STAR": "`*`",
    "SLASH": "`/`",
    "CARET": "`^`",
}
_OPERATORS = {"PLUS", "MINUS", "STAR", "SLASH", "CARET"}
_VALUES = {"NAME", "NUMBER", "LPAR", "MINUS"}


def span_of(token: Token) -> Span:
    """The characters a token covers."""
    return Span(token.start_pos or 0, token.end_pos or 0)


def _doc_text(tokens: list[Token]) -> str:
    return "\n".join(str(t).removeprefix("##").removeprefix(" ").rstrip() for t in tokens)


class _Build(Transformer[Token, Any]):
    """Grammar rules to syntax nodes, one method a rule."""

    def number(self, c: list[Token]) -> Number:
        return Number(str(c[0]), span_of(c[0]))

    def name(self, c: list[Token | None]) -> Name:
        parts = [t for t in c if t is not None]
        return Name(".".join(parts), span_of(parts[0]).to(span_of(parts[-1])))

    def axis(self, c: list[Token]) -> AxisName:
        return AxisName(str(c[0]), span_of(c[0]))

    def arguments(self, c: list[Any]) -> tuple[Expression | AxisName, ...]:
        return tuple(x for x in c if x is not None)

    def call(self, c: list[Any]) -> Call:
        function, arguments = c
        end = arguments[-1].span if arguments else span_of(function)
        return Call(str(function), arguments, span_of(function).to(Span(0, end.end + 1)), span_of(function))

    def group(self, c: list[Expression]) -> Expression:
        return c[0]

    def negation(self, c: list[Any]) -> Negation:
        return Negation(c[1], span_of(c[0]).to(c[1].span))

    def _binary(self, c: list[Any]) -> Binary:
        left, operator, right = c
        return Binary(str(operator), left, right, left.span.to(right.span))

    sum = product = power = _binary

    def signed(self, c: list[Token | None]) -> str:
        return "".join(str(t) for t in c if t is not None)

    def doc(self, c: list[Token]) -> str:
        return _doc_text(c)

    def edition(self, c: list[Token]) -> Edition:
        return Edition(str(c[0]))

    def let(self, c: list[Any]) -> Let:
        doc, name, value = c
        return Let(str(name), value, doc, name_span=span_of(name))

    def param(self, c: list[Any]) -> Param:
        doc, name, default, low, high = c
        return Param(str(name), default, low, high, doc, name_span=span_of(name))

    def metric(self, c: list[Any]) -> MetricDefinition:
        doc, name, value, per = c
        group, per_span = (str(per), span_of(per)) if per else (None, NOWHERE)
        return MetricDefinition(str(name), value, group, doc, name_span=span_of(name), per_span=per_span)


@cache
def _parser() -> Lark:
    text = resources.files("pzc.grammar").joinpath("pzm.lark").read_text(encoding="utf-8")
    return Lark(
        text, parser="lalr", lexer="basic", start=["start", "statement"], transformer=_Build(), maybe_placeholders=True
    )


def parse(source: str) -> tuple[File, list[Diagnostic]]:
    """The file's statements that could be parsed, and a diagnostic for each that could not."""
    if len(source) > MAX_LENGTH:
        message = f"the source has {len(source):,} characters; at most {MAX_LENGTH:,} are read"
        return File(()), [Diagnostic("PZ0103", message, Label(Span(0, 1)))]
    statements: list[Statement] = []
    diagnostics: list[Diagnostic] = []
    broken: list[str] = []
    for chunk in _statements(list(_parser().lex(source))):
        result = _parse_statement(chunk)
        if isinstance(result, Diagnostic):
            diagnostics.append(result)
            broken.append(_defined(chunk))
        else:
            statements.append(result)
    return File(tuple(statements), tuple(_comments(source)), tuple(broken)), diagnostics


def _defined(chunk: list[Token]) -> str:
    """The name that a statement with an error would have defined, so that its uses are not reported too."""
    words = [t for t in chunk if t.type != "DOC"]
    return str(words[1]) if len(words) > 1 and words[1].type == "NAME" else ""


def _statements(tokens: list[Token]) -> Iterator[list[Token]]:
    """Cut the tokens where a statement begins: at a keyword, or at the doc comments before it."""
    chunk: list[Token] = []
    for token in tokens:
        begins = token.type in KEYWORDS.values() and not all(t.type == "DOC" for t in chunk)
        documents = token.type == "DOC" and bool(chunk) and chunk[-1].type != "DOC"
        if chunk and (begins or documents):
            yield chunk
            chunk = []
        chunk.append(token)
    if chunk:
        yield chunk


def _parse_statement(chunk: list[Token]) -> Statement | Diagnostic:
    if all(t.type == "DOC" for t in chunk):
        return Diagnostic(
            "PZ0105",
            "a doc comment belongs to the statement after it, and there is none",
            Label(span_of(chunk[0])),
            help="write `#` for a comment that stands alone",
        )
    stray = next((t for t in chunk if t.type == "STRAY"), None)
    if stray is not None:
        return _stray_character(stray)
    deep = _too_deep(chunk)
    if deep is not None:
        return deep
    state = _parser().parse_interactive(start="statement")
    try:
        for token in chunk:
            state.feed_token(token)
        statement: Statement = state.feed_eof(chunk[-1])
    except UnexpectedToken as error:
        return _unexpected(error, chunk)
    return replace(statement, span=span_of(chunk[0]).to(span_of(chunk[-1])))


def _too_deep(chunk: list[Token]) -> Diagnostic | None:
    """Refuse what would nest deeper than the limit, before anything recursive sees it."""
    level = run = 0
    for token in chunk:
        if token.type in ("LPAR", "RPAR"):
            level += 1 if token.type == "LPAR" else -1
        # Chains such as a - b - c or 2 ^ 2 ^ 2 nest too: a level for each operator of a parenthesis.
        run = run + 1 if token.type in _OPERATORS else run
        if level > MAX_DEPTH or run > 4 * MAX_DEPTH:
            what = f"more than {MAX_DEPTH} levels of parentheses or {4 * MAX_DEPTH} operators in one expression"
            return Diagnostic("PZ0103", what, Label(span_of(token), "here"), help="give parts a name with `let`")
    return None


def _stray_character(token: Token) -> Diagnostic:
    instead = {"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "{": None, "|": "abs(…)", "²": "^ 2", "√": "sqrt(…)"}
    hint = instead.get(str(token))
    return Diagnostic(
        "PZ0102",
        f"unexpected character `{token}`",
        Label(span_of(token)),
        help=f"write `{hint}`" if hint else None,
    )


def _unexpected(error: UnexpectedToken, chunk: list[Token]) -> Diagnostic:
    token: Token = error.token
    at_end = token.type == "$END"
    last = chunk[-1]
    span = Span(span_of(last).end - 1, span_of(last).end) if at_end else span_of(token)
    found = "the statement ends too early" if at_end else f"unexpected `{token}`"
    expected = set(error.accepts or error.expected)
    return Diagnostic(
        "PZ0101",
        f"{found}; expected {_expectation(expected)}",
        Label(span, "after this" if at_end else ""),
        help=_syntax_help(token, chunk),
    )


def _expectation(expected: set[str]) -> str:
    if expected <= set(KEYWORDS.values()) | {"DOC"}:
        return "a statement: " + ", ".join(f"`{k}`" for k in KEYWORDS)
    words: list[str] = []
    if expected >= _VALUES:
        words.append("a value")
        expected = expected - _VALUES
    if expected >= _OPERATORS:
        words.append("an operator")
        expected = expected - _OPERATORS
    words += sorted(_READABLE[t] for t in expected if t in _READABLE)
    if "$END" in expected:
        words.append("the end of the statement")
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _syntax_help(token: Token, chunk: list[Token]) -> str | None:
    before = [t for t in chunk if t.type != "DOC" and span_of(t).end <= span_of(token).start]
    previous = before[-1] if before else None
    if token.type == "STAR" and previous is not None and previous.type == "STAR":
        return "a power is written `x ^ 2`"
    if token.type == "NAME" and str(token) == "axis":
        return "an axis is the last argument: `sum(W, in)`"
    if token.type in ("IN", "OUT"):
        return "`in` and `out` are axes: they stand only as an argument of a reduction, as in `sum(W, in)`"
    if token.type in KEYWORDS.values() or chunk[0].type in (*KEYWORDS.values(), "DOC"):
        return None
    return "a file is a list of statements such as `metric m = abs(W) * X per row`"


def _comments(source: str) -> Iterator[Comment]:
    """The plain comments. `#` begins nothing else in the language, so a scan of the lines finds them all."""
    offset = 0
    for line in source.splitlines(keepends=True):
        at = line.find("#")
        if at >= 0 and not line.startswith("##", at):
            text = line[at:].rstrip()
            yield Comment(text, Span(offset + at, offset + at + len(text)))
        offset += len(line)
