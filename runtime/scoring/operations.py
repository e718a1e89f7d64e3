"""What every operation of the core means in torch, on values that keep two dimensions.

A value is `[out, in]`, `[1, in]`, `[out, 1]` or `[1, 1]`, so that torch's broadcasting combines values by the names of
their axes. Dimensions before these two, as of several layers of one shape, go along.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from pzc.compiler.core import Node, value_of
from pzc.compiler.functions import OVER_AXES


def apply(node: Node, args: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
    """The value of one operation on its arguments, which are whole along the axis that it goes over.

    An elementwise one is written to `out`, where that is given; `out` may be one of the arguments.
    """
    if over_axis(node):
        return _over_axis(node, args[0])
    rest: list[Tensor | float] = list(args)
    if node.op == "pow" and node.args[1].op == "number":
        rest[1] = value_of(node.args[1])
    return _ELEMENTWISE[node.op](*rest, out=out)


def over_axis(node: Node) -> bool:
    """Whether an operation goes over an axis: it needs its argument whole along it."""
    return node.op in OVER_AXES


def dims(node: Node) -> tuple[int, ...]:
    """The dimensions that an operation goes over."""
    return {"in": (-1,), "out": (-2,)}.get(str(node.value), (-2, -1))


def constant(node: Node) -> float:
    """The second argument of a norm or quantile."""
    return value_of(node.args[1])


def _over_axis(node: Node, x: Tensor) -> Tensor:
    dim = dims(node)
    if node.op == "norm":
        norm: Tensor = torch.linalg.vector_norm(x, constant(node), dim=dim, keepdim=True)
        return norm
    if node.op == "quantile":
        return _quantile(x, dim, constant(node))
    return _OVER_AXIS[node.op](x, dim)


def _joined(x: Tensor, dim: tuple[int, ...]) -> Tensor:
    """The values over which a function goes, in the last dimension: `[…, groups, members]`."""
    return x.flatten(-2).unsqueeze(-2) if len(dim) == 2 else x if dim == (-1,) else x.mT


def _quantile(x: Tensor, dim: tuple[int, ...], q: float) -> Tensor:
    """Linear between neighbours. `torch.quantile` takes 16 million values at most; two selections take any number."""
    rows = _joined(x, dim)
    at = q * (rows.shape[-1] - 1)
    part = at - int(at)
    value = below = rows.kthvalue(int(at) + 1, dim=-1).values
    if part:
        above = rows.kthvalue(int(at) + 2, dim=-1).values
        value = torch.where(below == above, below, (1 - part) * below + part * above)
    value = torch.where(rows.isnan().any(-1), torch.nan, value)
    return value.reshape([1 if i - x.ndim in dim else n for i, n in enumerate(x.shape)])


_SEARCHED = 2**16
"""In longer lines than this, searches miss the processor's cache: to keep where values came from takes less time."""


def _smaller(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The values of each line in ascending order, and for each value the place of the first that equals it there."""
    ordered, origin = rows.sort(dim=-1)
    if rows.shape[-1] <= _SEARCHED:
        return ordered, torch.searchsorted(ordered, rows).clamp_(max=rows.shape[-1] - 1)  # NaN is found behind all
    begins = torch.arange(rows.shape[-1], device=rows.device).expand_as(origin).clone()
    begins[..., 1:].masked_fill_(ordered[..., 1:] == ordered[..., :-1], 0)
    return ordered, torch.empty_like(origin).scatter_(-1, origin, begins.cummax(-1).values)


def _rank(x: Tensor, dim: tuple[int, ...]) -> Tensor:
    rows = _joined(x, dim).contiguous()
    _, smaller = _smaller(rows)
    return _in_place_of(x, dim, torch.where(rows.isnan().any(-1, keepdim=True), torch.nan, smaller.float()))


def _tail(x: Tensor, dim: tuple[int, ...]) -> Tensor:
    """Sums of what is sorted, from the largest on. A NaN is the largest, so it is in all of them."""
    rows = _joined(x, dim).contiguous()
    ordered, smaller = _smaller(rows)
    return _in_place_of(x, dim, ordered.flip(-1).cumsum(-1).flip(-1).gather(-1, smaller))


def _in_place_of(x: Tensor, dim: tuple[int, ...], found: Tensor) -> Tensor:
    """What was found for the values of `_joined`, each where its value is."""
    return found.reshape(x.shape) if dim != (-2,) else found.mT


_SHORT_WAYS = frozenset({-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0})
"""Exponents that torch has exact and fast ways for."""


def _pow(x: Tensor, exponent: Tensor | float, out: Tensor | None = None) -> Tensor:
    """On a CPU by numpy, which takes a third of torch's time."""
    if isinstance(exponent, Tensor) or exponent in _SHORT_WAYS or x.device.type != "cpu" or x.dtype != torch.float32:
        return torch.pow(x, exponent, out=out)
    found = torch.empty_like(x) if out is None else out
    with np.errstate(all="ignore"):  # what is not finite is found in the scores
        np.power(x.numpy(), np.float32(exponent), out=found.numpy())
    return found


def deviations(x: Tensor, dim: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The mean and the sum of squared differences from it. `torch.var` goes one value at a time and takes ten times as
    long on a CPU."""
    mean = x.mean(dim, keepdim=True)
    return mean, (x - mean).square_().sum(dim, keepdim=True)


def _var(x: Tensor, dim: tuple[int, ...]) -> Tensor:
    """The sample variance, with the divisor n − 1."""
    _, squares = deviations(x, dim)
    return squares / (math.prod(x.shape[i] for i in dim) - 1)


def _sign(x: Tensor, out: Tensor | None) -> Tensor:
    return torch.where(x.isnan(), x, x.sign(), out=out)  # torch.sign(nan) is 0, which would hide an error


_ELEMENTWISE: dict[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "pow": _pow,
    "neg": torch.neg,
    "abs": torch.abs,
    "sqr": torch.square,
    "sqrt": torch.sqrt,
    "exp": torch.exp,
    "ln": torch.log,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "sign": _sign,
    "min": torch.minimum,
    "max": torch.maximum,
    "clamp": lambda x, low, high, out: torch.minimum(torch.maximum(x, low), high, out=out),
}

_OVER_AXIS: dict[str, Callable[[Tensor, tuple[int, ...]], Tensor]] = {
    "sum": lambda x, dim: x.sum(dim, keepdim=True),
    "mean": lambda x, dim: x.mean(dim, keepdim=True),
    "std": lambda x, dim: _var(x, dim).sqrt(),
    "var": _var,
    "amin": lambda x, dim: x.amin(dim, keepdim=True),
    "amax": lambda x, dim: x.amax(dim, keepdim=True),
    "median": lambda x, dim: _quantile(x, dim, 0.5),
    "rank": _rank,
    "tail": _tail,
}
