"""A tree of Pruner-Zero's release that ranks as the metric does."""

from __future__ import annotations

import json

from pzc.compiler.metric import Metric
from pzc.compiler.paper.export import export_paper_tree


def emit(metric: Metric, version: str) -> str:
    """The tree as a line of JSON, which has no place for a version. Raises TreeError where no tree says the metric."""
    return json.dumps(export_paper_tree(metric)) + "\n"
