"""Comparison groups: inside which scores are compared with each other, and what is constant there."""

from __future__ import annotations

from functools import cache

from pzc.compiler.core import Node, bits_of_axes, bits_of_leaves

GROUPS: dict[str, tuple[str, ...]] = {
    "row": ("in",),
    "col": ("out",),
    "layer": ("out", "in"),
    "block": ("out", "in"),
    "model": ("out", "in"),
}
"""Each group with the axes that vary inside it."""

JOINT = ("block", "model")
"""The groups that compare the weights of several layers with each other."""

_VARYING = {per: frozenset(axes) for per, axes in GROUPS.items()}


def varying(per: str) -> frozenset[str]:
    """The axes that vary inside a group. The groups of a pattern, `2:4`, lie inside a row."""
    found = _VARYING.get(per)
    return found if found is not None else _VARYING["row" if ":" in per else per]


_CONSTANT_LEAVES = {"block": ("windows", "depth"), "model": ("windows",)}
"""The leaves that are the same for every layer of a group of several: even the size differs between layers."""


@cache
def varying_bits(per: str) -> int:
    """What makes a value vary inside a group, as `Node.bits` has it: axes, and between layers leaves.

    A pattern N:M compares inside a row.
    """
    if per in _CONSTANT_LEAVES:
        return ~bits_of_leaves(_CONSTANT_LEAVES[per])
    return bits_of_axes(varying(per))


def constant_in(node: Node, per: str) -> bool:
    """Whether a value is the same at every position of any one group."""
    return not node.bits & varying_bits(per)


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
