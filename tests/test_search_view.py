"""What a search shows and writes: the live view, events for machines, the hall of fame."""

from __future__ import annotations

import errno
import io
import itertools
import json
import math
import multiprocessing
import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from click.testing import CliRunner
from rich.cells import cell_len
from rich.console import Console

from pzc.cli.console import THEME
from pzc.cli.main import pzc as cli
from pzc.cli.search.live import LINES, STOPS, View, clock, sparkline
from pzc.cli.search.watch import follow
from pzc.cli.search.winners import report
from pzc.compiler.load import inline, load, zoo
from pzc.search.candidate import REFERENCE, Candidate, Status
from pzc.search.hall import Member, provenance, unmeasured, write
from pzc.search.place import Place
from pzc.search.plan import Plan
from pzc.search.prepare import open_store, prepare
from pzc.search.replay import stored_state
from pzc.search.run import ZOO_MEMBERS, Budget, Result, search
from pzc.search.settings import Settings
from pzc.search.state import SHOWN, State
from pzc.search.store import Store
from tests.searches import closed, made, timeless

SETTINGS = Settings(model="models/a-model-with-a-rather-long-name-135M", seed=12345, limit=3600.0)
FOLDER = "runs/2026-11-23-a-model-with-a-rather-long-name"
LONG = "abs(W) * (G + X.l1 / (1 + abs(W))) ^ 0.875 / mean(X * sqrt(G) / (norm(abs(W) * X, 2, in) + X.max), out)"
PLAN = Plan(population=4, seed_zoo=True)


def numbered(generations: Sequence[Sequence[dict[str, Any]]]) -> list[list[Candidate]]:
    """Candidates with these attributes, generation by generation, the two of the zoo first."""
    numbers = itertools.count()
    return [
        [made(next(numbers), generation=generation, slot=slot, **more) for slot, more in enumerate(several)]
        for generation, several in enumerate(generations, REFERENCE)
    ]


def filled() -> State:
    """A run of three generations with every kind of candidate, in the middle of the fourth."""
    generations: list[list[dict[str, Any]]] = [
        [{"operator": "wanda", "losses": (3.0,)}],
        [{"operator": "magnitude", "losses": (3.5,), "formula": "abs(W)", "per": "layer"}],
        *(
            [{"losses": (2.9 - (4 * g + i) / 100,), "formula": LONG, "per": "model"} for i in range(4)]
            for g in range(3)
        ),
        [
            {"losses": (2.5,), "formula": "sqr(W) * sqr(G) / (X / X)", "complexity": 9, "per": "model"},
            {"losses": (900.0,)},
            {"status": "lost race", "losses": (8.0,)},
            *[{"status": "same ranking", "alias_of": 0}] * 5,
            *[{"status": "same mask", "alias_of": 0}] * 2,
            *[{"status": "refused", "reason": "not finite"}] * 1234,
        ],
        [
            *[{"status": "refused", "reason": "most scores are equal"}] * 7,
            *[{"status": "refused", "reason": "the pruned model's loss is not finite"}] * 3,
        ],
    ]
    *whole, last = numbered(generations)
    state = closed(PLAN, whole)
    for c in last:
        state.show(c.slot, c)
    return state


def drawn(state: State, width: int = 80, height: int | None = None, elapsed: float = 754.0, **settings: Any) -> str:
    """The view without colours, in a terminal of this height if there is one."""
    console = Console(width=width, height=height, file=io.StringIO(), theme=THEME, highlight=False)
    view = View(state.standing(), replace(SETTINGS, **settings), FOLDER, elapsed, STOPS, fits=height is not None)
    with console.capture() as capture:
        console.print(view)
    return capture.get()


