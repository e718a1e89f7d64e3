"""Comparison groups: inside which scores are compared with each other, and what is constant there."""

from __future__ import annotations

from pzc.compiler.core import Node, leaves_of

GROUPS: dict[str, tuple[str, ...]] = {
    "row": ("in",),
    "col": ("out",),
    "layer": ("out", "in"),
    "model": ("out", "in"),
}
"""Each group with the axes that vary inside it. `model` compares across layers as well."""


def constant_in(node: Node, per: str) -> bool:
    """Whether a value is the same at every position of any one group.

    A pattern N:M compares inside a row. Across a model, only numbers and the number of calibration windows are
    constant: even the size of a layer differs between layers.
    """
    if per == "model":
        return not node.axes and leaves_of(node) <= {"windows"}
    return not node.axes & set(GROUPS[per])


def constant_axes(score: Node, per: str) -> tuple[str, str] | None:
    """Why a score cannot rank anything inside its groups, and what would help; None when it can."""
    if not constant_in(score, per):
        return None
    has = ", ".join(a for a in ("out", "in") if a in score.axes)
    about = f"has axes [{has}]" if has else "is a single number"
    if per == "row":
        return f"{about}: the same for every input of a row", "which weights are pruned would be arbitrary; " + (
            "try `per col` or `per layer`" if has else "a score needs a value for each weight"
        )
    if per == "col":
        return f"{about}: the same for every output of a column", "which weights are pruned would be arbitrary; " + (
            "try `per row` or `per layer`" if has else "a score needs a value for each weight"
        )
    return about, "which weights are pruned would be arbitrary; a score needs a value for each weight"
