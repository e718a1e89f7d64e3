"""Loading models: a name becomes a causal language model in evaluation mode and its tokenizer.

Weights are read from safetensors and GGUF files only, never from pickles.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import cached_file
from transformers.utils.quantization_config import GgufConfig

from pzc.runtime.errors import PruningError, is_out_of_memory
from pzc.runtime.quiet import quiet
from pzc.runtime.shards import INDEX, SINGLE, open_shards

POCKET = Path(__file__).parents[1] / "pocket"
"""The folder of the embedded model."""

CARD = "README.md"
"""The file that tells people of a model."""

SPREAD = "map"
"""The name that stands for no device, but for all: blocks are spread over the accelerators by accelerate."""

IN_MEMORY = " in memory"
"""How the name of a model ends that was not loaded by a name."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class UnusedTensors(UserWarning):
    """A checkpoint holds tensors that its model does not use."""


@dataclass(frozen=True)
class Loaded:
    """A model in evaluation mode, its tokenizer, the name it was asked for by, and its weights' files."""

    model: nn.Module
    tokenizer: Any
    name: str
    dtype: torch.dtype
    files: tuple[Path, ...]

    @cached_property
    def sha256(self) -> str:
        """A hash of the content of the weights' files."""
        return hash_files(self.files)


@dataclass(frozen=True)
class InMemory(Loaded):
    """A model that somebody else has loaded, or made: it has no files, is named after its class, and is in the mode
    that it was in."""

    @classmethod
    def of(cls, model: nn.Module, tokenizer: Any) -> InMemory:
        """The model with its tokenizer."""
        return cls(model, tokenizer, f"{type(model).__name__}{IN_MEMORY}", next(model.parameters()).dtype, ())

    @cached_property
    def sha256(self) -> str:
        """The hash of its tensors."""
        return hash_tensors(self.model)


def load_model(
    name: str,
    *,
    device: str = "auto",
    dtype: str | torch.dtype | None = None,
    trust_remote_code: bool = False,
) -> Loaded:
    """Load `pocket`, `smollm2`, a GGUF file, a local folder, or a model of the Hugging Face hub.

    `dtype` (float32, bfloat16, float16) replaces the type in which the weights are stored. Code that comes
    with a model runs only with `trust_remote_code`. The device `map` spreads the blocks over all accelerators, by
    transformers' `device_map="auto"`; each layer's statistics and scores stay on its device.

    Raises PruningError for whatever cannot be loaded as a causal language model with a tokenizer; warns of tensors that
    the model does not use.
    """
    target = None if device == SPREAD else resolve_device(device)
    if target is None and find_spec("accelerate") is None:
        raise PruningError("a device map needs the package `accelerate`", hint="pip install accelerate")
    wanted = resolve_dtype(dtype)
    return _load(name, local_path(name) or name, target, wanted, trust_remote_code=trust_remote_code)


def local_path(name: str) -> Path | None:
    """The folder or GGUF file of a model's name, None for an id of the Hugging Face hub. Raises PruningError where
    there can be no such model."""
    if name == "pocket":
        if not (POCKET / "config.json").is_file():
            raise PruningError("this installation lacks the embedded model `pocket`", hint="install pzc again")
        return POCKET
    if name == "smollm2":
        from pzc.runtime.models.smollm2 import folder

        return folder()
    if name.endswith(IN_MEMORY):
        raise PruningError(f"the model was a {name}", hint="save it, and name its folder", model=name)
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if name and path.is_dir():
        if not (path / "config.json").is_file():
            raise PruningError(f"the folder {name} holds no model: config.json is missing", model=name)
        return path
    local = name.startswith((".", "~", "/")) or ("/" in name and path.parent.is_dir())
    if local or name.count("/") != 1 or name.endswith("/"):
        raise PruningError(
            f"there is no model `{name}`",
            hint="name a folder, a GGUF file, a Hugging Face id such as org/name, or `pocket` or `smollm2`",
            model=name,
        )
    return None


def check_planned(name: str) -> None:
    """Raise PruningError for a model in one file: what it would take is told from the headers of safetensors."""
    path = local_path(name)
    if path is not None and path.is_file():
        _check_gguf(name, path)
        raise PruningError(
            f"{name} is a GGUF file, and only folders of safetensors are planned",
            hint="`pzc prune` loads it whole, as float32 unless --dtype says otherwise",
            model=name,
        )


def resolve_device(name: str) -> torch.device:
    """The device of a name: `auto` is the accelerator if there is one, and else the CPU."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise PruningError(f"`{name}` is no device", hint="write auto, cpu, map, or for example cuda:0") from error
    if device.type == "cpu":
        return device
    if accelerator is None or accelerator.type != device.type:
        raise PruningError(f"there is no device `{name}` here", hint="write auto or cpu", device=name)
    if device.index is not None and device.index >= torch.accelerator.device_count():
        count = torch.accelerator.device_count()
        raise PruningError(f"there is no device `{name}`: {device.type} has {count}", device=name)
    return device


def devices_of(name: str, processes: int) -> list[str]:
    """The device of each of several processes. Where a name means any accelerator, as `auto` and `cuda` do, they take
    the next each, and begin again when there are fewer."""
    device = resolve_device(name) if name != SPREAD else None
    if device is None or device.type == "cpu" or device.index is not None:
        return [name] * processes
    there = torch.accelerator.device_count()
    return [f"{device.type}:{number % there}" for number in range(processes)] if there > 1 else [name] * processes


def resolve_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """The torch type of a name; None, for the stored type, stays None."""
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise PruningError(f"`{dtype}` is no type for weights", hint=f"write {', '.join(DTYPES)}")
    return DTYPES[dtype]


OF_TENSORS = "tensors "
"""How the hash of a model begins that is one of its tensors, and not of files."""


def hash_tensors(model: nn.Module) -> str:
    """SHA-256 of the names, types and values of all that a model would save."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return OF_TENSORS + found.hexdigest()


