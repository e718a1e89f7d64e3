"""What `pzc check` prints for programs, scanning services and GitHub workflows; and what it can be given to read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pzc.cli.metrics.reports import Report, github
from pzc.cli.metrics.sarif import log, uri
from pzc.compiler.load import zoo_names
from pzc.compiler.metric import Compiled
from pzc.grammar.diagnostics import CODES, Diagnostic, Label
from pzc.grammar.render import region
from pzc.grammar.syntax import Span
from tests.terminal import Terminal

TWICE = "pzm 1\nlet a = W  # 😀\nlet a = G\nmetric m = a * sum(X, out)  per row\n"
NOTED = Diagnostic("PZ0307", "this changes no ranking", Label(Span(0, 3)))


def test_json_has_every_label_with_where_it_ends(terminal: Terminal) -> None:
    Path("twice.pzm").write_text(TWICE, encoding="utf-8")
    shown = terminal("check", "--format", "json", "twice.pzm")
    assert (shown.code, shown.err) == (1, "")
    report = json.loads(shown.out)
    assert (report["file"], report["metrics"]) == ("twice.pzm", [])
    first, second = report["diagnostics"]
    assert first == {
        "code": "PZ0204",
        "severity": "error",
        "message": "`a` is defined twice",
        "label": "again here",
        "line": 3,
        "column": 5,
        "end_line": 3,
        "end_column": 6,
        "start": 25,
        "end": 26,
        "help": None,
        "labels": [
            {
                "label": "first defined here",
                "line": 2,
                "column": 5,
                "end_line": 2,
                "end_column": 6,
                "start": 10,
                "end": 11,
            }
        ],
    }
    assert TWICE[first["start"] : first["end"]] == "a"
    assert [TWICE[x["start"] : x["end"]] for x in (second, *second["labels"])] == ["out", "X"]
    assert terminal("check", "--json", "twice.pzm").out == shown.out


def test_one_json_object_a_file(terminal: Terminal) -> None:
    Path("a.pzm").write_text("pzm 1\nmetric m = W  per row\n")
    shown = terminal("check", "--json", "a.pzm", "absent.pzm", "wanda")
    found = [json.loads(line) for line in shown.out.splitlines()]
    assert [(row["file"], bool(row["metrics"]), row["unread"]) for row in found] == [
        ("a.pzm", True, None),
        ("absent.pzm", False, "cannot read absent.pzm: no such file or directory"),
        ("wanda.pzm", True, None),
    ]
    assert all(row.keys() == found[0].keys() for row in found)
    assert (shown.code, shown.err) == (1, "error: cannot read absent.pzm: no such file or directory\n")


# SARIF


def sarif(terminal: Terminal, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(terminal("check", "--format", "sarif", *arguments).out)
    return found


def test_sarif_is_one_log_of_one_run(terminal: Terminal) -> None:
    Path("twice.pzm").write_text(TWICE, encoding="utf-8")
    found = sarif(terminal, "twice.pzm", "wanda")
    assert set(found) == {"$schema", "version", "runs"}
    assert found["version"] == "2.1.0"
    (run,) = found["runs"]
    assert set(run) == {"tool", "columnKind", "invocations", "results"}
    assert run["columnKind"] == "utf16CodeUnits"
    assert run["invocations"] == [{"executionSuccessful": True, "toolExecutionNotifications": []}]
    assert [r["ruleId"] for r in run["results"]] == ["PZ0204", "PZ0203"]


def test_sarif_describes_every_code(terminal: Terminal) -> None:
    driver = sarif(terminal, "wanda")["runs"][0]["tool"]["driver"]
    assert driver["name"] == "pzc"
    assert [rule["id"] for rule in driver["rules"]] == list(CODES)
    for rule in driver["rules"]:
        severity, title = CODES[rule["id"]]
        assert rule["defaultConfiguration"] == {"level": severity}
        assert rule["shortDescription"] == {"text": title}
        assert rule["fullDescription"]["text"] in " ".join(rule["help"]["markdown"].split())
        assert rule["help"]["text"]


def test_a_sarif_result_points_to_its_rule_and_to_every_label(terminal: Terminal) -> None:
    Path("twice.pzm").write_text(TWICE, encoding="utf-8")
    run = sarif(terminal, "twice.pzm")["runs"][0]
    twice, axis = run["results"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] == "error"
    assert twice["message"] == {"text": "`a` is defined twice"}
    assert twice["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "twice.pzm"},
                "region": {"startLine": 3, "startColumn": 5, "endLine": 3, "endColumn": 6},
            },
            "message": {"text": "again here"},
        }
    ]
    (related,) = twice["relatedLocations"]
    assert related["id"] == 0
    assert related["message"] == {"text": "first defined here"}
    assert related["physicalLocation"]["region"]["startLine"] == 2
    assert axis["message"]["text"].endswith("\nhelp: did you mean `sum(X, in)`?")


def test_sarif_levels_are_those_of_the_codes() -> None:
    diagnostics = tuple(Diagnostic(code, "m", Label(Span(0, 3))) for code in CODES)
    results = log([Report("m.pzm", "pzm 1", found=diagnostics)])["runs"][0]["results"]
    assert [r["level"] for r in results] == [severity for severity, _ in CODES.values()]
    assert {"error", "warning", "note"} <= {r["level"] for r in results}


def test_a_file_that_cannot_be_read_makes_the_sarif_run_unsuccessful(terminal: Terminal) -> None:
    shown = terminal("check", "--format", "sarif", "absent.pzm")
    message = "cannot read absent.pzm: no such file or directory"
    assert (shown.code, shown.err) == (1, f"error: {message}\n")
    assert json.loads(shown.out)["runs"][0]["invocations"] == [
        {"executionSuccessful": False, "toolExecutionNotifications": [{"level": "error", "message": {"text": message}}]}
    ]


TEXT = st.text(st.sampled_from("aé×😀\u0301\n\r\t"), min_size=1, max_size=30)


@given(TEXT, st.data())
def test_sarif_regions_count_utf16_code_units(source: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(source)))
    end = data.draw(st.integers(start, len(source) + 2))
    found = Diagnostic("PZ0101", "m", Label(Span(start, end)))
    result = log([Report("m.pzm", source, found=(found,))])["runs"][0]["results"][0]
    at = result["locations"][0]["physicalLocation"]["region"]
    units = source.encode("utf-16-le")
    lines = [0, *(i + 2 for i in range(0, len(units), 2) if units[i : i + 2] == b"\n\0")]
    first, last = (lines[at[f"{x}Line"] - 1] + 2 * (at[f"{x}Column"] - 1) for x in ("start", "end"))
    assert units[first:last].decode("utf-16-le") == source[start:end]
    assert (at["startLine"], at["startColumn"]) <= (at["endLine"], at["endColumn"])


def test_braces_are_doubled_where_sarif_would_read_a_placeholder() -> None:
    found = Diagnostic("PZ0101", "unexpected `{0}`", Label(Span(0, 1)))
    (result,) = log([Report("m.pzm", "{", found=(found,))])["runs"][0]["results"]
    assert result["message"] == {"text": "unexpected `{{0}}`"}


def test_sarif_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert uri("metrics/my own%.pzm") == "metrics/my%20own%25.pzm"
    assert uri("./a.pzm") == uri(str(here / "a.pzm")) == "a.pzm"
    for outside in ("../b.pzm", str(tmp_path / "b.pzm")):
        parts = urlsplit(uri(outside))
        assert (parts.scheme, Path(unquote(parts.path))) == ("file", (tmp_path / "b.pzm").resolve())


# GitHub


def test_github_commands(terminal: Terminal) -> None:
    Path("twice.pzm").write_text(TWICE, encoding="utf-8")
    shown = terminal("check", "--format", "github", "twice.pzm", "absent.pzm")
    assert (shown.code, shown.err) == (1, "")
    assert shown.out.splitlines() == [
        "::error file=twice.pzm,line=3,endLine=3,col=5,endColumn=6,title=PZ0204::`a` is defined twice (again here)",
        "::error file=twice.pzm,line=4,endLine=4,col=23,endColumn=26,title=PZ0203::"
        "`sum` over `out`, but this value has no `out` axis (no such axis here)%0Ahelp: did you mean `sum(X, in)`?",
        "::error title=pzc::cannot read absent.pzm: no such file or directory",
    ]


COMMAND = re.compile(r"::(\w+) ([^:]*)::(.*)")


def understood(line: str) -> tuple[str, dict[str, str], str]:
    """A workflow command as GitHub's runner reads it."""
    found = COMMAND.fullmatch(line)
    assert found, line

    def unescaped(text: str) -> str:
        for escape, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
            text = text.replace(escape, character)
        return text

    pairs = (pair.split("=", 1) for pair in found[2].split(","))
    return found[1], {k: unescaped(v) for k, v in pairs}, unescaped(found[3])


