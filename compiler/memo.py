"""Results that are worth keeping for a while: pure functions of nodes that are asked the same again and again."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

KEPT = 1 << 15
"""So many results of each function are kept, those that were asked for last, and with them the nodes that they name."""

_memos: list[Any] = []


def remembered(f: Callable[P, R]) -> Callable[P, R]:
    """A function that keeps its last results."""
    kept = lru_cache(maxsize=KEPT)(f)
    _memos.append(kept)
    return kept  # type: ignore[return-value]


def forget_results() -> None:
    """Let every such function work anew."""
    for each in _memos:
        each.cache_clear()
