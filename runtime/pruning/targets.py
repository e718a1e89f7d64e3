"""What a target means for a metric and its layers: which group each layer is compared in, and whether that can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from pzc.compiler.arm import Arm
from pzc.compiler.metric import Metric
from pzc.compiler.pattern import pattern_text
from pzc.compiler.rewriting.rank import ranks_nothing
from pzc.runtime.errors import ConstantScore, PruningError
from pzc.runtime.models.layers import Layer
from pzc.runtime.scoring.masks import Target

Targets: TypeAlias = Target | Mapping[str, Target | None]
"""One target for all layers, or one for each by name, None for a layer that stays dense."""


def target_of(targets: Targets, layer: str) -> Target | None:
    """The target of a layer by its name."""
    return targets if isinstance(targets, Target) else targets[layer]


def shares_of(targets: Targets) -> dict[str, float]:
    """The share that each layer is to lose, where layers differ."""
    if isinstance(targets, Target):
        return {}
    return {name: target.share if target else 0.0 for name, target in targets.items()}


def group_of(arm: Arm, target: Target) -> str:
    """The comparison group of the layers of an arm, unless a pattern replaces it."""
    return target.per or arm.per


def check_target(metric: Metric, target: Target, layers: Sequence[Layer] = ()) -> None:
    """Raise ConstantScore when a score is constant inside every group, PruningError when a pattern fits no layer."""
    check_pattern(target, layers)
    for arm in metric.arms:
        group = "row" if target.pattern else group_of(arm, target)
        if ranks_nothing(arm.core, group):
            compared = pattern_text(target.pattern) if target.pattern else f"per {group}"
            whose = f" of {', '.join(arm.layers)}" if arm.layers else ""
            raise ConstantScore(
                f"the score{whose} is constant inside its group ({compared}), so what is pruned would be arbitrary",
                hint=None if target.pattern else "choose another group with --per",
            )


def check_sequential(metric: Metric, target: Target) -> None:
    """Raise PruningError when layers of several blocks are compared with each other."""
    if not target.pattern and any(group_of(arm, target) == "model" for arm in metric.arms):
        raise PruningError(
            "one group for the whole model cannot be pruned block by block",
            hint="use --one-shot, or another group with --per",
        )


def check_pattern(target: Target, layers: Sequence[Layer]) -> None:
    """Raise PruningError when a pattern does not fit a layer."""
    for layer in layers:
        if target.pattern and layer.shape[1] % target.pattern[1]:
            m = target.pattern[1]
            raise PruningError(
                f"{pattern_text(target.pattern)} needs a multiple of {m} inputs, but {layer.name} has {layer.shape[1]}",
                layer=layer.name,
            )
