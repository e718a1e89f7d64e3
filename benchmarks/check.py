"""How long `pzc check` takes: as a cold process beside `import lark`, and on files of more and more metrics.

    python benchmarks/check.py

Prints medians and ratios; each pair is timed in turns in one run.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

RUNS = 15
SIZES = (100, 1_000, 10_000)
METRIC = "metric m{i} = abs(W) * X ^ {e} + G / (1 + {i})  per row\n"


def seconds(command: Sequence[str]) -> float:
    """Wall time of one process."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def cold(folder: Path) -> None:
    """`pzc check` on one metric against the bare import of the parser library."""
    path = folder / "wanda.pzm"
    path.write_text(
        "pzm 1\n\n## |W| times the norm of its input.\nmetric wanda = abs(W) * X  per row\n", encoding="utf-8"
    )
    pzc = Path(sys.executable).with_name("pzc")
    commands = {"import lark": [sys.executable, "-c", "import lark"], "pzc check": [str(pzc), "check", str(path)]}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(RUNS):
        for name, command in commands.items():
            times[name].append(seconds(command))
    bare, check = (statistics.median(t) for t in times.values())
    print(f"cold process: import lark {bare:.3f} s, pzc check {check:.3f} s: {check / bare:.2f} times (at most 4)")


def growth() -> None:
    """One process, files of many metrics."""
    from pzc.compiler.metric import compile_source

    for size in SIZES:
        source = "pzm 1\n" + "".join(METRIC.format(i=i, e=1 + i % 7 / 10) for i in range(size))
        start = time.perf_counter()
        metrics = compile_source(source, "many.pzm").metrics
        taken = time.perf_counter() - start
        print(f"{len(metrics):>6} metrics: {taken:.2f} s, {taken / size * 1e3:.3f} ms each")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        cold(Path(name))
    growth()
