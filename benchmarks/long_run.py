"""A long search on one machine: does it stay quick, and its memory flat?

    python benchmarks/long_run.py [--candidates 10000] [--model pocket] [--run FOLDER]

A line for every thousand candidates that are settled, repetitions included: how many a second, the resident memory, and
how long a look at the store, the proposals of a generation and a drawing of the live view take. Then what a resume, a
status and an export take. Small windows, so that what is seen is the search itself and not the model.
"""

from __future__ import annotations

import gc
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console

from pzc.cli.console import THEME
from pzc.cli.search.live import STOPS, View
from pzc.search import exports, worker
from pzc.search.place import JOURNAL, Place
from pzc.search.prepare import Prepared, open_store, prepare
from pzc.search.replay import stored_state
from pzc.search.run import Budget, search
from pzc.search.settings import Settings, plan_of
from pzc.search.store import Store


def megabytes() -> float:
    """Memory of this process that is in use and shared with nobody."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return float("nan")


class Timed:
    """A function that notes how long its calls take."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *given: Any) -> Any:
        start = time.perf_counter()
        result = self.function(*given)
        self.seconds += time.perf_counter() - start
        return result


def milliseconds(call: Callable[[], Any], times: int = 5) -> float:
    """The median time of a call."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return 1000 * sorted(taken)[times // 2]


class Rows:
    """Says after each candidate whether there are enough, and prints a line for every thousand."""

    def __init__(self, run: Prepared, proposing: Timed, candidates: int, every: int) -> None:
        self.run, self.proposing, self.candidates, self.every = run, proposing, candidates, every
        self.seen, self.generations, self.start = 0, 0, time.process_time()
        self.console = Console(width=100, file=io.StringIO(), theme=THEME, force_terminal=True)

    def __call__(self) -> bool:
        settled = len(self.run.state.candidates)
        if settled - self.seen >= self.every:
            self.row(settled)
        return settled >= self.candidates

    def row(self, settled: int) -> None:
        now, state = time.process_time(), self.run.state
        generations = max(1, state.generation - self.generations)
        gc.collect()
        print(
            f"{settled:10,} {(settled - self.seen) / (now - self.start):9.1f} {megabytes():8.0f} "
            f"{1000 * self.proposing.seconds / generations:12.0f} "
            f"{milliseconds(lambda: self.run.store.settled(state.generation)):8.2f} {milliseconds(self.view):8.1f}",
            flush=True,
        )
        self.seen, self.generations, self.proposing.seconds = settled, state.generation, 0.0
        self.start = time.process_time()

    def view(self) -> None:
        self.console.print(View(self.run.state.standing(), self.run.settings, "runs/long", 100.0, STOPS))
        self.console.file.seek(0)


@click.command()
@click.option("--candidates", default=10_000, show_default=True)
@click.option("--every", default=1_000, show_default=True, help="Candidates a line.")
@click.option("--model", default="pocket", show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--run", "folder", type=click.Path(path_type=Path), help="Where the run is kept.")
def main(candidates: int, every: int, model: str, seed: int, folder: Path | None) -> None:
    """Print a table."""
    torch.set_num_threads(1)
    proposing = Timed(worker.proposals)
    worker.proposals = proposing
    with tempfile.TemporaryDirectory() as temporary:
        settings = Settings(
            model=model, windows=4, fitness_windows=8, held_out_windows=4, length=64, seed=seed, seed_zoo=True,
            threads=1,
        )  # fmt: skip
        place = Place(folder or Path(temporary) / "run")
        store, _ = open_store(place, settings)
        run = prepare(store, settings)
        print(f"{'candidates':>10} {'a CPU s':>9} {'MB':>8} {'proposals ms':>12} {'look ms':>8} {'view ms':>8}")
        search(run, Budget(), over=Rows(run, proposing, candidates, every))
        counts = ", ".join(f"{name} {count:,}" for name, count in run.state.counts.most_common())
        print(f"{run.state.generation} generations: {counts}")
        print(f"journal {(place.folder / JOURNAL).stat().st_size / 1e6:.1f} MB")
        again = Store(place, resume=True)
        print(f"resume {milliseconds(lambda: stored_state(Store(place, resume=True), plan_of(settings)), 3):.0f} ms")
        print(f"status {milliseconds(lambda: stored_state(again, plan_of(settings)), 3):.0f} ms")
        print(f"export {milliseconds(lambda: exports.write(run.state.every(), 8, place.folder), 1):.0f} ms")


if __name__ == "__main__":
    main()
