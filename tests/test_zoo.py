"""The published metrics against their papers' formulae in numpy, and the ways of naming a metric."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pzc
from pzc.compiler.load import zoo_names, zoo_source
from pzc.compiler.metric import Metric

OUT, IN, WINDOWS = 6, 8, 5
Array = np.ndarray


def sample(seed: int) -> dict[str, Any]:
    """A layer's weight, the inputs it saw and its gradients of each window, with zeros among them."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(OUT, IN)) * (rng.uniform(size=(OUT, IN)) > 0.1)
    x = rng.normal(size=(40, IN)) * rng.uniform(0.1, 5, IN)
    g = rng.normal(size=(WINDOWS, OUT, IN)) * 1e-3
    return {"w": w, "x": x, "g": g, "u": rng.uniform(size=(OUT, IN))}


def leaves(s: dict[str, Any]) -> dict[str, Any]:
    return {
        "W": s["w"],
        "X": np.linalg.norm(s["x"], axis=0),
        "G": np.linalg.norm(s["g"], axis=0),
        "noise": s["u"],
        "windows": len(s["g"]),
    }


def mms(a: Array) -> Array:
    return (a - a.min()) / (a.max() - a.min())


PAPERS: dict[str, tuple[Callable[[Array, Array, Array, Array], Array], str, set[str]]] = {
    "magnitude": (lambda w, x, g, u: np.abs(w), "layer", {"W"}),
    "random": (lambda w, x, g, u: u, "row", {"noise"}),
    "wanda": (lambda w, x, g, u: np.abs(w) * np.sqrt((x**2).sum(0)), "row", {"W", "X.l2"}),
    "ria": (
        lambda w, x, g, u: (
            (np.abs(w) / np.abs(w).sum(0)[None, :] + np.abs(w) / np.abs(w).sum(1)[:, None])
            * np.sqrt((x**2).sum(0)) ** 0.5
        ),
        "row",
        {"W", "X.l2"},
    ),
    "gblm": (
        lambda w, x, g, u: np.abs(w) * np.sqrt((x**2).sum(0)) + 100 * np.abs(w) * np.sqrt((g**2).sum(0)),
        "row",
        {"W", "X.l2", "G.l2"},
    ),
    "gradient_magnitude": (lambda w, x, g, u: np.abs(w) * np.sqrt((g**2).sum(0)), "row", {"W", "G.l2"}),
    "fisher": (lambda w, x, g, u: w**2 * (g**2).mean(0), "model", {"W", "G.l2", "windows"}),
    "pruner_zero": (
        lambda w, x, g, u: np.abs(np.abs(w) * np.abs(w)) * mms(np.sqrt(((100 * g) ** 2).sum(0))),
        "row",
        {"W", "G.l2"},
    ),
}
"""Each metric from the weight, the inputs `[tokens, in]`, the gradients `[windows, out, in]` and noise."""


def test_every_metric_of_the_zoo_is_here() -> None:
    assert set(PAPERS) == set(zoo_names()) == set(pzc.zoo())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", PAPERS)
def test_scores_are_the_papers(name: str, seed: int) -> None:
    formula, per, needs = PAPERS[name]
    s = sample(seed)
    metric = pzc.load(name)
    assert (metric.per, metric.leaves) == (per, needs)
    np.testing.assert_allclose(metric.reference_score(**leaves(s)), formula(s["w"], s["x"], s["g"], s["u"]), rtol=1e-12)


@pytest.mark.parametrize("name", PAPERS)
def test_torch_scores_agree(name: str) -> None:
    import torch

    given = leaves(sample(1))
    metric = pzc.load(name)
    found = metric.score(**{n: torch.as_tensor(v) for n, v in given.items()})
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), metric.score(**given), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", sorted(set(PAPERS) - {"random"}))
def test_every_metric_cites_its_paper(name: str) -> None:
    assert re.search(r"arXiv \d{4}\.\d{5}|(ICML|ICLR|NeurIPS) 20\d\d", pzc.load(name).doc)


@pytest.mark.parametrize("name", PAPERS)
def test_a_metric_is_written_as_a_file_that_reads_back(name: str, tmp_path: Path) -> None:
    metric = pzc.load(name)
    path = tmp_path / "copy.pzm"
    path.write_text(metric.source, encoding="utf-8")
    copy = pzc.load(str(path))
    assert (copy.core, copy.per, copy.doc, copy.name) == (metric.core, metric.per, metric.doc, metric.name)


