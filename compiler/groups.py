"""Comparison groups: inside which scores are compared with each other, and what is constant there."""

from __future__ import annotations

from collections.abc import Collection
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


def read_groups(asked: Collection[str]) -> str | None:
    """Groups with commas between them, each once, in the order of the language; None where none is asked for. Raises
    ValueError, with a message, for a word that is no group."""
    for group in asked:
        if group not in GROUPS:
            raise ValueError(f"`{group}` is no comparison group; there are {', '.join(GROUPS)}")
    return ",".join(group for group in GROUPS if group in asked) or None


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


def covers(axes: int, bits: int, per: str) -> bool:
    """Whether a function over some axes, of a value with these bits, is the same for all values of a group: it goes
    over all axes in which the value varies there, and of one layer."""
    return per not in JOINT and not bits & varying_bits(per) & ~axes


_SAME = {"row": "the same for every input of a row", "col": "the same for every output of a column"}
_TRY = {"row": "try `per col` or `per layer`", "col": "try `per row` or `per layer`"}


def why_constant(score: Node, per: str) -> tuple[str, str] | None:
    """Why a score cannot rank anything inside its groups, and what would help; None when it can."""
    if not constant_in(score, per):
        return None
    has = ", ".join(a for a in ("out", "in") if a in score.axes)
    about = f"has axes [{has}]" if has else "is a single number"
    same = f": {_SAME[per]}" if per in _SAME else ""
    hint = _TRY[per] if has and per in _TRY else "a score needs a value for each weight"
    return about + same, f"which weights are pruned would be arbitrary; {hint}"
