"""The published metrics against their papers' formulae in numpy, and the ways of naming a metric."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pzc
from pzc.compiler.core import leaves_of
from pzc.compiler.load import ELSEWHERE, load_all, zoo_names, zoo_source
from pzc.compiler.metric import Metric

OUT, IN, WINDOWS, TOKENS = 24, 32, 5, 120
Array = np.ndarray


@dataclass(frozen=True)
class Sample:
    """A layer as a paper sees it: its weight `w` `[out, in]`, inputs `x` `[tokens, in]`, outputs `y` `[tokens, out]`,
    gradients `g` `[windows, out, in]`, the Hessian `h` `[in, in]` of its squared error, and numbers `u` by chance."""

    w: Array
    x: Array
    y: Array
    g: Array
    h: Array
    u: Array


def sample(seed: int) -> Sample:
    """Numbers for one layer, with zeros among the weights."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(OUT, IN)) * (rng.uniform(size=(OUT, IN)) > 0.1)
    x = rng.normal(rng.normal(size=IN), rng.uniform(0.1, 5, IN), size=(TOKENS, IN))
    g = rng.normal(size=(WINDOWS, OUT, IN)) * 1e-3
    u = rng.uniform(size=(OUT, IN))
    h = 2 / WINDOWS * x.T @ x
    return Sample(w, x, x @ w.T, g, h + 0.01 * np.mean(np.diag(h)) * np.eye(IN), u)


def statistics(letter: str, values: Array) -> dict[str, Array]:
    """What is known of each feature of `values` `[tokens, features]`."""
    return {
        f"{letter}.l2": np.linalg.norm(values, axis=0),
        f"{letter}.l1": np.abs(values).sum(0),
        f"{letter}.mean": values.mean(0),
        f"{letter}.var": values.var(0),
        f"{letter}.max": np.abs(values).max(0),
    }


def leaves(s: Sample) -> dict[str, Any]:
    inverse = np.linalg.inv(s.h)
    return {
        "W": s.w,
        **statistics("X", s.x),
        **statistics("Y", s.y),
        "G": np.linalg.norm(s.g, axis=0),
        "G.l1": np.abs(s.g).sum(0),
        "G.mean": s.g.mean(0),
        "H.diag": np.diag(s.h),
        "H.inv_diag": np.diag(inverse),
        "H.chol_diag": np.diag(np.linalg.cholesky(inverse).T),
        "noise": s.u,
        "windows": len(s.g),
        "out_features": OUT,
        "in_features": IN,
    }


def mms(a: Array) -> Array:
    return (a - a.min()) / (a.max() - a.min())


def lengths(a: Array, p: float = 2, axis: int = 0) -> Array:
    return np.linalg.norm(a, p, axis=axis, keepdims=True)


def relative(w: Array, p: float = 1) -> Array:
    """Each weight's share of its column and of its row."""
    return np.abs(w) / lengths(w, p, axis=0) + np.abs(w) / lengths(w, p, axis=1)


def sampled_relative(w: Array, u: Array, share: float = 0.1) -> Array:
    """The same with sums over the share of rows, or columns, that chance picks for each column, or row."""
    a, columns, rows = np.abs(w), np.ceil(share * IN).astype(int), np.ceil(share * OUT).astype(int)
    in_row = np.array([a[i, np.argsort(u[i])[:columns]].sum() for i in range(OUT)])
    in_column = np.array([a[np.argsort(u[:, j])[:rows], j].sum() for j in range(IN)])
    return a / in_row[:, None] + a / in_column[None, :]


def z_pruner(w: Array, x: Array) -> Array:
    scores = []
    for axis in (1, 0):
        scaled = w / lengths(w, axis=axis)
        scores.append(np.abs((scaled - scaled.mean()) / scaled.std(ddof=1)) ** 3)
    alpha = 0.7 * (1 - 0.3 * np.mean(np.abs(w) < np.abs(w).mean() * 0.1))
    return (alpha * scores[0] + (1 - alpha) * scores[1]) * np.sqrt((x**2).sum(0)) ** 1.5


def surgeon(w: Array, h: Array) -> Array:
    """How much a layer's squared error grows when one weight goes and the others of its row follow it optimally:
    δ = −w_j · H⁻¹e_j / [H⁻¹]_jj has the error ½ δᵀHδ."""
    error, inverse = np.empty_like(w), np.linalg.inv(h)
    for i, j in np.ndindex(*w.shape):
        delta = -w[i, j] / inverse[j, j] * inverse[:, j]
        error[i, j] = delta @ h @ delta / 2
    return error


