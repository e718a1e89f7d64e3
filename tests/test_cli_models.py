"""Commands that prune and measure `pocket`, as a person would type them."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pzc.runtime.models.loading import POCKET
from tests.terminal import Terminal

SMALL = ("--windows", "2", "--eval-windows", "2", "--length", "32", "--threads", "1")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("".join(f"This is line {i * i} of a text to read.\n" for i in range(400)), encoding="utf-8")
    return path


def test_prune_records_what_it_did_and_says_how_to_measure_it_again(terminal: Terminal, tmp_path: Path) -> None:
    shown = terminal("prune", "-f", "ria", "--set", "a=0.3", "-o", "out", "--seed", "3", *SMALL)
    assert shown.code == 0
    kept = json.loads((tmp_path / "out" / "pruning.json").read_text(encoding="utf-8"))
    assert kept["options"]["set"] == {"a": 0.3}
    assert kept["options"]["seed"] == 3
    assert kept["options"]["device"] == "cpu"
    assert kept["options"]["threads"] == 1
    assert kept["metric"]["params"] == {"a": 0.3}
    following = shown.err.split("next: pzc ")[1].split()
    again = terminal(*following, "--json", "--threads", "1")
    assert json.loads(again.out)["perplexity"] == pytest.approx(kept["perplexity"]["after"], rel=1e-6)


def test_a_metric_of_the_weights_needs_no_calibration_text(terminal: Terminal, tmp_path: Path) -> None:
    shown = terminal("prune", "-f", "magnitude", "-o", "out", *SMALL, "--windows", "100000", "--json")
    assert shown.code == 0
    assert json.loads(shown.out)["data"]["calibration"] is None
    assert "activations" not in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_a_text_that_calibrated_a_model_does_not_measure_it(
    terminal: Terminal, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert terminal("prune", "-f", "wanda", "-o", "one", "-d", "text.txt", *SMALL).code == 0
    shown = terminal("eval", "-m", "one", "-d", "text.txt", "--eval-windows", "2", "--length", "32", "--json")
    assert json.loads(shown.out)["data"]["part"] == "last fifth"
    (tmp_path / "other.txt").write_text("Nothing like the first text at all, word for word.\n" * 60, encoding="utf-8")
    assert terminal("prune", "-f", "wanda", "-o", "two", "-d", "text.txt", "--eval-data", "other.txt", *SMALL).code == 0
    shown = terminal("eval", "-m", "two", "-d", "text.txt", "--eval-windows", "2", "--length", "32")
    assert shown.code == 1
    assert "all of text.txt calibrated this model" in shown.err
    monkeypatch.setenv("HOME", str(tmp_path))
    shown = terminal("eval", "-m", "~/one", "-d", "text.txt", "--eval-windows", "2", "--length", "32", "--json")
    assert json.loads(shown.out)["data"]["part"] == "last fifth"


@pytest.mark.parametrize("command", [("compare",), ("prune", "-o", "two")])
def test_nor_does_it_where_the_model_is_pruned_again(
    command: tuple[str, ...], terminal: Terminal, text: Path, tmp_path: Path
) -> None:
    assert terminal("prune", "-f", "wanda", "-o", "one", "-d", "text.txt", *SMALL).code == 0
    again = (*command, "-m", "one", "-f", "magnitude", *SMALL)
    shown = terminal(*again, "-d", "pydoc", "--eval-data", "text.txt")
    assert (shown.code, "the first four fifths of text.txt calibrated this model" in shown.err) == (1, True)
    assert terminal(*again, "-d", "text.txt").code == 0  # the last fifth


def test_the_text_self_is_the_dense_models(terminal: Terminal, tmp_path: Path) -> None:
    options = ("--windows", "2", "--eval-windows", "1", "--length", "32", "--threads", "1", "--seed", "3")
    shown = terminal("prune", "-f", "wanda", "-o", "out", "-d", "self", *options)
    kept = json.loads((tmp_path / "out" / "pruning.json").read_text(encoding="utf-8"))
    following = shown.err.split("next: pzc ")[1].split()
    again = json.loads(terminal(*following, "--json", "--threads", "1").out)
    assert again["perplexity"] == pytest.approx(kept["perplexity"]["after"], rel=1e-6)
    refused = terminal("eval", "-m", "out", "-d", "self")
    assert (refused.code, "--against MODEL" in refused.err) == (1, True)
    assert "the text `self` is written by the dense model, and out is pruned" in refused.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-t", "q.jsonl", "--against", "pocket"), "--against is about a text: give --data or --protocol too"),
        (("-t", "q.jsonl", "--eval-windows", "2"), "--eval-windows is about a text"),
        (("-t", "q.jsonl", "--length", "32"), "--length is about a text"),
        (("-t", "q.jsonl", "--held-out"), "--held-out is about a text"),
        (("--held-out",), "--held-out is for files: `pydoc` has a side"),
        (("--held-out", "-d", "wikitext2"), "--held-out is for files: `wikitext2` has a side"),
    ],
)
def test_options_of_eval_that_would_do_nothing_are_refused(
    options: tuple[str, ...], message: str, terminal: Terminal
) -> None:
    shown = terminal("eval", "-m", "pocket", *options)
    assert (shown.code, message in shown.err) == (2, True)


def test_a_model_with_code_of_its_own_runs_where_that_is_trusted(
    terminal: Terminal, tmp_path: Path, tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    folder = tmp_path / "own"
    tiny(vocab_size=1024).save_pretrained(folder)
    for file in POCKET.glob("tokenizer*"):
        shutil.copy(file, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    classes = {"AutoConfig": "code_of_own.OwnConfig", "AutoModelForCausalLM": "code_of_own.OwnModel"}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": classes}), "utf-8")
    (folder / "code_of_own.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n",
        encoding="utf-8",
    )
    prune = ("prune", "-m", "own", "-f", "magnitude", *SMALL)
    shown = terminal(*prune, "-o", "out")
    assert (shown.code, "add --trust-remote-code to run it" in shown.err) == (1, True)
    for options, last in ((("-o", "out"), ()), (("-o", "m", "--mask-only"), ("put",))):
        shown = terminal(*prune, *options, "--trust-remote-code")
        assert shown.code == 0, shown.err
        following = shown.err.split("next: pzc ")[1].split()
        shown = terminal(*(following[:-1] if last else following), *last)
        assert shown.code == 0, shown.err
    assert "--trust-remote-code" in shown.err.split("next: pzc ")[1]


def test_compare_keeps_what_it_measured_when_a_metric_fails(terminal: Terminal) -> None:
    shown = terminal("compare", "-f", "wanda", "-f", "ln(abs(W) - 1) per row", *SMALL)
    assert shown.code == 1
    assert "wanda" in shown.out
    assert "refused" in shown.out
    assert "ln(abs(W) - 1): the score is not finite" in shown.err
    assert "best: wanda" in shown.err
    rows = json.loads(terminal("compare", "-f", "wanda", "-f", "ln(abs(W) - 1) per row", *SMALL, "--json").out)
    assert [bool(r["failure"]) for r in rows] == [False, False, True]
    assert rows[2]["perplexity"] is None


def test_a_score_that_is_constant_in_another_group_is_refused(terminal: Terminal, tmp_path: Path) -> None:
    """The checker looks at the metric's own group; `--per` and `--pattern` choose another."""
    for choice in (("--per", "row"), ("--pattern", "2:4")):
        shown = terminal("prune", "-f", "sum(abs(W), in) + X - X per col", *choice, "-o", "out", *SMALL)
        assert shown.code == 1
        assert "constant inside its group" in shown.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["prune", "search"])
