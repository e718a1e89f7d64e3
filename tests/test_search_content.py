"""What a run is begun with, as hashes: the same for what means the same, and another for what does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from pzc.cli.main import pzc as cli
from pzc.compiler.load import MetricNotFound
from pzc.search.content import space_sha256
from pzc.search.errors import StoreError
from pzc.search.place import Place
from pzc.search.prepare import open_store, prepare
from pzc.search.run import Budget, search
from tests.searches import SETTINGS, stored

FILE = """pzm 1

let scale = 2
fn twice(x) = scale * x

space wide {
    leaves: W, X
    ops: *, sqrt, twice
    reductions: mean
    exponents: 0.5, 2
    depth: 2 .. 4
    size: 12
    per: row
}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "space.pzm"
    path.write_text(FILE, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("\nlet", "\n\n# a comment\nlet", True),
        ("space wide", "## Of much.\nspace wide", True),
        ("fn twice(x) = scale * x", "fn twice(y) = scale * y", True),
        ("ops: *, sqrt, twice", "ops: *,   sqrt,twice", True),
        ("space wide", "fn unused(x) = x\nspace wide", True),
        ("scale = 2", "scale = 3", False),
        ("scale * x", "scale + x", False),
        ("leaves: W, X", "leaves: W, X 2", False),
        ("sqrt, twice", "twice, sqrt", False),
        ("reductions: mean", "reductions: sum", False),
        ("exponents: 0.5, 2", "exponents: 0.5", False),
        ("2 .. 4", "2 .. 5", False),
        ("size: 12", "size: 13", False),
        ("size: 12", "size: 12 nesting: sqrt", False),
        ("size: 12", "size: 12 tier: forward", False),
        ("per: row", "per: layer", False),
    ],
)
def test_a_space_is_what_it_says(file: Path, old: str, new: str, same: bool) -> None:
    before = space_sha256(str(file))
    assert FILE.count(old) == 1
    file.write_text(FILE.replace(old, new), encoding="utf-8")
    assert (space_sha256(str(file)) == before) is same


def test_a_space_may_have_moved(file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = replace(SETTINGS, space=str(file), seed_zoo=False)
    store, _ = open_store(Place(run), settings)
    search(prepare(store, settings), Budget())

    resume = ["search", "--resume", str(run), "--generations", "3", "--quiet"]
    moved = file.rename(tmp_path / "moved.pzm")
    with pytest.raises(MetricNotFound, match=r"cannot read .*space\.pzm"):
        CliRunner().invoke(cli, resume, catch_exceptions=False)
    changed = tmp_path / "changed.pzm"
    changed.write_text(FILE.replace("scale = 2", "scale = 3"), encoding="utf-8")
    with pytest.raises(StoreError, match="the space is not the one that this search began with"):
        CliRunner().invoke(cli, [*resume, "--space", str(changed)], catch_exceptions=False)
    result = CliRunner().invoke(cli, [*resume, "--space", str(moved)])
    assert result.exit_code == 0, result.output
    assert max(c.generation for c in stored(run)) == 2
