"""A run in memory that goes block by block, killed really and at many moments, goes on where it was."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pzc.cli.models import results
from pzc.runtime.errors import PruningError
from pzc.runtime.models.layers import find_layers
from pzc.runtime.pruning.finished import Finished
from pzc.runtime.pruning.mask_files import read_masks
from pzc.runtime.pruning.prune import carry_out
from pzc.runtime.pruning.request import Request
from pzc.runtime.statistics import sequential
from tests.killing import dies
from tests.terminal import Terminal
from tests.test_runtime_prune import same_bits, weights

SMALL = ("-m", "pocket", "-n", "2", "--eval-windows", "2", "-l", "32", "--device", "cpu", "--threads", "1", "-q")

RUNS = {
    "sequential": ("-f", "wanda", "--sequential"),
    "update": ("-f", "wanda", "--update", "obs", "--one-shot"),
    "sparsegpt": ("-f", "sparsegpt", "--allocation", "owl"),
    "gradients": ("-f", "abs(W) * G * X per row", "--sequential"),
    "masks": ("-f", "wanda", "--sequential", "--mask-only"),
}


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server of processes, which loads torch once, find this file."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))


def killed(moment: str, count: int, folder: str, arguments: tuple[str, ...]) -> None:
    """Run `pzc prune` until a moment comes for the `count`-th time, and die of SIGKILL there."""
    from pzc.cli.models.prune import command

    os.chdir(folder)
    left = [count]

    def die(*_: Any, **__: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    keep, run_block, save = Finished.keep, sequential.run_block, results.save

    def then_die(self: Finished, *how: Any) -> None:
        keep(self, *how)
        die()

    def run_and_die(*how: Any) -> Any:
        die()
        return run_block(*how)

    def die_and_save(*how: Any, **more: Any) -> Any:
        die()
        return save(*how, **more)

    if moment == "a block is done":
        Finished.keep = then_die  # type: ignore[method-assign]
    elif moment == "a block runs":
        sequential.run_block = run_and_die
    else:
        results.save = results.write_masks = die_and_save
    command(arguments, standalone_mode=False)


def bytes_of(place: Path) -> dict[str, bytes]:
    """The files of a result, but for the record's times."""
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    return {
        file.name: file.read_bytes() for file in files if file.suffix == ".safetensors" or file.name == "config.json"
    }


