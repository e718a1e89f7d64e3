"""The one canonical layout: it changes no meaning, keeps every comment, and is its own layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pzc.compiler.load import zoo_names, zoo_source
from pzc.grammar import printer
from pzc.grammar.parse import parse
from pzc.grammar.printer import WIDTH, format_source
from pzc.grammar.syntax import Expression, Let, Statement
from tests.programs import COMMENTS, EXPRESSIONS, STATEMENTS, spaced
from tests.terminal import Terminal


def formatted(source: str) -> str:
    file, problems = parse(source)
    assert not problems, problems[0].message
    return format_source(file, source)


@settings(deadline=None, max_examples=300)
@given(EXPRESSIONS)
def test_an_expression_reads_back_as_itself(e: Expression) -> None:
    (let,) = parse(f"let x = {printer.expression(e)}")[0].statements
    assert isinstance(let, Let)
    assert let.value == e


@settings(deadline=None, max_examples=300)
@given(st.lists(STATEMENTS, max_size=5), st.lists(COMMENTS, max_size=4), st.randoms(use_true_random=False))
def test_programs_keep_their_meaning_and_their_comments(
    program: list[Statement], comments: list[str], random: Any
) -> None:
    source = spaced("\n".join(map(printer.statement, program)), random, tuple(comments))
    file, problems = parse(source)
    assert not problems
    assert file.statements == tuple(program)
    text = format_source(file, source)
    again, problems = parse(text)
    assert not problems
    assert again == file
    assert [c.text for c in again.comments] == [c.text for c in file.comments] == comments
    assert format_source(again, text) == text
    assert all(line == line.rstrip() for line in text.split("\n"))


@settings(deadline=None)
@given(EXPRESSIONS)
def test_lines_are_broken_at_the_outermost_operators_only(e: Expression) -> None:
    text = printer.statement(Let("x", e))
    _, *rest = text.split("\n")
    assert (not rest) or len(f"let x = {printer.expression(e)}") > WIDTH
    assert all(line.startswith("    ") and line[4] != " " for line in rest)


def test_an_example() -> None:
    source = """pzm 1 # edition one
# about the next
let a=-W^2*(X+1)   # trailing


let b = (W*X)*( G/(X*2) )
## What it is.
metric m = # why
  ((a)) + b per layer metric n=(a-b)-(a-b)
"""
    want = """pzm 1  # edition one

# about the next
let a = -W ^ 2 * (X + 1)  # trailing

let b = W * X * (G / (X * 2))

# why
## What it is.
metric m = a + b  per layer

