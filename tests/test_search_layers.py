"""A search with `--include` and `--exclude` keeps to its layers, from the first candidate to the report."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from pzc.cli.main import pzc as cli
from pzc.runtime.errors import PruningError
from pzc.runtime.models.loading import load_model
from pzc.search.errors import StoreError
from pzc.search.place import Place
from pzc.search.reading import check_comparable, read_run
from pzc.search.report.measure import measure
from pzc.search.transfer import kept
from tests.runs import SMALL


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small search on `pocket` that leaves keys and the first block dense."""
    folder = tmp_path_factory.mktemp("runs") / "some"
    done = CliRunner().invoke(
        cli, ["search", *SMALL, "--exclude", "k_proj", "--exclude", "layers.0.*", "--run", str(folder)]
    )
    assert done.exit_code == 0, done.output
    return folder


def is_dense(name: str) -> bool:
    return name.endswith("k_proj") or ".layers.0." in name


def test_the_command_that_is_printed_prunes_what_the_search_pruned(run: Path, tmp_path: Path) -> None:
    """Its perplexity is that of the run, and in the saved model plain torch finds zeros where the run had them."""
    settings = read_run(Place(run)).settings
    metric, out = str(run / "hall_of_fame" / "01.pzm"), tmp_path / "out"
    layers = [part for glob in settings["exclude"] for part in ("--exclude", glob)]
    texts = ["--windows", "2", "--length", "32", "--eval-windows", "4"]
    done = CliRunner().invoke(cli, ["prune", "-m", "pocket", "-f", metric, *layers, *texts, "-o", str(out), "--json"])
    assert done.exit_code == 0, done.output
    dense = dict(load_model("pocket").model.state_dict())
    for name, weight in load_file(out / "model.safetensors").items():
        layer = name.removesuffix(".weight")
        if layer.endswith("_proj"):
            assert torch.equal(weight, dense[name]) == is_dense(layer), name
    assert "of pocket --exclude k_proj --exclude 'layers.0.*' at 50%" in Path(metric).read_text(encoding="utf-8")
    (held_out,) = re.findall(r"held-out text: perplexity ([\d.]+)\.$", Path(metric).read_text(encoding="utf-8"), re.M)
    measured = CliRunner().invoke(cli, ["eval", "-m", str(out), "--eval-windows", "4", "--length", "32", "--json"])
    perplexity = json.loads(measured.stdout)["perplexity"]
    assert float(held_out) == pytest.approx(perplexity, abs=1e-3)


def test_the_report_and_transfers_keep_to_the_layers(run: Path) -> None:
    measured = measure(read_run(Place(run)), eval_windows=2)
    assert measured.blocks
    assert not [name for name in measured.blocks if is_dense(name)]
    options = ["--eval-windows", "2", "--members", "1", "--zoo", "1", "--quiet"]
    for more in ([], ["--exclude", "q_proj"], ["--include", "*"]):
        assert CliRunner().invoke(cli, ["search", "transfer", str(run), *options, *more]).exit_code == 0
    rows = [row for row in kept(run) if row["metric"] == "01"]
    assert [(row["include"], row["exclude"]) for row in rows] == [
        (None, "k_proj layers.0.*"), (None, "q_proj"), ("*", None),
    ]  # fmt: skip
    assert len({row["perplexity"] for row in rows}) == 3


def test_a_run_has_its_layers_for_good(run: Path) -> None:
    again = ["search", "--resume", str(run), "--quiet"]
    assert CliRunner().invoke(cli, [*again, "--exclude", "k_proj", "--exclude", "layers.0.*"]).exit_code == 0
    other = CliRunner().invoke(cli, [*again, "--exclude", "q_proj"])
    assert (other.exit_code, "--exclude of a run cannot change" in other.output) == (2, True)
    joined = CliRunner().invoke(cli, ["search", "--join", str(run), "--include", "q_proj"])
    assert (joined.exit_code, "--include does not go with --join" in joined.output) == (2, True)


def test_runs_on_other_layers_are_not_comparable(run: Path) -> None:
    one = read_run(Place(run))
    other = replace(one, settings={**one.settings, "exclude": []})
    earlier = replace(one, settings={key: v for key, v in other.settings.items() if key != "exclude"})
    check_comparable(other, earlier)
    with pytest.raises(StoreError, match="its exclude is another"):
        check_comparable(one, other)


def test_layers_that_are_not_there_end_a_search_before_it_begins(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["search", *SMALL, "--include", "w1", "--run", str(tmp_path / "run")])
    assert isinstance(done.exception, PruningError)
    assert "w1" in done.exception.message
