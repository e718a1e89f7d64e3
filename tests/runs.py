"""Runs to read: candidates written by hand, and a small search on `pocket`."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from pzc.compiler.core import leaf
from pzc.search.candidate import Candidate
from pzc.search.place import Place
from pzc.search.proposals import Proposal
from pzc.search.reading import Run
from pzc.search.store import Store

SETTINGS: dict[str, Any] = {
    "model": "pocket",
    "model_sha256": "m",
    "data": "pydoc",
    "eval_data": None,
    "text_sha256": ["a", "b"],
    "windows": 2,
    "fitness_windows": 4,
    "held_out_windows": 2,
    "length": 32,
    "sparsity": 0.5,
    "pattern": None,
    "per": None,
    "seed": 0,
    "space": "default",
}

SMALL = (
    "--model", "pocket", "--windows", "2", "--fitness-windows", "8", "--held-out-windows", "4", "--length", "32",
    "--generations", "4", "--population", "8", "--seed-zoo", "--seed", "1", "--threads", "1", "--quiet",
)  # fmt: skip
"""Options of a search that takes seconds."""

BASIS = Candidate(0, 0, 0, 0, "abs(W) * X", "row", "random", "evaluated", "key", 4)


def candidate(number: int, fitness: float | None = None, **changes: Any) -> Candidate:
    """A candidate, measured in full on four windows where it has a fitness."""
    losses = (math.log(fitness),) * 4 if fitness else ()
    status = "evaluated" if fitness else "same ranking"
    return replace(BASIS, **{"number": number, "slot": number, "losses": losses, "status": status, **changes})


def family() -> list[Candidate]:
    """Two of the zoo, then a search that ends in candidate 6, by way of 2 and 4."""
    return [
        candidate(0, 30.0, generation=-2, operator="wanda", tier="forward"),
        candidate(1, 40.0, generation=-1, operator="magnitude", formula="abs(W)", complexity=2),
        candidate(2, 32.0, operator="leaf", parents=(0,), formula="abs(W) * G", tier="backward", seconds=2.0),
        candidate(3, None, operator="constant", parents=(0,), alias_of=2, seconds=0.5),
        candidate(
            4, 28.0, generation=1, operator="crossover", parents=(2, 1), formula="abs(W) * G * X", tier="backward",
            complexity=7, seconds=2.0,
        ),
        candidate(
            5, None, generation=1, operator="leaf", parents=(2,), status="lost race", losses=(9.0,), seconds=0.25
        ),
        candidate(
            6, 25.0, generation=2, operator="constant", parents=(4,), formula="abs(W) * G * X ^ 0.5", tier="backward",
            complexity=9, seconds=2.0,
        ),
        candidate(7, None, generation=2, operator="leaf", status="refused", reason="not finite", parents=(4,)),
        candidate(8, 26.0, generation=2, operator="immigrant", formula="sqr(W) + X", tier="forward", complexity=6,
                  seconds=1.0),
    ]  # fmt: skip


def run_of(candidates: list[Candidate], folder: Path = Path("runs/some"), **settings: Any) -> Run:
    """A run that is nowhere."""
    return Run(Place(folder), candidates, {**SETTINGS, **settings})


def write_run(folder: Path, candidates: list[Candidate], place: Place | None = None, **settings: Any) -> Path:
    """A run on disk, as a search leaves it, or in the storage of a place."""
    store = Store(place or Place(folder), resume=False)
    store.set_settings({**SETTINGS, **settings})
    for generation in sorted({c.generation for c in candidates}):
        members = [c for c in candidates if c.generation == generation]
        slots = [Proposal(replace(c, status="proposed"), leaf("W")) for c in members]
        for c in members:
            claim = store.claim(slots)
            assert claim is not None
            store.tell(claim, c)
    return folder
