"""What an editor is told, as functions of a text and a cursor."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pygls")

from lsprotocol import types as lsp
from pygments.token import Comment, Keyword, Name, Number, Operator, String

from pzc.cli.lexer import PzmLexer
from pzc.compiler.functions import FUNCTION_NAMES
from pzc.compiler.groups import GROUPS
from pzc.compiler.language.modules import libraries
from pzc.compiler.leaves import ALIASES, AXES, LEAVES, short
from pzc.compiler.load import zoo_names, zoo_source
from pzc.compiler.metric import compile_source
from pzc.grammar.diagnostics import SourceError
from pzc.grammar.parse import MAX_LENGTH
from pzc.grammar.printer import statement
from pzc.grammar.words import KEYWORDS
from pzc.lsp import describe
from pzc.lsp.changes import changed
from pzc.lsp.colours import TYPES, colours, encoded
from pzc.lsp.complete import complete
from pzc.lsp.document import Document
from pzc.lsp.hover import hover
from pzc.lsp.names import Names, names
from pzc.lsp.navigate import RenameError, definition, references, rename, renameable
from pzc.lsp.positions import Encoding, Positions
from tests.editing import PROGRAM, write_folder
from tests.programs import STATEMENTS, spaced
from tests.test_pygments import TEXTS


def cursor(marked: str, path: Path | None = None) -> tuple[Document, int]:
    """The text without its mark `‸`, and where the mark stood."""
    at = marked.index("‸")
    return Document(marked.replace("‸", ""), path), at


def at(text: str, nth: int = 0) -> int:
    """Inside the nth occurrence of a text in PROGRAM."""
    offset = -1
    for _ in range(nth + 1):
        offset = PROGRAM.index(text, offset + 1)
    return offset + 1 if len(text) > 1 else offset


def texts(document: Document, spans: list[Any]) -> list[str]:
    return [document.source[s.start : s.end] for s in spans]


# Positions


@pytest.mark.parametrize(
    ("encoding", "column"), [("utf-8", len("# ‖😀 ".encode())), ("utf-16", 6), ("utf-32", 5)], ids=str
)
def test_columns_are_counted_in_the_units_of_the_editor(encoding: Encoding, column: int) -> None:
    source = "pzm 1\n# ‖😀 x"
    positions = Positions(source, encoding)
    assert positions.of(source.index("x")) == (1, column)
    assert positions.offset(1, column) == source.index("x")


@given(st.text(st.sampled_from("a‖😀é \n\r\f\u2028")), st.sampled_from(["utf-8", "utf-16", "utf-32"]))
def test_positions_there_and_back(source: str, encoding: Encoding) -> None:
    positions = Positions(source, encoding)
    codec = {"utf-8": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}[encoding]
    width = {"utf-8": 1, "utf-16": 2, "utf-32": 4}[encoding]
    for offset in range(len(source) + 1):
        if source[offset - 1 : offset + 1] == "\r\n":
            continue  # inside the end of a line
        before = source[:offset]
        start = max(before.rfind("\n"), before.rfind("\r")) + 1
        column = len(before[start:].encode(codec)) // width
        line = before.replace("\r\n", "\n").replace("\r", "\n").count("\n")
        assert positions.of(offset) == (line, column)
        assert positions.offset(line, column) == offset
    assert positions.offset(10**6, 0) == len(source)


@given(st.text(st.sampled_from("a‖😀\n\r\u2028")), st.data(), st.text(st.sampled_from("b😀\n")))
def test_a_change_replaces_the_part_that_it_names(source: str, data: Any, new: str) -> None:
    start = data.draw(st.integers(0, len(source)))
    end = data.draw(st.integers(start, len(source)))
    if "\r\n" in (source[start - 1 : start + 1], source[end - 1 : end + 1]):
        return
    positions = Positions(source)
    span = lsp.Range(lsp.Position(*positions.of(start)), lsp.Position(*positions.of(end)))
    change = lsp.TextDocumentContentChangePartial(range=span, text=new)
    assert changed(source, change, "utf-16") == source[:start] + new + source[end:]
    assert changed(source, lsp.TextDocumentContentChangeWholeDocument(new), "utf-16") == new


# Names


def test_what_a_text_defines() -> None:
    found = [(s.kind, s.name, s.doc) for s in names(PROGRAM).symbols]
    assert found == [
        ("import", "mms", ""),
        ("library", "paper", ""),
        ("fn", "part", "How much of all."),
        ("parameter", "x", ""),
        ("parameter", "axis", ""),
        ("param", "a", "The exponent."),
        ("let", "b", ""),
        ("metric", "m", "By role."),
        ("space", "s", ""),
        ("metric", "n", ""),
    ]


def test_what_the_names_of_a_text_stand_for() -> None:
    def meaning(found: Names) -> list[tuple[str, str | None]]:
        return [(u.text, u.symbol.kind if u.symbol else None) for u in found.uses]

    body = [("x", "parameter"), ("sum", None), ("x", "parameter"), ("axis", "parameter")]
    value = [("part", "fn"), ("abs", None), ("W", None), ("mms", "import"), ("G", None), ("paper.log", "library")]
    rest = [("X.l1", None), ("a", "param"), ("b", "let"), ("abs", None), ("W", None), ("X", None)]
    space = [("W", None), ("X", None), ("mms", "import")]
    assert meaning(names(PROGRAM)) == [*body, *value, *rest, *space, ("b", "let"), ("a", "param")]


def test_a_name_is_known_from_the_statement_after_it() -> None:
    found = names("let a = b + a let b = a fn f(b) = b let c = b")
    assert [(u.name, u.symbol.span.start if u.symbol else None) for u in found.uses] == [
        ("b", None),
        ("a", None),
        ("a", 4),
        ("b", found.symbols[3].span.start),
        ("b", found.symbols[1].span.start),
    ]


def test_of_two_definitions_the_first_counts_as_in_the_compiler() -> None:
    document, offset = cursor("pzm 1 let a = W let a = X metric m = ‸a")
    assert [d.code for d in document.diagnostics] == ["PZ0204"]
    place = definition(document, offset)
    assert place is not None
    assert place.span.start == document.source.index("a = W")
    assert document.names.known_in(len(document.source))["a"].span == place.span


def test_a_function_takes_the_name_of_a_core_function_and_nothing_that_of_a_leaf() -> None:
    found = names("fn abs(x) = abs(x) let W = 1 let exp = 2 let a = abs(W) + exp")
    last = {u.name: u.symbol.kind if u.symbol else None for u in found.uses}
    assert last == {"abs": "fn", "x": "parameter", "W": None, "exp": None}
    assert found.uses[0].symbol is None, "in its own body it is the core's"


@settings(deadline=None, max_examples=100)
@given(st.lists(STATEMENTS, max_size=4), st.randoms(use_true_random=False))
def test_names_of_a_text_are_those_of_its_syntax_tree(program: list[Any], random: Any) -> None:
    source = spaced("\n".join(map(statement, program)), random)
    found = [s.name for s in names(source).symbols if s.kind not in ("parameter", "import", "library")]
    assert found == [s.name for s in program if hasattr(s, "name")]
    parameters = [s.name for s in names(source).symbols if s.kind == "parameter"]
    assert parameters == [p.text for s in program for p in getattr(s, "parameters", ())]


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.sampled_from([*PROGRAM.split(" "), *'(){}:,."#=', "‖", "\n", "let", "use", "per"])).map(" ".join)
    | st.text(),
    st.integers(0, 80),
)
def test_nothing_that_is_typed_is_too_broken(source: str, offset: int) -> None:
    offset = min(offset, len(source))
    document = Document(source)
    for d in document.diagnostics:
        assert 0 <= d.primary.span.start <= d.primary.span.end <= max(1, len(source))
    hover(document, offset)
    items, span = complete(document, offset)
    assert span.start <= offset
    assert len({i.label for i in items}) == len(items)
    definition(document, offset)
    found = references(document, offset)
    assert len(set(texts(document, found))) <= 1
    with suppress(RenameError):
        assert rename(document, offset, "fresh")
    if document.formatted is not None:
        assert Document(document.formatted).formatted in (None, document.formatted)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, len(PROGRAM)), st.integers(0, 12), st.integers(0, len(PROGRAM)))
def test_a_program_with_a_hole_still_has_answers(start: int, length: int, offset: int) -> None:
    source = PROGRAM[:start] + PROGRAM[start + length :]
    document = Document(source)
    offset = min(offset, len(source))
    hover(document, offset)
    complete(document, offset)
    definition(document, offset)
    assert document.diagnostics is not None


def test_a_text_that_is_too_long_has_one_diagnostic_and_no_names() -> None:
    document = Document("W " * MAX_LENGTH)
    assert [d.code for d in document.diagnostics] == ["PZ0103"]
    assert hover(document, 5) is None
    assert complete(document, 5)[0] is not None


# Diagnostics


@pytest.mark.parametrize("source", [PROGRAM, "let a = $", "pzm 1\nmetric m = foo", *map(zoo_source, zoo_names())])
def test_diagnostics_are_those_of_the_compiler(source: str) -> None:
    try:
        want = list(compile_source(source, "x").diagnostics)
    except SourceError as error:
        want = list(error.diagnostics)
    found = Document(source).diagnostics
    assert sorted(map(repr, found)) == sorted(map(repr, want))


# Hover


def shown(marked: str, path: Path | None = None) -> str:
    found = hover(*cursor(marked, path))
    return found[0] if found else ""


@pytest.mark.parametrize("name", [*LEAVES, *ALIASES])
def test_hovering_a_leaf_tells_its_axes_and_cost(name: str) -> None:
    entry = LEAVES[ALIASES.get(name, name)]
    text = shown(f"let a = 2 * ‸{name}")
    assert entry.doc in text
    assert f"[{', '.join(entry.axes)}]" in text or not entry.axes
    cost = {"weights": "no data", "forward": "a forward pass", "hessian": "X·Xᵀ", "backward": "gradients"}
    assert cost[entry.tier] in text
    assert ("any sign" in text) == entry.signed


@pytest.mark.parametrize("name", FUNCTION_NAMES)
def test_hovering_a_function_tells_how_it_is_called(name: str) -> None:
    assert f"`{name}(x" in shown(f"let a = {name}‸(W)")


@pytest.mark.parametrize(
    ("marked", "parts"),
    [
        ("pzm 1 let a = abs(G) let b = ‸a", ["let a = abs(G)", "axes `[out, in]`", "never below zero", "gradients"]),
        ("pzm 1 let ‸a = sum(W, in) metric m = a per col", ["axes `[out]`", "any sign", "no data"]),
        ("pzm 1 let a = 2 let b = ‸a", ["a single number", "above zero"]),
        ("pzm 1\n## Why.\nparam p = 0.5 in [0, 1]\nlet b = ‸p", ["param p = 0.5 in [0, 1]", "Why."]),
        ("pzm 1\n## Share.\nfn f(x, axis) = x / sum(x, axis)\nlet b = ‸f(W, in)", ["fn f(x, axis) =", "Share."]),
        ("pzm 1 fn f(x, axis) = x / sum(x, ‸axis)", ["the axis of `f(x, axis)`"]),
        ("pzm 1 fn f(x, axis) = ‸x / sum(x, axis)", ["a parameter of `f(x, axis)`"]),
        ("pzm 1 metric ‸m = W * X per model", ["metric m = W * X per model", "a forward pass", "all pruned matrices"]),
        ("pzm 1 metric m = W per ‸col", ["`col`", "one input"]),
        ("pzm 1 metric m = W ‸per col", ["comparison group"]),
        ("pzm 1 let a = sum(W, ‸in)", ["`in`", "columns"]),
        ("pzm 1 param a = 0.5 ‸in [0, 1]", ["`in`", "the range"]),
        ("pzm 1 space s { leaves: W per: row, ‸col }", ["`col`", "one input"]),
        ("‸pzm 1", ["edition"]),
        ("pzm 1 use paper (‸mms)", ["fn mms(x) =", "from paper"]),
        ("pzm 1 use paper let a = paper.‸mms(W)", ["fn mms(x) =", "from paper"]),
        ("pzm 1 use ‸paper", ["`mms`", "`zsn`"]),
        ("pzm 1 use ‸nothing", ["cannot be read"]),
        ("pzm 1 let a = W +\nlet b = ‸a", ["let a = W +"]),
    ],
)
def test_what_is_shown_for_a_word(marked: str, parts: list[str]) -> None:
    text = shown(marked)
    for part in parts:
        assert part in text


@pytest.mark.parametrize(
    "marked",
    [
        "# ‸W",
        "let a = W ‸+ W",
        "let a = ‸unknown",
        "‸",
        "let a = X.‸foo",
        "pzm ‸1",
        'metric m { "a", ‸model, b: W else: X }',
        "metric m { a: W ‸row: X else: X }",
    ],
)
def test_nothing_is_shown_where_there_is_nothing_to_say(marked: str) -> None:
    assert shown(marked) == ""


def test_the_words_that_are_described_are_those_of_the_language() -> None:
    assert set(describe.KEYWORDS) == set(KEYWORDS)
    assert set(describe.GROUPS) == set(GROUPS)
    assert set(describe.AXIS) == set(AXES)


# Completion


def labels(marked: str, path: Path | None = None) -> list[str]:
    return [item.label for item in complete(*cursor(marked, path))[0]]


@pytest.mark.parametrize(
    ("marked", "want"),
    [
        ("‸", list(KEYWORDS)),
        ("pzm 1\nme‸", [k for k in KEYWORDS if k != "pzm"]),
        ("pzm 1 metric m = W per ‸", list(GROUPS)),
        ("pzm 1 metric m = W per r‸", list(GROUPS)),
        ("pzm 1 use ‸", libraries()),
        ("pzm 1 use pa‸", libraries()),
        ("let a = X.‸", ["l2", "l1", "mean", "var", "max"]),
        ("let a = X.m‸", ["l2", "l1", "mean", "var", "max"]),
        ("metric m { a: W per col ‸", ["else"]),
        ("space s { per: row, ‸", list(GROUPS)),
        ("let ‸", []),
        ("param a = ‸", []),
        ("param a = 0.5 in ‸", []),
        ("param a = 0.5 in [‸", []),
        ("param a = 0.5 in [0, ‸", []),
        ("param a = 0.5 in [0, 1] ‸", [k for k in KEYWORDS if k != "pzm"]),
        ("param a = -0.5 ‸", ["in", *(k for k in KEYWORDS if k != "pzm")]),
        ("fn f(x, ‸", []),
        ("metric m { ‸", []),
        ("metric m { gate, ‸", []),
        ("let a = W # ‸", []),
        ("## ‸", []),
        ("let a = 2‸", []),
    ],
)
def test_what_is_proposed_and_nothing_else(marked: str, want: list[str]) -> None:
    assert labels(marked) == want


@pytest.mark.parametrize(
    ("marked", "some", "none"),
    [
        ("let a = ‸", ["W", "X", "X.l1", "sum", "abs"], ["a", "in", "row", "metric", "X.l2"]),
        ("let a = W let b = 2 * ‸", ["a", "W"], ["b"]),
        ("let a = W let b = sum(‸", ["a", "W"], ["in"]),
        ("let a = W let b = sum(W, ‸", ["in", "out", "a"], []),
        ("let a = norm(W, ‸", ["W"], ["in"]),
        ("let a = norm(W, 2, ‸", ["in", "out"], []),
        ("let a = abs(sum(W, ‸", ["in"], []),
        ("let a = sum(abs(‸", ["W"], ["in"]),
        ("fn f(x, axis) = x let a = f(W, ‸", ["in", "f"], ["x", "axis"]),
        ("fn f(x, axis) = ‸", ["x", "axis", "W"], ["f"]),
        ("metric m = W let a = ‸", ["W"], ["m"]),
        ("metric m = W ‸", ["per", "let", "metric"], ["W", "pzm"]),
        ("metric m = W per row ‸", ["let", "metric"], ["W", "per"]),
        ("metric m { gate: ‸", ["W"], ["per"]),
        ("pzm 1 use paper (mms, ‸", ["zsn"], ["mms", "W"]),
        ("pzm 1 use paper let a = paper.‸", ["mms", "zsn"], ["W"]),
        ("use paper (mms) let a = ‸", ["mms"], ["zsn", "paper"]),
        ("space s { ‸", ["leaves:", "ops:"], ["W"]),
        ("space s { leaves: W, ‸", ["X", "W"], ["sum"]),
        ("space s { ops: ‸", ["sqrt", "min"], ["clamp", "mean", "norm", "rank", "W"]),
        ("use paper space s { ops: ‸", ["paper.*"], ["paper"]),
        ("space s { reductions: ‸", ["mean", "norm", "median"], ["abs", "sqrt", "rank"]),
        ("fn f(x) = x space s { ops: ‸", ["sqrt", "f"], ["W"]),
        ("fn f(x) = x space s { nesting: ‸", ["sqrt", "mean"], ["W", "f", "clamp", "rank"]),
        ("space s { tier: ‸", ["weights", "forward", "hessian", "backward"], ["W", "sqrt"]),
        ("let a = W +\nlet b = ‸", ["a", "W"], []),
    ],
)
def test_what_is_proposed_and_what_is_not(marked: str, some: list[str], none: list[str]) -> None:
    found = labels(marked)
    assert set(some) <= set(found)
    assert not set(none) & set(found)


def test_a_proposal_replaces_the_word_and_says_what_it_is() -> None:
    document, offset = cursor("let a = nor‸m(W, 2)")
    items, span = complete(document, offset)
    assert texts(document, [span]) == ["norm"]
    norm = next(i for i in items if i.label == "norm")
    assert (norm.kind, "norm(x, p" in norm.doc) == ("function", True)
    assert {i.label for i in items if i.kind == "leaf"} == set(map(short, LEAVES))


@pytest.mark.parametrize(("marked", "replaced"), [('use "no‸rms', "norms"), ('use "no‸rms.pzm" (q)', "norms.pzm")])
def test_a_file_replaces_the_name_between_the_quotes(marked: str, replaced: str, folder: Path) -> None:
    document, offset = cursor(marked, folder / "main.pzm")
    items, span = complete(document, offset)
    assert "norms.pzm" in [item.label for item in items]
    assert texts(document, [span]) == [replaced]


def test_nothing_is_proposed_behind_a_quoted_name(folder: Path) -> None:
    assert labels('use "norms.pzm"‸', folder / "main.pzm") == []


# Other files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path)


def test_names_of_another_file(folder: Path) -> None:
    mine = folder / "mine.pzm"
    assert "## " not in shown('pzm 1 use "norms.pzm" (‸share)', mine)
    assert "Of all." in shown('pzm 1 use "norms.pzm" (share) let a = ‸share(W, in)', mine)
    assert "axes `[out, in]`" in shown('pzm 1 use "norms.pzm" let a = norms.‸w', mine)
    assert labels('pzm 1 use "norms.pzm" (‸', mine) == ["share", "w"]
    assert labels('pzm 1 use "‸"', mine) == ["broken.pzm", "bytes.pzm", "norms.pzm"]
    assert '"norms.pzm"' in labels("pzm 1 use ‸", mine)
    assert labels('pzm 1 use "broken.pzm" (‸', mine) == ["a", "f"]


def test_a_file_below_may_use_what_the_edited_file_may(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "b.pzm").write_text('pzm 1 use "../norms.pzm" (w) let z = w * X')
    assert "axes `[out, in]`" in shown('pzm 1 use "sub/b.pzm" (z) let a = ‸z', folder / "main.pzm")


def test_the_definition_of_a_name_of_another_file(folder: Path) -> None:
    place = definition(*cursor('pzm 1 use "norms.pzm" (share) let a = ‸share(W, in)', folder / "mine.pzm"))
    assert place is not None
    assert place.path == folder / "norms.pzm"
    assert place.document.source[place.span.start : place.span.end] == "share"
    library = definition(*cursor("pzm 1 use paper let a = paper.‸mms(W)"))
    assert library is not None
    assert library.path is not None
    assert library.path.read_text().startswith(library.document.source[: library.span.start] + "mms")
    whole = definition(*cursor('pzm 1 use ‸"norms.pzm"', folder / "mine.pzm"))
    assert whole is not None
    assert whole.path == folder / "norms.pzm"


@pytest.mark.parametrize("name", ["bytes.pzm", "gone.pzm", "../norms.pzm", "\0", "a" * 5000, ""])
def test_files_that_cannot_be_read_are_no_harm(folder: Path, name: str) -> None:
    (folder / "below").mkdir()
    path = folder / "below" / "mine.pzm" if ".." in name else folder / "mine.pzm"
    document, offset = cursor(f'pzm 1 use "{name}" (share) let a = ‸share(W)', path)
    assert document.used(f'"{name}"') is None
    place = definition(document, offset)
    assert place is not None
    assert place.document is document, "the import is all there is to show"
    hover(document, offset)


# Definitions, references, rename


@pytest.mark.parametrize(
    ("text", "nth", "want"),
    [
        ("part", 1, "part(x, axis)"),
        ("x", 2, "x, axis)"),
        ("axis", 1, "axis) ="),
        ("^ a", 0, "a = 0.5"),
        ("b per", 0, "b = part"),
    ],
)
def test_the_definition_of_a_name(text: str, nth: int, want: str) -> None:
    offset = at(text, nth) + (1 if text == "^ a" else -1 if text == "b per" else 0)
    place = definition(Document(PROGRAM), offset)
    assert place is not None
    assert PROGRAM[place.span.start :].startswith(want)


@pytest.mark.parametrize("marked", ["let a = ‸W", "let a = ‸abs(W)", "let a = ‸b", "# ‸a", "pzm ‸1"])
def test_what_has_no_definition(marked: str) -> None:
    assert definition(*cursor(marked)) is None


def test_references_of_a_name_and_of_a_leaf() -> None:
    document = Document(PROGRAM)
    found = references(document, at("b = part"))
    assert [PROGRAM[s.start - 2 : s.end + 4] for s in found] == ["t b = p", ": b per", "= b + a"]
    assert len(references(document, at("b = part"), declaration=False)) == 2
    assert texts(document, references(document, at("W)"))) == ["W", "W", "W"]
    assert len(references(document, at("mms(G"))) == 3


@pytest.mark.parametrize("nth", range(3))
def test_renaming_gives_the_same_program_with_another_name(nth: int) -> None:
    symbol = [s for s in names(PROGRAM).symbols if s.name in ("a", "b", "part")][nth]
    spans = rename(Document(PROGRAM), symbol.span.start, "fresh")
    assert {PROGRAM[s.start : s.end] for s in spans} == {symbol.name}
    renamed = PROGRAM
    for s in sorted(spans, key=lambda s: -s.start):
        renamed = renamed[: s.start] + "fresh" + renamed[s.end :]
    before, after = (compile_source(source, "x").metrics for source in (PROGRAM, renamed))
    assert [m.arms for m in before] == [m.arms for m in after]
    assert symbol.name not in [s.name for s in names(renamed).symbols]
    assert "mlp.b" in renamed, "a layer of that name is something else"


def test_a_parameter_is_renamed_in_its_function_alone() -> None:
    document, offset = cursor("pzm 1 fn f(‸x) = x + x fn g(x) = x let y = f(W)")
    assert [s.start for s in rename(document, offset, "z")] == [11, 16, 20]
    assert rename(document, offset, "x"), "the same name is no conflict"


@pytest.mark.parametrize(
    ("marked", "new", "why"),
    [
        ("let a = ‸W", "b", "belongs to the language"),
        ("let a = ‸abs(W)", "b", "belongs to the language"),
        ("let a = ‸X.l1", "b", "belongs to the language"),
        ("let a‸ = W", "metric", "belongs to the language"),
        ("let a‸ = W", "in", "belongs to the language"),
        ("let a‸ = W", "X", "belongs to the language"),
        ("let a‸ = W", "sum", "belongs to the language"),
        ("let a‸ = W", "H", "belongs to the language"),
        ("let a‸ = W", "2b", "is no name"),
        ("let a‸ = W", "ä", "is no name"),
        ("let a‸ = W", "a b", "is no name"),
        ("let a‸ = W", "", "is no name"),
        ("let a‸ = W let b = a", "b", "is taken"),
        ("let a‸ = W fn f(b) = a * b", "b", "is taken"),
        ("let b = W fn f(a‸) = a * b", "b", "is taken"),
        ("fn f(a‸, b) = a * b", "b", "is taken"),
        ("use paper (mms‸)", "b", "comes from paper"),
        ("use paper let a = ‸paper.mms(W)", "b", "comes from paper"),
        ("let a = W ‸+ W", "b", "no name"),
        ("let a = ‸unknown", "b", "no name"),
    ],
)
def test_what_cannot_be_renamed(marked: str, new: str, why: str) -> None:
    with pytest.raises(RenameError, match=why):
        rename(*cursor(marked), new)


def test_a_parameter_may_have_the_name_of_a_family() -> None:
    assert rename(*cursor("fn f(a‸) = a * 2"), "H")


def test_a_name_is_no_conflict_where_it_is_not_used() -> None:
    assert rename(*cursor("let a‸ = W fn f(b) = b let c = a"), "b")
    assert renameable(*cursor("metric m‸ = W")).kind == "metric"


# Formatting


@pytest.mark.parametrize("name", zoo_names())
def test_formatting_is_that_of_pzc_fmt(name: str) -> None:
    assert Document(zoo_source(name)).formatted == zoo_source(name)


def test_a_text_with_errors_is_not_formatted() -> None:
    assert Document("pzm 1\nlet  a = W +").formatted is None
    assert Document("pzm 1\nlet  a =  W").formatted == "pzm 1\n\nlet a = W\n"


# Colours


COLOURS = {
    Comment: "comment",
    String.Doc: "comment",
    String: "string",
    Keyword: "keyword",
    Keyword.Constant: "enumMember",
    Keyword.Type: "enumMember",
    Number: "number",
    Operator: "operator",
    Name.Class: "class",
    Name.Label: "property",
    Name.Namespace: "namespace",
    Name.Builtin: "function",
    Name.Function: "function",
    Name.Variable: "variable",
    Name.Constant: "variable",
}


@pytest.mark.parametrize("source", [PROGRAM, *map(zoo_source, zoo_names())])
def test_colours_are_those_of_pygments(source: str) -> None:
    kinds = {c.token.start: c.kind[0] for c in colours(Document(source))}
    for start, kind, _ in PzmLexer().get_tokens_unprocessed(source):
        want = next((COLOURS[k] for k in reversed(kind.split()) if k in COLOURS), None)
        if want:
            assert kinds[start] == want, source[start : start + 20]


def test_colours_know_what_a_name_stands_for() -> None:
    document = Document(PROGRAM)
    kinds = [(c.token.text, c.kind) for c in colours(document)]
    assert ("x", ("parameter", "definition")) in kinds
    assert ("x", ("parameter",)) in kinds
    assert ("mms", ("function",)) in kinds
    assert ("part", ("function", "definition")) in kinds
    assert ("a", ("variable", "readonly")) in kinds
    assert ("W", ("variable", "readonly", "defaultLibrary")) in kinds
    assert ("b", ("property",)) in kinds, "the layer `mlp.b`"
    layers = Document('pzm 1 metric m { "a", model, b: W per row else: X * W per layer }')
    assert [c.kind[0] for c in colours(layers) if c.token.text in ("model", "row", "layer")] == [
        "property",
        "enumMember",
        "enumMember",
    ]


@settings(deadline=None)
@given(TEXTS | st.text(st.sampled_from("#W‖😀\r\n\u2028 ")), st.sampled_from(["utf-8", "utf-16", "utf-32"]))
def test_colours_lie_on_their_words(source: str, encoding: Encoding) -> None:
    document = Document(source)
    positions = Positions(source, encoding)
    data = encoded(document, encoding)
    line = column = 0
    for i, colour in enumerate(colours(document)):
        down, right, length, kind, _ = data[5 * i : 5 * i + 5]
        line, column = (line + down, right) if down else (line, column + right)
        start, end = positions.offset(line, column), positions.offset(line, column + length)
        assert source[start:end] == colour.token.text.split("\r")[0]
        assert TYPES[kind] == colour.kind[0]
    assert len(data) == 5 * sum(1 for _ in colours(document))
