"""What a search is asked to do: options as people give them, in Python or on the command line, become its settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, replace
from operator import index
from os import PathLike, fspath
from typing import Any, TypedDict, Unpack

import torch
from torch import nn

from pzc.compiler.groups import read_groups
from pzc.compiler.leaves import LEAVES, TIERS, within
from pzc.compiler.limits import LARGEST_SEED
from pzc.compiler.load import load_all
from pzc.compiler.metric import Metric
from pzc.compiler.pattern import pattern_text
from pzc.grammar.diagnostics import did_you_mean
from pzc.runtime.errors import PruningError
from pzc.runtime.models.loading import Loaded, resolve_dtype
from pzc.runtime.scoring.masks import check_sparsity, parse_pattern
from pzc.search.algorithms import ALGORITHMS
from pzc.search.errors import Contradiction
from pzc.search.objective import OBJECTIVES
from pzc.search.proposals import rng_for
from pzc.search.settings import BOUNDS, Settings, default_threads, given, searched_space
from pzc.search.space import random_genotype

LIMIT = 600.0
"""Seconds that a search takes when nothing else is said."""

HERE = ("model", "data", "eval_data", "space")
"""Where things are on this machine, if not where the run was begun. Their content must be the same."""

ANEW = (*HERE, "limit", *BOUNDS)
"""What may be said again of a run: where the model, the texts and the space are now, and how far to go."""


class How(TypedDict, total=False):
    """The options of a search; those of `pzc search` by the same names, but `limit`, the seconds of searching, which is
    `--time`. `model` is what `pzc.load_model` takes; `search_metrics` takes what that returns, and models, too.

    `data` is the text of calibration and fitness, `eval_data` that of the final; `windows`, `fitness_windows` and
    `held_out_windows` are of `length` tokens. `sparsity`, or a `pattern` N:M instead, is what candidates are pruned to,
    in the comparison groups `per`. `include` and `exclude` choose layers as `find_layers` does. `space` is a name or
    `FILE.pzm[:NAME]`, `template` what every candidate looks like, `tier` the dearest statistics that it may read:
    weights, forward, hessian or backward. `seed_zoo` lets the published metrics into the first
    population, and `seed_metrics` those (metrics, or what `pzc.load` takes). The search ends after `limit` seconds,
    `generations`, `evaluations`, `patience` generations without anything better, or at the fitness `reach`, in all and
    not each time that it is resumed; after ten minutes when nothing is said. Of a run that is resumed those that are
    not said stay, and None takes one away. Results depend on `threads` and `fitness_dtype` in their last bits: they are
    torch's number of threads shared out among the workers, and what a moment's measurement finds faster, when they are
    not said.
    """

    model: str | PathLike[str] | Loaded | nn.Module
    data: str | PathLike[str]
    eval_data: str | PathLike[str] | None
    windows: int
    fitness_windows: int
    held_out_windows: int
    length: int | None
    sparsity: float
    pattern: str | tuple[int, int] | None
    per: str | Sequence[str] | None
    include: Sequence[str] | str
    exclude: Sequence[str] | str
    algorithm: str
    space: str | PathLike[str]
    template: str | None
    tier: str | None
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
    dtype: str | torch.dtype | None
    fitness_dtype: str | torch.dtype | None
    threads: int


def new_settings(workers: int = 1, **how: Unpack[How]) -> Settings:
    """The settings of a new run on so many workers of this machine; what is not said, or None, is as usual.

    Raises TypeError for an option that there is none of, PruningError for a value that is none, Contradiction for
    options that don't go together, MetricNotFound and SourceError for a space, a template or a metric that can't be
    read.
    """
    said = _read(how)
    settings = Settings(**{f.name: said[f.name] for f in fields(Settings) if f.name in said})
    usual = ALGORITHMS[settings.algorithm]
    for name, own in usual.fixed.items():
        if said.get(name, own) != own:
            raise Contradiction(f"{{{name}}} does not go with {{algorithm}} {settings.algorithm}")
    if settings.pattern:
        for name in ("sparsity", "per"):
            if name in said:
                raise Contradiction(f"{{pattern}} {settings.pattern} replaces {{{name}}}; give one of them")
    if settings.template is not None:
        for name in ("seed_metrics", "seed_zoo"):
            if said.get(name):
                raise Contradiction(f"{{{name}}} brings in metrics that the {{template}} does not hold for")
    settings = replace(
        settings,
        population=said.get("population", usual.population),
        space=said.get("space", usual.space),
        threads=settings.threads or default_threads(workers),
        seeds=said.get("seed_metrics", ()),
    )
    space = searched_space(settings)
    random_genotype(space, rng_for(settings.seed, 0, 0, 0))  # one that gives no metric is said before anything else
    settings = _ending(settings)
    _check_seeds(settings)
    return settings


def resumed_settings(kept: Settings, **how: Unpack[How]) -> Settings:
    """The settings of a run with what is said of it anew: bounds, where None takes one away, and where things are. What
    else is said must be what it began with.

    Raises TypeError and PruningError as `new_settings` does, Contradiction for what a run cannot change.
    """
    said = _read(how, unsaid=("limit", *BOUNDS))
    if said.get("seed_metrics", kept.seeds) != kept.seeds:
        raise Contradiction("{seed_metrics} are what a run begins with; it cannot get others")
    for name in (name for name in said if name not in ("seed_metrics", *ANEW)):
        was = getattr(kept, name)
        if said[name] != was and not (name == "threads" and was is None):
            raise Contradiction(f"{{{name}}} of a run cannot change; it began {_as_it_was(was)}")
    anew = {name: said[name] for name in ANEW if name in said}
    if kept.default_limit and anew.keys() & {"limit", *BOUNDS}:  # it had no bound but that of a run which is given none
        anew = {"limit": None, **anew, "default_limit": False}
    return _ending(replace(kept, **anew))


def _ending(settings: Settings) -> Settings:
    """The settings with the usual limit where nothing else ends the run."""
    if settings.limit is None and all(getattr(settings, bound) is None for bound in BOUNDS):
        return replace(settings, limit=LIMIT, default_limit=True)
    return settings


def check_workers(workers: int) -> None:
    """Raise PruningError for a number of processes that is none."""
    _whole(1)("workers", workers)


def _as_it_was(value: Any) -> str:
    if value is None or value is False or value == ():
        return "without one"
    return f"with {', '.join(value) if isinstance(value, tuple) else value}"


def _check_seeds(settings: Settings) -> None:
    """Raise Contradiction where the run would end before it has tried the metrics that it is to begin with, or where
    these read dearer statistics than it may."""
    start, bound = given(settings), settings.evaluations
    for m in start.seeds:
        if not within(m.leaves, start.space.tier):
            dearest = max(m.leaves, key=lambda name: TIERS.index(LEAVES[name].tier))
            reads = f"`{m.name}` reads {dearest}, of the tier {LEAVES[dearest].tier}"
            raise Contradiction(f"{{seed_metrics}}: {reads}; the search keeps to {start.space.tier}")
    n = len(start.seeds)
    if bound is not None and n > bound:
        brought = f"{n} candidates, one for each group of the space where it lacks a metric's own"
        raise Contradiction(
            f"{{seed_metrics}} bring {brought}; {{evaluations}} {bound} would leave some of them untried"
        )


# Values, each read by its option's entry in a table


def _read(how: Mapping[str, Any], unsaid: Collection[str] = ()) -> dict[str, Any]:
    """Options as settings have them; None says nothing, but of those that may be `unsaid` again."""
    if unknown := how.keys() - _VALUES.keys():
        name, there_are = min(unknown), f"there are {', '.join(sorted(_VALUES))}"
        raise TypeError(
            f"there is no option `{name}`; {_OF_THE_COMMAND.get(name) or did_you_mean(name, _VALUES) or there_are}"
        )
    return {
        name: None if value is None else _VALUES[name](name, value)
        for name, value in how.items()
        if value is not None or name in unsaid
    }


_OF_THE_COMMAND = {"time": "`--time` is `limit`, in seconds"}
"""What an option of `pzc search` is called in Python, if it isn't called so."""


