"""Files that are written whole or not at all. Needs no torch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def replace_file(path: Path, content: str | bytes) -> Path:
    """Write a file so that a reader finds the old content or the new. What the system says against it names `path`."""
    try:
        with replacing(path) as partial:
            partial.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write: it takes that name when the context ends, and is gone if it ends by an error.
    Links and permissions of a file that is there stay."""
    target = path.resolve()
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    try:
        yield partial
        if target.exists():
            shutil.copymode(target, partial)
        partial.replace(target)
    finally:
        with suppress(OSError):
            partial.unlink()


def settle(path: Path) -> None:
    """Give a new file the usual permissions, and have it on the disk when this returns."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
