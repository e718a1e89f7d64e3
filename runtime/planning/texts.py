"""The windows that a run calibrates and evaluates on."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pzc.runtime.data.sampling import sampler
from pzc.runtime.data.texts import Text, calibrated_part, calibration_side, eval_text, evaluation_side, sides
from pzc.runtime.data.windows import calibration_windows, evaluation_windows, tokenise
from pzc.runtime.errors import PruningError
from pzc.runtime.models.loading import Loaded
from pzc.runtime.models.passes import check_length, longest_window
from pzc.runtime.saving.checkpoint import RECORD
from pzc.runtime.statistics.gather import passes_for

LONGEST = 512
"""Tokens of a window, unless more are asked for or the model reads fewer."""


@dataclass(frozen=True)
class Texts:
    """Calibration and evaluation text, which never overlap, with the windows cut from them, int64 `[n, length]`.

    There is no calibration for metrics of the weights alone, and no evaluation where its windows are none.
    """

    calibration: Text | None
    evaluation: Text | None
    calibration_windows: Tensor | None
    evaluation_windows: Tensor

    @property
    def measured_on(self) -> str:
        """The evaluation text, in words."""
        return self.evaluation.title if self.evaluation else "nothing"


def default_length(model: nn.Module) -> int:
    """Tokens of a window when none are asked for: 512, or as many as the model reads."""
    return min(LONGEST, longest_window(model) or LONGEST)


def texts_for(
    loaded: Loaded,
    leaves: Collection[str],
    data: str,
    eval_data: str | None,
    *,
    windows: int,
    eval_windows: int,
    length: int,
    seed: int,
) -> Texts:
    """Read the texts that `leaves` need and cut their windows.

    Raises PruningError for windows that the model can't read, a text that is missing or too short, two files that share
    text, or evaluation text that calibrated the model.
    """
    check_length(loaded.model, length)
    needed = {"calibration": length * windows + 1, "evaluation": length * eval_windows + 1}
    sample = sampler(loaded.model, loaded.tokenizer, **needed, length=length, seed=seed)
    calibrates = bool(passes_for(leaves)) or "windows" in leaves
    calibration: Text | None = None
    evaluation: Text | None = None
    if calibrates and eval_windows:
        calibration, evaluation = sides(data, eval_data, sampler=sample)
    elif calibrates:
        calibration = calibration_side(data, eval_data, sampler=sample)
    elif eval_windows:
        evaluation = evaluation_side(data, eval_data, sampler=sample)
    if evaluation and unread_part(loaded.name, evaluation.name) and evaluation.part == "whole":
        raise PruningError(
            f"the first four fifths of {evaluation.name} calibrated this model", hint="measure it on another text"
        )
    return Texts(
        calibration,
        evaluation,
        None if calibration is None else _calibration(loaded, calibration, windows, length),
        torch.empty((0, length), dtype=torch.int64)
        if evaluation is None
        else evaluation_windows(tokenise(loaded.tokenizer, evaluation.text), eval_windows, length),
    )


def _calibration(loaded: Loaded, text: Text, windows: int, length: int) -> Tensor:
    return calibration_windows(tokenise(loaded.tokenizer, text.text), windows, length)


def _record_of(model: str) -> Path:
    """Where the record of a model's pruning would be."""
    return Path(model).expanduser() / RECORD


def unread_part(folder: str, data: str) -> bool:
    """Whether a model's `pruning.json` says that the first four fifths of the file `data` calibrated it, so that
    only the last fifth may measure it. Raises PruningError when the whole file did."""
    try:
        kept = json.loads(_record_of(folder).read_text(encoding="utf-8"))["data"]["calibration"]["sha256"]
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return False
    part = calibrated_part(data, str(kept))
    if part == "whole":
        raise PruningError(f"all of {data} calibrated this model", hint="measure it on another text")
    return part is not None


def evaluation_for(
    loaded: Loaded,
    data: str,
    *,
    dense: Loaded | None = None,
    held_out: bool,
    windows: int | None,
    length: int,
    seed: int,
) -> tuple[Text, Tensor]:
    """The text to evaluate on and its first windows, all that fit when `windows` is None. The text `self` is written by
    the `dense` model, which the model itself is where there is no other. Raises PruningError where that is pruned."""
    check_length(loaded.model, length)
    writer = dense or loaded
    if data == "self" and dense is None and _record_of(loaded.name).is_file():
        raise PruningError(
            f"the text `self` is written by the dense model, and {loaded.name} is pruned",
            hint="name the dense model, as in --against MODEL",
        )
    needed = length * (windows or 16) + 1
    sample = sampler(writer.model, writer.tokenizer, calibration=0, evaluation=needed, length=length, seed=seed)
    text = eval_text(data, held_out, sampler=sample)
    return text, evaluation_windows(tokenise(loaded.tokenizer, text.text), windows, length)