@pytest.mark.parametrize("state", [State(PLAN), filled()], ids=["empty", "filled"])
@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("limit", [90.0, 360_000.0, None])
def test_the_view_keeps_to_the_width(state: State, width: int, limit: float | None) -> None:
    text = drawn(state, width, elapsed=100_000.0, limit=limit)
    assert max(cell_len(line) for line in text.splitlines()) <= width


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("height", [16, 24, 30, 60])
def test_the_view_keeps_to_the_height(width: int, height: int) -> None:
    """Where lines are few, some of the best and the front come first."""
    text = drawn(filled(), width, height)
    lines = text.splitlines()
    assert len(lines) < height
    assert max(map(cell_len, lines)) <= width
    assert any(line.split()[:1] == ["1◆"] for line in lines)
    whole = drawn(filled(), width, 200).splitlines()
    assert len(lines) >= min(len(whole), height - LINES)  # what still fits is shown
    assert "best of the zoo: wanda" in text
    assert "ctrl-c" in text
    if height > 50:
        assert len([line for line in lines if line[:2].strip().rstrip("◆").isdecimal()]) == SHOWN


def test_formulas_that_begin_alike_can_be_told_apart() -> None:
    """A formula takes as many lines as it needs, up to three."""
    endings = [f"{LONG} * X.l1 ^ 0.{i}25" for i in range(1, 9)]
    zoo = {"operator": "wanda", "losses": (3.0,)}
    bred: list[dict[str, Any]] = [{"formula": f, "losses": (2 + i / 9,), "shape": f} for i, f in enumerate(endings)]
    text = drawn(closed(PLAN, numbered([[zoo], [], bred])))
    squeezed = " ".join(text.split())
    assert all(f"X.l1 ^ 0.{i}25" in squeezed for i in range(1, 9))
    endless = " + ".join(f"abs(W) * X ^ 0.{i}1" for i in range(1, 30))
    state = closed(PLAN, numbered([[zoo], [], [{"formula": endless, "losses": (2.0,)}]]))
    rows = drawn(state).split("per\n")[1].split("best of the zoo")[0].splitlines()
    assert len(rows) == LINES + 1
    assert rows[LINES - 1].rstrip().endswith("…")


def test_the_view_shows_the_pareto_front() -> None:
    """Members of the front that are not among the best have rows of their own, the zoo's with their names."""
    zoo = [{"operator": "wanda", "losses": (3.0,), "tier": "forward"}]
    rest = [{"operator": "magnitude", "losses": (3.5,), "formula": "abs(W)", "complexity": 2}]
    bred: list[dict[str, Any]] = [
        {"losses": (2 + i / 100,), "formula": f"abs(W) * G ^ 0.{i + 3}1", "complexity": 9, "tier": "backward"}
        for i in range(8)
    ]
    bred += [{"losses": (2.5,), "formula": "abs(W) * ln(X + 2)", "complexity": 7, "tier": "forward"}]
    state = closed(PLAN, numbered([zoo, rest, bred]))
    text = drawn(state, 120)
    front = [line.split() for line in text.splitlines() if "◆" in line.split("  ")[0]]
    assert [row[0] for row in front] == ["1◆", "◆", "◆", "·◆"]  # the last is the best of the zoo
    assert "(◆ on the Pareto front)" in text
    found = [(c.operator, m.complexity, c.tier) for c, m in state.standing().front]
    assert found == [
        ("random", 6, "backward"),
        ("random", 7, "forward"),
        ("wanda", 4, "forward"),
        ("magnitude", 2, "weights"),
    ]


def test_what_ends_a_run_is_shown() -> None:
    text = drawn(filled(), 100, evaluations=800, patience=5, reach=12.5, generations=40, limit=None)
    assert "15 of 800 measured" in text
    until = "40 generations, or 800 measured, or 5 generations without a better one, or a fitness of 12.5"
    assert until in " ".join(text.split())
    assert "left" not in text


