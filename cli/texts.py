"""The texts that a command's options name. Imports torch."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pzc.runtime.models.loading import Loaded
from pzc.runtime.planning.texts import Texts, default_length, texts_for


def texts_of(loaded: Loaded, leaves: Collection[str], how: dict[str, Any]) -> Texts:
    """The windows that `--data --eval-data --windows --eval-windows --length --seed` ask for."""
    return texts_for(
        loaded,
        leaves,
        how["data"],
        how["eval_data"],
        windows=how["windows"],
        eval_windows=how["eval_windows"],
        length=how["length"] or default_length(loaded.model),
        seed=how["seed"],
    )


def described(texts: Texts, how: dict[str, Any]) -> str:
    """What was evaluated on and what the statistics were gathered from, in a line."""
    measured, gathered, (windows, length) = texts.evaluation, texts.calibration, texts.evaluation_windows.shape
    found = []
    if measured:
        found.append(f"perplexity on {measured.title}, {windows} × {length} tokens")
    if gathered:
        found.append(f"statistics from {how['windows']} windows of {gathered.title}")
    return "; ".join(found) or "nothing measured, no text read"
