"""How the metrics of a hall of fame do elsewhere: on other models, texts and targets, beside published ones."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from pzc.compiler.load import load, zoo_metric
from pzc.compiler.metric import Metric
from pzc.runtime.errors import PruningError
from pzc.runtime.evaluation.compare import Compared, compare
from pzc.runtime.evaluation.comparison import written
from pzc.runtime.evaluation.uncertainty import Estimate, change
from pzc.runtime.files import strict_json
from pzc.runtime.models.layers import find_layers
from pzc.runtime.models.loading import Loaded
from pzc.runtime.models.passes import Progress, silent
from pzc.runtime.planning.texts import Texts
from pzc.runtime.pruning.targets import check_pattern
from pzc.runtime.replacing import replace_file
from pzc.runtime.scoring.masks import Target
from pzc.search.candidate import Candidate
from pzc.search.errors import StoreError
from pzc.search.hall import HALL
from pzc.search.reading import Run

Row = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """A metric that is tried elsewhere: `published`, or a member of the hall of fame by the name of its file."""

    name: str
    metric: Metric
    published: bool


@dataclass(frozen=True)
class Transferred:
    """One metric on one model, text and target, under `conditions` (see `conditions_of`).

    `dense` is the perplexity of the model before pruning; `ratio` that of the metric's perplexity to that of the best
    published one of the same model, text and target, `best`, with its standard error from paired windows. NaN where a
    metric could not be measured, and `failure` says why.
    """

    model: str
    text: str
    target: str
    entry: Entry
    per: str
    dense: float
    perplexity: float
    best: str
    ratio: float
    error: float
    conditions: Row
    failure: str = ""


def entries(run: Run, members: int, zoo: int) -> list[Entry]:
    """The first `members` of the hall of fame, and the `zoo` published metrics with the best fitness in the run.

    Raises StoreError where the run has no hall of fame.
    """
    files = sorted((run.folder / HALL).glob("*.pzm"))[:members]
    if not files:
        raise StoreError(f"{run.folder} has no hall of fame yet", "let `pzc search --resume` finish it")
    found = [_member(file) for file in files]
    return [*found, *(_published(c) for c in run.published[:zoo])]


def _member(file: Path) -> Entry:
    return Entry(file.stem, replace(load(str(file)), name=file.stem), published=False)


def _published(c: Candidate) -> Entry:
    return Entry(c.operator, replace(zoo_metric(c.operator), per=c.per), published=True)


def fitting(
    loaded: Loaded, targets: Sequence[Target], include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> tuple[list[Target], list[PruningError]]:
    """The targets that fit the layers of a model that `include` and `exclude` choose, and what is against each of the
    others. Raises PruningError for layers that are not there."""
    fits, misfits = [], []
    layers = find_layers(loaded.model, include, exclude).layers
    for target in targets:
        try:
            check_pattern(target, layers)
            fits.append(target)
        except PruningError as error:
            misfits.append(error)
    return fits, misfits


def transfer(
    loaded: Loaded,
    model: str,
    tried: Sequence[Entry],
    texts: Texts,
    targets: Sequence[Target],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    seed: int = 0,
    progress: Progress = silent,
) -> Iterator[list[Transferred]]:
    """Measure every entry at every target on one model, and yield the results of each target, best first.

    The best published metric is chosen on the text that all are measured on, which favours it. The model is left dense.
    Raises PruningError for a target that does not fit the model.
    """
    conditions = conditions_of(texts, include, exclude, seed, loaded.dtype)
    by_metric = {id(e.metric): e for e in tried}
    results: dict[Target, list[tuple[Entry, Compared]]] = {target: [] for target in targets}
    dense = math.nan
    metrics, total = [e.metric for e in tried], len(tried) * len(targets) + 1
    results_in_order = compare(
        loaded.model, metrics, texts.calibration_windows, texts.evaluation_windows, targets,
        include=include, exclude=exclude, seed=seed,
    )  # fmt: skip
    for done, one in enumerate(results_in_order, 1):
        progress(Path(model).name, done, total)
        if one.metric is None or one.target is None:
            dense = one.perplexity
        else:
            results[one.target].append((by_metric[id(one.metric)], one))
    for target, rows in results.items():
        yield _beside_best(model, texts.measured_on, target, dense, rows, conditions)


def conditions_of(texts: Texts, include: Sequence[str], exclude: Sequence[str], seed: int, dtype: torch.dtype) -> Row:
    """What else a measurement depends on: the text that statistics came from and how many of its windows, none of which
    there are for the weights alone; how many windows measured, of how many tokens; which layers are pruned; the
    seed; the type of the model."""
    measured, gathered = texts.evaluation_windows, texts.calibration_windows
    return {
        "calibration": texts.calibration.title if texts.calibration else None,
        "windows": None if gathered is None else len(gathered),
        "eval_windows": len(measured),
        "length": measured.shape[1],
        "include": " ".join(include) or None,
        "exclude": " ".join(exclude) or None,
        "seed": seed,
        "dtype": str(dtype).removeprefix("torch."),
    }


CONDITIONS = ("calibration", "windows", "eval_windows", "length", "include", "exclude", "seed", "dtype")
"""What a row says of them; None in one of a version that did not note them."""


def _beside_best(
    model: str,
    text: str,
    target: Target,
    dense: float,
    rows: Sequence[tuple[Entry, Compared]],
    conditions: Row,
) -> list[Transferred]:
    measured = [(e, s) for e, s in rows if e.published and math.isfinite(s.perplexity)]
    best = min(measured, key=lambda row: row[1].perplexity, default=None)
    found = []
    for entry, one in rows:
        against = change(one.losses, best[1].losses) if best and one.losses else Estimate(math.nan, math.nan)
        found.append(
            Transferred(
                model, text, written(target), entry, target.per or entry.metric.per if not target.pattern else "",
                dense, one.perplexity, best[0].name if best else "", 1 + against.value, against.error,
                conditions, one.failure or "",
            )
        )  # fmt: skip
    return sorted(found, key=lambda t: t.perplexity if math.isfinite(t.perplexity) else math.inf)


KEPT = "transfer.json"
"""The file of a run's folder that holds what was measured elsewhere."""

