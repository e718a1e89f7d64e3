"""What fingerprints find among random metrics that rewriting does not, what they get wrong, and how fast they are.

    python benchmarks/fingerprint.py
    python benchmarks/fingerprint.py --trees 5000 --show 20
    python benchmarks/fingerprint.py --run runs/first

The trees are those of benchmarks/canonical.py; classes are per row. Trees whose scores are constant, or not finite on
some probe without zeros, are one class: they are refused. `confirmed` are pairs of rank classes with one fingerprint
that rank alike on fresh probes too, `collisions` those that do not. `missed` are pairs of trees that are proven to rank
alike and have different fingerprints: float64 tells apart less than the reals where functions saturate. `open` are
trees without a fingerprint, too close to call; they keep the class that rewriting gives them.
"""

from __future__ import annotations

import csv
import random
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click
from canonical import PER, fresh, own, paper
from rich.console import Console
from rich.table import Table

from pzc.compiler.core import Node
from pzc.compiler.groups import constant_in
from pzc.compiler.load import inline
from pzc.compiler.rewriting.canonical import canonical
from pzc.compiler.rewriting.rank import rank_class
from pzc.compiler.sameness.fingerprint import SEEDS, confirm, fingerprint, scores_on
from pzc.compiler.sameness.probes import KINDS, probe
from pzc.compiler.source import expression
from pzc.grammar.diagnostics import SourceError


@dataclass
class Counted:
    """Classes by each means, and what went wrong."""

    raw: int
    refused: int
    rank: int
    fingerprint: int
    both: int
    confirmed: list[tuple[Node, Node]]
    collisions: list[tuple[Node, Node]]
    missed: int
    open: int
    seconds: list[float]


def accepted(root: Node, per: str) -> bool:
    """Whether a score is not constant, and finite on all probes without zeros."""
    if constant_in(root, per) or constant_in(canonical(root), per):
        return False
    probes = [probe(kind, seed, per) for kind, seed in zip(KINDS, SEEDS, strict=True) if not kind.zeros]
    return all(scores_on(root, each) is not None for each in probes)


def count(roots: Sequence[Node], per: str = PER) -> Counted:
    """Classes of some scores under a comparison group."""
    distinct = list(dict.fromkeys(roots))
    good = [root for root in distinct if accepted(root, per)]
    refused = len(distinct) - len(good)
    of: dict[Node, str | None] = {}
    spent: list[float] = []
    for root in good:
        start = time.perf_counter()
        of[root] = fingerprint(root, per)
        spent.append(time.perf_counter() - start)
    by_rank: dict[Node, list[Node]] = {}
    for root in good:
        by_rank.setdefault(rank_class(root, per), []).append(root)
    prints = {p for p in of.values() if p is not None}
    alone = sum(p is None for p in of.values())
    missed = sum(
        len({of[m] for m in members if of[m]}) - 1 for members in by_rank.values() if any(of[m] for m in members)
    )
    leaders: dict[str, list[Node]] = {}
    confirmed: list[tuple[Node, Node]] = []
    collisions: list[tuple[Node, Node]] = []
    for members in by_rank.values():
        found = next((m for m in members if of[m]), None)
        if found is None:
            continue
        known = leaders.setdefault(of[found] or "", [])
        same = next((leader for leader in known if confirm(leader, found, per)), None)
        if same is not None:
            confirmed.append((same, found))
            continue
        collisions += [(known[0], found)] if known else []
        known.append(found)
    extra = bool(refused)
    return Counted(
        len(distinct),
        refused,
        len(by_rank) + extra,
        len(prints) + alone + extra,
        len(by_rank) - len(confirmed) + extra,
        confirmed,
        collisions,
        missed,
        alone,
        spent,
    )


def candidates(run: Path) -> dict[str, list[Node]]:
    """All candidates of a search that are a metric, repeated ones too, by their comparison groups."""
    found: dict[str, list[Node]] = {}
    with (run / "candidates.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            with suppress(SourceError):  # of what is never defined
                found.setdefault(row["per"], []).append(inline(f"{row['formula']} per {row['per']}").core)
    return found


@click.command()
@click.option(
    "--run", type=click.Path(exists=True, path_type=Path), help="Count the candidates of this search instead."
)
@click.option("--trees", default=20_000, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--show", default=0, show_default=True, help="Print so many confirmed pairs, and as many collisions.")
@click.option("--only", type=click.Choice(["paper", "core"]))
def main(run: Path | None, trees: int, seed: int, show: int, only: str | None) -> None:
    """Print the table."""
    console = Console(width=130, soft_wrap=True)
    headings = [
        "operators",
        "raw",
        "refused",
        "rank",
        "fingerprint",
        "both",
        "confirmed",
        "collisions",
        "missed",
        "open",
        "median-µs",
        "worst-ms",
    ]
    table = Table(*headings)
    populations: list[tuple[str, str, list[Node]]] = []
    for operators in (paper(), own()) if run is None else ():
        if only in (None, operators.name):
            rng = random.Random(seed)
            made = [operators.tree(rng, operators.levels) for _ in range(trees)]
            populations.append((operators.name, PER, fresh([operators.graph(t) for t in made])))
    for per, roots in candidates(run).items() if run else ():
        populations.append((f"{len(roots):,} per {per}", per, roots))
    for population, per, roots in populations:
        found = count(roots, per)
        counts = (found.raw, found.refused, found.rank, found.fingerprint, found.both)
        wrong = (len(found.confirmed), len(found.collisions), found.missed, found.open)
        median, worst = statistics.median(found.seconds) * 1e6, max(found.seconds) * 1e3
        table.add_row(population, *(f"{n:,}" for n in (*counts, *wrong)), f"{median:.0f}", f"{worst:.1f}")
        for name, pairs in (("confirmed", found.confirmed), ("collision", found.collisions)):
            for a, b in random.Random(1).sample(pairs, min(show, len(pairs))):
                console.print(f"{name}  {expression(a)}   |   {expression(b)}", markup=False)
    console.print(table)


if __name__ == "__main__":
    main()
