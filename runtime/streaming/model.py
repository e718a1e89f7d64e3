"""A model whose weights stay on the disk: its modules, with placeholders for weights that are read when they are used.

Weights inside decoder blocks come and go with their block; those outside (the last norm, the head) when their module is
called. Of embeddings only the rows that a text looks up are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from torch import Tensor, nn
from transformers import AutoTokenizer, GenerationConfig

from pzc.runtime.errors import WITHOUT_STREAM, PruningError
from pzc.runtime.heap import give_back
from pzc.runtime.models.layers import Layers, find_layers
from pzc.runtime.models.loading import CARD, SPREAD, Loaded, attempt, local_path, resolve_device, resolve_dtype
from pzc.runtime.models.outline import outline
from pzc.runtime.models.stored import Source
from pzc.runtime.quiet import quiet
from pzc.runtime.shards import Shards, Stored, will_need
from pzc.runtime.streaming.rows import LookingUp, is_looked_up


@dataclass(frozen=True, eq=False)
class Slot:
    """A parameter of the model: `tensor`, which is a placeholder when it isn't in use, where its contents are stored,
    and its name."""

    name: str
    tensor: Tensor
    source: Source
    placeholder: Tensor

    @property
    def filled(self) -> bool:
        return self.tensor.data_ptr() != self.placeholder.data_ptr()

    def read(self, source: Shards | None = None) -> Tensor:
        """The contents in memory: for a CPU in the model's type, else as they are stored, which is less to send."""
        on_cpu = self.placeholder.device.type == "cpu"
        return self.source.read(_places(source), dtype=self.tensor.dtype if on_cpu else None)


@dataclass(frozen=True, eq=False)
class Shell:
    """A model of placeholders, and where their contents are.

    `blocks` are the slots of each decoder block, `outside` those of the modules around them. `types` are those that the
    model has in memory, by the keys of the shards, of its buffers too, which are always there.
    """

    loaded: Loaded
    folder: Path
    shards: Shards
    layers: Layers
    device: torch.device
    blocks: tuple[tuple[Slot, ...], ...]
    outside: Mapping[nn.Module, tuple[Slot, ...]]
    types: Mapping[str, torch.dtype]
    _ahead: dict[tuple[int, bool], Future[Arriving]] = field(default_factory=dict)
    _reader: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "pzc-read"))

    @property
    def model(self) -> nn.Module:
        return self.loaded.model

    @property
    def slots(self) -> dict[str, Slot]:
        """All slots, by their names."""
        return {slot.name: slot for slots in (*self.blocks, *self.outside.values()) for slot in slots}

    @contextmanager
    def block(self, index: int, *, following: int | None = None, source: Shards | None = None) -> Iterator[nn.Module]:
        """One decoder block with its weights on the device, while the context is open.

        Meanwhile those of the block `following` are read: on their way to an accelerator, on a stream of their own, so
        that it computes while they arrive; for a CPU only into the system's cache. `source` has the weights elsewhere
        under the same keys, as the pruned ones.
        """
        early = self._ahead.pop((index, source is None), None)
        contents = early.result().here() if early else {slot.name: slot.read(source) for slot in self.blocks[index]}
        with self._filled(self.blocks[index], contents):
            contents.clear()
            if following is not None:
                self._read_ahead(following, source)
            yield self.layers.blocks[index]

    @contextmanager
    def around(self) -> Iterator[None]:
        """While the context is open, modules outside the blocks read their weights when they are first called, and
        embeddings the rows that are looked up."""
        looked_up = {
            module: slots
            for module, slots in self.outside.items()
            if is_looked_up(module) and all(slot.source.join is None for slot in slots)
        }
        rows = {id(slot.tensor): slot for slots in looked_up.values() for slot in slots}
        stored = {tensor: slot.source.parts[0] for tensor, slot in rows.items()}
        with ExitStack() as stack:
            stack.enter_context(LookingUp(stored, lambda tensor: rows[tensor].filled))

            def load(module: nn.Module, args: Any) -> None:
                slots = [slot for slot in self.outside[module] if not slot.filled]
                stack.enter_context(self._filled(slots, {slot.name: slot.read() for slot in slots}))

            for module in self.outside:
                if module not in looked_up:
                    stack.callback(module.register_forward_pre_hook(load).remove)
            stack.callback(give_back)
            yield

    @contextmanager
    def _filled(self, slots: Sequence[Slot], contents: Mapping[str, Tensor]) -> Iterator[None]:
        try:
            for slot in slots:
                slot.tensor.data = contents[slot.name].to(self.device, slot.tensor.dtype)
            yield
        finally:
            for slot in slots:
                slot.tensor.data = slot.placeholder
            give_back()

    def _read_ahead(self, index: int, source: Shards | None) -> None:
        places, slots = _places(source), self.blocks[index]
        if self.device.type == "cpu":
            parts = (part for slot in slots for part in slot.source.parts)
            self._reader.submit(will_need, [places[part.key] if places else part for part in parts])
        else:
            self._ahead[index, source is None] = self._reader.submit(arriving, slots, places, self.device)


