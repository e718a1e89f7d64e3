"""What the floors below raise for a user's mistake, as a message and a hint."""

from __future__ import annotations

import errno

MEMORY = "use fewer or shorter windows or a smaller --dtype; `pzc prune --stream` holds one block at a time"


def described(error: Exception) -> tuple[str, str | None] | None:
    """Message and hint of an error that a user can cause, None for a defect. Imports torch: call it late."""
    if isinstance(error, MemoryError):  # then there may be none for imports either
        return "out of memory", MEMORY
    from pzc.runtime.errors import REFUSALS, PruningError, is_out_of_memory
    from pzc.search.errors import StoreError

    if type(error).__module__.startswith(("sqlalchemy.", "optuna.exceptions")):  # while a search was at work
        from pzc.search.patient import unanswered

        error = unanswered(error)
    if isinstance(error, PruningError | StoreError):
        return error.message, error.hint
    if is_out_of_memory(error):
        return "out of memory", MEMORY
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: {error.filename or error.strerror}", "what was written whole is kept"
    if isinstance(error, OSError) and error.strerror and (error.filename or error.errno in REFUSALS):
        return f"{error.strerror.lower()}{f': {error.filename}' if error.filename else ''}", None
    return None
