"""A comparison as data: what `pzc compare` prints, and writes as JSON, CSV and plots."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from pzc.compiler.metric import Metric
from pzc.compiler.pattern import pattern_text
from pzc.runtime.evaluation.compare import Compared
from pzc.runtime.evaluation.uncertainty import Estimate, change, exponential, mean
from pzc.runtime.files import csv_text, strict_json
from pzc.runtime.replacing import replace_file
from pzc.runtime.scoring.masks import Target, share_text

FORMAT = "pzc-comparison/1"


@dataclass(frozen=True)
class Row:
    """A result with its names and what follows from it.

    `change` is how much higher its perplexity is than the baseline's at the same target, as a share of it, from paired
    windows: none for the dense model, for the baseline itself and where there is nothing to compare with.
    """

    name: str
    target: str
    compared: Compared
    perplexity: Estimate
    divergence: Estimate | None
    change: Estimate | None


def rows(found: Sequence[Compared], baseline: str = "best") -> list[Row]:
    """Name the results and compare each with the `baseline` of its target: the `best`, or the `first` metric of all.
    Where that was refused, there is nothing to compare with."""
    metrics = list(dict.fromkeys(r.metric for r in found if r.metric))
    against: dict[Target, Compared] = {}
    for r in found:
        if r.target is None or not math.isfinite(r.perplexity) or (baseline == "first" and r.metric != metrics[0]):
            continue
        if r.target not in against or r.perplexity < against[r.target].perplexity:
            against[r.target] = r
    named = dict(zip(metrics, names(metrics), strict=True))
    return [
        Row(
            named[r.metric] if r.metric else "dense",
            written(r.target) if r.target else "dense",
            r,
            exponential(mean(r.losses)) if r.losses else Estimate(math.nan, math.nan),
            mean(r.divergences) if r.divergences else None,
            _change(r, against.get(r.target) if r.target else None),
        )
        for r in found
    ]


def _change(r: Compared, against: Compared | None) -> Estimate | None:
    if against is None or against is r or r.failure:
        return None
    return change(r.losses, against.losses)


def written(target: Target) -> str:
    """A target as it is typed and read: `50%`, `2:4`."""
    return pattern_text(target.pattern) if target.pattern else share_text(target.sparsity)


def names(metrics: Sequence[Metric]) -> list[str]:
    """A name for each metric, no two alike: an inline expression's is its formula, and where several have one name
    they are numbered."""
    plain = [m.name if m.name != "inline" else m.formula for m in metrics]
    taken = {name for name, times in Counter(plain).items() if times == 1}
    found = []
    for name in plain:
        if name not in taken or name in found:
            name = next(numbered for n in count(1) if (numbered := f"{name} ({n})") not in taken)
            taken.add(name)
        found.append(name)
    return found


def as_json(row: Row) -> dict[str, Any]:
    """A row's numbers: shares are of 1, perplexities of losses in nats a token, divergences in nats a token."""
    r = row.compared
    return {
        "metric": row.name if r.metric else None,
        "formula": r.metric.formula if r.metric else None,
        "target": row.target if r.metric else None,
        "per": r.per,
        "sparsity": r.sparsity,
        "perplexity": row.perplexity.value,
        "perplexity_error": row.perplexity.error,
        "change": row.change.value if row.change else None,
        "change_error": row.change.error if row.change else None,
        "kl_divergence": row.divergence.value if row.divergence else None,
        "kl_divergence_error": row.divergence.error if row.divergence else None,
        "failure": r.failure,
        "seconds": round(r.seconds, 3),
    }


def write(folder: Path, results: Sequence[Row], about: Mapping[str, Any]) -> None:
    """Write `results.json` (with `about` and the losses of every window) and `results.csv`, each whole or not at
    all."""
    folder.mkdir(parents=True, exist_ok=True)
    table = [as_json(row) for row in results]
    each = [
        {**line, "losses": row.compared.losses, "divergences": row.compared.divergences or None}
        for row, line in zip(results, table, strict=True)
    ]
    replace_file(folder / "results.json", strict_json({"format": FORMAT, **about, "results": each}) + "\n")
    replace_file(folder / "results.csv", csv_text(list(table[0]), table))
