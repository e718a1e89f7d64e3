"""Calibration tokens in one step, for programs."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pzc.runtime.data.texts import calibration_side
from pzc.runtime.data.windows import calibration_windows, tokenise


def calibration_tokens(tokenizer: Any, data: str = "pydoc", *, windows: int = 16, length: int = 512) -> Tensor:
    """What `pzc prune --data DATA --windows … --length …` calibrates on: int64 `[windows, length]`.

    `data` is `pydoc`, `wikitext2`, `c4`, or a text or JSONL file, of which the first four fifths are read: the rest is
    for evaluation. Raises PruningError for what cannot be read or is too short.
    """
    return calibration_windows(tokenise(tokenizer, calibration_side(data).text), windows, length)
