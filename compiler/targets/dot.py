"""A drawing of the core graph for Graphviz: `dot -Tsvg wanda.dot -o wanda.svg`."""

from __future__ import annotations

from pzc.compiler.metric import Metric
from pzc.compiler.targets.drawing import Box, Kind, boxes

STYLES: dict[Kind, str] = {
    "leaf": 'shape=box, style="rounded,filled", fillcolor="#cfe8f3"',
    "number": "shape=plaintext",
    "operation": "shape=box",
    "score": 'shape=box, style="bold,filled", fillcolor="#fdebc8"',
}


def emit(metric: Metric, version: str) -> str:
    """The graph in the DOT language, from the leaves up to the score."""
    lines = [line for box in boxes(metric) for line in _written(box)]
    head = [f"// {metric.name}, written by pzc {version}", "digraph metric {", "    rankdir=BT", "    ordering=in"]
    return "\n".join([*head, '    node [fontname="sans-serif"]', '    edge [fontname="sans-serif"]', *lines, "}", ""])


def _written(box: Box) -> list[str]:
    label = "\\n".join(_escaped(line) for line in box.lines)
    arrows = [f"    {start} -> {box.key}" + (f' [label="{text}"]' if text else "") for start, text in box.arrows]
    return [f'    {box.key} [label="{label}", {STYLES[box.kind]}]', *arrows]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;").replace("\0", "␀")
