"""Mask files: a bit a weight, read back as they were, by numpy alone too, and put on the model that they are for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given
from hypothesis.extra import numpy as hnp

import pzc
from pzc.runtime.errors import PruningError
from pzc.runtime.files import check_writable
from pzc.runtime.models.layers import find_layers
from pzc.runtime.pruning.mask_files import apply_masks, check_model, packed, read_masks, unpacked, write_masks


def random_masks(model: Any) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {layer.name: torch.rand(layer.shape, generator=generator) < 0.5 for layer in find_layers(model).layers}


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=11)))
def test_packing_takes_an_eighth_and_loses_nothing(mask: np.ndarray) -> None:
    bits = packed(torch.from_numpy(mask))
    assert bits.shape == (-(-mask.size // 8),)
    assert np.array_equal(unpacked(bits, mask.shape).numpy(), mask)


def test_masks_come_back_and_any_safetensors_reader_can_read_them(tiny: Callable[..., Any], tmp_path: Path) -> None:
    masks = random_masks(tiny())
    masks["model.layers.0.mlp.up_proj"] = masks["model.layers.0.mlp.up_proj"].T.contiguous().T  # any strides
    path = write_masks(tmp_path / "deep" / "m.safetensors", masks, {"model": {"sha256": "ab"}, "metric": "|W| · ‖X‖"})
    found = read_masks(path)
    assert found.about == {"model": {"sha256": "ab"}, "metric": "|W| · ‖X‖"}
    assert found.sha256 == "ab"
    assert list(found.masks) == list(masks)
    assert all(torch.equal(found.masks[name], mask) for name, mask in masks.items())
    raw = safetensors.numpy.load_file(path)
    for name, mask in masks.items():
        flat = np.array([raw[name][k // 8] >> (k % 8) & 1 for k in range(mask.numel())], bool)
        assert np.array_equal(flat.reshape(mask.shape), mask.numpy())
    assert [p.name for p in path.parent.iterdir()] == ["m.safetensors"]


def test_a_mask_on_a_model_is_what_pruning_did(tiny: Callable[..., Any], windows: torch.Tensor, tmp_path: Path) -> None:
    pruned, model = tiny(), tiny()
    pzc.prune(pruned, "wanda", windows=windows)
    path = write_masks(tmp_path / "m.safetensors", {x.name: x.weight != 0 for x in find_layers(pruned).layers})
    pzc.apply_masks(model, pzc.read_masks(path).masks)
    for one, other in zip(find_layers(model).layers, find_layers(pruned).layers, strict=True):
        assert torch.equal(one.weight, other.weight)


def test_transposed_weights_take_masks_as_rows_of_outputs() -> None:
    from transformers import AutoModelForCausalLM, GPT2Config

    config = GPT2Config(vocab_size=20, n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0)
    model = AutoModelForCausalLM.from_config(config)
    masks = random_masks(model)
    apply_masks(model, masks)
    for layer in find_layers(model).layers:
        assert torch.equal(layer.module.weight.detach() != 0, masks[layer.name].T)


def test_masks_that_do_not_fit_leave_the_model_alone(tiny: Callable[..., Any]) -> None:
    model, dense = tiny(), tiny()
    masks = random_masks(model)
    for wrong, message in (
        ({**masks, "model.layers.9.mlp.up_proj": torch.ones(2, 2, dtype=torch.bool)}, "no layer model.layers.9"),
        ({**masks, "model.layers.2.mlp.down_proj": torch.ones(2, 2, dtype=torch.bool)}, "its weight is \\[16, 24\\]"),
        ({**masks, "model.layers.2.mlp.down_proj": torch.ones(16, 24)}, "float32"),
    ):
        with pytest.raises(PruningError, match=message):
            apply_masks(model, wrong)
    for one, other in zip(find_layers(model).layers, find_layers(dense).layers, strict=True):
        assert torch.equal(one.weight, other.weight)


def test_files_that_are_none_are_told(tmp_path: Path) -> None:
    good = write_masks(tmp_path / "good", {"a": torch.ones(3, 5, dtype=torch.bool)}).read_bytes()
    (tmp_path / "short").write_bytes(good[:-1])
    (tmp_path / "text").write_text("no masks here")
    (tmp_path / "empty").write_bytes(b"")
    safetensors.numpy.save_file({"a": np.zeros(2, np.uint8)}, tmp_path / "other", {"format": "pt"})
    for size in ("[4, 5]", "[3, 5, 1]", "3"):
        metadata = {"format": "pzc-mask/1", "layers": f'{{"a": {size}}}', "about": "{}"}
        safetensors.numpy.save_file({"a": np.zeros(2, np.uint8)}, tmp_path / f"sized {size}", metadata)
    for about in ("null", "[]", '"x"', "[" * 100_000):
        metadata = {"format": "pzc-mask/1", "layers": '{"a": [3, 5]}', "about": about}
        safetensors.numpy.save_file({"a": np.zeros(2, np.uint8)}, tmp_path / f"about {about[:4]!r}", metadata)
    metadata = {"format": "pzc-mask/1", "layers": json.dumps({"b": [3, 5]}), "about": "{}"}
    safetensors.numpy.save_file({"a": np.zeros(2, np.uint8)}, tmp_path / "renamed", metadata)
    (tmp_path / "folder").mkdir()
    said = {
        "absent": "no such file", "folder": "cannot read", "other": "its format is not", "renamed": "are not those",
        **dict.fromkeys(["short", "text", "empty", "sized", "about"], "damaged"),
    }  # fmt: skip
    for path in (tmp_path / "absent", *tmp_path.iterdir()):
        if path.name != "good":
            with pytest.raises(PruningError, match=said[path.name.split(" ")[0]]):
                read_masks(path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pzc.runtime.pruning import mask_files

    path = write_masks(tmp_path / "m", {"a": torch.ones(2, 2, dtype=torch.bool)}, {"run": 1})

    def full(tensors: Any, partial: Path, metadata: Any) -> None:
        partial.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mask_files, "save_file", full)
    with pytest.raises(PruningError, match="the disk is full"):
        write_masks(path, {"a": torch.zeros(2, 2, dtype=torch.bool)}, {"run": 2})
    assert read_masks(path).about == {"run": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_and_permissions_stay(tmp_path: Path) -> None:
    masks = {"a": torch.ones(2, 2, dtype=torch.bool)}
    there = write_masks(tmp_path / "there", masks)
    there.chmod(0o640)
    (tmp_path / "link").symlink_to(there)
    write_masks(tmp_path / "link", masks, {"run": 2})
    assert (tmp_path / "link").is_symlink()
    assert read_masks(there).about == {"run": 2}
    assert there.stat().st_mode & 0o777 == 0o640
    assert {path.name for path in tmp_path.iterdir()} == {"there", "link"}


def test_a_place_that_a_link_leads_to_is_tried_before(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file" / "masks")
    check_writable(tmp_path / "link")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(PruningError, match="cannot be written"):
        check_writable(tmp_path / "link")


def test_masks_of_another_model_are_told(tmp_path: Path) -> None:
    masks = {"a": torch.ones(2, 2, dtype=torch.bool)}
    file = read_masks(write_masks(tmp_path / "m", masks, {"model": {"name": "pocket", "sha256": "a" * 64}}))
    check_model(file, "a" * 64)
    check_model(read_masks(write_masks(tmp_path / "m", masks)), "b" * 64)  # a file that names no model
    with pytest.raises(PruningError, match="other weights: pocket with the hash aaaaaaaaaaaa…, not bbbbbbbbbbbb…"):
        check_model(file, "b" * 64)


def test_others_may_read_a_mask_file(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        path = write_masks(tmp_path / "masks.safetensors", {"a": torch.ones(2, 3, dtype=torch.bool)})
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_mask_fits_whatever_else_the_model_has(tiny: Callable[..., Any]) -> None:
    """A matrix that nobody knows was left dense by --exclude; routers are pruned only where they are named."""
    model = tiny()
    model.model.layers[0].adapter = torch.nn.Module()
    model.model.layers[0].adapter.table = torch.nn.Parameter(torch.ones(16, 16))
    names = [layer.name for layer in find_layers(model, exclude=["adapter.table"]).layers]
    pzc.apply_masks(model, {name: model.get_submodule(name).weight > 0 for name in names})
    assert (model.get_submodule(names[0]).weight >= 0).all()
    with pytest.raises(PruningError, match="is no linear layer that pzc knows"):
        pzc.apply_masks(model, {"nothing": torch.ones(2, 2, dtype=torch.bool)})


@pytest.mark.parametrize(
    "mask", [torch.ones(3, dtype=torch.bool), torch.ones(2, 2, dtype=torch.uint8), np.ones((2, 2), dtype=bool)]
)
def test_what_is_no_mask_is_not_written(mask: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="the mask of a is no bool tensor"):
        pzc.write_masks(tmp_path / "masks", {"a": mask})
    with pytest.raises(ValueError, match="JSON"):
        pzc.write_masks(tmp_path / "masks", {"a": torch.ones(2, 2, dtype=torch.bool)}, {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []
