"""Memory that is free and still the process's: the C library keeps it, in pieces that the next block may not fit."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache


def give_back() -> None:
    """Give free memory back to the system, as far as the C library can: glibc does so only when it is told to."""
    _trim()(0)


@cache
def _trim() -> Callable[[int], object]:
    """glibc's `malloc_trim`, where the process has it."""
    found = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    return found or (lambda pad: None)
