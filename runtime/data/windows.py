"""Windows of tokens cut from a text: spread evenly to calibrate on, one after another to evaluate on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pzc.runtime.errors import PruningError


def tokenise(tokenizer: Any, text: str) -> Tensor:
    """The tokens of a text as one string, without special tokens: int64 `[tokens]`."""
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return torch.tensor(ids, dtype=torch.int64)


def calibration_windows(tokens: Tensor, n: int, length: int) -> Tensor:
    """`n` windows spread evenly over a text of N tokens: window i starts at token `i · (N // n)`.

    Takes int64 `[N]`, returns int64 `[n, length]`. Raises PruningError when windows would overlap.
    """
    _check_size(n, length)
    step = len(tokens) // n
    if step < length:
        raise PruningError(
            f"{n} windows of {length} tokens need {n * length}, but the text has {len(tokens)}",
            hint=_what_fits(len(tokens), length),
            tokens=len(tokens),
        )
    return torch.stack([tokens[i * step : i * step + length] for i in range(n)])


def windows_between(tokens: Tensor, n: int, count: int, length: int) -> Tensor:
    """`count` windows of the tokens that `calibration_windows(tokens, n, length)` leaves unread, spread over the text
    and in an order of no meaning, so that the first few stand for all.

    `n` of them lie halfway between those windows, more of them between these. What follows a calibration window closely
    is of the same article: there statistics say more than they do of other text.

    Takes int64 `[N]`, returns int64 `[count, length]`. Raises PruningError when there is too little between them.
    """
    starts = _between(len(tokens), n, length)
    if len(starts) < count:
        raise PruningError(
            f"{n} + {count} windows of {length} tokens need more than the {len(tokens)} tokens of this text",
            hint="use fewer or shorter windows, or more text",
            tokens=len(tokens),
        )
    chosen = _spread(starts, count, 1 / 2)
    order = np.random.Generator(np.random.Philox(0)).permutation(count)
    return torch.stack([tokens[chosen[i] : chosen[i] + length] for i in order])


def windows_left(tokens: Tensor, n: int, count: int, length: int) -> tuple[Tensor, Tensor]:
    """Twice up to `count` windows of the tokens that neither `calibration_windows(tokens, n, length)` nor
    `windows_between(tokens, n, count, length)` reads, spread over the text: before the latter, and behind them.

    Takes int64 `[N]`, returns int64 `[k, length]` twice, of which k may be 0.
    """
    starts = _between(len(tokens), n, length)
    read = set(_spread(starts, count, 1 / 2))
    found = []
    for phase in (1 / 4, 3 / 4):
        left = [s for s in starts if s not in read]
        chosen = _spread(left, min(count, len(left)), phase)
        read.update(chosen)
        found.append(torch.stack([tokens[s : s + length] for s in chosen]) if chosen else tokens.new_empty(0, length))
    return found[0], found[1]


def _between(tokens: int, n: int, length: int) -> list[int]:
    """Where windows between `n` that are spread over a text may begin."""
    step = tokens // n
    return [s for i in range(n) for s in range(i * step + length, (i + 1) * step - length + 1, length)]


def _spread(starts: list[int], count: int, phase: float) -> list[int]:
    """One of each of `count` equal parts, so far into the part as `phase` says."""
    return [starts[int((i + phase) * len(starts) / count)] for i in range(count)]


def evaluation_windows(tokens: Tensor, n: int | None, length: int) -> Tensor:
    """The first `n` windows of a text, one after another without overlap; all that fit when `n` is None.

    Takes int64 `[N]`, returns int64 `[n, length]`. Raises PruningError when the text is too short.
    """
    _check_size(1 if n is None else n, length)
    fit = len(tokens) // length
    count = max(fit, 1) if n is None else n
    if count > fit:
        raise PruningError(
            f"{count} windows of {length} tokens need {count * length}, but the text has {len(tokens)}",
            hint=_what_fits(len(tokens), length),
            tokens=len(tokens),
        )
    return tokens[: count * length].view(count, length)


def _check_size(n: int, length: int) -> None:
    if n < 1 or length < 2:
        raise PruningError("at least one window of two tokens is needed", windows=n, length=length)


def _what_fits(tokens: int, length: int) -> str:
    if tokens >= length:
        return f"use at most {tokens // length} windows of this length, shorter windows, or more text"
    return f"use windows of at most {tokens} tokens, or more text" if tokens > 1 else "use more text"
