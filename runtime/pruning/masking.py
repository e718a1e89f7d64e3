"""From a metric and statistics to the masks of layers, whatever their comparison groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import torch
from torch import Tensor

from pzc.compiler.arm import Arm
from pzc.compiler.core import leaves_of
from pzc.compiler.groups import JOINT
from pzc.compiler.metric import Metric
from pzc.runtime.models.layers import Layer, Layers
from pzc.runtime.models.passes import Progress, silent
from pzc.runtime.pruning.targets import Targets, group_of, target_of
from pzc.runtime.scoring.masks import Target, joint_masks, keep_mask, keep_mask_nm, pruned_count
from pzc.runtime.scoring.scores import checked_mask, checked_scores
from pzc.runtime.statistics.gather import Statistics

COMPILED_FROM = 1 << 30
"""Weights of a model on an accelerator from which a metric is compiled for it, which takes seconds."""

JointGroup = tuple[Arm, int | None]
"""Layers that are compared with each other: those of an arm, in one block or, for None, in the model."""


def masks_for(
    metric: Metric,
    target: Targets,
    statistics: Statistics,
    layers: Sequence[Layer],
    progress: Progress = silent,
    *,
    fused: bool = False,
) -> dict[str, Tensor]:
    """The masks of these layers, bool `[out, in]` by name, true where a weight is kept. No weight is written.

    Layers of one arm of the metric are compared with each other where its group is a block or the model; a block is
    finished when its last layer is scored. `fused` says that the model is large enough for a compiler's time to be well
    spent on the metric, if it is on an accelerator. Raises NonFiniteScore at the first layer with a score that is not
    finite.
    """
    return masks_each(metric, [target], statistics, layers, progress, fused=fused)[0]


def masks_each(
    metric: Metric,
    several: Sequence[Targets],
    statistics: Statistics,
    layers: Sequence[Layer],
    progress: Progress = silent,
    *,
    fused: bool = False,
) -> list[dict[str, Tensor]]:
    """The same for several targets, which differ in how much is pruned and not in the comparison groups: every layer is
    scored once."""
    found: list[dict[str, Tensor]] = [{} for _ in several]
    groups = [_joint_group(metric, several, layer) for layer in layers]
    waiting: dict[JointGroup, dict[str, Tensor]] = {}
    for i, (layer, group) in enumerate(zip(layers, groups, strict=True)):
        if group is None:
            own = [target_of(target, layer.name) for target in several]
            for masks, mask in zip(
                found, _own_masks(metric.arm(layer.name), own, statistics, layer, fused), strict=True
            ):
                masks[layer.name] = mask
        else:
            waiting.setdefault(group, {})[layer.name] = checked_score(group[0], statistics, layer, fused)
            if group not in groups[i + 1 :]:
                scores = waiting.pop(group)
                for masks, target in zip(found, several, strict=True):
                    masks.update(_joint(scores, target))
        progress("masks", i + 1, len(layers))
    return [{layer.name: masks[layer.name] for layer in layers} for masks in found]


def _own_masks(
    arm: Arm, targets: Sequence[Target | None], statistics: Statistics, layer: Layer, fused: bool
) -> list[Tensor]:
    """A layer's masks for each target, where its groups are its own."""
    asked = [target for target in targets if target]
    if len(asked) == 1:  # masks follow block by block, and the scores never exist as a whole
        values = statistics.of(layer, leaves_of(arm.core))
        per = group_of(arm, asked[0])
        made = [checked_mask(arm.core, values, layer.shape, layer.name, per, asked[0], fused)]
    elif asked:
        scores = checked_score(arm, statistics, layer, fused)
        made = [
            keep_mask_nm(scores, *target.pattern)
            if target.pattern
            else keep_mask(scores, group_of(arm, target), target.sparsity)
            for target in asked
        ]
    masks = iter(made if asked else ())
    return [next(masks) if target else _dense_mask(layer) for target in targets]


def _dense_mask(layer: Layer) -> Tensor:
    return torch.ones(layer.shape, dtype=torch.bool, device=layer.parameter.device)


def _joint(scores: Mapping[str, Tensor], targets: Targets) -> dict[str, Tensor]:
    """The masks of layers that are one group: where each has a target, together they lose what these say."""
    if isinstance(targets, Target):
        return joint_masks(scores, targets.sparsity)
    asked = {name: target for name in scores if (target := targets[name])}
    masks = {name: torch.ones_like(values, dtype=torch.bool) for name, values in scores.items() if name not in asked}
    if asked:
        count = sum(pruned_count(scores[name].numel(), target.sparsity) for name, target in asked.items())
        size = sum(scores[name].numel() for name in asked)
        masks.update(joint_masks({name: scores[name] for name in asked}, Fraction(count, size)))
    return masks


def worth_compiling(layers: Layers) -> bool:
    on_cpu = all(layer.parameter.device.type == "cpu" for layer in layers.layers)
    return not on_cpu and layers.size >= COMPILED_FROM


def _joint_group(metric: Metric, several: Sequence[Targets], layer: Layer) -> JointGroup | None:
    """The group that a layer shares with others, None where it has groups of its own."""
    arm = metric.arm(layer.name)
    target = next((found for targets in several if (found := target_of(targets, layer.name))), None)
    if target is None:
        return None
    per = group_of(arm, target)
    if target.pattern or per not in JOINT:
        return None
    return arm, layer.block if per == "block" else None


def checked_score(arm: Arm, statistics: Statistics, layer: Layer, fused: bool = False) -> Tensor:
    """The scores of a layer, float32 `[out, in]`. Raises NonFiniteScore where one is not finite."""
    values = statistics.of(layer, leaves_of(arm.core))
    return checked_scores(arm.core, values, layer.shape, layer.name, fused)
