"""The documentation's tables say what the code's tables say."""

from __future__ import annotations

from pathlib import Path

import pytest

from pzc.compiler.check import MAX_SIZE
from pzc.compiler.functions import ELEMENTWISE, REDUCTIONS
from pzc.compiler.groups import GROUPS
from pzc.compiler.leaves import ALIASES, LEAVES
from pzc.compiler.metric import compile_source
from pzc.grammar.diagnostics import CODES, MAX_ERRORS
from pzc.grammar.parse import MAX_DEPTH, MAX_LENGTH

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


def test_every_function_reduction_group_and_code_is_documented() -> None:
    table = {row[0].strip("`").split("(")[0]: row[1] for row in rows()}
    second = [row for row in rows() if len(row) == 2]
    for function in (*ELEMENTWISE.values(), *REDUCTIONS.values()):
        assert any(row[0].startswith(f"`{function.name}(") and row[1] == function.doc for row in second), function.name
    assert set(GROUPS) <= set(table)
    for code, (severity, title) in CODES.items():
        assert table[code] == f"{severity}: {title}"


def test_the_limits_are_those_of_the_code() -> None:
    limits = " ".join(LANGUAGE.split("## Limits")[1].split())
    assert f"at most {MAX_LENGTH:,} characters" in limits
    assert f"at most {MAX_DEPTH} levels" in limits
    assert f"{MAX_SIZE:,} parts" in limits
    assert f"at most {MAX_ERRORS} errors" in limits


def test_every_example_of_the_docs_and_the_readme_is_a_metric() -> None:
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    blocks = [b.split("```")[0] for text in (LANGUAGE, readme) for b in text.split("```pzm\n")[1:]]
    assert blocks
    for block in blocks:
        compile_source(block, "example")
