"""A standalone torch module: readable source that computes the scores and does not import pzc."""

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
    "abs": "{0}.abs()",
    "sqr": "{0} * {0}",
    "sqrt": "{0}.sqrt()",
    "exp": "{0}.exp()",
    "ln": "{0}.log()",
    "tanh": "{0}.tanh()",
    "sigmoid": "{0}.sigmoid()",
    "sign": "torch.where({0}.isnan(), {0}, {0}.sign())",
    "min": "torch.minimum({0}, {1})",
    "max": "torch.maximum({0}, {1})",
    "clamp": "torch.minimum(torch.maximum({0}, {1}), {2})",
    "sum": "{0}.sum({dim}, keepdim=True)",
    "mean": "{0}.mean({dim}, keepdim=True)",
    "std": "{0}.std({dim}, correction=1, keepdim=True)",
    "var": "{0}.var({dim}, correction=1, keepdim=True)",
    "amin": "{0}.amin({dim}, keepdim=True)",
    "amax": "{0}.amax({dim}, keepdim=True)",
    "median": "quantile({0}, 0.5, {dim})",
    "quantile": "quantile({0}, {1}, {dim})",
    "rank": "rank({0}, {dim})",
    "tail": "tail({0}, {dim})",
    "norm": "({0}.abs() ** {1}).sum({dim}, keepdim=True) ** (1 / {1})",
}

_QUANTILE = '''

def quantile(x: torch.Tensor, q: float, dim: int | tuple[int, int]) -> torch.Tensor:
    """The q-quantile over `dim`, linear between neighbours; `torch.quantile` takes few values and one dimension."""
    rows = x.reshape(1, -1) if dim == (0, 1) else x if dim == 1 else x.T
    at = q * (rows.shape[1] - 1)
    part = at - int(at)
    value = below = rows.kthvalue(int(at) + 1, dim=1).values
    if part:
        above = rows.kthvalue(int(at) + 2, dim=1).values
        value = torch.where(below == above, below, (1 - part) * below + part * above)
    value = torch.where(rows.isnan().any(1), torch.nan, value)
    return value.reshape((1, 1) if dim == (0, 1) else (-1, 1) if dim == 1 else (1, -1))
'''

_RANK = '''

def rank(x: torch.Tensor, dim: int | tuple[int, int]) -> torch.Tensor:
    """How many values over `dim` are smaller than each."""
    rows = (x.reshape(1, -1) if dim == (0, 1) else x if dim == 1 else x.T).contiguous()
    smaller = torch.searchsorted(rows.sort(dim=1).values, rows).float()
    smaller = torch.where(rows.isnan().any(1, keepdim=True), torch.nan, smaller)
    return smaller.T if dim == 0 else smaller.reshape(x.shape)
'''

_TAIL = '''

def tail(x: torch.Tensor, dim: int | tuple[int, int]) -> torch.Tensor:
    """The sum of the values over `dim` that are not smaller than each."""
    rows = (x.reshape(1, -1) if dim == (0, 1) else x if dim == 1 else x.T).contiguous()
    ordered = rows.sort(dim=1).values
    smaller = torch.searchsorted(ordered, rows).clamp(max=rows.shape[1] - 1)
    found = ordered.flip(1).cumsum(1).flip(1).gather(1, smaller)
    return found.T if dim == 0 else found.reshape(x.shape)
'''

_DIALECT = python.Dialect(
    package="torch",
    importing="import torch",
    array="torch.Tensor",
    kind="float32",
    operations=_OPERATIONS,
    helpers={"median": _QUANTILE, "quantile": _QUANTILE, "rank": _RANK, "tail": _TAIL},
    taken=frozenset({"torch", "quantile", "rank", "tail", "tuple"}),
    plain=frozenset({"neg", "add", "sub", "mul", "div", "pow", "norm", "quantile"}),
    number="torch.tensor({!r})",
    matrix="{}.to(torch.float32)",
    scalar="torch.as_tensor({}, dtype=torch.float32)",
    full="torch.broadcast_to({}, {}.shape)",
)


def function_name(metric: str) -> str:
    """The name of the function that gives the scores of a metric."""
    return python.function_name(metric, _DIALECT)


def emit(metric: Metric, version: str) -> str:
    """The module's source; for a metric by role, a function for each arm and one that picks the layer's."""
    return python.emit(metric, version, _DIALECT)
