"""How the store of a search scales: candidates claimed and told a second, time to replay them, memory.

    python benchmarks/store.py [--trials 10000] [--url postgresql+psycopg://…] [--sync]

A line for every tenth of the trials. Without --sync nothing waits for the disk, so that what is seen is the work of the
store itself.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from pzc.compiler.load import inline
from pzc.search.candidate import Candidate
from pzc.search.place import JOURNAL, Place
from pzc.search.plan import Plan
from pzc.search.proposals import Proposal
from pzc.search.replay import stored_state
from pzc.search.store import Store

SLOTS = 32


def generation(number: int) -> list[Candidate]:
    """A generation as large as those of a search, with 32 windows a candidate."""
    losses = tuple(2 + i / 100 for i in range(32))
    return [
        Candidate(
            SLOTS * number + slot,
            number - 2,
            slot,
            0,
            "abs(W) * (G + X.l1 / (1 + abs(W))) ^ 0.875 / mean(X * sqrt(G), out)",
            "row",
            "crossover",
            "evaluated",
            f"{SLOTS * number + slot:064x}",
            20,
            exact_key=f"row {SLOTS * number + slot:064x}",
            real_key=f"row {SLOTS * number + slot:064x}",
            mask_hash=f"{SLOTS * number + slot:032x}",
            shape=f"{SLOTS * number + slot:016x}",
            losses=losses,
            predictors={"second-order loss": 0.25, "output error": 0.125},
        )
        for slot in range(SLOTS)
    ]


def megabytes() -> float:
    """The largest resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--url")
    parser.add_argument("--sync", action="store_true")
    options = parser.parse_args()
    if not options.sync:
        os.fsync = lambda fd: None
    core = inline("abs(W) * X").core
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), options.url, f"benchmark-{time.time_ns()}")
        store = Store(place, resume=False)
        generations = -(-options.trials // SLOTS)
        print(f"{'trials':>8} {'a second':>9} {'look ms':>8} {'MB':>6}")
        start, done = time.perf_counter(), 0
        for number in range(generations):
            settled = generation(number)
            of = [Proposal(replace(c, status="proposed"), core) for c in settled]
            for c in settled:
                claim = store.claim(of) or sys.exit("no slot is left")
                store.rung(claim, 0, 2.5)
                store.tell(claim, c)
                done += 1
            if (number + 1) * 10 // generations > number * 10 // generations:
                seconds = time.perf_counter() - start
                look = time.perf_counter()
                for _ in range(10):
                    store.settled(number - 2)
                look = (time.perf_counter() - look) / 10
                print(
                    f"{done:8,} {SLOTS * generations / 10 / seconds:9.0f} {1000 * look:8.2f} {megabytes():6.0f}",
                    flush=True,
                )
                start = time.perf_counter()
        if not options.url:
            print(f"journal {(Path(folder) / JOURNAL).stat().st_size / 1e6:.1f} MB")
        start = time.perf_counter()
        again = Store(place, resume=True)
        again.slots()
        print(f"read     {time.perf_counter() - start:6.1f} s")
        start = time.perf_counter()
        state = stored_state(again, Plan(population=SLOTS))
        print(
            f"replayed {time.perf_counter() - start:6.1f} s, {len(state.candidates):,} candidates, {megabytes():.0f} MB"
        )


if __name__ == "__main__":
    main()