def eliminated(w: Array, h: Array) -> Array:
    """W² over the squared diagonal of the factor, found as SparseGPT's sweep needs it: what is left of H⁻¹ at column j
    when the columns before it have been eliminated."""
    rest, left = np.linalg.inv(h), np.empty(len(h))
    for j in range(len(h)):
        left[j] = rest[0, 0]
        rest = rest[1:, 1:] - np.outer(rest[1:, 0], rest[0, 1:]) / rest[0, 0]
    return w**2 / left


def share_of_no_smaller(scores: Array) -> Array:
    """LAMP's score by its release: each over the sum of those that come no earlier in ascending order."""
    flat = scores.ravel()
    order = flat.argsort(kind="stable")
    before = np.concatenate([[0.0], flat[order].cumsum()[:-1]])
    found = np.empty_like(flat)
    found[order] = flat[order] / (flat.sum() - before)
    return found.reshape(scores.shape)


def share_of_no_larger(scores: Array) -> Array:
    """What Wanda's variant holds against the same share for all rows: cumulative sums of each, over the row's."""
    order = scores.argsort(1, kind="stable")
    found = np.empty_like(scores)
    np.put_along_axis(found, order, np.take_along_axis(scores, order, 1).cumsum(1), 1)
    return found / scores.sum(1, keepdims=True)


def normalised(w: Array) -> Array:
    by_column = w / lengths(w, axis=0)
    return by_column / lengths(by_column, axis=1)


Paper = tuple[Callable[[Sample], Array], str, set[str]]

PAPERS: dict[str, Paper] = {
    "magnitude": (lambda s: np.abs(s.w), "layer", {"W"}),
    "lamp": (lambda s: share_of_no_smaller(s.w**2), "model", {"W"}),
    "random": (lambda s: s.u, "row", {"noise"}),
    "wanda": (lambda s: np.abs(s.w) * np.sqrt((s.x**2).sum(0)), "row", {"W", "X.l2"}),
    "wanda_variant": (lambda s: share_of_no_larger(np.abs(s.w) * np.sqrt((s.x**2).sum(0))), "layer", {"W", "X.l2"}),
    "wanda_max": (lambda s: np.abs(s.w) * np.abs(s.x).max(0), "row", {"W", "X.max"}),
    "mean_activation": (lambda s: TOKENS * np.abs(s.w) * np.abs(s.x).mean(0), "row", {"W", "X.l1"}),
    "wanda_variance": (
        lambda s: s.w**2 * (s.x.mean(0) ** 2 + ((s.x - s.x.mean(0)) ** 2).mean(0)),
        "row",
        {"W", "X.mean", "X.var"},
    ),
    "stade": (lambda s: (np.abs(s.w) * s.x.std(0)) ** 2, "row", {"W", "X.var"}),
    "ri": (lambda s: relative(s.w), "layer", {"W"}),
    "ria": (lambda s: relative(s.w) * np.sqrt((s.x**2).sum(0)) ** 0.5, "row", {"W", "X.l2"}),
    "ria_lp": (lambda s: relative(s.w, 2) * np.sqrt((s.x**2).sum(0)) ** 0.5, "row", {"W", "X.l2"}),
    "stochria": (
        lambda s: sampled_relative(s.w, s.u) * np.sqrt((s.x**2).sum(0)) ** 0.5,
        "row",
        {"W", "X.l2", "noise", "in_features", "out_features"},
    ),
    "symwanda": (
        lambda s: np.abs(s.w) * (np.linalg.norm(s.x, axis=0)[None, :] + np.linalg.norm(s.y, axis=0)[:, None]),
        "row",
        {"W", "X.l2", "Y.l2"},
    ),
    "owanda": (lambda s: np.abs(s.w) * np.sqrt((s.y**2).sum(0))[:, None], "layer", {"W", "Y.l2"}),
    "nowag": (lambda s: normalised(s.w) ** 2 * (s.x**2).sum(0), "layer", {"W", "X.l2"}),
    "z_pruner": (lambda s: z_pruner(s.w, s.x), "row", {"W", "X.l2"}),
    "flap": (lambda s: np.var(s.x, axis=0) * (s.w**2).sum(0) + 0 * s.w, "row", {"W", "X.var"}),
    "flap_ifv": (lambda s: np.var(s.x, axis=0) + 0 * s.w, "row", {"X.var"}),
    "flap_wifn": (
        lambda s: (np.abs(s.w) * np.sqrt((s.x**2).sum(0))).mean(0) + 0 * s.w,
        "row",
        {"W", "X.l2"},
    ),
    "obd": (lambda s: ((s.x[:, None, :] * s.w) ** 2).sum(0), "layer", {"W", "X.l2"}),
    "obs": (lambda s: surgeon(s.w, s.h), "layer", {"W", "H.inv_diag"}),
    "sparsegpt": (lambda s: eliminated(s.w, s.h), "layer", {"W", "H.chol_diag"}),
    "gblm": (
        lambda s: np.abs(s.w) * np.sqrt((s.x**2).sum(0)) + 100 * np.abs(s.w) * np.sqrt((s.g**2).sum(0)),
        "row",
        {"W", "X.l2", "G.l2"},
    ),
    "gblm_l1": (
        lambda s: np.abs(s.w) * np.sqrt((s.x**2).sum(0)) + 100 * np.abs(s.w) * np.abs(s.g).sum(0),
        "row",
        {"W", "X.l2", "G.l1"},
    ),
    "gradient_magnitude": (lambda s: np.abs(s.w) * np.sqrt((s.g**2).sum(0)), "row", {"W", "G.l2"}),
    "fisher": (lambda s: s.w**2 * (s.g**2).mean(0), "model", {"W", "G.l2", "windows"}),
    "taylor": (lambda s: np.abs(s.w * s.g).mean(0), "model", {"W", "G.l1", "windows"}),
    "snip": (lambda s: np.abs((s.w * s.g).mean(0)), "model", {"W", "G.mean"}),
    "movement": (lambda s: -(s.w * s.g).mean(0), "layer", {"W", "G.mean"}),
    "llm_pruner": (
        lambda s: np.abs(s.g.mean(0) * s.w - ((s.g * s.w) ** 2).mean(0) / 2),
        "layer",
        {"W", "G.mean", "G.l2", "windows"},
    ),
    "pruner_zero": (
        lambda s: np.abs(np.abs(s.w) * np.abs(s.w)) * mms(np.sqrt(((100 * s.g) ** 2).sum(0))),
        "row",
        {"W", "G.l2"},
    ),
}
"""Each metric as its paper writes it, its comparison group, and the statistics that are enough for it."""

