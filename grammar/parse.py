"""Parse `.pzm` text: one syntax tree, or every syntax error at once.

The token stream is cut where a statement begins, and each statement is parsed on its own: a mistake in one hides
nothing in the next.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedToken

from pzc.grammar.diagnostics import MAX_ERRORS, Diagnostic, Label, too_many
from pzc.grammar.hints import for_character, for_token
from pzc.grammar.syntax import (
    NOWHERE,
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
    Layer,
    Let,
    MetricDefinition,
    Name,
    Negation,
    Number,
    Param,
    RolesDefinition,
    SpaceDefinition,
    Span,
    Statement,
    Use,
    depth,
    expressions_of,
)
from pzc.grammar.words import KEYWORDS

MAX_LENGTH = 1_000_000
"""Characters in one source."""
MAX_CHARACTERS = 8
"""Characters of one line that one message lists."""
MAX_DEPTH = 200
"""Levels of one expression: of functions in functions, and of operators; a - b - c nests as deep as it is long."""

MAX_TOKENS = 100_000
"""Words, numbers and signs of one statement."""

_LINE_END, _COMMENT = re.compile(r"\r\n?|\n"), re.compile(r"#[^\r\n]*")

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
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "COLON": "`:`",
    "DOTDOT": "`..`",
    "STRING": "a text in quotes",
    "ELSE": "`else`",
    "DOT": "`.`",
    "PLUS": "`+`",
    "MINUS": "`-`",
    "STAR": "`*`",
    "SLASH": "`/`",
    "CARET": "`^`",
}
_OPERATORS = {"PLUS", "MINUS", "STAR", "SLASH", "CARET"}
_VALUES = {"NAME", "NUMBER", "LPAR", "MINUS"}
_LAYERS = {"NAME", "STRING"}
_STARTS = frozenset(KEYWORDS.values())
_UNFINISHED = _OPERATORS | _STARTS | {"EQUAL", "LPAR", "LSQB", "LBRACE", "COMMA", "COLON", "DOT", "PER"}
"""Behind these a name or a value should stand."""


def without_mark(text: str) -> str:
    """A text without the byte order mark at its start. Of two none is taken, since the grammar skips one itself."""
    return text if text.startswith("\ufeff" * 2) else text.removeprefix("\ufeff")


def span_of(token: Token) -> Span:
    """The characters a token covers."""
    return Span(token.start_pos or 0, token.end_pos or 0)


def _doc_text(tokens: list[Token]) -> str:
    return "\n".join(str(t).removeprefix("##").removeprefix(" ").rstrip() for t in tokens)


def _dotted(tokens: Sequence[Token | None]) -> tuple[str, Span]:
    """Names joined by dots, and the characters that they cover together."""
    parts = [t for t in tokens if t is not None]
    return ".".join(parts), span_of(parts[0]).to(span_of(parts[-1]))


class _Build(Transformer[Token, Any]):
    """Grammar rules to syntax nodes, one method a rule."""

    def number(self, c: list[Token]) -> Number:
        return Number(str(c[0]), span_of(c[0]))

    def name(self, c: list[Token | None]) -> Name:
        return Name(*_dotted(c))

    def word(self, c: list[Token]) -> Name:
        return Name(*_dotted(c))

    def axis(self, c: list[Token]) -> AxisName:
        return AxisName(str(c[0]), span_of(c[0]))

    def arguments(self, c: list[Any]) -> tuple[Expression | AxisName, ...]:
        return tuple(x for x in c if x is not None)

    def call(self, c: list[Any]) -> Call:
        first, member, _, arguments, close = c
        function, span = _dotted([first, member])
        return Call(function, arguments, span.to(span_of(close)), span)

    def group(self, c: list[Any]) -> Expression:
        opening, inner, close = c
        grouped: Expression = replace(inner, span=span_of(opening).to(span_of(close)))
        return grouped

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

    def source(self, c: list[Token]) -> Token:
        return c[0]

    def use(self, c: list[Any]) -> Use:
        doc, source, *names = c
        quoted = source.type == "STRING"
        text = str(source)[1:-1] if quoted else str(source)
        return Use(text, quoted, tuple(n for n in names if n is not None), doc, source_span=span_of(source))

    def fn(self, c: list[Any]) -> Fn:
        doc, name, *parameters, value = c
        return Fn(str(name), tuple(parameters), value, doc, name_span=span_of(name))

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

    def layer(self, c: list[Token]) -> Layer:
        text, span = _dotted(c)
        quoted = c[0].type == "STRING"
        return Layer(text[1:-1] if quoted else text, quoted, span)

    def layers(self, c: list[Any]) -> tuple[tuple[Layer, ...], Span]:
        if isinstance(c[0], Token):
            return (), span_of(c[0])
        return tuple(c), c[0].span

    def arm(self, c: list[Any]) -> ArmDefinition:
        (layers, span), value, per = c
        group, per_span = (str(per), span_of(per)) if per else (None, NOWHERE)
        return ArmDefinition(layers, value, group, span.to(per_span if per else value.span), per_span)

    def roles(self, c: list[Any]) -> RolesDefinition:
        doc, name, *arms = c
        return RolesDefinition(str(name), tuple(arms), doc, name_span=span_of(name))

    def choice(self, c: list[Token | None]) -> Item:
        *parts, weight = c
        text, span = _dotted(parts)
        return Item(text, str(weight) if weight else None, span.to(span_of(weight)) if weight else span)

    def range(self, c: list[Token | None]) -> Item:
        first, upto = c
        span = _dotted([first])[1]
        return Item(str(first), str(upto) if upto else None, span.to(span_of(upto)) if upto else span)

    def entry(self, c: list[Any]) -> Entry:
        name, *items = c
        return Entry(str(name), tuple(items), span_of(name).to(items[-1].span), span_of(name))

    def space(self, c: list[Any]) -> SpaceDefinition:
        doc, name, *entries = c
        return SpaceDefinition(str(name), tuple(entries), doc, name_span=span_of(name))


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
        return File((), broken=("pzm",)), [Diagnostic("PZ0103", message, Label(Span(0, 1)))]
    statements: list[Statement] = []
    diagnostics: list[Diagnostic] = []
    broken: list[str] = []
    for chunk in _statements(_tokens(source)):
        if len(diagnostics) == MAX_ERRORS:
            diagnostics.append(too_many(span_of(chunk[0])))
            break
        result = _parse_statement(chunk)
        if isinstance(result, Diagnostic):
            diagnostics.append(result)
            broken += _defined(chunk, result)
        else:
            statements.append(result)
    return File(tuple(statements), tuple(_comments(source)), tuple(broken)), diagnostics


def _tokens(source: str) -> list[Token]:
    """The tokens, by the lexer that the parser has: `Lark.lex` would build another for every text."""
    waiting = _parser().parse_interactive(source, start="start")
    tokens = list(waiting.lexer_thread.lex(waiting.parser_state))
    if "\r" in source:  # the lexer counts line feeds alone
        ends = [found.end() for found in _LINE_END.finditer(source)]
        for token in tokens:
            token.line = 1 + bisect_right(ends, token.start_pos or 0)
    return tokens


def _defined(chunk: list[Token], problem: Diagnostic) -> list[str]:
    """The names that a statement with an error would have defined, so that their uses are not reported too."""
    words = [t for t in chunk if t.type != "DOC"]
    after = [t for t in words if t.start_pos is not None and t.start_pos >= problem.primary.span.start]
    until = next((i for i, t in enumerate(after) if t.type == "EQUAL"), 0)
    edition = not words or words[0].type in ("PZM", "NAME")  # it was one, or is one misspelt
    named = words if words and words[0].type == "USE" else [*words[:2], *after[:until]]
    names = [str(t) for t in named if t.type == "NAME"]
    return ["pzm", *names] if edition else ["", *names]


def _statements(tokens: list[Token]) -> Iterator[list[Token]]:
    """Cut the tokens where a statement begins: at a keyword, or at the doc comments before it.

    A keyword that stands where a name or a value should, as in `let metric = 1`, begins nothing.
    """
    chunk: list[Token] = []
    depth = 0
    for i, token in enumerate(tokens):
        if chunk and chunk[-1].type != "DOC" and _begins(tokens, i, chunk[-1], depth):
            yield chunk
            chunk, depth = [], 0
        depth += {"LBRACE": 1, "LPAR": 1, "RBRACE": -1, "RPAR": -1}.get(token.type, 0)
        chunk.append(token)
    if chunk:
        yield chunk


def _begins(tokens: list[Token], i: int, previous: Token, depth: int) -> bool:
    """Whether a statement begins at a token, `depth` parentheses and braces being open before it."""
    token = tokens[i]
    if token.type in _STARTS:
        return previous.type not in _UNFINISHED or previous.line != token.line
    if token.type == "DOC":
        while i < len(tokens) and tokens[i].type == "DOC":
            i += 1
        goes_on = i < len(tokens) and tokens[i].type not in _STARTS
        return not (goes_on and (depth > 0 or previous.type in _UNFINISHED))
    if token.type != "NAME" or token.line == previous.line or depth > 0:
        return False
    if previous.type in _UNFINISHED and previous.type != "COLON":  # which asks for nothing outside of braces
        return False
    following = tokens[i + 1].type if i + 1 < len(tokens) else ""
    return following in ("NAME", "EQUAL")  # no expression goes on so: a keyword is missing or misspelt


def _parse_statement(chunk: list[Token]) -> Statement | Diagnostic:
    if chunk[-1].type == "DOC":
        return _stray_doc("a doc comment belongs to the statement after it, and there is none", chunk)
    if len(chunk) > MAX_TOKENS:
        message = f"more than {MAX_TOKENS:,} words and signs in one statement"
        return Diagnostic("PZ0103", message, Label(span_of(chunk[0])))
    strays = [t for t in chunk if t.type == "STRAY"]
    if strays:
        return _stray_characters(strays, chunk[0].type)
    state = _parser().parse_interactive(start="statement")
    try:
        for token in chunk:
            state.feed_token(token)
        statement: Statement = state.feed_eof(chunk[-1])
    except UnexpectedToken as error:
        return _unexpected(error.token, chunk)
    for value in expressions_of(statement):
        if depth(value) > MAX_DEPTH:
            message = f"more than {MAX_DEPTH} levels in one expression"
            return Diagnostic("PZ0103", message, Label(value.span), help="give parts a name with `let`")
    return replace(statement, span=span_of(chunk[0]).to(span_of(chunk[-1])))


def _stray_doc(message: str, chunk: list[Token]) -> Diagnostic:
    hint = "write `#` for a comment that stands alone"
    return Diagnostic("PZ0105", message, Label(span_of(chunk[0])), help=hint)


def _stray_characters(strays: list[Token], statement: str) -> Diagnostic:
    """The first character that does not belong, and with it the others of its line: each is a mistake of its own."""
    strays = [t for t in strays if t.line == strays[0].line]
    if str(strays[0]) == '"':
        message = "this text does not end on its line, or has a `#` in it"
        return Diagnostic("PZ0107", message, Label(span_of(strays[0])), help='close it with `"`')
    helps = {str(t): for_character(str(t), statement) for t in strays}
    shown = [f"`{c}`" if c.isprintable() else f"U+{ord(c):04X}" for c in helps]
    many = f"s {', '.join(shown[:MAX_CHARACTERS])}" + (" …" if shown[MAX_CHARACTERS:] else "")
    message = f"unexpected character{many if len(shown) > 1 else f' {shown[0]}'}"
    common = len({h for h in helps.values() if h}) <= 1  # one help for all of them stands below
    labels: list[Label] = []
    for token in strays[:MAX_CHARACTERS]:
        help = helps[str(token)] or ""
        labels.append(Label(span_of(token), "" if common or help in {x.text for x in labels} else help))
    below = next(filter(None, helps.values()), None) if common else None
    return Diagnostic("PZ0102", message, labels[0], tuple(labels[1:]), below)


def _unexpected(token: Token, chunk: list[Token]) -> Diagnostic:
    """What is wrong with the token at which the parser stopped; its type is `$END` when the statement is over."""
    at_end = token.type == "$END"
    at = len(chunk) if at_end else next(i for i, t in enumerate(chunk) if t is token)
    before, following = chunk[:at], chunk[at + 1 :]
    expected = _accepted(before)
    previous = before[-1] if before else None
    if token.type == "DOC":
        return _stray_doc("a doc comment belongs before a statement, not inside one", [token])
    if token.type == "PZM" and previous is not None and previous.type == "DOC":
        return _stray_doc("the edition takes no doc comment", chunk)
    if "$END" in expected and previous is not None and previous.line != token.line:
        expected, before = set(_STARTS - {"PZM"}), []  # a new line: meant as a statement of its own
    span = Span(span_of(chunk[-1]).end - 1, span_of(chunk[-1]).end) if at_end else span_of(token)
    found = "the statement ends too early" if at_end else f"unexpected `{token}`"
    return Diagnostic(
        "PZ0101",
        f"{found}; expected {_expectation(expected, before)}",
        Label(span, "after this" if at_end else ""),
        _opened(before) if at_end or token.type == "PER" else (),
        help=for_token(token, expected, before, following, list(KEYWORDS)),
    )


def _opened(before: list[Token]) -> tuple[Label, ...]:
    """The innermost parenthesis or brace that is still open."""
    still: list[Token] = []
    for token in before:
        if token.type in ("LPAR", "LBRACE"):
            still.append(token)
        elif token.type in ("RPAR", "RBRACE") and still:
            still.pop()
    return (Label(span_of(still[-1]), "opened here"),) if still else ()


def _accepted(tokens: list[Token]) -> set[str]:
    """The types of tokens that may follow. The parser that failed can't tell: it has gone on to reduce."""
    state = _parser().parse_interactive(start="statement")
    for token in tokens:
        state.feed_token(token)
    accepted: set[str] = state.accepts()
    return accepted


