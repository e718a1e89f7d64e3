"""Statistics in one file: gathered once, the same for every process of a machine."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from pzc.runtime.errors import PruningError
from pzc.runtime.models.layers import find_layers
from pzc.runtime.models.loading import load_model
from pzc.runtime.planning.texts import texts_for
from pzc.runtime.statistics.gather import Statistics, gather
from pzc.search.place import Place
from pzc.search.prepare import open_store, prepare
from pzc.search.shared import private_folder, shared
from tests.searches import SETTINGS, genotype, tiny_fitness, tiny_statistics

ABOUT = "a model and six windows"


@pytest.fixture(scope="module")
def gathered() -> Statistics:
    return tiny_fitness().statistics


def never() -> Statistics:
    raise AssertionError("gathered again")


def assert_equal(a: Statistics, b: Statistics) -> None:
    assert (a.windows, a.seed, a.blocks) == (b.windows, b.seed, b.blocks)
    assert a.tables.keys() == b.tables.keys()
    for layer, table in a.tables.items():
        assert table.keys() == b.tables[layer].keys()
        for leaf, value in table.items():
            assert value.dtype == b.tables[layer][leaf].dtype
            assert torch.equal(value, b.tables[layer][leaf]), (layer, leaf)
        assert torch.equal(a.weights[layer], b.weights[layer])


def test_what_is_read_is_what_was_gathered(gathered: Statistics, tmp_path: Path) -> None:
    path = tmp_path / "statistics"
    assert_equal(shared(path, ABOUT, lambda: gathered), gathered)
    before = path.read_bytes()
    assert_equal(shared(path, ABOUT, never), gathered)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_what_is_about_something_else_is_gathered_anew(gathered: Statistics, tmp_path: Path) -> None:
    path, calls = tmp_path / "statistics", []

    def gather() -> Statistics:
        calls.append(path)
        return gathered

    for about in ("one", "one", "other", "other", "one"):
        shared(path, about, gather)
    assert len(calls) == 3


@pytest.mark.parametrize("damage", [b"", b"no safetensors", None], ids=["empty", "other", "cut"])
def test_a_damaged_file_is_gathered_anew(damage: bytes | None, gathered: Statistics, tmp_path: Path) -> None:
    path = tmp_path / "statistics"
    shared(path, ABOUT, lambda: gathered)
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    assert_equal(shared(path, ABOUT, lambda: gathered), gathered)
    assert_equal(shared(path, ABOUT, never), gathered)


def test_of_several_processes_one_gathers(gathered: Statistics, tmp_path: Path) -> None:
    path, log = tmp_path / "statistics", tmp_path / "log"

    def gather() -> Statistics:
        with log.open("a") as file:
            file.write("gathered\n")
        return gathered

    def process() -> None:
        assert_equal(shared(path, ABOUT, gather), gathered)

    fork = multiprocessing.get_context("fork")
    running = [fork.Process(target=process) for _ in range(4)]
    for p in running:
        p.start()
    for p in running:
        p.join(600)
        assert p.exitcode == 0
    assert log.read_text() == "gathered\n"


def test_a_candidate_is_measured_alike_from_the_file(tmp_path: Path) -> None:
    """The weights of the file are mapped; masks written into the model do not reach them."""
    path = tmp_path / "statistics"
    formulas = ["abs(W) * X per row", "abs(W) * G per model", "abs(W) per layer"]
    plain = tiny_fitness()
    first, second = (tiny_fitness(statistics=shared(path, ABOUT, tiny_statistics)) for _ in range(2))
    before = path.read_bytes()
    for formula in formulas:
        masks, name = plain.masks(genotype(formula))
        want = plain.race(masks)
        for fitness in (first, second):
            again, same = fitness.masks(genotype(formula))
            assert same == name
            assert fitness.race(again) == want
    assert path.read_bytes() == before


def test_temporary_files_of_a_user_are_seen_by_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = private_folder()
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "kept").touch()
    assert private_folder() == folder
    folder.chmod(0o755)
    with pytest.raises(PruningError, match="alone may use"):
        private_folder()
    folder.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").chmod(0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PruningError, match="alone may use"):
        private_folder()


def test_a_full_disk_is_said(gathered: Statistics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"some")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("pzc.search.shared.save_file", full)
    with pytest.raises(PruningError, match=r"statistics cannot be shared in .*: the disk is full"):
        shared(tmp_path / "statistics", ABOUT, lambda: gathered)
    assert not list(tmp_path.glob("*partial*"))


def pieces(windows: torch.Tensor) -> set[tuple[int, ...]]:
    """All pieces of 16 tokens in some windows."""
    return {tuple(piece) for piece in windows.unfold(1, 16, 1).flatten(0, 1).tolist()}


def test_statistics_of_text_that_the_model_writes_are_those_of_prune(tmp_path: Path) -> None:
    """However much more of it measures candidates."""
    leaves = ("X.l2",)
    for count in (4, 8):
        settings = replace(SETTINGS, data="self", fitness_windows=count)
        store, _ = open_store(Place(tmp_path / str(count)), settings)
        run = prepare(store, settings, device="cpu")
        loaded = load_model("pocket", device="cpu")
        texts = texts_for(loaded, leaves, "self", None, windows=2, eval_windows=7, length=32, seed=0)
        plain = gather(loaded.model, find_layers(loaded.model), texts.calibration_windows, leaves)
        for name, table in plain.tables.items():
            torch.testing.assert_close(run.fitness.statistics.tables[name]["X.l2"], table["X.l2"])
        assert texts.calibration_windows is not None
        measured = torch.cat([run.fitness.windows, *run.further])
        assert not pieces(texts.calibration_windows) & pieces(measured)
