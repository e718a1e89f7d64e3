"""The language server: the protocol's messages to the functions of this package, and their answers back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer
from pygls.protocol import LanguageServerProtocol, lsp_method
from pygls.uris import from_fs_path, to_fs_path

from pzc.grammar.diagnostics import Diagnostic, Label
from pzc.grammar.syntax import Span
from pzc.lsp import colours, complete, navigate
from pzc.lsp.changes import changed
from pzc.lsp.document import Document
from pzc.lsp.hover import hover
from pzc.lsp.positions import Encoding, Positions

PAUSE = 0.15
"""Seconds without a change after which a text is checked."""

_SEVERITY = {
    "error": lsp.DiagnosticSeverity.Error,
    "warning": lsp.DiagnosticSeverity.Warning,
    "note": lsp.DiagnosticSeverity.Information,
}

_COMPLETION: dict[complete.Kind, lsp.CompletionItemKind] = {
    "leaf": lsp.CompletionItemKind.Constant,
    "function": lsp.CompletionItemKind.Function,
    "keyword": lsp.CompletionItemKind.Keyword,
    "group": lsp.CompletionItemKind.EnumMember,
    "axis": lsp.CompletionItemKind.EnumMember,
    "value": lsp.CompletionItemKind.Variable,
    "library": lsp.CompletionItemKind.Module,
    "file": lsp.CompletionItemKind.File,
    "entry": lsp.CompletionItemKind.Property,
}

_SYMBOL = {
    "let": lsp.SymbolKind.Variable,
    "param": lsp.SymbolKind.Constant,
    "fn": lsp.SymbolKind.Function,
    "metric": lsp.SymbolKind.Class,
    "space": lsp.SymbolKind.Namespace,
}


class _Protocol(LanguageServerProtocol):
    """The protocol without pygls's own copy of the changed text.

    It takes every separator of `str.splitlines` for the end of a line, which the protocol does not, and then moves
    the positions of a change.
    """

    @lsp_method(lsp.TEXT_DOCUMENT_DID_CHANGE)
    def lsp_text_document__did_change(self, params: lsp.DidChangeTextDocumentParams) -> Iterator[Any]:
        """Hand a change to `did_change`."""
        yield self.fm.features[lsp.TEXT_DOCUMENT_DID_CHANGE], (params,), None


class Server(LanguageServer):
    """Keeps the texts that an editor has open."""

    def __init__(self) -> None:
        super().__init__("pzc", version("pzc"), protocol_cls=_Protocol)
        self._open: dict[str, Document] = {}
        self._versions: dict[str, int] = {}
        self._waiting: dict[str, asyncio.TimerHandle] = {}

    @property
    def encoding(self) -> Encoding:
        """The units in which the editor counts columns."""
        kind = self.server_capabilities.position_encoding
        return "utf-8" if kind == "utf-8" else "utf-32" if kind == "utf-32" else "utf-16"

    def keep(self, uri: str, version: int, source: str) -> None:
        """A text that was opened or changed."""
        path = to_fs_path(uri) if uri.startswith("file:") else None
        self._open[uri] = Document(source, Path(path) if path else None)
        self._versions[uri] = version

    def forget(self, uri: str) -> None:
        """A text that was closed."""
        self._open.pop(uri, None)
        self._versions.pop(uri, None)
        self._stop_waiting(uri)
        self.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri, []))

    def reread(self) -> None:
        """Check every text again: a file that it uses may have changed."""
        for uri, document in self._open.items():
            self._open[uri] = Document(document.source, document.path)
            self.publish(uri)

    def document(self, uri: str) -> Document:
        """A text that is open; an empty one where it is not."""
        return self._open.get(uri) or Document("")

    def at(self, text: lsp.TextDocumentIdentifier, position: lsp.Position) -> tuple[Document, int]:
        """The text and the offset that a request asks about."""
        document = self.document(text.uri)
        return document, Positions(document.source, self.encoding).offset(position.line, position.character)

    def ranges(self, document: Document) -> Callable[[Span], lsp.Range]:
        """A function from spans of a text to the protocol's ranges."""
        positions = Positions(document.source, self.encoding)

        def of(span: Span) -> lsp.Range:
            start, end = positions.range(span)
            return lsp.Range(lsp.Position(*start), lsp.Position(*end))

        return of

    def publish(self, uri: str) -> None:
        """Send everything there is to say about an open text."""
        self._stop_waiting(uri)
        document = self.document(uri)
        of = self.ranges(document)
        found = [_diagnostic(d, uri, of) for d in document.diagnostics]
        self.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri, found, self._versions.get(uri)))

    def publish_soon(self, uri: str) -> None:
        """The same when nothing was typed for a moment."""
        self._stop_waiting(uri)
        self._waiting[uri] = asyncio.get_running_loop().call_later(PAUSE, self.publish, uri)

    def _stop_waiting(self, uri: str) -> None:
        if uri in self._waiting:
            self._waiting.pop(uri).cancel()


