"""What an editor is told through a client that talks to `pzc lsp`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest

pytest.importorskip("pygls")

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException
from pygls.lsp.client import LanguageClient

from pzc.compiler.groups import GROUPS
from pzc.lsp.colours import TYPES
from pzc.lsp.document import Document
from pzc.lsp.positions import Positions
from pzc.lsp.server import Server
from tests.editing import PROGRAM, write_folder
from tests.terminal import terminal_of

PATIENT = 600
"""Seconds that a conversation may take on a machine that is busy with other things."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path)


class Client(LanguageClient):
    """An editor that remembers what it was told."""

    def __init__(self) -> None:
        super().__init__("test", "1")
        self.told: asyncio.Queue[lsp.PublishDiagnosticsParams] = asyncio.Queue()

        @self.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def diagnostics(client: Client, params: lsp.PublishDiagnosticsParams) -> None:
            client.told.put_nowait(params)

    async def told_of(self, version: int) -> lsp.PublishDiagnosticsParams:
        """What the server says about one version of a text."""
        while (told := await self.told.get()).version != version:
            pass
        return told


def talk(what: Callable[[Client, lsp.InitializeResult], Awaitable[None]], encoding: str | None = None) -> str:
    """Start `pzc lsp`, initialise it, say something, end it as an editor does; what it logged."""

    async def conversation() -> str:
        client = Client()
        await client.start_io(sys.executable, "-m", "pzc", "lsp")
        try:
            general = lsp.GeneralClientCapabilities(position_encodings=[encoding] if encoding else None)
            capabilities = lsp.ClientCapabilities(general=general)
            started = await client.initialize_async(lsp.InitializeParams(capabilities=capabilities))
            client.initialized(lsp.InitializedParams())
            await what(client, started)
            await client.shutdown_async(None)
            client.exit(None)
            assert client._server is not None
            assert await client._server.wait() == 0
            assert client._server.stderr is not None
            return (await client._server.stderr.read()).decode()
        finally:
            if client._server is not None and client._server.returncode is None:
                client._server.kill()
            await client.stop()

    return asyncio.run(asyncio.wait_for(conversation(), PATIENT))


def opened(client: Client, uri: str, text: str) -> None:
    client.text_document_did_open(lsp.DidOpenTextDocumentParams(lsp.TextDocumentItem(uri, "pzm", 1, text)))


def replaced(client: Client, uri: str, line: int, start: int, end: int, text: str, version: int = 2) -> None:
    span = lsp.Range(lsp.Position(line, start), lsp.Position(line, end))
    change = lsp.TextDocumentContentChangePartial(range=span, text=text)
    document = lsp.VersionedTextDocumentIdentifier(version=version, uri=uri)
    client.text_document_did_change(lsp.DidChangeTextDocumentParams(document, [change]))


