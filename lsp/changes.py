"""The changes that an editor sends while someone types."""

from __future__ import annotations

from lsprotocol import types as lsp

from pzc.lsp.positions import Encoding, Positions


def changed(source: str, change: lsp.TextDocumentContentChangeEvent, encoding: Encoding) -> str:
    """The text after one change: a part of it replaced, or all of it."""
    if isinstance(change, lsp.TextDocumentContentChangeWholeDocument):
        return change.text
    positions = Positions(source, encoding)
    start = positions.offset(change.range.start.line, change.range.start.character)
    end = positions.offset(change.range.end.line, change.range.end.character)
    return source[:start] + change.text + source[max(start, end) :]
