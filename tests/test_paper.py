"""Pruner-Zero's trees against an evaluator of their own, written from what its release does and not from ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pzc
from pzc.compiler.load import inline
from pzc.compiler.paper.export import export_paper_tree
from pzc.compiler.paper.trees import MAX_LEVELS, TreeError, import_paper_tree, read_tree, source_of_tree
from pzc.grammar.diagnostics import SourceError
from tests.terminal import Terminal

Array = np.ndarray
Tree = dict[str, Any]

PUBLISHED = {
    "data": "mul",
    "left": {"data": "abs", "left": {"data": "mul", "left": {"data": "W"}, "right": {"data": "W"}}},
    "right": {"data": "mms", "left": {"data": "G"}},
}

UNARY: dict[str, Callable[[Array], Array]] = {
    "sqr": lambda x: x * x,
    "pow": lambda x: x * x,
    "neg": lambda x: -x,
    "abs": np.abs,
    "log": lambda x: np.log(np.abs(x) + 0.001),
    "exp": lambda x: np.exp(np.where(x > 100, 100, x)),
    "sqrt": lambda x: np.sqrt(np.abs(x)),
    "tanh": np.tanh,
    "skp": lambda x: x,
    "mms": lambda x: (x - x.min()) / (x.max() - x.min()),
    "zsn": lambda x: (x - x.mean()) / x.std(ddof=1),
}
BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / np.sqrt((y**2).sum()),
}


def layer(seed: int, jitter: float = 0.0) -> dict[str, Array]:
    """What the release sees of a layer: weights, inputs of each window, gradients of each window."""
    rng = np.random.default_rng(seed)
    out, inn, windows, tokens = 4, 5, 3, 7
    w = rng.normal(size=(out, inn))
    x = rng.normal(size=(windows, tokens, inn)) * rng.uniform(0.2, 2, inn)
    g = rng.normal(size=(windows, out, inn)) * 1e-2
    shaken = np.random.default_rng(seed + 1)
    return {name: v * (1 + jitter * shaken.uniform(-1, 1, v.shape)) for name, v in {"w": w, "x": x, "g": g}.items()}


def release(tree: Tree, seen: dict[str, Array]) -> Array:
    """A tree's value as the release computes it, but in float64."""
    leaves = {
        "W": np.abs(seen["w"]),
        "X": (seen["x"] ** 2).sum(axis=1).mean(axis=0)[np.newaxis, :],
        "G": np.sqrt(((100 * seen["g"]) ** 2).sum(axis=0)),
    }

    def value(t: Tree) -> Array:
        if t["data"] in leaves:
            return leaves[t["data"]]
        if t["data"] in UNARY:
            return UNARY[t["data"]](value(t["left"]))
        return BINARY[t["data"]](value(t["left"]), value(t["right"]))

    with np.errstate(all="ignore"):
        return np.broadcast_to(value(tree), seen["w"].shape)


def ours(metric: pzc.Metric, seen: dict[str, Array]) -> Array:
    return metric.reference_score(
        W=seen["w"],
        X=np.linalg.norm(seen["x"].reshape(-1, seen["x"].shape[-1]), axis=0),
        G=np.linalg.norm(seen["g"], axis=0),
        windows=len(seen["g"]),
    )


def random_tree(rng: np.random.Generator, levels: int) -> Tree:
    """By the release's growth: a leaf with probability one half between."""
    if levels <= 1 or rng.random() < 0.25:
        return {"data": str(rng.choice(["W", "X", "G"]))}
    if rng.random() < 0.5:
        return {"data": str(rng.choice(list(UNARY))), "left": random_tree(rng, levels - 1)}
    left, right = random_tree(rng, levels - 1), random_tree(rng, levels - 1)
    return {"data": str(rng.choice(list(BINARY))), "left": left, "right": right}


def agree(found: Array, want: Array, shaken: Array) -> None:
    """Equal to rounding: as far apart as the formula carries errors of 1e-11 in what it reads, and no more."""
    scale = np.abs(want).max()
    assert np.abs(found - want).max() <= np.abs(shaken - want).max() + 1e-12 * scale


