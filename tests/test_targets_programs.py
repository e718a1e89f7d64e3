"""Targets that compute scores: a numpy module, a torch.export program, an ONNX model."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pzc
from pzc.compiler.arguments import argument
from pzc.compiler.core import Node, leaf, make, number
from pzc.compiler.leaves import LEAVES
from pzc.compiler.load import inline, zoo_names
from pzc.compiler.metric import Metric, compile_source
from pzc.compiler.reference import evaluate
from pzc.compiler.source import expression
from pzc.compiler.targets import export
from pzc.compiler.targets import numpy as to_numpy
from tests.strategies import EXPRESSIONS, probe
from tests.test_targets import SHAPE, module, well_behaved

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from onnx.reference import ReferenceEvaluator  # noqa: E402

from pzc.compiler.targets import onnx as to_onnx  # noqa: E402

Run = Callable[[dict[str, Any]], np.ndarray]
SEEDS = st.integers(0, 2**32 - 1)

ROLES = """pzm 1
metric by_role {
    gate_proj, up_proj: abs(W) * Y per col
    "layers.0.*":       sqr(W) per layer
    else:               abs(W) * X per row
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("modules")


def by_role() -> Metric:
    return compile_source(ROLES, "m.pzm").metrics[0]


def as_export(core: Node) -> Run:
    program = export.program(core).module()
    return lambda leaves: program(**{n: torch.as_tensor(x) for n, x in leaves.items()}).numpy()


def as_onnx(core: Node) -> Run:
    session = onnxruntime.InferenceSession(to_onnx.model(core).SerializeToString())
    return lambda leaves: session.run(["scores"], leaves)[0]


def by_the_standard(core: Node) -> Run:
    """The reference implementation of ONNX itself, which is numpy."""
    evaluator = ReferenceEvaluator(to_onnx.model(core))

    def run(leaves: dict[str, Any]) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(evaluator.run(["scores"], leaves)[0])

    return run


PROGRAMS = {"export": as_export, "onnx": as_onnx, "onnx reference": by_the_standard}


def in_float32(core: Node, leaves: dict[str, Any]) -> dict[str, Any]:
    return {argument(n): np.asarray(leaves[n], dtype=np.float32) for n in Metric("m", core, "row").leaves}


# What they compute


@pytest.mark.parametrize("name", zoo_names())
@pytest.mark.parametrize("target", PROGRAMS)
def test_the_zoo(target: str, name: str) -> None:
    rng = np.random.default_rng(0)
    for arm in pzc.load(name).arms:
        run = PROGRAMS[target](arm.core)
        for out, inn in ((4, 5), (7, 3)):  # sizes are those of the inputs, not of the export
            sizes = {"out": out, "in": inn}
            leaves = {n: rng.uniform(0.5, 2, [sizes[a] for a in x.axes]) for n, x in LEAVES.items()}
            want = np.broadcast_to(evaluate(arm.core, leaves), (out, inn))
            found = run(in_float32(arm.core, leaves))
            assert found.dtype == np.float32
            np.testing.assert_allclose(np.broadcast_to(found, (out, inn)), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("target", PROGRAMS)
@settings(deadline=None, max_examples=50)
@given(core=EXPRESSIONS, seed=SEEDS)
def test_generated_expressions(target: str, core: Node, seed: int) -> None:
    leaves = {n: np.float32(v).astype(np.float64) for n, v in probe(seed).items()}
    largest = well_behaved(core, leaves)
    found = PROGRAMS[target](core)(in_float32(core, leaves))
    want, found = (np.broadcast_to(v, SHAPE) for v in (evaluate(core, leaves), found))
    np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-4 * largest, err_msg=expression(core))


@settings(deadline=None, max_examples=150)
@given(EXPRESSIONS, SEEDS, st.booleans())
def test_a_numpy_module_is_the_reference(folder: Path, core: Node, seed: int, zeros: bool) -> None:
    leaves = probe(seed, zeros)
    metric = Metric("m", core, "row")
    written = module(to_numpy.emit(metric, "0"), folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what is not defined is NaN, without a word
        found = written.m(**{argument(n): leaves[n] for n in metric.leaves})
    want, found = (np.broadcast_to(v, SHAPE) for v in (evaluate(core, leaves), found))
    np.testing.assert_allclose(found, want, rtol=1e-10, atol=1e-12, err_msg=expression(core))


AWKWARD = [[1.0, 2.0, np.nan, 0.0], [np.inf, -3.0, -3.0, 0.0], [2.0, -np.inf, 5.0, -0.0]]


DELICATE = """
min(W)  max(W, in)  min(W, out)  rank(W, in)  rank(W, out)  rank(W)  tail(W, in)  tail(W, out)  tail(W)
median(W, out)  std(W, in)  sum(W, in)  var(W)
norm(W, 3, out)  quantile(W, 0, out)  quantile(W, 1, in)  quantile(W, 0.5, in)  quantile(1 / X, 0.9)
quantile(-1 / X, 0.2)  min(W, 0)  max(W, X)
clamp(W, -1, 2)  sign(W)  sigmoid(W)  tanh(W)  W ^ 0  1 ^ W  1 / W  (W - W) / W  max(W, -9) ^ 0.5  sqrt(W)  exp(W)
ln(W)  ln(abs(W))
"""


@pytest.mark.parametrize("target", PROGRAMS)
@pytest.mark.parametrize("text", re.split(r"\s{2,}|\n", DELICATE.strip()))
def test_nan_and_infinity_go_where_they_should(target: str, text: str) -> None:
    core = compile_source(f"pzm 1 metric m = {text} + G.mean per model", "m.pzm").metrics[0].core
    leaves = {"W": np.array(AWKWARD), "X.l2": np.array([1.0, 0.0, 2.0, 3.0]), "G.mean": np.zeros((3, 4))}
    want = np.broadcast_to(evaluate(core, leaves), (3, 4))
    found = np.broadcast_to(PROGRAMS[target](core)(in_float32(core, leaves)), (3, 4))
    np.testing.assert_allclose(found, want, rtol=1e-6)


def test_a_numpy_module_of_what_is_delicate(folder: Path) -> None:
    texts = [f"({text}) + G.mean" for text in re.split(r"\s{2,}|\n", DELICATE.strip())]
    leaves = {"W": np.array(AWKWARD), "X.l2": np.array([1.0, 0.0, 2.0, 3.0]), "G.mean": np.zeros((3, 4))}
    for text in texts:
        metric = compile_source(f"pzm 1 metric m = {text} per model", "m.pzm").metrics[0]
        found = module(to_numpy.emit(metric, "0"), folder).m(**{argument(n): leaves[n] for n in metric.leaves})
        want = np.broadcast_to(evaluate(metric.core, leaves), (3, 4))
        np.testing.assert_allclose(found, want, rtol=1e-14, err_msg=text)


@pytest.mark.parametrize("target", PROGRAMS)
def test_layers_of_one_row_or_column(target: str) -> None:
    core = inline("abs(W) / sum(abs(W), in) + rank(W, out) + median(W, in) + quantile(W, 0.3) per row").core
    run = PROGRAMS[target](core)
    for shape in ((1, 6), (6, 1), (1, 1), (5, 2)):
        w = np.random.default_rng(1).normal(size=shape)
        np.testing.assert_allclose(run({"W": w.astype(np.float32)}), evaluate(core, {"W": w}), rtol=1e-5)


def test_a_sum_over_a_whole_layer_keeps_its_digits() -> None:
    """ONNX Runtime adds up in float32 as the values come: over a million of them that costs three digits."""
    core = inline("W * sum(sqr(W)) per layer").core
    w = np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)
    want = w * np.sum(np.square(w, dtype=np.float64))
    np.testing.assert_allclose(as_onnx(core)({"W": w}), want, rtol=1e-6)


@pytest.mark.parametrize("target", PROGRAMS)
def test_numbers_and_scores_without_a_matrix(target: str) -> None:
    assert PROGRAMS[target](make("add", number(2), number(3)))({}).tolist() == [[5.0]]
    x = np.array([1.0, 2.0], dtype=np.float32)
    assert PROGRAMS[target](leaf("X.l2"))({"X": x}).tolist() == [[1.0, 2.0]]
    assert PROGRAMS[target](leaf("Y.l2"))({"Y": x}).tolist() == [[1.0], [2.0]]
    assert PROGRAMS[target](make("mul", leaf("Y.l2"), leaf("X.l2")))({"X": x, "Y": x}).tolist() == [[1, 2], [2, 4]]


# What the files hold


ALONE = """
import json, sys
sys.modules["pzc"] = None
import torch
program = torch.export.load(sys.argv[1]).module()
print(json.dumps([program(W=torch.tensor(w), X=torch.tensor(x)).tolist() for w, x in json.loads(sys.argv[2])]))
assert not [m for m in sys.modules if m.startswith("pzc.")]
"""


def test_an_exported_program_needs_torch_alone(tmp_path: Path) -> None:
    metric = pzc.load("ria")
    path = tmp_path / "ria.pt2"
    path.write_bytes(export.emit(metric, metric.arms[0], "0"))
    layers = [([[1.0, -2.0], [3.0, 4.0]], [1.0, 4.0]), ([[1.0, -2.0, 1.0]], [1.0, 4.0, 9.0])]
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, path, json.dumps(layers)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    for found, (w, x) in zip(json.loads(done.stdout), layers, strict=True):
        np.testing.assert_allclose(found, metric.score(W=np.array(w), X=np.array(x)), rtol=1e-6)


def test_a_numpy_module_needs_numpy_alone(tmp_path: Path) -> None:
    (tmp_path / "by_role.py").write_text(to_numpy.emit(by_role(), pzc.__version__), encoding="utf-8")
    program = """
import sys
sys.modules["pzc"] = sys.modules["torch"] = None
sys.path.insert(0, sys.argv[1])
from by_role import by_role
print(by_role("model.layers.3.up_proj", W=[[1.0, -2.0]], Y=[5.0]).tolist())
print(by_role("model.layers.0.o_proj", W=[[1.0, -2.0]]).tolist())
print(by_role("lm_head", W=[[1.0, -2.0]], X=[3.0, 4.0]).tolist())
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=600
    )
    assert done.stdout == "[[5.0, 10.0]]\n[[1.0, 4.0]]\n[[3.0, 8.0]]\n", done.stderr


@pytest.mark.parametrize("name", ["np", "variance", "any", "ARMS", "fnmatchcase", "lambda"])
def test_names_that_a_numpy_module_takes(name: str, folder: Path) -> None:
    roles = f"pzm 1 metric {name} {{ a: sigmoid(W) * std(W, in) else: abs(W) }}"
    metric = compile_source(roles, "m.pzm").metrics[0]
    function = getattr(module(to_numpy.emit(metric, "0"), folder), to_numpy.function_name(name))
    assert function("b", W=[[-1.0]]).tolist() == [[1]]
    np.testing.assert_allclose(function("a", W=[[-1.0, 1.0]]), metric.score(layer="a", W=[[-1.0, 1.0]]))


def test_files_say_what_they_hold() -> None:
    metric = by_role()
    archive = zipfile.ZipFile(io.BytesIO(export.emit(metric, metric.arms[0], "1.2")))
    facts = json.loads(archive.read(next(n for n in archive.namelist() if n.endswith("pzc.json"))))
    layers = ["gate_proj", "up_proj"]
    assert facts == {"metric": "by_role", "score": "abs(W) * Y", "per": "col", "layers": layers, "pzc": "1.2"}
    model = onnx.load_from_string(to_onnx.emit(metric, metric.arms[0], "1.2"))
    props = {p.key: p.value for p in model.metadata_props}
    assert props == {**facts, "layers": json.dumps(layers)}
    assert [(o.domain, o.version) for o in model.opset_import] == [("", to_onnx.OPSET)]
    shapes = {v.name: [d.dim_param for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    assert shapes == {"W": ["out", "in"], "Y": ["out"]}


@pytest.mark.parametrize("emit", [export.emit, to_onnx.emit])
def test_a_file_is_the_same_each_time_and_holds_no_paths(emit: Callable[..., bytes]) -> None:
    metric = pzc.load("z_pruner")
    content = emit(metric, metric.arms[0], "0")
    assert content == emit(metric, metric.arms[0], "0")
    if emit is export.emit:
        archive = zipfile.ZipFile(io.BytesIO(content))
        content = b"".join(archive.read(n) for n in archive.namelist())
    assert str(Path(pzc.__file__).parent.parent).encode() not in content
    assert sys.prefix.encode() not in content


@pytest.mark.parametrize("name", zoo_names())
def test_onnx_models_are_valid(name: str) -> None:
    metric = pzc.load(name)
    for arm in metric.arms:
        onnx.checker.check_model(onnx.load_from_string(to_onnx.emit(metric, arm, "0")), full_check=True)