metric n = a - b - (a - b)
"""
    assert formatted(source) == want
    assert formatted(want) == want


def test_long_sums_are_broken_before_their_operators() -> None:
    term = "abs(W) * X / norm(W, 2, in)"
    assert formatted(f"metric m = {term} - {term} + {term} + {term} per row") == (
        f"metric m =\n    {term}\n    - {term}\n    + {term}\n    + {term}  per row\n"
    )


@pytest.mark.parametrize(
    "comment", ["# a\x0cb", "# a\u2028b", "# a\x85b", "#", "# ünï", "#!x", "# a # b ## c"], ids=ascii
)
def test_a_comment_ends_with_its_line_and_nowhere_else(comment: str) -> None:
    assert formatted(f"pzm 1 {comment}\n") == f"pzm 1  {comment}\n"


def test_doc_comments_of_any_kind() -> None:
    assert formatted("##a\n##\n##  b \n###c\nlet a = W") == "## a\n##\n##  b\n## #c\nlet a = W\n"


@pytest.mark.parametrize("name", zoo_names())
def test_the_zoo_is_formatted(name: str) -> None:
    assert formatted(zoo_source(name)) == zoo_source(name)


UNTIDY, TIDY = "pzm 1\nmetric m=abs( W )*X per row", "pzm 1\n\nmetric m = abs(W) * X  per row\n"


def test_files_are_rewritten_and_only_when_they_change(tmp_path: Path, terminal: Terminal) -> None:
    untidy, tidy = tmp_path / "untidy.pzm", tmp_path / "tidy.pzm"
    untidy.write_text(UNTIDY)
    untidy.chmod(0o600)
    tidy.write_text(TIDY)
    stamp = tidy.stat().st_mtime_ns
    shown = terminal("fmt", str(untidy), str(tidy))
    assert (shown.code, shown.out, shown.err) == (0, "", f"formatted {untidy}\n")
    assert untidy.read_text() == TIDY
    assert untidy.stat().st_mode & 0o777 == 0o600
    assert tidy.stat().st_mtime_ns == stamp
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tidy.pzm", "untidy.pzm"]


def test_a_link_stays_a_link(tmp_path: Path, terminal: Terminal) -> None:
    (tmp_path / "m.pzm").write_text(UNTIDY)
    (tmp_path / "link.pzm").symlink_to("m.pzm")
    assert terminal("fmt", str(tmp_path / "link.pzm")).code == 0
    assert (tmp_path / "link.pzm").is_symlink()
    assert (tmp_path / "m.pzm").read_text() == TIDY


def test_check_and_diff_change_nothing(tmp_path: Path, terminal: Terminal) -> None:
    path = tmp_path / "m.pzm"
    path.write_text(UNTIDY)
    shown = terminal("fmt", "--check", str(path))
    assert (shown.code, shown.out, shown.err) == (1, "", f"{path} would change\n")
    shown = terminal("fmt", "--diff", str(path))
    assert (shown.code, shown.err) == (0, "")
    assert "-metric m=abs( W )*X per row\n" in shown.out
    assert "+metric m = abs(W) * X  per row\n" in shown.out
    assert path.read_text() == UNTIDY
    assert terminal("fmt", "-", "--check", stdin=TIDY.encode()).code == 0


def test_lines_end_alike_in_files_and_in_standard_input(terminal: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "windows.pzm"
    path.write_bytes(TIDY.replace("\n", "\r\n").encode())
    assert terminal("fmt", "--check", str(path)).code == 0
    assert terminal("fmt", "--check", "-", stdin=path.read_bytes()).code == 0
    assert terminal("check", "-", stdin=b"pzm 1 # c\rmetric m = abs(W)\r").code == 0


def test_standard_input(terminal: Terminal) -> None:
    shown = terminal("fmt", "-", stdin=UNTIDY.encode())
    assert (shown.code, shown.out, shown.err) == (0, TIDY, "")
    shown = terminal("fmt", "-", stdin=b"pzm 1 # \xff\n")
    assert (shown.code, shown.out) == (1, "")
    assert "standard input is not UTF-8 text" in shown.err


def test_a_file_with_errors_is_left_alone_and_the_others_are_not(tmp_path: Path, terminal: Terminal) -> None:
    bad, good, absent = tmp_path / "bad.pzm", tmp_path / "good.pzm", tmp_path / "absent.pzm"
    bad.write_text("pzm 1\nmetric = W")
    good.write_text(UNTIDY)
    shown = terminal("fmt", str(bad), str(absent), str(good))
    assert shown.code == 1
    assert "error[PZ0101]" in shown.err
    assert f"cannot read {absent}" in shown.err
    assert bad.read_text() == "pzm 1\nmetric = W"
    assert good.read_text() == TIDY


@pytest.mark.parametrize("head", ["metric m { a: W else: X }", "space s { leaves: W ops: * }"])
def test_a_comment_below_a_doc_comment_stays_out_of_the_braces(head: str) -> None:
    text = formatted(f"## Doc.\n# why\n{head}")
    assert text.startswith(f"# why\n## Doc.\n{head.split(' {')[0]} {{\n    ")
    assert text.count("#") == 3
    assert formatted(text) == text


def test_a_folder_stands_for_the_files_below_it(tmp_path: Path, terminal: Terminal) -> None:
    for name in ("a.pzm", "in/b.pzm", ".hidden/c.pzm"):
        (tmp_path / "some" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "some" / name).write_text("pzm 1 metric m=W", encoding="utf-8")
    shown = terminal("fmt", "some")
    assert (shown.code, shown.err.splitlines()) == (0, ["formatted some/a.pzm", "formatted some/in/b.pzm"])
    assert (tmp_path / "some" / ".hidden" / "c.pzm").read_text(encoding="utf-8") == "pzm 1 metric m=W"
    (tmp_path / "empty").mkdir()
    shown = terminal("fmt", "empty", "some")
    assert (shown.code, shown.err.splitlines()) == (1, ["error: there is no .pzm file below empty"])
