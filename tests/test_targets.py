"""What a metric compiles to: a torch module that stands alone."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import pzc
from pzc.compiler.arguments import argument
from pzc.compiler.core import Node, leaf, make, number, topological
from pzc.compiler.leaves import AXES, LEAVES
from pzc.compiler.load import inline, zoo, zoo_names
from pzc.compiler.metric import Metric
from pzc.compiler.reference import evaluate
from pzc.compiler.source import expression
from pzc.compiler.targets import torch as to_torch
from pzc.runtime.scoring.scores import score
from tests.strategies import EXPRESSIONS, probe

SHAPE = (4, 5)
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("modules")


def module(source: str, folder: Path) -> ModuleType:
    """The module that was written to a file, imported."""
    assert "pzc." not in source.split('"""', 2)[2]
    path = folder / f"m{len(list(folder.iterdir()))}.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def compiled(metric: Metric, folder: Path) -> Any:
    return getattr(module(to_torch.emit(metric, "0"), folder), to_torch.function_name(metric.name))


def arguments(metric: Metric, leaves: dict[str, Any]) -> dict[str, Any]:
    return {argument(n): torch.as_tensor(leaves[n]) if LEAVES[n].axes else float(leaves[n]) for n in metric.leaves}


def well_behaved(core: Node, leaves: dict[str, Any]) -> float:
    """The largest value on the way; discards what float32 would lose."""
    steps = [evaluate(n, leaves) for n in topological(core)]
    assume(all(np.isfinite(s).all() for s in steps))
    sizes = np.abs(np.concatenate([s.ravel() for s in steps]))
    assume(sizes.max() < 1e3 and not ((sizes > 0) & (sizes < 1e-3)).any())
    for n in topological(core):  # near a pole or an edge, rounding becomes a different value
        if n.op in ("sign", "ln", "div", "pow", "sqrt"):
            below = np.abs(evaluate(n.args[1 if n.op == "div" else 0], leaves))
            assume(not (below < 1e-2).any())
    return float(sizes.max())


@pytest.mark.parametrize("name", zoo_names())
def test_the_zoo_as_torch_modules(name: str, folder: Path) -> None:
    metric = zoo()[name]
    rng = np.random.default_rng(0)
    leaves = {name: rng.uniform(0.5, 2, tuple(SHAPE[AXES.index(a)] for a in x.axes)) for name, x in LEAVES.items()}
    for arm in metric.arms:
        one = Metric(name, arm.core, arm.per, metric.doc)
        found = compiled(one, folder)(**arguments(one, leaves))
        assert found.dtype == torch.float32
        want = np.broadcast_to(evaluate(arm.core, leaves), SHAPE)
        np.testing.assert_allclose(np.broadcast_to(found.numpy(), SHAPE), want, rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=150)
@given(EXPRESSIONS, SEEDS)
def test_generated_expressions_as_torch_modules(folder: Path, core: Node, seed: int) -> None:
    leaves = {n: np.float32(v).astype(np.float64) for n, v in probe(seed).items()}
    largest = well_behaved(core, leaves)
    metric = Metric("m", core, "row")
    found = compiled(metric, folder)(**arguments(metric, leaves)).numpy()
    want, found = (np.broadcast_to(v, SHAPE) for v in (evaluate(core, leaves), found))
    np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-4 * largest, err_msg=expression(core))


@settings(deadline=None, max_examples=300)
@given(EXPRESSIONS, SEEDS)
def test_the_runtime_scores_as_the_reference_does(core: Node, seed: int) -> None:
    leaves = {n: np.float32(v).astype(np.float64) for n, v in probe(seed).items()}
    largest = well_behaved(core, leaves)
    want, found = np.broadcast_to(evaluate(core, leaves), SHAPE), score(core, leaves, SHAPE).numpy()
    np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-4 * largest, err_msg=expression(core))


@pytest.mark.parametrize(
    "text",
    [
        "abs(W) * (2 + 3)",
        "abs(W) * (2 - 3) ^ 2",
        "abs(W) * sqr(3) * abs(-2) * sqrt(2)",
        "W * min(2, 3) + max(1, X)",
        "2 ^ W * (-2) ^ 2 / (1 / 3)",
        "clamp(W, -1, 1) * exp(1) * ln(2) * tanh(0.5) * sigmoid(-1) * sign(-3)",
        "-2 * W - -3",
        "(-2) ^ (2 + 0 * W) * W",
        "W * norm(X, 2) / norm(W, 0.5, in)",
        "in_features * ln(in_features) * W",
    ],
)
def test_numbers_among_themselves(text: str, folder: Path) -> None:
    metric = inline(f"{text} per layer")
    leaves = probe(1)
    want = np.broadcast_to(evaluate(metric.core, leaves), SHAPE)
    found = compiled(metric, folder)(**arguments(metric, leaves))
    np.testing.assert_allclose(found.numpy(), want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(score(metric.core, leaves, SHAPE).numpy(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["torch", "lambda", "None", "class", "t1", "print"])
def test_names_that_python_or_torch_takes(name: str, folder: Path) -> None:
    metric = pzc.compiler.metric.compile_source(f"pzm 1 metric {name} = abs(W) per row", "m.pzm").metrics[0]
    assert compiled(metric, folder)(torch.tensor([[-1.0]])).item() == 1


@pytest.mark.parametrize(
    "doc", ['""" + 1/0 + """', '"', "\\", 'a \\d "quoted"', '""""', "\\N{nothing}", "ends \\", "\x1b[31m\0"]
)
def test_a_doc_comment_is_only_text(doc: str, folder: Path) -> None:
    metric = Metric("m", make("abs", leaf("W")), "row", doc)
    source = to_torch.emit(metric, "0")
    assert all(c.isprintable() or c == "\n" for c in source)
    written = module(source, folder)
    assert written.__doc__ is not None
    assert written.__doc__.splitlines()[0] == doc


def test_half_precision_is_scored_in_float32(folder: Path) -> None:
    found = compiled(inline("abs(W) * 1e-6"), folder)(torch.full((1, 1), 2.0, dtype=torch.float16))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(2e-6)


def test_a_score_without_a_matrix_keeps_one_row(folder: Path) -> None:
    source = to_torch.emit(inline("X per row"), "0")
    assert "shape [1, in]" in source
    assert module(source, folder).inline(torch.ones(3)).shape == (1, 3)


def test_a_module_needs_torch_alone(tmp_path: Path) -> None:
    (tmp_path / "ria.py").write_text(to_torch.emit(pzc.load("ria"), pzc.__version__), encoding="utf-8")
    program = """
import sys
sys.modules["pzc"] = None
sys.path.insert(0, sys.argv[1])
import torch, ria
scores = ria.ria(W=torch.tensor([[1.0, -2.0], [3.0, 4.0]]), X=torch.tensor([1.0, 4.0]))
assert not [m for m in sys.modules if m.startswith("pzc.")]
print(scores.tolist())
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    want = [[1 / 4 + 1 / 3, (2 / 6 + 2 / 3) * 2], [3 / 4 + 3 / 7, (4 / 6 + 4 / 7) * 2]]
    np.testing.assert_allclose(json.loads(done.stdout), want, rtol=1e-6)


def test_a_number_alone(folder: Path) -> None:
    assert compiled(Metric("m", number(2), "row"), folder)().item() == 2
