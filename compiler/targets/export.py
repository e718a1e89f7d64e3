"""A `torch.export` program: saved as `.pt2`, it is loaded and run by torch alone, for layers of any size.

    scores = torch.export.load("wanda.pt2").module()
    scores(W=weight, X=norms)                           # float32 [out, in] and [in] to float32 [out, in]

The score is first a graph of `torch.fx`, node by node that of the metric, which the exporter then looks through.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import torch
from torch import Tensor

from pzc.compiler.arguments import argument
from pzc.compiler.arm import Arm
from pzc.compiler.core import Node, leaves_of, topological, value_of
from pzc.compiler.leaves import LEAVES
from pzc.compiler.metric import Metric
from pzc.compiler.targets.table import about

Dims = tuple[int, ...]

DIMENSIONS: dict[str | None, Dims] = {"out": (0,), "in": (1,), None: (0, 1)}
"""The dimensions that an axis is."""


def emit(metric: Metric, arm: Arm, version: str) -> bytes:
    """The program of one arm as the bytes of a `.pt2` file; its extra file `pzc.json` says what it computes."""
    buffer = io.BytesIO()
    torch.export.save(program(arm.core), buffer, extra_files={"pzc.json": json.dumps(about(metric, arm, version))})
    return buffer.getvalue()


def program(core: Node) -> torch.export.ExportedProgram:
    """The score as a program with the leaves as named float32 inputs and dynamic sizes of both axes."""
    sizes = {"out": torch.export.Dim("out", min=1), "in": torch.export.Dim("in", min=1)}
    example = {"out": 3, "in": 5}
    leaves = {argument(n): LEAVES[n].axes for n in LEAVES if n in leaves_of(core)}
    inputs = {name: torch.ones([example[a] for a in axes]) for name, axes in leaves.items()}
    dynamic = {name: {i: sizes[a] for i, a in enumerate(axes)} for name, axes in leaves.items()}
    return torch.export.export(_module(core), (), inputs, dynamic_shapes=dynamic)


def _module(core: Node) -> torch.fx.GraphModule:
    """The score as a module. Its value has the shape of a leaf with both axes where there is one; every value keeps
    two dimensions, so that broadcasting joins axes by name."""
    graph = torch.fx.Graph()
    inputs = {n: graph.placeholder(argument(n)) for n in LEAVES if n in leaves_of(core)}
    values: dict[Node, torch.fx.Node] = {}
    for node in topological(core):
        if node.op == "number":
            values[node] = graph.call_function(torch.full, ((1, 1), value_of(node)))
        elif node.op == "leaf":
            shape = _SHAPES.get(LEAVES[str(node.value)].axes)
            x = inputs[str(node.value)]
            values[node] = graph.call_function(torch.reshape, (x, shape)) if shape else x
        elif node.op in _ELEMENTWISE:
            values[node] = graph.call_function(_ELEMENTWISE[node.op], tuple(values[a] for a in node.args))
        else:
            constants = [value_of(a) for a in node.args[1:]]
            over = DIMENSIONS[node.value]
            values[node] = graph.call_function(_OVER_AXIS[node.op], (values[node.args[0]], *constants, over))
    matrix = next((x for n, x in inputs.items() if len(LEAVES[n].axes) == 2), values[core])
    whole = graph.call_function(getattr, (matrix, "shape"))
    graph.output(graph.call_function(torch.broadcast_to, (values[core], whole)))
    return torch.fx.GraphModule(torch.nn.Module(), graph)


_SHAPES = {("in",): (1, -1), ("out",): (-1, 1), (): (1, 1)}
"""How a leaf of these axes gets two dimensions."""


def _groups(x: Tensor, dims: Dims) -> Tensor:
    """The values over which a function goes, in the last dimension: `[groups, members]`."""
    return x.reshape(1, -1) if len(dims) == 2 else x if dims == (1,) else x.T


def _quantile(x: Tensor, q: float, dims: Dims) -> Tensor:
    """Linear between neighbours. The places are tensors, since their number is not known before it runs."""
    rows = _groups(x, dims)
    last = rows.shape[1] - 1
    at = torch.full((1,), q, dtype=torch.float64) * last
    below = at.floor()
    ordered = rows.sort(dim=1).values
    low = ordered.index_select(1, below.long())
    high = ordered.index_select(1, (below.long() + 1).clamp(max=last))
    part = at - below
    between = (1 - part).float() * low + part.float() * high
    value = torch.where((part == 0) | (low == high), low, between)  # either may be infinite
    value = torch.where(rows.isnan().any(1, keepdim=True), torch.nan, value)
    return value.T if dims == (0,) else value


def _variance(x: Tensor, dims: Dims) -> Tensor:
    """Divisor n − 1; NaN for a single value, of which `torch.var` would warn wherever the program runs."""
    mean = x.mean(dims, keepdim=True)
    return (x - mean).square().sum(dims, keepdim=True) / (x.numel() // mean.numel() - 1)


def _rank(x: Tensor, dims: Dims) -> Tensor:
    rows = _groups(x, dims).contiguous()
    smaller = torch.searchsorted(rows.sort(dim=1).values, rows).float()
    smaller = torch.where(rows.isnan().any(1, keepdim=True), torch.nan, smaller)
    return smaller.T if dims == (0,) else smaller.reshape(x.shape)


def _tail(x: Tensor, dims: Dims) -> Tensor:
    """Sums of what is sorted, from the largest on. A NaN is the largest, so it is in all of them."""
    rows = _groups(x, dims).contiguous()
    ordered = rows.sort(dim=1).values
    smaller = torch.searchsorted(ordered, rows).clamp(max=rows.shape[1] - 1)
    found = ordered.flip(1).cumsum(1).flip(1).gather(1, smaller)
    return found.T if dims == (0,) else found.reshape(x.shape)


_ELEMENTWISE: dict[str, Callable[..., Tensor]] = {
    "neg": torch.neg,
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "pow": torch.pow,
    "abs": torch.abs,
    "sqr": torch.square,
    "sqrt": torch.sqrt,
    "exp": torch.exp,
    "ln": torch.log,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "sign": lambda x: torch.where(x.isnan(), x, x.sign()),
    "min": torch.minimum,
    "max": torch.maximum,
    "clamp": lambda x, low, high: torch.minimum(torch.maximum(x, low), high),
}

_OVER_AXIS: dict[str, Callable[..., Tensor]] = {
    "sum": lambda x, dims: x.sum(dims, keepdim=True),
    "mean": lambda x, dims: x.mean(dims, keepdim=True),
    "std": lambda x, dims: _variance(x, dims).sqrt(),
    "var": _variance,
    "amin": lambda x, dims: x.amin(dims, keepdim=True),
    "amax": lambda x, dims: x.amax(dims, keepdim=True),
    "norm": lambda x, p, dims: (x.abs() ** p).sum(dims, keepdim=True) ** (1 / p),
    "median": lambda x, dims: _quantile(x, 0.5, dims),
    "quantile": _quantile,
    "rank": _rank,
    "tail": _tail,
}
