"""Reductions over a matrix that is seen one block of rows after another: what a block gives, how two parts are
joined, and what comes of all. Parts are kept in float64, so that blocks cost no digits."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from pzc.compiler.core import Node
from pzc.runtime.scoring.operations import constant, deviations, dims

Part = tuple[Tensor, ...]


def part(node: Node, x: Tensor) -> Part:
    """What one block `x` of float32 `[rows, in]` gives for a reduction over `out` or over both axes."""
    return _OF_BLOCK[node.op](node, x, dims(node))


def join(node: Node, a: Part, b: Part) -> Part:
    """The part of both together."""
    return _JOIN[node.op](a, b)


def finish(node: Node, parts: list[Part]) -> Tensor:
    """The reduction in float32, `[1, in]` or `[1, 1]`, of parts in the order of the rows."""
    return _FINISH[node.op](node, reduce(_JOIN[node.op], parts)).float()


def _size(x: Tensor, dim: tuple[int, ...]) -> Tensor:
    return torch.tensor(float(x.shape[0] if dim == (-2,) else x.numel()), dtype=torch.float64)


def _sum(node: Node, x: Tensor, dim: tuple[int, ...]) -> Part:
    return x.sum(dim, keepdim=True).double(), _size(x, dim)


def _moments(node: Node, x: Tensor, dim: tuple[int, ...]) -> Part:
    """Number, mean, and sum of squared differences from it."""
    mean, squares = deviations(x, dim)
    return _size(x, dim), mean.double(), squares.double()


def _join_moments(a: Part, b: Part) -> Part:
    """Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample variances, 1979."""
    size = a[0] + b[0]
    apart = b[1] - a[1]
    return size, a[1] + apart * (b[0] / size), a[2] + b[2] + apart.square() * (a[0] * b[0] / size)


def _powers(node: Node, x: Tensor, dim: tuple[int, ...]) -> Part:
    p = constant(node)
    return (torch.linalg.vector_norm(x, p, dim=dim, keepdim=True).double() ** p,)


def _add(a: Part, b: Part) -> Part:
    return tuple(x + y for x, y in zip(a, b, strict=True))


_OF_BLOCK: dict[str, Callable[[Node, Tensor, tuple[int, ...]], Part]] = {
    "sum": _sum,
    "mean": _sum,
    "std": _moments,
    "var": _moments,
    "amin": lambda node, x, dim: (x.amin(dim, keepdim=True),),
    "amax": lambda node, x, dim: (x.amax(dim, keepdim=True),),
    "norm": _powers,
}

BY_PARTS: frozenset[str] = frozenset(_OF_BLOCK)
"""The reductions that can be had from blocks; a median cannot."""

_JOIN: dict[str, Callable[[Part, Part], Part]] = {
    "sum": _add,
    "mean": _add,
    "std": _join_moments,
    "var": _join_moments,
    "amin": lambda a, b: (torch.minimum(a[0], b[0]),),
    "amax": lambda a, b: (torch.maximum(a[0], b[0]),),
    "norm": _add,
}

_FINISH: dict[str, Callable[[Node, Part], Tensor]] = {
    "sum": lambda node, p: p[0],
    "mean": lambda node, p: p[0] / p[1],
    "std": lambda node, p: (p[2] / (p[0] - 1)).sqrt(),
    "var": lambda node, p: p[2] / (p[0] - 1),
    "amin": lambda node, p: p[0],
    "amax": lambda node, p: p[0],
    "norm": lambda node, p: p[0] ** (1 / constant(node)),
}
