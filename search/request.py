"""What a search is asked to do: options as people give them, in Python or on the command line, become its settings."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from os import PathLike, fspath
from typing import Any, TypedDict, Unpack

from torch import nn

from pzc.compiler.groups import GROUPS
from pzc.compiler.load import load_all
from pzc.compiler.metric import Metric
from pzc.runtime.errors import PruningError
from pzc.runtime.scoring.masks import check_sparsity, parse_pattern
from pzc.search.algorithms import ALGORITHMS
from pzc.search.objective import OBJECTIVES
from pzc.search.proposals import rng_for
from pzc.search.settings import Settings, default_threads, given
from pzc.search.space import random_genotype, space_for

LIMIT = 600.0
"""Seconds that a search takes when nothing else is said."""

BOUNDS = ("generations", "evaluations", "patience", "reach")
"""What ends a search beside its time."""

HERE = ("model", "data", "eval_data")
"""Where things are on this machine, if not where the run was begun."""

ANEW = (*HERE, "limit", *BOUNDS)
"""What may be said again of a run: where the model and the texts are now, and how far to go."""


class How(TypedDict, total=False):
    """The options of a search; those of `pzc search` by the same names, but `limit`, the seconds of searching, which is
    `--time`. `model` is what `pzc.load_model` takes; `search_metrics` takes a model itself, too.

    `data` is the text of calibration and fitness, `eval_data` that of the final; `windows`, `fitness_windows` and
    `held_out_windows` are of `length` tokens. `sparsity`, or a `pattern` N:M instead, is what candidates are pruned to,
    in the comparison groups `per`. `include` and `exclude` choose layers as `find_layers` does. `space` is a name or
    `FILE.pzm[:NAME]`, `template` what every candidate looks like. `seed_zoo` lets the published metrics into the first
    population, and `seed_metrics` those (metrics, or what `pzc.load` takes). The search ends after `limit` seconds,
    `generations`, `evaluations`, `patience` generations without anything better, or at the fitness `reach`; after ten
    minutes when nothing is said.
    """

    model: str | PathLike[str] | nn.Module
    data: str | PathLike[str]
    eval_data: str | PathLike[str] | None
    windows: int
    fitness_windows: int
    held_out_windows: int
    length: int | None
    sparsity: float
    pattern: str | None
    per: str | Sequence[str] | None
    include: Sequence[str] | str
    exclude: Sequence[str] | str
    algorithm: str
    space: str | PathLike[str]
    template: str | None
    objective: str
    population: int
    islands: int
    generations: int | None
    evaluations: int | None
    patience: int | None
    reach: float | None
    limit: float | None
    seed: int
    seed_zoo: bool
    seed_metrics: Sequence[str | PathLike[str] | Metric] | str | PathLike[str] | Metric
    dtype: str | None
    fitness_dtype: str | None
    threads: int


class Contradiction(PruningError):
    """Options that do not go together. In `text` they stand in braces, to be spelt as whoever gave them does."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(self.spelt(lambda name: f"`{name}`"))

    def spelt(self, how: Callable[[str], str]) -> str:
        """The message with every option as `how` spells it."""
        return re.sub(r"\{(\w+)\}", lambda found: how(found[1]), self.text)


def new_settings(workers: int = 1, **how: Unpack[How]) -> Settings:
    """The settings of a new run on so many workers of this machine; what is not said is as usual.

    Raises TypeError for an option that there is none of, PruningError for a value that is none, Contradiction for
    options that don't go together, MetricNotFound and SourceError for a space, a template or a metric that can't be
    read.
    """
    said = _plain(how)
    settings = Settings(**{f.name: said[f.name] for f in fields(Settings) if f.name in said})
    _check(settings)
    usual = ALGORITHMS[settings.algorithm]
    for name, own in usual.fixed.items():
        if said.get(name, own) != own:
            raise Contradiction(f"{{{name}}} does not go with {{algorithm}} {settings.algorithm}")
    if settings.pattern:
        for name in ("sparsity", "per"):
            if said.get(name) is not None:
                raise Contradiction(f"{{pattern}} {settings.pattern} replaces {{{name}}}; give one of them")
    if settings.template is not None:
        for name in ("seed_metrics", "seed_zoo"):
            if said.get(name):
                raise Contradiction(f"{{{name}}} brings in metrics that the {{template}} does not hold for")
    settings = replace(
        settings,
        population=said.get("population") or usual.population,
        space=said.get("space") or usual.space,
        threads=settings.threads or default_threads(workers),
        seeds=_seeds(said.get("seed_metrics", ())),
    )
    space = space_for(settings.space, "row" if settings.pattern else settings.per, settings.template)
    random_genotype(space, rng_for(settings.seed, 0, 0, 0))  # one that gives no metric is said before anything else
    if settings.limit is None and all(getattr(settings, bound) is None for bound in BOUNDS):
        settings = replace(settings, limit=LIMIT, default_limit=True)
    _check_seeds(settings)
    return settings


