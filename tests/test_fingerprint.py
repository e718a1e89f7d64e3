"""Fingerprints: equal where scores rank alike, different where they do not, the same on every machine."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pzc.compiler.core import Node
from pzc.compiler.groups import GROUPS
from pzc.compiler.leaves import LEAVES
from pzc.compiler.load import zoo
from pzc.compiler.metric import Metric
from pzc.compiler.sameness.fingerprint import confirm, fingerprint, ranks_of
from pzc.compiler.sameness.keys import keys
from pzc.compiler.sameness.probes import KINDS, probe
from pzc.compiler.source import expression
from tests.lowering import core
from tests.strategies import EXPRESSIONS
from tests.strategies import GROUPS as PER


@pytest.mark.parametrize("per", GROUPS)
def test_the_same_order_has_one_fingerprint(per: str) -> None:
    wanda = core("abs(W) * X")
    for text in ("sqr(W) * sqr(X)", "exp(abs(W) * X)", "3 * abs(W) * X + 1", "sqr(W) * (X.var + sqr(X.mean))"):
        assert fingerprint(core(text), per) == fingerprint(wanda, per)
        assert confirm(core(text), wanda, per)


@pytest.mark.parametrize("per", GROUPS)
def test_another_order_has_another(per: str) -> None:
    wanda = core("abs(W) * X")
    for text in ("abs(W)", "W * X", "abs(W) * X + abs(W) * G", "min(abs(W) * X, 0.1)", "-(abs(W) * X)"):
        assert fingerprint(core(text), per) != fingerprint(wanda, per)
        assert not confirm(core(text), wanda, per)


@pytest.mark.parametrize("per", ["row", "layer", "model"])
def test_near_powers_of_inputs_alone_are_told_apart(per: str) -> None:
    """The few inputs of a usual probe came in one order by both; a layer that is longer along them is looked at."""
    a, b = core("X.var * X ^ -0.479 * X.var ^ 0.289"), core("X.var * X ^ -0.479 * X.var ^ 0.361")
    assert fingerprint(a, per) != fingerprint(b, per)
    assert not confirm(a, b, per)
    assert confirm(a, core("X.var ^ 1.289 / X ^ 0.479"), per)


def test_near_powers_of_outputs_alone_are_told_apart() -> None:
    a, b = core("Y.var * Y ^ -0.479 * Y.var ^ 0.289"), core("Y.var * Y ^ -0.479 * Y.var ^ 0.361")
    assert fingerprint(a, "col") != fingerprint(b, "col")
    assert not confirm(a, b, "col")


def test_it_depends_on_the_group_as_the_order_does() -> None:
    share, weight = core("abs(W) / sum(abs(W), in)"), core("abs(W)")
    assert fingerprint(share, "row") == fingerprint(weight, "row") == fingerprint(share, "2:4")
    assert fingerprint(share, "layer") != fingerprint(weight, "layer")
    by_layer = core("abs(W) / max(abs(W))")
    assert fingerprint(by_layer, "layer") == fingerprint(weight, "layer")
    for per in ("block", "model"):
        assert fingerprint(by_layer, per) != fingerprint(weight, per)
    assert fingerprint(core("abs(W) * (1 + depth)"), "block") == fingerprint(weight, "block")
    assert fingerprint(core("abs(W) * (1 + depth)"), "model") != fingerprint(weight, "model")


def test_no_fingerprint_of_what_is_not_finite_or_too_close_to_call() -> None:
    assert fingerprint(core("sqrt(W)"), "row") is None
    assert fingerprint(core("exp(exp(1000 * abs(W)))"), "row") is None
    assert fingerprint(core("1 + 1e-10 * W"), "row") is None  # distances of 1e-10 of the score


def test_dead_weights_alone_do_not_spoil_it() -> None:
    """1 / W is not defined where W is zero, as on one kind of probe; on the others it ranks."""
    assert fingerprint(core("1 / abs(W)"), "row") == fingerprint(core("1 / sqr(W)"), "row") is not None
    assert fingerprint(core("abs(W) / abs(W) * X"), "row") != fingerprint(core("X"), "row")


@pytest.mark.parametrize("metric", zoo().values(), ids=lambda m: m.name)
def test_every_published_metric_has_one(metric: Metric) -> None:
    assert all(fingerprint(arm.core, arm.per) for arm in metric.arms)


def test_it_is_the_same_in_every_process() -> None:
    code = (
        "from pzc.compiler.sameness.fingerprint import fingerprint; from pzc.compiler.load import load;"
        "print([fingerprint(load(n).core, 'layer') for n in ('ria', 'obs', 'symwanda', 'z_pruner')])"
    )
    shown = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert shown[0] == shown[1] != ""


def test_ranks_are_dense_and_rounding_ties() -> None:
    scores = np.array([[3.0, 1.0, 1.0 + 1e-13, 2.0], [0.0, 0.0, -1.0, 5.0]])
    row, col, layer = (ranks_of([scores], per) for per in ("row", "col", "layer"))
    assert row is not None
    assert col is not None
    assert layer is not None
    assert row.tolist() == [[2, 0, 0, 1], [1, 1, 0, 2]]
    assert col.tolist() == [[1, 0], [1, 0], [1, 0], [0, 1]]
    assert layer.tolist() == [[4, 2, 2, 3, 1, 1, 0, 5]]
    assert ranks_of([np.array([[1.0, 1.0 + 1e-10]])], "row") is None


@given(EXPRESSIONS, PER, st.sampled_from(["4 * {}", "{} / 4", "-(-({}))", "abs({})"]))
@settings(max_examples=100, deadline=None)
def test_what_is_proven_to_rank_alike_has_one_fingerprint(x: Node, per: str, way: str) -> None:
    """By operations that round nothing: what saturates or cancels in `x` does so in either."""
    other = core(way.format(f"({expression(x)})"))
    a, b = fingerprint(x, per), fingerprint(other, per)
    if a is not None and b is not None and keys(x, per).rank == keys(other, per).rank:
        assert a == b


# Probe layers


def test_a_probe_is_a_layer_that_could_exist() -> None:
    for kind in KINDS:
        for layer in probe(kind, 5, "model").layers:
            assert set(layer) >= set(LEAVES)
            tokens = 12 * float(layer["windows"])
            out, inn = layer["W"].shape
            assert (layer["out_features"], layer["in_features"]) == (out, inn)
            for family in ("X", "Y"):
                l2, l1, top = (layer[f"{family}.{name}"] for name in ("l2", "l1", "max"))
                assert (top <= l2 + 1e-12).all()
                assert (l2 <= l1 + 1e-12).all()
                power = layer[f"{family}.var"] + layer[f"{family}.mean"] ** 2
                np.testing.assert_allclose(l2**2 / tokens, power, rtol=1e-9, atol=1e-15)
            assert (np.abs(layer["G.mean"]) * float(layer["windows"]) <= layer["G.l1"] + 1e-12).all()
            assert (layer["G.l2"][:, layer["X.l2"] == 0] == 0).all()
            assert (layer["H.inv_diag"] >= 1 / layer["H.diag"] - 1e-9).all()  # [H⁻¹]_jj ≥ 1 / H_jj
            assert (layer["H.chol_diag"] ** 2 <= layer["H.inv_diag"] + 1e-9).all()


def test_layers_of_a_model_share_windows_and_those_of_a_block_their_depth() -> None:
    for per, depths in (("block", 1), ("model", 3)):
        layers = probe(KINDS[0], 5, per).layers
        assert len({float(layer["windows"]) for layer in layers}) == 1
        assert len({float(layer["depth"]) for layer in layers}) == depths
        assert len({layer["W"].shape for layer in layers}) == 3