def _expectation(expected: set[str], before: list[Token]) -> str:
    if not before or before[-1].type == "DOC":
        return "a statement: " + ", ".join(f"`{k}`" for k, t in KEYWORDS.items() if t in expected - {"PZM"})
    if before[-1].type == "PER":
        return "a comparison group: `row`, `col`, `layer`, `block` or `model`"
    words: list[str] = []
    if expected >= _VALUES:
        words.append("a value")
        expected = expected - _VALUES
    if expected >= _OPERATORS:
        words.append("an operator")
        expected = expected - _OPERATORS - {"DOT", "LPAR"}
    if before[-1].type == "USE":
        return 'a library, or a file in quotes: `use paper`, `use "norms.pzm"`'
    if expected >= _LAYERS:
        words.append("the next arm" if "RBRACE" in expected else "an arm such as `down_proj: abs(W) * X`")
        expected = expected - _LAYERS - {"ELSE"}
    words += sorted(_READABLE[t] for t in expected if t in _READABLE)
    if "$END" in expected:
        words.append("the end of the statement")
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _comments(source: str) -> Iterator[Comment]:
    """The plain comments. `#` begins nothing else in the language, so a scan of the lines finds them all."""
    for found in _COMMENT.finditer(source):
        text = found[0].rstrip()
        if not text.startswith("##"):
            yield Comment(text, Span(found.start(), found.start() + len(text)))
