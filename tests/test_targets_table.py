"""`pzc compile`: every target by its name, the files it writes, and what it says where something is missing."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pzc
from pzc.compiler.metric import compile_source
from pzc.compiler.targets.table import TARGETS, compiled
from tests.terminal import Terminal

ROOT = Path(__file__).parent.parent

ROLES = 'pzm 1 metric m { gate_proj, up_proj: abs(W) * Y per col  "layers.0.*": sqr(W)  else: abs(W) * X }'

needs_onnx = pytest.mark.skipif(importlib.util.find_spec("onnx") is None, reason="there is no onnx")


@pytest.mark.parametrize("name", [n for n, t in TARGETS.items() if not t.binary])
def test_texts_go_to_stdout_or_to_a_file(name: str, terminal: Terminal) -> None:
    shown = terminal("compile", "pruner_zero", "--to", name)
    assert (shown.code, shown.err) == (0, "")
    written = terminal("compile", "pruner_zero", "--to", name, "-o", "out")
    assert (written.code, written.out, written.err) == (0, "", "wrote out\n")
    assert Path("out").read_text(encoding="utf-8") == shown.out
    assert shown.out.endswith("\n")


@pytest.mark.parametrize("name", ["export", pytest.param("onnx", marks=needs_onnx)])
def test_a_program_needs_a_file(name: str, terminal: Terminal) -> None:
    extension = TARGETS[name].extension
    refused = terminal("compile", "abs(W) per row", "--to", name)
    assert refused.code == 2
    assert f"{name} is a binary file; add --output scores{extension}" in refused.err
    shown = terminal("compile", "wanda", "--to", name, "-o", f"w{extension}")
    assert (shown.code, shown.out, shown.err) == (0, "", f"wrote w{extension}\n")
    metric = pzc.load("wanda")
    assert Path(f"w{extension}").read_bytes() == compiled(metric, TARGETS[name], pzc.__version__)[0].content


@needs_onnx
def test_a_program_for_each_arm(terminal: Terminal) -> None:
    Path("m.pzm").write_text(ROLES, encoding="utf-8")
    assert "add --output m.onnx" in terminal("compile", "m.pzm", "--to", "onnx").err
    shown = terminal("compile", "m.pzm", "--to", "onnx", "-o", "m.onnx")
    assert (shown.code, shown.err) == (
        0,
        "wrote m-1.onnx, for gate_proj, up_proj\nwrote m-2.onnx, for layers.0.*\nwrote m-3.onnx, for else\n",
    )
    assert sorted(p.name for p in Path().iterdir()) == ["m-1.onnx", "m-2.onnx", "m-3.onnx", "m.pzm"]


@pytest.mark.parametrize("name", [n for n, t in TARGETS.items() if not t.binary and n != "paper-json"])
def test_a_text_holds_every_arm(name: str) -> None:
    metric = compile_source(ROLES, "m.pzm").metrics[0]
    [file] = compiled(metric, TARGETS[name], "0")
    assert isinstance(file.content, str)
    assert all(re.search(rf"{word}", file.content) for word in ("gate.?_proj", "up.?_proj", r"layers\.0\."))


def test_a_missing_extra_is_said(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "pzc.compiler.targets.onnx", raising=False)
    shown = terminal("compile", "wanda", "--to", "onnx", "-o", "w.onnx")
    assert shown.code == 1
    assert shown.err == "error: the target onnx needs the package `onnx`\n  help: pip install 'pzc[onnx]'\n"
    assert not Path("w.onnx").exists()


def test_help_and_the_page_list_the_targets(terminal: Terminal) -> None:
    lines = [line.strip() for line in terminal("compile", "--help").out.split("Targets:")[1].strip().splitlines()]
    page = (ROOT / "docs/targets.md").read_text(encoding="utf-8")
    rows = [[c.strip() for c in x.strip("|").split("|")] for x in page.splitlines() if x.startswith("| `")]
    assert [line.split()[0] for line in lines] == list(TARGETS) == [row[0].strip("`") for row in rows]
    for line, row, target in zip(lines, rows, TARGETS.values(), strict=True):
        assert target.what in line
        assert ("pzc[onnx]" in line) == ("pzc[onnx]" in " ".join(row)) == (target.extra == "onnx")
        assert f"`{target.extension}`" in row


def test_every_extra_is_one_of_the_project() -> None:
    extras = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[project.optional-dependencies]")[1]
    assert all(f"\n{t.extra} = [" in extras for t in TARGETS.values() if t.extra)


WITHOUT_TORCH = """
import sys
from pzc.cli.main import main
for target in ("json", "torch", "numpy", "latex", "dot", "mermaid", "paper-json"):
    sys.argv = ["pzc", "compile", "pruner_zero", "--to", target]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, target
heavy = {"torch", "onnx", "onnxruntime", "numpy.linalg", "transformers"} & set(sys.modules)
assert not heavy, heavy
"""


def test_texts_are_written_without_torch_numpy_and_onnx() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
