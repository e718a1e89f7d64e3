"""What the search raises for what a user can put right."""

from __future__ import annotations


class StoreError(Exception):
    """A run that cannot be opened, with a hint where there is one."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def of_another_version(what: str) -> StoreError:
    """For a run that says what this version of pzc does not know, or does not say what it needs."""
    return StoreError(f"the run is of another version of pzc: {what}", "use the version that the run was made with")
