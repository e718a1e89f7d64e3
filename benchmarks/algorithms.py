"""The search against Pruner-Zero's own and against random search, from the same seeds.

python benchmarks/algorithms.py --model FOLDER --data FILE --evaluations 200 --seeds 5
python benchmarks/algorithms.py --model smollm2 --data FILE --time 50m --seeds 1

With --evaluations both algorithms measure as many candidates, with --time they get as much time; what counts is when
the default had reached the other's best fitness. Held-out text takes no part.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from pzc.search.candidate import MEASURED, Candidate
from pzc.search.place import Place
from pzc.search.replay import stored_state
from pzc.search.settings import plan_of, settings_of
from pzc.search.store import Store


def searched(folder: Path, options: list[str]) -> list[Candidate]:
    """The candidates of a search, those of the zoo left out, in the order of their numbers."""
    command = [sys.executable, "-m", "pzc", "search", "--json", "--held-out-windows", "2", "--run", str(folder)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    json.loads(done.stdout.strip().splitlines()[-1])
    store = Store(Place(folder), resume=True)
    return [c for c in stored_state(store, plan_of(settings_of(store))).every() if not c.published]


def best(candidates: list[Candidate]) -> float:
    """The lowest fitness of those that were measured in full."""
    return min((c.fitness for c in candidates if c.status == "evaluated"), default=float("inf"))


def until(candidates: list[Candidate], fitness: float) -> float | None:
    """Seconds that were spent on candidates until one was as good as that."""
    spent = 0.0
    for c in candidates:
        spent += c.seconds
        if c.status == "evaluated" and c.fitness <= fitness:
            return spent
    return None


@click.command()
@click.option("--model", default="pocket", show_default=True)
@click.option("--data", default="pydoc", show_default=True)
@click.option("--length", type=int)
@click.option("--windows", default=16, show_default=True)
@click.option("--fitness-windows", default=32, show_default=True)
@click.option("--against", default="random", show_default=True, type=click.Choice(["random", "paper"]))
@click.option("--space", help="Where the other algorithm searches.")
@click.option("--evaluations", type=int, help="Measured candidates of each run.")
@click.option("--time", help="Time of each run, such as 20m.")
@click.option("--seeds", default=5, show_default=True)
def main(model: str, data: str, against: str, space: str | None, seeds: int, **given: Any) -> None:
    """Print a row a seed: the best fitness of both, and when the default got there."""
    common = ["--model", model, "--data", data, "--threads", "1"]
    for name in ("length", "windows", "fitness_windows"):
        common += [f"--{name.replace('_', '-')}", str(given[name])] if given[name] else []
    table = Table(title=f"{model}: default against {against}")
    for heading in ("seed", "default", against, "measured", "seconds to the other's best", "of the other's time"):
        table.add_column(heading, justify="right")
    wins = 0
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            theirs = ["--algorithm", against, *(["--space", space] if space else [])]
            bound = ["--evaluations", str(given["evaluations"])] if given["evaluations"] else ["--time", given["time"]]
            other = searched(Path(folder) / "other", [*common, "--seed", str(seed), *theirs, *bound])
            ours = searched(Path(folder) / "default", [*common, "--seed", str(seed), *bound])
        target, spent = best(other), sum(c.seconds for c in other)
        reached = until(ours, target)
        wins += best(ours) < target
        measured = f"{sum(c.status in MEASURED for c in ours)}, {sum(c.status in MEASURED for c in other)}"
        shown = ("–", "–") if reached is None else (f"{reached:.0f}", f"{reached / spent:.0%}")
        table.add_row(str(seed), f"{best(ours):.3f}", f"{target:.3f}", measured, *shown)
    Console().print(table)
    print(f"better in {wins} of {seeds}")


if __name__ == "__main__":
    main()
