"""The hall of fame: the best metrics of a run, measured on text that the search has never seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from pzc.compiler.canonical import canonical, plain, rank_form
from pzc.compiler.core import Node, make, number, size, topological
from pzc.compiler.load import inline, zoo_metric
from pzc.compiler.metric import Metric
from pzc.search.candidate import ZOO, Candidate, perplexity
from pzc.search.fitness import Fitness
from pzc.search.space import Genotype

MEMBERS = 10


@dataclass(frozen=True)
class Member:
    """A metric of the hall of fame: the candidate, the metric as it is written, and both perplexities."""

    candidate: Candidate
    metric: Metric
    held_out: float


def readable(candidate: Candidate, name: str) -> Metric:
    """The shortest form of a candidate's metric that ranks alike, with numbers of four digits: what people read,
    what is written to the hall of fame, and what is measured on held-out text."""
    found = inline(f"{candidate.formula} per {candidate.per}", name)
    form = canonical(found.core)
    forms = [found.core, plain(form), plain(rank_form(form, found.per))]
    return Metric(name, rounded(min(forms, key=size)), found.per, found.doc)


def rounded(root: Node) -> Node:
    """The same graph with every number rounded to four significant digits."""
    built: dict[Node, Node] = {}
    for node in topological(root):
        if node.op == "number":
            built[node] = number(float(f"{float(node.value or 0.0):.4g}"))
        else:
            built[node] = make(node.op, *(built[a] for a in node.args), value=node.value)
    return built[root]


def measure(
    fitness: Fitness, candidates: Iterable[Candidate], windows: Tensor, progress: Callable[[int], None]
) -> list[Member]:
    """The held-out perplexity of each candidate, in the order given."""
    members = []
    for i, c in enumerate(candidates):
        metric = zoo_metric(c.operator) if c.generation == ZOO else readable(c, f"found_{i + 1}")
        members.append(Member(c, metric, perplexity(fitness.on(Genotype(metric.core, metric.per), windows))))
        progress(i + 1)
    return members


def write(members: Sequence[Member], folder: Path, about: str) -> list[Path]:
    """Write each member as a `.pzm` file, best first, with where it comes from in its doc comment."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.pzm"):
        old.unlink()
    paths = []
    for place, m in enumerate(members, 1):
        c = m.candidate
        doc = (
            f"Number {place} of the hall of fame of {about}.\n"
            f"Perplexity {c.fitness:.4f} on the search's windows, {m.held_out:.4f} on held-out text.\n"
            f"Candidate {c.number}: generation {c.generation}, slot {c.slot}, by {c.operator}"
            + (f" from {', '.join(map(str, c.parents))}." if c.parents else ".")
            + (f"\nAs it was bred: {c.formula}" if c.formula != m.metric.formula else "")
        )
        path = folder / f"{place:02d}.pzm"
        path.write_text(Metric(m.metric.name, m.metric.core, m.metric.per, doc).source, encoding="utf-8")
        paths.append(path)
    return paths
