"""What a report and the end of a search say to type next."""

from __future__ import annotations

from pathlib import Path

from pzc.search.commands import compare_command, prune_command
from tests.runs import SETTINGS

FILE = Path("runs/a run/01.pzm")


def test_compare_measures_on_the_windows_of_the_run() -> None:
    assert compare_command(SETTINGS, FILE, "wanda") == (
        "pzc compare --metric wanda --metric 'runs/a run/01.pzm' --model pocket --data pydoc --windows 2 "
        "--eval-windows 2 --length 32 --sparsity 0.5"
    )


def test_what_is_not_as_usual_is_typed() -> None:
    settings = {**SETTINGS, "pattern": "2:4", "eval_data": "b.txt", "seed": 3, "dtype": "bfloat16"}
    typed = compare_command(settings, FILE, None)
    assert typed.endswith("--eval-windows 2 --length 32 --pattern 2:4 --dtype bfloat16 --seed 3")
    assert "--eval-data b.txt" in typed
    assert "--sparsity" not in typed
    chosen = {**SETTINGS, "include": ["q_proj"], "exclude": ["layers.0.*", "k_proj"]}
    assert compare_command(chosen, FILE, None).endswith(" --include q_proj --exclude 'layers.0.*' --exclude k_proj")
    assert "--pattern 2:4 --metric 'runs/a run/01.pzm' --output out/pruned" in prune_command(settings, FILE)
