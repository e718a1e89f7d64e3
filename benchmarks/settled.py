"""How many candidates a search settles in an hour, against a plain loop on the same machine.

python benchmarks/settled.py runs/first

The plain loop does for every candidate what the papers' scripts do: score all layers (here with pzc's own fast scores,
to its advantage), select by a stable sort of every row, write the weights, and measure all fitness windows in the
model's own type. A few candidates are timed. Give the machine nothing else to do, and as many threads as the run's
workers have together.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.table import Table

from pzc.compiler.load import inline
from pzc.runtime.evaluation.evaluate import window_losses
from pzc.runtime.scoring.scores import score
from pzc.search.fitness import Fitness
from pzc.search.place import Place
from pzc.search.prepare import prepare
from pzc.search.replay import stored_state
from pzc.search.settings import plan_of, settings_of
from pzc.search.store import Store


def plain(fitness: Fitness, formula: str, per: str, sparsity: float) -> float:
    """Seconds of one candidate in the plain loop."""
    start = time.perf_counter()
    metric = inline(f"{formula} per {per}", analyse=False)
    for layer in fitness.layers.layers:
        scores = score(metric.core, fitness.statistics.of(layer, metric.leaves), layer.shape)
        order = scores.sort(dim=1, stable=True).indices
        keep = torch.ones_like(scores, dtype=torch.bool)
        keep.scatter_(1, order[:, : int(scores.shape[1] * sparsity)], False)
        layer.weight.copy_(fitness.dense.weights[layer.name] * keep)
    window_losses(fitness.precise, fitness.windows)
    return time.perf_counter() - start


@click.command()
@click.argument("run", type=click.Path(exists=True, path_type=Path))
@click.option("--candidates", default=3, show_default=True, help="Candidates that are timed in the plain loop.")
@click.option("--threads", default=2, show_default=True)
def main(run: Path, candidates: int, threads: int) -> None:
    """Print both rates and their ratio."""
    store = Store(Place(run), resume=True)
    settings = settings_of(store)
    state = stored_state(store, plan_of(settings))
    counts, spent = state.counts, store.workers.spent()
    prepared = prepare(store, settings, keeps_settings=True)
    torch.set_num_threads(threads)
    chosen = [c for c in state.candidates if c.status == "evaluated" and not c.published][:candidates]
    seconds = statistics.median(plain(prepared.fitness, c.formula, c.per, settings.sparsity) for c in chosen)
    settled = counts.total() / spent * 3600
    table = Table()
    for heading in ("", "an hour", "ratio"):
        table.add_column(heading, justify="right")
    table.add_row("settled by the search", f"{settled:,.0f}", f"{settled * seconds / 3600:.1f}")
    table.add_row("the plain loop", f"{3600 / seconds:,.0f}", "1.0")
    Console().print(table)
    print(f"{spent:.0f} s of searching: " + ", ".join(f"{name} {count:,}" for name, count in counts.most_common()))


if __name__ == "__main__":
    main()
