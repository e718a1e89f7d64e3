"""The hall of fame: the best metrics of a run, measured on text that the search has never seen."""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from pzc.compiler.load import zoo_metric
from pzc.compiler.metric import Metric
from pzc.runtime.errors import PruningError
from pzc.runtime.evaluation.uncertainty import perplexity
from pzc.runtime.models.passes import Progress, silent
from pzc.runtime.processes import is_running
from pzc.search.candidate import Candidate
from pzc.search.fitness import Fitness
from pzc.search.niche import NEAR, distance, signature
from pzc.search.readable import forms
from pzc.search.space import Genotype

HALL = "hall_of_fame"
"""Its folder in that of the run."""

MEMBERS = 10
"""Places in the hall."""

ROUNDS = (20, 5)
"""How many of the best candidates contend for the places on windows that the search did not use, and how many of these
contend for the first on further ones."""


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


@dataclass(frozen=True)
class Outcome:
    """What the final has measured of the winner, a candidate by its number: what the search made small over all
    `windows`, the search's and further ones `together`, and perplexities on held-out text: its own, that of the best
    published metric there, and that of the dense model."""

    candidate: int
    together: float
    windows: int
    held_out: float
    published: str
    published_held_out: float
    dense: float
    published_per: str | None = None
    """The comparison group of the published metric."""
    losses: tuple[float, ...] = ()
    """Nats a token of each of the search's windows, of the winner as it is written."""
    formula: str | None = None
    """The winner as it is written."""
    per: str | None = None
    """Its comparison group."""
    error: float | None = None
    """The standard error of its change of held-out perplexity against the published metric."""

    @property
    def change(self) -> float:
        """How much higher the winner's held-out perplexity is than that of the published metric, as a share of it."""
        return self.held_out / self.published_held_out - 1


@dataclass(frozen=True)
class Contender:
    """A candidate for the hall of fame and the metric as it is written, with the losses of that on the search's windows
    and on further ones of the search's text."""

    candidate: Candidate
    metric: Metric
    own: tuple[float, ...]
    further: tuple[float, ...] = ()

    @property
    def losses(self) -> tuple[float, ...]:
        """Of the search's windows and the further ones."""
        return (*self.own, *self.further)

    @property
    def loss(self) -> float:
        """The mean over all of them."""
        return sum(self.losses) / len(self.losses)


def published(c: Candidate) -> Contender:
    """A metric of the zoo, as it is published."""
    return Contender(c, replace(zoo_metric(c.operator), per=c.per), c.losses)


def as_written(c: Candidate, fitness: Fitness) -> Contender:
    """A candidate in its shortest form that prunes as it does, but for less than one bit of the masks in a hundred.

    A short form has rounded numbers and may round otherwise in float32: where its masks are others, it is measured on
    the search's windows. One that saturates less than what was bred, or overflows, gives way to the next.
    """
    bred = c.metric("found")
    for metric in forms(c):
        if metric.core is bred.core:
            break
        with suppress(PruningError):
            masks, mask_hash = fitness.masks(Genotype(metric.core, metric.per))
            if mask_hash == c.mask_hash:
                return Contender(c, metric, c.losses)
            if c.signature and distance(signature(masks), c.signature) < NEAR:
                losses, _ = fitness.race(masks, ())
                if all(map(math.isfinite, losses)):
                    return Contender(c, metric, tuple(losses))
    return Contender(c, bred, c.losses)


def contend(
    fitness: Fitness,
    candidates: Sequence[Candidate],
    rounds: Sequence[Tensor],
    progress: Progress = silent,
    at_once: int = 1,
) -> list[Contender]:
    """The candidates in the order of their loss over the search's windows and further ones: in every round, of the
    best so many (`ROUNDS`) on windows `[n, length]` more.

    The best of hundreds on a few windows owes some of its place to these windows. Windows of the same text that have
    chosen nothing yet tell the best apart; text that is held out chooses none.
    """
    found = []
    for candidate in candidates:
        found.append(as_written(candidate, fitness))
        progress("as they are written", len(found), len(candidates))
    found.sort(key=lambda c: c.loss)
    for number, (most, windows) in enumerate(zip(ROUNDS, rounds, strict=True), 1):
        if not len(windows):
            continue
        these, others = found[:most], found[most:]
        genotypes = [Genotype(c.metric.core, c.metric.per) for c in these]
        done = []
        for c, losses in zip(these, fitness.further(genotypes, windows, at_once), strict=True):
            done.append(replace(c, further=(*c.further, *losses)))
            progress(f"further windows, round {number}", len(done), len(these))
        found = sorted(done, key=lambda c: c.loss) + others
    return found


@dataclass(frozen=True)
class Final:
    """What the best of a search are measured on: held-out `windows`, int64 `[n, length]`, by `at_once` threads."""

    fitness: Fitness
    windows: Tensor
    at_once: int = 1

    def losses(self, genotype: Genotype | None) -> list[float]:
        """Losses of the held-out windows after pruning by a genotype; of the dense model for None."""
        return self.fitness.on(genotype, self.windows, self.at_once)


def measure(final: Final, contenders: Sequence[Contender], progress: Progress = silent) -> list[Member]:
    """Each contender on held-out text, in the order given."""
    members = []
    for i, c in enumerate(contenders, 1):
        metric = c.metric if c.candidate.published else replace(c.metric, name=f"found_{i}")
        on_held_out = tuple(final.losses(Genotype(metric.core, metric.per)))
        fitness, held_out, further = map(perplexity, (c.own, on_held_out, c.further))
        members.append(Member(c.candidate, metric, fitness, held_out, on_held_out, further, len(c.further)))
        progress("held-out text", i, len(contenders))
    return members


def unmeasured(candidates: Iterable[Candidate]) -> list[Member]:
    """The candidates as they were bred, with the fitness they had, for a search that was stopped."""
    return [Member(c, c.metric(f"found_{i}"), c.fitness, math.nan) for i, c in enumerate(candidates, 1)]


def write(members: Sequence[Member], folder: Path, about: str, measure: str) -> list[Path]:
    """Write each member as a `.pzm` file, best first, with where it comes from in its doc comment. `about` says which
    search it is, `measure` what its fitness is.

    The folder is written beside its name and renamed, so it is never half a hall of fame; of two processes that write
    one at the same time the later has it. What one left beside it that was killed is taken away.
    """
    new, old = (folder.with_name(f"{folder.name}.{os.getpid()}.{which}") for which in ("new", "old"))
    for left in (new, old, *_left(folder)):
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
    lines = [
        f"Number {place} of the hall of fame of {about}.",
        f"On the search's windows: {measure} {m.fitness:.4f}"
        + ("" if math.isnan(m.further) else f"; on {m.further_windows} further windows: {m.further:.4f}")
        + ("." if math.isnan(m.held_out) else f"; on held-out text: perplexity {m.held_out:.4f}."),
        f"Candidate {c.number}: generation {c.generation}, slot {c.slot}, by {c.operator}"
        + (f" from {', '.join(map(str, c.parents))}." if c.parents else "."),
    ]
    if c.formula != m.metric.formula:
        lines.append(f"As it was bred: {c.formula}")
    return "\n".join(lines)