@pytest.mark.parametrize("other", [("--sparsity", "0.7"), ("--per", "layer")])
def test_a_pattern_replaces_sparsity_and_group(command: str, other: tuple[str, str], terminal: Terminal) -> None:
    given = {"prune": ("-f", "wanda", "-o", "out"), "search": ()}[command]
    shown = terminal(command, *given, "--pattern", "2:4", *other)
    assert shown.code == 2
    assert f"--pattern 2:4 replaces {other[0]}" in shown.err


def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    shown = terminal("eval", "-m", "out/nope")
    assert shown.code == 1
    assert "there is no model `out/nope`" in shown.err


@pytest.mark.parametrize("groups", ["layer", "layer,row"])
def test_search_in_some_groups_finds_metrics_of_those(terminal: Terminal, groups: str) -> None:
    how = ("--windows", "2", "--fitness-windows", "4", "--held-out-windows", "2", "--length", "32", "--threads", "1")
    shown = terminal(
        "search", "--per", groups, "--generations", "1", "--population", "4", *how, "--run", "run", "--json"
    )
    assert shown.code == 0
    final = json.loads(shown.out.splitlines()[-1])
    assert {m["per"] for m in (*final["hall_of_fame"], *final["zoo"])} <= set(groups.split(","))
    assert final["change"]["standard_error"] > 0