def test_an_editor_talks_to_the_server(folder: Path) -> None:
    uri = (folder / "mine.pzm").as_uri()
    source = (
        'pzm 1\nuse "norms.pzm" (share)\n# ‖😀‖ \u2028 in a comment\nlet  s = share(abs(W), in)\nmetric m = s + oops\n'
    )
    text = lsp.TextDocumentIdentifier(uri)

    async def conversation(client: Client, started: lsp.InitializeResult) -> None:
        assert started.capabilities.text_document_sync
        opened(client, uri, source)
        told = await client.told.get()
        (found,) = told.diagnostics
        assert told.uri == uri
        assert (found.code, found.source, found.severity) == ("PZ0201", "pzc", lsp.DiagnosticSeverity.Error)
        assert found.range == lsp.Range(lsp.Position(4, 15), lsp.Position(4, 19))
        assert found.code_description is not None
        assert found.code_description.href.endswith("PZ0201.md")

        replaced(client, uri, 4, 15, 19, "X")
        assert not (await client.told.get()).diagnostics

        at_s = lsp.Position(4, 11)
        shown = await client.text_document_hover_async(lsp.HoverParams(text, at_s))
        assert shown is not None
        assert "share(abs(W), in)" in shown.contents.value  # type: ignore[union-attr]
        assert shown.range == lsp.Range(at_s, lsp.Position(4, 12))

        at_share = lsp.Position(3, 10)
        place = await client.text_document_definition_async(lsp.DefinitionParams(text, at_share))
        assert isinstance(place, lsp.Location)
        assert place.uri == (folder / "norms.pzm").as_uri()
        assert place.range.start == lsp.Position(2, 3)

        context = lsp.ReferenceContext(include_declaration=True)
        uses = await client.text_document_references_async(lsp.ReferenceParams(context, text, at_s))
        assert uses is not None
        assert [u.range.start for u in uses] == [lsp.Position(3, 5), at_s]

        edit = await client.text_document_rename_async(lsp.RenameParams(text, at_s, "scaled"))
        assert edit is not None
        assert edit.changes is not None
        assert [e.range.start.line for e in edit.changes[uri]] == [3, 4]
        with pytest.raises(JsonRpcException, match="belongs to the language"):
            await client.text_document_rename_async(lsp.RenameParams(text, at_s, "W"))
        ready = await client.text_document_prepare_rename_async(lsp.PrepareRenameParams(text, at_s))
        assert ready == lsp.Range(at_s, lsp.Position(4, 12))

        symbols = await client.text_document_document_symbol_async(lsp.DocumentSymbolParams(text))
        assert [s.name for s in symbols or ()] == ["s", "m"]

        coloured = await client.text_document_semantic_tokens_full_async(lsp.SemanticTokensParams(text))
        assert coloured is not None
        assert list(coloured.data[:5]) == [0, 0, 3, TYPES.index("keyword"), 0]
        assert started.capabilities.semantic_tokens_provider is not None
        assert tuple(started.capabilities.semantic_tokens_provider.legend.token_types) == TYPES

        options = lsp.FormattingOptions(tab_size=4, insert_spaces=True)
        edits = await client.text_document_formatting_async(lsp.DocumentFormattingParams(text, options))
        assert edits is not None
        assert "\nlet s = share(abs(W), in)\n" in edits[0].new_text
        assert edits[0].range.end == lsp.Position(5, 0)

        replaced(client, uri, 4, 15, 16, "X per ")
        await client.told.get()
        list_ = await client.text_document_completion_async(lsp.CompletionParams(text, lsp.Position(4, 21)))
        assert isinstance(list_, lsp.CompletionList)
        assert [i.label for i in list_.items] == list(GROUPS)

        replaced(client, uri, 4, 11, 12, "broken")
        client.text_document_did_close(lsp.DidCloseTextDocumentParams(text))
        assert not (await client.told.get()).diagnostics
        assert await client.text_document_hover_async(lsp.HoverParams(text, at_s)) is None

    talk(conversation)