@given(st.text(st.sampled_from("a%:,=\r\n☃250ADC"), max_size=12), st.text(st.sampled_from("a%:,=\r\n☃"), max_size=12))
def test_github_reads_back_what_was_meant(name: str, message: str) -> None:
    with pytest.MonkeyPatch.context() as m:
        lines: list[str] = []
        m.setattr("pzc.cli.console.output.out", lambda line, **how: lines.append(line))
        github([Report(f"{name}.pzm", "pzm 1", found=(Diagnostic("PZ0101", message, Label(Span(0, 3))),))], False)
    (line,) = lines
    assert "\n" not in line
    assert "\r" not in line
    command, properties, text = understood(line)
    assert (command, properties["file"], properties["title"], text) == ("error", f"{name}.pzm", "PZ0101", message)


def test_github_levels_and_places_of_several_lines(capsys: pytest.CaptureFixture[str]) -> None:
    source = "pzm 1\nlet a = W\n"
    found = tuple(Diagnostic(code, "m", Label(Span(0, 9))) for code in ("PZ0101", "PZ0401", "PZ0307"))
    github([Report("m.pzm", source, found=found)], False)
    assert capsys.readouterr().out.splitlines() == [
        "::error file=m.pzm,line=1,endLine=2,title=PZ0101::m",
        "::warning file=m.pzm,line=1,endLine=2,title=PZ0401::m",
        "::notice file=m.pzm,line=1,endLine=2,title=PZ0307::m",
    ]


