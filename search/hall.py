"""The hall of fame: the best metrics of a run as files, each with where it comes from."""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pzc.compiler.metric import Metric
from pzc.runtime.processes import is_running
from pzc.search.candidate import Candidate

HALL = "hall_of_fame"
"""Its folder in that of the run."""

MEMBERS = 10
"""Places in the hall."""


@dataclass(frozen=True)
class Member:
    """A metric of the hall of fame: the candidate, and the metric as it is written.

    All is measured on the metric as it is written: `fitness` is what the search made small, on the search's windows;
    `further` the same on `further_windows` other windows of the search's text; `held_out` is the metric's perplexity on
    text that the search has never seen. NaN is what was not measured.
    """

    candidate: Candidate
    metric: Metric
    fitness: float
    held_out: float
    losses: tuple[float, ...] = ()
    """Nats a token of each held-out window."""
    further: float = math.nan
    further_windows: int = 0


def unmeasured(candidates: Iterable[Candidate]) -> list[Member]:
    """The candidates as they were bred, with the fitness they had, for a search that was stopped."""
    return [Member(c, c.metric(f"found_{i}"), c.fitness, math.nan) for i, c in enumerate(candidates, 1)]


def write(members: Sequence[Member], folder: Path, about: str, measure: str) -> list[Path]:
    """Write each member as a `.pzm` file, best first, with where it comes from in its doc comment. `about` says which
    search it is, `measure` what its fitness is.

    The folder is written beside its name and renamed, so it is never half a hall of fame; of two processes that write
    one at the same time the later has it. What one left beside it that was killed is taken away, or put back where
    nothing has taken its place.
    """
    new, old = (folder.with_name(f"{folder.name}.{os.getpid()}.{which}") for which in ("new", "old"))
    for left in (*_left(folder), new, old):
        if left.suffix == ".old" and not folder.exists():
            with suppress(OSError):  # it is not there, or another process was quicker
                left.rename(folder)
        shutil.rmtree(left, ignore_errors=True)
    new.mkdir(parents=True)
    names = []
    for place, m in enumerate(members, 1):
        names.append(f"{place:02d}.pzm")
        source = replace(m.metric, doc=provenance(m, place, about, measure)).source
        (new / names[-1]).write_text(source, encoding="utf-8")
    while new.exists():
        with suppress(FileNotFoundError):  # there is none yet, or another process has just moved it aside
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # then another has just put one there
                raise
        shutil.rmtree(old, ignore_errors=True)
    return [folder / name for name in names]


def _left(folder: Path) -> list[Path]:
    """What processes that are gone have left beside a hall of fame."""
    found = []
    for path in folder.parent.glob(f"{folder.name}.*.*"):
        _, pid, which = path.name.rsplit(".", 2)
        if which in ("new", "old") and pid.isdecimal() and not is_running(int(pid)):
            found.append(path)
    return found


def provenance(m: Member, place: int, about: str, measure: str) -> str:
    """Where a member comes from, as the doc comment of its file."""
    c = m.candidate
    estimated = math.isnan(m.held_out) and c.expected
    lines = [
        f"Number {place} of the hall of fame of {about}.",
        f"On the search's windows: {measure} {m.fitness:.4f}"
        + (f", estimated from {len(c.losses)} of {len(c.course)}" if estimated else "")
        + ("" if math.isnan(m.further) else f"; on {m.further_windows} further windows: {m.further:.4f}")
        + ("." if math.isnan(m.held_out) else f"; on held-out text: perplexity {m.held_out:.4f}."),
        f"Candidate {c.number}: generation {c.generation}, slot {c.slot}, by {c.operator}"
        + (f" from {', '.join(map(str, c.parents))}." if c.parents else "."),
    ]
    if c.formula != m.metric.formula:
        lines.append(f"As it was bred: {c.formula}")
    return "\n".join(lines)
