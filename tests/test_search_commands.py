"""What a report and the end of a search say to type next."""

from __future__ import annotations

import shlex
from pathlib import Path

from pzc.compiler.load import load, zoo
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
    pruned = prune_command(settings, FILE)
    assert "--pattern 2:4 --dtype bfloat16 --seed 3 --metric 'runs/a run/01.pzm' --output out/pruned" in pruned


def test_a_published_metric_is_compared_in_the_group_that_it_had() -> None:
    """By its name where that is its own group."""
    assert " --metric wanda --metric" in compare_command(SETTINGS, FILE, "wanda", "row")
    for name in ("wanda", "gblm_l1"):  # one of them with a parameter
        _, _, _, reference, *_ = shlex.split(compare_command(SETTINGS, FILE, name, "block"))
        metric = load(reference)
        assert (metric.core, metric.per) == (zoo()[name].core, "block")
    assert " --metric wanda --metric" in compare_command({**SETTINGS, "pattern": "2:4"}, FILE, "wanda", "layer")