def test_the_view_says_how_the_run_stands() -> None:
    text = drawn(filled(), 120, elapsed=754.0)
    assert "12:34 of 1:00:00, 47:26 left" in text
    best = next(line for line in text.splitlines() if line.split()[:1] == ["1◆"])
    # fitness, against the zoo, size as shown, generation, cost tier
    assert best.split()[1:6] == ["12.18", "−39.3%", "4", "3", "weights"]
    assert best.rstrip().endswith("model")
    assert "abs(W) * G" in best
    assert "best of the zoo: wanda" in text
    assert f"{math.exp(3):.2f}" in text
    assert "generation 4" in text
    assert "15 measured · 1,266 settled" in text
    assert "refused 98%" in text
    assert "duplicates 1%" in text
    assert "same ranking 5 · mask 2" in text
    assert "not finite 1,234 · most scores are equal 7" in text
    assert "ctrl-c" in text


def test_the_view_shows_how_well_the_predictors_tell() -> None:
    state = filled()
    assert "predictors" not in drawn(state)
    more: list[dict[str, Any]] = [
        {"losses": (2 + i / 100,), "predictors": {"output error": i / 100, "second-order loss": -i / 100}}
        for i in range(20)
    ]
    state = closed(PLAN, numbered([[{"operator": "wanda", "losses": (3.0,)}], [], more]))
    text = drawn(state, 80)
    assert "predictors ρ with fitness: second-order loss −1.00 · output error 1.00" in " ".join(text.split())
    assert max(cell_len(line) for line in text.splitlines()) <= 80


def test_a_view_without_candidates() -> None:
    text = drawn(State(PLAN))
    assert "measuring the zoo · 0 measured · 0 settled" in text
    assert len(text.splitlines()) <= 4
    refused = {"status": "refused", "reason": "not finite"}
    *whole, (last,) = numbered([[{"operator": "wanda", "losses": (3.0,)}], [], [refused]])
    state = closed(PLAN, whole)
    state.show(0, last)
    text = drawn(state)
    assert "generation 0" in text
    assert "not finite 1" in text


def test_a_fitness_beyond_all_bounds_is_shown() -> None:
    zoo = {"operator": "wanda", "losses": (800.0,)}
    bred: list[dict[str, Any]] = [{"losses": (loss,)} for loss in (800.0, 600.0, 20.0)]
    state = closed(PLAN, numbered([[zoo], [], bred[:2], bred[2:]]))
    text = drawn(state)
    assert max(map(cell_len, text.splitlines())) <= 80
    assert "inf" in text
    assert "nan" not in text


def test_an_estimate_is_marked_as_one() -> None:
    zoo = {"operator": "wanda", "losses": (2.0,) * 4}
    placed = {"losses": (3.0, 3.0), "expected": (3.0, 3.0), "status": "placed"}
    state = closed(PLAN, numbered([[zoo], [], [{"losses": (1.0,) * 4}, placed]]))
    text = drawn(state)
    assert "≈20.09" in text
    assert "≈2.72" not in text
    assert "placed 50%" in text
    assert [m.fitness for m in unmeasured(state.best(2))] == pytest.approx([math.exp(1), math.exp(3)])
    full, estimate = (provenance(m, 1, "a test", "perplexity") for m in unmeasured(state.best(2)))
    assert "perplexity 2.7183." in full
    assert "perplexity 20.0855, estimated from 2 of 4." in estimate


def test_the_view_is_drawn_while_candidates_come() -> None:
    state, done, views, failed = State(PLAN), threading.Event(), [0], []

    def watch() -> None:
        try:
            while not (done.is_set() and views[0]):
                drawn(state)
                views[0] += 1
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=watch)
    thread.start()
    state.close(())
    state.close(())
    for generation in range(100):
        several = []
        for slot in range(30):
            number = 30 * generation + slot
            status: Any = ("evaluated", "refused", "same mask")[number % 3]
            reason = f"reason {number}" if status == "refused" else ""
            losses = (3 - number / 10_000,) if status == "evaluated" else ()
            more = {"status": status, "reason": reason, "losses": losses, "alias_of": 0 if number % 3 == 2 else None}
            several.append(made(number, generation=generation, slot=slot, **more))
            state.show(slot, several[-1])
        state.close(several)
    done.set()
    thread.join()
    assert not failed


