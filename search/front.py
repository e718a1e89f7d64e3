"""The front that people are shown: what no other metric beats in fitness, size as it is read, and cost tier."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from pzc.compiler.metric import Metric
from pzc.search.candidate import Candidate
from pzc.search.pareto import unbeaten
from pzc.search.readable import readable


def front(
    candidates: Iterable[Candidate], read: Callable[[Candidate], Metric] = readable
) -> list[tuple[Candidate, Metric]]:
    """The candidates on the front, each with its metric as people read it, best fitness first.

    Only those on the front by the size as it was bred contend: to read one takes milliseconds. Many are shorter then,
    and some beat others of them.
    """
    rows = [(c, read(c)) for c in unbeaten(candidates)]
    sized = {replace(c, complexity=metric.complexity): (c, metric) for c, metric in rows}
    return [sized[c] for c in unbeaten(sized)]
