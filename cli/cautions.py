"""What the checker warns of in a user's metrics, said before a command begins what takes long."""

from __future__ import annotations

from collections.abc import Iterable

from pzc.cli.console import warn
from pzc.compiler.findings import findings
from pzc.compiler.load import zoo
from pzc.compiler.metric import Metric
from pzc.grammar.diagnostics import CODES


def caution(metrics: Iterable[Metric]) -> None:
    """Print the warnings of metrics that are not the zoo's, a line each."""
    known = set(zoo().values())
    for metric in metrics:
        if metric in known:
            continue
        found = (f for arm in metric.arms for f in findings(arm.core, arm.per))
        for message in dict.fromkeys(f"{f.message}: {f.label}" for f in found if CODES[f.code][0] == "warning"):
            warn(f"{metric.name}: {message}")
