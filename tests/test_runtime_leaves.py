"""Leaves that users add: from the registration to a pruned model, against plain computations."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import pzc
from pzc.compiler.leaves import LEAVES
from pzc.compiler.metric import compile_source
from pzc.conformance import targets
from pzc.conformance.cases import Case
from pzc.conformance.targets import PASSED, Outcome
from pzc.grammar.diagnostics import SourceError
from pzc.runtime.errors import PruningError
from pzc.runtime.models.layers import Layer, find_layers
from pzc.runtime.statistics.gather import gather
from pzc.runtime.statistics.leaves import COLLECTORS
from tests.test_runtime_hessian import inputs_of


@pytest.fixture(autouse=True)
def only_here() -> Iterator[None]:
    """What a test registers goes when it ends."""
    assert not COLLECTORS
    yield
    for name in list(COLLECTORS):
        pzc.unregister_leaf(name)


class FourthPowers:
    """Σ x_j⁴."""

    def __init__(self, layer: Layer) -> None:
        self.total = torch.zeros(layer.shape[1])

    def update(self, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
        self.total += inputs.pow(4).sum(0)

    def finish(self) -> torch.Tensor:
        return self.total


class Correlation:
    """Σ y_i x_j: what SNIP-like scores of activations read."""

    def __init__(self, layer: Layer) -> None:
        self.total = torch.zeros(layer.shape)

    def update(self, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
        self.total += outputs.T @ inputs

    def finish(self) -> torch.Tensor:
        return self.total


class LargestGradient:
    """max|g_n|."""

    def __init__(self, layer: Layer) -> None:
        self.largest = torch.zeros(layer.shape)

    def update(self, gradient: torch.Tensor) -> None:
        self.largest = self.largest.maximum(gradient.abs())

    def finish(self) -> torch.Tensor:
        return self.largest


def column_norms(layer: Layer) -> torch.Tensor:
    return layer.weight.norm(dim=0)


L4 = pzc.Leaf("X.l4", ("in",), "forward", "Σ x_j⁴ over all calibration tokens")


def dropped_half_of_each_row(weight: torch.Tensor, scores: np.ndarray) -> torch.Tensor:
    expected = weight.clone()
    order = np.argsort(scores, axis=1, kind="stable")[:, : scores.shape[1] // 2]
    np.put_along_axis(expected.numpy(), order, 0, axis=1)
    return expected


@pytest.mark.parametrize("sequential", [False, True])
def test_a_leaf_of_activations_from_end_to_end(
    tiny: Callable[..., Any], windows: torch.Tensor, sequential: bool
) -> None:
    pzc.register_leaf(L4, FourthPowers)
    metric = pzc.load("abs(W) * X.l4 ^ 0.25 per row")
    assert metric.leaves == {"W", "X.l4"}
    assert metric.tier == "forward"
    model, expected, dense = tiny(), tiny(), tiny()
    for index in range(3):
        x = inputs_of(expected if sequential else dense, windows)
        for layer in find_layers(expected).of_block(index):
            scores = np.abs(layer.weight.numpy()) * (x[layer.name] ** 4).sum(0) ** 0.25
            layer.weight.copy_(dropped_half_of_each_row(layer.weight, scores))
    result = pzc.prune(model, metric, windows=windows, sequential=sequential)
    assert result.passes == ("forward",)
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name]), name


def test_leaves_of_every_tier_together(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    pzc.register_leaf(pzc.Leaf("XY.sum", ("out", "in"), "hessian", "Σ y_i x_j", signed=True), Correlation)
    pzc.register_leaf(pzc.Leaf("G.max", ("out", "in"), "backward", "max|g_n|"), LargestGradient)
    pzc.register_leaf(pzc.Leaf("column", ("in",), "weights", "norm of a column of W"), column_norms)
    metric = pzc.load("abs(W) * abs(XY.sum) + column * G.max * Y per row")
    model = tiny()
    layers = find_layers(model)
    found = gather(model, layers, windows, metric.leaves)
    assert pzc.prune(tiny(), metric, windows=windows).passes == ("hessian", "backward")

    x = inputs_of(model, windows)
    largest = {layer.name: torch.zeros(layer.shape) for layer in layers.layers}
    for window in windows:
        model.zero_grad()
        model(window[None], labels=window[None]).loss.backward()
        for layer in layers.layers:
            largest[layer.name] = largest[layer.name].maximum(layer.parameter.grad.abs())
    for layer in layers.layers:
        rows = torch.from_numpy(x[layer.name])
        y = rows @ layer.weight.double().T
        table = found.of(layer, metric.leaves)
        torch.testing.assert_close(table["XY.sum"].double(), y.T @ rows, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(table["G.max"], largest[layer.name], rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(table["column"], layer.weight.square().sum(0, keepdim=True).sqrt())
        torch.testing.assert_close(table["Y.l2"][:, 0].double(), y.norm(dim=0), rtol=1e-4, atol=1e-5)


def test_gradients_come_as_rows_and_columns_from_transposed_weights() -> None:
    from transformers import AutoModelForCausalLM, GPT2Config

    config = GPT2Config(vocab_size=20, n_embd=16, n_layer=1, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0)
    model = AutoModelForCausalLM.from_config(config).eval()
    windows = torch.randint(0, 20, (3, 12), generator=torch.Generator().manual_seed(0))
    pzc.register_leaf(pzc.Leaf("G.max", ("out", "in"), "backward", "max|g_n|"), LargestGradient)
    layers = find_layers(model)
    found = gather(model, layers, windows[:1], ["G.max", "G.l1"])
    for layer in layers.layers:
        torch.testing.assert_close(found.tables[layer.name]["G.max"], found.tables[layer.name]["G.l1"])


def test_a_leaf_that_no_metric_reads_is_never_computed(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    def fail(layer: Layer) -> torch.Tensor:
        raise AssertionError("nobody asked for this")

    for number, tier in enumerate(("weights", "forward", "hessian", "backward")):
        pzc.register_leaf(pzc.Leaf(f"unused{number}", (), tier, "nothing"), fail)
    for formula in ("abs(W)", "abs(W) * X", "abs(W) * H.diag", "abs(W) * G"):
        pzc.prune(tiny(), pzc.load(formula), windows=windows)


def test_weights_are_dense_while_a_model_is_compared(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    """The second metric must not see the weights that the first has pruned."""
    from pzc.runtime.evaluation.compare import compare
    from pzc.runtime.scoring.masks import Target

    pzc.register_leaf(pzc.Leaf("column", ("in",), "weights", "norm of a column of W"), column_norms)
    metrics = [pzc.load("abs(W)"), pzc.load("abs(W) * column")]
    _, _, second = compare(tiny(), metrics, windows, windows, [Target(sparsity=0.5)])
    _, alone = compare(tiny(), metrics[1:], windows, windows, [Target(sparsity=0.5)])
    assert second.perplexity == alone.perplexity


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        (pzc.Leaf("X.l2", ("in",), "forward", ""), "is taken"),
        (pzc.Leaf("X", ("in",), "forward", ""), "is taken"),
        (pzc.Leaf("H", ("in",), "forward", ""), "is taken"),
        (pzc.Leaf("sqrt", (), "weights", ""), "is taken"),
        (pzc.Leaf("metric.x", (), "weights", ""), "is taken"),
        (pzc.Leaf("in", (), "weights", ""), "is taken"),
        (pzc.Leaf("X.l4.x", ("in",), "forward", ""), "is no name"),
        (pzc.Leaf("l 4", ("in",), "forward", ""), "is no name"),
        (pzc.Leaf("4l", ("in",), "forward", ""), "is no name"),
        (pzc.Leaf("größe", ("in",), "forward", ""), "is no name"),
        (pzc.Leaf("", ("in",), "forward", ""), "is no name"),
        (pzc.Leaf("X_mean", ("in",), "forward", ""), "are both `X_mean`"),
        (pzc.Leaf("W.l2", ("in",), "forward", ""), "are both `W`"),
        (pzc.Leaf("Z", ("in", "out"), "forward", ""), "are no axes"),
        (pzc.Leaf("Z", ("in",), "sideways", ""), "is no cost tier"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_leaf_is_refused(leaf: pzc.Leaf, message: str) -> None:
    before = dict(LEAVES)
    with pytest.raises(ValueError, match=message):
        pzc.register_leaf(leaf, FourthPowers)
    assert before == LEAVES


def test_a_leaf_can_be_taken_out_again() -> None:
    before = dict(LEAVES)
    pzc.register_leaf(L4, FourthPowers)
    with pytest.raises(ValueError, match="is taken"):
        pzc.register_leaf(L4, FourthPowers)
    pzc.unregister_leaf("X.l4")
    assert before == LEAVES
    for name in ("X.l4", "X.l2"):
        with pytest.raises(ValueError, match="was registered"):
            pzc.unregister_leaf(name)
    with pytest.raises(pzc.SourceError):
        pzc.load("abs(W) * X.l4")


NAMES = ("t1", "t2", "torch", "np", "lambda", "None", "layer", "scores", "self", "variance", "print", "inf", "id")
TARGETS: dict[str, Callable[[list[Case]], list[Outcome]]] = {
    name: targets.TARGETS[name] for name in ("torch", "module", "numpy", "export", "onnx")
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("form", ["pzm 1 metric q = {} per row", "pzm 1 metric q {{ else: {} per row }}"])
def test_a_leaf_may_have_any_name_in_compiled_metrics(target: str, form: str) -> None:
    inputs: dict[str, Any] = {"W": [[1.0, -2.0]]}
    for i, name in enumerate(NAMES):
        pzc.register_leaf(pzc.Leaf(name, ("in",), "weights", 'of """ and \\'), column_norms)
        inputs[name] = [i, 2.0 * i]
    source = form.format(" + ".join(["sqr(W)", "std(W)", *(f"{i} * {name}" for i, name in enumerate(NAMES))]))
    squares = sum(i * i for i in range(len(NAMES)))
    scores = [[1 + 4.5**0.5 + squares, 4 + 4.5**0.5 + 2 * squares]]
    case = Case("", {"source": source, "inputs": inputs, "expect": {"scores": scores}})
    assert TARGETS[target]([case]) == [PASSED]


