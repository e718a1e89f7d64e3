"""What the names of a text stand for: its definitions, and every place where a name is used.

Found from the words alone, so that a statement that does not parse still has its names. The rules are the
language's: a name is known from the statement after it, a function's parameters in its own body.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pzc.compiler.functions import FUNCTION_NAMES
from pzc.compiler.names import is_leaf
from pzc.grammar.syntax import Span
from pzc.grammar.words import KEYWORDS, RESERVED
from pzc.lsp.tokens import Token, tokens

Kind = Literal["let", "param", "fn", "metric", "space", "parameter", "import", "library"]

_UNFINISHED = {*KEYWORDS, *"+-*/^=([{,:.", "per"}
"""Behind these, on their line, a keyword is a mistake and begins no statement."""


@dataclass(frozen=True, slots=True)
class Symbol:
    """Something that the text gives a name.

    `statement` is the whole statement that does so. An import and a library have the `source` that they come from, as
    it is written: `paper` or `"norms.pzm"`.
    """

    name: str
    kind: Kind
    span: Span
    statement: Span
    doc: str = ""
    source: str = ""
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Use:
    """A place where a name is used: the first part of a dotted name, and the member behind its dot."""

    name: str
    span: Span
    symbol: Symbol | None
    member: str = ""
    member_span: Span = Span()

    @property
    def text(self) -> str:
        """The name as it is written, without spaces."""
        return f"{self.name}.{self.member}" if self.member else self.name

    @property
    def whole(self) -> Span:
        """The name and its member."""
        return self.span.to(self.member_span) if self.member else self.span


@dataclass(frozen=True)
class Names:
    """The symbols of a text and the uses of names in it, both in order; where its comparison groups stand."""

    symbols: tuple[Symbol, ...]
    uses: tuple[Use, ...]
    groups: frozenset[int] = frozenset()

    def symbol_at(self, offset: int) -> Symbol | None:
        """What is defined at an offset, or used there by its own name."""
        for symbol in self.symbols:
            if touches(symbol.span, offset):
                return symbol
        use = self.use_at(offset)
        return use.symbol if use and touches(use.span, offset) else None

    def use_at(self, offset: int) -> Use | None:
        """The use of a name at an offset."""
        return next((u for u in self.uses if touches(u.whole, offset)), None)

    def uses_of(self, symbol: Symbol) -> list[Use]:
        """Every place where a symbol is used."""
        return [u for u in self.uses if u.symbol is symbol]

    def known_in(self, start: int) -> dict[str, Symbol]:
        """What has a name inside the statement that starts at an offset."""
        found: dict[str, Symbol] = {}
        for s in self.symbols:
            if s.kind != "parameter" and s.statement.start < start:
                define(found, s)
        return found | _parameters(s for s in self.symbols if s.statement.start == start)


def define(scope: dict[str, Symbol], symbol: Symbol) -> None:
    """Give a symbol its name for the statements after it; of two the first keeps it."""
    if counts(symbol):
        scope.setdefault(symbol.name, symbol)


def _parameters(symbols: Iterable[Symbol]) -> dict[str, Symbol]:
    return {s.name: s for s in symbols if s.kind == "parameter" and counts(s)}


def touches(span: Span, offset: int) -> bool:
    """Whether a cursor at the offset stands in the span or at one of its ends."""
    return span.start <= offset <= span.end


def counts(symbol: Symbol) -> bool:
    """Whether a definition takes its name: none takes that of a leaf, only a function that of a function."""
    return not is_leaf(symbol.name) and (symbol.name not in FUNCTION_NAMES or symbol.kind in ("fn", "import"))


@dataclass(frozen=True)
class Statement:
    """The tokens of one statement without comments; `doc` is the text above it."""

    tokens: tuple[Token, ...]
    doc: str

    @property
    def keyword(self) -> str:
        """The word it begins with; empty for what is no statement."""
        first = self.tokens[0].text
        return first if first in KEYWORDS else ""

    @property
    def span(self) -> Span:
        """Its characters."""
        return self.tokens[0].span.to(self.tokens[-1].span)


def statements(words: tuple[Token, ...], source: str) -> Iterator[Statement]:
    """The words cut where a statement begins."""
    current: list[Token] = []
    doc: list[str] = []
    above: list[str] = []
    for word in words:
        if word.kind == "doc":
            above.append(word.text.removeprefix("##").strip())
        if word.kind in ("doc", "comment"):
            continue
        if word.kind == "name" and word.text in KEYWORDS:
            before = current[-1] if current else None
            misplaced = before and before.text in _UNFINISHED and "\n" not in source[before.end : word.start]
            if not misplaced:
                if current:
                    yield Statement(tuple(current), "\n".join(doc))
                current, doc = [], above
        above = []
        current.append(word)
    if current:
        yield Statement(tuple(current), "\n".join(doc))


def names(source: str) -> Names:
    """The symbols and uses of a text."""
    symbols: list[Symbol] = []
    uses: list[Use] = []
    scope: dict[str, Symbol] = {}
    groups: set[int] = set()
    for statement in statements(tokens(source), source):
        compared = _groups(statement)
        groups |= compared
        own, skipped = _defined(statement)
        parameters = _parameters(own)
        known = ChainMap(parameters, scope) if parameters else scope
        uses += _uses(statement, skipped | compared | {s.span.start for s in own}, known)
        for symbol in own:
            if symbol.kind != "parameter":
                define(scope, symbol)
        symbols += own
    return Names(tuple(symbols), tuple(uses), frozenset(groups))


def _defined(s: Statement) -> tuple[list[Symbol], set[int]]:
    """The symbols of a statement, and where names stand that refer to nothing in scope."""
    words = s.tokens[1:]
    if s.keyword == "use":
        return _used(s), {t.start for t in words}
    if not s.keyword or s.keyword == "pzm" or not words or words[0].kind != "name" or words[0].text in RESERVED:
        return [], _heads(s)
    name = words[0]
    parameters: list[Token] = []
    if s.keyword == "fn":
        parameters = _listed(words[1:])
    written = tuple(p.text for p in parameters)
    kind: Kind = s.keyword  # type: ignore[assignment]  # every keyword left is a kind
    symbol = Symbol(name.text, kind, name.span, s.span, s.doc, parameters=written)
    own = [Symbol(p.text, "parameter", p.span, s.span) for p in parameters]
    return [symbol, *own], _heads(s)


def _listed(words: tuple[Token, ...]) -> list[Token]:
    """The names between the parentheses that the words begin with."""
    found: list[Token] = []
    if words and words[0].text == "(":
        for word in words[1:]:
            if word.kind == "name" and word.text not in RESERVED:
                found.append(word)
            elif word.text != ",":
                break
    return found


def _used(s: Statement) -> list[Symbol]:
    if len(s.tokens) < 2 or s.tokens[1].kind not in ("name", "string"):
        return []
    source = s.tokens[1]
    listed = _listed(s.tokens[2:])
    if listed or any(t.text == "(" for t in s.tokens):
        return [Symbol(t.text, "import", t.span, s.span, s.doc, source.text) for t in listed]
    prefix = source.text.strip('"').replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".pzm")
    return [Symbol(prefix, "library", source.span, s.span, s.doc, source.text)]


def _heads(s: Statement) -> set[int]:
    """Where the names of layers and of a space's entries stand."""
    colons = [i for i, t in enumerate(s.tokens) if t.text == ":"] if s.keyword in ("metric", "space") else []
    return {t.start for i in colons for t in _before_colon(s.tokens[:i])}


