"""What an editor shows for the word under the cursor."""

from __future__ import annotations

from itertools import zip_longest

from pzc.compiler.functions import FUNCTION_NAMES
from pzc.compiler.names import is_leaf
from pzc.grammar.syntax import Span
from pzc.lsp import describe
from pzc.lsp.document import Document
from pzc.lsp.names import Use, touches


def hover(document: Document, offset: int) -> tuple[str, Span] | None:
    """Markdown about the word at an offset, and the word's place; None where there is nothing to say."""
    names = document.names
    for symbol in names.symbols:
        if touches(symbol.span, offset):
            return describe.symbol(symbol, document), symbol.span
    use = names.use_at(offset)
    if use is not None:
        text = _used(use, document)
        return (text, use.whole) if text else None
    return _word(document, offset)


def _used(use: Use, document: Document) -> str | None:
    if is_leaf(use.text):
        return describe.leaf(use.text)
    if use.symbol is not None and use.member and use.symbol.kind == "library":
        return describe.imported(use.symbol.source, use.member, document)
    if use.symbol is not None:
        return describe.symbol(use.symbol, document)
    return describe.function(use.name) if use.name in FUNCTION_NAMES and not use.member else None


def _word(document: Document, offset: int) -> tuple[str, Span] | None:
    """A keyword, an axis or a group."""
    for token, after in zip_longest(document.tokens, document.tokens[1:]):
        if token.kind == "name" and touches(token.span, offset):
            tables = describe.KEYWORDS | describe.WORDS | describe.AXIS
            if token.start in document.names.groups:
                tables = describe.GROUPS
            elif token.text == "in" and after is not None and after.text == "[":
                tables = describe.RANGE
            text = tables.get(token.text)
            return (f"`{token.text}`: {text}", token.span) if text else None
    return None
