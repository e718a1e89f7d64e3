"""What `pzc prune` says to bad input: one message, exit code 1 (2 for an option), and nothing that could be taken for a
result. In memory and streamed."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pzc.runtime.models.loading import POCKET
from pzc.runtime.pruning import prune
from pzc.runtime.streaming import sweeps
from tests.terminal import Shown, Terminal

SMALL = ("-n", "2", "--eval-windows", "2", "-l", "32", "--device", "cpu", "-q")
WAYS: dict[str, tuple[str, ...]] = {"memory": (), "sequential": ("--sequential",), "stream": ("--stream",)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of `pocket` to spoil."""
    return Path(shutil.copytree(POCKET, tmp_path / "model"))


def is_one_message(shown: Shown, message: str, code: int = 1) -> None:
    assert shown.code == code, shown.err
    assert message in shown.err
    assert shown.err.count("error:") == 1
    assert "Traceback" not in shown.err
    assert shown.out == ""


def cut_short(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def no_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\0" * 4000)


def not_a_number(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.2.mlp.up_proj.weight"][3, 4] = torch.nan
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def no_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def no_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut_short, "is damaged"),
        (no_header, "is damaged"),
        (not_a_number, "1 of the 23040 weights of model.layers.2.mlp.up_proj are infinite or NaN"),
        (no_tokenizer, "the tokenizer of model cannot be loaded: there is none"),
        (no_weights, "safetensors"),
        (no_json, "config"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_spoilt_model(
    spoil: Callable[[Path], None], message: str, way: str, model: Path, terminal: Terminal, tmp_path: Path
) -> None:
    spoil(model)
    is_one_message(terminal("prune", "-f", "wanda", "-m", "model", "-o", "out", *SMALL, *WAYS[way]), message)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("way", ["memory", "stream"])
@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        (("-d", "short.txt"), "too few lines", 1),
        (("-d", "few.txt"), "2 windows of 32 tokens need 64, but the text has", 1),
        (("-l", "4000"), "windows of 4000 tokens are longer than the 128 that the model can read", 1),
        (("-d", "none.txt"), "there is no text `none.txt`", 1),
        (("--include", "q_porj"), "no layer matches `q_porj`", 1),
        (("--include", "layers.[01].*"), "only * and ? stand for others", 1),
        (("-f", "role.pzm"), "no layer is called `q_porj`", 0),
        (("--allocation", "rolls.toml"), "the allocation names `q_porj`, which is no layer of this model", 1),
        (("--allocation", "blocks.toml"), "lists 2 blocks, but the last block with layers to prune is number 4", 1),
        (("--allocation", "owl", "--per", "model"), "nothing to allocate", 1),
        (("--allocation", "owl", "-s", "0.995"), "at most, not 0.995", 1),
        (("-s", "0"), "0 is not between 0 and 1", 2),
        (("-s", "1"), "1 is not between 0 and 1", 2),
        (("-s", "0.5,0.50"), "0.5 is given twice", 2),
        (("--pattern", "2:5"), "2:5 needs a multiple of 5 inputs, but model.layers.0.self_attn.q_proj has 96", 1),
        (("-o", "short.txt/out"), "short.txt/out cannot be written: not a directory", 1),
        (("-o", "x" * 250), "the name is too long", 1),
        (("-o", "short.txt"), "short.txt exists already", 1),
    ],
)
def test_bad_options(
    options: tuple[str, ...], message: str, code: int, way: str, terminal: Terminal, tmp_path: Path
) -> None:
    (tmp_path / "short.txt").write_text("a few words")
    (tmp_path / "few.txt").write_text("some words\nand some more\n" * 8)
    (tmp_path / "role.pzm").write_text("pzm 1\nmetric m { q_porj: abs(W)  per row\n else: abs(W) * X  per row }\n")
    (tmp_path / "rolls.toml").write_text("[layers]\nq_porj = 0.3\n")
    (tmp_path / "blocks.toml").write_text("blocks = [0.3, 0.6]\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    metric = () if "-f" in options else ("-f", "wanda")
    shown = terminal("prune", *metric, "-m", "pocket", "-o", "out", *SMALL, *options, *WAYS[way])
    if code:
        is_one_message(shown, message, code)
        assert sorted(path.name for path in tmp_path.iterdir()) == before
    else:  # a role that no layer has: the others are pruned, and it is said
        assert "q_porj" in shown.err


@pytest.mark.parametrize("way", ["memory", "stream"])
def test_mistakes_show_before_the_model_runs(way: str, terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "blocks.toml").write_text("blocks = [0.3, 0.6]\n")
    for options in (("--allocation", "blocks.toml"), ("--pattern", "2:5"), ("-o", "/proc/none/out")):
        shown = terminal("prune", "-f", "wanda", "-m", "pocket", "-o", "out", *SMALL[:-1], *options, *WAYS[way])
        assert shown.code == 1
        assert shown.err.startswith("error:"), shown.err  # before the line about the plan, and any progress


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, 900_000))


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_grows_too_large(way: str, tmp_path: Path) -> None:
    """A real refusal of the system, at half of the weights' file."""
    command = [sys.executable, "-m", "pzc", "prune", "-f", "wanda", "-m", "pocket", "-o", "out", *SMALL, *WAYS[way]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, preexec_fn=_limited, check=False)
    assert done.returncode == 1
    assert "out cannot be written: file too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    assert [path for path in tmp_path.iterdir() if "partial-blocks" not in path.name] == []


