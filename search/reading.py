"""A run that is over, or elsewhere at work, as something to read: its candidates and what it was started with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pzc.compiler.metric import Metric
from pzc.runtime.scoring.masks import share_text
from pzc.search.candidate import MEASURED, RANKED, Candidate
from pzc.search.errors import StoreError
from pzc.search.final import Outcome
from pzc.search.front import front
from pzc.search.objective import MEASURES
from pzc.search.place import Place
from pzc.search.replay import stored_state
from pzc.search.settings import Settings, plan_of, settings_of
from pzc.search.store import Store

COMPARABLE = (
    "model_sha256", "text_sha256", "windows", "fitness_windows", "choice_of_windows_sha256", "sparsity", "pattern",
    "include", "exclude", "dtype", "fitness_dtype", "objective",
)  # fmt: skip
"""The settings that two runs must share for their fitness to mean the same. So many windows with the same tokens have
the same length."""

SEARCHED = ("space", "template", "tier", "per", "seeds", "seed_zoo")
"""The settings that say where a run searches and what it begins with."""


@dataclass(frozen=True)
class Run:
    """A run to read, with its candidates in the order of their numbers, those of the generation at work included;
    `first` is the number of the one that has the first place in its hall of fame, if there is a hall, `outcome` what
    the final has measured of that one, if it is known."""

    place: Place
    candidates: Sequence[Candidate]
    settings: dict[str, Any]
    first: int | None = None
    outcome: Outcome | None = None

    def with_model_at(self, model: str | None) -> Run:
        """The run with its model at another place than where it began, if one is named."""
        return self if model is None else replace(self, settings={**self.settings, "model": model})

    @property
    def folder(self) -> Path:
        """Where its hall of fame is."""
        return self.place.folder

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.resolve().name

    @cached_property
    def by_number(self) -> dict[int, Candidate]:
        """The candidates by their numbers, as parents and aliases name them."""
        return {c.number: c for c in self.candidates}

    @cached_property
    def bred(self) -> list[Candidate]:
        """What the search itself proposed."""
        return [c for c in self.candidates if not c.published]

    @cached_property
    def measured(self) -> list[Candidate]:
        """What the search proposed and a pruned model was run for, in the order of the run."""
        return [c for c in self.bred if c.status in MEASURED and c.losses]

    @cached_property
    def found(self) -> list[Candidate]:
        """What the search proposed and knows the fitness of, best first."""
        return sorted(filter(_ranked, self.bred), key=lambda c: c.order)

    @cached_property
    def zoo(self) -> list[Candidate]:
        """The published metrics that were measured in full, best first."""
        return sorted((c for c in self.candidates if c.published and _ranked(c)), key=lambda c: c.order)

    @cached_property
    def front(self) -> list[tuple[Candidate, Metric]]:
        """What no other beats in fitness, size and cost tier, each with its metric as it is read, best first."""
        return front([*self.zoo, *self.found])

    @cached_property
    def published(self) -> list[Candidate]:
        """Of the zoo each metric once, best first: where a space lacks its group, it was measured in several."""
        best: dict[str, Candidate] = {}
        for c in self.zoo:
            best.setdefault(c.operator, c)
        return list(best.values())

    @property
    def winner(self) -> Candidate:
        """The best that it found: the first of its hall of fame, else the best by fitness. `read_run` sees to it that
        there is one."""
        return next((c for c in self.found if c.number == self.first), self.found[0])

    @property
    def measure(self) -> str:
        """What fitness is: the perplexity, or the exponential of the divergence from the dense model."""
        return MEASURES[self.settings.get("objective", "perplexity")]

    @property
    def chosen_layers(self) -> dict[str, Sequence[str]]:
        """The layers that it prunes, as `find_layers` and `compare` take them."""
        return {name: self.settings.get(name, ()) for name in ("include", "exclude")}

    @property
    def target(self) -> str:
        """What it prunes to, as it is written: `50 %` or `2:4`."""
        return self.settings.get("pattern") or share_text(float(self.settings.get("sparsity", 0.5))).replace("%", " %")


def read_run(place: Place) -> Run:
    """The run that is stored at a place. Raises StoreError where there is none, or one that never began, or where
    nothing was measured in full."""
    if not place.url and not place.folder.is_dir():
        raise StoreError(f"there is no folder {place.folder}", "name the folder of a run: pzc search prints it")
    store = Store(place, resume=True)
    state = stored_state(store, plan_of(settings_of(store)))
    settings = {**asdict(Settings()), **(store.settings or {})}  # an earlier version knew less
    run = Run(place, state.every(), settings, store.winner, outcome_of(store))
    if not run.found:
        raise StoreError(
            f"the search in {place} has measured no candidate in full",
            f"go on with it: pzc search {place.resume}",
        )
    return run


def outcome_of(store: Store) -> Outcome | None:
    """What the final has measured of the first place: not what an earlier one has of another."""
    kept = store.outcome or {}
    known = {f.name: kept[f.name] for f in fields(Outcome) if f.name in kept}
    known["losses"] = tuple(known.get("losses", ()))
    needed = {f.name for f in fields(Outcome) if f.default is MISSING}
    return Outcome(**known) if needed <= known.keys() and known["candidate"] == store.winner else None


def _ranked(c: Candidate) -> bool:
    return c.status in RANKED and math.isfinite(c.fitness)


def differing(run: Run, other: Run) -> list[str]:
    """The settings by which two runs do not search the same: what sets them apart is not the algorithm alone."""
    return [key for key in SEARCHED if (run.settings.get(key) or None) != (other.settings.get(key) or None)]


def check_comparable(run: Run, other: Run) -> None:
    """Raise StoreError unless the fitness of both runs was measured on the same model, text and windows."""
    for key in COMPARABLE:
        ours, theirs = run.settings.get(key) or None, other.settings.get(key) or None
        if ours != theirs:
            what = key.removesuffix("_sha256").replace("_", "-")
            raise StoreError(
                f"{other.folder} cannot be shown beside {run.folder}: its {what} is another, so its fitness is not "
                "comparable"
            )
