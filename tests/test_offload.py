"""Models whose weights accelerate keeps in the CPU's memory, here to run on the CPU too: its hooks are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from pzc.runtime.errors import PruningError
from pzc.runtime.evaluation.evaluate import window_losses
from pzc.runtime.models.layers import find_layers
from pzc.runtime.models.passes import device_of
from pzc.runtime.pruning.prune import prune
from pzc.runtime.saving.checkpoint import save
from tests.families import make_family, some_windows

accelerate = pytest.importorskip("accelerate")


PLAIN = {"tie_word_embeddings": False}


def offloaded(model: Any) -> Any:
    """The model with all of its weights offloaded, as `device_map="auto"` does with what fits no accelerator."""
    accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
    model.hf_device_map = {"model": "cpu", "lm_head": 0}  # by which transformers knows it when it saves
    assert all(parameter.is_meta for parameter in model.parameters())
    return model


@pytest.mark.parametrize(
    ("metric", "how"),
    [
        ("magnitude", {}),
        ("wanda", {}),
        ("wanda", {"sequential": True, "pattern": (2, 4)}),
        ("abs(W) * X + noise per model", {}),
        ("wanda", {"update": "obs", "allocation": "owl"}),
        ("sparsegpt", {}),
    ],
)
@pytest.mark.parametrize("family", ["Llama", "GPT2", "Phi3"])
def test_offloaded_weights_are_pruned_where_they_are_kept(
    family: str, metric: str, how: dict[str, Any], tokenizer: Any, tmp_path: Path
) -> None:
    windows, expected = some_windows(), make_family(family, **PLAIN)
    model = offloaded(make_family(family, **PLAIN))
    assert device_of(model).type == "cpu"
    one, other = (prune(m, metric, windows=windows, **how) for m in (model, expected))
    assert one.layers == other.layers
    for layer, plain in zip(find_layers(model).layers, find_layers(expected).layers, strict=True):
        assert torch.equal(layer.weight, plain.weight)
    assert window_losses(model, windows) == pytest.approx(window_losses(expected, windows), rel=1e-5)
    save(model, tokenizer, {}, tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(value, again[key]) for key, value in expected.state_dict().items())


def test_what_cannot_be_done_to_offloaded_weights_is_said(
    tiny: Callable[..., Any], windows: torch.Tensor, tokenizer: Any, tmp_path: Path
) -> None:
    with pytest.raises(PruningError, match="gradients need all weights where they are used") as caught:
        prune(offloaded(tiny()), "pruner_zero", windows=windows)
    assert "--stream" in str(caught.value.hint)
    model = tiny()
    accelerate.disk_offload(model, str(tmp_path / "disk"), execution_device=torch.device("cpu"))
    with pytest.raises(PruningError, match="is not in memory") as caught:
        prune(model, "wanda", windows=windows)
    assert "--stream" in str(caught.value.hint)
    with pytest.raises(PruningError, match="tied and offloaded"):
        save(offloaded(make_family("GPT2")), tokenizer, {}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(PruningError, match="experts"):
        prune(offloaded(make_family("Mixtral")), "wanda", windows=some_windows())