BY_ROLE: dict[str, dict[str, Paper]] = {
    "stade_w": {
        "model.layers.0.self_attn.q_proj": PAPERS["wanda"],
        "model.layers.0.self_attn.o_proj": PAPERS["stade"],
        "model.layers.1.mlp.gate_proj": PAPERS["wanda"],
        "model.layers.1.mlp.down_proj": PAPERS["stade"],
        "model.decoder.layers.2.fc1": PAPERS["wanda"],
        "model.decoder.layers.2.fc2": PAPERS["stade"],
    },
}
"""The same of the metrics by role, for layers by name."""

CASES = [(name, "", paper) for name, paper in PAPERS.items()]
CASES += [(name, layer, paper) for name, layers in BY_ROLE.items() for layer, paper in layers.items()]
IDS = [f"{name} {layer}".strip() for name, layer, _ in CASES]
NAMES = [*PAPERS, *BY_ROLE]


def test_every_metric_of_the_zoo_is_here() -> None:
    assert set(NAMES) == set(zoo_names()) == set(pzc.zoo())


def test_the_page_of_the_zoo_lists_every_metric_with_its_group() -> None:
    page = (Path(__file__).parent.parent / "docs" / "zoo.md").read_text(encoding="utf-8")
    table = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in page.splitlines()]
    listed = {row[0].strip("`"): row[2] for row in table if len(row) == 5 and row[0].startswith("`")}
    assert listed == {name: pzc.load(name).per for name in NAMES}


def test_names_elsewhere_mean_metrics_of_the_zoo_and_are_none() -> None:
    assert set(ELSEWHERE.values()) <= set(NAMES)
    assert not set(ELSEWHERE) & set(NAMES)