def resumed_settings(kept: Settings, **how: Unpack[How]) -> Settings:
    """The settings of a run with what is said of it anew: bounds, and where things are.

    Raises TypeError and PruningError as `new_settings` does, Contradiction for what a run cannot change.
    """
    said = _plain(how)
    if said.get("seed_metrics"):
        raise Contradiction("{seed_metrics} are what a run begins with; it cannot get others")
    for name in (name for name in said if name not in ("seed_metrics", *ANEW)):
        was = getattr(kept, name)
        if said[name] != was and not (name == "threads" and was is None):
            raise Contradiction(f"{{{name}}} of a run cannot change; it began {_as_it_was(was)}")
    anew = {name: said[name] for name in ANEW if name in said}
    if kept.default_limit and anew.keys() & {"limit", *BOUNDS}:  # it had no bound but that of a run which is given none
        anew = {"limit": None, **anew, "default_limit": False}
    settings = replace(kept, **anew)
    _check(settings)
    return settings


def _as_it_was(value: Any) -> str:
    if value is None or value is False or value == ():
        return "without one"
    return f"with {', '.join(value) if isinstance(value, tuple) else value}"


def _plain(how: Mapping[str, Any]) -> dict[str, Any]:
    """Options with paths as texts, one of several as several, and comparison groups in the order of the language."""
    if unknown := how.keys() - How.__annotations__.keys():
        raise TypeError(f"there is no option `{min(unknown)}`; there are {', '.join(sorted(How.__annotations__))}")
    said = {name: fspath(value) if isinstance(value, PathLike) else value for name, value in how.items()}
    for name in ("include", "exclude", "seed_metrics"):
        if name in said:
            value = said[name]
            said[name] = (value,) if isinstance(value, str | Metric) else tuple(value)
    if said.get("per") is not None:
        asked = said["per"].split(",") if isinstance(said["per"], str) else list(said["per"])
        if unknown := set(asked) - GROUPS.keys():
            raise PruningError(f"`{min(unknown)}` is no comparison group; there are {', '.join(GROUPS)}")
        said["per"] = ",".join(group for group in GROUPS if group in asked) or None
    return said


_LEAST = {
    "windows": 1, "fitness_windows": 4, "held_out_windows": 2, "length": 2, "population": 4, "islands": 1, "threads": 1,
    "generations": 1, "evaluations": 1, "patience": 1,
}  # fmt: skip


def _check(settings: Settings) -> None:
    """Raise PruningError for a value that an option cannot have."""
    for name, least in _LEAST.items():
        value = getattr(settings, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise PruningError(f"`{name}` cannot be {value!r}: it is a whole number from {least} on")
    for name, known in (("algorithm", ALGORITHMS), ("objective", OBJECTIVES)):
        if getattr(settings, name) not in known:
            raise PruningError(f"there is no {name} `{getattr(settings, name)}`; there are {', '.join(known)}")
    check_sparsity(settings.sparsity)
    if settings.pattern:
        parse_pattern(settings.pattern)
    if settings.limit is not None and not settings.limit > 0:
        raise PruningError(f"`limit` cannot be {settings.limit!r}: it is a number of seconds")
    if settings.reach is not None and not math.isfinite(settings.reach):
        raise PruningError(f"a fitness of {settings.reach} is never reached")


def _seeds(references: Iterable[str | PathLike[str] | Metric]) -> tuple[str, ...]:
    """Metrics as settings keep them. Raises Contradiction for one by role."""
    found = [m for each in references for m in ([each] if isinstance(each, Metric) else load_all(fspath(each)))]
    if by_role := [m.name for m in found if m.roles]:
        others = "of a file with others name one, as FILE.pzm:NAME"
        raise Contradiction(f"`{by_role[0]}` has a score for each role; the search has one for all layers; {others}")
    return tuple(f"{m.name}: {m.formula} per {m.per}" for m in found)


def _check_seeds(settings: Settings) -> None:
    """Raise Contradiction where the run would end before it has tried the metrics that it is to begin with."""
    bound = settings.evaluations
    n = len(given(settings).seeds) if bound is not None else 0
    if bound is not None and n > bound:
        brought = f"{n} candidates, one for each group of the space where it lacks a metric's own"
        raise Contradiction(
            f"{{seed_metrics}} bring {brought}; {{evaluations}} {bound} would leave some of them untried"
        )
