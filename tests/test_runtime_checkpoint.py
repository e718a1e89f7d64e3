"""Saved folders: whole, loadable by plain transformers, and never half-written."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from pzc.compiler.core import leaf, make
from pzc.runtime.data.texts import Text
from pzc.runtime.errors import PruningError
from pzc.runtime.models.layers import find_layers, zeros
from pzc.runtime.models.loading import load_model
from pzc.runtime.pruning.prune import prune
from pzc.runtime.saving import checkpoint
from pzc.runtime.saving.checkpoint import check_output, record, save, versions
from tests.test_runtime_prune import MAGNITUDE, scored


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("tied", [False, True])
def test_plain_transformers_loads_the_folder(
    tiny: Callable[..., Any], tokenizer: Any, windows: torch.Tensor, tmp_path: Path, dtype: str, tied: bool
) -> None:
    model = tiny(dtype=dtype, tie_word_embeddings=tied)
    prune(model, MAGNITUDE)
    save(model, tokenizer, {"a": 1}, tmp_path / "deep" / "out")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "deep" / "out")
    assert again.dtype == getattr(torch, dtype)
    assert again.config.use_cache
    assert zeros(find_layers(again)) == zeros(find_layers(model))
    with torch.no_grad():
        assert torch.equal(again.eval()(windows).logits, model(windows).logits)
    assert AutoTokenizer.from_pretrained(tmp_path / "deep" / "out")("the of")["input_ids"] == [1, 2]
    stored = load_file(tmp_path / "deep" / "out" / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {getattr(torch, dtype)}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
    assert load_model(str(tmp_path / "deep" / "out")).dtype == getattr(torch, dtype)


def test_files_can_be_read_by_whoever_may(tiny: Callable[..., Any], tokenizer: Any, tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        save(tiny(), tokenizer, {}, tmp_path / "out")
    finally:
        os.umask(old)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o644}


def test_the_record_says_all(tiny: Callable[..., Any], tokenizer: Any, tmp_path: Path, windows: Any) -> None:
    save(tiny(), tokenizer, {}, tmp_path / "in")
    loaded = load_model(str(tmp_path / "in"), device="cpu")
    result = prune(loaded.model, scored(make("mul", make("abs", leaf("W")), leaf("X.l2"))), windows=windows)
    content = record(
        metric={
            "name": "wanda",
            "source": "abs(W) * X",
            "formula": "abs(W) * X",
            "keys": {"exact": "ab"},
            "arms": [{"layers": [], "formula": "abs(W) * X", "per": "row"}],
        },
        model=loaded,
        options={"model": "in", "metric": "wanda", "sparsity": 0.5, "seed": 3, "windows": 6},
        pruned=result,
        calibration=Text("pydoc", "some text", "calibration"),
        perplexity={"before": 10.5, "after": float("inf")},
        seconds={"evaluation": 1.5},
    )
    save(loaded.model, loaded.tokenizer, content, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "pruning.json").read_text())
    assert found["metric"]["source"] == "abs(W) * X"
    name = str(tmp_path / "in")
    assert found["model"] == {"name": name, "sha256": loaded.sha256, "dtype": "float32", "license": None}
    assert found["options"]["seed"] == 3
    assert found["target"] == {"per": None, "sparsity": 0.5, "pattern": None}
    assert found["data"]["calibration"]["part"] == "calibration"
    assert len(found["data"]["calibration"]["sha256"]) == 64
    assert found["data"]["evaluation"] is None
    assert found["sparsity"]["after"] == 0.5
    assert len(found["sparsity"]["layers"]) == 21
    assert found["perplexity"] == {"before": 10.5, "after": None}
    assert {"statistics", "masks", "evaluation"} <= set(found["seconds"])
    assert found["versions"] == versions()
    assert set(versions()) == {"python", "pzc", "torch", "transformers", "numpy"}


def test_an_existing_folder_is_kept(tiny: Callable[..., Any], tokenizer: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    save(tiny(), tokenizer, {"run": 1}, out)
    with pytest.raises(PruningError, match="exists already"):
        save(tiny(), tokenizer, {"run": 2}, out)
    assert json.loads((out / "pruning.json").read_text()) == {"run": 1}
    save(tiny(), tokenizer, {"run": 2}, out, overwrite=True)
    assert json.loads((out / "pruning.json").read_text()) == {"run": 2}
    assert list(tmp_path.iterdir()) == [out]


def test_what_is_no_model_is_never_overwritten(tiny: Callable[..., Any], tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(PruningError, match="no model's folder"):
        save(tiny(), tokenizer, {}, tmp_path, overwrite=True)
    with pytest.raises(PruningError, match="is a file"):
        save(tiny(), tokenizer, {}, tmp_path / "thesis.txt", overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_full_disk_leaves_what_was_there(
    tiny: Callable[..., Any],
    tokenizer: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    overwrite: bool,
) -> None:
    out, model = tmp_path / "out", tiny()
    if overwrite:
        save(model, tokenizer, {"run": 1}, out)

    def fail(folder: Path, **options: Any) -> None:
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(model, "save_pretrained", fail)
    with pytest.raises(PruningError, match=r"cannot be written: the disk is full"):
        save(model, tokenizer, {"run": 2}, out, overwrite=overwrite)
    assert list(tmp_path.iterdir()) == ([out] if overwrite else [])
    if overwrite:
        assert json.loads((out / "pruning.json").read_text()) == {"run": 1}


def hang_before_the_rename(folder: str) -> None:
    """Save in a process of its own, and stop where all is written but the folder has no name yet."""
    from tests.conftest import make_tiny, make_tokenizer

    def wait(partial: Path, final: Path) -> None:
        (Path(folder) / "ready").touch()
        time.sleep(600)

    checkpoint._exchange = wait
    save(make_tiny(), make_tokenizer(), {"run": 1}, Path(folder) / "out")


def test_a_killed_save_leaves_no_folder_and_the_next_one_cleans_up(
    tiny: Callable[..., Any], tokenizer: Any, tmp_path: Path
) -> None:
    process = multiprocessing.get_context("spawn").Process(target=hang_before_the_rename, args=(str(tmp_path),))
    process.start()
    deadline = time.monotonic() + 600
    while not (tmp_path / "ready").exists() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (tmp_path / "ready").exists()
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [f".out.partial-{process.pid}", "ready"]
    save(tiny(), tokenizer, {"run": 2}, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "ready"]
    assert json.loads((tmp_path / "out" / "pruning.json").read_text()) == {"run": 2}


def test_a_save_killed_between_two_renames_is_mended(tiny: Callable[..., Any], tokenizer: Any, tmp_path: Path) -> None:
    gone = 2**22 + 1  # beyond the largest process id of Linux
    out = tmp_path / "out"
    save(tiny(), tokenizer, {"run": 1}, out)
    out.rename(tmp_path / f".out.old-{gone}")
    with pytest.raises(PruningError, match="exists already"):
        save(tiny(), tokenizer, {"run": 2}, out)
    assert json.loads((out / "pruning.json").read_text()) == {"run": 1}


def test_folders_of_processes_that_live_are_left_alone(
    tiny: Callable[..., Any], tokenizer: Any, tmp_path: Path
) -> None:
    busy = tmp_path / f".out.partial-{os.getppid()}"
    other = tmp_path / ".other.partial-99999999"
    busy.mkdir()
    other.mkdir()
    save(tiny(), tokenizer, {}, tmp_path / "out")
    assert busy.is_dir()
    assert other.is_dir()


def test_a_link_is_no_place_for_a_model(tmp_path: Path) -> None:
    """What it leads to may be another disk, or nothing yet: known before hours of work."""
    for target in ("nothing", "model"):
        (tmp_path / "out").unlink(missing_ok=True)
        (tmp_path / "out").symlink_to(tmp_path / target)
        with pytest.raises(PruningError, match="out is a link") as caught:
            check_output(tmp_path / "out", overwrite=True)
        assert caught.value.hint == f"name the folder itself: {tmp_path / target}"
        (tmp_path / "model").mkdir(exist_ok=True)


def test_a_folder_without_access(
    tiny: Callable[..., Any], tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*args: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as m:
        if os.geteuid() == 0:  # root may write everywhere
            m.setattr(tempfile, "TemporaryFile", denied)
        tmp_path.chmod(0o500)
        with pytest.raises(PruningError, match="out cannot be written: permission denied"):
            check_output(tmp_path / "out")
        tmp_path.chmod(0o700)
    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(PruningError, match="out cannot be written: permission denied"):
        save(tiny(), tokenizer, {}, tmp_path / "out")