def test_a_collector_of_another_shape_is_told(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    pzc.register_leaf(pzc.Leaf("X.l4", ("out",), "forward", "a wrong axis"), FourthPowers)
    model = tiny()
    before = model.state_dict()["model.layers.0.mlp.up_proj.weight"].clone()
    message = r"`X.l4` gave the shape \[16\] for model.layers.0.self_attn.k_proj, which needs \[8\]"
    with pytest.raises(PruningError, match=message):
        pzc.prune(model, pzc.load("abs(W) * X.l4 per layer"), windows=windows)
    assert torch.equal(model.state_dict()["model.layers.0.mlp.up_proj.weight"], before)
    assert not any(module._forward_hooks for module in model.modules())


def test_registering_waits_for_no_torch() -> None:
    register = "import pzc, sys; pzc.register_leaf(pzc.Leaf('Z', ('in',), 'forward', ''), id)"
    subprocess.run([sys.executable, "-c", f"{register}; assert 'torch' not in sys.modules"], check=True)


def test_a_name_may_be_another_leaf_later() -> None:
    pzc.register_leaf(pzc.Leaf("Z", ("in",), "weights", "ones"), lambda layer: torch.ones(layer.shape[1]))
    old = pzc.load("W * Z")
    pzc.unregister_leaf("Z")
    pzc.register_leaf(pzc.Leaf("Z", ("out",), "weights", "ones"), lambda layer: torch.ones(layer.shape[0]))
    try:
        assert pzc.load("W * Z").core.args[1].axes == {"out"}
        assert old.core.args[1].axes == {"in"}
    finally:
        pzc.unregister_leaf("Z")


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        ("pzm 1 let A = abs(W) metric m = A * X", "PZ0204", "`A` is the name of a leaf"),
        ("pzm 1 metric m = W * A.c", "PZ0201", "`A` has no `c`; did you mean `A.b`?"),
        ("pzm 1 metric m = W * A", "PZ0201", "`A` is no value by itself; there are `A.b`"),
    ],
)
def test_the_family_of_a_new_leaf_is_known_as_such(source: str, code: str, says: str) -> None:
    """As `H` is, since there is `H.diag`."""
    pzc.register_leaf(pzc.Leaf("A.b", ("in",), "forward", ""), FourthPowers)
    with pytest.raises(SourceError) as raised:
        compile_source(source, "m.pzm")
    (found,) = raised.value.diagnostics
    assert found.code == code
    assert says in (found.message, found.help)