def _diagnostic(d: Diagnostic, uri: str, of: Callable[[Span], lsp.Range]) -> lsp.Diagnostic:
    def related(label: Label) -> lsp.DiagnosticRelatedInformation:
        return lsp.DiagnosticRelatedInformation(lsp.Location(uri, of(label.span)), label.text or d.message)

    message = "\n".join(text for text in (d.message, d.primary.text, d.help and f"help: {d.help}") if text)
    page = Path(str(resources.files("pzc.grammar").joinpath("errors", f"{d.code}.md")))
    return lsp.Diagnostic(
        range=of(d.primary.span),
        message=message,
        severity=_SEVERITY[d.severity],
        code=d.code,
        code_description=lsp.CodeDescription(page.as_uri()) if page.is_file() else None,
        source="pzc",
        related_information=[related(label) for label in d.secondary] or None,
        tags=[lsp.DiagnosticTag.Unnecessary] if d.code == "PZ0401" else None,
    )


@contextmanager
def _refusals() -> Iterator[None]:
    """A name that cannot be changed is an answer too: the protocol's error with the reason."""
    try:
        yield
    except navigate.RenameError as refusal:
        raise JsonRpcException(str(refusal), lsp.LSPErrorCodes.RequestFailed.value) from None


def _is_defect(record: logging.LogRecord) -> bool:
    """Whether the log should keep what pygls reports: a refusal is none of its business."""
    return not (record.exc_info and isinstance(record.exc_info[1], JsonRpcException))


logging.getLogger("pygls.protocol.json_rpc").addFilter(_is_defect)

server = Server()


@server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
def did_open(ls: Server, params: lsp.DidOpenTextDocumentParams) -> None:
    text = params.text_document
    ls.keep(text.uri, text.version, text.text)
    ls.publish(text.uri)


@server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
def did_change(ls: Server, params: lsp.DidChangeTextDocumentParams) -> None:
    text = params.text_document
    source = ls.document(text.uri).source
    for change in params.content_changes:
        source = changed(source, change, ls.encoding)
    ls.keep(text.uri, text.version, source)
    ls.publish_soon(text.uri)


@server.feature(lsp.TEXT_DOCUMENT_DID_SAVE)
def did_save(ls: Server, params: lsp.DidSaveTextDocumentParams) -> None:
    ls.reread()


@server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
def did_close(ls: Server, params: lsp.DidCloseTextDocumentParams) -> None:
    ls.forget(params.text_document.uri)


@server.feature(lsp.TEXT_DOCUMENT_HOVER)
def on_hover(ls: Server, params: lsp.HoverParams) -> lsp.Hover | None:
    document, offset = ls.at(params.text_document, params.position)
    found = hover(document, offset)
    if found is None:
        return None
    text, span = found
    return lsp.Hover(lsp.MarkupContent(lsp.MarkupKind.Markdown, text), ls.ranges(document)(span))


@server.feature(lsp.TEXT_DOCUMENT_COMPLETION, lsp.CompletionOptions(trigger_characters=[".", '"']))
def on_completion(ls: Server, params: lsp.CompletionParams) -> lsp.CompletionList:
    document, offset = ls.at(params.text_document, params.position)
    items, span = complete.complete(document, offset)
    replaced = ls.ranges(document)(span)
    return lsp.CompletionList(is_incomplete=False, items=[_proposal(i, n, replaced) for n, i in enumerate(items)])