def _text(name: str, value: str | PathLike[str]) -> str:
    return fspath(value)


def _whole(least: int, most: int | None = None) -> Callable[[str, Any], int]:
    def read(name: str, value: Any) -> int:
        try:
            found = index(value)
        except TypeError:
            found = None
        if found is None or isinstance(value, bool) or found < least or (most is not None and found > most):
            upto = f" to {most:,}" if most is not None else " on"
            raise PruningError(f"`{name}` cannot be {value!r}: it is a whole number from {least}{upto}")
        return found

    return read


def _number(name: str, value: Any) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if isinstance(value, str | bool) or not math.isfinite(found):
        raise PruningError(f"`{name}` cannot be {value!r}: it is a number")
    return found


def _seconds(name: str, value: Any) -> float:
    found = _number(name, value)
    if found <= 0:
        raise PruningError(f"`{name}` cannot be {value!r}: it is a number of seconds")
    return found


def _share(name: str, value: Any) -> float:
    found = _number(name, value)
    check_sparsity(found)
    return found


def _pattern(name: str, value: Any) -> str:
    return pattern_text(parse_pattern(value if isinstance(value, str) else pattern_text(value)))


def _groups(name: str, value: Any) -> str | None:
    try:
        return read_groups([group.strip() for group in (value.split(",") if isinstance(value, str) else value)])
    except ValueError as error:
        raise PruningError(str(error)) from None


