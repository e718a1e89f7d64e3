"""The words of a text, whether it parses or not: an editor asks most while a statement is half written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

from pzc.grammar.parse import MAX_LENGTH
from pzc.grammar.syntax import Span
from pzc.grammar.words import NAME

Kind = Literal["name", "number", "string", "doc", "comment", "symbol"]

_TOKEN = re.compile(
    rf"""
      (?P<doc>\#\#[^\n]*)
    | (?P<comment>\#[^\n]*)
    | (?P<string>"[^"\#\n]*"?)                             # closed or not
    | (?P<name>{NAME})
    | (?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)
    | (?P<symbol>\.\.|[^\s])
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One word, number, text, comment or sign."""

    kind: Kind
    text: str
    start: int

    @property
    def end(self) -> int:
        """The offset behind it."""
        return self.start + len(self.text)

    @property
    def span(self) -> Span:
        """The characters it covers."""
        return Span(self.start, self.end)


def tokens(source: str) -> tuple[Token, ...]:
    """Every token with its comments, in order; none of a text that is longer than the language allows."""
    if len(source) > MAX_LENGTH:
        return ()
    return tuple(Token(cast(Kind, m.lastgroup), m[0], m.start()) for m in _TOKEN.finditer(source))
