"""A storage that may not answer for a while: a database that starts anew, a network that is gone for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from pzc.search.errors import StoreError

PATIENCE = 60.0
"""Seconds for which a storage that does not answer is borne with."""

RETRY = 2.0
"""Seconds until it is asked again."""

LOST = (StorageInternalError, SQLAlchemyError)
"""What Optuna raises when a database does not answer."""


class Patient:
    """A storage, or a study in one, that is asked again for a minute when it does not answer, as while a database
    starts anew."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._storage, name)

        def call(*given: Any, **more: Any) -> Any:
            end = time.monotonic() + PATIENCE
            while True:
                try:
                    return method(*given, **more)
                except LOST as error:
                    if time.monotonic() >= end:
                        raise unanswered(error) from error
                    time.sleep(RETRY)

        return call


def unanswered(error: BaseException) -> StoreError:
    return StoreError(
        f"the storage does not answer: {reason(error)}",
        "what is settled is kept; --resume goes on when it is there again",
    )


def reason(error: BaseException) -> str:
    """What went wrong, without what Optuna and SQLAlchemy wrap around it."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
    return str(cause).strip().split("\n")[0]
