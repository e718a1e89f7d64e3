"""Programs that are wrong in the ways a new user would write them, with the whole text that `pzc check` prints.

`invalid/NAME.pzm` is the program; `invalid/NAME.txt` holds `### exit code`, then what stderr shows. When a message has
changed, `python -m scripts.invalid_texts` shows what else does, and writes the texts again with `--write`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pzc.compiler.load import read_file
from pzc.compiler.metric import compile_source
from pzc.grammar.diagnostics import CODES, MAX_ERRORS, Diagnostic, Label, SourceError, did_you_mean
from pzc.grammar.parse import MAX_LENGTH
from pzc.grammar.render import render
from pzc.grammar.syntax import Span
from tests.terminal import Terminal

FOLDER = Path(__file__).parent / "invalid"
PROGRAMS = sorted(path.stem for path in FOLDER.glob("*.pzm"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_the_terminal_shows(name: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    head, _, text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").partition("\n")
    shown = terminal("check", f"{name}.pzm")
    assert (shown.code, shown.err) == (int(head.removeprefix("### ")), text)
    assert len(shown.out.splitlines()) <= 1


def errors_of(source: str, path: Path | None = None) -> list[Diagnostic]:
    try:
        return list(compile_source(source, "m.pzm", path=path).diagnostics)
    except SourceError as error:
        return list(error.diagnostics)


def test_every_program_has_its_text_and_every_code_its_program(tmp_path: Path) -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(PROGRAMS)
    assert len(PROGRAMS) >= 150
    sources = {name: (FOLDER / f"{name}.pzm").read_bytes().decode("utf-8", "replace") for name in PROGRAMS}
    found = {d.code for name, source in sources.items() for d in errors_of(source, FOLDER / f"{name}.pzm")}
    (tmp_path / "long.pzm").write_text("#" * (4 * MAX_LENGTH + 1))  # too long to keep
    found |= {d.code for d in errors_of('pzm 1 use "long.pzm" (f) metric m = f(W)', tmp_path / "m.pzm")}
    assert found == set(CODES)


@pytest.mark.parametrize(
    "source",
    [
        "pzm 1\nmetric m = " + "(" * 50_000 + "W",
        "pzm 1\nmetric m = " + "(" * 40_000 + "W" + ")" * 40_000,
        "pzm 1\nmetric m = " + "abs(" * 20_000 + "W" + ")" * 20_000,
        "pzm 1\nmetric m = " + "-" * 90_000 + "W",
        "pzm 1\nmetric m = W" + " ^ 2" * 20_000,
        "pzm 1\nmetric m = W" + " + X" * 20_000,
        "pzm 1\nmetric m = max(" + "W, " * 30_000 + "W)",
        "pzm 1\n" + "$" * 90_000,
        "pzm 1\nmetric " + "x" * 90_000,
        "pzm 1\nlet a0 = W\n" + "".join(f"let a{i + 1} = a{i} * a{i}\n" for i in range(99)) + "metric m = a99\n",
        "pzm 1\nlet a0 = W\n" + "".join(f"let a{i + 1} = abs(a{i})\n" for i in range(999)) + "metric m = a999\n",
        "#" * (MAX_LENGTH + 1),
    ],
    ids=lambda s: s[6:40].strip(),
)
def test_deep_and_huge_input_is_a_diagnostic(source: str) -> None:
    found = errors_of(source)
    if "((" in source and "))" in source:
        assert found == []  # parentheses alone nest nothing
        return
    assert len(found) == 1
    assert len(render(found[0], source, "m.pzm")) < 1500


def test_a_file_is_read_for_a_hundred_errors() -> None:
    for source in ("pzm 1\n" + "let\n" * 5000, "pzm 1\n" + "".join(f"let a{i} = q{i}\n" for i in range(3000))):
        found = errors_of(source)
        assert len(found) == MAX_ERRORS + 1
        assert found[-1].message == f"more than {MAX_ERRORS} errors; what follows is not checked"


def test_the_deepest_expression_that_is_read_can_be_compiled_and_printed() -> None:
    for deep in ("abs(" * 199 + "W" + ")" * 199, "-" * 199 + "W", "W" + " + X" * 199, "2" + " ^ 2" * 198 + " * W"):
        metric = compile_source(f"pzm 1\nmetric m = {deep}  per row\n", "m.pzm").metrics[0]
        assert compile_source(metric.source, "m.pzm").metrics[0].core is metric.core
        assert metric.keys.rank


def test_what_is_shared_at_every_level_is_not_written_out_at_every_level() -> None:
    """x³ is x · |x|² to the canonical form: sixty of them would be 2⁶⁰ characters."""
    cubes = "W"
    for _ in range(60):
        cubes = f"({cubes}) ^ 3 + W"
    (metric,) = compile_source(f"pzm 1\nmetric m = {cubes}  per row\n", "m.pzm").metrics
    assert len(metric.keys.rank) == 64
    source = f"pzm 1\nmetric m = 0 * ({cubes}) + X  per col\n"
    (found,) = [d for d in errors_of(source) if d.severity == "error"]
    assert found.primary.text.startswith("simplifies to `X`, which has axes [in]")


def test_carets_stand_under_what_they_mean() -> None:
    source = "pzm 1\r\nmetric m =\tsum( (X) , out )  per row\r\n"
    assert render(errors_of(source)[0], source, "m.pzm").splitlines() == [
        "error[PZ0203]: `sum` over `out`, but this value has no `out` axis",
        "  ┌─ m.pzm:2:23",
        "2 │ metric m =    sum( (X) , out )  per row",
        "  │                    ───   ^^^ no such axis here",
        "  │                    │",
        "  │                    has axes [in]",
        "  = help: did you mean `sum(X, in)`?",
    ]


def test_labels_on_several_lines() -> None:
    source = "\n".join(["one", "two", "three", "four"])
    at = [Span(source.index(word), source.index(word) + len(word)) for word in ("four", "one")]
    text = render(Diagnostic("PZ0204", "both", Label(at[0], "here"), (Label(at[1], "there"),)), source, "f")
    assert text.splitlines()[2:] == ["1 │ one", "  │ ─── there", "  ·", "4 │ four", "  │ ^^^^ here"]


def test_a_terminal_is_never_sent_control_characters() -> None:
    source = "pzm 1\n\x1b[31m\x07\u202emetric m = W\n"
    text = render(errors_of(source)[0], source, "m.pzm")
    assert all(c.isprintable() for line in text.split("\n") for c in line)


def test_did_you_mean() -> None:
    assert did_you_mean("wnada", ["wanda", "ria"]) == "did you mean `wanda`?"
    assert did_you_mean("w", ["W", "X"]) == "did you mean `W`?"
    assert did_you_mean("unlike", ["wanda", "ria"]) is None


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "m.pzm"
    path.write_bytes(b"\xef\xbb\xbfpzm 1\nmetric m = abs(W)\n")
    assert errors_of(read_file(path)) == []
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [d.code for d in errors_of(read_file(path))] == ["PZ0102"]


@pytest.mark.parametrize(
    "statement",
    [
        "metric m = " + " + ".join("(" + " + ".join(f"q{i}_{k}" for i in range(100)) + ")" for k in range(9)),
        "metric m { " + " ".join(f"a{i}: q{i}" for i in range(900)) + " else: W }",
        "use paper (" + ", ".join(f"q{i}" for i in range(900)) + ") metric m = W",
        "space s { leaves: " + ", ".join(f"q{i}" for i in range(900)) + " ops: * }",
        "fn f(" + ", ".join(["x"] * 900) + ") = x metric m = f(W)",
        "fn f(p) = " + " + ".join(["norm(W, p)"] * 150) + " metric m = W * f(0) " + "let x = q " * 101,
    ],
    ids=lambda s: s[:10],
)
def test_a_hundred_errors_of_one_statement_are_reported(statement: str) -> None:
    found = [d for d in errors_of(f"pzm 1\n{statement}\n") if d.severity == "error"]
    assert len(found) == MAX_ERRORS + 1
    assert [d.message.partition(";")[0] for d in found].count(f"more than {MAX_ERRORS} errors") == 1


def test_a_hundred_errors_are_not_more_than_a_hundred() -> None:
    source = "pzm 1\nmetric m = " + " + ".join(f"q{i}" for i in range(MAX_ERRORS)) + "\nmetric n = abs(W)\n"
    assert [d.code for d in errors_of(source)] == ["PZ0201"] * MAX_ERRORS
