"""A streaming run that is killed, really and at many moments, goes on where it was."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pzc.runtime.errors import PruningError
from pzc.runtime.pruning.request import Request
from pzc.runtime.shard_writing import Copy
from pzc.runtime.streaming import work
from pzc.runtime.streaming.model import open_shell
from pzc.runtime.streaming.states import States
from pzc.runtime.streaming.stream import Windows, mark_of, stream
from pzc.runtime.streaming.work import unfinished
from tests.killing import dies
from tests.test_stream import RUNS, source, streamed

__all__ = ["source"]

MOMENTS = ("hidden states are being written", "a block is being written", "a block is done", "all is done")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server of processes, which loads torch once, find this file."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def killed(moment: str, count: int, folder: str, output: str, run: str, windows: list[list[int]]) -> None:
    """Run until a moment comes for the `count`-th time, and die of SIGKILL there, with its file half written."""
    left = [count]

    def die() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    write, finish = Copy.write, work.Journal.finish

    def half_a_block(self: Copy, key: str, tensor: Tensor) -> None:
        write(self, key, torch.full_like(tensor, 7) if left[0] == 1 else tensor)
        die()

    def half_the_states(self: States, name: str, block: int, batches: Any) -> None:
        if left[0] == 1:
            self._path(name, block).write_bytes(b"half")
        die()
        states(self, name, block, batches)

    def then_die(self: work.Journal, stage: str, steps: int, **values: Any) -> None:
        finish(self, stage, steps, **values)
        if moment == "a block is done" or stage == "rest":
            die()

    states = States.write
    if moment == "a block is being written":
        Copy.write = half_a_block  # type: ignore[method-assign]
    elif moment == "hidden states are being written":
        States.write = half_the_states  # type: ignore[method-assign]
    else:
        work.Journal.finish = then_die  # type: ignore[method-assign]
    metric, how = RUNS[run]
    streamed(Path(folder), Path(output), metric, torch.tensor(windows), **how)


def steps_of(monkeypatch: pytest.MonkeyPatch, folder: Path, output: Path, run: str, windows: Tensor) -> list[str]:
    """Let a run end, and give the stages of the steps that it did."""
    steps: list[str] = []
    finish = work.Journal.finish

    def note(self: work.Journal, stage: str, count: int, **values: Any) -> None:
        steps.append(stage)
        finish(self, stage, count, **values)

    metric, how = RUNS[run]
    with monkeypatch.context() as m:
        m.setattr(work.Journal, "finish", note)
        streamed(folder, output, metric, windows, **how)
    return steps


@pytest.mark.parametrize(
    "run",
    [
        "weights only",
        "wanda sequential",
        "gradient",
        "gradient and activations, sequential",
        "owl, update",
        "update, per model, gradients",
    ],
)
def test_the_same_command_goes_on_and_ends_with_the_same_bytes(
    run: str, source: Callable[..., Path], windows: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = source(dtype="bfloat16"), tmp_path / "out"
    uninterrupted = steps_of(monkeypatch, folder, tmp_path / "whole", run, windows)
    for moment in MOMENTS:
        counts = {"all is done": (1,), "a block is done": (1, 2, 2)}.get(moment, (3, 4))
        for count in counts:
            dies(killed, moment, count, str(folder), str(out), run, windows.tolist())
            assert not out.exists()
            assert len(list(tmp_path.glob(".out.partial-stream-*"))) == 1
        steps = steps_of(monkeypatch, folder, out, run, windows)
        if moment == "a block is done":
            assert steps == uninterrupted[sum(counts) :]
        assert bytes_of(out) == bytes_of(tmp_path / "whole")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source", "whole"]
        shutil.rmtree(out)


def test_another_run_starts_anew_and_leaves_the_unfinished_one_alone(
    source: Callable[..., Path], windows: Tensor, tmp_path: Path
) -> None:
    folder = source()
    dies(killed, "a block is done", 3, str(folder), str(tmp_path / "out"), "weights only", windows.tolist())
    (left,) = tmp_path.glob(".out.partial-stream-*")
    shell = open_shell(str(folder), device="cpu")
    same, other = (Request.of("magnitude", sparsity=sparsity) for sparsity in (0.5, 0.6))
    texts = Windows(windows, windows[:2])
    assert unfinished(tmp_path / "out", mark_of(shell, other, texts)) == [left]
    assert unfinished(tmp_path / "out", mark_of(shell, same, texts)) == []
    with pytest.raises(PruningError, match="needs a multiple of 32"):
        streamed(folder, tmp_path / "out", "magnitude", windows, pattern=(16, 32))
    assert left.is_dir()
    streamed(folder, tmp_path / "out", "magnitude", windows, sparsity=0.6)
    assert not left.exists()


def test_a_run_that_was_cut_off_between_its_results_begins_anew(
    source: Callable[..., Path], windows: Tensor, tmp_path: Path
) -> None:
    """What has its name already is no longer where the run wrote it, though its journal says that all is done."""
    shell, texts = open_shell(str(source()), device="cpu"), Windows(windows, windows[:2])
    request = Request.of("magnitude", sparsity=[0.3, 0.5])
    places = [tmp_path / "out" / "0.3", tmp_path / "out" / "0.5"]

    def run(last: int, *, overwrite: bool) -> None:
        with stream(shell, request, texts, tmp_path / "out", places=places, overwrite=overwrite) as results:
            for result in results[:last]:
                result.save({"a": 1})

    run(2, overwrite=False)
    whole = [bytes_of(place) for place in places]
    shutil.rmtree(tmp_path / "out")
    run(1, overwrite=False)
    assert not places[1].exists()
    with pytest.raises(PruningError, match="exists already"):
        run(2, overwrite=False)
    run(2, overwrite=True)
    assert [bytes_of(place) for place in places] == whole
    assert not list(tmp_path.glob(".out.*"))


@pytest.mark.parametrize(("at", "length"), [("calibration", 0), ("calibration", 1), ("dense", 0), ("dense", 1)])
def test_hidden_states_that_lost_their_end_are_told(
    at: str, length: int, source: Callable[..., Path], windows: Tensor, tmp_path: Path
) -> None:
    """As a machine that loses its power may leave them, at the edge of a batch too."""
    folder, out = source(), tmp_path / "out"
    dies(killed, "a block is done", 3, str(folder), str(out), "gradient and activations, sequential", windows.tolist())
    (left,) = tmp_path.glob(".out.partial-stream-*")
    kept = [path for path in sorted((left / "work").glob(f"{at}-*.states")) if path.stat().st_size]
    assert kept
    for path in kept:
        content = path.read_bytes()
        os.truncate(path, (len(content) - 128) * length)  # nothing, or all but the end
    metric, how = RUNS["gradient and activations, sequential"]
    with pytest.raises(PruningError, match=r"states is cut short"):
        streamed(folder, out, metric, windows, **how)
    assert not out.exists()


def test_a_journal_or_statistics_that_lost_their_end_are_told(
    source: Callable[..., Path], windows: Tensor, tmp_path: Path
) -> None:
    name = "gradient and activations, sequential"
    folder, out = source(), tmp_path / "out"
    dies(killed, "a block is done", 6, str(folder), str(out), name, windows.tolist())
    (left,) = tmp_path.glob(".out.partial-stream-*")
    metric, how = RUNS[name]
    journal = left / "work" / "journal.json"
    content = journal.read_text(encoding="utf-8")
    for damaged in ("", content[:-9], "[]", '{"done": {}}', "[" * 100_000):
        journal.write_text(damaged, encoding="utf-8")
        with pytest.raises(PruningError, match=r"journal\.json is damaged") as caught:
            streamed(folder, out, metric, windows, **how)
        assert caught.value.hint == f"delete {left} to begin anew"
    journal.write_text(content, encoding="utf-8")
    kept = sorted((left / "work").glob("tables-*.safetensors"))
    assert kept
    for path in kept:
        os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(PruningError, match=r"safetensors is cut short"):
        streamed(folder, out, metric, windows, **how)


def cached(folder: str, output: str, cache: str | None, at: str, windows: list[list[int]]) -> None:
    """A run with gradients that is killed after some blocks, or when it has kept those of all and not said so."""
    finish = work.Journal.finish

    def then_die(self: work.Journal, stage: str, steps: int, **values: Any) -> None:
        if (at, stage) == ("joined", "kept"):
            os.kill(os.getpid(), signal.SIGKILL)
        finish(self, stage, steps, **values)
        if at == "a block" and ((stage, steps) == ("backward", 2) or (stage, steps) == ("blocks", 1)):
            os.kill(os.getpid(), signal.SIGKILL)

    work.Journal.finish = then_die  # type: ignore[method-assign]
    cache_or_none = Path(cache) if cache else None
    streamed(Path(folder), Path(output), "abs(W) * X + G per row", torch.tensor(windows), cache=cache_or_none)


@pytest.mark.parametrize(
    ("first", "at"), [("none", "a block"), ("empty", "a block"), ("full", "a block"), ("empty", "joined")]
)
def test_a_run_goes_on_whatever_becomes_of_the_option_to_keep_statistics(
    first: str, at: str, source: Callable[..., Path], windows: Tensor, tmp_path: Path
) -> None:
    folder, cache, metric = source(), tmp_path / "cache", "abs(W) * X + G per row"
    streamed(folder, tmp_path / "whole", metric, windows, cache=cache if first == "full" else None)
    dies(cached, str(folder), str(tmp_path / "out"), None if first == "none" else str(cache), at, windows.tolist())
    streamed(folder, tmp_path / "out", metric, windows, cache=tmp_path / "other" if first == "none" else None)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")
    assert not (tmp_path / "other").exists()
    assert len(list(cache.glob("*.safetensors"))) == (first != "none")


def test_two_processes_don_t_write_the_same(source: Callable[..., Path], windows: Tensor, tmp_path: Path) -> None:
    folder = source()
    request, texts = Request.of("magnitude"), Windows(windows, windows[:2])
    with (
        stream(open_shell(str(folder), device="cpu"), request, texts, tmp_path / "out"),
        pytest.raises(PruningError, match="another process is writing"),
    ):
        streamed(folder, tmp_path / "out", "magnitude", windows)
