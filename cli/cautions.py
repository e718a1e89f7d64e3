"""What a user should know of metrics and targets: what the checker warns of, said before a command begins what takes
long, and shares that groups of whole weights can't have.
"""

from __future__ import annotations

from collections.abc import Iterable

from pzc.cli.console import warn
from pzc.compiler.language.findings import findings
from pzc.compiler.load import zoo
from pzc.compiler.metric import Metric
from pzc.grammar.diagnostics import CODES

NOTABLE = 0.002
"""By how much a pruned share must differ from another to say so."""


def whole_weights(asked: float, found: str) -> str:
    """Why a share of `found` was pruned where another was asked for."""
    return (
        f"{100 * asked:.4g}% asked for, {found} pruned: of every group as many whole weights go as fit into its share"
    )


def caution(metrics: Iterable[Metric]) -> None:
    """Print the warnings of metrics that are not the zoo's, a line each."""
    known = set(zoo().values())
    for metric in metrics:
        if metric in known:
            continue
        found = (f for arm in metric.arms for f in findings(arm.core, arm.per))
        for message in dict.fromkeys(f"{f.message}: {f.label}" for f in found if CODES[f.code][0] == "warning"):
            warn(f"{metric.name}: {message}")