@pytest.mark.parametrize("name", ["a", "x", "paper", "relative", "wanda", "paper.mine"])
def test_a_name_of_the_zoo_or_of_a_library_is_taken(name: str) -> None:
    with pytest.raises(ValueError, match="is taken"):
        pzc.register_leaf(pzc.Leaf(name, ("in",), "forward", ""), FourthPowers)


def test_a_new_leaf_breaks_nothing_that_comes_with_the_language() -> None:
    pzc.register_leaf(pzc.Leaf("my_own.leaf_x", ("in",), "forward", ""), FourthPowers)
    for name in pzc.zoo():
        pzc.load(name)
    metric = pzc.load("abs(W) * my_own.leaf_x")
    assert metric.score(W=[[1.0, -2.0]], my_own_leaf_x=[3.0, 4.0]).tolist() == [[3.0, 8.0]]


@pytest.mark.parametrize("tier", ["forward", "backward"])
def test_a_collector_that_changes_what_it_is_given_is_refused(
    tier: Any, tiny: Callable[..., Any], windows: torch.Tensor
) -> None:
    class Slip:
        def __init__(self, layer: Layer) -> None:
            self.total = torch.zeros(layer.shape[1])

        def update(self, *given: torch.Tensor) -> None:
            self.total += given[0].pow_(2).sum(0)

        def finish(self) -> torch.Tensor:
            return self.total

    pzc.register_leaf(pzc.Leaf("slip", ("in",), tier, ""), Slip)
    with pytest.raises(PruningError, match="the collector of `slip` changes the tensors that it is given"):
        pzc.prune(tiny(), "abs(W) * slip", windows=windows)
