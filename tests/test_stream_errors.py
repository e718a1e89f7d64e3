"""What streaming says when a model's files are spoilt or are not what it can stream."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    BambaConfig,
    CTRLConfig,
    CTRLLMHeadModel,
    GPT2Config,
    GPT2LMHeadModel,
    RwkvConfig,
    Zamba2Config,
)

from pzc.runtime import shards
from pzc.runtime.errors import NoGradient, PruningError
from pzc.runtime.models.loading import load_model
from pzc.runtime.pruning.mask_files import write_masks
from pzc.runtime.pruning.prune import prune
from pzc.runtime.pruning.request import Request
from pzc.runtime.shard_writing import Copy
from pzc.runtime.shards import INDEX, open_shards, read, read_as
from pzc.runtime.statistics.sequential import NoChain
from pzc.runtime.streaming import model as stream_model
from pzc.runtime.streaming.apply import stream_masks
from pzc.runtime.streaming.flow import Flow
from pzc.runtime.streaming.model import open_shell
from pzc.runtime.streaming.stream import Windows, stream
from tests.terminal import Terminal
from tests.test_stream import source, streamed, weights_of

__all__ = ["source"]

SMALL = {
    "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip


def last(folder: Path) -> Path:
    return sorted(folder.glob("*.safetensors"))[-1]


def spoil(folder: Path, how: str) -> None:
    file = last(folder)
    content = file.read_bytes()
    if how == "cut short":
        file.write_bytes(content[:-10])
    elif how == "longer":
        file.write_bytes(content + b"more")
    elif how == "no header":
        file.write_bytes(b"\0" * 100)
    elif how == "header is no JSON":
        file.write_bytes(content[:8] + b"x" + content[9:])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "missing":
        file.unlink()
    elif how == "sizes that don't fit":
        file.write_bytes(content.replace(b"[16]", b"[17]", 1))
    elif how == "a tensor less":
        tensors = load_file(file)
        tensors.pop(next(iter(tensors)))
        save_file(tensors, file)
    elif how == "no index":
        (folder / INDEX).unlink()
    elif how == "bad index":
        (folder / INDEX).write_text("[]")
    elif how == "index outside":
        (folder / INDEX).write_text(json.dumps({"weight_map": {"a": "../a.safetensors"}}))
    elif how == "a block more":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4, "layer_types": None}))
    elif how == "quantised":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("cut short", "is damaged: it is cut short"),
        ("longer", "longer than its header says"),
        ("no header", "no safetensors header"),
        ("header is no JSON", "its header is no JSON"),
        ("empty", "no safetensors header"),
        ("missing", "is missing"),
        ("sizes that don't fit", "is damaged at the tensor"),
        ("a tensor less", "lacks the tensor"),
        ("no index", "holds no safetensors weights"),
        ("bad index", "is no index"),
        ("index outside", "outside its folder"),
        ("a block more", "9 are missing or have another size, such as model.layers.3"),
        ("quantised", "quantised"),
    ],
)
def test_spoilt_folders_are_refused_before_anything_is_written(
    how: str, message: str, source: Callable[..., Path], tmp_path: Path, terminal: Terminal
) -> None:
    folder = source()
    spoil(folder, how)
    shown = terminal("prune", "--stream", "-f", "magnitude", "-m", str(folder), "-o", "out", "-l", "8")
    assert shown.code == 1
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_shard_that_is_cut_while_it_is_read(source: Callable[..., Path]) -> None:
    file = last(source())
    stored = list(open_shards(file.parent).tensors.values())[-1]
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(PruningError, match="cut short"):
        read(stored)
    with pytest.raises(PruningError, match="cut short"):
        read_as(stored, torch.float64)


def test_a_tensor_is_read_in_another_type(source: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_CONVERTED", 100)  # several pieces, of which the last is short
    for stored in open_shards(source(dtype="bfloat16")).tensors.values():
        plain = read(stored)
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            found = read_as(stored, dtype)
            assert found.dtype == dtype
            assert torch.equal(found, plain.to(dtype))


def test_a_disk_that_fills_up_leaves_no_folder_and_the_same_command_goes_on(
    source: Callable[..., Path], windows: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: Terminal
) -> None:
    folder = source()
    write = Copy.write

    def fail(self: Copy, key: str, tensor: Tensor) -> None:
        if "layers.1" in key:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, key, tensor)

    text = tmp_path / "text.txt"
    text.write_text("the of and a to in is it\nthat was for on are as with the\n" * 40)
    command = ("prune", "--stream", "-f", "wanda", "-m", str(folder), "-o", "out", "-d", str(text))
    command = (*command, "-n", "2", "--eval-windows", "2", "-l", "8", "--device", "cpu")
    with monkeypatch.context() as m:
        m.setattr(Copy, "write", fail)
        shown = terminal(*command)
    assert (shown.code, "the disk is full" in shown.err) == (1, True)
    assert not (tmp_path / "out").exists()
    shown = terminal(*command)
    assert shown.code == 0, shown.err
    assert "blocks: 3/3" in shown.err
    assert "blocks: 1/3" not in shown.err
    kept = json.loads((tmp_path / "out" / "pruning.json").read_text())
    assert kept["options"]["stream"] is True
    assert kept["sparsity"]["after"] == 0.5


def test_an_output_folder_that_is_there_is_kept(source: Callable[..., Path], windows: Tensor, tmp_path: Path) -> None:
    folder = source()
    streamed(folder, tmp_path / "out", "magnitude", windows)
    with pytest.raises(PruningError, match="exists already"):
        streamed(folder, tmp_path / "out", "wanda", windows)
    assert json.loads((tmp_path / "out" / "pruning.json").read_text()) == {"a": 1}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_appears_meanwhile_is_kept(
    overwrite: bool, source: Callable[..., Path], windows: Tensor, tmp_path: Path
) -> None:
    shell, request = open_shell(str(source()), device="cpu"), Request.of("magnitude")
    out = tmp_path / "out"
    texts = Windows(windows, windows[:2])

    def meanwhile() -> None:
        with stream(shell, request, texts, out, overwrite=overwrite) as (result,):
            out.mkdir()
            (out / "thesis.txt").write_text("years", encoding="utf-8")
            result.save({"a": 1})

    with pytest.raises(PruningError, match=r"exists already|is no model's folder"):
        meanwhile()
    assert (out / "thesis.txt").read_text(encoding="utf-8") == "years"
    (out / "thesis.txt").unlink()
    out.rmdir()
    streamed(tmp_path / "source", out, "magnitude", windows)  # what was done is not lost
    assert (out / "config.json").is_file()


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        (("-f", "abs(W) * X per model", "--sequential"), "one group for the whole model", 1),
        (("-f", "wanda", "-d", "self"), "`self` is written by the whole model", 2),
        (("-f", "wanda", "--trust-remote-code"), "runs no code", 2),
        (("-f", "wanda", "-m", "pocket", "--pattern", "2:5"), "needs a multiple of 5", 1),
        (("-f", "wanda", "-m", __file__), "only folders of safetensors shards are streamed", 1),
        (("-f", "wanda", "-m", "nowhere"), "there is no model `nowhere`", 1),
        (("-f", "ln(abs(W) - 1) per row"), "not finite", 1),
    ],
)
def test_what_cannot_be_streamed(
    options: tuple[str, ...], message: str, code: int, terminal: Terminal, tmp_path: Path
) -> None:
    shown = terminal("prune", "--stream", *options, "-o", "out", "-n", "2", "--eval-windows", "2", "-l", "16")
    assert message in " ".join(shown.err.split())
    assert shown.code == code
    assert list(tmp_path.iterdir()) == []


def test_weights_under_names_that_nobody_knows_are_refused(source: Callable[..., Path]) -> None:
    folder = source()
    for file in folder.glob("*.safetensors"):
        save_file({f"some.{key}": value for key, value in load_file(file).items()}, file, {"format": "pt"})
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"] = {f"some.{key}": file for key, file in index["weight_map"].items()}
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(PruningError, match="stored under other names") as caught:
        open_shell(str(folder))
    assert caught.value.hint == "prune it without --stream"


def test_tied_weights_that_are_stored_apart_must_be_the_same(
    source: Callable[..., Path], windows: Tensor, tmp_path: Path
) -> None:
    """transformers does not tie what differs; what is stored twice and alike is tied."""
    folder = source(tie_word_embeddings=True)
    index = json.loads((folder / INDEX).read_text())
    for factor, name in ((1.0, "same"), (1.5, "other")):
        file = folder / "model-head.safetensors"
        save_file({"lm_head.weight": weights_of(folder)["model.embed_tokens.weight"] * factor}, file)
        places = {**index["weight_map"], "lm_head.weight": file.name}
        (folder / INDEX).write_text(json.dumps({**index, "weight_map": places}))
        if name == "same":
            streamed(folder, tmp_path / name, "wanda", windows)
        else:
            with pytest.raises(PruningError, match="differ, but its config"):
                streamed(folder, tmp_path / name, "wanda", windows)
        file.unlink()
    assert not (tmp_path / "other").exists()


def test_a_model_of_another_shape(tokenizer: Any, windows: Tensor, tmp_path: Path) -> None:
    """GPT-2: weights `[in, out]`, biases, two embeddings, blocks that know their place, keys without a prefix."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=16, n_embd=16, n_layer=3, n_head=2, n_positions=32))
    model.save_pretrained(tmp_path / "source", max_shard_size=8000)
    bare = {key.removeprefix("transformer."): value for key, value in weights_of(tmp_path / "source").items()}
    for file in (tmp_path / "source").glob("model*"):
        file.unlink()
    save_file(bare, tmp_path / "source" / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(tmp_path / "source")
    for number, (metric, how) in enumerate((("wanda", {"sequential": True}), ("pruner_zero", {}))):
        out = tmp_path / f"out{number}"
        streamed(tmp_path / "source", out, metric, windows, **how)
        loaded = load_model(str(tmp_path / "source"), device="cpu").model
        prune(loaded, metric, windows=windows, **how)
        again = AutoModelForCausalLM.from_pretrained(out).state_dict()
        assert all(torch.equal(value, again[key]) for key, value in loaded.state_dict().items())


def test_a_model_that_scales_its_embeddings_in_place(tokenizer: Any, windows: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = CTRLConfig(vocab_size=16, n_embd=16, n_layer=2, n_head=2, dff=32, n_positions=32)
    CTRLLMHeadModel(config).save_pretrained(tmp_path / "source")
    tokenizer.save_pretrained(tmp_path / "source")
    streamed(tmp_path / "source", tmp_path / "out", "wanda", windows, sequential=True)
    loaded = load_model(str(tmp_path / "source"), device="cpu")
    prune(loaded.model, "wanda", windows=windows, sequential=True)
    found = weights_of(tmp_path / "out")
    assert all(value.equal(found[key]) for key, value in loaded.model.state_dict().items() if key in found)
    assert any((found[key] == 0).float().mean() == 0.5 for key in found)


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("how", [{}, {"per": "model"}, {"sequential": True}])
def test_layers_that_no_gradient_reaches_are_an_error(
    how: dict[str, Any], kept: bool, source: Callable[..., Path], windows: Tensor, tmp_path: Path
) -> None:
    """Those of attention whose output is multiplied by zeros, whether gradients are gathered or kept from a run in
    memory."""
    folder = source()
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.model.layers[1].self_attn.o_proj.weight.data.zero_()
    model.save_pretrained(folder)
    how = {**how, "cache": tmp_path / "cache"} if kept else how
    if kept:
        with pytest.raises(NoGradient):
            prune(model, "abs(W) * X * G per row", windows=windows, **how)
    missing = ", ".join(f"model.layers.1.self_attn.{x}_proj" for x in "qkv")
    with pytest.raises(NoGradient, match=f"no gradient reaches {missing}\n"):  # then comes the hint
        streamed(folder, tmp_path / "out", "abs(W) * X * G per row", windows, **how)
    assert {path.name for path in tmp_path.iterdir()} - {"cache"} == {"source"}


@pytest.mark.parametrize(
    "config",
    [
        BambaConfig(**SMALL, intermediate_size=32, mamba_n_heads=4, mamba_d_head=8, mamba_d_state=8, mamba_n_groups=1),
        RwkvConfig(**SMALL, context_length=32),
    ],
    ids=["two values", "three values"],
)
def test_blocks_that_return_something_else_are_refused(
    config: Any, tokenizer: Any, windows: Tensor, tmp_path: Path
) -> None:
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "source")
    tokenizer.save_pretrained(tmp_path / "source")
    with pytest.raises(NoChain, match="are no chain") as caught:
        streamed(tmp_path / "source", tmp_path / "out", "wanda", windows)
    assert caught.value.hint == "prune it without --stream"
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_weights_that_several_blocks_share_are_refused(tokenizer: Any, windows: Tensor, tmp_path: Path) -> None:
    sizes = {**SMALL, "num_hidden_layers": 4, "num_key_value_heads": 4, "layers_block_type": ["mamba", "hybrid"] * 2}
    mamba = {"mamba_d_state": 8, "n_mamba_heads": 4, "mamba_ngroups": 1, "num_mem_blocks": 1}
    model = AutoModelForCausalLM.from_config(Zamba2Config(**sizes, **mamba, intermediate_size=32))
    model.save_pretrained(tmp_path / "source")
    tokenizer.save_pretrained(tmp_path / "source")
    masks: dict[str, Tensor] = {}
    prune(model, "magnitude", on_mask=masks.__setitem__)
    write_masks(tmp_path / "masks", masks)
    message = r"layers\.1\.shared_transformer\.self_attn\.q_proj shares its weight with other layers"
    with pytest.raises(PruningError, match=message):
        streamed(tmp_path / "source", tmp_path / "out", "wanda", windows)
    shell = open_shell(str(tmp_path / "source"), device="cpu")
    with pytest.raises(PruningError, match=message), stream_masks(shell, tmp_path / "masks", tmp_path / "out"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["masks", "source"]


def test_a_model_with_two_lists_of_blocks_whose_weights_are_stored_joined(
    tokenizer: Any, tmp_path: Path, terminal: Terminal
) -> None:
    """One list is pruned, with a warning; transformers makes q, k, v and a gate of each stored tensor."""
    if not hasattr(transformers, "HrmTextConfig"):
        pytest.skip("this transformers has no such model")
    config = transformers.HrmTextConfig(**SMALL, intermediate_size=32, head_dim=4)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "source")
    tokenizer.save_pretrained(tmp_path / "source")
    command = ("prune", "-f", "magnitude", "-m", str(tmp_path / "source"), "-o", "out", "--eval-windows", "0")
    shown = terminal(*command, "--stream")
    assert shown.code == 1
    assert "several parameters are made of model.H_module.layers.0.attn.gqkv_proj.weight" in " ".join(shown.err.split())
    assert "prune it without --stream" in shown.err
    shown = terminal(*command)
    assert shown.code == 0, shown.err
    assert "warning: model.H_module.layers holds blocks, too, which stay dense" in shown.err
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out").model
    for stack, share in ((found.L_module, 0.5), (found.H_module, 0.0)):
        assert all(float((x.mlp.up_proj.weight == 0).float().mean()) == share for x in stack.layers)


def test_a_defect_before_any_block_is_done_leaves_nothing_behind(
    source: Callable[..., Path], windows: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = source()

    def defective(*args: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(Flow, "entering", defective)
    with pytest.raises(RuntimeError, match="a defect"):
        streamed(folder, tmp_path / "out", "wanda", windows)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_another_type_is_written_as_it_is_loaded(
    dtype: str, source: Callable[..., Path], windows: Tensor, tmp_path: Path
) -> None:
    folder = source()
    streamed(folder, tmp_path / "out", "wanda", windows, dtype=dtype)
    loaded = load_model(str(folder), device="cpu", dtype=dtype).model
    prune(loaded, "wanda", windows=windows)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert again.dtype == getattr(torch, dtype)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in loaded.state_dict().items())


@pytest.mark.parametrize("said", [None, "float32", "bfloat16"])
def test_the_type_is_what_loading_would_take(said: str | None, source: Callable[..., Path]) -> None:
    folder = source(dtype="bfloat16")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": said}))
    expected = load_model(str(folder), device="cpu").dtype
    shell = open_shell(str(folder), device="cpu")
    assert shell.loaded.dtype == expected
    assert {slot.tensor.dtype for slot in shell.slots.values()} == {expected}


def test_a_hub_id_is_fetched_first(source: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = source()

    def fetch(name: str, allow_patterns: list[str]) -> str:
        assert name == "org/name"
        assert not any("bin" in pattern for pattern in allow_patterns)
        assert "README.md" in allow_patterns
        return str(folder)

    monkeypatch.setattr(stream_model, "snapshot_download", fetch)
    assert open_shell("org/name", device="cpu").loaded.sha256 == load_model(str(folder), device="cpu").sha256


def test_weights_come_and_go_with_their_block(source: Callable[..., Path]) -> None:
    shell = open_shell(str(source()), device="cpu")

    def there() -> list[bool]:
        return [slot.filled for slots in shell.blocks for slot in slots]

    sizes = [len(slots) for slots in shell.blocks]
    for index in range(3):
        with shell.block(index, following=index + 1 if index < 2 else None):
            assert there() == [i == index for i, size in enumerate(sizes) for _ in range(size)]
    with shell.around():
        shell.model.get_input_embeddings()(torch.tensor([[1, 2]]))  # type: ignore[operator]
        assert not any(there())
    assert not any(slot.filled for slot in shell.slots.values())


def test_copies_to_an_accelerator_are_waited_for_by_its_own_work(
    source: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of calls, without an accelerator: copies on a stream of their own, an event behind them, and the work
    that follows waits for that event."""
    order: list[str] = []

    class Stream:
        def __init__(self, device: torch.device | None = None) -> None:
            self.device = device

        def __enter__(self) -> None:
            order.append("enter")

        def __exit__(self, *error: object) -> None:
            order.append("leave")

        def record_event(self) -> Any:
            order.append("event")
            return self

        def synchronize(self) -> None:
            order.append("synchronize")

        def wait_event(self, event: Any) -> None:
            order.append("wait")

    def pinned(stored: shards.Stored, *, pinned: bool = False) -> Tensor:
        order.append("read pinned" if pinned else "read")
        return read(stored)

    shell = open_shell(str(source(dtype="bfloat16")), device="cpu")
    monkeypatch.setattr(torch, "Stream", Stream)
    monkeypatch.setattr(torch.accelerator, "current_stream", Stream)
    monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: order.append("kept"))
    monkeypatch.setattr("pzc.runtime.models.stored.read", pinned)
    found = stream_model.arriving(shell.blocks[1], None, torch.device("cpu")).here()
    count = len(shell.blocks[1])
    assert order == ["enter", *["read pinned"] * count, "event", "leave", "synchronize", "wait", *["kept"] * count]
    assert all(torch.equal(found[slot.name], slot.source.read()) for slot in shell.blocks[1])
