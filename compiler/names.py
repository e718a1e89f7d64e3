"""The names of the language: what one is, and what has it already."""

from __future__ import annotations

import re

from pzc.compiler.functions import FUNCTION_NAMES
from pzc.compiler.leaves import ALIASES, LEAVES
from pzc.grammar.words import NAME, RESERVED

_NAME = re.compile(NAME)
_DOTTED = re.compile(rf"{NAME}(?:\.{NAME})*")


def is_name(text: str) -> bool:
    """Whether a text has the form of a name; it may be taken."""
    return _NAME.fullmatch(text) is not None


def is_bare(pattern: str) -> bool:
    """Whether a pattern of layers needs no quotes: names with dots between them."""
    return _DOTTED.fullmatch(pattern) is not None and RESERVED.isdisjoint(pattern.split("."))


def is_leaf(name: str) -> bool:
    """Whether there is a leaf of this name, short or full."""
    return name in LEAVES or name in ALIASES


def is_family(name: str) -> bool:
    """Whether the name stands before the dot of a leaf, as `X` in `X.mean`."""
    return any(leaf.startswith(f"{name}.") for leaf in LEAVES)


def taken(name: str) -> str | None:
    """What has a name already: "a reserved word", "a leaf" (or a family of leaves) or "a function"; None if it is free.

    A library is free to be defined anew, and so is a function, by a function.
    """
    if name in RESERVED:
        return "a reserved word"
    if is_leaf(name) or is_family(name):
        return "a leaf"
    return "a function" if name in FUNCTION_NAMES else None
