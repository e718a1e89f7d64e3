"""`--per`: a comparison group instead of the metric's own."""

from __future__ import annotations

import click

from pzc.compiler.arm import Arm
from pzc.compiler.metric import Metric
from pzc.compiler.rewriting.rank import ranks_nothing


def arms_per(metric: Metric, per: str | None) -> list[Arm]:
    """The arms of a metric under another comparison group, where one is given.

    Raises UsageError when a score is constant there, as the checker refuses it under a group of its own.
    """
    if per is None:
        return list(metric.arms)
    for arm in metric.arms:
        if ranks_nothing(arm.core, per):
            whose = f" of {', '.join(arm.layers)}" if arm.layers else ""
            message = f"the score{whose} is constant inside its group (per {per}); choose another group with --per"
            raise click.UsageError(message)
    return [Arm(arm.core, per, arm.layers) for arm in metric.arms]