@pytest.mark.parametrize("seed", range(5))
def test_scores_published_under_other_names_rank_as_the_page_says(seed: int) -> None:
    """STBLLM's standardised RIA, CFSP's score of `down_proj` with its gate and up projections, and GBLM's release."""
    s = sample(seed)
    x, given = np.sqrt((s.x**2).sum(0) / WINDOWS), leaves(s)
    ria = relative(s.w) * x**0.5
    stbllm = (ria - ria.mean()) / (ria.std(1, ddof=1, keepdims=True) + 1e-5)
    ours = pzc.load("ria").reference_score(**given)
    np.testing.assert_array_equal(stbllm.argsort(1, kind="stable"), ours.argsort(1, kind="stable"))
    assert (stbllm.argsort(None) != ours.argsort(None)).any()

    parts = [np.abs(s.w * x), *np.abs(np.random.default_rng(seed).normal(size=(2, OUT, IN)))]
    cfsp = (sum(p / p.sum(0) for p in parts) * x).mean(0)
    np.testing.assert_array_equal(cfsp.argsort(), pzc.load("X per row").reference_score(**given)[0].argsort())

    release = np.abs(s.w) * x + np.abs(s.w) * np.sqrt(((100 * s.g) ** 2).sum(0))
    found = pzc.load("abs(W) * (X / sqrt(windows) + 100 * G)").reference_score(**given)
    np.testing.assert_allclose(found, release, rtol=1e-9)
    set_here = pzc.load("gblm", {"alpha": 100 * WINDOWS**0.5}).reference_score(**given)
    np.testing.assert_allclose(set_here / WINDOWS**0.5, release, rtol=1e-9)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("name", "layer", "paper"), CASES, ids=IDS)
def test_scores_are_the_papers(name: str, layer: str, paper: Paper, seed: int) -> None:
    formula, per, needs = paper
    s = sample(seed)
    metric = pzc.load(name)
    arm = metric.arm(layer)
    assert (arm.per, leaves_of(arm.core)) == (per, needs)
    expected = formula(s)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(metric.reference_score(layer=layer, **leaves(s)), expected, rtol=1e-9)


@pytest.mark.parametrize(("name", "layer", "paper"), CASES, ids=IDS)
def test_torch_scores_agree(name: str, layer: str, paper: Paper) -> None:
    import torch

    given = leaves(sample(1))
    metric = pzc.load(name)
    found = metric.score(layer=layer, **{n: torch.tensor(v) for n, v in given.items()})
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), metric.score(layer=layer, **given), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"random"}))
def test_every_metric_cites_its_paper(name: str) -> None:
    assert re.search(r"arXiv \d{4}\.\d{5}|(ICML|ICLR|NeurIPS) (19|20)\d\d", pzc.load(name).doc)


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_is_written_as_a_file_that_reads_back(name: str, tmp_path: Path) -> None:
    metric = pzc.load(name)
    path = tmp_path / "copy.pzm"
    path.write_text(metric.source, encoding="utf-8")
    copy = pzc.load(path)
    assert (copy.arms, copy.doc, copy.name) == (metric.arms, metric.doc, metric.name)


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


def test_folders_may_have_colons(two: str) -> None:
    Path("a:b").mkdir()
    Path("a:b/one.pzm").write_text("pzm 1 metric m = G per layer")
    Path("a:b/two.pzm").write_text(TWO)
    assert pzc.load("a:b/one.pzm").name == pzc.load("a:b/one.pzm:m").name == "m"
    assert pzc.load("a:b/two.pzm:two").name == "two"
    assert [m.name for m in load_all("a:b/two.pzm")] == ["one", "two"]


def test_a_long_expression_is_no_file_name() -> None:
    assert pzc.load(" + ".join(["abs(W) * X"] * 100)).leaves == {"W", "X.l2"}


def test_parameters_are_set(two: str) -> None:
    assert pzc.load(f"{two}:one", {"a": 0.25}).formula == "abs(W) * X ^ 0.25"
    assert pzc.load("gblm", {"alpha": 0}).params == (("alpha", 0.0),)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("wnada", "there is no metric `wnada` in the zoo; did you mean `wanda`?"),
        ("wanda_sp", "there is no metric `wanda_sp` in the zoo; did you mean `flap_wifn`?"),
        ("Param_Second", "there is no metric `Param_Second` in the zoo; did you mean `fisher`?"),
        ("lottery_ticket", "there is no metric `lottery_ticket` in the zoo"),
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
    assert {n for n, t in tiers.items() if t == "weights"} == {"lamp", "magnitude", "random", "ri"}
    assert {n for n, t in tiers.items() if t == "hessian"} == {"obs", "sparsegpt"}
    gradients = {n for n, (_, _, needs) in PAPERS.items() if any(leaf.startswith("G.") for leaf in needs)}
    assert {n for n, t in tiers.items() if t == "backward"} == gradients


def test_the_source_is_what_the_zoo_ships() -> None:
    assert zoo_source("wanda").startswith("pzm 1\n")
    assert isinstance(pzc.zoo()["wanda"], Metric)