def test_a_standing_does_not_change() -> None:
    state = filled()
    before = state.standing()
    copied = (dict(before.counts), dict(before.refusals), before.best, before.history)
    state.show(11, made(9999, losses=(1.0,), generation=4, slot=11))
    state.close([*state.pending.values()])
    assert (dict(before.counts), dict(before.refusals), before.best, before.history) == copied
    assert state.standing().best[0][0].number == 9999
    assert list(before.history) == sorted(before.history, reverse=True)
    assert len(before.history) == before.generation == 4


def test_a_search_that_measured_nothing_in_full_says_what_was_refused(capsys: pytest.CaptureFixture[str]) -> None:
    refused = [
        {"status": "refused", "reason": reason} for reason in ("not finite", "most scores are equal", "not finite")
    ]
    state = closed(PLAN, numbered([[{"operator": "wanda", "losses": (3.0,)}], [], refused]))
    published = Member(state.zoo[0], inline("abs(W) * X per row", "wanda"), 20.0, 21.0, (3.0,))
    report(SimpleNamespace(), Result([], [published], 4.0, [], state), as_json=False)  # type: ignore[arg-type]
    said = " ".join(capsys.readouterr().err.split())
    assert said.endswith("give the search more time; refused: not finite (2), most scores are equal (1)")


