"""The record of a run against its published schema, and the model card beside it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

import pzc
from pzc.runtime.models.loading import POCKET
from pzc.runtime.saving.card import known_license, reproduce
from tests.terminal import Terminal, terminal_of

DOCS = Path(__file__).parent.parent / "docs"
SCHEMA = json.loads((DOCS / "pruning-1.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
SMALL = ("--windows", "2", "--eval-windows", "2", "--length", "32", "--threads", "1")
BY_ROLE = "pzm 1\nmetric m { gate_proj, up_proj: abs(W) * Y per col\n else: abs(W) * H.diag per block }\n"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.pzm").write_text(BY_ROLE, encoding="utf-8")
    (tmp_path / "shares.toml").write_text('[layers]\n"layers.0.*" = 0\n', encoding="utf-8")
    return terminal_of(monkeypatch)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "options",
    [
        ("-f", "wanda"),
        ("-f", "magnitude", "--pattern", "2:4", "--dtype", "bfloat16"),
        ("-f", "ria", "--set", "a=0.3", "-s", "0.3", "--sequential", "--seed", "5"),
        ("-f", "abs(W) * G per model", "--per", "layer"),
        ("-f", "m.pzm"),
        ("-f", "sparsegpt"),
        ("-f", "sparsegpt", "--one-shot", "--pattern", "4:8"),
        ("-f", "wanda", "--update", "obs", "--allocation", "owl"),
        ("-f", "magnitude", "--allocation", "shares.toml"),
        ("-f", "wanda", "--stream"),
        ("-f", "magnitude", "--include", "q_proj", "--include", "layers.1.*", "--exclude", "mlp.*"),
    ],
)
def test_every_record_is_valid_and_its_card_makes_the_model_again(
    options: tuple[str, ...], terminal: Terminal, tmp_path: Path
) -> None:
    assert terminal("prune", *options, "-o", "out", *SMALL).code == 0
    record = json.loads((tmp_path / "out" / "pruning.json").read_text(encoding="utf-8"))
    VALIDATOR.validate(record)
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.to_dict()["library_name"] == "transformers"
    assert card.data.license == "mit"
    assert "pruning" in (card.data.tags or [])
    assert f"{record['sparsity']['after']:.2%} of" in card.text
    assert f"{record['perplexity']['after']:.2f} pruned" in card.text
    words = shlex.split(card.text.split("```\n")[1])
    assert words[:2] == ["pzc", "prune"]
    words[words.index("out")] = "again"
    shown = terminal(*words[1:])
    assert shown.code == 0, shown.err
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "again"))
    assert all((first[name] == second[name]).all() for name in first)


@pytest.mark.parametrize(
    "options",
    [
        ("-f", "wanda"),
        ("-f", "wanda", "--update", "obs"),
        ("-f", "wanda", "-s", "0.3,0.6"),
        ("-f", "magnitude", "--stream"),
        ("-f", "sparsegpt", "--stream"),
        ("-f", "pruner_zero", "--stream"),
    ],
)
def test_without_evaluation_windows_nothing_is_measured_and_the_same_is_pruned(
    options: tuple[str, ...], terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert terminal("prune", *options, "-o", "out", *SMALL).code == 0
    monkeypatch.setattr("pzc.cli.models.results.window_losses", _refuse)
    monkeypatch.setattr("pzc.runtime.streaming.sweeps._loss", _refuse)
    monkeypatch.setattr("pzc.runtime.streaming.stream.evaluate_pruned", _refuse)
    shown = terminal("prune", *options, "-o", "unmeasured", *SMALL, "--eval-windows", "0")
    assert shown.code == 0, shown.err
    assert "perplexity" not in shown.out + shown.err
    assert " --eval-windows" not in shown.err.split("next: ")[1]
    files = sorted((tmp_path / "unmeasured").rglob("pruning.json"))
    assert files
    for file in files:
        record = json.loads(file.read_text(encoding="utf-8"))
        VALIDATOR.validate(record)
        assert record["perplexity"] is record["data"]["evaluation"] is None
        assert {"evaluation", "perplexity"}.isdisjoint(record["seconds"])
        assert "perplexity" not in ModelCard.load(file.with_name("README.md")).text
        same = tmp_path / "out" / file.parent.relative_to(tmp_path / "unmeasured")
        first, second = (load_file(folder / "model.safetensors") for folder in (same, file.parent))
        assert all((first[name] == second[name]).all() for name in first)


def _refuse(*args: Any, **how: Any) -> Any:
    raise AssertionError("something was measured")


def test_the_record_says_what_was_asked_for(terminal: Terminal, tmp_path: Path) -> None:
    asked = ("--update", "obs", "--allocation", "shares.toml", "--exclude", "q_proj")
    assert terminal("prune", "-f", "wanda", *asked, "-o", "out", *SMALL).code == 0
    record = json.loads((tmp_path / "out" / "pruning.json").read_text(encoding="utf-8"))
    assert record["update"] == {"method": "obs", "damping": {}}
    assert record["sequential"] is True
    assert record["options"]["exclude"] == ["q_proj"]
    assert record["options"]["stream"] is False
    assert record["unreached"] == []
    shares = record["allocation"]
    assert shares.keys() == record["sparsity"]["layers"].keys()
    assert not any("q_proj" in name for name in shares)
    assert {share for name, share in shares.items() if ".layers.0." in name} == {0}
    assert record["sparsity"]["layers"] == pytest.approx(shares, abs=0.01)


def test_masks_that_are_applied_keep_the_record_of_their_run(terminal: Terminal, tmp_path: Path) -> None:
    asked = ("-f", "wanda", "--exclude", "mlp.*")
    assert terminal("prune", *asked, "--mask-only", "-o", "m.safetensors", *SMALL).code == 0
    assert terminal("prune", *asked, "-o", "pruned", *SMALL).code == 0
    assert terminal("apply", "m.safetensors", "-m", "pocket", "-o", "applied").code == 0
    pruned, applied = (
        json.loads((tmp_path / name / "pruning.json").read_text(encoding="utf-8")) for name in ("pruned", "applied")
    )
    VALIDATOR.validate(applied)
    assert applied.pop("mask")["of_this_model"] is True
    assert "seconds" in applied
    assert applied["run"] is None  # or a run of several sparsities would take the folder for its own
    assert {**applied, "seconds": 0} == {**pruned, "seconds": 0, "run": None}


@pytest.mark.parametrize("how", [(), ("--dtype", "bfloat16"), ("--force",)])
def test_the_card_of_masks_that_are_applied_puts_them_on_again(
    how: tuple[str, ...], terminal: Terminal, tmp_path: Path
) -> None:
    model = "pocket"
    assert terminal("prune", "-f", "wanda", "--mask-only", "-o", "m.safetensors", *SMALL).code == 0
    if "--force" in how:
        model = "other"
        assert terminal("prune", "-f", "magnitude", "-o", model, "-s", "0.1", *SMALL).code == 0
    assert terminal("apply", "m.safetensors", "-m", model, *how, "-o", "out").code == 0
    card = ModelCard.load(tmp_path / "out" / "README.md").text
    words = shlex.split(card.split("```\n")[1])
    assert words == ["pzc", "apply", "m.safetensors", "--model", model, *how, "--output", "out"]
    assert ("perplexity" in card) == (not how)  # that of the run was of other weights, or another type
    assert terminal(*words[1:-1], "again").code == 0
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "again"))
    assert all((first[name] == second[name]).all() for name in first)


def test_a_card_says_that_a_pattern_is_the_mean_of_an_allocation(terminal: Terminal, tmp_path: Path) -> None:
    assert terminal("prune", "-f", "wanda", "--pattern", "4:8", "--allocation", "owl", "-o", "out", *SMALL).code == 0
    card = ModelCard.load(tmp_path / "out" / "README.md").text
    assert "pruned by wanda to 4:8 on average" in card
    assert "| 4 of 8 consecutive inputs are kept on average over all layers, by `owl` |" in card


def test_a_card_says_which_layers_were_chosen(terminal: Terminal, tmp_path: Path) -> None:
    assert terminal("prune", "-f", "wanda", "--exclude", "mlp.*", "-o", "out", *SMALL).code == 0
    card = ModelCard.load(tmp_path / "out" / "README.md").text
    assert "Weights of the layers named below were set to zero" in card
    assert "| layers | exclude `mlp.*` |" in card


def test_masks_of_ones_own_have_a_record_and_no_card(terminal: Terminal, tmp_path: Path) -> None:
    name = "model.layers.0.mlp.up_proj"
    keep = torch.rand(load_file(POCKET / "model.safetensors")[f"{name}.weight"].shape) < 0.25
    pzc.write_masks("own.safetensors", {name: keep}, {"metric": {"formula": "chance"}})
    assert terminal("apply", "own.safetensors", "-m", "pocket", "-o", "out").code == 0
    record = json.loads((tmp_path / "out" / "pruning.json").read_text(encoding="utf-8"))
    VALIDATOR.validate(record)
    assert record["mask"]["about"] == {"metric": {"formula": "chance"}}
    assert record["sparsity"]["layers"] == pytest.approx({name: 0.75}, abs=0.05)
    assert not (tmp_path / "out" / "README.md").exists()
    shown = terminal("inspect", "out")
    assert shown.code == 0, shown.err


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), "pzc-pruning/2"),
        (("sparsity", "after"), 50),
        (("model", "sha256"), "abc"),
        (("metric", "arms"), []),
        (("target", "pattern"), [2]),
        (("data", "evaluation", "part"), "some"),
        (("perplexity", "after"), "inf"),
        (("update", "method"), "adam"),
        (("update", "damping"), {"a": "much"}),
        (("allocation",), {"a": 2}),
        (("unreached",), ["a", "a"]),
        (("options", "stream"), "yes"),
        (("options", "include"), "*"),
    ],
)
def test_the_schema_refuses_what_is_no_record(path: tuple[str, ...], value: Any) -> None:
    record = json.loads(RECORD)
    VALIDATOR.validate(record)
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    assert not VALIDATOR.is_valid(record)


@pytest.mark.parametrize("field", ["metric", "update", "allocation", "unreached", "sparsity", "versions"])
def test_a_run_without_a_field_is_no_record(field: str) -> None:
    record = json.loads(RECORD)
    del record[field]
    assert not VALIDATOR.is_valid(record)


RECORD = """
{"format": "pzc-pruning/1",
 "metric": {"name": "wanda", "source": "metric wanda = abs(W) * X per row", "formula": "abs(W) * X", "per": "row",
  "params": {}, "leaves": ["W", "X.l2"], "keys": {"exact": "a", "real": "b", "rank": "c"},
  "arms": [{"layers": [], "formula": "abs(W) * X", "per": "row"}]},
 "model": {"name": "m", "sha256": "0000000000000000000000000000000000000000000000000000000000000000",
  "dtype": "float32", "license": null},
 "options": {}, "target": {"per": null, "sparsity": 0.5, "pattern": [2, 4]}, "sequential": false,
 "update": {"method": "none", "damping": {}}, "allocation": null, "unreached": [], "passes": ["forward"],
 "data": {"calibration": null, "evaluation": {"name": "pydoc", "part": "evaluation",
  "sha256": "0000000000000000000000000000000000000000000000000000000000000000"}},
 "sparsity": {"before": 0, "after": 0.5, "weights": 8, "layers": {"a": 0.5}},
 "perplexity": {"before": 2, "after": null}, "seconds": {},
 "versions": {"python": "3.11", "pzc": "0.1", "torch": "2.13", "transformers": "5.23"}}
"""


def test_a_licence_is_the_bases_or_not_said(tmp_path: Path) -> None:
    weights = (tmp_path / "model.safetensors",)
    assert known_license("x", weights) is None
    (tmp_path / "README.md").write_text("---\nlicense: llama3\n---\n# x\n")
    assert known_license("x", weights) == "llama3"
    (tmp_path / "README.md").write_text("---\nlicense: [\n---\n")
    assert known_license("x", weights) is None


def test_a_command_is_quoted_as_a_shell_reads_it() -> None:
    options = {
        "model": "a b",
        "metric": "abs(W) * X",
        "sparsity": 0.5,
        "pattern": "2:4",
        "set": {"a": 0.5},
        "device": "x",
    }
    options |= {"sequential": True, "per": None, "trust_remote_code": False, "include": ["*.q_proj", "*.k_proj"]}
    assert shlex.split(reproduce(options, "out")) == [
        "pzc", "prune", "--model", "a b", "--metric", "abs(W) * X", "--pattern", "2:4", "--set", "a=0.5",
        "--sequential", "--include", "*.q_proj", "--include", "*.k_proj", "--output", "out",
    ]  # fmt: skip
