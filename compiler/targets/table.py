"""The targets: what a metric compiles to."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, NamedTuple

from pzc.compiler.arm import Arm
from pzc.compiler.metric import Metric
from pzc.compiler.source import expression


@dataclass(frozen=True)
class Target:
    """A target by its name, what it is, and the extension of its files.

    `module` has the function `emit(metric, version)` that gives the text. Where the target is `binary` it is
    `emit(metric, arm, version)` and gives the bytes of a file that holds one score. `extra` is the optional part of
    pzc that the target needs.
    """

    name: str
    what: str
    extension: str
    module: str
    binary: bool = False
    extra: str | None = None


TARGETS: dict[str, Target] = {
    t.name: t
    for t in (
        Target("json", "the core graph, pzm-ir/1", ".json", "json"),
        Target("torch", "a Python module that needs torch alone, float32", ".py", "torch"),
        Target("numpy", "a Python module that needs numpy alone, float64", ".py", "numpy"),
        Target("export", "a torch.export program that torch alone runs, float32", ".pt2", "export", binary=True),
        Target("onnx", "an ONNX model, opset 18, float32", ".onnx", "onnx", binary=True, extra="onnx"),
        Target("latex", "the formula", ".tex", "latex"),
        Target("dot", "a drawing of the core graph, for Graphviz", ".dot", "dot"),
        Target("mermaid", "a drawing of the core graph, for Markdown", ".mmd", "mermaid"),
        Target("paper-json", "a tree of Pruner-Zero's release that ranks alike", ".json", "paper_json"),
    )
}
"""Every target, in the order in which help lists them."""


class Output(NamedTuple):
    """One file of several or of one: what is in it, what its name ends in before the extension, what it is for."""

    content: str | bytes
    suffix: str = ""
    what: str = ""


def compiled(metric: Metric, target: Target, version: str) -> list[Output]:
    """The files that a metric compiles to: one, or one for each arm where the target holds a single score.

    Raises ModuleNotFoundError where the target's extra is not installed, TreeError for a metric that no tree says.
    """
    emit: Any = importlib.import_module(f"pzc.compiler.targets.{target.module}").emit
    if not target.binary:
        return [Output(emit(metric, version))]
    contents = [emit(metric, arm, version) for arm in metric.arms]
    if not metric.roles:
        return [Output(contents[0])]
    layers = [", ".join(arm.layers) or "else" for arm in metric.arms]
    return [Output(c, f"-{i}", f"for {what}") for i, (c, what) in enumerate(zip(contents, layers, strict=True), 1)]


def about(metric: Metric, arm: Arm, version: str) -> dict[str, Any]:
    """What a binary file says of itself: which score of which metric it holds."""
    return {
        "metric": metric.name,
        "score": expression(arm.core),
        "per": arm.per,
        "layers": list(arm.layers),
        "pzc": version,
    }
