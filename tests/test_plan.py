"""What a plan says: counted from shapes alone, and near what is then measured."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pzc.cli.models.plan import described, duration, gigabytes
from pzc.runtime.models.layers import find_layers
from pzc.runtime.models.loading import load_model
from pzc.runtime.models.passes import check_length
from pzc.runtime.planning.plan import BASE, Plan, plan
from pzc.runtime.planning.speed import Speed
from pzc.runtime.planning.texts import default_length
from pzc.runtime.pruning.request import Request
from pzc.runtime.shards import Stored
from pzc.runtime.streaming.model import Shell, open_shell
from tests.families import MIXTURES, make_family
from tests.terminal import Terminal, terminal_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 4 blocks whose matrices are large enough to matter beside activations."""
    from tests.conftest import make_tiny, make_tokenizer

    path = tmp_path_factory.mktemp("model")
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4}
    make_tiny(dtype="bfloat16", **sizes).save_pretrained(path, max_shard_size=2_000_000)
    make_tokenizer().save_pretrained(path)
    return path


def planned(shell: Shell, metric: str, eval_windows: int = 2, **how: Any) -> Plan:
    request = Request.of(metric, **how)
    return plan(shell.loaded, shell.layers, request, windows=4, eval_windows=eval_windows, length=32)


def test_sizes_and_passes(folder: Path) -> None:
    found = planned(open_shell(str(folder), device="cpu"), "abs(W) * X * H.diag + G per row")
    model = load_model(str(folder), device="cpu").model
    layers = find_layers(model)
    assert (found.blocks, found.linears, found.weights) == (4, 28, layers.size)
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert [(p.tier, p.leaves) for p in found.passes] == [
        ("hessian", ("X.l2", "H.diag")),
        ("backward", ("G.l2",)),
    ]
    assert found.tokens == {"calibration": 128, "evaluation": 64}
    assert found.disk["memory"] == sum(p.numel() * 2 for p in model.parameters())


def test_a_loaded_model_is_planned_like_its_files(folder: Path) -> None:
    loaded = load_model(str(folder), device="cpu")
    request = Request.of("wanda", sequential=True)
    whole = plan(loaded, find_layers(loaded.model), request, windows=4, eval_windows=2, length=32)
    shell = planned(open_shell(str(folder), device="cpu"), "wanda", sequential=True)
    assert (whole.memory, whole.disk, whole.passes) == (shell.memory, shell.disk, shell.passes)


def test_an_embedding_that_is_only_looked_up_is_not_streamed_whole(tmp_path: Path) -> None:
    """Untied, it is in a model in memory all the same."""
    from tests.conftest import make_tiny, make_tokenizer

    found = []
    for tie in (True, False):
        folder = tmp_path / f"tied {tie}"
        make_tiny(vocab_size=60_000, tie_word_embeddings=tie).save_pretrained(folder)
        make_tokenizer().save_pretrained(folder)
        found.append(planned(open_shell(str(folder), device="cpu"), "wanda"))
    tied, untied = found
    assert untied.parameters > tied.parameters
    assert untied.memory["memory"] > tied.memory["memory"]
    assert untied.memory["stream"] == tied.memory["stream"]


