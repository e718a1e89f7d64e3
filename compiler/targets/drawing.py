"""What a drawing of the core graph shows; `dot` and `mermaid` write it down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pzc.compiler.core import Node, topological, value_of
from pzc.compiler.leaves import AXES, short
from pzc.compiler.metric import Metric
from pzc.compiler.source import number_text

Kind = Literal["leaf", "number", "operation", "score"]

ORDERED = ("sub", "div", "pow", "clamp", "norm", "quantile")
"""Operations whose arguments are told apart, by numbers on the arrows."""


@dataclass(frozen=True)
class Box:
    """A box with its lines of text, and the arrows into it: from which box, and what is written on it."""

    key: str
    kind: Kind
    lines: tuple[str, ...]
    arrows: tuple[tuple[str, str], ...]


def boxes(metric: Metric) -> Iterator[Box]:
    """The boxes of the arms, each node once, arguments before their users; then a box for each score."""
    keys: dict[Node, str] = {}
    for arm in metric.arms:
        for node in topological(arm.core):
            if node not in keys:
                keys[node] = f"n{len(keys)}"
                yield _box(node, keys)
    for i, arm in enumerate(metric.arms):
        layers = (", ".join(arm.layers) or "else",) if metric.roles else ()
        yield Box(f"s{i}", "score", (metric.name, *layers, f"per {arm.per}"), ((keys[arm.core], ""),))


def _box(node: Node, keys: dict[Node, str]) -> Box:
    axes = f"[{', '.join(a for a in AXES if a in node.axes)}]" if node.axes else ""
    if node.op == "number":
        return Box(keys[node], "number", (number_text(value_of(node)),), ())
    if node.op == "leaf":
        return Box(keys[node], "leaf", tuple(filter(None, (short(str(node.value)), axes))), ())
    over = f" over {node.value}" if node.value else ""
    arrows = tuple((keys[a], f"{i}" if node.op in ORDERED else "") for i, a in enumerate(node.args, 1))
    return Box(keys[node], "operation", tuple(filter(None, (node.op + over, axes))), arrows)