def hash_files(files: tuple[Path, ...]) -> str:
    """SHA-256 of the files' content: of the file if there is one, else of the hashes of all, in order."""
    hashes = []
    for file in files:
        with file.open("rb") as stream:
            hashes.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _load(
    name: str,
    source: Path | str,
    device: torch.device | None,
    dtype: torch.dtype | None,
    *,
    trust_remote_code: bool = False,
) -> Loaded:
    """`device` is None for a device map."""
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    place = str(source)
    if isinstance(source, Path) and source.is_file():
        place, options = str(source.parent), {"gguf_file": source.name}
        _check_gguf(name, source)
    with quiet():
        spread = {} if device else {"device_map": "auto"}
        model, unused = attempt(name, "model", lambda: _read_model(name, place, {**options, **spread}, dtype))
        tokenizer = attempt(name, "tokenizer", lambda: AutoTokenizer.from_pretrained(place, **options))
        files = _weight_files(source)
        if isinstance(source, str):
            _fetch_card(source)
        moved = attempt(name, "model", lambda: model.to(device)) if device else model
    if unused:
        found = f"{len(unused)} tensors that its model does not use, such as" if unused[1:] else "an unused tensor,"
        text = f"{name} holds {found} {unused[0]}: only --stream saves what is not loaded"
        warnings.warn(UnusedTensors(text), stacklevel=3)
    return Loaded(moved.eval(), tokenizer, name, moved.dtype, files)


def _read_model(name: str, place: str, options: dict[str, Any], dtype: torch.dtype | None) -> tuple[Any, list[str]]:
    """The model, and the names of what is stored that it does not use, but for what transformers knows to pass over."""
    if "gguf_file" in options:
        options = {**options, "quantization_config": GgufConfig(dequantize=True)}
    else:
        options = {**options, "use_safetensors": True}
    stored = "float32" if "gguf_file" in options else "auto"
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            place,
            dtype=dtype or stored,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in the report, which is told below
            **options,
        )
    except ValueError as error:
        if "Unrecognized configuration class" in str(error):
            raise PruningError(f"{name} is no causal language model", model=name) from error
        raise
    missing = sorted(report["missing_keys"]) + sorted(key[0] for key in report["mismatched_keys"])
    if missing:
        raise PruningError(
            f"the weights of {name} don't fit its config.json: {len(missing)} are missing or "
            f"have another size, such as {missing[0]}",
            model=name,
        )
    return model, sorted(report["unexpected_keys"])


def attempt(name: str, what: str, action: Callable[[], Any]) -> Any:
    """Do something in transformers. What it raises for files that are no model is of many types."""
    try:
        return action()
    except PruningError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            hint = "`pzc prune --stream` holds one block at a time; otherwise use --dtype bfloat16 or --device cpu"
            raise PruningError(f"the model {name} does not fit into memory", hint=hint, model=name) from error
        text = str(error).strip().split("\n")[0].strip() or type(error).__name__
        if text.endswith("from one of:"):
            text = "there is none"
        if isinstance(error, SafetensorError):
            text = f"a weights file is damaged ({text})"
        raise PruningError(
            f"the {what} of {name} cannot be loaded: {text}",
            hint=_hint(what, text),
            model=name,
        ) from error


def _hint(what: str, text: str) -> str | None:
    if "no file named" in text:
        return "weights are read from safetensors or GGUF files only"
    if "custom code" in text:
        return "read that code, and add --trust-remote-code to run it"
    return "put the tokenizer's files beside the weights, as the dense model has them" if what == "tokenizer" else None


def _check_gguf(name: str, path: Path) -> None:
    with path.open("rb") as stream:
        magic = stream.read(4)
    if magic != b"GGUF":
        raise PruningError(
            f"{name} is no GGUF file", hint="a model is a folder with config.json, or a GGUF file", model=name
        )
    for package in ("gguf", "accelerate"):
        if find_spec(package) is None:
            raise PruningError(f"GGUF files need the package `{package}`", hint="pip install 'pzc[gguf]'", model=name)


def _fetch_card(name: str) -> None:
    """Have the card of a model of the Hugging Face hub beside its weights, for its licence. There may be none."""
    lenient = ("missing_entries", "connection_errors", "gated_repo")
    cached_file(name, CARD, **{f"_raise_exceptions_for_{what}": False for what in lenient})


def _weight_files(source: Path | str) -> tuple[Path, ...]:
    if isinstance(source, Path) and source.is_file():
        return (source,)
    if isinstance(source, str):
        config = cached_file(source, "config.json", local_files_only=True)
        source = Path(str(config)).parent
    if (source / SINGLE).is_file() or (source / INDEX).is_file():
        return open_shards(source).files  # not what else is in the folder
    return tuple(sorted(source.glob("*.safetensors")))
