"""The `.pzm` texts that arguments name: files, folders, metrics of the zoo, standard input."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from pzc.compiler.load import MetricNotFound, did_you_mean_metric, read_file, zoo_names, zoo_source
from pzc.grammar.parse import without_mark

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Input:
    """A text with the name to show it under, and its path where it is a file: what it uses lies beside it."""

    name: str
    text: str
    path: Path | None = None


def expanded(argument: str) -> list[str]:
    """What an argument stands for: itself, or every `.pzm` file below it where it is a folder.

    Hidden folders are left out. Raises MetricNotFound where a folder holds none.
    """
    if argument == STANDARD_INPUT or argument in zoo_names() or not Path(argument).is_dir():
        return [argument]
    folder = Path(argument)
    below = sorted(path.relative_to(folder) for path in folder.rglob("*.pzm") if path.is_file())
    shown = [path for path in below if not any(part.startswith(".") for part in path.parts[:-1])]
    if not shown:
        raise MetricNotFound(f"there is no .pzm file below {argument}")
    return [str(folder / path) for path in shown]


def read(name: str) -> Input:
    """The text of standard input (`-`), of a zoo metric or of a file.

    Raises MetricNotFound when there is none or it is not UTF-8 text.
    """
    if name == STANDARD_INPUT:
        return Input(name, standard_input())
    if name in zoo_names():
        return Input(f"{name}.pzm", zoo_source(name))
    try:
        return Input(name, read_file(Path(name)), Path(name))
    except MetricNotFound as error:
        hint = did_you_mean_metric(name) if name.isidentifier() else _no_file(name)
        raise MetricNotFound(f"{error}; {hint}" if hint else str(error)) from error


def _no_file(name: str) -> str | None:
    """What may have been meant by what is no file."""
    return None if name.endswith(".pzm") else "whole files are read here; `pzc explain` takes FILE:NAME and expressions"


def standard_input() -> str:
    """The whole of standard input, its lines ended as a file's are read. Raises MetricNotFound when it is not UTF-8
    text."""
    try:
        text = without_mark(sys.stdin.buffer.read().decode())
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise MetricNotFound(f"standard input is not UTF-8 text (byte {error.start})") from error
