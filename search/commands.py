"""What to type to go on with a metric that a run has found."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pzc.compiler.load import zoo_metric
from pzc.runtime.models.loading import IN_MEMORY
from pzc.runtime.planning.commands import options_of

_TEXTS = ("model", "data", "eval_data", "windows")
_TARGET = ("length", "sparsity", "pattern", "include", "exclude")
_LOADING = ("dtype", "seed")


def prune_command(settings: Mapping[str, Any], file: Path) -> str:
    """Prune the run's model with the metric in a file, as the run did."""
    how = options_of(_typed(settings), *_TEXTS, *_TARGET, *_LOADING)
    return f"pzc prune{how} --metric {shlex.quote(str(file))} --output out/pruned"


def compare_command(settings: Mapping[str, Any], file: Path, published: str | None, per: str | None = None) -> str:
    """Measure the metric in a file beside a published one, in the comparison group `per` that it had in the run, on
    held-out text, with the numbers that the run had."""
    names = [*([_grouped(settings, published, per)] if published else []), shlex.quote(str(file))]
    metrics = "".join(f" --metric {name}" for name in names)
    return f"pzc compare{metrics}{options_of(_typed(settings), *_TEXTS, 'eval_windows', *_TARGET, *_LOADING)}"


def _grouped(settings: Mapping[str, Any], published: str, per: str | None) -> str:
    """A published metric by its name, or by its formula where it is to be compared in another group than its own."""
    metric = zoo_metric(published)
    if per in (None, metric.per) or settings.get("pattern"):  # a pattern is its own group
        return published
    return shlex.quote(f"{metric.formula} per {per}")


def _typed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run by the options of other commands, without what is theirs anyway."""
    s = dict(settings)
    return {
        **s,
        "model": "MODEL" if str(s.get("model")).endswith(IN_MEMORY) else s.get("model"),  # wherever it is saved
        "eval_windows": s.get("held_out_windows"),
        "sparsity": None if s.get("pattern") else s.get("sparsity"),
        "seed": s.get("seed") or None,
    }
