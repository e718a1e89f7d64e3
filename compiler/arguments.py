"""What leaves and metrics are called in Python: as arguments of compiled metrics, and as functions."""

from __future__ import annotations

import keyword
from collections.abc import Collection

_OWN = frozenset({"layer", "np", "scores", "self", "torch", "variance"})
"""Names that functions, programs and models of any target have themselves, so that no argument may take them."""


def argument(leaf: str) -> str:
    """A leaf's name as a Python argument: `X` for `X.l2`, `X_mean` for `X.mean`, `lambda_` for `lambda`."""
    return escaped(leaf.removesuffix(".l2").replace(".", "_"), _OWN)


def escaped(name: str, taken: Collection[str]) -> str:
    """A name, with an underscore behind it where Python has it or it is taken."""
    return f"{name}_" if keyword.iskeyword(name) or name == "__debug__" or name in taken else name
