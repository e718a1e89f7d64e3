"""Where a run is stored, and how a person names that to `pzc search`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

JOURNAL, KEPT = "study.journal", "statistics.safetensors"
"""In a run's folder: the study, and what was gathered, while the run goes on."""
STUDY = "search"


@dataclass(frozen=True)
class Place:
    """Where a run is stored: a folder with a journal, or a study at the URL of another storage."""

    folder: Path
    url: str | None = None
    study: str = STUDY

    def __str__(self) -> str:
        return f"study {self.study} at {self.url}" if self.url else str(self.folder)

    @property
    def typed(self) -> str:
        """What names the run to a command that reads it."""
        return " ".join([shlex.quote(str(self.folder)), *self._at("--storage")])

    @property
    def begin(self) -> str:
        """The options of `pzc search` that begin the run."""
        return " ".join(self._at("--storage") or ["--run", shlex.quote(str(self.folder))])

    @property
    def resume(self) -> str:
        """The options of `pzc search` that go on with the run."""
        folder = shlex.quote(str(self.folder))
        return " ".join([*self._at("--resume"), "--run", folder] if self.url else ["--resume", folder])

    def _at(self, option: str) -> list[str]:
        return [option, shlex.quote(self.url), "--study", shlex.quote(self.study)] if self.url else []
