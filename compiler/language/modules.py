"""What a file may use: the libraries that come with the language, and other files of its own folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

from pzc.compiler.language.scope import Definition
from pzc.compiler.limits import Spent
from pzc.grammar.diagnostics import Diagnostic, did_you_mean
from pzc.grammar.parse import MAX_LENGTH, without_mark
from pzc.grammar.render import position

MAX_FILES = 100
"""Files that one file may use, directly or by others, libraries not counted."""
MAX_NESTING = 20
"""Files in a row, each used by the one before it, behind the first."""


class UseError(Exception):
    """Why something cannot be used."""

    def __init__(self, code: str, message: str, help: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.help = code, message, help


@dataclass(frozen=True)
class Module:
    """A file that was checked: what it exports (its functions and lets), and what else it defines."""

    exports: Mapping[str, Definition]
    others: Mapping[str, str]


Checker = Callable[[str, str, "Files"], tuple[Module, list[Diagnostic]]]
"""Checks a source text under a name, with the files that it may use."""


@dataclass(frozen=True)
class Files:
    """Finds what one file uses. Every file is read and checked once.

    `here` is the file's own path; None for a text that comes from no file, which can use libraries only. Files are
    looked for beside it and below the folder of the first file, `root`, and nowhere else.
    """

    here: Path | None = None
    root: Path | None = None
    checked: dict[Path, Module] = field(default_factory=dict)
    waiting: tuple[Path, ...] = ()
    failed: dict[Path, UseError] = field(default_factory=dict)
    spent: Spent = field(default_factory=Spent)

    @staticmethod
    def beside(path: Path | None, root: Path | None = None) -> Files:
        """What the file at a path may use: in its folder and below, or in that of the first file, `root`."""
        if path is None:
            return Files()
        here = path.resolve()
        return Files(here, root or here.parent, waiting=(here,))

    def file(self, name: str, check: Checker) -> Module:
        """A file by its path, relative to the one that uses it. Raises UseError."""
        path = self._path(name)
        if path in self.waiting:
            way = [p.name for p in self.waiting[self.waiting.index(path) :]]
            raise UseError("PZ0502", f"files use each other in a circle: {' → '.join([*way, path.name])}")
        if path in self.failed:
            raise self.failed[path]  # checked once: what lies below it may be used in 2²⁰ ways
        if path not in self.checked:
            if len(self.checked) + len(self.failed) >= MAX_FILES or len(self.waiting) > MAX_NESTING:
                limit = f"{MAX_FILES} files, {MAX_NESTING} in a row"
                raise UseError("PZ0505", f"too many files use each other; at most {limit}")
            within = replace(self, here=path, waiting=(*self.waiting, path))
            try:
                self.checked[path] = _sound(name, self._text(path, name), check, within)
            except UseError as error:
                self.failed[path] = error
                raise
        return self.checked[path]

    def _text(self, path: Path, name: str) -> str:
        """The text of a file. Raises UseError where it cannot be read, or all files together are too long."""
        text = _text(path, name)
        self.spent.characters += len(text)
        if self.spent.characters > MAX_LENGTH:
            raise UseError("PZ0505", f"`{name}` is too long: at most {MAX_LENGTH:,} characters of all files are read")
        return text

    def _path(self, name: str) -> Path:
        if self.here is None or self.root is None:
            raise UseError("PZ0501", "a text that is no file can use libraries only", "save it as a file")
        try:
            path = (self.here.parent / name).resolve()
        except (OSError, ValueError, RuntimeError):  # a name that no file can have; links in a circle
            raise UseError("PZ0501", f"there is no file `{name}`") from None
        if not path.is_relative_to(self.root):
            hint = "a file uses only files beside it and in folders below"
            raise UseError("PZ0504", f"`{name}` lies outside the folder of the first file", hint)
        return path


def libraries() -> list[str]:
    """The names of the libraries that come with the language."""
    folder = resources.files("pzc.grammar").joinpath("std")
    return sorted(f.name.removesuffix(".pzm") for f in folder.iterdir() if f.name.endswith(".pzm"))


def library_source(name: str) -> str:
    """The source of a library."""
    return resources.files("pzc.grammar").joinpath("std", f"{name}.pzm").read_text(encoding="utf-8")


_libraries: dict[str, Module] = {}


def library(name: str, check: Checker) -> Module:
    """A library by its name. Raises UseError."""
    if name not in _libraries:
        known = libraries()
        if name not in known:
            others = f'there are {", ".join(f"`{n}`" for n in known)}; a file is used by `use "{name}.pzm"`'
            raise UseError("PZ0501", f"there is no library `{name}`", did_you_mean(name, known) or others)
        _libraries[name] = _sound(name, library_source(name), check, Files())
    return _libraries[name]


def _text(path: Path, name: str) -> str:
    try:
        if not path.is_file():
            raise UseError("PZ0501", f"there is no file `{name}`")
        if path.stat().st_size > 4 * MAX_LENGTH:
            raise UseError("PZ0505", f"`{name}` is too long: at most {MAX_LENGTH:,} characters are read")
        return without_mark(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise UseError("PZ0501", f"`{name}` is not UTF-8 text") from None
    except OSError as error:
        raise UseError("PZ0501", f"cannot read `{name}`: {(error.strerror or str(error)).lower()}") from None


def _sound(name: str, source: str, check: Checker, files: Files) -> Module:
    """The module, if it has no errors."""
    module, diagnostics = check(source, name, files)
    errors = [d for d in diagnostics if d.severity == "error"]
    if errors:
        line, _ = position(source, errors[0].primary.span.start)
        many = f"{len(errors)} errors" if len(errors) > 1 else "an error"
        message = f"`{name}` has {many}; on line {line}: {errors[0].message}"
        raise UseError("PZ0503", message, "`pzc check` on that file shows all of them")
    return module
