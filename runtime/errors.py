"""The one exception of this floor: what a user asked for cannot be done, and why."""

from __future__ import annotations

from typing import Any


class PruningError(Exception):
    """A model, a text or an option that cannot be used.

    `message` is one sentence, `hint` what to do about it, `data` the facts in it (layer, share, …) for
    machines.
    """

    def __init__(self, message: str, *, hint: str | None = None, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.data: dict[str, Any] = data


class NonFiniteScore(PruningError):
    """A metric gave infinity or NaN. `data`: `layer`, `share` of bad positions, `expression` that is bad."""


class ConstantScore(PruningError):
    """A score that is the same for all weights that are compared with each other."""
