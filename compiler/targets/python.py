"""A standalone Python module that computes the scores: what torch and numpy sources have in common."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from pzc.compiler.arguments import argument, escaped
from pzc.compiler.arm import Arm
from pzc.compiler.core import Node, leaves_of, topological, value_of
from pzc.compiler.leaves import AXES, LEAVES
from pzc.compiler.metric import Metric
from pzc.compiler.source import number_text


@dataclass(frozen=True)
class Dialect:
    """How a library of arrays writes things.

    `operations` has each core operation as an expression of its arguments `{0}`, `{1}`, `{2}` and the dimension
    `{dim}`; `helpers` the source of functions that an operation needs and the library lacks, with their names as
    `taken`. `number` is a constant; beside an array the operations `plain` take a Python number as well. `matrix` and
    `scalar` bring a leaf to the library's type, `full` an array to the shape of another.
    """

    package: str
    importing: str
    array: str
    kind: str
    operations: Mapping[str, str]
    helpers: Mapping[str, str]
    taken: frozenset[str]
    plain: frozenset[str]
    number: str
    matrix: str
    scalar: str
    full: str
    decorator: str = ""


DIMENSION = {"out": "0", "in": "1", None: "(0, 1)"}
"""The dimension that an axis is, as source."""

_USED = frozenset({"AssertionError", "ARMS", "any", "float", "fnmatchcase", "int", "len", "min", "range", "str"})
"""Names that the source itself reads, so that no function may take them."""

_MODULE = '''"""{title}

Scores of `{name}`: one for each weight of a linear layer; prune the lowest of each {per}.

    {formula}

Where the formula is not defined (ln(0), 0 / 0) a score is NaN or infinite: look for that before pruning.

Written by pzc {version}. It needs {package} and nothing else.
"""
{imports}
{importing}
{parts}'''

_FUNCTION = '''

{decorator}def {name}({signature}) -> {array}:
    """Scores in {kind}, shape [{shape}].

{arguments}
    """
{body}
'''

_BY_ROLE = '''

ARMS = [
{arms}
]
"""Patterns of layer names, the function of the layers that match one, and what its layers are compared by."""


def {name}(layer: str, **leaves: {array} | float) -> {array}:
    """Scores of the layer with this dotted name, by the first arm that takes it; `leaves` are what the arm reads."""
    parts = layer.split(".")
    tails = [".".join(parts[i:]) for i in range(len(parts))]
    for patterns, function, _ in ARMS:
        if not patterns or any(fnmatchcase(tail, pattern) for tail in tails for pattern in patterns):
            return function(**leaves)
    raise AssertionError("the last arm takes every layer")
'''


def function_name(metric: str, dialect: Dialect) -> str:
    """The metric's name as a Python function, with an underscore behind it where Python or the module takes it."""
    return escaped(metric, dialect.taken | _USED)


def emit(metric: Metric, version: str, dialect: Dialect) -> str:
    """The module's source; for a metric by role, a function for each arm and one that picks the layer's."""
    name = function_name(metric.name, dialect)
    nodes = [n for arm in metric.arms for n in topological(arm.core)]
    parts = list(dict.fromkeys(dialect.helpers[n.op] for n in nodes if n.op in dialect.helpers))
    if metric.roles:
        names = [f"{name}_{i}" for i, _ in enumerate(metric.arms, 1)]
        parts += [_function(n, arm.core, dialect) for n, arm in zip(names, metric.arms, strict=True)]
        arms = [f"    ({_patterns(arm)!r}, {n}, {arm.per!r})," for n, arm in zip(names, metric.arms, strict=True)]
        parts.append(_BY_ROLE.format(arms="\n".join(arms), name=name, array=dialect.array))
    else:
        parts.append(_function(name, metric.core, dialect))
    return _MODULE.format(
        title=_in_docstring(metric.doc.split("\n")[0]) or metric.name,
        name=name,
        per="arm's group" if metric.roles else metric.per,
        formula=_in_docstring(metric.formula),
        version=version,
        package=dialect.package,
        imports="\nfrom fnmatch import fnmatchcase\n" if metric.roles else "",
        importing=dialect.importing,
        parts="".join(parts),
    )


def _in_docstring(text: str) -> str:
    """The text with escapes for what would end a docstring, and for control characters."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in escaped)


def _patterns(arm: Arm) -> tuple[str, ...]:
    """The arm's patterns as `fnmatch` reads them, to which a bracket is no plain character."""
    return tuple(p.replace("[", "[[]") for p in arm.layers)


def _function(name: str, core: Node, dialect: Dialect) -> str:
    """A function that computes one score."""
    lines: list[str] = []
    names: dict[Node, str] = {}
    read = leaves_of(core)
    leaves = [n for n in LEAVES if n in read]
    arguments = {argument(n) for n in leaves}
    free = (name for name in map("t{}".format, itertools.count(1)) if name not in arguments)
    for node in topological(core):
        if node.op == "number":
            names[node] = dialect.number.format(value_of(node))
        elif node.op == "leaf":
            names[node] = argument(str(node.value))
        else:
            names[node] = next(free)
            lines.append(f"    {names[node]} = {_operation(node, names, dialect)}")
    shape_from = [argument(n) for n in leaves if LEAVES[n].axes == ("out", "in")]
    full = dialect.full.format(names[core], shape_from[0]) if shape_from else names[core]
    return _FUNCTION.format(
        name=name,
        array=dialect.array,
        kind=dialect.kind,
        decorator=dialect.decorator,
        shape="out, in" if shape_from else ", ".join(a if a in core.axes else "1" for a in AXES),
        signature=", ".join(f"{argument(n)}: {dialect.array if LEAVES[n].axes else 'float'}" for n in leaves),
        arguments="\n".join(f"    {argument(n)}: {_axes(n)}{_in_docstring(LEAVES[n].doc)}" for n in leaves),
        body="\n".join([*(_align(n, dialect) for n in leaves), *lines, f"    return {full}"]),
    )


def _axes(leaf: str) -> str:
    return f"[{', '.join(LEAVES[leaf].axes)}] " if LEAVES[leaf].axes else ""


def _align(leaf: str, dialect: Dialect) -> str:
    """A line that brings a leaf to the module's type and two dimensions."""
    axes = LEAVES[leaf].axes
    shape = ".reshape(1, -1)" if axes == ("in",) else ".reshape(-1, 1)" if axes == ("out",) else ""
    return f"    {argument(leaf)} = {(dialect.matrix if axes else dialect.scalar).format(argument(leaf))}{shape}"


def _operation(node: Node, names: dict[Node, str], dialect: Dialect) -> str:
    args = [names[a] for a in node.args]
    if node.op in dialect.plain and any(a.op != "number" for a in node.args):  # at least one side is always an array
        args = [_bare(a, names) for a in node.args]
    over = DIMENSION.get(node.value)
    return dialect.operations[node.op].format(*args, dim=over)


def _bare(node: Node, names: dict[Node, str]) -> str:
    if node.op != "number":
        return names[node]
    value = value_of(node)
    return f"({number_text(value)})" if value < 0 else number_text(value)
