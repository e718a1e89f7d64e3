"""The core graph as a `pzm-ir/1` document (docs/pzm-ir.md)."""

from __future__ import annotations

from pzc.compiler import ir
from pzc.compiler.metric import Metric


def emit(metric: Metric, version: str) -> str:
    """The document, which says nothing of the version that wrote it: a metric has one text."""
    return ir.emit(metric)
