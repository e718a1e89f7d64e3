"""`pzc prune` with updates, several sparsities, allocations and masks, and `pzc apply`, as a person would type them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import pzc
from pzc.runtime.models.layers import find_layers
from pzc.runtime.pruning.mask_files import read_masks
from tests.families import make_family
from tests.terminal import Terminal

SMALL = ("--windows", "2", "--eval-windows", "2", "--length", "32", "--threads", "1")


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "pruning.json").read_text(encoding="utf-8"))
    return found


def test_masks_go_to_a_file_and_from_there_onto_the_model(terminal: Terminal, tmp_path: Path) -> None:
    assert terminal("prune", "-f", "wanda", "-o", "out", *SMALL).code == 0
    shown = terminal("prune", "-f", "wanda", "--mask-only", "-o", "m.safetensors", *SMALL)
    assert shown.code == 0
    assert (tmp_path / "m.safetensors").stat().st_size < (tmp_path / "out/model.safetensors").stat().st_size / 16
    following = shown.err.split("next: pzc ")[1].split()
    assert terminal(*following[:-1], "again").code == 0
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "again"))
    assert all(one[name].equal(other[name]) for name in one)
    made, put = record(tmp_path / "out"), record(tmp_path / "again")
    assert put["metric"] == made["metric"]
    assert put["model"]["sha256"] == made["model"]["sha256"]
    assert put["sparsity"] == made["sparsity"]
    assert put["perplexity"] == made["perplexity"]


def test_masks_of_another_model_need_force(terminal: Terminal, tmp_path: Path) -> None:
    terminal("prune", "-f", "magnitude", "--mask-only", "-o", "m.safetensors", *SMALL)
    terminal("prune", "-f", "magnitude", "-o", "other", "--sparsity", "0.1", *SMALL)
    shown = terminal("apply", "m.safetensors", "-m", "other", "-o", "out")
    assert shown.code == 1
    assert "the masks were made for other weights: pocket" in shown.err
    assert "--force" in shown.err
    assert not (tmp_path / "out").exists()
    assert terminal("apply", "m.safetensors", "-m", "other", "-o", "out", "--force").code == 0
    assert record(tmp_path / "out")["mask"]["of_this_model"] is False
    assert record(tmp_path / "out")["perplexity"] is None


@pytest.mark.parametrize("way", [(), ("--stream",)])
def test_masks_are_put_on_no_weights_that_are_none(way: tuple[str, ...], terminal: Terminal, tmp_path: Path) -> None:
    terminal("prune", "-f", "magnitude", "--mask-only", "-o", "m.safetensors", *SMALL)
    terminal("prune", "-f", "magnitude", "-o", "nan", "--sparsity", "0.1", *SMALL)
    tensors = load_file(tmp_path / "nan" / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = torch.nan
    save_file(tensors, tmp_path / "nan" / "model.safetensors", {"format": "pt"})
    shown = terminal("apply", "m.safetensors", "-m", "nan", "-o", "out", "--force", *way)
    assert (shown.code, "weights of model.layers.1.mlp.up_proj are infinite or NaN" in shown.err) == (1, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("way", [(), ("--stream",)])
def test_masks_are_written_whatever_the_perplexity(way: tuple[str, ...], terminal: Terminal, tmp_path: Path) -> None:
    terminal("prune", "-f", "magnitude", "-o", "loud", "--sparsity", "0.1", *SMALL)
    tensors = load_file(tmp_path / "loud" / "model.safetensors")
    tensors["model.norm.weight"] *= 60000
    save_file(tensors, tmp_path / "loud" / "model.safetensors", {"format": "pt"})
    for mask_only in (True, False):
        written = ("--mask-only", "-o", "m.safetensors") if mask_only else ("-o", "out")
        shown = terminal("prune", "-m", "loud", "-f", "wanda", "--dtype", "float16", *written, *SMALL, *way)
        assert shown.code == 0
        assert "the perplexity of the dense model is not finite" in shown.err
    about = read_masks(tmp_path / "m.safetensors").about
    assert about["perplexity"] == record(tmp_path / "out")["perplexity"] == {"before": None, "after": None}
    assert "| perplexity | not finite dense, not finite pruned |" in (tmp_path / "out" / "README.md").read_text("utf-8")


def content(file: Path) -> dict[str, bytes]:
    return {key: value.view(torch.uint8).numpy().tobytes() for key, value in load_file(file).items()}


def test_masks_may_be_named_after_this_folder(terminal: Terminal, tmp_path: Path, monkeypatch: Any) -> None:
    """Of several sparsities each has a file beside the output, and `.` has a name too."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    shown = terminal("prune", "-f", "magnitude", "-m", "pocket", "-s", "0.3,0.5", "--mask-only", "-o", ".", *SMALL)
    assert shown.code == 0, shown.err
    assert {"here-0.3", "here-0.5"} <= {path.name for path in tmp_path.iterdir()}


