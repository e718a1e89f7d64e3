"""The documentation's tables say what the code's tables say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pzc.compiler.functions import ELEMENTWISE, REDUCTIONS
from pzc.compiler.groups import GROUPS
from pzc.compiler.language.modules import MAX_FILES, MAX_NESTING, libraries, library_source
from pzc.compiler.language.spaces import ENTRIES
from pzc.compiler.leaves import ALIASES, LEAVES
from pzc.compiler.limits import MAX_PARTS, MAX_SIZE
from pzc.compiler.metric import compile_source
from pzc.grammar.diagnostics import CODES, MAX_ERRORS
from pzc.grammar.parse import MAX_DEPTH, MAX_LENGTH, MAX_TOKENS, parse
from pzc.grammar.printer import format_source
from pzc.grammar.syntax import Fn

DOCS = Path(__file__).parent.parent / "docs"
LANGUAGE = (DOCS / "language.md").read_text(encoding="utf-8")


def rows() -> list[list[str]]:
    lines = [line for line in LANGUAGE.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("\0", "|") for cell in x.replace("\\|", "\0").strip("|").split("|")] for x in lines]


@pytest.mark.parametrize("leaf", LEAVES.values(), ids=lambda leaf: leaf.name)
def test_every_leaf_is_documented(leaf: object) -> None:
    entry = LEAVES[leaf.name]  # type: ignore[attr-defined]
    alias = next((f"`{a}` = " for a, full in ALIASES.items() if full == entry.name), "")
    tier = "none" if entry.tier == "weights" else entry.tier
    assert [f"{alias}`{entry.name}`", ", ".join(entry.axes) or "–", entry.doc, tier] in rows()


def test_every_function_is_documented() -> None:
    for function in (*ELEMENTWISE.values(), *REDUCTIONS.values()):
        assert [f"`{function.written}`", function.doc, function.domain] in rows(), function.name


def test_every_group_and_code_is_documented() -> None:
    table = {row[0].strip("`"): row[1] for row in rows()}
    assert set(GROUPS) <= set(table)
    for code, (severity, title) in CODES.items():
        assert table[code] == f"{severity}: {title}"


def test_every_entry_of_a_space_and_every_function_of_the_libraries_is_documented() -> None:
    first = " ".join(row[0] for row in rows())
    assert all(f"`{entry}`" in first for entry in ENTRIES)
    for s in (s for name in libraries() for s in parse(library_source(name))[0].statements):
        if isinstance(s, Fn):
            assert f"`{s.name}({', '.join(p.text for p in s.parameters)})`" in first, s.name


def test_the_limits_are_those_of_the_code() -> None:
    limits = " ".join(LANGUAGE.split("## Limits")[1].split())
    assert f"a source of {MAX_LENGTH:,} characters" in limits
    assert f"an expression of {MAX_DEPTH} levels" in limits
    assert f"{MAX_SIZE:,} parts and {MAX_DEPTH} levels" in limits
    assert f"makes {MAX_SIZE:,} calls" in limits
    assert f"{MAX_PARTS:,} parts" in limits
    assert f"of {MAX_LENGTH:,} characters in all" in limits
    assert f"a statement of {MAX_TOKENS:,} words, numbers and signs" in limits
    assert f"at least {MAX_ERRORS} errors" in limits
    assert f"{MAX_FILES} files, {MAX_NESTING} in a row" in limits


def ebnf(lark: str) -> list[str]:
    """The rules of the grammar as the specification writes them: without names of tokens and without Lark's marks."""
    literals = dict(re.findall(r'^([A-Z]+): +"([^"]+)"$', lark, re.M))
    rules: list[str] = []
    for line in lark.split("IN:")[0].splitlines():
        body = re.sub(r"//.*|-> \w+", "", line).strip()
        if re.match(r"\??[a-z]+:", body):
            rules.append(re.sub(r"^\??([a-z]+): *", r"\1 = ", body))
        elif body:
            rules[-1] += f" {body}"
    rules = [re.sub(r"\b[A-Z]+\b", lambda t: f'"{literals[t[0]]}"' if t[0] in literals else t[0], r) for r in rules]
    return [re.sub(r" +", " ", r).replace("start = (statement | STRAY)*", "file = statement*").strip() for r in rules]


def test_the_grammar_is_the_parsers() -> None:
    written = LANGUAGE.split("```ebnf\n")[1].split("```")[0]
    joined = re.sub(r"\n +", " ", written)
    assert [re.sub(r" +", " ", line) for line in joined.strip().splitlines()] == ebnf(
        (DOCS.parent / "grammar" / "pzm.lark").read_text(encoding="utf-8")
    )


def test_the_reserved_words_are_the_parsers() -> None:
    lark = (DOCS.parent / "grammar" / "pzm.lark").read_text(encoding="utf-8")
    words = set(re.findall(r'"([a-z]+)"', lark))
    (listed,) = re.findall(r"The words `([a-z ]+)` are reserved", LANGUAGE)
    assert set(listed.split()) == words


def test_every_example_of_the_docs_and_the_readme_is_a_metric() -> None:
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    pages = [path.read_text(encoding="utf-8") for path in DOCS.glob("*.md")]
    blocks = [b.split("```")[0] for text in (readme, *pages) for b in text.split("```pzm\n")[1:]]
    assert len(blocks) > 4
    for block in blocks:
        found = compile_source(block, "example")
        assert found.metrics or found.spaces
        assert format_source(parse(block)[0], block) == block


def test_the_programs_of_the_readme_run(tmp_path: Path) -> None:
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    blocks = [block.split("```")[0] for block in readme.split("```python\n")[1:]]
    assert len(blocks) == 3
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0.595")
    assert " settled, best " in done.stdout
    assert (tmp_path / "runs" / "python" / "hall_of_fame" / "01.pzm").is_file()