@dataclass(frozen=True)
class Arriving:
    """Weights by slot that are copied to an accelerator on a stream of their own; `done` is behind the last of them."""

    contents: dict[str, Tensor]
    done: torch.Event

    def here(self) -> dict[str, Tensor]:
        """The weights, for work that is queued from now on: it waits for the copies, and the host does not."""
        device = next(iter(self.contents.values())).device
        stream = torch.accelerator.current_stream(device)
        stream.wait_event(self.done)
        for tensor in self.contents.values():
            tensor.record_stream(stream)  # its memory is the other stream's, to use again when this one is through
        return self.contents


def arriving(slots: Sequence[Slot], places: Mapping[str, Stored] | None, device: torch.device) -> Arriving:
    """Read the weights of some slots into pinned memory, and start their copies to an accelerator. They are waited for
    in the thread that reads, so that the pinned memory can go."""
    stream = torch.Stream(device)
    contents: dict[str, Tensor] = {}
    with stream:
        for slot in slots:
            pinned = slot.source.read(places, pinned=True)
            contents[slot.name] = pinned.to(device, slot.tensor.dtype, non_blocking=True)
        done = stream.record_event()
    done.synchronize()
    return Arriving(contents, done)


def _places(source: Shards | None) -> Mapping[str, Stored] | None:
    return source.tensors if source else None


def open_shell(
    name: str,
    *,
    device: str = "auto",
    dtype: str | torch.dtype | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Shell:
    """A model of placeholders for what `load_model` would load, and its tokenizer; only headers of weights are read.
    `include` and `exclude` choose the layers as `find_layers` does; those outside the blocks can't be streamed.

    Raises PruningError for what is no folder of safetensors shards, or whose tensors have other names than the model's
    parameters.
    """
    if device == SPREAD:
        raise PruningError("a model that is streamed is on one device at a time", hint="name it: auto, cpu or cuda:0")
    target = resolve_device(device)
    folder = local_folder(name)
    drawn = outline(name, folder, device=target, dtype=resolve_dtype(dtype))
    model, sources = drawn.model, drawn.sources
    with quiet():
        tokenizer = attempt(name, "tokenizer", lambda: AutoTokenizer.from_pretrained(folder))
        if (folder / "generation_config.json").is_file():
            model.generation_config = attempt(
                name, "generation configuration", lambda: GenerationConfig.from_pretrained(folder)
            )
    for key, buffer in list(model.named_buffers()):
        buffer.data = sources[key].read().to(target, buffer.dtype) if key in sources else buffer.to(target)
    layers = find_layers(model, include, exclude)
    loaded = Loaded(model.eval(), tokenizer, name, drawn.dtype, drawn.shards.files)
    state = model.state_dict()
    types = {part.key: state[key].dtype for key, source in sources.items() for part in source.parts}
    return Shell(loaded, folder, drawn.shards, layers, target, *_slots(model, layers, sources), types)


def check_inside(layers: Layers) -> None:
    """Raise PruningError for a layer that is in no block, or in several."""
    if layers.outside:
        raise PruningError(f"{layers.outside[0].name} is outside the blocks, and --stream prunes block by block")
    if shared := next((layer for layer in layers.layers if layer.others), None):
        raise PruningError(f"{shared.name} shares its weight with other layers", hint=WITHOUT_STREAM)


def local_folder(name: str) -> Path:
    """The folder of a model's files: of `pocket` or `smollm2`, a folder's own, or that of a hub id's snapshot."""
    path = local_path(name)
    if path is not None and path.is_file():
        raise PruningError(f"{name} is a file: only folders of safetensors shards are streamed", hint=WITHOUT_STREAM)
    if path is not None:
        return path
    wanted = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", CARD]
    with quiet():
        return Path(attempt(name, "model", lambda: snapshot_download(name, allow_patterns=wanted)))


def _slots(
    model: nn.Module, layers: Layers, sources: Mapping[str, Source]
) -> tuple[tuple[tuple[Slot, ...], ...], dict[nn.Module, tuple[Slot, ...]]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    def slot(parameter: nn.Parameter) -> Slot:
        name = names[id(parameter)]
        return Slot(name, parameter, sources[name], parameter.data)

    blocks = tuple(tuple(slot(p) for p in block.parameters()) for block in layers.blocks)
    inside = {id(module) for block in layers.blocks for module in block.modules()}
    outside = {
        module: tuple(slot(p) for p in module.parameters(recurse=False))
        for module in model.modules()
        if id(module) not in inside and any(True for _ in module.parameters(recurse=False))
    }
    return blocks, outside
