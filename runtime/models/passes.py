"""Running a model over windows of tokens: what statistics and evaluation share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from pzc.runtime.errors import Hopeless, PruningError
from pzc.runtime.models.offload import runs_on

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called as `progress(stage, done, total)`."""

_LOGITS_AT_ONCE = {"cpu": 2**22}
_LOGITS_AT_ONCE_ELSEWHERE = 2**27
_LARGEST_BATCH = 32
"""Windows that are run together: the memory is that of their logits."""

_IN_CACHE = 2**18
"""Logits that stay in a processor's cache: a megabyte."""

_NOTHING_TO_PREDICT = -100
"""The target of a position that has none, as torch's cross-entropy has it."""


def silent(stage: str, done: int, total: int) -> None:
    """A `Progress` that shows nothing."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode, and back as it was afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Raise Hopeless at the end of the context if weights were changed in it, as RWKV's are by its own code when it is
    first evaluated: what would be pruned, and saved, is another model then."""
    before = [(name, p, p._version) for name, p in model.named_parameters() if not p.is_inference()]
    yield
    changed = [name for name, parameter, version in before if parameter._version != version]
    if changed:
        raise Hopeless(
            f"running this model changes its weights, such as {changed[0]}: what it then is can't be pruned",
            hint="a metric of weights alone, with --eval-windows 0, runs nothing",
            layer=changed[0],
        )


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's first parameter, or where it is taken to when it is used: there its inputs go."""
    device = next(model.parameters()).device
    return runs_on(model) or device if device.type == "meta" else device


def logits_of(model: nn.Module, ids: Tensor) -> Tensor:
    """The model's logits `[n, length, vocabulary]` for windows of tokens `[n, length]`, without a cache."""
    logits = model(input_ids=ids, use_cache=False).logits
    if not isinstance(logits, Tensor):
        raise PruningError(f"{type(model).__name__} returns no logits")
    return logits


def run_blocks(model: nn.Module, ids: Tensor) -> None:
    """Run windows `[n, length]` through the decoder blocks, and not through the head where that can be."""
    backbone = getattr(model, "base_model", model)
    backbone(input_ids=ids, use_cache=False)


def cross_entropy(logits: Tensor, ids: Tensor) -> Tensor:
    """Each window's mean cross-entropy in nats over its `length − 1` predicted tokens, in float32: `[n]`."""
    none = ids.new_full((len(ids), 1), _NOTHING_TO_PREDICT)  # leaving out logits instead would copy them
    targets = torch.cat([ids[:, 1:], none], dim=1).to(logits.device)
    flat, wanted = logits.flatten(0, 1), targets.flatten()
    if logits.device.type == "cpu" and not logits.requires_grad:
        losses = _losses(flat, wanted)
    else:
        losses = nn.functional.cross_entropy(flat.float(), wanted, reduction="none", ignore_index=_NOTHING_TO_PREDICT)
    return losses.view(len(ids), -1).sum(1) / (ids.shape[1] - 1)


def _losses(logits: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy of each position, float32 `[n]`, of logits `[n, vocabulary]`: of a few positions at a time, in
    one place that stays in the processor's cache. Of bfloat16 a third of the time that all at once take."""
    rows = max(1, _IN_CACHE // logits.shape[1])
    place = logits.new_empty(rows, logits.shape[1], dtype=torch.float32)
    sums, most = logits.new_empty(len(logits), dtype=torch.float32), logits.amax(1, keepdim=True).float()
    for i in range(0, len(logits), rows):
        some = slice(i, i + rows)
        shifted = torch.sub(logits[some], most[some], out=place[: len(logits[some])])
        torch.sum(shifted.exp_(), 1, out=sums[some])
    wanted = logits.gather(1, targets.clamp_min(0)[:, None])[:, 0].float()
    return (sums.log_() + most[:, 0] - wanted).masked_fill_(targets == _NOTHING_TO_PREDICT, 0.0)


def batches(model: nn.Module, windows: Tensor) -> Iterator[Tensor]:
    """The windows on the model's device, a few at a time: as many as keep the logits small.

    Windows are equally long and nothing is padded, so what a batch holds changes results by rounding only.
    """
    device = device_of(model)
    for part in windows.split(windows_at_once(model, windows.shape[1])):
        yield part.to(device)


def singly(model: nn.Module, windows: Tensor) -> Iterator[Tensor]:
    """The windows on the model's device, one at a time: `[1, length]`."""
    device = device_of(model)
    return (window.to(device) for window in windows.split(1))


def windows_at_once(model: nn.Module, length: int) -> int:
    """How many windows of so many tokens are run together."""
    limit = _LOGITS_AT_ONCE.get(device_of(model).type, _LOGITS_AT_ONCE_ELSEWHERE)
    return max(1, min(_LARGEST_BATCH, limit // (length * vocabulary_of(model))))


def check_windows(model: nn.Module, windows: Tensor) -> Tensor:
    """The windows as int64. Raises PruningError when the model cannot read them: no tensor of integers `[n, length]`,
    too long, or tokens it does not know."""
    if not isinstance(windows, Tensor) or windows.is_floating_point():
        kind = str(windows.dtype).removeprefix("torch.") if isinstance(windows, Tensor) else type(windows).__name__
        raise PruningError(f"windows of tokens are an integer tensor [n, length], not {kind}")
    shape = tuple(windows.shape)
    if len(shape) != 2:
        raise PruningError(f"windows of tokens are a tensor [n, length], not one of shape {list(shape)}", shape=shape)
    if shape[0] < 1 or shape[1] < 2:
        raise PruningError("at least one window of two tokens is needed", shape=shape)
    check_length(model, shape[1])
    if int(windows.min()) < 0:
        raise PruningError(f"the windows hold token {int(windows.min())}; tokens are counted from 0")
    highest, known = int(windows.max()), vocabulary_of(model)
    if highest >= known:
        raise PruningError(
            f"the text holds token {highest}, but the model knows {known}: its tokenizer does not fit it",
            token=highest,
            vocabulary=known,
        )
    return windows.long()


def check_length(model: nn.Module, length: int) -> None:
    """Raise PruningError when windows of so many tokens are longer than the model can read."""
    longest = longest_window(model)
    if longest is not None and length > longest:
        raise PruningError(
            f"windows of {length} tokens are longer than the {longest} that the model can read",
            hint=f"use a length of at most {longest}",
            length=length,
            longest=longest,
        )


def longest_window(model: nn.Module) -> int | None:
    """The most tokens that a model reads at once, None where its configuration does not say."""
    longest = getattr(_text_config(model), "max_position_embeddings", None)
    return longest if isinstance(longest, int) else None


def vocabulary_of(model: nn.Module) -> int:
    """The number of tokens that a model knows."""
    embeddings = getattr(model, "get_input_embeddings", lambda: None)()
    if isinstance(embeddings, nn.Embedding):
        return embeddings.num_embeddings
    return int(_text_config(model).vocab_size)


def _text_config(model: nn.Module) -> Any:
    config: Any = getattr(model, "config", None)
    return config.get_text_config() if hasattr(config, "get_text_config") else config
