"""A drawing of the core graph as a Mermaid flowchart: for a Markdown page, in a code block of the language mermaid."""

from __future__ import annotations

from pzc.compiler.metric import Metric
from pzc.compiler.targets.drawing import Box, Kind, boxes

SHAPES: dict[Kind, tuple[str, str]] = {
    "leaf": ("([", "])"),
    "number": ("((", "))"),
    "operation": ("[", "]"),
    "score": ("[[", "]]"),
}


def emit(metric: Metric, version: str) -> str:
    """The flowchart, from the leaves up to the score."""
    lines = [line for box in boxes(metric) for line in _written(box)]
    return "\n".join([f"%% {metric.name}, written by pzc {version}", "flowchart BT", *lines, ""])


def _written(box: Box) -> list[str]:
    left, right = SHAPES[box.kind]
    label = "<br>".join(_escaped(line) for line in box.lines)
    arrows = [f"    {start} --{f'>|{text}|' if text else '>'} {box.key}" for start, text in box.arrows]
    return [f'    {box.key}{left}"{label}"{right}', *arrows]


def _escaped(text: str) -> str:
    """The text with the characters that Mermaid, Markdown or HTML read as their own, as numbers."""
    return "".join(c if c.isalnum() or c in " ._,[]-" else f"#{ord(c)};" for c in text)
