"""The command line: exit codes, streams, help, and one clear message for whatever is typed wrong."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete

import pzc
from pzc.cli.main import COMMANDS
from pzc.cli.main import pzc as root
from pzc.compiler import ir
from pzc.compiler.load import zoo_names, zoo_source
from pzc.compiler.targets import torch as to_torch
from tests.terminal import Terminal


def process(*arguments: str, code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line as a process of its own."""
    start = [sys.executable, "-c", code] if code else [sys.executable, "-m", "pzc"]
    return subprocess.run(
        [*start, *arguments], env={**os.environ, **environment}, capture_output=True, text=True, timeout=600
    )


def test_version_and_help(terminal: Terminal) -> None:
    shown = terminal("--version")
    assert (shown.code, shown.out, shown.err) == (0, f"pzc, version {pzc.__version__}\n", "")
    for flag in ("-h", "--help"):
        shown = terminal(flag)
        assert shown.code == 0
        assert all(f"  {name} " in shown.out for name in COMMANDS)
        assert "Exit codes: 0 fine; 1" in shown.out
    shown = terminal()
    assert (shown.code, shown.out) == (2, "")
    assert "Usage: pzc" in shown.err


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"lsp"}))  # which editors start, and which takes nothing
def test_the_help_of_every_command_shows_three_examples(name: str, terminal: Terminal) -> None:
    shown = terminal(name, "--help")
    assert (shown.code, shown.err) == (0, "")
    examples = [line.strip() for line in shown.out.splitlines() if line.strip().startswith("pzc ")]
    assert len(examples) == 3
    command = root.get_command(click.Context(root), name)
    assert command is not None
    options = {flag for p in command.params for flag in p.opts + p.secondary_opts}
    for example in examples:
        assert example.startswith(f"pzc {name}")
        assert set(re.findall(r"(?<=\s)--?[a-z][\w-]*", example)) <= options, example


CHEAP = """
import sys
from pzc.cli.main import main
for arguments in (["check", sys.argv[1]], ["fmt", "--check", sys.argv[1]], ["compile", "wanda", "--to", "json"],
                  ["compile", "wanda", "--to", "torch"], ["zoo"], ["zoo", "show", "ria"], ["prune", "--help"],
                  ["check", "--format", "sarif", "wanda"], ["explain", "PZ0301"],
                  ["check", "absent.pzm"], ["compile", "wnada"], ["compile", "Z"], ["--version"]):
    sys.argv = ["pzc", *arguments]
    try:
        main()
    except SystemExit as ended:
        print(ended.code, file=sys.stderr)
heavy = {"torch", "transformers", "optuna"} & set(sys.modules)
assert not heavy, heavy
"""


def test_what_needs_no_torch_imports_none(tmp_path: Path) -> None:
    (tmp_path / "m.pzm").write_text(zoo_source("wanda"))
    done = process(str(tmp_path / "m.pzm"), code=CHEAP)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^\d$", done.stderr, re.MULTILINE) == list("0000000001110")


def test_python_dash_m_results_on_stdout_and_no_colour_in_a_pipe() -> None:
    done = process("zoo", "show", "wanda", FORCE_COLOR="", NO_COLOR="1")
    assert (done.returncode, done.stdout, done.stderr) == (0, zoo_source("wanda"), "")


def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m pzc compile wanda | true; echo ${{PIPESTATUS[0]}}"
    for unbuffered in ("", "1"):
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=600)
        assert (done.stdout, done.stderr) == ("0\n", "")


