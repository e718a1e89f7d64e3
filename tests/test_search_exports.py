"""The tables of a run hold what its candidates hold, and the front is a front."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pzc.compiler.leaves import TIERS
from pzc.runtime.files import csv_text
from pzc.search.exports import rows, write
from pzc.search.front import front
from pzc.search.pareto import unbeaten
from tests.runs import candidate, family


def test_every_candidate_is_a_line_that_reads_back(tmp_path: Path) -> None:
    write(family(), 4, tmp_path)
    with (tmp_path / "candidates.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [int(line["number"]) for line in lines] == [c.number for c in family()]
    for line, c in zip(lines, family(), strict=True):
        assert line["formula"] == c.formula
        assert tuple(map(int, line["parents"].split())) == c.parents
        assert tuple(map(float, line["losses"].split())) == c.losses
        assert (float(line["fitness"]) if line["fitness"] else None) == (c.fitness if c.status == "evaluated" else None)
        assert (int(line["alias_of"]) if line["alias_of"] else None) == c.alias_of
        assert line["reason"] == c.reason


def test_the_fitness_of_a_rung_is_the_perplexity_of_its_windows() -> None:
    losses = (2.0, 3.0, 2.5, 4.0, 1.0, 2.0, 3.0, 3.5)
    whole, some = rows([candidate(0, losses=losses, status="evaluated"), candidate(1, losses=losses[:2])], 8)
    assert [key for key in whole if key.startswith("fitness_")] == [f"fitness_{n}" for n in range(1, 9)]
    for n in range(1, 9):
        assert whole[f"fitness_{n}"] == pytest.approx(np.exp(np.mean(losses[:n])))
    assert some["fitness_2"] == pytest.approx(np.exp(2.5))
    assert some["fitness_4"] is None


def test_the_fitness_of_what_was_placed_is_its_estimate() -> None:
    estimated = candidate(0, losses=(2.0, 3.0), expected=(3.5, 3.5), status="placed")
    (row,) = rows([estimated], 4)
    assert row["fitness"] == pytest.approx(math.exp(3.0))
    assert row["losses"] == [2.0, 3.0]
    assert row["fitness_4"] is None
    assert unbeaten([estimated]) == []


def test_a_perplexity_that_no_float_holds_is_an_empty_cell() -> None:
    table = rows([candidate(0, losses=(800.0,) * 4, status="evaluated")], 4)
    (row,) = csv.DictReader(io.StringIO(csv_text(list(table[0]), table)))
    assert row["fitness"] == ""


@given(
    st.lists(
        st.tuples(st.sampled_from([10.0, 11.0, 12.0, 13.0]), st.integers(1, 4), st.sampled_from(list(TIERS))),
        min_size=1,
        max_size=25,
    )
)
def test_the_front_is_what_no_other_candidate_beats(points: list[tuple[float, int, str]]) -> None:
    everyone = [candidate(i, f, complexity=n, tier=t) for i, (f, n, t) in enumerate(points)]
    objectives = [(f, n, TIERS.index(t)) for f, n, t in points]  # type: ignore[arg-type]

    def beaten(i: int) -> bool:
        """By the definition: another is at least as good in all, and better in one; of equals the oldest stays."""
        return any(
            all(x <= y for x, y in zip(a, objectives[i], strict=True)) and (a != objectives[i] or k < i)
            for k, a in enumerate(objectives)
        )

    front = unbeaten(everyone)
    assert {c.number for c in front} == {i for i in range(len(points)) if not beaten(i)}
    assert [c.fitness for c in front] == sorted(c.fitness for c in front)


def test_the_front_has_only_what_was_measured_in_full() -> None:
    assert [c.number for c in unbeaten(family())] == [6, 8, 0, 1]
    assert math.isfinite(max(c.fitness for c in unbeaten([candidate(0, losses=(900.0,) * 4), candidate(1, 20.0)])))


def test_predictors_have_columns_of_their_own() -> None:
    said = {"output error": 0.25, "surrogate": -1.5}
    one, other = rows([candidate(0, 20.0, predictors=said), candidate(1, 20.0)], 4)
    assert (one["output error"], one["second-order loss"], one["surrogate"]) == (0.25, None, -1.5)
    assert other["output error"] is None


def test_the_table_of_the_front_is_the_front_that_is_shown(tmp_path: Path) -> None:
    long, short = "abs(W) * X * 1 + 0 * X", "abs(W) + X"
    bred = [
        candidate(0, 20.0, formula=long, complexity=9),
        candidate(1, 21.0, formula=short, complexity=4),
        candidate(2, 22.0, formula="abs(W)", complexity=2),
    ]
    write(bred, 4, tmp_path)
    with (tmp_path / "pareto.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    expected = [(c.number, m.formula, m.complexity) for c, m in front(bred)]
    assert [(int(r["number"]), r["formula"], int(r["complexity"])) for r in lines] == expected
    assert [r["formula"] for r in lines] == ["abs(W) * X", "abs(W)"]  # the second is as large as the first is read


def test_parquet_holds_what_csv_holds(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    files = write(family(), 4, tmp_path)
    assert {f.name for f in files} == {f"{n}.{e}" for n in ("candidates", "pareto") for e in ("csv", "parquet")}
    assert sorted(tmp_path.iterdir()) == sorted(files)  # nothing half-written is left
    table = parquet.read_table(tmp_path / "candidates.parquet")
    assert table.to_pylist() == rows(family(), 4)
    assert str(table.schema.field("alias_of").type) == "int64"
    empty = parquet.read_table(tmp_path / "pareto.parquet").slice(0, 0)
    assert empty.schema.names == table.schema.names


def test_writing_again_replaces_the_tables(tmp_path: Path) -> None:
    write(family(), 4, tmp_path)
    write(family()[:3], 4, tmp_path)
    assert len((tmp_path / "candidates.csv").read_text(encoding="utf-8").splitlines()) == 4
