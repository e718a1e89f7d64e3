"""`pzm-ir/1`: the core graph as canonical JSON, for any other program to read."""

from __future__ import annotations

import json
from typing import Any

from pzc.compiler.core import Node, topological
from pzc.compiler.metric import Metric

FORMAT = "pzm-ir/1"


def graph(root: Node) -> list[dict[str, Any]]:
    """The nodes in topological order, arguments as indices into the list; the last node is the score."""
    index: dict[Node, int] = {}
    rows: list[dict[str, Any]] = []
    for node in topological(root):
        index[node] = len(rows)
        row: dict[str, Any] = {"op": node.op, "axes": [a for a in ("out", "in") if a in node.axes]}
        if node.op in ("number", "leaf"):
            row[{"number": "value", "leaf": "name"}[node.op]] = node.value
        else:
            row["args"] = [index[a] for a in node.args]
            if node.value is not None:
                row["axis"] = node.value
        rows.append(row)
    return rows


def emit(metric: Metric) -> str:
    """The metric as one JSON object with sorted keys and shortest round-trip numbers, one line."""
    content = {
        "format": FORMAT,
        "name": metric.name,
        "per": metric.per,
        "leaves": sorted(metric.leaves),
        "nodes": graph(metric.core),
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n"
