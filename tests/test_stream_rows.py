"""Rows of embeddings that stay on the disk, beside torch's own lookup in the whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pzc.runtime.errors import PruningError
from pzc.runtime.models.passes import run_blocks
from pzc.runtime.shards import Stored, header_of
from pzc.runtime.streaming.flow import Flow
from pzc.runtime.streaming.model import Slot, open_shell
from pzc.runtime.streaming.rows import LookingUp, is_looked_up, looked_up
from tests.families import FAMILIES, make_family, some_windows


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    table = torch.randn(23, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    save_file({"before": torch.zeros(3), "table": table, "after": torch.ones(2)}, tmp_path / "t.safetensors")
    return header_of(tmp_path / "t.safetensors")["table"]


@pytest.mark.parametrize(
    "rows",
    [
        torch.randint(0, 23, (2, 9), generator=torch.Generator().manual_seed(1)),
        torch.tensor([[22, 0, 0, 22]]),
        torch.arange(23),
        torch.tensor([7]),
        torch.empty((0,), dtype=torch.int64),
    ],
)
def test_rows_are_those_of_the_whole(stored: Stored, rows: torch.Tensor) -> None:
    whole = load_file(stored.file)["table"]
    found = looked_up(stored, rows)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, whole[rows])


@pytest.mark.parametrize("row", [23, -1])
def test_a_row_that_is_not_there(stored: Stored, row: int) -> None:
    with pytest.raises(IndexError, match="table has 23 rows"):
        looked_up(stored, torch.tensor([0, row]))


def test_a_file_that_was_cut_meanwhile(stored: Stored) -> None:
    beyond = replace(stored, start=stored.start + 10_000, stop=stored.stop + 10_000)
    with pytest.raises(PruningError, match="cut short"):
        looked_up(beyond, torch.tensor([0]))


def test_what_is_looked_up_while_the_context_is_open(stored: Stored) -> None:
    """In the type of the tensor that stands for it; not of other tensors, nor of one that is there."""
    whole = load_file(stored.file)["table"].double()
    module, other = nn.Embedding(23, 5, padding_idx=3).double(), nn.Embedding(23, 5)
    ids, present = torch.tensor([[3, 4, 22]]), False
    with LookingUp({id(module.weight): stored}, lambda tensor: present):
        assert torch.equal(module(ids), whole[ids])
        assert torch.equal(other(ids), other.weight[ids])
        present = True
        assert torch.equal(module(ids), module.weight[ids])
    assert torch.equal(module(ids), module.weight[ids])


def test_an_embedding_that_changes_its_rows_is_not_only_looked_up() -> None:
    assert is_looked_up(nn.Embedding(4, 2))
    assert not is_looked_up(nn.Embedding(4, 2, max_norm=1.0))
    assert not is_looked_up(nn.Linear(4, 2))


@pytest.mark.parametrize("family", FAMILIES)
def test_no_embedding_is_ever_whole(
    family: str, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what enters the first block is what enters it in plain transformers, learned positions among it."""
    model = make_family(family)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    windows = some_windows()
    expected: list[torch.Tensor] = []
    shell = open_shell(str(tmp_path), device="cpu")
    block = shell.layers.blocks[0]
    index = [id(module) for module in shell.model.modules()].index(id(block))
    plain = list(model.modules())[index]
    plain.register_forward_pre_hook(
        lambda module, args, kwargs: expected.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    with torch.no_grad():
        run_blocks(model, windows)
    read: list[str] = []
    monkeypatch.setattr("pzc.runtime.streaming.model.Slot.read", _noting(read))
    with torch.no_grad(), shell.around():
        found = Flow(shell.model, shell.layers.blocks).entering(windows)
    assert torch.equal(found, expected[0])
    embeddings = {slot.name for module in shell.outside if is_looked_up(module) for slot in shell.outside[module]}
    assert embeddings
    assert not embeddings & set(read)


def _noting(read: list[str]) -> Any:
    original = Slot.read

    def noted(slot: Slot, *args: Any) -> torch.Tensor:
        read.append(slot.name)
        return original(slot, *args)

    return noted


def test_a_head_that_is_tied_is_read_whole_when_it_is_called(tokenizer: Any, tmp_path: Path) -> None:
    model = make_family("Llama", tie_word_embeddings=True)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    shell = open_shell(str(tmp_path), device="cpu")
    hidden = torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad(), shell.around():
        flow = Flow(shell.model, shell.layers.blocks)
        flow.calls(some_windows())
        logits = flow.leaving(hidden)
        again = flow.entering(some_windows())  # now that the weight is there
    with torch.no_grad():
        assert torch.equal(logits, model.lm_head(model.model.norm(hidden)))  # type: ignore[operator]
        assert torch.equal(again, model.get_input_embeddings()(some_windows()))