_KEY = ("model", "text", "target", "metric", "per", *CONDITIONS)


def keep(folder: Path, rows: Sequence[Row]) -> Path:
    """Add rows to those of a run, in the place of what was measured of the same under the same conditions before. Of
    several processes one does so at a time."""
    new = {tuple(row[name] for name in _KEY) for row in rows}
    with FileLock(folder / f".{KEPT}.lock"):
        before = [row for row in kept(folder) if tuple(row[name] for name in _KEY) not in new]
        return replace_file(folder / KEPT, strict_json([*before, *rows]))


def kept(folder: Path) -> list[Row]:
    """What was measured elsewhere of a run's hall of fame. Raises StoreError for a file that is something else."""
    path = folder / KEPT
    if not path.is_file():
        return []
    try:
        rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))
        return [{name: row.get(name) if name in CONDITIONS else row[name] for name in COLUMNS} for row in rows]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is no record of transfers", "remove it and transfer again") from error


COLUMNS = (
    "model", "text", "target", "metric", "published", "formula", "per", "dense", "perplexity", "best_published",
    "ratio", "standard_error", "failure", *CONDITIONS,
)  # fmt: skip
"""What a row says."""


def as_row(t: Transferred) -> Row:
    """A result for JSON and CSV; what is missing is None."""

    def finite(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "model": t.model,
        "text": t.text,
        "target": t.target,
        "metric": t.entry.name,
        "published": t.entry.published,
        "formula": t.entry.metric.formula,
        "per": t.per or None,
        "dense": finite(t.dense),
        "perplexity": finite(t.perplexity),
        "best_published": t.best or None,
        "ratio": finite(t.ratio),
        "standard_error": finite(t.error),
        "failure": t.failure or None,
        **t.conditions,
    }
