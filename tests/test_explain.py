"""`pzc explain`: every code has a page, and its examples are what the checker says they are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pzc.cli.metrics.explain import what_it_prints
from pzc.grammar.diagnostics import CODES
from pzc.grammar.pages import MAIN, page
from pzc.grammar.render import render
from tests.terminal import Terminal

PAGES = Path(__file__).parent.parent / "grammar" / "errors"

WITHOUT_EXAMPLE = {"PZ0505"}
"""Codes whose examples would be too long for a page."""


def test_every_code_has_a_page_and_every_page_its_code() -> None:
    assert {path.stem for path in PAGES.iterdir()} == set(CODES)


@pytest.mark.parametrize("code", CODES)
def test_a_page_is_short_and_whole(code: str) -> None:
    about = page(code)
    assert len(about.text.splitlines()) < 60
    assert all(len(line) <= 120 for line in about.text.splitlines())
    assert about.meaning
    assert about.why
    assert code not in about.related
    assert set(about.related) <= set(CODES)
    assert bool(about.wrong) == bool(about.right) == (code not in WITHOUT_EXAMPLE)


@pytest.mark.parametrize("code", [code for code in CODES if code not in WITHOUT_EXAMPLE])
def test_the_wrong_example_is_wrong_in_this_way_alone_and_the_right_one_is_right(code: str) -> None:
    about = page(code)
    assert {d.code for d in what_it_prints(about.wrong)} == {code}
    assert [d for d in what_it_prints(about.right) if d.severity != "note"] == []


def test_a_page_in_a_pipe_is_markdown(terminal: Terminal) -> None:
    shown = terminal("explain", "PZ0203")
    assert (shown.code, shown.err) == (0, "")
    about = page("PZ0203")
    assert shown.out.startswith(f"# PZ0203: {about.title}\n\n{about.meaning}\n\n## Why it matters\n\n{about.why}\n")
    headings = [line for line in shown.out.splitlines() if line.startswith("#")]
    assert headings[1:] == ["## Why it matters", "## Wrong", "## Right"]
    for example in (about.wrong[MAIN], about.right[MAIN]):
        assert f"```pzm\n{example}```\n" in shown.out
    (found,) = what_it_prints(about.wrong)
    assert f"`pzc check m.pzm` prints:\n\n```text\n{render(found, about.wrong[MAIN], MAIN)}\n```\n" in shown.out
    assert shown.out.endswith(f"\nRelated: {', '.join(about.related)}\n")


def test_a_page_on_a_terminal_has_colour_and_no_markdown() -> None:
    command = [sys.executable, "-m", "pzc", "explain", "PZ0301"]
    environment = {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "80"}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600).stdout
    assert "\x1b[1;31merror[PZ0301]" in shown
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown)
    assert "```" not in plain
    assert "## " not in plain
    for line in page("PZ0301").wrong[MAIN].splitlines():
        assert f"    {line}\n" in re.sub(r" +\n", "\n", plain)
    assert "\n       ┌─ m.pzm:2:12\n" in re.sub(r" +\n", "\n", plain).replace("\n      ┌─", "\n       ┌─")


def test_no_control_character_of_a_doc_comment_reaches_the_terminal(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.pzm").write_text('pzm 1\n## a \x1b[31mred\x07 one\nmetric m { "\x1b[31mq": abs(W) else: W * X }\n')
    shown = terminal("explain", "m.pzm")
    assert (shown.code, shown.err) == (0, "")
    assert all(c.isprintable() for line in shown.out.split("\n") for c in line)
    assert "a \ufffd[31mred\ufffd one" in shown.out


def test_without_a_code_all_are_listed(terminal: Terminal) -> None:
    shown = terminal("explain")
    assert (shown.code, shown.err) == (0, "")
    rows = [line.split(maxsplit=2) for line in shown.out.splitlines()]
    assert rows == [[code, severity, title] for code, (severity, title) in CODES.items()]


@pytest.mark.parametrize("written", ["PZ0203", "pz0203", "0203", "203"])
def test_ways_to_write_a_code(written: str, terminal: Terminal) -> None:
    assert terminal("explain", written).out == terminal("explain", "PZ0203").out


def test_several_codes(terminal: Terminal) -> None:
    both = terminal("explain", "PZ0201", "PZ0202").out
    assert both == terminal("explain", "PZ0201").out + "\n" + terminal("explain", "PZ0202").out


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("PZ0210", "there is no code `PZ0210`; did you mean `PZ0201`?"),
        ("PZ0299", "there is no code `PZ0299`; did you mean `PZ0209`?"),
        ("PZ9999", "there is no code `PZ9999`"),
    ],
)
def test_what_is_no_code(written: str, message: str, terminal: Terminal) -> None:
    shown = terminal("explain", written)
    assert (shown.code, shown.out) == (2, "")
    assert shown.err.splitlines()[0] == f"error: {message}"
