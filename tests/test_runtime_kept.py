"""Statistics of gradients on disk: taken only where nothing that they depend on has changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pzc.runtime.errors import PruningError
from pzc.runtime.models.layers import find_layers
from pzc.runtime.statistics.gather import gather
from pzc.runtime.statistics.kept import flattened
from tests.families import make_family, some_windows

LEAVES = ("G.l2", "G.mean", "X.l2", "W")


def backwards(model: Any, windows: torch.Tensor, cache: Path, leaves: tuple[str, ...] = LEAVES) -> tuple[int, Any]:
    """How many backward passes a gathering took, and its tables."""
    count = [0]
    handle = model.lm_head.register_full_backward_hook(lambda *_: count.__setitem__(0, count[0] + 1))
    tables = gather(model, find_layers(model), windows, leaves, cache=cache).tables
    handle.remove()
    return count[0], tables


@pytest.mark.parametrize("family", ["Llama", "GPT2", "Mixtral"])
def test_the_same_run_takes_no_backward_pass_again(family: str, tmp_path: Path) -> None:
    model, windows = make_family(family), some_windows()
    plain = gather(model, find_layers(model), windows, LEAVES).tables
    first, found = backwards(model, windows, tmp_path / "cache")
    again, kept = backwards(make_family(family), windows, tmp_path / "cache")
    assert (first, again) == (4, 0)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".safetensors"]
    for name, table in plain.items():
        assert table.keys() == kept[name].keys()
        for leaf, value in table.items():
            assert torch.equal(found[name][leaf], value)
            torch.testing.assert_close(kept[name][leaf], value, rtol=1e-6, atol=1e-7)  # X comes from a batch now


def test_other_weights_windows_or_leaves_are_gathered_anew(
    tiny: Callable[..., Any], windows: torch.Tensor, tmp_path: Path
) -> None:
    model = tiny()
    assert backwards(model, windows, tmp_path)[0] == 6
    assert backwards(model, windows[:5], tmp_path)[0] == 5
    assert backwards(model, windows.flip(1), tmp_path)[0] == 6
    assert backwards(model, windows, tmp_path, ("G.l1",))[0] == 6
    assert backwards(model, windows, tmp_path)[0] == 0
    model.model.norm.weight.data[0] += 0.5
    assert backwards(model, windows, tmp_path)[0] == 6
    assert len(list(tmp_path.iterdir())) == 5


def test_another_configuration_is_gathered_anew(
    tiny: Callable[..., Any], windows: torch.Tensor, tmp_path: Path
) -> None:
    """The same weights with another base of rotary embeddings are another model."""
    model = tiny()
    assert backwards(model, windows, tmp_path)[0] == 6
    model.config.rope_parameters = {**model.config.rope_parameters, "rope_theta": 100.0}
    assert backwards(model, windows, tmp_path)[0] == 6
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_file_is_written_again(tiny: Callable[..., Any], windows: torch.Tensor, tmp_path: Path) -> None:
    model = tiny()
    backwards(model, windows, tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-50])
    assert backwards(model, windows, tmp_path)[0] == 6
    assert file.read_bytes() == whole


def test_a_folder_that_cannot_be_is_an_error(tiny: Callable[..., Any], windows: torch.Tensor, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PruningError, match="statistics cannot be kept in"):
        backwards(tiny(), windows, tmp_path / "file")


def test_what_is_kept_is_not_copied_to_be_written() -> None:
    """The gradients of a model are as large as the model; only what is part of something larger has to be copied."""
    own, experts = torch.rand(3, 4), torch.rand(2, 3, 4)
    tables = {"own": {"G": own}, "again": {"G": own}, "expert": {"G": experts[1]}, "turned": {"G": own.T}}
    written = flattened(tables, ["G"])
    assert written["G/own"].data_ptr() == own.data_ptr()
    assert written["G/again"].data_ptr() != own.data_ptr()
    assert written["G/expert"].untyped_storage().nbytes() == experts[1].nbytes
    assert written["G/turned"].is_contiguous()
    for name, table in tables.items():
        assert written[f"G/{name}"].equal(table["G"])
