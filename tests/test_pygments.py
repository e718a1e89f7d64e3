"""The Pygments lexer: any text comes back whole, and a program's words get the colours of what they are."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lark import Lark
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name, get_lexer_for_filename
from pygments.token import Comment, Error, Keyword, Name, Number, Operator, Punctuation, String

from pzc.cli.console import THEME, formula
from pzc.cli.lexer import DEFINES, PzmLexer
from pzc.compiler.functions import FUNCTION_NAMES
from pzc.compiler.groups import GROUPS
from pzc.compiler.leaves import ALIASES, AXES, LEAVES
from pzc.compiler.load import zoo_names, zoo_source
from pzc.grammar.printer import statement
from pzc.grammar.words import KEYWORDS
from tests.programs import COMMENTS, STATEMENTS, spaced
from tests.terminal import terminal_of

PROGRAM = """pzm 1
use paper (mms)
use "my norms.pzm" (share)  # beside this file
## How much of X, W.
fn part(x, axis) = x / sum(x, axis)
param a = 0.5 in [0, 1]
let b = paper.mms(G.l1) ^ a
metric by_role {
    gate_proj, mlp.up_proj: part(abs(W), in) * Y  per col
    "layers.0.*": min(b, X)
    else: -W  per row
}
space small { leaves: W 5, X  ops: * 6, sqrt, paper.*  depth: 3 .. 5  per: row, col }
"""
PIECES = ["W", "X.l1", "sum", "(", ",", "in", ")", "per", "row", ":", "{", '"a.*"', '"', "#", "##", "\n", "pzm 1", ".."]
TEXTS = st.one_of(st.text(), st.lists(st.sampled_from([*PIECES, *KEYWORDS, " ", "$", "é", "2.5"])).map("".join))


def tokens(text: str) -> list[tuple[Any, str]]:
    """The kinds and texts of what is not blank."""
    return [(kind, piece) for kind, piece in PzmLexer().get_tokens(text) if piece.strip()]


def kind_of(word: str, text: str) -> Any:
    return next(kind for kind, piece in tokens(text) if piece == word)


@settings(deadline=None, max_examples=300)
@given(TEXTS)
def test_any_text_comes_back_whole(text: str) -> None:
    found = list(PzmLexer().get_tokens_unprocessed(text))
    assert "".join(piece for _, _, piece in found) == text
    assert all(text[at : at + len(piece)] == piece for at, _, piece in found)


def test_text_comes_back_whole_through_pygments_too() -> None:
    text = "\n\n  metric m = W \n\n"
    assert "".join(piece for _, piece in PzmLexer().get_tokens(text)) == text


@pytest.mark.parametrize("name", zoo_names())
def test_no_errors_in_the_zoo(name: str) -> None:
    assert Error not in [kind for kind, _ in tokens(zoo_source(name))]


@settings(deadline=None, max_examples=200)
@given(st.lists(STATEMENTS, max_size=4), st.lists(COMMENTS, max_size=3), st.randoms(use_true_random=False))
def test_a_program_is_cut_where_the_parser_cuts_it(program: list[Any], comments: list[str], random: Any) -> None:
    source = spaced("\n".join(map(statement, program)), random, tuple(comments))
    found = list(PzmLexer().get_tokens_unprocessed(source))
    assert Error not in [kind for _, kind, _ in found]
    kinds = {at: kind for at, kind, _ in found}
    cuts = {*kinds, len(source)}
    for token in GRAMMAR.lex(source):
        start, end = token.start_pos or 0, token.end_pos or 0
        assert {start, end} <= cuts or token.type in ("NAME", "DOT"), token  # a name with a dot may be one token
        if token.type in SAME:
            assert kinds[start] in SAME[token.type], token


GRAMMAR = Lark(
    resources.files("pzc.grammar").joinpath("pzm.lark").read_text(encoding="utf-8"),
    parser="lalr",
    lexer="basic",
    start=["statement"],
)
SAME = {"NUMBER": Number, "STRING": String, "DOC": String.Doc, "STAR": Operator, "LPAR": Punctuation, "OUT": Keyword}


def test_the_words_come_from_the_tables() -> None:
    assert set(DEFINES) == set(KEYWORDS)
    for leaf in (*LEAVES, *ALIASES):
        assert kind_of(leaf, f"let a = {leaf} + 1") is Name.Variable.Magic, leaf
    for function in FUNCTION_NAMES:
        assert kind_of(function, f"let a = {function}(W)") is Name.Builtin, function
    for group in GROUPS:
        assert kind_of(group, f"metric m = W per {group}") is Keyword.Type, group
    for axis in AXES:
        assert kind_of(axis, f"let a = sum(W, {axis})") is Keyword.Constant, axis
    for word in KEYWORDS:
        assert kind_of(word, f"{word} m = W") is Keyword.Declaration, word


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("paper", Name.Namespace),
        ('"my norms.pzm"', String.Double),
        ("# beside this file", Comment.Single),
        ("## How much of X, W.", String.Doc),
        ("part", Name.Function),
        ("a", Name.Constant),
        ("0.5", Number),
        ("in", Keyword),
        ("b", Name.Variable),
        ("mms", Name),
        ("G.l1", Name.Variable.Magic),
        ("by_role", Name.Class),
        ("gate_proj", Name.Label),
        ("mlp.up_proj", Name.Label),
        ('"layers.0.*"', String.Symbol),
        ("else", Keyword),
        ("small", Name.Class),
        ("leaves", Name.Label),
        ("depth", Name.Label),
        ("sqrt", Name.Builtin),
        ("..", Operator),
        ("}", Punctuation),
    ],
)
def test_what_each_word_of_a_program_is(word: str, kind: Any) -> None:
    assert kind_of(word, PROGRAM) is kind


def test_a_program_has_no_errors() -> None:
    assert Error not in [kind for kind, _ in tokens(PROGRAM)]


def test_a_group_is_one_only_behind_per() -> None:
    found = tokens("space s { per: row, col } metric row = layer per model let col = row")
    assert [p for kind, p in found if kind is Keyword.Type] == ["row", "col", "model"]


def test_what_the_language_does_not_use_is_an_error() -> None:
    assert [piece for kind, piece in tokens('let a = W $ X; "open') if kind is Error] == ["$", ";", '"']


def test_many_commas_take_no_time_to_speak_of() -> None:
    text = "a, " * 30_000
    assert "".join(piece for _, _, piece in PzmLexer().get_tokens_unprocessed(text)) == text


def test_pygments_finds_the_lexer() -> None:
    assert isinstance(get_lexer_by_name("pzm"), PzmLexer)
    assert isinstance(get_lexer_for_filename("wanda.pzm"), PzmLexer)
    html = highlight("metric m = abs(W) per row", get_lexer_by_name("pzm"), HtmlFormatter())
    assert '<span class="nb">abs</span>' in html
    assert '<span class="kt">row</span>' in html


def test_the_terminal_draws_a_formula() -> None:
    text = formula("sum(X.l1 * 2, in)  # W")
    styles = {text.plain[s.start : s.end]: s.style for s in text.spans}
    assert styles == {
        "sum": "pzm.function",
        "X.l1": "pzm.leaf",
        "2": "pzm.number",
        "in": "pzm.axis",
        "# W": "pzm.comment",
    }
    drawn = formula(PROGRAM)
    assert drawn.plain == PROGRAM
    assert {str(s.style) for s in drawn.spans} <= set(THEME.styles)


def test_zoo_show_prints_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    assert terminal_of(monkeypatch)("zoo", "show", "wanda").out == zoo_source("wanda")


def test_checking_does_not_wait_for_pygments(tmp_path: Path) -> None:
    (tmp_path / "m.pzm").write_text(zoo_source("wanda"), encoding="utf-8")
    code = (
        f"import sys; sys.argv = ['pzc', 'check', '-q', {str(tmp_path / 'm.pzm')!r}]\n"
        "from pzc.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, 'pygments' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["0", "False"], ran.stderr