def _groups(s: Statement) -> set[int]:
    """Where comparison groups stand."""
    found: set[int] = set()
    per = False
    for i, word in enumerate(s.tokens):
        if word.text == "per":
            per = True
        elif per and word.kind == "name":
            following = s.tokens[i + 1].text if i + 1 < len(s.tokens) else ""
            if following != ":":
                found.add(word.start)
            per = s.keyword == "space" and following == ","
        elif per and word.text not in (":", ","):
            per = False
    return found


def _before_colon(words: tuple[Token, ...]) -> list[Token]:
    """The names and texts of the arm or entry that ends in a colon behind the words."""
    found: list[Token] = []
    joined = True
    for word in reversed(words):
        if word.text in (",", ".") and found:
            joined = True
        elif joined and word.kind in ("name", "string"):
            found.append(word)
            joined = False
        else:
            break
    return found


def _uses(s: Statement, skipped: set[int], known: Mapping[str, Symbol]) -> list[Use]:
    found: list[Use] = []
    words = s.tokens
    for i, word in enumerate(words):
        if word.kind != "name" or word.text in RESERVED or word.start in skipped:
            continue
        if i and words[i - 1].text == ".":
            continue
        member = words[i + 2] if i + 2 < len(words) and words[i + 1].text == "." else None
        symbol = known.get(word.text)
        if member is not None and member.kind == "name":
            found.append(Use(word.text, word.span, symbol, member.text, member.span))
        else:
            found.append(Use(word.text, word.span, symbol))
    return found
