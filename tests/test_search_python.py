"""A search from Python: the same run as the command's, and what it says of options that don't go together."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import pzc
from pzc.cli.main import pzc as cli
from pzc.cli.search.search import command as search_command
from pzc.compiler.load import MetricNotFound
from pzc.search.errors import StoreError
from pzc.search.hall import HALL
from pzc.search.lead import HelperEnded
from pzc.search.place import Place
from pzc.search.prepare import open_store
from pzc.search.request import _VALUES, LIMIT, Contradiction, How, new_settings, resumed_settings
from pzc.search.settings import Settings
from pzc.search.state import Standing
from tests.searches import SMALL, stored, timeless

TINY = How(windows=2, fitness_windows=4, held_out_windows=2, length=32, population=4, seed_zoo=True)


def hall(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / HALL).iterdir()}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("search") / "run"
    return folder, pzc.search_metrics(folder, evaluations=6, **TINY)


def test_it_is_the_run_of_the_command(found: tuple[Path, Any], tmp_path: Path) -> None:
    folder, result = found
    options = f"--population 4 --seed-zoo --evaluations 6 --threads {torch.get_num_threads()} --run".split()
    shown = CliRunner().invoke(cli, ["search", *SMALL, *options, str(tmp_path / "b")])
    assert shown.exit_code == 0, shown.output
    assert timeless(stored(folder)) == timeless(stored(tmp_path / "b"))
    assert hall(folder) == hall(tmp_path / "b")
    assert result.best.formula in shown.output.replace("\n", "")


def test_the_best_prunes_a_model(found: tuple[Path, Any]) -> None:
    _, result = found
    loaded = pzc.load_model("pocket")
    windows = pzc.calibration_tokens(loaded.tokenizer, "pydoc", windows=2, length=32)
    done = pzc.prune(loaded.model, result.best, windows=windows)
    assert done.sparsity == pytest.approx(0.5, abs=0.01)
    assert result.members[0].held_out == pytest.approx(math.exp(sum(result.members[0].losses) / 2))


def test_helpers_change_nothing_and_threads_stay(found: tuple[Path, Any], tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    pzc.search_metrics(tmp_path / "two", workers=2, threads=threads, evaluations=6, **TINY)
    assert hall(tmp_path / "two") == hall(found[0])
    pzc.search_metrics(tmp_path / "one", threads=1, generations=1, **TINY)
    assert torch.get_num_threads() == threads


def test_who_looks_on_may_end_it_and_it_goes_on(tmp_path: Path) -> None:
    seen: list[int] = []

    def see(standing: Standing) -> bool:
        seen.append(standing.counts.total())
        return True  # which says nothing

    def enough(standing: Standing) -> bool:
        return standing.counts.total() >= 3

    stopped = pzc.search_metrics(tmp_path / "run", evaluations=20, on_settled=see, until=enough, **TINY)
    assert seen == sorted(seen)
    assert seen.count(0) > 20  # the zoo is seen, too
    assert seen[-1] >= 3 > seen[-2]
    assert 0 < stopped.state.measured + len(stopped.state.pending) < 20
    with pytest.raises(StoreError, match="already holds a search"):
        pzc.search_metrics(tmp_path / "run", **TINY)
    further = pzc.search_metrics(tmp_path / "run", resume=None, evaluations=8, **TINY)
    assert further.state.measured == 8
    assert (stopped.ended, further.ended) == ("", "8 measured candidates (--evaluations)")
    assert hall(tmp_path / "run")


def test_a_cell_that_is_run_again_goes_on(tmp_path: Path) -> None:
    def cell() -> Any:
        return pzc.search_metrics(
            tmp_path / "run", resume=None, evaluations=4, seed_metrics="wanda", dtype=None, **TINY
        )

    assert cell().best.formula == cell().best.formula


def test_an_interrupt_leaves_the_best_so_far(tmp_path: Path) -> None:
    def interrupt(standing: Standing) -> None:
        if standing.best:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pzc.search_metrics(tmp_path / "run", evaluations=20, on_settled=interrupt, **TINY)
    assert b"On the search's windows: perplexity" in hall(tmp_path / "run")["01.pzm"]
    assert pzc.search_metrics(tmp_path / "run", resume=True, evaluations=6).state.measured >= 6


def test_an_interrupt_in_the_final_leaves_the_best_so_far(tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "held-out text":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pzc.search_metrics(tmp_path / "run", evaluations=6, progress=interrupt, **TINY)
    left = hall(tmp_path / "run")["01.pzm"]
    assert b"On the search's windows: perplexity" in left
    assert b"held-out" not in left
    pzc.search_metrics(tmp_path / "run", resume=True)
    assert b"on held-out text: perplexity" in hall(tmp_path / "run")["01.pzm"]


def test_a_model_in_memory_is_searched_and_dense_again(found: tuple[Path, Any], tmp_path: Path) -> None:
    own = pzc.load_model("pocket")
    before = {name: tensor.clone() for name, tensor in own.model.state_dict().items()}

    def same() -> bool:
        return all(torch.equal(before[name], tensor) for name, tensor in own.model.state_dict().items())

    in_memory = How(model=own, **TINY)
    result = pzc.search_metrics(tmp_path / "run", generations=1, **in_memory)
    assert same()
    assert timeless(result.state.every()) == timeless(found[1].state.every())[: len(result.state.every())]
    assert "of LlamaForCausalLM in memory at 50%" in (tmp_path / "run" / HALL / "01.pzm").read_text(encoding="utf-8")

    def interrupt(standing: Standing) -> None:
        assert not same()
        raise KeyboardInterrupt

    with pytest.raises(pzc.PruningError, match="the model was a LlamaForCausalLM in memory"):
        pzc.search_metrics(tmp_path / "run", resume=True, evaluations=6)
    own.model.train()
    again = {"resume": True, "model": own.model, "tokenizer": own.tokenizer, "generations": None, "evaluations": 6}
    with pytest.raises(KeyboardInterrupt):
        pzc.search_metrics(tmp_path / "run", on_settled=interrupt, **again)
    assert same()
    assert pzc.search_metrics(tmp_path / "run", **again).state.measured == 6
    assert hall(tmp_path / "run")["01.pzm"].splitlines()[-1] == hall(found[0])["01.pzm"].splitlines()[-1]
    assert own.model.training
    for part in (own.model, own.tokenizer):
        part.save_pretrained(tmp_path / "saved")
    saved = CliRunner().invoke(cli, ["search", "--resume", str(tmp_path / "run"), "--model", str(tmp_path / "saved")])
    assert (saved.exit_code, "this run has gone as far as it may" in saved.output) == (0, True), saved.output
    with torch.no_grad():
        next(own.model.parameters()).mul_(2)
    with pytest.raises(StoreError, match="model"):
        pzc.search_metrics(tmp_path / "run", **again)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "a model in memory needs its tokenizer"),
        ({"workers": 2, "tokenizer": 1}, "helpers can't reach a model in memory"),
        ({"dtype": "bfloat16", "tokenizer": 1}, "`dtype` converts a model that is loaded"),
        ({"model": "pocket", "tokenizer": 1}, "`tokenizer` goes with a model that is given itself"),
        ({"model": "pocket", "workers": -1}, "`workers` cannot be -1: it is a whole number from 1 on"),
        (
            {"model": "pocket", "study": "mine"},
            "`study` is for storages: the study of a folder is `search`, not `mine`",
        ),
        ({"model": "pocket", "storage": "a.db"}, "`storage` is a URL, and `a.db` is none"),
    ],
)
def test_what_cannot_begin(more: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(pzc.PruningError, match=message):
        pzc.search_metrics(tmp_path / "run", **{"model": torch.nn.Linear(2, 2), **more})
    assert not (tmp_path / "run").exists()


def test_every_option_is_read() -> None:
    assert How.__annotations__.keys() == _VALUES.keys()


def test_the_command_line_shows_the_defaults_of_the_settings() -> None:
    context = click.Context(search_command)
    shown = {p.name: p.get_default(context) for p in search_command.params if getattr(p, "show_default", False)}
    usual = asdict(Settings())
    both = shown.keys() & usual.keys()
    some = {"model", "data", "windows", "fitness_windows", "held_out_windows", "sparsity", "islands", "objective"}
    assert both >= some
    assert {name: shown[name] for name in both} == {name: usual[name] for name in both}


def test_a_search_that_cannot_begin_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(pzc.PruningError, match="there is no model"):
        pzc.search_metrics(tmp_path / "run", model=tmp_path / "nothing", limit=5)
    with pytest.raises(StoreError, match="there is no search"):
        pzc.search_metrics(tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_a_helper_that_fails_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pzc.search.helpers.sys.executable", "/bin/false")
    with pytest.warns(HelperEnded, match="a helper ended with exit code 1; the run goes on without it"):
        pzc.search_metrics(tmp_path / "run", workers=2, evaluations=4, **TINY)


def test_what_is_not_said_is_as_usual() -> None:
    threads = torch.get_num_threads()
    assert new_settings(limit=60.0) == Settings(limit=60.0, threads=threads)
    assert new_settings().limit == LIMIT
    assert new_settings().default_limit
    assert new_settings(evaluations=9).limit is None
    assert new_settings(workers=2).threads == max(1, threads // 2)
    paper = new_settings(algorithm="paper")
    assert (paper.space, paper.population) == ("pruner_zero", 50)
    several = new_settings(per=["layer", "row"], include="q_proj", seed_metrics=pzc.load("wanda"), data=Path("a.txt"))
    assert (several.per, several.include, several.data) == ("row,layer", ("q_proj",), "a.txt")
    assert several.seeds == ("wanda: abs(W) * X per row",)
    numbers = new_settings(seed=np.int64(3), sparsity=Fraction(1, 4), reach=np.float32(9), pattern=None)
    assert json.loads(json.dumps(asdict(numbers)))["sparsity"] == 0.25
    types = new_settings(fitness_dtype=torch.bfloat16, pattern=(2, 4), windows=None, per=None)
    assert (types.fitness_dtype, types.pattern, types.windows) == ("bfloat16", "2:4", 16)


def test_helpers_know_no_leaves_of_this_process(tmp_path: Path) -> None:
    pzc.register_leaf(pzc.Leaf("W.twice", ("out", "in"), "weights", "2 W", signed=True), lambda layer: 2 * layer.weight)
    try:
        with pytest.raises(pzc.PruningError, match=r"helpers don't know `W\.twice`"):
            pzc.search_metrics(tmp_path / "run", workers=2, seed_metrics="abs(W.twice) per row", **TINY)
    finally:
        pzc.unregister_leaf("W.twice")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"algorithm": "paper", "seed_zoo": True}, "`seed_zoo` does not go with `algorithm` paper"),
        ({"template": "abs(W) * <hole>", "seed_metrics": ["wanda"]}, "`seed_metrics` brings in metrics"),
        ({"pattern": "2:4", "per": "row"}, "`pattern` 2:4 replaces `per`"),
        ({"pattern": "2:4", "sparsity": 0.5}, "`pattern` 2:4 replaces `sparsity`"),
        ({"seed_metrics": ["ria", "wanda"], "evaluations": 1}, "`evaluations` 1 would leave some of them untried"),
    ],
)
def test_options_that_do_not_go_together(how: dict[str, Any], message: str) -> None:
    with pytest.raises(Contradiction) as caught:
        new_settings(**how)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"fitness_windows": 3}, "`fitness_windows` cannot be 3: it is a whole number from 4 on"),
        ({"windows": 1.5}, "`windows` cannot be 1.5"),
        ({"population": True}, "`population` cannot be True"),
        ({"sparsity": 1.5}, "a sparsity of 1.5 is not between 0 and 1"),
        ({"pattern": "4:2"}, "`4:2` is no pattern"),
        ({"per": "rows"}, "`rows` is no comparison group; there are row, col, layer, block, model"),
        ({"algorithm": "annealing"}, "there is no algorithm `annealing`; there are default, paper, random"),
        ({"objective": "accuracy"}, "there is no objective `accuracy`; there are perplexity, kl"),
        ({"limit": 0}, "`limit` cannot be 0: it is a number of seconds"),
        ({"limit": "5m"}, "`limit` cannot be '5m': it is a number"),
        ({"limit": True}, "`limit` cannot be True: it is a number"),
        ({"reach": math.nan}, "`reach` cannot be nan: it is a number"),
        ({"seed": -1}, "`seed` cannot be -1: it is a whole number from 0 to 4,611,686,018,427,387,904"),
        ({"fitness_dtype": "bf16"}, "`bf16` is no type for weights"),
    ],
)
def test_values_that_are_none(how: dict[str, Any], message: str) -> None:
    with pytest.raises(pzc.PruningError) as caught:
        new_settings(**how)
    assert message in caught.value.message


def test_an_option_or_a_space_that_is_not_there() -> None:
    with pytest.raises(TypeError, match="there is no option `time`; `--time` is `limit`, in seconds"):
        new_settings(time=5)  # type: ignore[typeddict-unknown-key]
    with pytest.raises(TypeError, match="there is no option `zzzzzz`; there are algorithm, "):
        new_settings(zzzzzz=5)  # type: ignore[typeddict-unknown-key]
    with pytest.raises(TypeError, match=r"there is no option `evaluation`; did you mean `evaluations`\?"):
        new_settings(evaluation=5)  # type: ignore[typeddict-unknown-key]
    with pytest.raises(MetricNotFound):
        new_settings(space="nowhere")


def test_a_run_keeps_what_it_began_with(found: tuple[Path, Any]) -> None:
    kept = open_store(Place(found[0]), None)[1]
    assert resumed_settings(kept, evaluations=9, seed=0).evaluations == 9
    for how, message in [
        ({"seed": 3}, "`seed` of a run cannot change; it began with 0"),
        ({"template": "W * <hole>"}, "`template` of a run cannot change; it began without one"),
        ({"seed_metrics": "wanda"}, "`seed_metrics` are what a run begins with; it cannot get others"),
        ({"evaluations": 0}, "`evaluations` cannot be 0"),
    ]:
        with pytest.raises(pzc.PruningError) as caught:
            resumed_settings(kept, **how)  # type: ignore[arg-type]
        assert message in caught.value.message
    assert resumed_settings(kept, evaluations=None, limit=5).limit == 5
    assert resumed_settings(kept, length=None, seed_metrics=()) == kept
    endless = resumed_settings(kept, evaluations=None)
    assert (endless.limit, endless.default_limit) == (LIMIT, True)  # nothing else ends it
    some = Settings(include=("q_proj", "k_proj"))
    with pytest.raises(Contradiction, match="`include` of a run cannot change; it began with q_proj, k_proj"):
        resumed_settings(some, include="v_proj")
