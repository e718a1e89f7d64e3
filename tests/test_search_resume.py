"""What a run goes on with, what it refuses, and that it can go on whatever ends its process."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from importlib.metadata import version
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from click.testing import CliRunner

from pzc.cli.main import pzc as cli
from pzc.cli.search.lead import say_idle
from pzc.runtime.data.windows import windows_between
from pzc.runtime.errors import PruningError
from pzc.runtime.models.loading import load_model
from pzc.search.content import OtherVersions
from pzc.search.errors import StoreError
from pzc.search.helpers import helping
from pzc.search.place import JOURNAL, Place
from pzc.search.prepare import open_store, prepare
from pzc.search.run import Budget, search
from pzc.search.settings import Settings
from pzc.search.store import Store
from tests.searches import SETTINGS, SMALL, stored


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A run on `pocket` and a text file that went through two generations of four."""
    lines = [f"line {i} says that {i * i} is the square of {i}\n" for i in range(400)]
    (tmp_path / "text.txt").write_text("".join(lines), encoding="utf-8")
    settings = replace(SETTINGS, data=str(tmp_path / "text.txt"))
    store, _ = open_store(Place(tmp_path / "run"), settings)
    search(prepare(store, settings), Budget())
    return tmp_path / "run"


def test_who_looks_at_a_run_writes_nothing(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def contents() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in begun.iterdir() if path.is_file()}

    before, opened = contents(), Path.open

    def to_be_read(path: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
        if path.parent == begun and set(mode) & set("wa+"):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return opened(path, mode, *more, **named)

    monkeypatch.setattr(Path, "open", to_be_read)
    for command in (["search", "status"], ["report", "-o", str(tmp_path / "page")]):
        result = CliRunner().invoke(cli, [*command, str(begun)])
        assert result.exit_code == 0, (result.output, result.exception)
    assert contents() == before
    with pytest.raises(StoreError, match=r"study.journal cannot be written to: Read-only file system"):
        Store(Place(begun), resume=True).set_winner(3)


def test_a_search_that_never_began_can_be_begun(tmp_path: Path) -> None:
    Store(Place(tmp_path), resume=False)
    with pytest.raises(StoreError, match="has not begun") as caught:
        open_store(Place(tmp_path), None)
    assert str(tmp_path) in str(caught.value.hint)
    assert open_store(Place(tmp_path), SETTINGS)[1] == SETTINGS


def test_another_content_under_the_same_name_is_refused(begun: Path) -> None:
    text = begun.parent / "text.txt"
    text.write_text(text.read_text(encoding="utf-8").replace("square", "second power"), encoding="utf-8")
    before = stored(begun)
    store, settings = open_store(Place(begun), None)
    with pytest.raises(StoreError, match=r"the text is not .*: \w{12} and \w{12} then, \w{12} and \w{12} now"):
        prepare(store, settings)
    assert stored(begun) == before


def test_another_model_is_refused(begun: Path, tmp_path: Path) -> None:
    from pzc.runtime.models.loading import load_model

    loaded = load_model("pocket")
    loaded.model.model.layers[0].mlp.up_proj.weight.data.mul_(2)
    loaded.model.save_pretrained(tmp_path / "other")
    loaded.tokenizer.save_pretrained(tmp_path / "other")
    store, settings = open_store(Place(begun), None)
    with pytest.raises(StoreError, match=r"the model is not .*: \w{12} then, \w{12} now"):
        prepare(store, replace(settings, model=str(tmp_path / "other")))
    result = CliRunner().invoke(cli, ["search", "--resume", str(begun), "--model", str(tmp_path / "other")])
    assert isinstance(result.exception, StoreError)


def test_another_choice_of_windows_is_refused(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pzc.search import prepare as preparing

    store, settings = open_store(Place(begun), None)
    monkeypatch.setattr(preparing, "windows_between", lambda *given: windows_between(*given).flip(0))
    with pytest.raises(StoreError, match=r"the choice of windows is not .*: \w{12} then, \w{12} now"):
        prepare(store, settings)


def test_a_run_that_goes_on_with_other_versions_says_so(begun: Path) -> None:
    store, settings = open_store(Place(begun), None)
    kept = dict(store.settings or {})
    assert kept["versions"]["torch"] == version("torch")  # torch.__version__ may say more, as +cu130
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(store, settings)
    store.set_settings({**kept, "versions": {**kept["versions"], "torch": "1.13.0"}})
    with pytest.warns(OtherVersions, match=r"\(torch 1\.13\.0 then, \S+ now\)"):
        prepare(store, settings)
    assert (store.settings or {})["versions"]["torch"] == "1.13.0"
    result = CliRunner().invoke(cli, ["search", "--resume", str(begun)])
    assert result.exit_code == 0
    assert "warning: the search goes on with other versions than it began with" in " ".join(result.stderr.split())


def test_a_run_that_does_not_say_its_windows_is_refused(begun: Path) -> None:
    store, settings = open_store(Place(begun), None)
    kept = dict(store.settings or {})
    del kept["choice_of_windows_sha256"]
    store.set_settings(kept)
    with pytest.raises(StoreError, match=r"the choice of windows is not .*: not noted then, \w{12} now"):
        prepare(store, settings)


def test_too_little_held_out_text_is_refused_before_anything_is_gathered(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("too short\n", encoding="utf-8")
    options = ["--eval-data", str(tmp_path / "short.txt"), "--run", str(tmp_path / "run"), *SMALL]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pzc.search.prepare.Fitness", None)
        result = CliRunner().invoke(cli, ["search", "--model", "pocket", *options])
    assert isinstance(result.exception, PruningError)
    assert "windows" in result.exception.message
    assert not (tmp_path / "run").exists()


def test_hints_name_a_run_as_it_is_resumed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    at_url = Place(tmp_path / "a run", url, "first")
    assert Place(tmp_path / "a run").resume == f"--resume '{tmp_path}/a run'"
    assert at_url.resume == f"--resume {url} --study first --run '{tmp_path}/a run'"
    odd = Place(Path("a"), "postgresql://host/db?a=1&b=2", "my first")
    assert shlex.split(odd.resume) == ["--resume", odd.url, "--study", odd.study, "--run", "a"]
    store = Store(at_url, resume=False)
    with pytest.raises(StoreError) as caught:
        open_store(at_url, None)
    assert f"begin it with --storage {url} --study first" in str(caught.value.hint)
    store.set_settings(asdict(SETTINGS))
    with pytest.raises(StoreError) as caught:
        Store(at_url, resume=False)
    assert caught.value.hint == f"go on with it: pzc search {at_url.resume}"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://me:s3cret@host/db?host=/tmp", "postgresql+psycopg://me:***@host/db?host=%2Ftmp"),
        ("postgresql://me@host/db?password=s3cret", "postgresql://me@host/db?password=%2A%2A%2A"),
        ("postgresql://me:s3cret@host:port/db", "postgresql://***@host:port/db"),
        ("postgresql://me@host/db?a=1&b=/c", "postgresql://me@host/db?a=1&b=/c"),
        ("sqlite:////tmp/a b.db", "sqlite:////tmp/a b.db"),
    ],
)
def test_nobody_is_shown_a_password(url: str, shown: str) -> None:
    place = Place(Path("run"), url, "first")
    assert place.name == shown
    assert str(place) == f"study first at {shown}"
    for said in (place.typed, place.begin, place.resume):
        assert shlex.quote(shown) in said
        assert "s3cret" not in said


def test_what_the_model_decides_is_kept_with_the_run(tmp_path: Path) -> None:
    settings = replace(SETTINGS, windows=1, length=None)
    store, _ = open_store(Place(tmp_path), settings)
    prepare(store, settings)
    kept = store.settings or {}
    longest = load_model("pocket").model.config.max_position_embeddings
    assert (kept["length"], kept["dtype"], kept["fitness_dtype"]) == (longest, "float32", "float32")
    result = CliRunner().invoke(cli, ["search", "--resume", str(tmp_path), f"--length={longest}", "--seed=1"])
    assert "--seed of a run cannot change" in result.output  # and the length is the one that it has


def test_a_text_may_have_moved(begun: Path) -> None:
    moved = begun.parent / "moved.txt"
    (begun.parent / "text.txt").rename(moved)
    options = ["search", "--resume", str(begun), "--data", str(moved), "--generations", "3", "--quiet"]
    result = CliRunner().invoke(cli, options)
    assert result.exit_code == 0, result.output
    assert max(c.generation for c in stored(begun)) == 2
    _, settings = open_store(Place(begun), None)
    assert (settings.data, settings.generations) == (str(moved), 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--population", "9"], "--population of a run cannot change; it began with 4"),
        (["--sparsity", "0.7"], "--sparsity of a run cannot change; it began with 0.5"),
        (["--per", "row"], "--per of a run cannot change; it began without one"),
        (["--seed-metrics", "wanda"], "--seed-metrics are what a run begins with"),
        (["--storage", "sqlite:///a.db"], "--storage is where a run begins"),
        (["--run", "elsewhere"], "--run begins a search and --resume goes on with one"),
    ],
)
def test_what_a_resumed_run_cannot_change(begun: Path, options: list[str], message: str) -> None:
    result = CliRunner().invoke(cli, ["search", "--resume", str(begun), *options])
    assert result.exit_code == 2
    assert message in result.output


