"""The record of a run against its published schema, and the model card beside it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from pzc.runtime.card import known_license, reproduce
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
    ("path", "value"),
    [
        (("format",), "pzc-pruning/2"),
        (("sparsity", "after"), 50),
        (("model", "sha256"), "abc"),
        (("metric", "arms"), []),
        (("target", "pattern"), [2]),
        (("data", "evaluation", "part"), "some"),
        (("perplexity", "after"), "inf"),
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


RECORD = """
{"format": "pzc-pruning/1",
 "metric": {"name": "wanda", "source": "metric wanda = abs(W) * X per row", "formula": "abs(W) * X", "per": "row",
  "params": {}, "leaves": ["W", "X.l2"], "keys": {"exact": "a", "real": "b", "rank": "c"},
  "arms": [{"layers": [], "formula": "abs(W) * X", "per": "row"}]},
 "model": {"name": "m", "sha256": "0000000000000000000000000000000000000000000000000000000000000000",
  "dtype": "float32", "license": null},
 "options": {}, "target": {"per": null, "sparsity": 0.5, "pattern": [2, 4]}, "sequential": false, "passes": ["forward"],
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