def test_to_measure_nothing_takes_less(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pzc.runtime.planning.plan.measure", lambda *_: Speed(product=1e9, mask=1e9, disk=1e9))
    shell = open_shell(str(folder), device="cpu")
    measured, unmeasured = (planned(shell, "magnitude", eval_windows=n) for n in (2, 0))
    assert unmeasured.tokens["evaluation"] == 0
    for way in ("memory", "stream"):
        assert unmeasured.memory[way] <= measured.memory[way]
        assert unmeasured.seconds[way] < measured.seconds[way]
    assert unmeasured.disk["stream"] < measured.disk["stream"]


def test_what_takes_more_is_said_to_take_more(folder: Path) -> None:
    shell = open_shell(str(folder), device="cpu")
    weights, wanda, gradients = (planned(shell, metric) for metric in ("abs(W) per row", "wanda", "pruner_zero"))
    for way in ("memory", "stream"):
        assert BASE < weights.memory[way] <= wanda.memory[way] < gradients.memory[way]
    for found in (weights, wanda, gradients):
        assert found.memory["stream"] < found.memory["memory"]
        assert found.disk["stream"] > found.disk["memory"]
        assert found.seconds["stream"] > 0
    assert weights.passes == ()
    assert weights.tokens["calibration"] == 0
    model = 2 * sum(p.numel() for p in shell.model.parameters())
    assert gradients.memory["memory"] - BASE > model + 4 * gradients.weights  # weights, and gradients in float32


@pytest.mark.parametrize("name", MIXTURES)
def test_a_token_takes_the_time_of_the_experts_that_it_is_routed_to(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pzc.runtime.planning.plan.measure", lambda *_: Speed(product=1e3, mask=1e30, disk=1e30))
    seconds = []
    for chosen in (1, 4):
        model = make_family(name, num_experts_per_tok=chosen)
        loaded = SimpleNamespace(model=model, dtype=torch.float32, files=())
        layers = find_layers(model)
        found = plan(loaded, layers, Request.of("magnitude"), windows=0, eval_windows=1, length=8)
        seconds.append(found.seconds["memory"])
    experts = sum(prod(layer.shape) for layer in layers.layers if layer.expert)
    assert seconds[1] - seconds[0] == pytest.approx(2 * 8 * 2 * experts * 3 / 4 / 1e3)  # twice 8 tokens, of 3 experts


def test_no_copy_of_the_weights_is_planned_that_none_makes(folder: Path) -> None:
    """`pzc prune` gives a model up that it could not finish."""
    shell = open_shell(str(folder), device="cpu")
    alone, walked = planned(shell, "wanda"), planned(shell, "wanda", sequential=True)
    several = planned(shell, "wanda", sparsity=[0.3, 0.5])
    copied = 2 * alone.weights
    assert 0 < walked.memory["memory"] - alone.memory["memory"] < copied
    assert several.memory["memory"] - alone.memory["memory"] >= copied


def test_a_plan_over_all_devices_is_for_their_memory_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal: Terminal = terminal_of(monkeypatch)
    how = ("-f", "wanda", "-m", str(folder), "-n", "2", "-l", "32", "--eval-windows", "2")
    one, every = (json.loads(terminal("plan", *how, "--device", name, "--json").out) for name in ("cpu", "map"))
    assert every["memory"] == one["memory"]
    shown = terminal("plan", *how, "--device", "map", "--stream")
    assert shown.code == 1
    assert "a model that is streamed is on one device at a time" in shown.err


def test_no_weights_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(stored: Stored, **how: Any) -> torch.Tensor:
        raise AssertionError(stored.key)

    monkeypatch.setattr("pzc.runtime.models.stored.read", refuse)
    monkeypatch.chdir(tmp_path)
    terminal: Terminal = terminal_of(monkeypatch)
    shown = terminal(
        "plan", "-f", "wanda", "-m", str(folder), "--sequential", "-n", "4", "-l", "32", "-o", "x", "--json"
    )
    assert shown.code == 0
    found = json.loads(shown.out)
    assert found["weights"] == 28 // 7 * (2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 512)
    assert found["sequential"] is True
    assert set(found["memory"]) == set(found["seconds"]) == set(found["disk"]) == {"memory", "stream"}
    shown = terminal("plan", "-f", "pruner_zero", "-m", str(folder), "-n", "4", "-l", "32")
    assert "a forward and backward pass for G.l2" in shown.out
    assert "--stream    about" in shown.out
    assert list(tmp_path.iterdir()) == []


def test_a_plan_in_words(folder: Path) -> None:
    lines = dict(described(planned(open_shell(str(folder), device="cpu"), "magnitude")))
    assert lines["passes"] == "none: the metric reads nothing but weights"
    assert lines["tokens"] == "0 to calibrate on, 64 to evaluate on"
    assert [gigabytes(x) for x in (2.34e9, 3e6)] == ["2.3 GB", "3 MB"]
    assert [duration(x) for x in (0.1, 42.4, 300, 7200)] == ["1 s", "42 s", "5 min", "2.0 h"]


def test_pruning_starts_with_the_plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    how = ("--windows", "2", "--eval-windows", "2", "--length", "32", "-f", "wanda", "-m", "pocket")
    for way in ((), ("--stream",)):
        shown = terminal_of(monkeypatch)("prune", *how, *way, "-o", f"out{len(way)}")
        line = shown.err.splitlines()[0]
        assert line.startswith("plan  4 blocks, 28 linears")
        assert "a forward pass over 2 × 32 tokens · about 0.6 GB of memory, about" in line


def test_a_head_is_planned_where_it_is_pruned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory; a streamed run goes block by block, and its plan says so too."""
    terminal = terminal_of(monkeypatch)
    options = ["plan", "-f", "magnitude", "-m", str(folder), "--include", "*", "--include", "lm_head"]
    assert terminal(*options).code == 0
    refused = terminal(*options, "--stream")
    assert refused.code == 1
    assert "lm_head is outside the blocks, and --stream prunes block by block" in refused.err


def test_a_gguf_file_is_refused_by_what_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF and more")
    shown = terminal_of(monkeypatch)("plan", "-f", "magnitude", "-m", str(path))
    assert shown.code == 1
    assert f"{path} is a GGUF file, and only folders of safetensors are planned" in shown.err.replace("\n", "")
    assert "--stream" not in shown.err


def test_the_usual_length_is_one_that_the_text_model_reads() -> None:
    """A model of texts and pictures has the length in the configuration of its text model alone."""

    class Config:
        def get_text_config(self) -> Any:
            return SimpleNamespace(max_position_embeddings=128)

    model: Any = SimpleNamespace(config=Config())
    assert default_length(model) == 128
    check_length(model, default_length(model))