# Notes


def test_a_note_is_neither_an_error_nor_a_warning(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pzc.cli.metrics.check.compile_source", lambda source, name, path: Compiled((), (), (NOTED,)))
    Path("m.pzm").write_text("pzm 1\n")
    shown = terminal("check", "m.pzm")
    assert (shown.code, shown.out) == (0, "m.pzm: no metric\n")
    assert shown.err.startswith("note[PZ0307]: this changes no ranking\n")
    assert terminal("check", "--json", "m.pzm").out.count('"severity": "note"') == 1

    shown = terminal("check", "--quiet", "m.pzm")
    assert (shown.code, shown.out, shown.err) == (0, "", "")
    assert json.loads(terminal("check", "--json", "--quiet", "m.pzm").out)["diagnostics"] == []


# What can be read


def test_standard_input(terminal: Terminal) -> None:
    shown = terminal("check", "-", stdin=b"\xef\xbb\xbfpzm 1\nmetric m = abs(V)  per row\n")
    assert (shown.code, shown.out) == (1, "-: 1 error\n")
    assert "┌─ -:2:16" in shown.err
    shown = terminal("check", "-", stdin=b"\xff")
    assert (shown.code, shown.err) == (1, "error: standard input is not UTF-8 text (byte 0)\n")


def test_a_folder_is_every_metric_below_it(terminal: Terminal) -> None:
    for name in ("b/two.pzm", "b/a/one.pzm", "b/.hidden/three.pzm", "b/four.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("pzm 1\nmetric m = abs(W)  per row\n")
    assert terminal("check", "b").out == "b/a/one.pzm: 1 metric fine\nb/two.pzm: 1 metric fine\n"
    assert terminal("check", ".").out == "b/a/one.pzm: 1 metric fine\nb/two.pzm: 1 metric fine\n"
    Path("empty").mkdir()
    shown = terminal("check", "empty")
    assert (shown.code, shown.err) == (1, "error: there is no .pzm file below empty\n")


@pytest.mark.parametrize("name", zoo_names())
def test_names_of_the_zoo(name: str, terminal: Terminal) -> None:
    shown = terminal("check", name)
    assert (shown.code, shown.out) == (0, f"{name}.pzm: 1 metric fine\n")


def test_a_zoo_name_misspelt(terminal: Terminal) -> None:
    shown = terminal("check", "wnada")
    message = "error: cannot read wnada: no such file or directory; did you mean `wanda`?\n"
    assert (shown.code, shown.err) == (1, message)


def test_two_formats(terminal: Terminal) -> None:
    shown = terminal("check", "--json", "--format", "sarif", "wanda")
    assert shown.code == 2
    assert "--json is --format json" in shown.err
    assert terminal("check", "--json", "--format", "json", "wanda").code == 0


@given(TEXT, st.data())
def test_regions_count_characters(source: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(source)))
    end = data.draw(st.integers(start, len(source)))
    at = region(source, Span(start, end))
    lines = source.split("\n")
    before = "\n".join([*lines[: at.line - 1], lines[at.line - 1][: at.column - 1]])
    until = "\n".join([*lines[: at.end_line - 1], lines[at.end_line - 1][: at.end_column - 1]])
    assert (before, until) == (source[:start], source[:end])


def test_a_name_that_is_no_utf_8_has_an_address() -> None:
    assert uri("odd/\udcff.pzm") == "odd/%FF.pzm"


def test_a_name_between_colons_is_no_emoji(terminal: Terminal) -> None:
    shown = terminal("check", "two.pzm:a:b")
    assert shown.err.startswith("error: cannot read two.pzm:a:b")
