"""A standalone torch module: readable source that computes the scores and does not import pzc."""

from __future__ import annotations

import keyword

from pzc.compiler.core import Node, topological
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
    "norm": "({0}.abs() ** {1}).sum({dim}, keepdim=True) ** (1 / {1})",
}
"""Each core operation as a line of torch."""

_HEADER = '''"""{title}

Scores of `{name}`: one for each weight of a linear layer; prune the lowest of each {per}.

    {formula}

Where the formula is not defined (ln(0), 0 / 0) a score is NaN or infinite: look for that before pruning.

Written by pzc {version}. It needs torch and nothing else.
"""

import torch


def {name}({signature}) -> torch.Tensor:
    """Scores in float32, shape [{shape}].

{arguments}
    """
'''


def function_name(metric: str) -> str:
    """The metric's name as a Python function, with an underscore behind it where Python or torch takes the name."""
    return f"{metric}_" if keyword.iskeyword(metric) or metric in ("torch", "__debug__") else metric


def _in_docstring(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def argument(leaf: str) -> str:
    """A leaf's name as a Python argument: `X` for `X.l2`, `X_mean` for `X.mean`."""
    return leaf.removesuffix(".l2").replace(".", "_")


def emit(metric: Metric, version: str) -> str:
    """The module's source."""
    lines: list[str] = []
    names: dict[Node, str] = {}
    for node in topological(metric.core):
        if node.op == "number":
            names[node] = f"torch.tensor({float(node.value or 0.0)!r})"
        elif node.op == "leaf":
            names[node] = argument(str(node.value))
        else:
            names[node] = f"t{len(lines) + 1}"
            lines.append(f"    {names[node]} = {_operation(node, names)}")
    leaves = [n for n in LEAVES if n in metric.leaves]
    shape_from = [argument(n) for n in leaves if LEAVES[n].axes == ("out", "in")]
    full = f"torch.broadcast_to({names[metric.core]}, {shape_from[0]}.shape)" if shape_from else names[metric.core]
    header = _HEADER.format(
        title=_in_docstring(metric.doc.split("\n")[0]) or metric.name,
        name=function_name(metric.name),
        per=metric.per,
        formula=metric.formula,
        version=version,
        shape="out, in" if shape_from else ", ".join(a if a in metric.core.axes else "1" for a in AXES),
        signature=", ".join(f"{argument(n)}: {'torch.Tensor' if LEAVES[n].axes else 'float'}" for n in leaves),
        arguments="\n".join(f"    {argument(n)}: {_axes(n)}{LEAVES[n].doc}" for n in leaves),
    )
    return header + "\n".join([*map(_align, leaves), *lines, f"    return {full}"]) + "\n"


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
    infix = node.op in ("neg", "add", "sub", "mul", "div", "pow", "norm")
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