def _proposal(item: complete.Item, order: int, replaced: lsp.Range) -> lsp.CompletionItem:
    return lsp.CompletionItem(
        label=item.label,
        kind=_COMPLETION[item.kind],
        documentation=lsp.MarkupContent(lsp.MarkupKind.Markdown, item.doc) if item.doc else None,
        sort_text=f"{order:04}",
        text_edit=lsp.TextEdit(replaced, item.label),
    )


@server.feature(lsp.TEXT_DOCUMENT_DEFINITION)
def on_definition(ls: Server, params: lsp.DefinitionParams) -> lsp.Location | None:
    document, offset = ls.at(params.text_document, params.position)
    place = navigate.definition(document, offset)
    if place is None:
        return None
    if place.document is document:
        return lsp.Location(params.text_document.uri, ls.ranges(document)(place.span))
    uri = from_fs_path(str(place.path)) if place.path else None
    return lsp.Location(uri, ls.ranges(place.document)(place.span)) if uri else None


@server.feature(lsp.TEXT_DOCUMENT_REFERENCES)
def on_references(ls: Server, params: lsp.ReferenceParams) -> list[lsp.Location]:
    document, offset = ls.at(params.text_document, params.position)
    of = ls.ranges(document)
    found = navigate.references(document, offset, params.context.include_declaration)
    return [lsp.Location(params.text_document.uri, of(span)) for span in found]


@server.feature(lsp.TEXT_DOCUMENT_DOCUMENT_HIGHLIGHT)
def on_highlight(ls: Server, params: lsp.DocumentHighlightParams) -> list[lsp.DocumentHighlight]:
    document, offset = ls.at(params.text_document, params.position)
    of = ls.ranges(document)
    return [lsp.DocumentHighlight(of(span)) for span in navigate.references(document, offset)]


@server.feature(lsp.TEXT_DOCUMENT_PREPARE_RENAME)
def on_prepare_rename(ls: Server, params: lsp.PrepareRenameParams) -> lsp.Range | None:
    document, offset = ls.at(params.text_document, params.position)
    with _refusals():
        symbol = navigate.renameable(document, offset)
    spans = [symbol.span, *(u.span for u in document.names.uses_of(symbol))]
    here = next(s for s in spans if s.start <= offset <= s.end)
    return ls.ranges(document)(here)


@server.feature(lsp.TEXT_DOCUMENT_RENAME, lsp.RenameOptions(prepare_provider=True))
def on_rename(ls: Server, params: lsp.RenameParams) -> lsp.WorkspaceEdit:
    document, offset = ls.at(params.text_document, params.position)
    with _refusals():
        spans = navigate.rename(document, offset, params.new_name)
    of = ls.ranges(document)
    return lsp.WorkspaceEdit({params.text_document.uri: [lsp.TextEdit(of(s), params.new_name) for s in spans]})


@server.feature(lsp.TEXT_DOCUMENT_FORMATTING)
def on_formatting(ls: Server, params: lsp.DocumentFormattingParams) -> list[lsp.TextEdit]:
    document = ls.document(params.text_document.uri)
    formatted = document.formatted
    if formatted is None or formatted == document.source:
        return []
    return [lsp.TextEdit(ls.ranges(document)(Span(0, len(document.source))), formatted)]


@server.feature(lsp.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
def on_symbols(ls: Server, params: lsp.DocumentSymbolParams) -> list[lsp.DocumentSymbol]:
    document = ls.document(params.text_document.uri)
    of = ls.ranges(document)
    return [
        lsp.DocumentSymbol(s.name, _SYMBOL[s.kind], of(s.statement), of(s.span), detail=s.doc.split("\n")[0])
        for s in document.names.symbols
        if s.kind in _SYMBOL
    ]


@server.feature(
    lsp.TEXT_DOCUMENT_SEMANTIC_TOKENS_FULL, lsp.SemanticTokensLegend(list(colours.TYPES), list(colours.MODIFIERS))
)
def on_semantic_tokens(ls: Server, params: lsp.SemanticTokensParams) -> lsp.SemanticTokens:
    return lsp.SemanticTokens(colours.encoded(ls.document(params.text_document.uri), ls.encoding))
