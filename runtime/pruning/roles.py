"""Arms of a metric by role that no layer of a model gets: most likely a misspelt name."""

from __future__ import annotations

from collections.abc import Sequence

from pzc.compiler.metric import Metric
from pzc.grammar.diagnostics import did_you_mean
from pzc.runtime.models.layers import Layer


def idle_roles(metric: Metric, layers: Sequence[Layer]) -> list[str]:
    """A sentence for each arm but the last that takes none of these layers."""
    taken = {metric.arm(layer.name) for layer in layers}
    known = sorted({layer.name.rsplit(".", 1)[-1] for layer in layers})
    sentences = []
    for arm in metric.roles:
        if arm not in taken:
            hints = (did_you_mean(pattern, known) for pattern in arm.layers)
            hint = next((f"; {h}" for h in hints if h), "")
            sentences.append(f"`{metric.name}`: no layer for {', '.join(f'`{x}`' for x in arm.layers)}{hint}")
    return sentences