def test_nothing_is_said_later_of_a_text_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was to be said when nobody had typed for a moment is given up with the text."""
    server, told = Server(), []
    monkeypatch.setattr(server, "text_document_publish_diagnostics", told.append)

    async def closed_at_once() -> asyncio.TimerHandle:
        server.keep("untitled:1", 1, "pzm 1\nmetric m = broken per row\n")
        server.publish_soon("untitled:1")
        waiting = server._waiting["untitled:1"]
        server.forget("untitled:1")
        return waiting

    assert asyncio.run(closed_at_once()).cancelled()
    assert not server._waiting
    assert [(p.uri, p.diagnostics) for p in told] == [("untitled:1", [])]


def test_what_was_typed_last_is_checked_and_a_saved_file_checks_the_others(folder: Path) -> None:
    uri = (folder / "mine.pzm").as_uri()

    async def conversation(client: Client, started: lsp.InitializeResult) -> None:
        opened(client, uri, 'pzm 1\nuse "norms.pzm" (share)\nmetric m = share(W, in)\n')
        assert not (await client.told.get()).diagnostics
        for i, letter in enumerate("abc"):
            replaced(client, uri, 2, 11 + i, 11 + i, letter, 2 + i)
        told = await client.told_of(4)
        assert [d.message.split("`")[1] for d in told.diagnostics] == ["abcshare"]
        replaced(client, uri, 2, 11, 14, "", 5)
        assert not (await client.told_of(5)).diagnostics

        (folder / "norms.pzm").write_text("pzm 1\nfn other(x) = x\n")
        saved = lsp.TextDocumentIdentifier((folder / "norms.pzm").as_uri())
        client.text_document_did_save(lsp.DidSaveTextDocumentParams(saved))
        assert [d.code for d in (await client.told.get()).diagnostics] == ["PZ0506"]

    talk(conversation)


def test_after_any_typing_the_server_has_the_text_of_the_editor() -> None:
    uri = "untitled:one"
    random = Random(7)
    pieces = ["W", "‖", "😀", "\u2028", "\r\n", "\n", "let a = ", "abs(", ")", "#", " per ", '"', "\f", "metric m = W"]

    async def conversation(client: Client, started: lsp.InitializeResult) -> None:
        source = PROGRAM
        opened(client, uri, source)
        await client.told.get()
        for version in range(2, 100):
            start = random.randint(0, len(source))
            end = min(len(source), start + random.choice([0, 0, 1, 5]))
            if "\r\n" in (source[start - 1 : start + 1], source[end - 1 : end + 1]):
                start = end = 0  # no editor stands inside the end of a line
            new = "".join(random.choices(pieces, k=random.randint(0, 2)))
            first, last = (lsp.Position(*Positions(source).of(at)) for at in (start, end))
            change = lsp.TextDocumentContentChangePartial(range=lsp.Range(first, last), text=new)
            document = lsp.VersionedTextDocumentIdentifier(version=version, uri=uri)
            client.text_document_did_change(lsp.DidChangeTextDocumentParams(document, [change]))
            source = source[:start] + new + source[end:]
            if version % 10 == 0:
                found = [(d.code, d.range.start) for d in (await client.told_of(version)).diagnostics]
                want = Document(source).diagnostics
                assert found == [(d.code, lsp.Position(*Positions(source).of(d.primary.span.start))) for d in want]

    talk(conversation)


def test_a_refusal_is_no_defect_and_an_unknown_text_is_empty() -> None:
    text = lsp.TextDocumentIdentifier("untitled:unknown")

    async def conversation(client: Client, started: lsp.InitializeResult) -> None:
        params = lsp.RenameParams(text, lsp.Position(3, 3), "b")
        with pytest.raises(JsonRpcException, match="no name of this file"):
            await client.text_document_rename_async(params)
        assert await client.text_document_hover_async(lsp.HoverParams(text, lsp.Position(3, 3))) is None

    assert talk(conversation) == ""


def test_related_places_are_told_with_a_diagnostic() -> None:
    uri = "untitled:one"

    async def conversation(client: Client, started: lsp.InitializeResult) -> None:
        opened(client, uri, "pzm 1\nlet a = W\nlet a = X\nmetric m = a\n")
        (found,) = (await client.told.get()).diagnostics
        (related,) = found.related_information or ()
        assert related.location == lsp.Location(uri, lsp.Range(lsp.Position(1, 4), lsp.Position(1, 5)))
        assert related.message == "first defined here"

    talk(conversation)


def test_an_editor_may_count_bytes() -> None:
    uri = "untitled:one"
    source = "pzm 1\nmetric m = W # ‖😀‖\n"

    async def conversation(client: Client, started: lsp.InitializeResult) -> None:
        assert started.capabilities.position_encoding == "utf-8"
        opened(client, uri, source.replace("1\n", "1 # ‖😀‖\n"))
        await client.told.get()
        opened(client, uri, "pzm 1 # ‖\nmetric é = W\n")
        (found, *_) = (await client.told.get()).diagnostics
        assert found.range == lsp.Range(lsp.Position(1, 7), lsp.Position(1, 9))

    talk(conversation, "utf-8")


def test_without_pygls_the_command_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.split(".")[0] == "pygls" or m == "pzc.lsp.server"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pygls", None)
    shown = terminal_of(monkeypatch)("lsp")
    assert shown.code == 1
    assert "pip install 'pzc[lsp]'" in shown.err
    assert not shown.out
