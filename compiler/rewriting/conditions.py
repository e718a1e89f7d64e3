"""The side conditions of rules, as tests of what was matched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pzc.compiler.analysis.signs import ALL_SIGNS, Sign
from pzc.compiler.core import Node
from pzc.compiler.groups import covers, varying_bits
from pzc.compiler.rewriting.terms import is_turned

Env = list[Any]
"""What a match found, by the places of the metavariables."""

PLACES: dict[str, int] = {name: i for i, name in enumerate(("x", "y", "z", "k", "c", "d", "axis"))}
"""Where each metavariable, and the axes of a reduction, stand in an environment."""

NUMBERS = ("c", "d")
AXIS = PLACES["axis"]

Condition = Callable[[Env], bool]
Test = Callable[[Node, Env], bool]


@dataclass(frozen=True)
class Setting:
    """What conditions ask beyond the values themselves: whether one is never above another, and the comparison group,
    None for rules that have none."""

    at_most: Callable[[Node, Node], bool]
    per: str | None = None


COMPARE: dict[str, tuple[bool, ...]] = {
    ">= 0": tuple(s.non_negative for s in ALL_SIGNS),
    "> 0": tuple(s.positive for s in ALL_SIGNS),
    "<= 0": tuple(s.non_positive and not s.non_negative for s in ALL_SIGNS),  # what is 0 alone is >= 0
    "< 0": tuple(s.negative for s in ALL_SIGNS),
}
_OF_NUMBERS: dict[str, Callable[[float], bool]] = {
    "whole": lambda v: v.is_integer(),
    "even": lambda v: v % 2 == 0 and v != 0,
    "odd": lambda v: v % 2 == 1,
    "not even": lambda v: v % 2 != 0,
    "> 0": lambda v: v > 0,
    ">= 0": lambda v: v >= 0,
    "< 0": lambda v: v < 0,
}


def test(words: str, setting: Setting) -> Test:
    """A condition on one value."""
    if words in COMPARE:
        allowed = COMPARE[words]
        return lambda node, env: allowed[node.sign]
    if words == "without the axis":
        return lambda node, env: not node.bits & env[AXIS]
    if words == "constant in the group":
        varying = varying_bits(_group(setting))
        return lambda node, env: not node.bits & varying
    if words == "varies by term":
        varying = varying_bits(_group(setting))
        return lambda node, env: all(t.bits & varying for t in (node.args if node.op == "add" else (node,)))
    if words == "of both signs":
        return lambda node, env: not (node.sign.non_negative or node.sign.non_positive)
    if words == "not a number":
        return lambda node, env: node.op != "number"
    if words == "a divisor":  # known of a whole score only, by `rank.divided`; here it is what follows from it
        return lambda node, env: not node.sign & Sign.ZERO
    if words == "a turned sum":
        return lambda node, env: is_turned(node)
    raise ValueError(f"no such condition: {words}")


def condition(text: str, setting: Setting) -> Condition:
    """A condition on an environment, as the table states it."""
    if text == "the axis covers the group":
        per, x = _group(setting), PLACES["x"]
        return lambda env: covers(env[AXIS], env[x].bits, per)
    name, _, words = text.partition(" ")
    place = PLACES[name]
    if words.startswith("<= ") and words[3:] in PLACES:
        other, at_most = PLACES[words[3:]], setting.at_most
        return lambda env: at_most(env[place], env[other])
    if name in NUMBERS:
        holds = _OF_NUMBERS[words]
        return lambda env: holds(env[place].value)
    holds_of = test(words, setting)
    return lambda env: holds_of(env[place], env)


@dataclass(frozen=True)
class Pick:
    """Which parts of a sum or product k takes: those of the signs that are `allowed`, without the `axes` of the
    reduction, or constant in the group, whose `varying` bits they lack; and whether it takes one only."""

    allowed: tuple[bool, ...] = (True,) * len(ALL_SIGNS)
    axes: bool = False
    varying: int = 0
    one_only: bool = False


def picked(words: list[str], setting: Setting) -> Pick:
    """The conditions on k as a pick."""
    pick = Pick()
    for each in words:
        if each in COMPARE:
            pick = replace(pick, allowed=COMPARE[each], one_only=each == "< 0")
        elif each == "without the axis":
            pick = replace(pick, axes=True)
        elif each == "constant in the group":
            pick = replace(pick, varying=varying_bits(_group(setting)))
        else:
            raise ValueError(f"k can't be picked by: {each}")
    return pick


def _group(setting: Setting) -> str:
    if setting.per is None:
        raise ValueError("a rule that asks for the comparison group must rank")
    return setting.per
