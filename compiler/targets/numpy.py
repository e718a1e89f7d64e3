"""A standalone numpy module: readable source that computes the scores in float64 and does not import pzc."""

from __future__ import annotations

from pzc.compiler.metric import Metric
from pzc.compiler.targets import python

_OPERATIONS = {
    "neg": "-{0}",
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "pow": "{0} ** {1}",
    "abs": "np.abs({0})",
    "sqr": "np.square({0})",
    "sqrt": "np.sqrt({0})",
    "exp": "np.exp({0})",
    "ln": "np.log({0})",
    "tanh": "np.tanh({0})",
    "sigmoid": "sigmoid({0})",
    "sign": "np.sign({0})",
    "min": "np.minimum({0}, {1})",
    "max": "np.maximum({0}, {1})",
    "clamp": "np.minimum(np.maximum({0}, {1}), {2})",
    "sum": "np.sum({0}, {dim}, keepdims=True)",
    "mean": "np.mean({0}, {dim}, keepdims=True)",
    "std": "np.sqrt(variance({0}, {dim}))",
    "var": "variance({0}, {dim})",
    "amin": "np.min({0}, {dim}, keepdims=True)",
    "amax": "np.max({0}, {dim}, keepdims=True)",
    "median": "quantile({0}, 0.5, {dim})",
    "quantile": "quantile({0}, {1}, {dim})",
    "rank": "rank({0}, {dim})",
    "tail": "tail({0}, {dim})",
    "norm": "np.sum(np.abs({0}) ** {1}, {dim}, keepdims=True) ** (1 / {1})",
}
"""Each core operation as an expression of numpy."""

_SIGMOID = '''

def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))
'''

_VARIANCE = '''

def variance(x: np.ndarray, axis: int | tuple[int, int]) -> np.ndarray:
    """Sample variance, divisor n - 1; NaN for a single value. `np.var` warns of that."""
    mean = np.mean(x, axis, keepdims=True)
    return np.sum(np.square(x - mean), axis, keepdims=True) / (x.size // mean.size - 1)
'''

_QUANTILE = '''

def quantile(x: np.ndarray, q: float, axis: int | tuple[int, int]) -> np.ndarray:
    """The q-quantile over `axis`, linear between neighbours; `np.quantile` makes NaN of an infinite one."""
    rows = x.reshape(1, -1) if axis == (0, 1) else x if axis == 1 else x.T
    at = q * (rows.shape[1] - 1)
    low, high, part = int(at), min(int(at) + 1, rows.shape[1] - 1), at - int(at)
    ordered = np.partition(rows, (low, high), axis=1)
    value, above = ordered[:, low], ordered[:, high]
    if part:
        value = np.where(value == above, value, (1 - part) * value + part * above)
    value = np.where(np.isnan(rows).any(axis=1), np.nan, value)
    return value.reshape((1, 1) if axis == (0, 1) else (-1, 1) if axis == 1 else (1, -1))
'''

_RANK = '''

def rank(x: np.ndarray, axis: int | tuple[int, int]) -> np.ndarray:
    """How many values over `axis` are smaller than each."""
    rows = x.reshape(1, -1) if axis == (0, 1) else x if axis == 1 else x.T
    smaller = np.stack([np.searchsorted(np.sort(row), row) for row in rows]).astype(np.float64)
    smaller[np.isnan(rows).any(axis=1)] = np.nan
    return smaller.T if axis == 0 else smaller.reshape(x.shape)
'''

_TAIL = '''

def tail(x: np.ndarray, axis: int | tuple[int, int]) -> np.ndarray:
    """The sum of the values over `axis` that are not smaller than each."""
    rows = x.reshape(1, -1) if axis == (0, 1) else x if axis == 1 else x.T
    ordered = np.sort(rows, axis=1)
    sums = np.cumsum(ordered[:, ::-1], axis=1)[:, ::-1]
    found = np.stack([s[np.searchsorted(o, row)] for o, s, row in zip(ordered, sums, rows)])
    return found.T if axis == 0 else found.reshape(x.shape)
'''

_DIALECT = python.Dialect(
    package="numpy",
    importing="import numpy as np",
    array="np.ndarray",
    kind="float64",
    operations=_OPERATIONS,
    helpers={
        "sigmoid": _SIGMOID,
        "std": _VARIANCE,
        "var": _VARIANCE,
        "median": _QUANTILE,
        "quantile": _QUANTILE,
        "rank": _RANK,
        "tail": _TAIL,
    },
    taken=frozenset({"np", "sigmoid", "variance", "quantile", "rank", "tail", "tuple", "zip"}),
    plain=frozenset(_OPERATIONS),
    number="np.float64({!r})",
    matrix="np.asarray({}, dtype=np.float64)",
    scalar="np.asarray({}, dtype=np.float64)",
    full="np.broadcast_to({}, {}.shape)",
    decorator='@np.errstate(all="ignore")\n',
)


def function_name(metric: str) -> str:
    """The name of the function that gives the scores of a metric."""
    return python.function_name(metric, _DIALECT)


def emit(metric: Metric, version: str) -> str:
    """The module's source; for a metric by role, a function for each arm and one that picks the layer's."""
    return python.emit(metric, version, _DIALECT)
