"""`pzc inspect`: what is zero in the files, against numpy on the same tensors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pzc.runtime.errors import PruningError
from pzc.runtime.evaluation.inspection import disagreements, inspect
from pzc.runtime.models.layers import find_layers
from pzc.runtime.pruning.prune import prune
from pzc.runtime.saving.checkpoint import save
from tests.families import FAMILIES, make_family
from tests.terminal import Terminal

SMALL = ("--windows", "2", "--eval-windows", "2", "--length", "32", "--threads", "1")


def by_hand(weight: np.ndarray, n: int, m: int) -> int:
    """Groups of m consecutive inputs with more than n weights that are not zero."""
    return sum(
        np.count_nonzero(row[i : i + m]) > n for row in weight for i in range(0, weight.shape[1], m)
    )  # fmt: skip


@pytest.fixture
def folder(tiny: Callable[..., Any], tmp_path: Path) -> Path:
    """A model with a layer that is half zero without a pattern, one that is 2:4 and one that is 2:4 but for a group."""
    model = tiny()
    first, second, third = (block.mlp.up_proj.weight.data for block in model.model.layers)
    first[:, :8] = 0
    for weight in (second, third):
        weight[:, ::2] = 0
        weight[0, :4] = 0
        weight[0, 0] = weight[0, 1] = 1
    third[5, 4] = 1
    model.save_pretrained(tmp_path / "model", max_shard_size="8KB")
    return tmp_path / "model"


def test_zeros_and_patterns_are_those_of_the_tensors(folder: Path) -> None:
    assert len(list(folder.glob("*.safetensors"))) > 1
    stored = {k: v for path in folder.glob("*.safetensors") for k, v in load_file(path).items()}
    layers = {layer.name: layer for layer in inspect(folder, (2, 4))}
    assert len(layers) == 21
    assert not any("embed" in name or "lm_head" in name or "norm" in name for name in layers)
    for name, layer in layers.items():
        weight = stored[f"{name}.weight"].numpy()
        assert layer.shape == weight.shape
        assert layer.sparsity == np.mean(weight == 0)
        assert layer.broken == by_hand(weight, 2, 4)
    up = [layers[f"model.layers.{i}.mlp.up_proj"] for i in range(3)]
    assert [layer.patterns for layer in up] == [((8, 16),), ((2, 4),), ()]
    assert [layer.first for layer in up] == [(0, 8), None, (5, 4)]
    assert (up[0].role, up[2].block) == ("mlp.up_proj", 2)


def test_patterns_that_hold_by_chance_are_not_shown(tmp_path: Path) -> None:
    """Weights that are half zero, without a pattern, may nowhere have more than 13 of 16."""
    model = make_family("Llama", hidden_size=64, intermediate_size=128)
    prune(model, "abs(W)  per row")
    model.save_pretrained(tmp_path)
    found = list(inspect(tmp_path))
    kept = load_file(tmp_path / "model.safetensors")[f"{found[0].name}.weight"].numpy() != 0
    assert kept.reshape(len(kept), -1, 16).sum(2).max() < 16
    assert all(layer.patterns == () and layer.sparsity == 0.5 for layer in found)


def test_transposed_weights_are_read_along_their_inputs(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=17, n_embd=16, n_layer=1, n_head=2, n_positions=32))
    model.transformer.h[0].mlp.c_fc.weight.data[::2] = 0  # [in, out]
    model.save_pretrained(tmp_path)
    (layer,) = (x for x in inspect(tmp_path, (2, 4)) if x.role == "mlp.c_fc")
    assert (layer.broken, layer.patterns) == (0, ((1, 2),))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_pruned_is_what_is_inspected(family: str, tmp_path: Path) -> None:
    """Of every family, experts one by one however they are stored, routers and biases never."""
    model = make_family(family)
    done = prune(model, "abs(W)  per row", pattern=(2, 4))
    layers = {layer.name: layer for layer in find_layers(model).layers}
    model.save_pretrained(tmp_path / "pruned")
    found = list(inspect(tmp_path / "pruned", (2, 4)))
    assert [x.name for x in found] == list(layers) == list(done.layers)
    for x in found:
        weight = layers[x.name].weight.numpy()
        assert x.shape == weight.shape
        assert x.zeros == np.sum(weight == 0)
        assert x.broken == by_hand(weight, 2, 4) == 0
        assert (2, 4) in x.patterns or (1, 2) in x.patterns


def test_experts_of_a_kind_have_one_role(tmp_path: Path) -> None:
    make_family("Mixtral").save_pretrained(tmp_path / "dense")
    roles = [x.role for x in inspect(tmp_path / "dense")]
    assert roles.count("mlp.experts.*.gate_up_proj") == 8
    assert len(set(roles)) == 6


def test_routers_and_heads_are_inspected_where_they_were_pruned(tokenizer: Any, tmp_path: Path) -> None:
    model = make_family("Mixtral")
    done = prune(model, "abs(W)  per row", include=("mlp.gate", "lm_head", "experts.*.down_proj"))
    record = {"format": "pzc-pruning/1", "model": {"name": "x"}, "sparsity": {"layers": done.layers}}
    save(model, tokenizer, record, tmp_path / "out")
    found = list(inspect(tmp_path / "out"))
    assert {x.role for x in found} == {"mlp.gate", "mlp.experts.*.down_proj", "lm_head"}
    assert disagreements(record, found) == []
    assert all(x.sparsity == 0.5 for x in found)


def test_models_that_transformers_does_not_know_are_inspected_by_their_keys(folder: Path) -> None:
    known = {x.name: x for x in inspect(folder, (2, 4))}
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "unheard_of"}), encoding="utf-8")
    assert {x.name: x for x in inspect(folder, (2, 4))} == known
    (folder / "config.json").unlink()
    assert {x.name: x for x in inspect(folder, (2, 4))} == known


def test_what_prune_wrote_agrees_until_it_is_changed(terminal: Terminal, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert terminal("prune", "-f", "wanda", "--pattern", "2:4", "-o", str(out), *SMALL).code == 0
    shown = terminal("inspect", str(out), "--verify", "2:4")
    assert shown.code == 0, shown.err
    assert "2:4 holds in all 28 layers" in shown.out
    assert "wanda: abs(W) * X" in shown.out
    found = json.loads(terminal("inspect", str(out), "--json").out)
    kept = json.loads((out / "pruning.json").read_text(encoding="utf-8"))
    assert {x["name"]: x["sparsity"] for x in found["layers"]} == pytest.approx(kept["sparsity"]["layers"])
    assert found["sparsity"] == pytest.approx(kept["sparsity"]["after"])
    assert found["agrees"]
    weights = load_file(out / "model.safetensors")
    weights["model.layers.1.self_attn.q_proj.weight"][7, :] = 1
    weights["model.layers.2.self_attn.q_proj.weight"][0, 0] = torch.nan
    save_file(weights, out / "model.safetensors", {"format": "pt"})
    shown = terminal("inspect", str(out), "--verify", "2:4", "--by", "layer")
    assert shown.code == 1
    assert "model.layers.1.self_attn.q_proj: 49." in shown.err
    assert "2:4 is broken in" in shown.err
    assert "in row 7 at column 0" in shown.err
    assert "model.layers.2.self_attn.q_proj: 1 weights are not finite" in shown.err


def test_a_target_that_is_an_average_says_so(terminal: Terminal, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert terminal("prune", "-f", "wanda", "--allocation", "owl", "-o", out, *SMALL).code == 0
    assert "50.00% on average, by owl" in terminal("inspect", out).out


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"model": {"name": "x"}, "sparsity": None},
        {"model": {"name": "x"}, "sparsity": {"layers": {"a": None}}},
        {"model": {}, "sparsity": {"layers": {}}},
        {"model": {"name": "x"}, "sparsity": {"layers": {}}, "metric": {"name": "wanda"}},
        {"model": {"name": "x"}, "sparsity": {"layers": {}}, "target": {"pattern": [2, 4]}},
        {"model": {"name": "x"}, "sparsity": {"layers": {}}, "target": {"sparsity": 0.5, "pattern": [2]}},
        {"model": {"name": "x"}, "sparsity": {"layers": {}}, "perplexity": {"before": "1", "after": "2"}},
        {"model": {"name": "x"}, "sparsity": {"layers": {}}, "data": {"calibration": {"name": "x"}}},
        {"model": {"name": "x"}, "sparsity": {"layers": {}}, "options": ["x"]},
        {"model": {"name": "x"}, "sparsity": {"layers": {}}, "versions": ["x"]},
    ],
)
def test_a_record_without_what_is_read_of_it_is_damaged(
    record: dict[str, Any], folder: Path, terminal: Terminal
) -> None:
    (folder / "pruning.json").write_text(json.dumps({"format": "pzc-pruning/1", **record}), encoding="utf-8")
    shown = terminal("inspect", str(folder))
    assert shown.code == 1
    assert "pruning.json is damaged" in shown.err
    (folder / "pruning.json").write_text(json.dumps({"format": "pzc-pruning/2", **record}), encoding="utf-8")
    assert "is no record of this version of pzc" in terminal("inspect", str(folder)).err


@pytest.mark.parametrize("by", ["role", "block", "layer"])
def test_tables_group_layers(by: str, folder: Path, terminal: Terminal) -> None:
    lines = terminal("inspect", str(folder), "--by", by).out.splitlines()
    assert len(lines) - 2 == {"role": 7, "block": 3, "layer": 21}[by]
    assert lines[-1].split()[0] == "all"


def test_bad_folders_are_refused(folder: Path, terminal: Terminal, tmp_path: Path) -> None:
    shards = sorted(folder.glob("*.safetensors"))
    whole = shards[1].read_bytes()
    shards[1].write_bytes(whole[: len(whole) // 2])
    shown = terminal("inspect", str(folder))
    assert shown.code == 1
    assert f"the weights file {shards[1]} is damaged" in shown.err
    shards[1].unlink()
    with pytest.raises(PruningError, match="is missing"):
        list(inspect(folder))
    (folder / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(PruningError, match="is no index"):
        list(inspect(folder))
    assert "there is no folder" in terminal("inspect", str(tmp_path / "none")).err
    (tmp_path / "empty").mkdir()
    assert "holds no weights" in terminal("inspect", str(tmp_path / "empty")).err
    (tmp_path / "empty" / "pruning.json").write_text("{}")
    assert "is no record of this version of pzc" in terminal("inspect", str(tmp_path / "empty")).err
    assert terminal("inspect", str(folder), "--verify", "4:2").code == 2


def test_names_are_shown_as_they_are(terminal: Terminal, folder: Path) -> None:
    """Brackets in them are no markup."""
    record = {"format": "pzc-pruning/1", "model": {"name": "my[v2] [/x]"}, "sparsity": {"layers": {}}}
    (folder / "pruning.json").write_text(json.dumps(record), encoding="utf-8")
    assert "my[v2] [/x]" in terminal("inspect", str(folder)).out
