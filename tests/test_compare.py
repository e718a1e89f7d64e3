"""`pzc compare` as a grid: results against pruning one by one, errors by hand, and what it writes."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from pzc.compiler.load import inline, load
from pzc.runtime.evaluation.compare import Compared, compare
from pzc.runtime.evaluation.comparison import names, rows, written
from pzc.runtime.evaluation.evaluate import window_losses
from pzc.runtime.evaluation.plots import draw
from pzc.runtime.evaluation.uncertainty import Estimate, change, exponential, mean, ratio
from pzc.runtime.pruning.prune import prune
from pzc.runtime.scoring.masks import Target
from tests.conftest import divergence as divergence_of
from tests.families import make_family, some_windows
from tests.terminal import Terminal

SMALL = ("--windows", "2", "--eval-windows", "3", "--length", "32", "--threads", "1")
LOSSES = st.lists(st.floats(0.1, 9), min_size=2, max_size=20)


def test_every_metric_at_every_target_is_as_if_pruned_alone(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    model, before = tiny(), tiny().state_dict()
    metrics = [load("wanda"), inline("abs(W) * G per layer")]
    targets = [Target(None, 0.25), Target(None, 0.5), Target(pattern=(2, 4))]
    dense, *found = compare(model, metrics, windows, windows[:4], targets, divergence=True)
    assert [(r.metric, r.target) for r in found] == [(m, t) for m in metrics for t in targets]
    assert list(dense.losses) == window_losses(tiny(), windows[:4])
    assert dense.divergences == (0.0,) * 4
    for r in found:
        alone = tiny()
        done = prune(alone, r.metric, windows=windows, sparsity=r.target.sparsity, pattern=r.target.pattern)
        assert list(r.losses) == pytest.approx(window_losses(alone, windows[:4]), rel=1e-6)
        assert r.sparsity == pytest.approx(done.sparsity)
        assert sum(r.divergences) / 4 == pytest.approx(divergence_of(alone, tiny(), windows[:4]), rel=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("sequential", "update", "divergence"), [(True, "none", False), (None, "obs", True), (None, "own", False)]
)
def test_metrics_that_walk_the_model_are_as_if_pruned_alone(
    tiny: Callable[..., Any], windows: torch.Tensor, sequential: bool | None, update: str, divergence: bool
) -> None:
    model, before = tiny(), tiny().state_dict()
    metrics = [load("wanda"), load("sparsegpt"), inline("abs(W) * X * G per layer"), inline("abs(W) per model")]
    targets = [Target(None, 0.4), Target(None, 0.5, (2, 4))]
    _, *found = compare(
        model, metrics, windows, windows[:4], targets, sequential=sequential, update=update, divergence=divergence
    )
    for result, (metric, target) in zip(found, ((m, t) for m in metrics for t in targets), strict=True):
        refused = metric.per == "model" and not target.pattern and update != "own"
        assert ("cannot be pruned block by block" in (result.failure or "")) is refused
        if refused:
            continue
        alone = tiny()
        how = {"sequential": sequential, "update": None if update == "own" else update}
        done = prune(alone, metric, windows=windows, sparsity=target.sparsity, pattern=target.pattern, **how)
        assert list(result.losses) == pytest.approx(window_losses(alone, windows[:4]), rel=1e-6)
        assert result.sparsity == done.sparsity
        if divergence:
            expected = divergence_of(alone, tiny(), windows[:4])
            assert np.mean(result.divergences) == pytest.approx(expected, rel=1e-4)
    per = {r.per for r in found if r.metric and r.metric.name == "sparsegpt"}
    assert per == {"128 columns" if update == "own" else "layer", "2:4"}
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_metric_that_cannot_be_measured_says_why(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    metrics = [inline("X per row"), load("wanda")]
    _, failed, fine = compare(tiny(), metrics, windows, windows, [Target(per="col")])
    assert failed.failure is not None
    assert "constant" in failed.failure
    assert math.isnan(failed.perplexity)
    assert math.isfinite(fine.perplexity)


def test_one_pattern_of_layers_is_a_pattern_and_not_its_letters(
    tiny: Callable[..., Any], windows: torch.Tensor
) -> None:
    model = tiny()
    _, found = compare(model, [load("magnitude")], None, windows, [Target()], include="q_proj", exclude="layers.0.*")
    prune(pruned := _copy(model), "magnitude", include=["q_proj"], exclude=["layers.0.*"])
    assert list(found.losses) == window_losses(pruned, windows)


def test_the_dense_twin_takes_no_memory_and_survives_transposed_weights(windows: torch.Tensor) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(vocab_size=17, n_embd=16, n_layer=2, n_head=2, n_positions=32)).eval()
    before = window_losses(model, windows)
    _, found = compare(model, [inline("abs(W) per layer")], None, windows, [Target()], divergence=True)
    prune(pruned := _copy(model), "abs(W) per layer")
    assert sum(found.divergences) / 6 == pytest.approx(divergence_of(pruned, model, windows), rel=1e-3)
    assert window_losses(model, windows) == before


@pytest.mark.parametrize("family", ["Mixtral", "GptOss"])
def test_the_dense_twin_has_the_experts_of_a_stack(family: str) -> None:
    model, windows = make_family(family), some_windows()
    _, found = compare(model, [inline("abs(W) per layer")], None, windows, [Target()], divergence=True)
    prune(pruned := _copy(model), "abs(W) per layer")
    assert found.failure is None
    assert sum(found.divergences) / len(windows) == pytest.approx(divergence_of(pruned, model, windows), rel=1e-3)


def _copy(model: Any) -> Any:
    import copy

    return copy.deepcopy(model)


@given(LOSSES)
def test_the_error_of_a_perplexity_is_the_delta_methods(losses: list[float]) -> None:
    found = exponential(mean(losses))
    assert found.value == pytest.approx(math.exp(np.mean(losses)))
    assert found.error == pytest.approx(found.value * np.std(losses, ddof=1) / math.sqrt(len(losses)), abs=1e-9)


@given(LOSSES, st.floats(-1, 1))
def test_a_shift_of_every_window_has_no_error(losses: list[float], shift: float) -> None:
    """Pairing: what both models find hard cancels, so a constant change is known exactly."""
    found = change([x + shift for x in losses], losses)
    assert found.value == pytest.approx(math.expm1(shift), abs=1e-9)
    assert found.error == pytest.approx(0, abs=1e-9)


def test_the_error_of_a_change_is_that_of_many_samples() -> None:
    """Against the spread of the change over many draws of windows from one distribution."""
    rng = np.random.default_rng(0)
    hard = rng.normal(3.0, 1.0, (4000, 32))
    ours, theirs = hard + rng.normal(-0.1, 0.2, hard.shape), hard
    found = [change(a, b) for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)]
    values, errors = np.array([(f.value, f.error) for f in found]).T
    assert values.mean() == pytest.approx(math.exp(-0.1) - 1, rel=0.05)
    assert errors.mean() == pytest.approx(values.std(), rel=0.05)
    assert change([2.0], [1.0]).value == pytest.approx(math.e - 1)
    assert math.isnan(change([2.0], [1.0]).error)


def test_the_error_of_a_ratio_is_that_of_many_samples() -> None:
    """Where windows of few bytes are those with high losses, as where text is dense."""
    rng = np.random.default_rng(0)
    sizes = rng.normal(100.0, 20.0, (4000, 16))
    losses = 250.0 - sizes + rng.normal(0.0, 5.0, sizes.shape)
    found = [ratio(a, b) for a, b in zip(losses.tolist(), sizes.tolist(), strict=True)]
    values, errors = np.array([(f.value, f.error) for f in found]).T
    assert values.mean() == pytest.approx(1.5, rel=0.02)
    assert errors.mean() == pytest.approx(values.std(), rel=0.05)
    assert ratio([2.0], [4.0]).value == 0.5
    assert math.isnan(ratio([2.0], [4.0]).error)


def test_hopeless_losses_have_no_error() -> None:
    assert math.isnan(ratio([math.inf, 1.0], [2.0, 3.0]).error)
    assert exponential(mean([800.0, 900.0])).value == math.inf
    assert math.isnan(exponential(mean([math.nan, 1.0])).value)
    assert math.isnan(mean([1.0]).error)


def _result(formula: str, target: Target, *losses: float, failure: str | None = None) -> Compared:
    return Compared(inline(formula), target, "row", 0.5, losses, 0.0, failure=failure)


def test_changes_are_to_the_best_or_the_first_of_each_target() -> None:
    half, pattern = Target(), Target(pattern=(2, 4))
    found = [
        Compared(None, None, None, 0.0, (1.0, 2.0), 0.0),
        _result("W", half, failure="refused"),
        _result("abs(W)", half, 2.0, 3.0),
        _result("sqr(W)", half, 1.0, 3.0),
        _result("abs(W)", pattern, 4.0, 4.0),
    ]
    best, first = rows(found), rows([found[0], *found[2:]], "first")
    assert [row.name for row in best] == ["dense", "W", "abs(W)", "sqr(W)", "abs(W)"]
    assert [row.change is None for row in best] == [True, True, False, True, True]
    assert best[2].change == Estimate(pytest.approx(math.exp(0.5) - 1), pytest.approx(math.exp(0.5) * 0.5))
    assert [row.change is None for row in first] == [True, True, False, True]
    assert first[2].change is not None
    assert first[2].change.value == pytest.approx(math.exp(-0.5) - 1)
    assert not any(row.change for row in rows(found, "first"))  # of which the first was refused
    assert [row.target for row in best] == ["dense", "50%", "50%", "50%", "2:4"]


def test_nothing_is_compared_with_what_is_not_finite() -> None:
    found = [
        Compared(None, None, None, 0.0, (1.0, 2.0), 0.0),
        _result("W", Target(), math.nan, 1.0),
        _result("abs(W)", Target(), 2.0, 3.0),
        _result("sqr(W)", Target(), 1.0, 3.0),
    ]
    changes = [row.change for row in rows(found, "best")]
    assert changes[3] is None
    assert changes[2] is not None
    assert math.isfinite(changes[2].value)
    assert not any(row.change for row in rows(found, "first"))


def test_metrics_have_names_of_their_own() -> None:
    assert names([load("wanda"), inline("abs(W)"), inline("W", "best"), inline("sqr(W)", "best")]) == [
        "wanda", "abs(W)", "best (1)", "best (2)",
    ]  # fmt: skip
    assert written(Target(None, 0.625)) == "62.5%"


@given(st.lists(st.sampled_from(["a", "a (1)", "a (2)", "a (1) (1)"]), max_size=7))
def test_a_number_gives_no_name_that_another_has(texts: list[str]) -> None:
    found = names([replace(load("wanda"), name=text) for text in texts])
    assert len(set(found)) == len(texts)
    assert all(own == text or own.startswith(f"{text} (") for own, text in zip(found, texts, strict=True))
    assert all(own == text for own, text in zip(found, texts, strict=True) if texts.count(text) == 1)


def test_a_grid_writes_a_table_numbers_and_plots(terminal: Terminal, tmp_path: Path) -> None:
    formula = "abs(W) * X ^ 0.5 / (1 + sum(abs(W), in)) per row"
    shown = terminal("compare", "-f", "wanda", "-f", formula, "-s", "0.3,0.5", "--pattern", "2:4", *SMALL, "-o", "grid")
    assert shown.code == 0, shown.err
    assert shown.out.count("wanda") == 4  # one at each target, one beside its formula
    kept = json.loads((tmp_path / "grid" / "results.json").read_text(encoding="utf-8"))
    assert kept["format"] == "pzc-comparison/1"
    assert [(r["metric"], r["target"]) for r in kept["results"][1:]] == [
        (name, target) for name in ("wanda", formula.removesuffix(" per row")) for target in ("30%", "50%", "2:4")
    ]
    for r in kept["results"]:
        assert r["perplexity"] == pytest.approx(math.exp(np.mean(r["losses"])))
    with (tmp_path / "grid" / "results.csv").open(newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    assert [float(r["perplexity"]) for r in table] == [r["perplexity"] for r in kept["results"]]
    assert kept["complete"] is True
    assert kept["options"]["metrics"] == ["wanda", formula.removesuffix(" per row")]
    assert kept["options"]["kl"] is False
    assert (tmp_path / "grid" / "perplexity.png").read_bytes().startswith(b"\x89PNG")
    drawn = (tmp_path / "grid" / "perplexity.svg").read_text(encoding="utf-8")
    assert "perplexity on pydoc (evaluation)" in drawn
    assert "sparsity of the blocks' linear weights, %" in drawn
    assert "bars: one standard error of the change from the dense model, windows paired" in drawn
    again = terminal("compare", "-f", "wanda", *SMALL, "-o", "grid")
    assert again.code == 1
    assert "grid holds results already" in again.err


def test_a_grid_that_was_stopped_says_that_it_is_not_whole(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def two(*given: Any, **how: Any) -> Iterator[Compared]:
        measured = compare(*given, **how)
        yield next(measured)
        yield next(measured)
        raise KeyboardInterrupt

    monkeypatch.setattr("pzc.runtime.evaluation.compare.compare", two)
    shown = terminal("compare", "-f", "wanda", "-f", "ria", *SMALL, "-o", "grid")
    assert shown.code == 130
    assert "stopped with 1 of 2 measured: grid has these, and says so" in shown.err
    kept = json.loads((tmp_path / "grid" / "results.json").read_text(encoding="utf-8"))
    assert kept["complete"] is False
    assert kept["options"]["metrics"] == ["wanda", "ria"]
    assert [r["metric"] for r in kept["results"]] == [None, "wanda"]


def test_options_that_take_several_may_be_repeated(terminal: Terminal) -> None:
    how = ("-s", "0.3", "-s", "0.4,0.5", "--pattern", "2:4", "--pattern", "4:8")
    found = json.loads(terminal("compare", "-f", "wanda", *how, *SMALL, "--json").out)
    assert [r["target"] for r in found[1:]] == ["30%", "40%", "50%", "2:4", "4:8"]


def test_a_plot_says_what_was_refused_apart_from_what_is_off_the_scale(tmp_path: Path) -> None:
    found = [
        Compared(None, None, None, 0.0, (1.0, 2.0), 0.0),
        _result("abs(W)", Target(), 1.5, 2.5),
        _result("sqr(W)", Target(), 9.0, 9.5),
        _result("W / X", Target(), failure="a score is not finite"),
    ]
    file = tmp_path / "plot.svg"
    assert draw(rows(found), "a title", "a text", [file]) == [file]
    drawn = file.read_text(encoding="utf-8")
    assert "off the scale: sqr(W)" in drawn
    assert "refused: W / X" in drawn


def test_a_plot_tells_names_that_begin_alike_apart_and_takes_any(tmp_path: Path) -> None:
    begins = "abs(W) * X ^ 0.5 / (sum(abs(W), in) + "
    formulas = [f"{begins}1)", f"{begins}2)"]
    found = [
        Compared(None, None, None, 0.0, (1.0, 2.0), 0.0),
        *(_result(text, Target(), 2.0 + k, 3.0 + k) for k, text in enumerate(formulas)),
    ]
    handles: list[Any] = []
    legend = Figure.legend

    def note(self: Any, *given: Any, **how: Any) -> Any:
        handles.extend(given[0])
        return legend(self, *given, **how)

    with pytest.MonkeyPatch.context() as m:
        m.setattr(Figure, "legend", note)
        files = [tmp_path / "plot.png", tmp_path / "plot.svg"]
        assert draw(rows(found), "models/a$b_{c$, x", r"x$\q$.txt", files) == files
    assert len({id(handle) for handle in handles}) == 3
    drawn = files[1].read_text(encoding="utf-8")
    assert "models/a$b_{c$, x" in drawn
    assert r"x$\q$.txt" in drawn


def test_where_nothing_can_be_drawn_no_picture_is_left(tmp_path: Path) -> None:
    found = [Compared(None, None, None, 0.0, (1.0, 2.0), 0.0), _result("abs(W)", Target(), 9.0, 9.5)]
    old = tmp_path / "plot.png"
    old.write_bytes(b"of another run")
    assert not draw(rows(found), "a title", "a text", [old])
    assert not old.exists()


def test_bars_are_errors_of_the_change_from_the_dense_model(
    tiny: Callable[..., Any], windows: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.axes import Axes

    targets = [Target(None, 0.3), Target(None, 0.5), Target(None, 0.5, (2, 4))]
    found = list(compare(tiny(), [load("wanda"), load("magnitude")], windows, windows, targets))
    drawn: dict[float, float] = {}
    errorbar = Axes.errorbar

    def note(self: Any, x: Any, y: Any, *, yerr: Any, **how: Any) -> Any:
        drawn.update(zip(y, yerr, strict=True))
        return errorbar(self, x, y, yerr=yerr, **how)

    monkeypatch.setattr(Axes, "errorbar", note)
    draw(rows(found), "a title", "a text", [tmp_path / "plot.svg"])
    dense, *others = (np.array(r.losses) for r in found)
    for losses in others:
        d = losses - dense
        error = np.exp(dense.mean()) * np.exp(d.mean()) * d.std(ddof=1) / len(d) ** 0.5
        assert drawn[math.exp(losses.mean())] == pytest.approx(error)
    assert len(drawn) == len(others) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-s", "0.5,1"), "1 is not between 0 and 1"),
        (("-s", "0.5,half"), "`half` is no number"),
        (("-s", "0.5,"), "`` is no number"),
        (("-s", "0.5,.50"), "0.5 is given twice"),
        (("--pattern", "2:4,2:4"), "2:4 is given twice"),
        (("--pattern", "2:4,4:2"), "`4:2` is no pattern"),
        (("--pattern", "2:4", "--per", "row"), "--pattern 2:4 replaces --per"),
    ],
)
def test_a_grid_that_is_none_is_refused(options: tuple[str, ...], message: str, terminal: Terminal) -> None:
    shown = terminal("compare", "-f", "wanda", *options)
    assert shown.code == 2
    assert message in shown.err


def test_metrics_are_compared_as_published(terminal: Terminal) -> None:
    shown = terminal("compare", "-f", "wanda", "-f", "sparsegpt", "--sequential", "--update", "own", *SMALL)
    assert shown.code == 0, shown.err
    assert "sequential, SparseGPT with its update" in shown.out
    assert "128 columns" in shown.out


def test_an_update_reads_calibration_text_whatever_the_metrics_do(terminal: Terminal) -> None:
    shown = terminal("compare", "-f", "magnitude", "--update", "obs", *SMALL)
    assert shown.code == 0
    assert "windows of pydoc" in shown.err
    assert "statistics from" not in terminal("compare", "-f", "magnitude", *SMALL).err


def test_one_window_has_no_error(terminal: Terminal) -> None:
    shown = terminal("compare", "-m", "pocket", "-f", "magnitude", "-n", "1", "-l", "16", "--eval-windows", "1")
    assert shown.code == 0
    assert "magnitude" in shown.out
    assert "nan" not in shown.out


def test_a_pattern_that_fits_no_layer_is_refused_before_anything_is_measured(terminal: Terminal) -> None:
    shown = terminal("compare", "-f", "wanda", "--pattern", "2:4,3:7", *SMALL)
    assert shown.code == 1
    assert "3:7 needs a multiple of 7 inputs" in shown.err
    assert not shown.out


def test_without_matplotlib_there_is_one_message_and_nothing_is_measured(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    shown = terminal("compare", "-f", "wanda", *SMALL, "-o", "grid")
    assert shown.code == 1
    assert shown.err.splitlines()[0] == "error: a plot needs the package `matplotlib`"
    assert not (tmp_path / "grid").exists()


def test_an_option_that_it_does_not_have_is_no_option(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    with pytest.raises(TypeError, match="takes no allocation"):
        list(compare(tiny(), [load("wanda")], windows, windows, [Target()], allocation="owl"))  # type: ignore[call-arg]


def test_a_share_may_be_a_fraction(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    found = list(compare(tiny(), [load("wanda")], windows, windows, [Target(sparsity=Fraction(1, 3))]))
    assert [row.target for row in rows(found)][1:] == ["33.33%"]
