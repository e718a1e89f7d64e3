"""The tables of a run: every candidate, and the Pareto front of fitness, size and cost tier as people are shown it.

`candidates.csv` and `pareto.csv` have the same columns; on the front a formula and its complexity are as they are read,
among the candidates as they were bred. A value that a candidate does not have is an empty cell.
Where pyarrow is installed (`pip install 'pzc[report]'`), Parquet files with the same columns lie beside them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pzc.runtime.evaluation.uncertainty import perplexity
from pzc.runtime.files import csv_text
from pzc.runtime.replacing import replace_file
from pzc.search.candidate import RANKED, Candidate
from pzc.search.front import front
from pzc.search.predictors import READS, SURROGATE
from pzc.search.racing import rungs_of

Row = dict[str, Any]

CANDIDATES, PARETO = "candidates", "pareto"


def _predictor(name: str) -> Callable[[Candidate], float | None]:
    return lambda c: c.predictors.get(name)


COLUMNS: dict[str, tuple[str, Callable[[Candidate], Any]]] = {
    "number": ("int64", lambda c: c.number),
    "generation": ("int64", lambda c: c.generation),
    "slot": ("int64", lambda c: c.slot),
    "attempt": ("int64", lambda c: c.attempt),
    "island": ("int64", lambda c: c.island),
    "operator": ("string", lambda c: c.operator),
    "parents": ("list", lambda c: list(c.parents)),
    "status": ("string", lambda c: c.status),
    "alias_of": ("int64", lambda c: c.alias_of),
    "reason": ("string", lambda c: c.reason or None),
    "formula": ("string", lambda c: c.formula),
    "per": ("string", lambda c: c.per),
    "complexity": ("int64", lambda c: c.complexity),
    "tier": ("string", lambda c: c.tier),
    "fitness": ("double", lambda c: c.fitness if c.status in RANKED and math.isfinite(c.fitness) else None),
    "losses": ("losses", lambda c: list(c.losses)),
    "exact_key": ("string", lambda c: c.exact_key or None),
    "real_key": ("string", lambda c: c.real_key or None),
    "rank_key": ("string", lambda c: c.rank_key or None),
    "fingerprint": ("string", lambda c: c.fingerprint or None),
    "mask_hash": ("string", lambda c: c.mask_hash or None),
    "shape": ("string", lambda c: c.shape or None),
    "seconds": ("double", lambda c: c.seconds),
    **{name: ("double", _predictor(name)) for name in (*READS, SURROGATE)},
}
"""Each column with its type, and how a candidate fills it: the predictors last, and after them the fitness of each
rung."""


def rows(candidates: Iterable[Candidate], windows: int) -> list[Row]:
    """A row for each candidate. `windows` is the number of fitness windows, from which the rungs follow.

    The fitness is a perplexity over all fitness windows, of those that were measured in full, and an estimate of those
    that were placed; `fitness_8` is that over the first eight, of all that came so far. Losses are nats a token.
    """
    rungs = rungs_of(windows)
    return [{**{name: fill(c) for name, (_, fill) in COLUMNS.items()}, **_by_rung(c, rungs)} for c in candidates]


def _by_rung(c: Candidate, rungs: Sequence[int]) -> Row:
    return {f"fitness_{n}": perplexity(c.losses[:n]) if len(c.losses) >= n else None for n in rungs}


def write(candidates: Sequence[Candidate], windows: int, folder: Path) -> list[Path]:
    """Write all tables into a run's folder, each whole or not at all, and return their paths.

    Published metrics are among the candidates, and compete for the front.
    """
    written = []
    shown = [replace(c, formula=m.formula, complexity=m.complexity) for c, m in front(candidates)]
    for name, chosen in ((CANDIDATES, candidates), (PARETO, shown)):
        table = rows(chosen, windows)
        written.append(replace_file(folder / f"{name}.csv", csv_text(list(_types(windows)), table)))
        if find_spec("pyarrow"):
            written.append(replace_file(folder / f"{name}.parquet", parquet(table, windows)))
    return written


def _types(windows: int) -> dict[str, str]:
    return {name: kind for name, (kind, _) in COLUMNS.items()} | {f"fitness_{n}": "double" for n in rungs_of(windows)}


def parquet(table: Sequence[Row], windows: int) -> bytes:
    """A table as a Parquet file."""
    import pyarrow
    import pyarrow.parquet

    kinds = {
        "int64": pyarrow.int64(),
        "double": pyarrow.float64(),
        "string": pyarrow.string(),
        "list": pyarrow.list_(pyarrow.int64()),
        "losses": pyarrow.list_(pyarrow.float64()),
    }
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in _types(windows).items()])
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(table), schema=schema), sink)
    return sink.getvalue()
