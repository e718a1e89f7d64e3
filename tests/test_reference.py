"""The reference evaluator against formulae in plain Python, one number at a time."""

from __future__ import annotations

import copy
import math
import pickle
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pzc
from pzc.compiler.core import leaf, make
from pzc.compiler.functions import ELEMENTWISE, OPERATORS, REDUCTIONS
from pzc.compiler.load import inline
from pzc.compiler.reference import aligned, evaluate

NAN, INF = math.nan, math.inf
VALUES = st.floats(-20, 20, allow_subnormal=False) | st.sampled_from([0.0, 1.0, -1.0, 0.5, 100.0])
SIZES = st.tuples(st.integers(1, 5), st.integers(1, 5))


def matrices(out: int, inn: int) -> st.SearchStrategy[np.ndarray]:
    return st.lists(VALUES, min_size=out * inn, max_size=out * inn).map(lambda v: np.array(v).reshape(out, inn))


def scores(text: str, **leaves: object) -> np.ndarray:
    return inline(f"{text} per model" if " per " not in text else text).reference_score(**leaves)


UNARY: dict[str, Callable[[float], float]] = {
    "-{}": lambda x: -x,
    "abs({})": lambda x: x if x >= 0 else -x,
    "sqr({})": lambda x: x * x,
    "sqrt({})": lambda x: math.sqrt(x) if x >= 0 else NAN,
    "exp({})": math.exp,
    "ln({})": lambda x: math.log(x) if x > 0 else -INF if x == 0 else NAN,
    "tanh({})": math.tanh,
    "sigmoid({})": lambda x: 1 / (1 + math.exp(-x)),
    "sign({})": lambda x: float((x > 0) - (x < 0)),
}

BINARY: dict[str, Callable[[float, float], float]] = {
    "{} + {}": lambda a, b: a + b,
    "{} - {}": lambda a, b: a - b,
    "{} * {}": lambda a, b: a * b,
    "{} / {}": lambda a, b: a / b if b else NAN if a == 0 else math.copysign(INF, a) * math.copysign(1, b),
    "{} ^ {}": lambda a, b: power(a, b),
    "min({}, {})": lambda a, b: a if a < b else b,
    "max({}, {})": lambda a, b: a if a > b else b,
    "clamp({}, {}, 2)": lambda x, low: 2.0 if max(x, low) > 2 else max(x, low),
}


def power(a: float, b: float) -> float:
    if a == 0 and b < 0:
        odd = b == int(b) and int(b) % 2 == 1
        return math.copysign(INF, a) if odd else INF
    try:
        return math.pow(a, b)
    except ValueError:
        return NAN
    except OverflowError:
        return INF if a > 0 or int(b) % 2 == 0 else -INF


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def variance(values: list[float]) -> float:
    m = mean(values)
    return math.fsum((v - m) ** 2 for v in values) / (len(values) - 1) if len(values) > 1 else NAN


def norm(p: float) -> Callable[[list[float]], float]:
    return lambda values: math.fsum(abs(v) ** p for v in values) ** (1 / p)


def quantile(q: float) -> Callable[[list[float]], float]:
    def of(values: list[float]) -> float:
        ordered = sorted(values)
        at = q * (len(ordered) - 1)
        low = math.floor(at)
        above = ordered[min(low + 1, len(ordered) - 1)]
        return ordered[low] + (at - low) * (above - ordered[low])

    return of


REDUCING: dict[str, Callable[[list[float]], float]] = {
    "sum(W{})": math.fsum,
    "mean(W{})": mean,
    "var(W{})": variance,
    "std(W{})": lambda values: math.sqrt(variance(values)),
    "min(W{})": min,
    "max(W{})": max,
    "norm(W, 1{})": norm(1),
    "norm(W, 2{})": norm(2),
    "norm(W, 0.5{})": norm(0.5),
    "norm(W, 3{})": norm(3),
    "median(W{})": statistics.median,
    "quantile(W, 0.3{})": quantile(0.3),
    "quantile(W, 1{})": max,
    "quantile(W, 0{})": min,
}


KEEPING: dict[str, Callable[[float, list[float]], float]] = {
    "rank({})": lambda value, values: float(sum(other < value for other in values)),
    "tail({})": lambda value, values: math.fsum(other for other in values if other >= value),
}


def test_every_function_and_operator_is_tested_here() -> None:
    tested = " ".join([*UNARY, *BINARY, *REDUCING, *KEEPING])
    assert all(f"{name}(" in tested for name in [*ELEMENTWISE, *REDUCTIONS])
    assert all(operator in tested for operator in OPERATORS)


