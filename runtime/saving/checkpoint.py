"""Saving a pruned model: a folder that plain transformers loads, whole or not at all, and the record of the
run.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pzc.compiler.metric import Metric
from pzc.compiler.source import expression
from pzc.runtime.data.texts import Text
from pzc.runtime.errors import PruningError
from pzc.runtime.files import check_writable, finite, refused_as, strict_json
from pzc.runtime.models.loading import CARD, Loaded
from pzc.runtime.processes import is_running
from pzc.runtime.pruning.prune import Pruned
from pzc.runtime.pruning.targets import group_of
from pzc.runtime.quiet import quiet
from pzc.runtime.replacing import settle
from pzc.runtime.saving.card import known_license, model_card
from pzc.runtime.scoring.masks import Target

RECORD = "pruning.json"
FORMAT = "pzc-pruning/1"


def record(
    *,
    metric: Mapping[str, Any],
    model: Loaded,
    options: Mapping[str, Any],
    pruned: Pruned,
    run: str | None = None,
    calibration: Text | None = None,
    evaluation: Text | None = None,
    perplexity: Mapping[str, float] | None = None,
    seconds: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The content of `pruning.json`: all that is needed to do the run again, and what came out of it.

    `metric` is the metric's source, arms and keys; `options` every option of the run, the seed among them; `run` is
    what the same run is known by again; `perplexity` its values `before` and `after`; `seconds` times of stages beside
    those of `pruned`. Numbers that are not finite are None.
    """
    content = {
        "format": FORMAT,
        "run": run,
        "metric": dict(metric),
        "model": described_model(model),
        "options": dict(options),
        "target": asdict(pruned.target),
        "sequential": pruned.sequential,
        "update": {"method": pruned.update, "damping": dict(pruned.damped)},
        "allocation": dict(pruned.allocated) or None,
        "unreached": list(pruned.unreached),
        "passes": list(pruned.passes),
        "data": {"calibration": described_text(calibration), "evaluation": described_text(evaluation)},
        "sparsity": {
            "before": pruned.dense_sparsity,
            "after": pruned.sparsity,
            "weights": pruned.weights,
            "layers": dict(pruned.layers),
        },
        "perplexity": dict(perplexity) if perplexity else None,
        "seconds": {**pruned.seconds, **(seconds or {})},
        "versions": versions(),
    }
    return dict(finite(content))


def described_model(model: Loaded) -> dict[str, Any]:
    """The dense model of a record."""
    return {
        "name": model.name,
        "sha256": model.sha256,
        "dtype": str(model.dtype).removeprefix("torch."),
        "license": known_license(model.name, model.files),
    }


def described_arms(metric: Metric, target: Target) -> list[dict[str, Any]]:
    """The scores of a metric with the layers that each was for, as patterns of their names, and their group; the last
    took all layers that were left."""
    return [
        {"layers": list(arm.layers), "formula": expression(arm.core), "per": group_of(arm, target)}
        for arm in metric.arms
    ]


def versions() -> dict[str, str]:
    """The versions of what a result depends on."""
    found = {"python": platform.python_version()}
    for package in ("pzc", "torch", "transformers", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a folder that is not installed
            found[package] = "unknown"
    return found


def check_output(output: Path, *, overwrite: bool = False) -> None:
    """Raise PruningError now if `save` could not write to `output` later. What killed processes left is settled."""
    if output.absolute().parent.is_dir():
        _sweep(output.absolute())
    if output.is_symlink():
        raise PruningError(f"{output} is a link", hint=f"name the folder itself: {output.resolve()}")
    check_free(output, overwrite=overwrite)
    check_writable(output)


def check_free(output: Path, *, overwrite: bool) -> None:
    """Raise PruningError when there is something at `output` that is not to be overwritten: hours may have passed since
    it was looked at first."""
    if output.exists() and not overwrite:
        raise PruningError(f"{output} exists already", hint="name another folder, or add --overwrite")
    if output.exists() and not output.is_dir():
        raise PruningError(f"{output} is a file, not a folder")
    if output.exists() and any(output.iterdir()) and not (output / "config.json").is_file():
        raise PruningError(f"{output} is no model's folder, so it is not overwritten")


def recorded_run(output: Path) -> str | None:
    """The run that a folder came from, by its record; None where there is no folder, or it does not say."""
    try:
        found = json.loads((output / RECORD).read_text(encoding="utf-8")).get("run")
    except (OSError, ValueError, RecursionError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def save(model: Any, tokenizer: Any, record: Mapping[str, Any], output: Path, *, overwrite: bool = False) -> Path:
    """Write the model, its tokenizer, `pruning.json` and, of a recorded run, a model card to the folder `output`, in
    the model's own type.

    Everything is written to `.NAME.partial-PID` beside it and renamed when whole: a crash leaves either what
    was there before or the whole new folder. What earlier crashes left is removed. Raises PruningError when
    the folder exists and `overwrite` is off, when the disk is full or access is denied.
    """
    given, output = output, output.absolute()
    check_output(output, overwrite=overwrite)
    partial = output.with_name(f".{output.name}.partial-{os.getpid()}")
    try:
        with refused_as(f"{output} cannot be written"):
            output.parent.mkdir(parents=True, exist_ok=True)
            partial.mkdir()
            with quiet():
                _save_weights(model, partial)
                tokenizer.save_pretrained(partial)
            check_free(output, overwrite=overwrite)
            publish(partial, record, output, given)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return output


def _save_weights(model: Any, folder: Path) -> None:
    try:
        model.save_pretrained(folder)
    except RuntimeError as error:
        if "share memory" not in str(error):
            raise
        raise PruningError(
            "transformers can't save weights that are tied and offloaded",
            hint="`pzc prune --stream` holds one block at a time",
        ) from error


def publish(partial: Path, record: Mapping[str, Any], output: Path, given: Path | None = None) -> None:
    """Add `pruning.json` and a model card to a folder that is whole but for them, and give it its name, in place of
    what has that name; `given` is how the user wrote it."""
    (partial / RECORD).write_text(strict_json(record) + "\n", encoding="utf-8")
    if "options" in record:
        (partial / CARD).write_text(model_card(record, str(given or output)), encoding="utf-8")
    for path in partial.rglob("*"):
        if path.is_file():
            settle(path)
    output.parent.mkdir(parents=True, exist_ok=True)
    _exchange(partial, output)


def described_text(text: Text | None) -> dict[str, str] | None:
    """A text's name, which part of it was read, and the hash of that part."""
    return None if text is None else {"name": text.name, "part": text.part, "sha256": text.sha256}


def _exchange(new: Path, final: Path) -> None:
    if not final.exists():
        new.rename(final)
        return
    old = final.with_name(f".{final.name}.old-{os.getpid()}")
    final.rename(old)
    new.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def _sweep(final: Path) -> None:
    """Clean up after processes that were killed while they wrote `final`, and are no more."""
    name = re.compile(rf"\.{re.escape(final.name)}\.(partial|old)-(\d+)")
    for path in sorted(final.parent.iterdir()):
        found = name.fullmatch(path.name)
        if not found or ((pid := int(found[2])) != os.getpid() and is_running(pid)):
            continue
        if found[1] == "old" and not final.exists():  # killed between the two renames
            path.rename(final)
        else:
            shutil.rmtree(path, ignore_errors=True)