@pytest.mark.parametrize("part", range(6))
def test_scores_are_the_releases_on_thousands_of_random_trees(part: int) -> None:
    rng = np.random.default_rng(part)
    compared = 0
    for seed in range(600):
        tree = random_tree(rng, int(rng.integers(2, 6)))
        seen, shaken = layer(seed), layer(seed, jitter=1e-11)
        want = release(tree, seen)
        try:
            metric = import_paper_tree(tree)
        except SourceError:  # refused as constant or as never defined
            with np.errstate(invalid="ignore"):
                spread = np.abs(want - want[:, :1]).max()
            assert not np.isfinite(spread) or spread <= 1e-9 * max(1, np.abs(want).max()), tree
            continue
        found = ours(metric, seen)
        if np.isfinite(want).all() and np.isfinite(release(tree, shaken)).all():
            agree(found, want, release(tree, shaken))
            compared += 1
    assert compared > 450


def test_what_is_never_finite_is_refused_or_never_finite_here() -> None:
    rng = np.random.default_rng(7)
    refused = 0
    for seed in range(1000):
        tree = random_tree(rng, 4)
        want = release(tree, layer(seed))
        if np.isnan(want).any():
            try:
                found = ours(import_paper_tree(tree), layer(seed))
            except SourceError as error:
                refused += "PZ0306" in {d.code for d in error.diagnostics}
            else:
                assert not np.isfinite(found[np.isnan(want)]).any(), tree
    assert refused >= 5


def test_the_published_tree_is_the_zoos_metric() -> None:
    metric = import_paper_tree(PUBLISHED)
    assert metric.keys.rank == pzc.load("pruner_zero").keys.rank
    assert pzc.import_paper_tree(PUBLISHED).core is metric.core
    assert export_paper_tree(pzc.load("pruner_zero")) == PUBLISHED
    assert source_of_tree(PUBLISHED, "best", "Pruner-Zero's.") == (
        "pzm 1\n\nuse paper\nlet w = abs(W)\nlet g = 100 * G\n\n"
        "## Pruner-Zero's.\nmetric best = abs(w * w) * paper.mms(g)  per row\n"
    )


def test_trees_are_written_that_rank_alike() -> None:
    """A positive factor may be lost on the way: it changes no ranking."""
    rng = np.random.default_rng(11)
    compared = 0
    for seed in range(400):
        tree = random_tree(rng, 5)
        try:
            metric = import_paper_tree(tree)
            again = import_paper_tree(export_paper_tree(metric))
        except SourceError:
            continue
        first, second = ours(metric, layer(seed)), ours(again, layer(seed))
        if np.isfinite(first).all() and np.abs(first).max() > 0:
            factor = np.abs(first).max() / np.abs(second).max()
            agree(second * factor, first, ours(metric, layer(seed, jitter=1e-11)))
            compared += 1
    assert compared > 250


