"""Semantic tokens: what each word of a text is, for editors that colour by them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pzc.compiler.functions import FUNCTION_NAMES
from pzc.compiler.groups import GROUPS
from pzc.compiler.leaves import AXES
from pzc.compiler.names import is_leaf
from pzc.grammar.words import RESERVED
from pzc.lsp.document import Document
from pzc.lsp.names import Names, Symbol
from pzc.lsp.positions import Encoding, Positions
from pzc.lsp.tokens import Token

TYPES = (
    "class",
    "comment",
    "enumMember",
    "function",
    "keyword",
    "namespace",
    "number",
    "operator",
    "parameter",
    "property",
    "string",
    "variable",
)
MODIFIERS = ("definition", "readonly", "documentation", "defaultLibrary")

_SYMBOLS = {
    "let": ("variable",),
    "param": ("variable", "readonly"),
    "fn": ("function",),
    "metric": ("class",),
    "space": ("class",),
    "parameter": ("parameter",),
    "import": ("function",),
    "library": ("namespace",),
}
_LEAF = ("variable", "readonly", "defaultLibrary")
_TOKENS = {"doc": ("comment", "documentation"), "comment": ("comment",), "string": ("string",), "number": ("number",)}
_OPERATORS = {*"+-*/^=", ".."}


@dataclass(frozen=True, slots=True)
class Colour:
    """A word and what it is: a type, then its modifiers."""

    token: Token
    kind: tuple[str, ...]


def colours(document: Document) -> Iterator[Colour]:
    """Every word of a text that has a colour, in order."""
    named = _named(document.names)
    words, groups = document.tokens, document.names.groups
    for before, token, after in zip((None, *words), words, (*words[1:], None), strict=False):
        if token.kind == "name":
            kind = named.get(token.start) or _word(token, before, after, token.start in groups)
        else:
            kind = _TOKENS.get(token.kind) or (("operator",) if token.text in _OPERATORS else ())
        if kind:
            yield Colour(token, kind)


def _named(names: Names) -> dict[int, tuple[str, ...]]:
    """What stands where a name is defined or used."""
    found = {s.span.start: (*_SYMBOLS[s.kind], "definition") for s in names.symbols}
    for use in names.uses:
        leaf = is_leaf(use.text)
        found[use.span.start] = _LEAF if leaf else _used(use.name, use.symbol)
        if use.member:
            found[use.member_span.start] = _LEAF if leaf else ("function",)
    return found


def _used(name: str, symbol: Symbol | None) -> tuple[str, ...]:
    if symbol is not None:
        return _SYMBOLS[symbol.kind]
    return ("function", "defaultLibrary") if name in FUNCTION_NAMES else ("variable",)


def _word(token: Token, before: Token | None, after: Token | None, group: bool) -> tuple[str, ...]:
    """A word that names nothing in scope: one of the language, a group, a layer or an entry of a space."""
    if token.text in AXES and not (after and after.text == "["):
        return ("enumMember",)
    if token.text in RESERVED:
        return ("keyword",)
    if before is not None and before.text == "use":
        return ("namespace",)
    return ("enumMember",) if group and token.text in GROUPS else ("property",)


def encoded(document: Document, encoding: Encoding) -> list[int]:
    """The words as the protocol wants them: five numbers each, line and column relative to the word before."""
    positions = Positions(document.source, encoding)
    data: list[int] = []
    line = column = 0
    for colour in colours(document):
        start = positions.of(colour.token.start)
        text = colour.token.text.split("\r")[0]  # a comment goes on behind a lone \r, a line of an editor does not
        length = positions.of(colour.token.start + len(text))[1] - start[1]
        modifiers = sum(1 << MODIFIERS.index(m) for m in colour.kind[1:])
        moved = start[1] - column if start[0] == line else start[1]
        data += [start[0] - line, moved, length, TYPES.index(colour.kind[0]), modifiers]
        line, column = start
    return data
