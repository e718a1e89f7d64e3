"""What the search raises for what a user can put right."""

from __future__ import annotations

import re
from collections.abc import Callable

from pzc.runtime.errors import PruningError


class StoreError(Exception):
    """A run that cannot be opened, with a hint where there is one."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:
            self.add_note(hint)  # which a traceback shows


class Contradiction(PruningError):
    """Options that do not go together. In `text` they stand in braces, to be spelt as whoever gave them does."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(self.spelt(lambda name: f"`{name}`"))

    def spelt(self, how: Callable[[str], str]) -> str:
        """The message with every option as `how` spells it."""
        return re.sub(r"\{(\w+)\}", lambda found: how(found[1]), self.text)


def of_another_version(what: str) -> StoreError:
    """For a run that says what this version of pzc does not know, or does not say what it needs."""
    return StoreError(f"the run is of another version of pzc: {what}", "use the version that the run was made with")
