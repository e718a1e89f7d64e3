"""The windows that a run calibrates and evaluates on."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from pzc.runtime.data import Text, calibration_windows, eval_text, evaluation_windows, sides, tokenise
from pzc.runtime.models import Loaded
from pzc.runtime.sampling import sampler

LONGEST = 512
"""Tokens of a window, unless more are asked for or the model reads fewer."""


@dataclass(frozen=True)
class Texts:
    """Calibration and evaluation text, which never overlap, with the windows cut from them, int64 `[n, length]`."""

    calibration: Text
    evaluation: Text
    calibration_windows: Tensor
    evaluation_windows: Tensor


def default_length(model: nn.Module) -> int:
    """Tokens of a window when none are asked for: 512, or as many as the model reads."""
    return min(LONGEST, int(getattr(model.config, "max_position_embeddings", None) or LONGEST))


def texts_for(
    loaded: Loaded, data: str, eval_data: str | None, *, windows: int, eval_windows: int, length: int, seed: int
) -> Texts:
    """Read both texts and cut their windows. Raises PruningError for a text that is missing or too short."""
    needed = length * max(windows, eval_windows) + 1
    sample = sampler(loaded.model, loaded.tokenizer, tokens=needed, length=length, seed=seed)
    calibration, evaluation = sides(data, eval_data, sampler=sample)
    return Texts(
        calibration,
        evaluation,
        calibration_windows(tokenise(loaded.tokenizer, calibration.text), windows, length),
        evaluation_windows(tokenise(loaded.tokenizer, evaluation.text), eval_windows, length),
    )


def evaluation_for(
    loaded: Loaded, data: str, *, held_out: bool, windows: int | None, length: int, seed: int
) -> tuple[Text, Tensor]:
    """The text to evaluate on and its first windows, all that fit when `windows` is None."""
    needed = length * (windows or 16) + 1
    sample = sampler(loaded.model, loaded.tokenizer, tokens=needed, length=length, seed=seed)
    text = eval_text(data, held_out, sampler=sample)
    return text, evaluation_windows(tokenise(loaded.tokenizer, text.text), windows, length)