@pytest.mark.parametrize(
    ("formula", "tree"),
    [
        ("abs(W) * X", {"data": "mul", "left": {"data": "W"}, "right": {"data": "sqrt", "left": {"data": "X"}}}),
        ("3 * abs(W)", {"data": "W"}),
        ("-2 * abs(W)", {"data": "neg", "left": {"data": "W"}}),
        ("abs(W) * G / 7", {"data": "mul", "left": {"data": "W"}, "right": {"data": "G"}}),
        ("abs(W) / norm(X, 2)", {"data": "div", "left": {"data": "W"},
                                 "right": {"data": "sqrt", "left": {"data": "X"}}}),
        ("sqr(W) * sqr(X)", {"data": "mul", "left": {"data": "sqr", "left": {"data": "W"}}, "right": {"data": "X"}}),
    ],
)  # fmt: skip
def test_metrics_of_the_language_as_trees(formula: str, tree: Tree) -> None:
    metric = inline(formula)
    assert export_paper_tree(metric) == tree
    assert import_paper_tree(tree).keys.rank == metric.keys.rank


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("magnitude", "the release compares per row, and this metric per layer"),
        ("ria", "no operator of the release says `sum(abs(W), in)`"),
        ("abs(W) / G", "no operator of the release says `abs(W) / G`"),
        ("abs(W) + G", "no operator of the release says `abs(W) + G`"),
        ("X.mean", "no operator of the release says"),
        ("sqr(G * 1e38 * 1e38 * 1e38 * 1e38 * 1e38) * X", "a number that goes into a power is too large"),
    ],
)
def test_what_no_tree_can_say(reference: str, message: str) -> None:
    with pytest.raises(TreeError) as caught:
        export_paper_tree(pzc.load(reference))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "this is not JSON"),
        ("[]", "a tree is an object"),
        ("{}", 'a node of a tree is an object with "data", not {}'),
        ('{"data": 1}', 'a node of a tree is an object with "data", not {"data": 1}'),
        ('{"data": "mull"}', "the release has no operator `mull`; did you mean `mul`?"),
        ('{"data": "mul", "left": {"data": "W"}}', '`mul` takes "left" and "right"'),
        ('{"data": "abs", "right": {"data": "W"}}', '`abs` takes "left"'),
        ('{"data": "abs", "left": 3}', 'a node of a tree is an object with "data", not 3'),
        ('{"data": "W", "data": "X"}', "a key is there twice"),
        ('{"data": "W", "left": {"data": "W"}}', "`W` takes no children"),
        ('{"data": "neg", "left": ' * (MAX_LEVELS + 1) + '{"data": "W"}' + "}" * (MAX_LEVELS + 1), "levels"),
        ('{"data": "neg", "left": ' * 100_000, "levels"),
    ],
    ids=lambda text: text[:30],
)
def test_what_is_no_tree(text: str, message: str) -> None:
    with pytest.raises(TreeError) as caught:
        import_paper_tree(read_tree(text))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "name", ["", "m = X*W per layer # ", "m\n", "2m", "größe", "metric", "in", "W", "X", "H", "abs", "paper", "w", "g"]
)
def test_what_is_no_name_of_an_imported_metric(name: str) -> None:
    with pytest.raises(TreeError, match="is no name for a metric"):
        import_paper_tree(PUBLISHED, name)


def test_the_deepest_tree_that_is_read() -> None:
    tree: Tree = {"data": "W"}
    for _ in range(MAX_LEVELS - 1):
        tree = {"data": "neg", "left": tree}
    assert import_paper_tree(tree).leaves == {"W"}


def test_the_commands(tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("best.json").write_text(json.dumps(PUBLISHED))
    shown = terminal("import", "best.json", "--name", "best")
    assert (shown.code, shown.out, shown.err) == (0, source_of_tree(PUBLISHED, "best"), "")
    assert terminal("import", "best.json", "-o", "best.pzm").code == 0
    back = terminal("compile", "best.pzm", "--to", "paper-json")
    assert (back.code, import_paper_tree(json.loads(back.out)).keys.rank) == (0, pzc.load("pruner_zero").keys.rank)
    Path("bad.json").write_text('{"data": "foo"}')
    bad = terminal("import", "bad.json")
    assert (bad.code, bad.out, bad.err) == (1, "", "error: bad.json: the release has no operator `foo`\n")
    assert terminal("import", "absent.json").code == 1
    Path("x[").mkdir()
    assert terminal("import", "best.json", "-o", "x[/y].pzm").err == "wrote x[/y].pzm\n"
    assert terminal("import", "-", stdin=b"\xff\xfe{").err == "error: standard input is not UTF-8 text (byte 0)\n"
    refused = terminal("import", "best.json", "--name", "metric")
    assert (refused.code, refused.out) == (2, "")
    assert "`metric` is no name for a metric: it is a reserved word" in refused.err
    refused = terminal("compile", "ria", "--to", "paper-json")
    assert (refused.code, refused.err) == (1, "error: no operator of the release says `sum(abs(W), in)`\n")
