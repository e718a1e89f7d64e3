"""A run that is over, or elsewhere at work, as something to read: its candidates and what it was started with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from pzc.compiler.leaves import ALIASES, LEAVES, TIERS
from pzc.search.candidate import Candidate
from pzc.search.store import Store, StoreError

MEASURED = ("evaluated", "lost race")
"""What became of candidates that a pruned model was run for."""

COMPARABLE = ("model_sha256", "text_sha256", "windows", "fitness_windows", "length", "sparsity", "pattern", "dtype")
"""The settings that two runs must share for their fitness to mean the same."""


def candidates_of(folder: Path) -> tuple[list[Candidate], dict[str, Any]]:
    """The candidates of a run in the order in which they were settled, and its settings.

    Raises StoreError where the folder holds no run, or one that never began.
    """
    if not folder.is_dir():
        raise StoreError(f"there is no folder {folder}", "name the folder of a run: pzc search prints it")
    store = Store(folder, resume=True)
    try:
        if store.settings is None:
            raise StoreError(f"the search in {folder} never began")
        return store.candidates, store.settings
    finally:
        store.close()


@dataclass(frozen=True)
class Run:
    """A run to read. `candidates` are in the order in which they were settled; a candidate's number is its place."""

    folder: Path
    candidates: Sequence[Candidate]
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.resolve().name

    @cached_property
    def bred(self) -> list[Candidate]:
        """What the search itself proposed."""
        return [c for c in self.candidates if not published(c)]

    @cached_property
    def measured(self) -> list[Candidate]:
        """What the search proposed and a pruned model was run for, in the order of the run."""
        return [c for c in self.bred if c.status in MEASURED and c.losses]

    @cached_property
    def found(self) -> list[Candidate]:
        """What the search proposed and measured in full, best first."""
        return sorted((c for c in self.bred if c.status == "evaluated"), key=lambda c: c.order)

    @cached_property
    def zoo(self) -> list[Candidate]:
        """The published metrics that were measured in full, best first."""
        return sorted((c for c in self.candidates if published(c) and c.status == "evaluated"), key=lambda c: c.order)

    @property
    def winner(self) -> Candidate:
        """The best that it found. `read_run` sees to it that there is one."""
        return self.found[0]

    @property
    def target(self) -> str:
        """What it prunes to, as it is written: `50 %` or `2:4`."""
        return self.settings.get("pattern") or f"{float(self.settings.get('sparsity', 0.5)):.0%}".replace("%", " %")


def read_run(folder: Path) -> Run:
    """The run that a folder holds. Raises StoreError where there is none, or where nothing was measured in full."""
    candidates, settings = candidates_of(folder)
    run = Run(folder, candidates, settings)
    if not run.found:
        raise StoreError(
            f"the search in {folder} has measured no candidate in full", f"go on with it: pzc search --resume {folder}"
        )
    return run


def published(c: Candidate) -> bool:
    """Whether a candidate is a metric of the zoo, which `operator` then names."""
    return c.generation < 0


def check_comparable(run: Run, other: Run) -> None:
    """Raise StoreError unless the fitness of both runs was measured on the same model, text and windows."""
    for key in COMPARABLE:
        ours, theirs = run.settings.get(key), other.settings.get(key)
        if ours != theirs:
            what = key.removesuffix("_sha256").replace("_", "-")
            raise StoreError(
                f"{other.folder} cannot be shown beside {run.folder}: its {what} is another, so its fitness is not "
                "comparable"
            )


def tier_place(tier: str) -> int:
    """Where a tier stands, cheapest first."""
    return TIERS.index(tier) if tier in TIERS else len(TIERS)


_WORD = re.compile(r"[A-Za-z_][\w.]*")


@lru_cache(maxsize=1 << 16)
def tier_of(formula: str) -> str:
    """The dearest pass that the leaves of a formula need. No leaf has the name of a function, so words tell."""
    names = (ALIASES.get(word, word) for word in _WORD.findall(formula))
    return max((LEAVES[n].tier for n in names if n in LEAVES), key=TIERS.index, default="weights")
