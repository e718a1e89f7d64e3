"""A standalone torch module: readable source that computes the scores and does not import pzc."""

from __future__ import annotations

import keyword

from pzc.compiler.arm import Arm
from pzc.compiler.core import Node, leaves_of, topological
from pzc.compiler.leaves import AXES, LEAVES
from pzc.compiler.metric import Metric
from pzc.compiler.source import number_text

_DIMENSION = {"out": "0", "in": "1", None: "(0, 1)"}

_TEMPLATES = {
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
    "norm": "({0}.abs() ** {1}).sum({dim}, keepdim=True) ** (1 / {1})",
}
"""Each core operation as a line of torch."""

_QUANTILE = '''

def quantile(x: torch.Tensor, q: float, dim: int | tuple[int, int]) -> torch.Tensor:
    """The q-quantile over `dim`, linear between neighbours; `torch.quantile` takes few values and one dimension."""
    rows = x.reshape(1, -1) if dim == (0, 1) else x if dim == 1 else x.T
    at = q * (rows.shape[1] - 1)
    below = rows.kthvalue(int(at) + 1, dim=1).values
    above = rows.kthvalue(min(int(at) + 2, rows.shape[1]), dim=1).values
    value = torch.where(rows.isnan().any(1), torch.nan, torch.lerp(below, above, at - int(at)))
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

_HELPERS = {"median": _QUANTILE, "quantile": _QUANTILE, "rank": _RANK}
"""Functions that torch lacks, written into the modules that use them."""

_MODULE = '''"""{title}

Scores of `{name}`: one for each weight of a linear layer; prune the lowest of each {per}.

    {formula}

Where the formula is not defined (ln(0), 0 / 0) a score is NaN or infinite: look for that before pruning.

Written by pzc {version}. It needs torch and nothing else.
"""
{imports}
import torch
{parts}'''

_FUNCTION = '''

def {name}({signature}) -> torch.Tensor:
    """Scores in float32, shape [{shape}].

{arguments}
    """
{body}
'''

_BY_ROLE = '''

ARMS = [
{arms}
]
"""Patterns of layer names, the function of the layers that match one, and what its layers are compared by."""


def {name}(layer: str, **leaves: torch.Tensor | float) -> torch.Tensor:
    """Scores of the layer with this dotted name, by the first arm that takes it; `leaves` are what the arm reads."""
    parts = layer.split(".")
    tails = [".".join(parts[i:]) for i in range(len(parts))]
    for patterns, function, _ in ARMS:
        if not patterns or any(fnmatchcase(tail, pattern) for tail in tails for pattern in patterns):
            return function(**leaves)
    raise AssertionError("the last arm takes every layer")
'''


def function_name(metric: str) -> str:
    """The metric's name as a Python function, with an underscore behind it where Python or torch takes the name."""
    return f"{metric}_" if keyword.iskeyword(metric) or metric in ("torch", "__debug__", "quantile", "rank") else metric


def _in_docstring(text: str) -> str:
    """The text with escapes for what would end a docstring, and for NUL, which no Python source may hold."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\0", "\\0")


def argument(leaf: str) -> str:
    """A leaf's name as a Python argument: `X` for `X.l2`, `X_mean` for `X.mean`."""
    return leaf.removesuffix(".l2").replace(".", "_")


def emit(metric: Metric, version: str) -> str:
    """The module's source; for a metric by role, a function for each arm and one that picks the layer's."""
    name = function_name(metric.name)
    nodes = [n for arm in metric.arms for n in topological(arm.core)]
    parts = list(dict.fromkeys(_HELPERS[n.op] for n in nodes if n.op in _HELPERS))
    if metric.roles:
        names = [f"{name}_{i}" for i, _ in enumerate(metric.arms, 1)]
        parts += [_function(n, arm.core) for n, arm in zip(names, metric.arms, strict=True)]
        arms = [f"    ({_patterns(arm)!r}, {n}, {arm.per!r})," for n, arm in zip(names, metric.arms, strict=True)]
        parts.append(_BY_ROLE.format(arms="\n".join(arms), name=name))
    else:
        parts.append(_function(name, metric.core))
    return _MODULE.format(
        title=_in_docstring(metric.doc.split("\n")[0]) or metric.name,
        name=name,
        per="arm's group" if metric.roles else metric.per,
        formula=_in_docstring(metric.formula),
        version=version,
        imports="\nfrom fnmatch import fnmatchcase\n" if metric.roles else "",
        parts="".join(parts),
    )


def _patterns(arm: Arm) -> tuple[str, ...]:
    """The arm's patterns as `fnmatch` reads them, to which a bracket is no plain character."""
    return tuple(p.replace("[", "[[]") for p in arm.layers)


def _function(name: str, core: Node) -> str:
    """A function that computes one score."""
    lines: list[str] = []
    names: dict[Node, str] = {}
    for node in topological(core):
        if node.op == "number":
            names[node] = f"torch.tensor({float(node.value or 0.0)!r})"
        elif node.op == "leaf":
            names[node] = argument(str(node.value))
        else:
            names[node] = f"t{len(lines) + 1}"
            lines.append(f"    {names[node]} = {_operation(node, names)}")
    read = leaves_of(core)
    leaves = [n for n in LEAVES if n in read]
    shape_from = [argument(n) for n in leaves if LEAVES[n].axes == ("out", "in")]
    full = f"torch.broadcast_to({names[core]}, {shape_from[0]}.shape)" if shape_from else names[core]
    return _FUNCTION.format(
        name=name,
        shape="out, in" if shape_from else ", ".join(a if a in core.axes else "1" for a in AXES),
        signature=", ".join(f"{argument(n)}: {'torch.Tensor' if LEAVES[n].axes else 'float'}" for n in leaves),
        arguments="\n".join(f"    {argument(n)}: {_axes(n)}{LEAVES[n].doc}" for n in leaves),
        body="\n".join([*map(_align, leaves), *lines, f"    return {full}"]),
    )


def _axes(leaf: str) -> str:
    return f"[{', '.join(LEAVES[leaf].axes)}] " if LEAVES[leaf].axes else ""


def _align(leaf: str) -> str:
    """A line that brings a leaf to float32 and two dimensions."""
    name = argument(leaf)
    axes = LEAVES[leaf].axes
    if not axes:
        return f"    {name} = torch.as_tensor({name}, dtype=torch.float32)"
    shape = ".reshape(1, -1)" if axes == ("in",) else ".reshape(-1, 1)" if axes == ("out",) else ""
    return f"    {name} = {name}.to(torch.float32){shape}"


def _operation(node: Node, names: dict[Node, str]) -> str:
    args = [names[a] for a in node.args]
    infix = node.op in ("neg", "add", "sub", "mul", "div", "pow", "norm", "quantile")
    if infix:  # numbers stay Python numbers beside an operator; at least one side is always a tensor
        tensors = [a for a in node.args if a.op != "number"]
        if tensors:
            args = [_bare(a, names) for a in node.args]
    return _TEMPLATES[node.op].format(*args, dim=_DIMENSION.get(node.value if node.op != "number" else None))  # type: ignore[arg-type]


def _bare(node: Node, names: dict[Node, str]) -> str:
    if node.op != "number":
        return names[node]
    value = float(node.value or 0.0)
    return f"({number_text(value)})" if value < 0 else number_text(value)