def _several(name: str, value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _one_of(known: Collection[str]) -> Callable[[str, Any], str]:
    def read(name: str, value: Any) -> str:
        if value not in known:
            raise PruningError(f"there is no {name} `{value}`; there are {', '.join(known)}")
        return str(value)

    return read


def _dtype(name: str, value: Any) -> str:
    return str(resolve_dtype(value)).removeprefix("torch.")


def _metrics(name: str, value: Any) -> tuple[str, ...]:
    """Metrics as settings keep them. Raises Contradiction for one by role."""
    several = [value] if isinstance(value, str | PathLike | Metric) else value
    found = [m for each in several for m in ([each] if isinstance(each, Metric) else load_all(fspath(each)))]
    if by_role := [m.name for m in found if m.roles]:
        others = "of a file with others name one, as FILE.pzm:NAME"
        raise Contradiction(f"`{by_role[0]}` has a score for each role; the search has one for all layers; {others}")
    return tuple(f"{m.name}: {m.formula} per {m.per}" for m in found)


_VALUES: dict[str, Callable[[str, Any], Any]] = {
    "model": _text,
    "data": _text,
    "eval_data": _text,
    "windows": _whole(1),
    "fitness_windows": _whole(4),
    "held_out_windows": _whole(2),
    "length": _whole(2),
    "sparsity": _share,
    "pattern": _pattern,
    "per": _groups,
    "include": _several,
    "exclude": _several,
    "algorithm": _one_of(ALGORITHMS),
    "space": _text,
    "template": _text,
    "tier": _one_of(TIERS),
    "objective": _one_of(OBJECTIVES),
    "population": _whole(4),
    "islands": _whole(1),
    "generations": _whole(1),
    "evaluations": _whole(1),
    "patience": _whole(1),
    "reach": _number,
    "limit": _seconds,
    "seed": _whole(0, LARGEST_SEED),
    "seed_zoo": lambda name, value: bool(value),
    "seed_metrics": _metrics,
    "dtype": _dtype,
    "fitness_dtype": _dtype,
    "threads": _whole(1),
}
"""The options with how each is read: a value as settings keep it. Raises PruningError for one that is none."""
