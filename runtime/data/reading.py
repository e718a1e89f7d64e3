"""Files of users: text in UTF-8, and JSONL, a JSON value a line; either packed by gzip."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pzc.runtime.errors import PruningError

JSONL = (".jsonl", ".ndjson", ".json")


def is_jsonl(file: str) -> bool:
    """Whether a file is read as JSONL, by its name."""
    return Path(file.removesuffix(".gz")).suffix in JSONL


def read_text(file: str) -> str:
    """The text of a file. Raises PruningError for what cannot be read or is no text in UTF-8."""
    path = Path(file).expanduser()
    try:
        content = path.read_bytes()
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "it is no gzip file"
        raise PruningError(f"{file} cannot be read: {reason.lower()}", data=file) from error
    except UnicodeDecodeError as error:
        raise PruningError(f"{file} is no text in UTF-8: byte {error.start} is not part of it", data=file) from error


def json_rows(file: str) -> Iterator[tuple[int, Any]]:
    """The values of a JSONL file, each with the number of its line, from 1; blank lines are none.

    Raises PruningError as `read_text` does, and with the line for what is no JSON.
    """
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise PruningError(f"{file}, line {number}, is no JSON", data=file, line=number) from error
            yield number, row


def text_rows(file: str) -> list[str]:
    """The field `text` of every row of a JSONL file. Raises PruningError as `json_rows`, and for a row without it."""
    found = []
    for number, row in json_rows(file):
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise PruningError(f"{file}, line {number}, has no field `text` that is a string", data=file, line=number)
        found.append(row["text"])
    return found
