"""Does a search of five minutes beat the zoo? One run a seed, all reported, on text that no run has seen.

    python benchmarks/seeds.py
    python benchmarks/seeds.py --model stories260K --data tinystories.txt --length 256

The zoo and the metrics found get the same statistics windows and the same held-out windows.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table


def run(seed: int, options: list[str], folder: str) -> dict[str, Any]:
    """One search in a process of its own: its last event."""
    command = [sys.executable, "-m", "pzc", "search", "--json", "--seed", str(seed), "--run", f"{folder}/{seed}"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(done.stderr.strip())
    event: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return event


@click.command()
@click.option("--model", default="pocket", show_default=True)
@click.option("--data", default="pydoc", show_default=True)
@click.option("--eval-data")
@click.option("--length", default=128, show_default=True)
@click.option("--windows", default=64, show_default=True)
@click.option("--fitness-windows", default=64, show_default=True)
@click.option("--held-out-windows", default=128, show_default=True)
@click.option("--time", "limit", default="5m", show_default=True)
@click.option("--evaluations", help="Measured candidates of each run, instead of a time: the same on any machine.")
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--together", default=1, show_default=True, help="Runs side by side, each with one thread.")
def main(seeds: str, limit: str, evaluations: str | None, together: int, eval_data: str | None, **values: Any) -> None:
    """Search with several seeds and compare the winners with the zoo."""
    bound = ["--evaluations", evaluations] if evaluations else ["--time", limit]
    until = f"{evaluations} measured" if evaluations else limit
    options = ["--seed-zoo", "--threads", "1", *bound]
    for name, value in values.items():
        options += [f"--{name.replace('_', '-')}", str(value)]
    if eval_data:
        options += ["--eval-data", eval_data]
    numbers = [int(s) for s in seeds.split(",")]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(together) as pool:
        events = list(pool.map(lambda seed: run(seed, options, folder), numbers))
    table = Table(title=f"{Path(str(values['model'])).name}, 50 %, {until} a seed", box=None, padding=(0, 2, 0, 0))
    for heading in ("seed", "dense", "best of the zoo", "perplexity", "found", "perplexity", "change", "settled"):
        table.add_column(heading, overflow="fold")
    for seed, event in zip(numbers, events, strict=True):
        zoo = min(event["zoo"], key=lambda m: m["held_out"])
        best = event["hall_of_fame"][0]
        table.add_row(
            str(seed),
            f"{event['dense']:.2f}",
            zoo["name"],
            f"{zoo['held_out']:.2f}",
            f"{best['formula']} per {best['per']}",
            f"{best['held_out']:.2f}",
            f"{event['change']['share']:+.1%} ± {event['change']['standard_error']:.1%}",
            str(sum(event["counts"].values())),
        )
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
