"""The one exception of this floor: what a user asked for cannot be done, and why."""

from __future__ import annotations

import errno
from typing import Any

REFUSALS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO})
"""What a system says when it does not write, at times without naming a file."""

WITHOUT_STREAM = "prune it without --stream"
"""What to do about a checkpoint that can only be read whole."""


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
        if hint:
            self.add_note(hint)  # which a traceback shows


class Hopeless(PruningError):
    """What would end the same run in the same way the next time, so that its unfinished work is of no use."""


class NonFiniteWeight(Hopeless):
    """A model has weights that are infinite or NaN. `data`: `layer`, `share` of bad positions."""


class NonFiniteScore(Hopeless):
    """A metric gave infinity or NaN. `data`: `layer`, `share` of bad positions, `expression` that is bad."""


class NoGradient(Hopeless):
    """A metric reads gradients of layers that none reaches. `data`: `layer`, the first of them."""


class ConstantScore(Hopeless):
    """A score that is the same for all weights that are compared with each other."""


class NotPositiveDefinite(Hopeless):
    """A Hessian that no damping makes positive definite. `data`: `layer`."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was no memory left: torch says so in an exception of its own on accelerators, and in a plain
    RuntimeError on a CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