def without_listener(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`pzc` whose stderr has lost its reader."""
    reads, writes = os.pipe()
    os.close(reads)
    try:
        command = [sys.executable, "-m", "pzc", *arguments]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=writes, text=True, timeout=600, check=False)
    finally:
        os.close(writes)


def test_results_are_written_where_nobody_listens_to_stderr(tmp_path: Path) -> None:
    (tmp_path / "bad.pzm").write_text("pzm 1\nmetric bad = Q\n")
    (tmp_path / "fine.pzm").write_text("pzm 1\nmetric fine = abs(W)\n")
    done = without_listener("check", str(tmp_path / "bad.pzm"), str(tmp_path / "fine.pzm"))
    assert done.returncode == 1
    assert done.stdout == f"{tmp_path}/bad.pzm: 1 error\n{tmp_path}/fine.pzm: 1 metric fine\n"


def test_a_search_stops_where_nobody_listens_any_more(tmp_path: Path) -> None:
    small = ["--windows", "1", "--fitness-windows", "4", "--held-out-windows", "2", "--length", "16"]
    done = without_listener("search", *small, "--time", "9m", "--run", str(tmp_path / "run"))
    assert (done.returncode, done.stdout) == (130, "")
    assert (tmp_path / "run" / "study.journal").exists()


def test_colour_only_where_it_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "m.pzm").write_text("pzm 1\nmetric m = Z\n")
    path = str(tmp_path / "m.pzm")
    plain = process("check", path, FORCE_COLOR="1", NO_COLOR="1").stderr
    assert "\x1b[3" not in plain
    coloured = process("check", path, FORCE_COLOR="1", TERM="xterm-256color").stderr
    assert "\x1b[1;31merror" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == re.sub(r"\x1b\[[\d;]*m", "", plain)


def test_compile(terminal: Terminal) -> None:
    assert terminal("compile", "wanda").out == ir.emit(pzc.load("wanda"))
    shown = terminal("compile", "gblm", "--to", "torch", "--set", "alpha=3", "-o", "out.py")
    assert (shown.code, shown.out, shown.err) == (0, "", "wrote out.py\n")
    assert Path("out.py").read_text() == to_torch.emit(pzc.load("gblm", {"alpha": 3}), pzc.__version__)
    assert [p.name for p in Path().iterdir()] == ["out.py"]


def test_zoo(terminal: Terminal) -> None:
    shown = terminal("zoo")
    assert (shown.code, shown.err) == (0, "")
    assert all(name in shown.out for name in zoo_names())
    rows = json.loads(terminal("zoo", "--json").out)
    assert [row["name"] for row in rows] == zoo_names()
    assert all(set(row) == {"name", "formula", "per", "tier", "doc"} for row in rows)
    for name in zoo_names():
        assert terminal("zoo", "show", name).out == zoo_source(name)


MODEL = ("--model", "pocket", "--windows", "1", "--eval-windows", "1", "--length", "8")
PRUNE = ("prune", "-f", "wanda", "-o", "out", *MODEL)

WRONG: list[tuple[tuple[str, ...], int, str]] = [
    (("chekc", "m.pzm"), 2, "there is no command `chekc`; did you mean `check`?"),
    (("check",), 2, "Missing argument 'FILE...'"),
    (("check", "--jsn", "m.pzm"), 2, "No such option '--jsn'"),
    (("check", "absent.pzm"), 1, "cannot read absent.pzm: no such file or directory"),
    (("check", "."), 1, "there is no .pzm file below ."),
    (("check", "wnada"), 1, "cannot read wnada: no such file or directory; did you mean `wanda`?"),
    (("check", "--format", "xml", "m.pzm"), 2, "'xml' is not one of 'text', 'json', 'sarif', 'github'"),
    (("explain", "PZ9999"), 2, "there is no code `PZ9999`"),
    (("explain", "wnada"), 1, "there is no metric `wnada` in the zoo; did you mean `wanda`?"),
    (("explain", "wanda", "PZ0203"), 2, "explain one metric at a time, or any number of codes"),
    (("explain", "PZ0203", "--steps"), 2, "--per, --set, --steps and --json are for a metric"),
    (("explain", "absent.json"), 1, "cannot read absent.json: no such file or directory"),
    (("equiv", "wanda"), 2, "Missing argument 'B'"),
    (("equiv", "wanda", "riaa"), 1, "there is no metric `riaa` in the zoo; did you mean `ria`?"),
    (("equiv", "wanda", "X per layer", "--per", "col"), 2, "the score is constant inside its group (per col)"),
    (("equiv", "wanda", "ria", "--per", "row", "--pattern", "2:4"), 2, "--pattern 2:4 replaces --per"),
    (("simplify", "wanda", "--keep", "exact"), 2, "'exact' is not one of 'rank', 'real'"),
    (("simplify", "wanda", "--set", "a=1"), 1, "`wanda` has no parameter `a`"),
    (("diff", "wanda", "riaa"), 1, "there is no metric `riaa` in the zoo; did you mean `ria`?"),
    (("diff", "wanda", "abs(W)", "--model", "no/such-model"), 1, "no/such-model"),
    (("fmt", "absent.pzm"), 1, "cannot read absent.pzm: no such file or directory"),
    (("compile", "wnada"), 1, "there is no metric `wnada` in the zoo; did you mean `wanda`?"),
    (("compile", "wanda", "--to", "keras"), 2, "'keras' is not one of 'json', 'torch'"),
    (("compile", "wanda", "--to", "onnx"), 2, "onnx is a binary file; add --output wanda.onnx"),
    (("compile", "wanda", "-o", "no/where.py"), 1, "no such file or directory: no/where.py"),
    (("compile", "gblm", "--set", "alpha"), 2, "`alpha` is not NAME=NUMBER"),
    (("compile", "gblm", "--set", "=3"), 2, "`=3` is not NAME=NUMBER"),
    (("compile", "gblm", "--set", "alpha=nan"), 2, "`alpha` cannot be nan: write a number"),
    (("compile", "gblm", "--set", "alpha=1e999"), 2, "`alpha` cannot be 1e999: write a number"),
    (("compile", "gblm", "--set", "alpa=3"), 1, "`gblm` has no parameter `alpa`; it has alpha"),
    (("zoo", "show", "riaa"), 1, "there is no metric `riaa` in the zoo; did you mean `ria`?"),
    (("zoo", "list"), 2, "No such command 'list'"),
    ((*PRUNE, "-s", "1.5"), 2, "1.5 is not between 0 and 1"),
    ((*PRUNE, "-s", "nan"), 2, "nan is not between 0 and 1"),
    ((*PRUNE, "-s", "half"), 2, "`half` is no number"),
    ((*PRUNE, "--pattern", "4:2"), 2, "`4:2` is no pattern; write N:M with 0 < N < M"),
    ((*PRUNE, "--pattern", ""), 2, "`` is no pattern"),
    ((*PRUNE, "--pattern", "٢:٤"), 2, "`٢:٤` is no pattern"),
    (("search", "transfer", "run", "--pattern", "٢:٤"), 2, "`٢:٤` is no pattern"),
    ((*PRUNE, "--per", "rows"), 2, "'rows' is not one of 'row', 'col', 'layer', 'block', 'model'"),
    ((*PRUNE, "--windows", "0"), 2, "0 is not in the range x>=1"),
    (("prune", "-f", "wanda"), 2, "Missing option '--output' / '-o'"),
    ((*PRUNE, "--device", "cuda:99"), 1, "cuda:99"),
    ((*PRUNE, "--device", "gpu"), 1, "gpu"),
    ((*PRUNE, "--data", "absent.txt"), 1, "absent.txt"),
    ((*PRUNE, "--model", "no/such-model"), 1, "no/such-model"),
    ((*PRUNE, "-o", "."), 1, "exists"),
    (("prune", "-f", "X", "--per", "col", "-o", "out", *MODEL), 1, "constant inside its group"),
    (("eval", "--model", "absent.gguf"), 1, "absent.gguf"),
    (("compare", "-f", "wanda", "-f", "riaa"), 1, "there is no metric `riaa` in the zoo; did you mean `ria`?"),
    (("search", "--time", "soon"), 2, "`soon` is no time; write 90s, 60m or 2h"),
    (("search", "--space", "defualt"), 1, "there is no space `defualt`; did you mean `default`?"),
    (("search", "--population", "1"), 2, "1 is not in the range x>=4"),
    (("search", "--resume", "absent"), 1, "absent"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "message"), WRONG, ids=lambda x: " ".join(x) if isinstance(x, tuple) else ""
)
def test_what_is_typed_wrong_gets_one_message(
    arguments: tuple[str, ...], code: int, message: str, terminal: Terminal
) -> None:
    shown = terminal(*arguments)
    errors = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, shown.err
    assert message in errors[0]
    assert shown.code == code
    assert shown.out == ""
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("metric", ["-W per row", "-tail(-X)*W"])
def test_a_metric_that_begins_with_a_minus_is_no_option(metric: str, terminal: Terminal) -> None:
    shown = terminal("equiv", metric, "W")
    assert shown.code == 2
    assert "a metric that begins with a minus stands in parentheses, or behind `--`" in shown.err
    assert terminal("equiv", "--per", "layer", "--", metric, f"({metric.removesuffix(' per row')})").code == 0
    assert len(shown.err.splitlines()) <= 5, shown.err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("arguments", [("compile", "abs(W) * Z"), ("prune", "-o", "out", "-f", "sum(W, in) per row")])
def test_mistakes_in_an_expression_are_shown_under_it(arguments: tuple[str, ...], terminal: Terminal) -> None:
    shown = terminal(*arguments)
    assert (shown.code, shown.out) == (1, "")
    assert shown.err.startswith("error[PZ0")
    assert "┌─ expression:1:" in shown.err


def test_a_defect_keeps_its_traceback(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pzc.cli.metrics.zoo.zoo", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError), pytest.raises(SystemExit):
        terminal("zoo")


def test_interruption(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pzc.cli.metrics.zoo.zoo", interrupt)
    shown = terminal("zoo")
    assert (shown.code, shown.err) == (130, "\ninterrupted\n")


INTERRUPTED = """
import sys
module, sys.argv[1:] = sys.argv[1], ["compile", "wanda"]
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupts())
from pzc.__main__ import main
main()
"""


@pytest.mark.parametrize(
    "module", ["click", "pzc.cli.main", "pzc.grammar.diagnostics", "pzc.cli.metrics.compile", "lark"]
)
def test_interruption_while_modules_are_imported(module: str) -> None:
    done = process(module, code=INTERRUPTED)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\ninterrupted\n")


def run_pzc(*arguments: str, closes: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """`pzc` in a shell of its own, with output closed there."""
    command = f"{shlex.join([sys.executable, '-m', 'pzc', *arguments])} {closes}"
    return subprocess.run(["sh", "-c", command], capture_output=True, env={**os.environ, **environment}, check=False)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("arguments", [("zoo", "--json"), ("zoo", "show", "wanda"), ("explain", "wanda", "--steps")])
def test_output_in_any_encoding(arguments: tuple[str, ...], encoding: str) -> None:
    done = run_pzc(*arguments, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode(encoding)
    expected = run_pzc(*arguments, PYTHONIOENCODING="utf-8").stdout.decode()
    assert any(ord(c) > 255 for c in expected)
    if "--json" in arguments:
        assert json.loads(text) == json.loads(expected)
    else:
        assert len(text) > len(expected)


@pytest.mark.parametrize("arguments", [("zoo",), ("zoo", "--json"), ("compile", "wanda")])
def test_output_that_is_closed(arguments: tuple[str, ...]) -> None:
    done = run_pzc(*arguments, closes=">&-")
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_output_without_a_name(terminal: Terminal) -> None:
    shown = terminal("compile", "wanda", "--to", "torch", "-o", "")
    assert shown.code == 2
    assert "--output names no file" in shown.err


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("pzc simp", ["simplify"]),
        ("pzc equiv wanda_", ["wanda_max", "wanda_variance", "wanda_variant"]),
        ("pzc prune -f stade_", ["stade_w"]),
        ("pzc prune --metric my", [("file", "my")]),
        ("pzc explain PZ020", [f"PZ020{i}" for i in range(1, 10)]),
        ("pzc check wan", [("file", "wan")]),
        ("pzc prune -m sm", ["smollm2"]),
        ("pzc compare --data wiki", ["wikitext2"]),
        ("pzc compile wanda --to la", ["latex"]),
    ],
)
def test_what_the_tab_key_offers(words: str, offered: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    *before, incomplete = words.split()[1:]
    found = ShellComplete(root, {}, "pzc", "_PZC_COMPLETE").get_completions(before, incomplete)
    assert [item.value if item.type == "plain" else (item.type, item.value) for item in found] == offered