def test_a_run_whose_budget_is_spent_goes_to_the_final(begun: Path) -> None:
    before = stored(begun)
    for options in (["--quiet"], ["--time", "0.001s", "--generations", "50"]):
        result = CliRunner().invoke(cli, ["search", "--resume", str(begun), *options])
        assert result.exit_code == 0, result.output
        assert stored(begun) == before
        assert list((begun / "hall_of_fame").glob("*.pzm"))
    assert "this run has gone as far as it may" in result.output


def test_the_limit_of_a_run_is_kept(tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["search", *SMALL, "--quiet", "--population", "4", "--run", str(run)]
    for more, limit in ((["--generations", "1"], None), (["--time", "3s", "--generations", "1"], 3.0)):
        folder = run / str(limit)
        result = CliRunner().invoke(cli, [*options[:-1], str(folder), *more])
        assert result.exit_code == 0, result.output
        _, settings = open_store(Place(folder), None)
        assert settings.limit == limit


def test_a_run_says_what_it_ended_with(begun: Path) -> None:
    for options, ended in (
        ([], "2 generations (--generations)"),
        (["--reach", "1e9", "--generations", "9"], "(--reach)"),
        (["--evaluations", "3", "--generations", "9"], "measured candidates (--evaluations)"),
    ):
        result = CliRunner().invoke(cli, ["search", "--resume", str(begun), *options])
        assert result.exit_code == 0, result.output
        assert "this run has gone as far as it may: " in result.output
        assert ended in result.output
    longer = CliRunner().invoke(
        cli, ["search", "--resume", str(begun), "--generations", "3", "--evaluations", "99", "--reach", "0"]
    )
    assert "ended with 3 generations (--generations)" in longer.output


def test_a_run_that_never_began_leaves_no_folder(tmp_path: Path) -> None:
    """So that the next try has its name."""
    for folder in (tmp_path / "run", tmp_path / "deep" / "run"):
        result = CliRunner().invoke(cli, ["search", "--model", "nowhere", "--run", str(folder)])
        assert isinstance(result.exception, PruningError)
        assert not folder.exists()
    (tmp_path / "mine").mkdir()
    CliRunner().invoke(cli, ["search", "--model", "nowhere", "--run", str(tmp_path / "mine")])
    assert (tmp_path / "mine").is_dir()


def test_time_counts_the_sessions_before(begun: Path) -> None:
    store, settings = open_store(Place(begun), None)
    spent = store.workers.spent()
    assert spent > 0
    run = prepare(store, replace(settings, generations=50))
    budget = Budget(seconds=spent)
    assert budget.elapsed == 0
    before = len(run.state.candidates)
    search(run, budget)
    assert budget.spent == spent
    assert budget.over()
    assert len(run.state.every()) == before


def test_the_clock_of_a_later_session_runs(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It once stood still unless the session saw the first generation, and so the run had no end."""
    ticks = count()
    monkeypatch.setattr("pzc.search.run.time", SimpleNamespace(monotonic=lambda: next(ticks) / 10))
    store, settings = open_store(Place(begun), None)
    run = prepare(store, replace(settings, generations=50))
    assert run.state.generation > 0
    budget = Budget(seconds=store.workers.spent() + 0.2)
    search(run, budget)
    assert budget.session > 0
    assert run.state.generation < 50


# Ends that nobody asked for


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `pzc search`; whatever still runs at the end of the test is killed."""
    running: list[subprocess.Popen[str]] = []

    def start(*options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pzc", "search", *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        running.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def wait_for_trials(folder: Path, n: int, process: subprocess.Popen[str]) -> None:
    journal = folder / JOURNAL
    for _ in range(12_000):
        if journal.is_file() and journal.read_bytes().count(b'"result":') >= n:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError(f"fewer than {n} candidates in ten minutes")


def test_kill_and_go_on(tmp_path: Path, started: Callable[..., subprocess.Popen[str]]) -> None:
    run = tmp_path / "run"
    process = started(*SMALL, "--population", "6", "--time", "1h", "--quiet", "--run", str(run))
    wait_for_trials(run, 20, process)
    process.kill()
    process.communicate()
    killed = stored(run)
    assert len(killed) >= 20
    generations = killed[-1].generation + 2

    resumed = started("--resume", str(run), "--generations", str(generations), "--json")
    output, problems = resumed.communicate(timeout=600)
    assert resumed.returncode == 0, problems
    after = stored(run)
    assert set(killed) <= set(after)
    assert len(after) > len(killed)
    places = [(c.generation, c.slot, c.attempt) for c in after]
    assert len(set(places)) == len(places)
    assert after[-1].generation == generations - 1
    assert json.loads(output.splitlines()[-1])["event"] == "done"
    assert list((run / "hall_of_fame").glob("*.pzm"))


@pytest.mark.parametrize(("threads", "here", "workers"), [(1, 2, 2), (4, 9, 2), (2, 2, None), (2, 3, None)])
def test_a_resumed_run_says_how_many_workers_fit(
    threads: int, here: int, workers: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    say_idle(replace(Settings(), threads=threads), here)
    said = capsys.readouterr().err
    assert (f"--workers {workers} would use all" in said) if workers else not said


def test_interrupt_and_go_on(tmp_path: Path, started: Callable[..., subprocess.Popen[str]]) -> None:
    run = tmp_path / "run"
    process = started(*SMALL, "--population", "6", "--time", "1h", "--workers", "2", "--run", str(run))
    wait_for_trials(run, 20, process)
    helpers = [int(n) for n in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii").split()]
    assert helpers
    assert os.getpgid(process.pid) not in map(os.getpgid, helpers)  # a terminal's ctrl-c does not reach them
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=600)
    assert process.returncode == 130
    assert f"stopped; go on with: pzc search --resume {run} --workers 2" in message.replace("\n", " ")
    assert "Traceback" not in message
    assert "plan  28 linears" in message
    assert len(stored(run)) >= 20


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--storage", "foo://x/y"], 1, "study search at foo://x/y cannot be opened"),
        (["--join", "http://example.com"], 1, "study search at http://example.com cannot be opened"),
        (["--join", "mysql+pymysql://me@host/db"], 1, "install the Python driver of this database"),
        (["--join", "postgresql+psycopg2://me@host/db"], 1, "pip install 'pzc[postgresql]'"),
        (["--storage", "sqlite:////nowhere/at/all/x.db"], 1, "unable to open database file"),
        (["--held-out-windows", "1"], 2, "1 is not in the range x>=2"),  # there would be no standard error
        (["--reach", "nan"], 2, "nan is never reached"),
        (["--json", "--quiet", "status", "runs/a"], 2, "--json is for a search; what `status` is told stands behind"),
        (["--threads", "2", "transfer", "runs/a"], 2, "--threads is for a search"),
        (["--storage", "notaurl"], 2, "`notaurl` is no URL; a folder is named by --run"),
        (["--join", "runs/a", "--resume", "runs/a"], 2, "give one of them"),
        (["--template", "abs(W) * <hole>", "--seed-zoo"], 2, "--seed-zoo brings in metrics"),
        (["--template", ""], 1, "the template `` has no <hole>"),
        (["--template", "X * 0 * <hole>"], 1, "the space `default` with this template gives no metric"),
    ],
)
def test_storages_and_options_that_do_not_fit(options: list[str], code: int, message: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pzc", "search", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_who_joins_a_run_that_is_through_gathers_nothing(begun: Path) -> None:
    result = CliRunner().invoke(cli, ["search", "--join", str(begun)])
    assert (result.exit_code, "this run has gone as far as it may" in result.output) == (0, True)
    assert "statistics" not in result.output
    assert CliRunner().invoke(cli, ["search", "--join", str(begun), "--quiet"]).output == ""


def test_a_helper_whose_leader_is_gone_ends(begun: Path) -> None:
    """It is told who that is: when it looks, another process may have taken the leader's place."""
    store = Store(Place(begun), resume=True)
    store.set_settings({**(store.settings or {}), "generations": 3})
    before = stored(begun)
    result = CliRunner().invoke(cli, ["search", "--join", str(begun), "--quiet", "--attached", str(os.getpid())])
    assert (result.exit_code, stored(begun)) == (0, before), result.output
    result = CliRunner().invoke(cli, ["search", "--join", str(begun), "--quiet", "--attached", str(os.getppid())])
    assert (result.exit_code, len(stored(begun)) > len(before)) == (0, True), result.output


def test_a_helper_that_fails_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its URL is not on its command line, which everybody can read."""
    begun: list[tuple[list[str], dict[str, str]]] = []
    said: list[str] = []
    ended = threading.Event()

    class Failing(subprocess.Popen[bytes]):
        def __init__(self, command: list[str], env: dict[str, str], **streams: Any) -> None:
            begun.append((command, env))
            super().__init__([sys.executable, "-c", "raise SystemExit(3)"], env=env, **streams)

    monkeypatch.setattr("pzc.search.helpers.subprocess.Popen", Failing)
    place = Place(tmp_path, "postgresql://me:s3cret@host/db", "first")
    with helping(place, SETTINGS, 1, lambda told: (said.append(told), ended.set()), device="cpu"):
        assert ended.wait(600)
    assert f"a helper ended with exit code 3; the run goes on without it; what it said is in {tmp_path}" in said[0]
    ((command, environment),) = begun
    assert "s3cret" not in " ".join(command)
    assert environment["PZC_SEARCH_URL"] == place.url


@pytest.mark.parametrize(
    "option",
    ["--workers=2", "--seed=0", "--sparsity=0.5", "--evaluations=9", "--run=runs/b", "--time=9m", "--per=row",
     "--template=W * <hole>", "--seed-metrics=wanda", "--seed-zoo", "--threads=2", "--fitness-dtype=float32"],
)  # fmt: skip
def test_who_joins_a_run_brings_no_settings(option: str) -> None:
    result = CliRunner().invoke(cli, ["search", "--join", "runs/a", option])
    assert result.exit_code == 2
    assert f"{option.partition('=')[0]} does not go with --join: a run has its own" in result.output


def test_two_runs_do_not_begin_in_one_place(tmp_path: Path) -> None:
    """Both may be opened while neither is ready; who is ready first has the place."""
    first, second = (Store(Place(tmp_path), resume=False) for _ in range(2))
    first.set_settings(asdict(SETTINGS))
    with pytest.raises(StoreError, match="already holds a search"):
        second.set_settings(asdict(replace(SETTINGS, seed=1)))
    assert first.settings == Store(Place(tmp_path), resume=True).settings
    first.set_settings(asdict(replace(SETTINGS, generations=3)))


def test_who_comes_second_leaves_the_run_of_who_was_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two commands may take the same new folder; one is ready first."""
    folder = tmp_path / "run"

    def another_is_first(store: Store, *given: Any, **more: Any) -> None:
        Store(Place(folder), resume=False).set_settings(asdict(SETTINGS))
        store.set_settings(asdict(SETTINGS))

    monkeypatch.setattr("pzc.search.prepare.prepare", another_is_first)
    result = CliRunner().invoke(cli, ["search", "--model", "pocket", "--run", str(folder)])
    assert isinstance(result.exception, StoreError)
    assert Store(Place(folder), resume=True).settings is not None


def test_looking_for_a_run_makes_no_database(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no search `search` at sqlite") as caught:
        Store(Place(tmp_path, f"sqlite:///{tmp_path}/none.db", "search"), resume=True)
    assert caught.value.hint == f"there is no file {tmp_path}/none.db"
    assert not list(tmp_path.iterdir())


def test_the_searches_of_a_database_are_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/some.db"
    for name in ("one", "two"):
        optuna.create_study(storage=url, study_name=name)
    with pytest.raises(StoreError, match="there is no search `search` at sqlite") as caught:
        Store(Place(tmp_path, url, "search"), resume=True)
    assert caught.value.hint == "--study names one of one, two"


def test_a_full_disk_leaves_a_run_to_go_on_with(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pzc.search.run.search", full)
    result = CliRunner().invoke(cli, ["search", "--resume", str(begun), "--quiet"])
    assert isinstance(result.exception, PruningError)
    assert result.exception.message == f"the disk is full: {begun}"
    assert str(result.exception.hint).endswith(f"go on with: pzc search --resume {begun}")