def test_masks_of_routers_are_put_on_in_either_way(terminal: Terminal, tokenizer: Any, tmp_path: Path) -> None:
    model = make_family("Mixtral")
    model.save_pretrained(tmp_path / "mixture")
    tokenizer.save_pretrained(tmp_path / "mixture")
    pzc.prune(model, "abs(W) per row", include=["*", "gate"])
    layers = find_layers(model, include=["*", "gate"]).layers
    assert any(layer.name.endswith(".gate") for layer in layers)
    pzc.write_masks("m.safetensors", {layer.name: layer.weight != 0 for layer in layers})
    for way, out in ((), "memory"), (("--stream",), "streamed"):
        shown = terminal("apply", "m.safetensors", "-m", "mixture", *way, "-o", out)
        assert shown.code == 0, shown.err
    assert content(tmp_path / "memory/model.safetensors") == content(tmp_path / "streamed/model.safetensors")


def test_masks_are_put_on_from_shard_to_shard(terminal: Terminal, tmp_path: Path) -> None:
    asked = ("-f", "wanda", "-m", "pocket", "--exclude", "layers.1.*", *SMALL)
    assert terminal("prune", *asked, "--mask-only", "-o", "m.safetensors").code == 0
    for dtype in ((), ("--dtype", "bfloat16")):
        for way in ((), ("--stream",)):
            out = f"out{len(dtype)}{len(way)}"
            shown = terminal("apply", "m.safetensors", "-m", "pocket", *dtype, *way, "-o", out)
            assert (shown.code, shown.out.split()) == (0, ["sparsity", "50.00%", "21", "layers"]), shown.err
        one, other = (tmp_path / f"out{len(dtype)}{k}" for k in range(2))
        assert content(one / "model.safetensors") == content(other / "model.safetensors")
        assert record(one) == record(other)
        assert sorted(p.name for p in one.iterdir()) == sorted(p.name for p in other.iterdir())
    name = "model.layers.0.mlp.up_proj"
    pzc.write_masks("small.safetensors", {name: torch.ones(4, 4, dtype=torch.bool)})
    pzc.write_masks("odd.safetensors", {"lm_head": torch.ones(4, 4, dtype=torch.bool)})
    before = sorted(tmp_path.iterdir())
    shown = terminal("apply", "small.safetensors", "-m", "pocket", "--stream", "-o", "out")
    assert (shown.code, f"the mask of {name} is [4, 4], but its weight is" in shown.err) == (1, True)
    shown = terminal("apply", "odd.safetensors", "-m", "pocket", "--stream", "-o", "out")
    assert (shown.code, "the model has no layer lm_head" in shown.err) == (1, True)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("apply", "none.safetensors", "-o", "out"), 1, "no such file"),
        (("apply", "pyproject.toml", "-o", "out"), 1, "is no mask file, or is damaged"),
        (("prune", "-f", "wanda", "-s", "0.3,0.5", "--sequential", "-o", "out"), 1, "there is no sequential run"),
        (("prune", "-f", "sparsegpt", "-s", "0.3,0.5", "-o", "out"), 1, "there is no update `sparsegpt`"),
        (("prune", "-f", "sparsegpt", "--mask-only", "-o", "m"), 2, "--mask-only writes no weights"),
        (("prune", "-f", "sparsegpt", "--per", "row", "-o", "out"), 1, "128 columns"),
        (("prune", "-f", "wanda", "-s", "0.3,1", "-o", "out"), 2, "1 is not between 0 and 1"),
        (("prune", "-f", "wanda", "-s", "0.3,half", "-o", "out"), 2, "`half` is no number"),
        (("prune", "-f", "wanda", "-s", "0", "-o", "out"), 2, "0 is not between 0 and 1"),
        (("prune", "-f", "wanda", "--pattern", "2:5", "-o", "out", *SMALL), 1, "2:5 needs a multiple of 5 inputs"),
        (("prune", "-f", "wanda", "--allocation", "olw", "-o", "out"), 1, "did you mean `owl`"),
        (("prune", "-f", "wanda", "--allocation", "none.toml", "-o", "out"), 1, "cannot read none.toml"),
        (("prune", "-f", "wanda", "--mask-only", "-o", "."), 1, "is a folder"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(
    terminal: Terminal, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    shown = terminal(*arguments)
    assert shown.code == code
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert [path.name for path in tmp_path.iterdir()] == ["pyproject.toml"]


def test_several_sparsities_get_a_folder_each(terminal: Terminal, tmp_path: Path) -> None:
    shown = terminal("prune", "-f", "wanda", "-s", "0.3,0.5", "-o", "out", *SMALL)
    assert shown.code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.3", "0.5"]
    terminal("prune", "-f", "wanda", "-s", "0.3", "-o", "alone", *SMALL)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("out/0.3", "alone"))
    assert all(one[name].equal(other[name]) for name in one)
    assert record(tmp_path / "out/0.3")["options"]["sparsity"] == 0.3
    assert record(tmp_path / "out/0.3")["perplexity"] == record(tmp_path / "alone")["perplexity"]
    assert record(tmp_path / "out/0.5")["sparsity"]["after"] == pytest.approx(0.5, abs=1e-3)
    rows = terminal("prune", "-f", "wanda", "-s", "0.3,0.5", "--mask-only", "-o", "m.st", "--json", *SMALL).out
    assert [json.loads(line)["output"] for line in rows.splitlines()] == ["m-0.3.st", "m-0.5.st"]
    assert terminal("prune", "-f", "wanda", "-s", "0.3,0.5", "-o", "out", *SMALL).code == 1  # they exist


def test_the_update_lowers_the_perplexity_and_is_recorded(terminal: Terminal, tmp_path: Path) -> None:
    how = ("--windows", "16", "--eval-windows", "16", "--length", "128", "--threads", "1")
    after = {}
    for name, extra in {"mask": ("--sequential",), "obs": ("--update", "obs")}.items():
        assert terminal("prune", "-f", "wanda", *extra, "-o", name, *how).code == 0
        after[name] = record(tmp_path / name)["perplexity"]["after"]
    assert terminal("prune", "-f", "sparsegpt", "-o", "sparsegpt", *how).code == 0
    after["sparsegpt"] = record(tmp_path / "sparsegpt")["perplexity"]["after"]
    assert max(after["obs"], after["sparsegpt"]) < after["mask"]
    assert record(tmp_path / "mask")["update"] == {"method": "none", "damping": {}}
    assert record(tmp_path / "obs")["update"] == {"method": "obs", "damping": {}}
    assert record(tmp_path / "sparsegpt")["update"]["method"] == "sparsegpt"
    assert record(tmp_path / "sparsegpt")["sequential"] is True


def test_an_allocation_is_recorded_layer_by_layer(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[layers]\n"*_proj" = 0.5\nq_proj = 0.1\n')
    (tmp_path / "b.toml").write_text("[layers]\nq_proj = 0.1\n")
    for allocation in ("owl", "alpha", "b.toml"):
        assert terminal("prune", "-f", "wanda", "--allocation", allocation, "-o", allocation[:3], *SMALL).code == 0
        kept = record(tmp_path / allocation[:3])
        assert kept["allocation"].keys() == kept["sparsity"]["layers"].keys()
        assert len(set(kept["allocation"].values())) > 1
        assert kept["sparsity"]["after"] == pytest.approx(0.5, abs=1e-3)
    assert record(tmp_path / "b.t")["allocation"]["model.layers.0.self_attn.q_proj"] == pytest.approx(0.1, abs=0.01)
    (tmp_path / "c.toml").write_text('[layers]\n"mlp.*" = 0.32\n')
    shown = terminal("prune", "-f", "magnitude", "--allocation", "c.toml", "-o", "c", *SMALL)
    layer, share = max(record(tmp_path / "c")["allocation"].items(), key=lambda item: item[1])
    assert (shown.code, share > 0.9) == (0, True)
    assert f"c.toml prunes {layer} to {share:.1%}" in " ".join(shown.err.split())
    shown = terminal("prune", "-f", "wanda", "--allocation", "a.toml", "-s", "0.6", "-o", "a", *SMALL)
    assert shown.code == 1
    assert "names every layer and makes a sparsity of 0.5000, not 0.6000" in shown.err
    uniform = terminal("prune", "-f", "wanda", "-o", "u", "--json", *SMALL)
    assert json.loads(uniform.out)["allocation"] is None
