"""The runtime on an accelerator, through torch's interface for any of them. Skipped where there is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pzc.runtime.models.layers import find_layers
from pzc.runtime.models.loading import load_model, resolve_device
from pzc.runtime.pruning.prune import prune
from pzc.runtime.pruning.request import Request
from pzc.runtime.statistics.gather import gather
from pzc.runtime.streaming.model import open_shell
from pzc.runtime.streaming.stream import Windows, stream
from pzc.search.place import Place
from pzc.search.prepare import open_store, prepare
from pzc.search.run import Budget, finish, search
from tests.searches import SETTINGS
from tests.terminal import terminal_of
from tests.test_stream import RUNS, source, weights_of

__all__ = ["source"]

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    "run",
    [
        "weights only",
        "wanda one-shot",
        "wanda 2:4 sequential",
        "gradient and activations, sequential",
        "per model, with gradients",
        "update, gradients",
        "sparsegpt",
        "owl, update",
    ],
)
def test_a_stream_writes_what_a_run_in_memory_does(
    run: str, dtype: str, source: Callable[..., Path], windows: Tensor, tmp_path: Path
) -> None:
    metric, how = RUNS[run]
    request, folder = Request.of(metric, **how), source(dtype=dtype)
    shell = open_shell(str(folder), device="auto")
    assert shell.device.type == resolve_device("auto").type != "cpu"
    with stream(shell, request, Windows(windows, windows[:2]), tmp_path / "out") as (result,):
        result.save({})
    loaded = load_model(str(folder), device="auto").model
    prune(loaded, metric, windows=windows, **how)
    state = loaded.state_dict()
    for key, value in weights_of(tmp_path / "out").items():
        assert torch.equal(value, state[key].cpu()), key


def test_the_next_block_arrives_while_one_is_there(source: Callable[..., Path]) -> None:
    shell = open_shell(str(source()), device="auto")
    with shell.block(0, following=1):
        assert all(slot.tensor.device.type == shell.device.type and slot.filled for slot in shell.blocks[0])
        ahead = shell._ahead[1, True].result()
        assert {tensor.device.type for tensor in ahead.contents.values()} == {shell.device.type}
        assert not any(slot.filled for slot in shell.blocks[1])
    with shell.block(1):
        assert not any(slot.filled for slot in shell.blocks[0])
        for slot in shell.blocks[1]:
            assert torch.equal(slot.tensor.cpu(), slot.source.read())


def test_statistics_are_those_of_a_cpu(tiny: Callable[..., Any], windows: Tensor) -> None:
    leaves = ["X.l2", "Y.max", "H.diag", "G.l2", "G.mean"]
    here, there = tiny(), tiny().to(resolve_device("auto"))
    one, other = (gather(model, find_layers(model), windows, leaves).tables for model in (here, there))
    for name, table in one.items():
        for leaf in leaves:
            torch.testing.assert_close(other[name][leaf].cpu(), table[leaf], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", [(), ("--sequential",), ("--update", "obs"), ("--stream",)])
def test_the_commands_end_to_end(options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    terminal = terminal_of(monkeypatch)
    shown = terminal(
        "prune", "-f", "wanda", "--pattern", "2:4", "-n", "4", "--eval-windows", "4", *options, "-o", "out"
    )
    assert shown.code == 0, shown.err
    record = json.loads((tmp_path / "out" / "pruning.json").read_text())
    assert record["options"]["device"].startswith(resolve_device("auto").type)
    assert terminal("inspect", "out", "--verify", "2:4").code == 0
    shown = terminal("eval", "-m", "out", "--eval-windows", "4", "--json")
    assert json.loads(shown.out)["perplexity"] == pytest.approx(record["perplexity"]["after"], rel=1e-3)


@pytest.mark.parametrize("objective", ["perplexity", "kl"])
@pytest.mark.parametrize("fitness_dtype", [None, "bfloat16"])
def test_a_search_goes_through(objective: str, fitness_dtype: str | None, tmp_path: Path) -> None:
    settings = replace(SETTINGS, objective=objective, fitness_dtype=fitness_dtype, seed_zoo=True)
    store, _ = open_store(Place(tmp_path), settings)
    run = prepare(store, settings, device="auto")
    there = run.fitness.layers.layers[0].parameter.device.type
    assert there == resolve_device("auto").type != "cpu"
    assert {x.device.type for table in run.fitness.statistics.tables.values() for x in table.values()} == {there}
    search(run, Budget())
    assert finish(run).members
