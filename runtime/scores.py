"""Scores of a layer's weights: a core graph evaluated by torch, in float32 whatever the weights' type.

Every value keeps two dimensions, `[out, in]`, `[1, in]`, `[out, 1]` or `[1, 1]`, so that torch's broadcasting
combines values by the names of their axes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pzc.compiler.core import Node, topological
from pzc.compiler.functions import REDUCING
from pzc.compiler.leaves import AXES, LEAVES
from pzc.runtime.errors import NonFiniteScore, PruningError

Shape = tuple[int, int]


def score(core: Node, leaves: Mapping[str, Any], shape: Shape) -> Tensor:
    """Evaluate a metric on one layer of `shape` `(out, in)`.

    `leaves` holds a tensor, array or number for each leaf that `core` reads, by its full name; a leaf with
    the axis `in` may be `[in]` or `[1, in]`. Returns float32 `[out, in]`; a score of fewer axes is a
    broadcast view. What mathematics leaves undefined comes out as NaN or infinity: see `check_finite`. Raises
    PruningError for a leaf that is missing or has the wrong size.
    """
    return _evaluate(core, leaves, shape, None).expand(shape)


def check_finite(core: Node, leaves: Mapping[str, Any], scores: Tensor, layer: str) -> None:
    """Raise NonFiniteScore if any of `scores` `[out, in]` is infinite or NaN.

    The message names the layer, the share of bad positions, and the first sub-expression, arguments before
    their users, that is not finite.
    """
    if is_finite(scores):
        return
    first: list[Node] = []

    def look(node: Node, value: Tensor) -> None:
        if not first and not is_finite(value):
            first.append(node)

    _evaluate(core, leaves, (scores.shape[0], scores.shape[1]), look)
    share = 1.0 - int(torch.count_nonzero(torch.isfinite(scores))) / scores.numel()
    text = written(first[0] if first else core)
    raise NonFiniteScore(
        f"the score is not finite at {share:.3%} of the weights of {layer}: `{text}` gave infinity or NaN",
        hint="keep logarithms, roots and divisors away from zero, for example `x + 1e-8`",
        layer=layer,
        share=share,
        expression=text,
    )


def is_finite(values: Tensor) -> bool:
    """Whether no value is infinite or NaN. A finite sum proves it in one sweep; but a sum can overflow."""
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


def written(node: Node) -> str:
    """A node as source text."""
    from pzc.compiler.source import expression

    return expression(node)


def _evaluate(
    core: Node, leaves: Mapping[str, Any], shape: Shape, visit: Callable[[Node, Tensor], None] | None
) -> Tensor:
    """Evaluate each node once, arguments first. A buffer whose value is not needed any more is used again:
    fresh memory for every intermediate would cost more than the arithmetic."""
    order = topological(core)
    uses = Counter(arg for node in order for arg in node.args)
    uses[core] += 1
    values: dict[Node, Tensor] = {}
    free: list[Tensor] = []
    device = _device(leaves)
    with torch.no_grad():
        for node in order:
            if node.op == "number":
                values[node] = torch.full((1, 1), float(node.value or 0.0), device=device)
            elif node.op == "leaf":
                values[node] = _leaf(str(node.value), leaves, shape, device)
            else:
                args = [values[arg] for arg in node.args]
                for arg in node.args:
                    uses[arg] -= 1
                    if uses[arg] == 0 and arg.op not in ("leaf", "number"):
                        if values[arg].shape == shape:
                            free.append(values[arg])
                        del values[arg]
                values[node] = _apply(node, args, shape, free)
            if visit is not None:
                visit(node, values[node])
    return values[core]


def _apply(node: Node, args: list[Tensor], shape: Shape, free: list[Tensor]) -> Tensor:
    """The value of one operation; it may be written over a buffer of `free`, even over its own argument."""
    if node.op in REDUCING or node.op == "rank":
        return _over_axis(node, args[0])
    if node.op == "sign":  # torch.sign(nan) is 0, which would hide an error
        return torch.where(torch.isnan(args[0]), args[0], torch.sign(args[0]))
    function = _ELEMENTWISE[node.op]
    rest: list[Tensor | float] = list(args)
    if node.op == "pow" and node.args[1].op == "number":
        rest[1] = float(node.args[1].value or 0.0)  # torch has faster and exact ways for 2, 0.5, −1
    out = free.pop() if free and node.axes == {"out", "in"} else None
    return function(*rest, out=out)


def _over_axis(node: Node, x: Tensor) -> Tensor:
    dim: tuple[int, ...] = {"in": (1,), "out": (0,)}.get(str(node.value), (0, 1))
    if node.op == "norm":
        norm: Tensor = torch.linalg.vector_norm(x, float(node.args[1].value or 0.0), dim=dim, keepdim=True)
        return norm
    if node.op == "quantile":
        return _quantile(x, dim, float(node.args[1].value or 0.0))
    return _OVER_AXIS[node.op](x, dim)


def _joined(x: Tensor, dim: tuple[int, ...]) -> Tensor:
    """The values over which a function goes, in the last dimension: `[groups, members]`."""
    return x.reshape(1, -1) if len(dim) == 2 else x if dim == (1,) else x.T


def _quantile(x: Tensor, dim: tuple[int, ...], q: float) -> Tensor:
    """Linear between neighbours. `torch.quantile` takes 16 million values at most; two selections take any number."""
    rows = _joined(x, dim)
    at = q * (rows.shape[1] - 1)
    low = min(int(at), rows.shape[1] - 1)
    high = min(low + 1, rows.shape[1] - 1)
    below = rows.kthvalue(low + 1, dim=1).values
    above = rows.kthvalue(high + 1, dim=1).values
    value = torch.lerp(below, above, at - low)
    value = torch.where(rows.isnan().any(1), torch.nan, value)
    return value.reshape([1 if i in dim else n for i, n in enumerate(x.shape)])


def _rank(x: Tensor, dim: tuple[int, ...]) -> Tensor:
    rows = _joined(x, dim).contiguous()
    smaller = torch.searchsorted(rows.sort(dim=1).values, rows).float()
    smaller = torch.where(rows.isnan().any(1, keepdim=True), torch.nan, smaller)
    return smaller.reshape(x.shape) if dim != (0,) else smaller.T


def _leaf(name: str, leaves: Mapping[str, Any], shape: Shape, device: torch.device) -> Tensor:
    if name not in leaves:
        raise PruningError(f"this metric reads `{name}`, which is not given", leaf=name)
    value = torch.as_tensor(leaves[name]).detach().to(device, torch.float32)
    axes = LEAVES[name].axes
    wanted = (shape[0] if "out" in axes else 1, shape[1] if "in" in axes else 1)
    if value.shape == wanted:
        return value
    if value.numel() != wanted[0] * wanted[1] or value.ndim > 1:
        raise PruningError(
            f"`{name}` has shape {list(value.shape)}, but this layer needs {[shape[AXES.index(a)] for a in axes]}",
            leaf=name,
            shape=wanted,
        )
    return value.reshape(wanted)


def _device(leaves: Mapping[str, Any]) -> torch.device:
    devices = (value.device for value in leaves.values() if isinstance(value, Tensor) and value.ndim)
    return next(devices, torch.device("cpu"))


_ELEMENTWISE: dict[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "pow": torch.pow,
    "neg": torch.neg,
    "abs": torch.abs,
    "sqr": torch.square,
    "sqrt": torch.sqrt,
    "exp": torch.exp,
    "ln": torch.log,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "min": torch.minimum,
    "max": torch.maximum,
    "clamp": lambda x, low, high, out: torch.minimum(torch.maximum(x, low), high, out=out),
}

_OVER_AXIS: dict[str, Callable[[Tensor, tuple[int, ...]], Tensor]] = {
    "sum": lambda x, dim: x.sum(dim, keepdim=True),
    "mean": lambda x, dim: x.mean(dim, keepdim=True),
    "std": lambda x, dim: x.std(dim, correction=1, keepdim=True),
    "var": lambda x, dim: x.var(dim, correction=1, keepdim=True),
    "amin": lambda x, dim: x.amin(dim, keepdim=True),
    "amax": lambda x, dim: x.amax(dim, keepdim=True),
    "median": lambda x, dim: _quantile(x, dim, 0.5),
    "rank": _rank,
}
