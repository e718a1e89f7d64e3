"""Where a name comes from, where it is used, and what it may be called instead."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pzc.compiler.functions import FUNCTION_NAMES
from pzc.compiler.names import is_family, is_leaf, is_name, taken
from pzc.grammar.syntax import Span
from pzc.lsp.document import Document
from pzc.lsp.names import Symbol, touches

RENAMED = ("let", "param", "fn", "metric", "space", "parameter")
"""The kinds of symbols that belong to the file itself."""


class RenameError(Exception):
    """Why something cannot have another name."""


@dataclass(frozen=True)
class Place:
    """A part of a file; `document` is the file."""

    document: Document
    span: Span

    @property
    def path(self) -> Path | None:
        """Where the file is saved."""
        return self.document.path


def definition(document: Document, offset: int) -> Place | None:
    """Where the name at an offset is defined, in this file or in one that it uses."""
    names = document.names
    use = names.use_at(offset)
    symbol = names.symbol_at(offset) or (use.symbol if use else None)
    if symbol is None:
        return None
    if symbol.kind == "import":
        return _in_used(document, symbol, symbol.name) or Place(document, symbol.span)
    if symbol.kind == "library":
        member = use.member if use and touches(use.whole, offset) and not touches(use.span, offset) else ""
        return _in_used(document, symbol, member)
    return Place(document, symbol.span)


def _in_used(document: Document, symbol: Symbol, name: str) -> Place | None:
    """A name in the file that a symbol comes from; the beginning of the file for none."""
    used = document.used(symbol.source)
    if used is None:
        return None
    if not name:
        return Place(used, Span(0, 0))
    return next((Place(used, s.span) for s in used.names.symbols if s.name == name and s.kind != "parameter"), None)


def references(document: Document, offset: int, declaration: bool = True) -> list[Span]:
    """Every place of this file where the name at an offset is used; `declaration` adds where it is defined."""
    names = document.names
    symbol = names.symbol_at(offset)
    if symbol is not None:
        defined = [symbol.span] if declaration else []
        return defined + [u.span for u in names.uses_of(symbol)]
    use = names.use_at(offset)
    if use is None:
        return []
    return [u.whole for u in names.uses if u.text == use.text and u.symbol is use.symbol]


def renameable(document: Document, offset: int) -> Symbol:
    """The symbol at an offset. Raises RenameError for what has no other name: a leaf, a function, an import."""
    symbol = document.names.symbol_at(offset)
    if symbol is None:
        use = document.names.use_at(offset)
        if use is not None and (is_leaf(use.text) or use.name in FUNCTION_NAMES):
            raise RenameError(f"`{use.text}` belongs to the language")
        raise RenameError("there is no name of this file here")
    if symbol.kind not in RENAMED:
        raise RenameError(f"`{symbol.name}` comes from {symbol.source}; rename it there")
    return symbol


def rename(document: Document, offset: int, new: str) -> list[Span]:
    """The places to write a new name at. Raises RenameError where it is no name, or means something else there."""
    symbol = renameable(document, offset)
    if not is_name(new):
        raise RenameError(f"`{new}` is no name: names are made of the letters A to Z and a to z, digits and `_`")
    parameter = symbol.kind == "parameter" and is_family(new) and not is_leaf(new)
    if taken(new) and not parameter:
        raise RenameError(f"`{new}` belongs to the language")
    if new != symbol.name and _taken(document, symbol, new):
        raise RenameError(f"`{new}` is taken in this file")
    return references(document, offset)


def _taken(document: Document, symbol: Symbol, new: str) -> bool:
    """Whether another symbol of the same name would stand for it somewhere, or it for another."""
    for other in document.names.symbols:
        if other.name != new:
            continue
        if symbol.kind == other.kind == "parameter":
            if other.statement == symbol.statement:
                return True
        elif other.kind == "parameter":
            uses = document.names.uses_of(symbol)
            if any(other.statement.start <= u.span.start < other.statement.end for u in uses):
                return True
        else:
            return True
    return False