@pytest.mark.parametrize("run", RUNS)
def test_the_same_command_goes_on_and_ends_with_the_same_bytes(
    run: str, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("prune", *RUNS[run], *SMALL, "-o", "out.safetensors")
    assert terminal("prune", *RUNS[run], *SMALL, "-o", "whole.safetensors").code == 0
    place, whole = tmp_path / "out.safetensors", tmp_path / "whole.safetensors"
    for moment, counts in {"a block is done": (1, 2), "a block runs": (7,), "it is saved": (1,)}.items():
        for count in counts:
            dies(killed, moment, count, str(tmp_path), arguments[1:])
            assert not place.exists()
            assert len(list(tmp_path.glob(".out.safetensors.partial-blocks-*"))) == 1
        gathered: list[bool] = []
        has = Finished.has

        def note(self: Finished, members: Any, has: Any = has, gathered: Any = gathered) -> bool:
            gathered.append(has(self, members))
            return gathered[-1]

        with monkeypatch.context() as m:
            m.setattr(Finished, "has", note)
            shown = terminal(*arguments)
        assert shown.code == 0, shown.err
        done = {"a block is done": 3, "it is saved": 4}.get(moment)
        if done:
            assert gathered == [index < done for index in range(4)]
        if whole.is_dir():
            assert bytes_of(place) == bytes_of(whole)
            one, other = (json.loads((p / "pruning.json").read_text()) for p in (place, whole))
            assert {**one, "seconds": 0} == {**other, "seconds": 0}
            shutil.rmtree(place)
        else:
            one, other = read_masks(place).masks, read_masks(whole).masks
            assert list(one) == list(other)
            assert all(torch.equal(one[name], other[name]) for name in one)
            place.unlink()
        assert [path.name for path in tmp_path.iterdir()] == ["whole.safetensors"]


def test_several_sparsities_go_on_behind_those_that_are_there(terminal: Terminal, tmp_path: Path) -> None:
    arguments = ("prune", "-f", "wanda", "-s", "0.3,0.5,0.7", *SMALL)
    assert terminal(*arguments, "-o", "whole").code == 0
    dies(killed, "it is saved", 3, str(tmp_path), (*arguments[1:], "-o", "out"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.3", "0.5"]
    shown = terminal(*arguments, "-o", "out")
    assert shown.code == 0, shown.err
    assert "out/0.3 is there already, from this very command" in shown.err
    for share in ("0.3", "0.5", "0.7"):
        assert bytes_of(tmp_path / "out" / share) == bytes_of(tmp_path / "whole" / share)
    shown = terminal(*arguments, "-o", "out")
    assert (shown.code, "exists already" in shown.err) == (1, True)
    shutil.rmtree(tmp_path / "out" / "0.7")
    shown = terminal("prune", "-f", "magnitude", "-s", "0.3,0.5,0.7", *SMALL, "-o", "out")
    assert (shown.code, "out/0.3 exists already" in shown.err) == (1, True)


def test_a_finished_block_that_is_damaged_is_pruned_again(
    tiny: Callable[..., Any], windows: torch.Tensor, tmp_path: Path
) -> None:
    expected, model = tiny(), tiny()
    request = Request.of("sparsegpt")
    carry_out(expected, request, windows)
    carry_out(tiny(), request, windows, finished=Finished(tmp_path))
    first, second, third = sorted(tmp_path.iterdir())
    second.write_bytes(second.read_bytes()[:-5])
    third.write_text("{}")
    result = carry_out(model, request, windows, finished=Finished(tmp_path))
    assert same_bits(weights(model), weights(expected))
    assert set(result.layers) == {layer.name for layer in find_layers(model).layers}
    assert first.stat().st_size > 1000


def test_a_run_that_cannot_end_leaves_nothing(terminal: Terminal, tmp_path: Path) -> None:
    shown = terminal("prune", "-f", "ln(X - 1e9) * abs(W)", "--sequential", *SMALL, "-o", "out")
    assert shown.code == 1
    assert "not finite" in shown.err
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_while_blocks_are_kept(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so in a line, and the same command goes on."""
    arguments = ("prune", "-f", "wanda", "--sequential", *SMALL, "-o", "out")
    keep = Finished.keep

    def full(self: Finished, members: Any, block: Any) -> None:
        if members[0].block == 2:
            raise PruningError("finished blocks cannot be kept: the disk is full")
        keep(self, members, block)

    with monkeypatch.context() as m:
        m.setattr(Finished, "keep", full)
        shown = terminal(*arguments)
    assert (shown.code, "the disk is full" in shown.err) == (1, True)
    assert not (tmp_path / "out").exists()
    assert terminal(*arguments).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_run_keeps_needs_space_too(terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how = (*RUNS["update"], *SMALL)
    planned = json.loads(terminal("plan", *how[:-1], "--json").out)["disk"]["memory"]
    plain = json.loads(terminal("plan", "-f", "wanda", *SMALL[:-1], "--json").out)["disk"]["memory"]

    usage = shutil.disk_usage

    def free(count: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(path)._replace(free=count))

    free((plain + planned) // 2)
    assert terminal("prune", "-f", "wanda", *SMALL, "-o", "plain").code == 0
    shown = terminal("prune", *how, "-o", "out")
    assert (shown.code, "but the disk has" in shown.err) == (1, True)
    assert not list(tmp_path.glob(".out.*"))
    free(planned)
    dies(killed, "a block is done", 2, str(tmp_path), (*how, "-o", "out"))
    (work,) = tmp_path.glob(".out.partial-blocks-*/work")
    free(planned - sum(path.stat().st_size for path in work.iterdir()))
    assert terminal("prune", *how, "-o", "out").code == 0
