"""Metrics by role: which arm a layer gets, and what can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pzc
from pzc.compiler.arm import Arm
from pzc.compiler.metric import Metric, compile_source
from pzc.compiler.targets import torch as to_torch
from pzc.grammar.diagnostics import Diagnostic, SourceError

SOURCE = """pzm 1
param a = 2
## By role.
metric by_role {
    gate_proj, mlp.up_proj: abs(W) * Y  per col
    "layers.0.*":           W ^ a  per layer
    "q?_proj":              W
    else:                   abs(W) * X
}
"""


@pytest.fixture
def by_role() -> Metric:
    return compile_source(SOURCE, "m.pzm").metrics[0]


@pytest.mark.parametrize(
    ("layer", "arm"),
    [
        ("model.layers.3.mlp.gate_proj", 0),
        ("gate_proj", 0),
        ("model.layers.3.mlp.up_proj", 0),
        ("model.layers.3.other.up_proj", 3),
        ("model.layers.0.mlp.up_proj", 0),
        ("model.layers.0.mlp.down_proj", 1),
        ("model.layers.10.mlp.down_proj", 3),
        ("layers.0.x", 1),
        ("model.layers.3.self_attn.qx_proj", 2),
        ("model.layers.3.self_attn.q_proj", 3),
        ("xgate_proj", 3),
        ("gate_proj.inner", 3),
    ],
)
def test_the_first_arm_whose_layers_match_is_taken(by_role: Metric, layer: str, arm: int) -> None:
    assert by_role.arm(layer) is by_role.roles[arm] if arm < 3 else by_role.arm(layer) == by_role.arms[3]


def test_brackets_are_plain_characters() -> None:
    core = compile_source("pzm 1 metric m = W", "m").metrics[0].core
    assert Arm(core, "row", ("a[1].*",)).takes("a[1].b")
    assert not Arm(core, "row", ("a[1].*",)).takes("a1.b")


def test_everything_a_metric_says_covers_its_arms(by_role: Metric) -> None:
    assert [arm.per for arm in by_role.arms] == ["col", "layer", "row", "row"]
    assert by_role.leaves == {"W", "Y.l2", "X.l2"}
    assert (by_role.tier, by_role.params, by_role.doc) == ("forward", (("a", 2.0),), "By role.")
    assert by_role.formula.startswith('{ gate_proj, mlp.up_proj: abs(W) * Y per col  "layers.0.*": W ^ 2 per layer  ')


def test_its_source_reads_back(by_role: Metric) -> None:
    again = compile_source(by_role.source, "m.pzm").metrics[0]
    assert again.arms == by_role.arms
    assert again.keys == by_role.keys


def test_the_keys_tell_arms_and_layers_apart(by_role: Metric) -> None:
    for old, new in (
        ("* Y", "* X"),
        ("per col", "per layer"),
        ("gate_proj", "o_proj"),
        ("else:                   abs", "else: "),
    ):
        other = compile_source(SOURCE.replace(old, new), "m.pzm").metrics[0]
        assert other.keys.rank != by_role.keys.rank, new
    alike = compile_source(SOURCE.replace("abs(W) * Y", "sqr(W) * sqr(Y)"), "m.pzm").metrics[0]
    assert alike.keys.rank == by_role.keys.rank
    assert alike.keys.real != by_role.keys.real


def test_a_pattern_with_a_comma_is_not_two() -> None:
    one, two = (
        compile_source(f"pzm 1\nmetric m {{ {layers}: abs(W) per row  else: abs(W) * X per row }}", "m.pzm").metrics[0]
        for layers in ('"a, b"', "a, b")
    )
    assert not {one.keys.exact, one.keys.real, one.keys.rank} & {two.keys.exact, two.keys.real, two.keys.rank}


def test_scores_need_the_layer(by_role: Metric) -> None:
    w, x, y = np.array([[1.0, -2.0], [3.0, 4.0]]), np.array([1.0, 2.0]), np.array([5.0, 6.0])
    given = {"W": w, "X": x, "Y": y}
    np.testing.assert_array_equal(by_role.reference_score(layer="a.gate_proj", **given), abs(w) * y[:, None])
    np.testing.assert_array_equal(by_role.score(layer="a.down_proj", W=w, X=x), abs(w) * x)
    with pytest.raises(TypeError, match="say which `layer`"):
        by_role.score(**given)


def diagnostics(source: str) -> list[Diagnostic]:
    try:
        return list(compile_source(f"pzm 1 {source}", "m.pzm").diagnostics)
    except SourceError as error:
        return list(error.diagnostics)


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        ("metric m { gate_proj: W }", "PZ0108", "not every layer has an arm"),
        ("metric m { else: W gate_proj: W }", "PZ0108", "`else` takes all layers that are left, so it is the last arm"),
        ("metric m { else: W else: X }", "PZ0108", "`else` takes all layers that are left, so it is the last arm"),
        ('metric m { " ": W else: X }', "PZ0108", "this text matches no layer"),
        ("metric m { a: W a: X else: W }", "PZ0401", "`a` is never used: an arm above takes it"),
        ("metric m { a: X per col else: W }", "PZ0301", "the score of `m` is constant inside its group"),
        ("metric m { a: W per rows else: W }", "PZ0205", "there is no comparison group `rows`"),
        ("metric m { a: foo else: W }", "PZ0201", "`foo` is not known here"),
        ("metric m { else: W } metric m { else: X }", "PZ0204", "`m` is defined twice"),
    ],
)
def test_what_can_be_wrong(source: str, code: str, message: str) -> None:
    found = [d for d in diagnostics(source) if d.severity != "note"]
    assert [(d.code, d.message) for d in found] == [(code, message)]


def test_errors_of_all_arms_are_reported() -> None:
    found = diagnostics("metric m { a: foo b: bar per rows c: sum(X, out) }")
    assert [d.code for d in found] == ["PZ0201", "PZ0201", "PZ0205", "PZ0108", "PZ0203"]


def test_it_is_found_by_name_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "m.pzm"
    path.write_text(SOURCE, encoding="utf-8")
    assert pzc.load(f"{path}:by_role").roles
    assert pzc.load(f"{path}:by_role", {"a": 4}).params == (("a", 4.0),)


@pytest.mark.parametrize("pattern", ["else", "param", "attention.out", "in.attention"])
def test_patterns_that_are_words_of_the_language_keep_their_quotes(pattern: str) -> None:
    first = compile_source(f'pzm 1 metric m {{ "{pattern}": abs(W) else: abs(W) * X }}', "m.pzm").metrics[0]
    again = compile_source(first.source, "m.pzm").metrics[0]
    assert [(a.layers, a.core) for a in again.arms] == [(a.layers, a.core) for a in first.arms]


def test_it_is_written_as_a_torch_module(by_role: Metric, tmp_path: Path) -> None:
    import torch

    from tests.test_targets import module

    by_role_scores = module(to_torch.emit(by_role, "0"), tmp_path).by_role
    w, x, y = torch.tensor([[1.0, -2.0], [3.0, 4.0]]), torch.tensor([1.0, 2.0]), torch.tensor([5.0, 6.0])
    assert torch.equal(by_role_scores("model.layers.3.mlp.gate_proj", W=w, Y=y), w.abs() * y[:, None])
    assert torch.equal(by_role_scores("model.layers.0.mlp.down_proj", W=w), w**2)
    assert torch.equal(by_role_scores("model.layers.3.q_proj", W=w, X=x), w.abs() * x)


def test_a_missing_else_and_every_pattern_of_blanks_are_mistakes() -> None:
    found = [d.code for d in diagnostics('metric m { " ", a: W " ", a: X }')]
    assert sorted(found) == ["PZ0108", "PZ0108", "PZ0108", "PZ0401"]
    assert [d.code for d in diagnostics("metric m { else: W else: X b: W }")] == ["PZ0108"]