@pytest.mark.parametrize(
    ("options", "most"),
    [
        (("magnitude", "--mask-only"), 8_000),
        (("abs(W) * G * X per layer", "--sequential"), 300_000),
        (("abs(W) * G per layer", "--statistics-cache", "cache"), 300_000),
    ],
)
def test_a_work_file_of_streaming_that_grows_too_large(options: tuple[str, ...], most: int, tmp_path: Path) -> None:
    """Those are safetensors, whose library tells in its own way what the system said."""
    command = [sys.executable, "-m", "pzc", "prune", "-m", "pocket", "-o", "out", *SMALL, "--stream", "--mask-only"]
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (most, most))
    done = subprocess.run(
        [*command, "-f", *options], cwd=tmp_path, capture_output=True, text=True, preexec_fn=limit, check=False
    )
    assert (done.returncode, "out cannot be written: file too large" in done.stderr) == (1, True), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("way", WAYS)
def test_what_no_weight_to_prune_shows_is_warned_of(way: str, terminal: Terminal, tmp_path: Path) -> None:
    assert terminal("prune", "-f", "magnitude", "-m", "pocket", "-o", "model", *SMALL).code == 0
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    shown = terminal("prune", "-f", "magnitude", "-m", "model", "-o", "out", *SMALL, *WAYS[way])
    assert shown.code == 0
    assert "the perplexity of the dense model is not finite" in shown.err
    tensors["model.norm.weight"][0] = 1.0
    tensors["model.layers.1.input_layernorm.weight"][0] = float("nan")
    save_file(tensors, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    for options, message in (
        (("wanda",), "the model's files may be damaged; calibrate on other text"),
        (("wanda", "--update", "obs"), "is not positive definite"),
    ):
        shown = terminal("prune", "-m", "model", "-o", "other", *SMALL, *WAYS[way], "-f", *options)
        assert (shown.code, message in shown.err) == (1, True), shown.err
        assert not list(tmp_path.glob(".other*"))  # it would end so the next time too


@pytest.mark.parametrize(("share", "pruned"), [("1e-9", "0.00%"), ("0.999", "99.11%")])
def test_a_share_that_no_group_can_have_is_told(share: str, pruned: str, terminal: Terminal) -> None:
    shown = terminal("prune", "-f", "wanda", "-m", "pocket", "-o", "out", "-s", share, *SMALL)
    assert shown.code == 0
    assert f"asked for, {pruned} pruned: of every group as many whole weights go" in shown.err


def test_a_disk_that_is_too_small_shows_first(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(path)._replace(free=1_000_000))
    shown = terminal("prune", "-f", "wanda", "-m", "pocket", "-o", "out", *SMALL)
    is_one_message(shown, "out needs 1.94 MB, but the disk has 1 MB left")
    assert terminal("prune", "-f", "wanda", "-m", "pocket", "-o", "m", "--mask-only", *SMALL).code == 0


@pytest.mark.parametrize("way", ["memory", "stream"])
@pytest.mark.parametrize("how", ["cpu", "accelerator", "python"])
def test_no_memory_is_left(
    how: str, way: str, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU torch raises a plain RuntimeError: here it is the real one."""

    def fail(*_: Any, **__: Any) -> Any:
        if how == "cpu":
            return torch.empty(1 << 50)
        raise MemoryError if how == "python" else torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(prune, "masks_for", fail)
    monkeypatch.setattr(sweeps, "pruned_blocks", fail)
    shown = terminal("prune", "-f", "wanda", "-m", "pocket", "-o", "out", *SMALL, *WAYS[way])
    is_one_message(shown, "out of memory")
    assert "--stream" in shown.err
    assert not (tmp_path / "out").exists()


def test_weights_that_do_not_fit_into_memory(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pzc.runtime.models.loading._read_model", lambda *_: torch.empty(1 << 50))
    shown = terminal("prune", "-f", "wanda", "-m", "pocket", "-o", "out", *SMALL)
    is_one_message(shown, "the model pocket does not fit into memory")


@pytest.mark.parametrize("way", ["memory", "stream"])
def test_no_permission(way: str, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shut").mkdir(mode=0o500)
    if os.geteuid() == 0:  # root may write everywhere

        def denied(**how: Any) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr("tempfile.TemporaryFile", denied)
    shown = terminal("prune", "-f", "wanda", "-m", "pocket", "-o", "shut/out", *SMALL, *WAYS[way])
    is_one_message(shown, "shut/out cannot be written: permission denied")
    assert list((tmp_path / "shut").iterdir()) == []