def same(found: np.ndarray, want: Iterable[Iterable[float]]) -> None:
    np.testing.assert_allclose(found, np.array([list(row) for row in want]), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("text", UNARY)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_functions_of_one_value(text: str, data: st.DataObject) -> None:
    w = data.draw(SIZES.flatmap(lambda s: matrices(*s)))
    same(scores(text.format("W"), W=w), ((UNARY[text](v) for v in row) for row in w.tolist()))


@pytest.mark.parametrize("text", BINARY)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_functions_of_two_values_join_axes_by_name(text: str, data: st.DataObject) -> None:
    out, inn = data.draw(SIZES)
    w, x = data.draw(matrices(out, inn)), data.draw(matrices(1, inn))[0]
    f = BINARY[text]
    same(
        scores(text.format("W", "X.mean"), W=w, X_mean=x), [[f(w[i, j], x[j]) for j in range(inn)] for i in range(out)]
    )
    rows = w.sum(axis=1).tolist()  # what sums are is tested below; here near zero each rounding is another number
    found = scores(text.format("X.mean", "sum(W, in)") + " + 0 * W", W=w, X_mean=x)
    same(found, [[f(x[j], rows[i]) for j in range(inn)] for i in range(out)])


@pytest.mark.parametrize("text", REDUCING)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_reductions(text: str, data: st.DataObject) -> None:
    w = data.draw(SIZES.flatmap(lambda s: matrices(*s)))
    f = REDUCING[text]
    rows, columns = w.tolist(), w.T.tolist()
    found = {
        axis: evaluate(inline("W * " + text.format(axis)).core.args[1], {"W": w}) for axis in ("", ", in", ", out")
    }
    assert [v.shape for v in found.values()] == [(1, 1), (len(rows), 1), (1, len(columns))]
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(found[""], [[f(w.ravel().tolist())]], rtol=1e-9, atol=1e-7)
        np.testing.assert_allclose(found[", in"], [[f(row)] for row in rows], rtol=1e-9, atol=1e-7)
        np.testing.assert_allclose(found[", out"], [[f(column) for column in columns]], rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("text", KEEPING)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_what_a_value_is_among_others(text: str, data: st.DataObject) -> None:
    w = data.draw(SIZES.flatmap(lambda s: matrices(*s)))

    def line(values: list[float]) -> list[float]:
        return [KEEPING[text](value, values) for value in values]

    found = {axis: scores(text.format(f"W{axis}"), W=w) for axis in (", in", ", out", "")}
    close = {"rtol": 1e-12, "atol": 1e-12 * np.abs(w).sum()}
    np.testing.assert_allclose(found[", in"], [line(row) for row in w.tolist()], **close)
    np.testing.assert_allclose(found[", out"].T, [line(column) for column in w.T.tolist()], **close)
    np.testing.assert_allclose(found[""].ravel(), line(w.ravel().tolist()), **close)


def test_what_is_not_a_number_poisons_its_ranks_and_quantiles() -> None:
    w = np.array([[1.0, -1.0, 2.0], [4.0, 5.0, 6.0]])
    for text in (
        "rank(sqrt(W), in)",
        "tail(sqrt(W), in)",
        "median(sqrt(W), in) + 0 * W",
        "quantile(sqrt(W), 0.1, in) + 0 * W",
    ):
        found = scores(text, W=w)
        assert np.isnan(found[0]).all(), text
        assert np.isfinite(found[1]).all(), text


def test_sizes_and_windows_are_numbers() -> None:
    found = scores(
        "W * in_features / out_features + windows", W=np.ones((2, 3)), in_features=3, out_features=2, windows=4
    )
    np.testing.assert_array_equal(found, np.full((2, 3), 5.5))


def test_scores_are_computed_in_float64() -> None:
    w = np.array([[1.0, 1e-12]], dtype=np.float32)
    assert scores("W + 1", W=w).dtype == np.float64
    assert scores("(1 + W) - 1 per row", W=w)[0, 1] != 0


def test_a_score_of_one_axis_is_broadcast() -> None:
    found = scores("X per row", X=np.array([1.0, 2.0]), W=np.zeros((3, 2)))
    np.testing.assert_array_equal(found, [[1, 2]] * 3)


@pytest.mark.parametrize(("leaf", "shape"), [("W", (3,)), ("X.l2", (1, 3)), ("windows", (1,)), ("G.l1", (2, 2, 2))])
def test_leaves_have_as_many_dimensions_as_axes(leaf: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"`{leaf}` has shape"):
        aligned(leaf, np.ones(shape))


def test_leaves_that_are_missing_or_unknown_are_named() -> None:
    wanda = inline("abs(W) * X per row")
    with pytest.raises(TypeError, match="needs X"):
        wanda.score(W=np.ones((2, 2)))
    with pytest.raises(TypeError, match="there is no leaf Z"):
        wanda.score(W=np.ones((2, 2)), Z=1)


@pytest.mark.parametrize("torch_too", [False, True])
def test_a_layer_has_the_shape_that_its_leaves_tell(torch_too: bool) -> None:
    import torch

    made = torch.ones if torch_too else np.ones
    given = {"X": made(3), "Y": made(2)}
    metric = pzc.load("X * Y per layer")
    assert tuple(metric.score(**given).shape) == (2, 3)
    assert metric.reference_score(**given).shape == (2, 3)
    assert tuple(pzc.load("Y per layer").score(Y=made(2)).shape) == (2, 1)


@pytest.mark.parametrize("torch_too", [False, True])
@pytest.mark.parametrize(
    ("formula", "shapes"),
    [
        ("abs(W) * X", {"W": (2, 3), "X": (1,)}),
        ("abs(W) * X", {"W": (2, 3), "X": (2,)}),
        ("abs(W) * G", {"W": (2, 3), "G": (1, 3)}),
        ("abs(W) * X", {"W": (3,), "X": (3,)}),
        ("abs(W) * X", {"W": (0, 3), "X": (3,)}),
        ("abs(W) * windows", {"W": (2, 3), "windows": (1,)}),
    ],
)
def test_leaves_that_do_not_fit_one_layer_are_refused(
    formula: str, shapes: dict[str, tuple[int, ...]], torch_too: bool
) -> None:
    import torch

    made = torch.ones if torch_too else np.ones
    metric = inline(formula)
    for score in (metric.score, metric.reference_score):
        with pytest.raises(ValueError, match="has shape"):
            score(**{name: made(shape) for name, shape in shapes.items()})


def test_lists_arrays_and_tensors_may_be_mixed() -> None:
    import torch

    w, x = [[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]], [1.0, 10.0, 100.0]
    expected = np.abs(w) * np.array(x)
    metric = inline("abs(W) * X")
    for leaves in ({"W": w, "X": x}, {"W": torch.tensor(w), "X": x}, {"W": w, "X_l2": torch.tensor(x).bfloat16()}):
        np.testing.assert_allclose(metric.score(**leaves), expected, rtol=1e-2)
        np.testing.assert_allclose(metric.reference_score(**leaves), expected, rtol=1e-2)
    assert tuple(inline("X * 2").score(X=torch.tensor(x), W=w).shape) == (2, 3)
    weight = torch.nn.Parameter(torch.tensor(w).bfloat16())
    np.testing.assert_array_equal(metric.reference_score(W=weight, X=torch.tensor(x)), expected)
    with pytest.raises(TypeError, match="the leaf X is given twice"):
        metric.score(W=w, X=x, X_l2=x)


@pytest.mark.parametrize("name", [*pzc.zoo()])
def test_a_copy_of_a_metric_is_the_metric(name: str) -> None:
    metric = pzc.load(name)
    assert metric.keys
    for again in (copy.copy(metric), copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))):  # noqa: S301 - our own
        assert again == metric
        assert (again.keys, again.leaves, again.source) == (metric.keys, metric.leaves, metric.source)


def test_a_metric_that_another_process_made_reads_the_same_leaves() -> None:
    """Leaves are numbered in the order in which a process meets them."""
    program = (
        "import pickle, sys, pzc; pzc.load('abs(G.mean) * Y.var + H.diag'); m = pzc.load('X.max * abs(W) + X.mean');"
        "m.keys; sys.stdout.buffer.write(pickle.dumps(m))"
    )
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=600).stdout
    metric = pickle.loads(made)  # noqa: S301 - our own
    assert metric == inline("X.max * abs(W) + X.mean")
    assert metric.leaves == {"W", "X.max", "X.mean"}


def test_a_deep_metric_travels() -> None:
    core = leaf("W")
    for i in range(5000):
        core = make("mul" if i % 2 else "sub", core, leaf("X.l2"))
    assert pickle.loads(pickle.dumps(core)) is core  # noqa: S301 - our own
    assert copy.deepcopy(core) is core


def test_errors_in_a_source_travel() -> None:
    with pytest.raises(pzc.SourceError) as raised:
        pzc.load("abs(W")
    again = pickle.loads(pickle.dumps(raised.value))  # noqa: S301 - our own
    assert (str(again), again.diagnostics) == (str(raised.value), raised.value.diagnostics)