def test_a_group_that_is_none_is_refused(terminal: Terminal) -> None:
    shown = terminal("search", "--per", "row,column")
    assert shown.code == 2
    assert "`column` is no comparison group; there are row, col, layer, block, model" in " ".join(shown.err.split())


def test_warnings_of_pzc_are_lines(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    from pzc.cli.console import progress
    from pzc.runtime.statistics.unreached import UnreachedExperts

    with warnings.catch_warnings(record=True) as others, progress(quiet=True):
        warnings.warn(UnreachedExperts("no calibration token reached experts.3"), stacklevel=1)
        warnings.warn("of another", UserWarning, stacklevel=1)
    assert [str(one.message) for one in others] == ["of another"]
    assert "warning: no calibration token reached experts.3" in capsys.readouterr().err


def test_layers_are_chosen_by_name(terminal: Terminal) -> None:
    chosen = ("--include", "layers.1.*", "--include", "q_proj", "--exclude", "mlp.*")
    shown = terminal("prune", "-f", "magnitude", "-o", "out", *chosen, *SMALL)
    assert shown.code == 0, shown.err
    record = json.loads(Path("out/pruning.json").read_text(encoding="utf-8"))
    layers = record["sparsity"]["layers"]
    assert {name.split(".", 3)[3] for name in layers if ".1." in name} == {f"self_attn.{x}_proj" for x in "qkvo"}
    assert {name.split(".", 3)[3] for name in layers if ".1." not in name} == {"self_attn.q_proj"}
    assert record["options"]["include"] == ["layers.1.*", "q_proj"]
    shown = terminal("compare", "-f", "wanda", "--exclude", "down_prj", *SMALL)
    assert shown.code == 1
    assert "no layer matches `down_prj`" in shown.err
    assert "did you mean `down_proj`" in shown.err


@pytest.mark.parametrize("command", ["prune", "plan"])
def test_of_two_metrics_none_is_dropped(command: str, terminal: Terminal, tmp_path: Path) -> None:
    shown = terminal(command, "-f", "wanda", "-f", "ria", "-o", str(tmp_path / "out"))
    assert shown.code == 2
    assert "one metric at a time: wanda, ria; `pzc compare` measures several" in shown.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-d", "nofile.txt"], "error: there is no text `nofile.txt`"),
        (["--eval-data", "nofile.txt"], "error: there is no text `nofile.txt`"),
        (["-o", "/proc/x"], "error: /proc/x cannot be written"),
    ],
)
def test_a_plan_refuses_what_pruning_would_refuse(options: list[str], message: str, terminal: Terminal) -> None:
    shown = terminal("plan", "-f", "wanda", *options)
    assert (shown.code, shown.out) == (1, "")
    assert shown.err.startswith(message)


def test_what_the_checker_warns_of_is_said_before_the_work(terminal: Terminal) -> None:
    shown = terminal("plan", "-f", "ln(W) * X per row")
    assert shown.code == 0
    assert "warning: inline: a logarithm of what can be negative: `W` can be negative" in shown.err
    assert terminal("plan", "-f", "ria").err == ""


def test_diff_says_what_was_compared(terminal: Terminal) -> None:
    found = json.loads(terminal("diff", "magnitude", "abs(W) ^ 2 + 1 per row", "--json", "-s", "0.4").out)
    assert [m["name"] for m in found["metrics"]] == ["magnitude", "inline"]
    assert (found["model"], found["sparsity"], found["pattern"]) == ("pocket", 0.4, None)


def test_diff_reads_no_text_to_evaluate_on(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("A line of a text to read.\n" * 30, encoding="utf-8")
    shown = terminal("diff", "wanda", "ria", "-d", "short.txt", "-n", "1", "-l", "128")
    assert shown.code == 0, shown.err
    assert terminal("compare", "-f", "wanda", "-d", "short.txt", "-n", "1", "-l", "128").code == 1


def test_weights_are_hashed_where_the_hash_is_shown(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[object] = []
    monkeypatch.setattr("pzc.runtime.models.loading.hash_files", lambda files: hashed.append(files) or "0" * 64)
    options = ("eval", "-m", "pocket", "--eval-windows", "1", "--length", "32")
    assert (terminal(*options).code, hashed) == (0, [])
    assert json.loads(terminal(*options, "--json").out)["sha256"] == "0" * 64