def test_the_best_of_what_is_shown_is_green(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever those of the hall of fame have that are not shown."""
    state = closed(PLAN, numbered([[{"operator": "wanda", "losses": (3.0,)}], []]))
    zoo, *members = (
        Member(state.zoo[0], inline("abs(W) * X per row", "wanda"), 20.0, held_out, (3.0,))
        for held_out in (21.0, 13.5, 12.5, 14.5, 11.5)
    )
    (tmp_path / "01.pzm").write_text(members[0].metric.source, encoding="utf-8")
    terminal = Console(file=io.StringIO(), theme=THEME, width=200, force_terminal=True, color_system="standard")
    monkeypatch.setattr("pzc.cli.search.winners.output", terminal)
    run: Any = SimpleNamespace(settings=SETTINGS, folder=tmp_path)
    with terminal.capture() as said:
        report(run, Result(members, [zoo], 4.0, [tmp_path / "01.pzm"], state), as_json=False)
    assert re.findall(r"\x1b\[1;32m *([0-9.]+)", said.get()) == ["12.50"]


def test_while_the_zoo_is_measured_the_best_of_it_so_far_is_shown() -> None:
    """Of a race that was lost there are the losses of a few windows, which may be easy ones."""
    (wanda,), others = numbered(
        [
            [{"operator": "wanda", "losses": (3.0, 3.0)}],
            [
                {"operator": "magnitude", "status": "lost race", "losses": (1.0,)},
                {"operator": "ria", "losses": (2.5, 2.5)},
                {"operator": "gblm", "losses": (2.9, 2.9)},
            ],
        ]
    )
    state = State(PLAN)
    assert state.standing().zoo is None
    state.show(0, wanda)
    assert state.standing().zoo == wanda
    state.close([wanda])
    best = []
    for c in others:
        state.show(c.slot, c)
        best.append(state.standing().zoo)
    assert [c.operator for c in best if c] == ["wanda", "ria", "ria"]
    state.close(others)
    assert state.standing().zoo == others[1]


@pytest.mark.parametrize(
    ("values", "line"),
    [([], ""), ([5.0], "▁"), ([1.0, math.e, math.e**2], "▁▅█"), ([3.0, 3.0], "▁▁"), ([math.inf, 1.0], "█▁")],
)
def test_sparklines(values: list[float], line: str) -> None:
    assert sparkline(values) == line


def test_a_sparkline_spans_the_whole_series() -> None:
    falling = [math.exp(-i / 100) for i in range(1000)]
    line = sparkline(falling, 12)
    assert (len(line), line[0], line[-1]) == (12, "█", "▁")
    assert list(line) == sorted(line, reverse=True)
    assert len(sparkline(falling)) == 24
    assert sparkline(falling, 0) == ""


def test_clocks() -> None:
    assert [clock(s) for s in (0, 61.9, 3600, 36_000)] == ["00:00", "01:01", "1:00:00", "10:00:00"]


def test_lines_give_a_formula_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("pzc.cli.search.watch.QUIET", 0.0)
    over = iter((False, False, True))
    follow(filled().standing, lambda: 90.0, lambda: next(over), as_json=False)
    first, *later = capsys.readouterr().err.splitlines()
    assert first.split("new best")[1].split() == ["12.18", "−39.3%", "abs(W)", "*", "G", "per", "model"]
    assert [line.split()[-3:] for line in later] == [["best", "12.18", "−39.3%"]] * 2


def test_lines_give_numbers_as_the_view_does(capsys: pytest.CaptureFixture[str]) -> None:
    zoo = made(0, operator="wanda", losses=(3.0,), generation=REFERENCE)
    follow(closed(Plan(), [[zoo], [], [made(1, losses=(21.0,))]]).standing, lambda: 9.0, lambda: True, as_json=False)
    assert "new best    1e+09 > ×1,000  abs(W)" in capsys.readouterr().err


# Events and files of a whole search


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("view") / "run"
    windows = [
        "--windows",
        "2",
        "--fitness-windows",
        "4",
        "--held-out-windows",
        "2",
        "--length",
        "32",
        "--threads",
        "1",
    ]
    command = [
        sys.executable,
        "-m",
        "pzc",
        "search",
        "--json",
        "--seed-zoo",
        "--generations",
        "6",
        "--population",
        "16",
    ]
    done = subprocess.run(
        [*command, *windows, "--run", str(folder)], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return folder, done


def test_events_are_json_lines_and_nothing_else(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = run
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.stderr == ""
    kinds = [e["event"] for e in events]
    assert (kinds[0], kinds[-1]) == ("begin", "done")
    assert set(kinds[1:-1]) <= {"best", "progress"}  # the latter after a while with nothing better
    assert events[-1]["run"] == events[0]["run"] == str(folder)
    assert (events[0]["model"], events[0]["until"]) == ("pocket", {"generations": 6})
    fitness = [e["fitness"] for e in events[1:-1]]
    last = events[-2]
    assert last["pareto"][0]["fitness"] == last["fitness"] < last["zoo"]["fitness"]
    assert set(last["counts"]) <= set(get_args(Status))
    assert fitness
    assert fitness == sorted(fitness, reverse=True)
    hall = events[-1]["hall_of_fame"]
    assert min(m["fitness"] for m in hall) >= fitness[-1] * 0.99  # of short forms, whose numbers are rounded
    _check_places(hall)
    assert len(events[-1]["zoo"]) == ZOO_MEMBERS
    assert [m["fitness"] for m in events[-1]["zoo"]] == sorted(m["fitness"] for m in events[-1]["zoo"])
    assert {m["name"] for m in events[-1]["zoo"]} <= set(zoo())


def _check_places(hall: list[dict[str, Any]]) -> None:
    """By the loss over the search's windows and as many further ones, of the first five twice as many, but for the
    rounded numbers of short forms."""
    most = hall[0]["further_windows"]
    assert [m["further_windows"] for m in hall] == [most] * min(5, len(hall)) + [most // 2] * (len(hall) - 5)
    for some, rounds in ((hall[:5], 2), (hall[5:], 1)):
        over_all = [m["fitness"] * m["further"] ** rounds for m in some]
        assert all(b >= 0.99 * a for a, b in itertools.pairwise(over_all))


def test_the_hall_of_fame_holds_metrics_that_load(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = run
    paths = sorted((folder / "hall_of_fame").iterdir())
    assert [p.name for p in paths] == [f"{i:02d}.pzm" for i in range(1, len(paths) + 1)]
    checked = CliRunner().invoke(cli, ["check", *map(str, paths)])
    assert checked.exit_code == 0, checked.output
    hall = json.loads(done.stdout.splitlines()[-1])["hall_of_fame"]
    _check_places(hall)
    for place, (path, member) in enumerate(zip(paths, hall, strict=True), 1):
        metric = load(str(path))
        assert (metric.name, metric.per, metric.formula) == (f"found_{place}", member["per"], member["formula"])
        assert f"Number {place} of the hall of fame of pocket at 50%, seed 0." in metric.doc
        assert f"On the search's windows: perplexity {member['fitness']:.4f}" in metric.doc
        assert f"on held-out text: perplexity {member['held_out']:.4f}." in metric.doc
        assert f"Candidate {member['candidate']}: generation {member['generation']}" in metric.doc


def test_another_process_finds_the_same(run: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    settings = Settings(
        windows=2,
        fitness_windows=4,
        held_out_windows=2,
        length=32,
        population=16,
        generations=6,
        seed_zoo=True,
        threads=1,
    )
    store, _ = open_store(Place(tmp_path), settings)
    here = prepare(store, settings)
    search(here, Budget())
    there = stored_state(Store(Place(run[0]), resume=True), here.state.plan)
    assert timeless(here.state.candidates) == timeless(there.candidates)


def members(n: int) -> list[Member]:
    return [Member(made(i, losses=(2.0,), parents=(1, 2)), inline("abs(W) * X", f"m{i}"), 8.0, 9.0) for i in range(n)]


def test_a_hall_of_fame_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "hall_of_fame"
    half = folder.with_name(f"hall_of_fame.{os.getpid()}.new")
    half.mkdir(parents=True)
    (half / "99.pzm").write_text("half", encoding="utf-8")
    assert len(write(members(5), folder, "a test", "perplexity")) == 5
    paths = write(members(3), folder, "a test", "perplexity")
    assert sorted(folder.iterdir()) == paths
    assert [p.name for p in folder.parent.iterdir()] == ["hall_of_fame"]
    assert "by random from 1, 2." in load(str(paths[0])).doc


def test_what_a_process_left_that_was_killed_between_is_taken_away(tmp_path: Path) -> None:
    """Of another process, too, if it is gone."""
    folder = tmp_path / "hall_of_fame"
    gone = multiprocessing.get_context("fork").Process(target=int)
    gone.start()
    gone.join()
    for pid, which in ((gone.pid, "old"), (gone.pid, "new"), (os.getppid(), "new")):
        left = folder.with_name(f"hall_of_fame.{pid}.{which}")
        left.mkdir()
        (left / "01.pzm").write_text("half", encoding="utf-8")
    (tmp_path / "hall_of_fame.mine.old").mkdir()
    write(members(2), folder, "a test", "perplexity")
    kept = ["hall_of_fame", f"hall_of_fame.{os.getppid()}.new", "hall_of_fame.mine.old"]
    assert sorted(p.name for p in tmp_path.iterdir()) == kept


def test_what_was_moved_aside_is_put_back_where_nothing_took_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a process that was killed between, and before the disk is full."""
    gone = 2**22 + 1  # beyond the largest process id of Linux
    folder = tmp_path / "hall_of_fame"
    paths = write(members(3), folder, "a test", "perplexity")
    folder.rename(tmp_path / f"hall_of_fame.{gone}.old")

    def full(path: Path, *given: Any, **more: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(OSError, match="No space left"):
        write(members(2), folder, "a test", "perplexity")
    assert sorted(folder.iterdir()) == paths
    assert sorted(tmp_path.iterdir()) == [folder]


def ended_together(folder: Path, n: int, ready: Any) -> None:
    ready.wait(600)
    for _ in range(50):
        write(members(n), folder, "a test", "perplexity")


def test_two_halls_of_fame_at_one_time_are_one_of_them(tmp_path: Path) -> None:
    start = multiprocessing.get_context("spawn")
    folder, ready = tmp_path / "hall_of_fame", start.Barrier(2)
    both = [start.Process(target=ended_together, args=(folder, n, ready)) for n in (2, 4)]
    for process in both:
        process.start()
    for process in both:
        process.join(600)
    assert [process.exitcode for process in both] == [0, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["hall_of_fame"]
    assert len(list(folder.iterdir())) in (2, 4)
