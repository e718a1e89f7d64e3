"""Where a run is stored, and how a person names that to `pzc search`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from pzc.search.errors import Contradiction

JOURNAL, KEPT = "study.journal", "statistics.safetensors"
"""In a run's folder: the study, and what was gathered, while the run goes on."""
STUDY = "search"

URL = "PZC_SEARCH_URL"
"""The variable by which helpers are told the URL of their run: everybody sees what is on a command line."""


@dataclass(frozen=True)
class Place:
    """Where a run is stored: a folder with a journal, or a study at the URL of another storage. What is said of it, and
    what is there to be typed, has the URL without its password."""

    folder: Path
    url: str | None = None
    study: str = STUDY

    def __str__(self) -> str:
        return f"study {self.study} at {self.shown_url}" if self.url else str(self.folder)

    @property
    def shown_url(self) -> str:
        """The URL as others may see it."""
        return without_password(self.url or "")

    @property
    def name(self) -> str:
        """The URL or the folder, for events."""
        return self.shown_url if self.url else str(self.folder)

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
        return [option, shlex.quote(self.shown_url), "--study", shlex.quote(self.study)] if self.url else []


def place_at(folder: Path, url: str | None = None, study: str = STUDY) -> Place:
    """The place of a folder, or of a study at a URL. Raises Contradiction for a URL that is none, and for a study of a
    folder: that has one name."""
    if url is not None and "://" not in url:
        raise Contradiction(f"{{storage}} is a URL, and `{url}` is none")
    if url is None and study != STUDY:
        raise Contradiction(f"{{study}} is for storages: the study of a folder is `{STUDY}`, not `{study}`")
    return Place(folder, url, study)


def without_password(url: str) -> str:
    """A URL with `***` instead of a password, be it before the host or among the options."""
    try:
        read = make_url(url)
    except (ArgumentError, ValueError):
        scheme, _, rest = url.partition("://")
        return f"{scheme}://***@{rest.rpartition('@')[2]}" if "@" in rest else url
    secret = [name for name in read.query if "password" in name.lower()]
    if read.password is None and not secret:
        return url
    return read.update_query_dict(dict.fromkeys(secret, "***")).render_as_string(hide_password=True)