TWO = "pzm 1 param a = 0.5 in [0, 1] metric one = abs(W) * X ^ a per row metric two = W per col"


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("two.pzm").write_text(TWO)
    return "two.pzm"


def test_all_the_ways_of_naming_a_metric(two: str, tmp_path: Path) -> None:
    assert pzc.load("wanda").formula == "abs(W) * X"
    assert pzc.load(f"{two}:two").per == "col"
    assert pzc.load(f"{tmp_path}/{two}:one").name == "one"
    Path("one.pzm").write_text("pzm 1 metric m = G per layer")
    assert pzc.load("one.pzm").name == "m"
    Path("plain").write_text("pzm 1 metric n = G per layer")
    assert pzc.load("plain").name == "n"
    assert pzc.load("abs(W) * X ^ 0.5 per col").formula == "abs(W) * X ^ 0.5"
    assert pzc.load("W").per == pzc.load("noise").per == "row"


def test_a_long_expression_is_no_file_name() -> None:
    assert pzc.load(" + ".join(["abs(W) * X"] * 100)).leaves == {"W", "X.l2"}


def test_parameters_are_set(two: str) -> None:
    assert pzc.load(f"{two}:one", {"a": 0.25}).formula == "abs(W) * X ^ 0.25"
    assert pzc.load("gblm", {"alpha": 0}).params == (("alpha", 0.0),)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("wnada", "there is no metric `wnada` in the zoo; did you mean `wanda`?"),
        ("sparsegpt", "there is no metric `sparsegpt` in the zoo"),
        ("absent.pzm", "cannot read absent.pzm: no such file or directory"),
        ("absent.pzm:one", "cannot read absent.pzm: no such file or directory"),
        ("two.pzm", "two.pzm defines one, two: name one, as in two.pzm:one"),
        ("two.pzm:three", "two.pzm defines no `three`; it has one, two"),
        ("abs(W) metric n = X", "an inline metric is one expression, such as 'abs(W) * X per row'"),
        ("abs(W) let n = X", "an inline metric is one expression, such as 'abs(W) * X per row'"),
    ],
)
def test_references_that_lead_nowhere(two: str, reference: str, message: str) -> None:
    with pytest.raises(pzc.MetricNotFound) as caught:
        pzc.load(reference)
    assert str(caught.value) == message


@pytest.mark.parametrize("reference", ["wanda", "two.pzm:one", "abs(W) * X"])
def test_parameters_that_do_not_exist(two: str, reference: str) -> None:
    with pytest.raises(pzc.MetricNotFound, match="has no parameter `b`"):
        pzc.load(reference, {"b": 1})


def test_files_that_hold_no_metric(two: str) -> None:
    Path("none.pzm").write_text("pzm 1 let a = W")
    with pytest.raises(pzc.MetricNotFound, match=r"none\.pzm defines no metric"):
        pzc.load("none.pzm")
    Path("binary.pzm").write_bytes(b"\xff\x00")
    with pytest.raises(pzc.MetricNotFound, match="not UTF-8"):
        pzc.load("binary.pzm")


@pytest.mark.parametrize(
    ("text", "at"), [("abs(W) * Z per row", (9, 10)), ("abs(W", (4, 5)), ("", (0, 1)), ("W:X", (1, 2))]
)
def test_mistakes_in_expressions_are_shown_in_them(text: str, at: tuple[int, int]) -> None:
    with pytest.raises(pzc.SourceError) as caught:
        pzc.load(text)
    (found,) = caught.value.diagnostics
    assert (found.primary.span.start, found.primary.span.end) == at
    assert caught.value.source == text


def test_the_dearest_pass_is_known() -> None:
    tiers = {name: metric.tier for name, metric in pzc.zoo().items()}
    assert {n for n, t in tiers.items() if t == "weights"} == {"magnitude", "random"}
    assert {n for n, t in tiers.items() if t == "forward"} == {"wanda", "ria"}


def test_the_source_is_what_the_zoo_ships() -> None:
    assert zoo_source("wanda").startswith("pzm 1\n")
    assert isinstance(pzc.zoo()["wanda"], Metric)
