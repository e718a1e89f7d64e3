"""The hall of fame: the best metrics of a run, measured on text that the search has never seen."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from pzc.compiler.load import zoo_metric
from pzc.compiler.metric import Metric
from pzc.runtime.errors import PruningError
from pzc.search.candidate import ZOO, Candidate, perplexity
from pzc.search.fitness import Fitness
from pzc.search.readable import forms
from pzc.search.space import Genotype

MEMBERS = 10


@dataclass(frozen=True)
class Member:
    """A metric of the hall of fame: the candidate, the metric as it is written, and both perplexities."""

    candidate: Candidate
    metric: Metric
    held_out: float


def measure(
    fitness: Fitness, candidates: Iterable[Candidate], windows: Tensor, progress: Callable[[int], None]
) -> list[Member]:
    """The held-out perplexity of each candidate, in the order given: of the shortest form that has finite scores."""
    members = []
    for i, c in enumerate(candidates):
        published = c.generation == ZOO
        metrics = [replace(zoo_metric(c.operator), per=c.per)] if published else forms(c, f"found_{i + 1}")
        members.append(_member(c, metrics, fitness, windows))
        progress(i + 1)
    return members


def _member(c: Candidate, metrics: Sequence[Metric], fitness: Fitness, windows: Tensor) -> Member:
    *shorter, last = metrics
    for metric in shorter:
        with suppress(PruningError):
            return Member(c, metric, _held_out(metric, fitness, windows))
    return Member(c, last, _held_out(last, fitness, windows))


def _held_out(metric: Metric, fitness: Fitness, windows: Tensor) -> float:
    return perplexity(fitness.on(Genotype(metric.core, metric.per), windows))


def write(members: Sequence[Member], folder: Path, about: str) -> list[Path]:
    """Write each member as a `.pzm` file, best first, with where it comes from in its doc comment.

    The folder is written beside its name and renamed, so it is never half a hall of fame.
    """
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    names = []
    for place, m in enumerate(members, 1):
        names.append(f"{place:02d}.pzm")
        source = replace(m.metric, doc=provenance(m, place, about)).source
        (new / names[-1]).write_text(source, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)
    return [folder / name for name in names]


def provenance(m: Member, place: int, about: str) -> str:
    """Where a member comes from, as the doc comment of its file."""
    c = m.candidate
    lines = [
        f"Number {place} of the hall of fame of {about}.",
        f"Perplexity {c.fitness:.4f} on the search's windows, {m.held_out:.4f} on held-out text.",
        f"Candidate {c.number}: generation {c.generation}, slot {c.slot}, by {c.operator}"
        + (f" from {', '.join(map(str, c.parents))}." if c.parents else "."),
    ]
    if c.formula != m.metric.formula:
        lines.append(f"As it was bred: {c.formula}")
    return "\n".join(lines)
