"""One text as an editor holds it, with everything that the compiler says about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path

from pzc.compiler.language.check import CheckedFile, check
from pzc.compiler.language.modules import Files, libraries, library_source
from pzc.compiler.language.scope import Definition
from pzc.compiler.load import MetricNotFound, read_file
from pzc.grammar.diagnostics import Diagnostic
from pzc.grammar.parse import MAX_LENGTH, parse
from pzc.grammar.printer import format_source
from pzc.grammar.syntax import File
from pzc.lsp.names import Names, names
from pzc.lsp.tokens import Token, tokens


@dataclass(frozen=True)
class Document:
    """A source text and the path it is saved under; None for a text that was never saved. `root` is the folder of the
    file that is edited, for one that this uses: other files are looked for in it and below."""

    source: str
    path: Path | None = None
    root: Path | None = None

    @cached_property
    def tokens(self) -> tuple[Token, ...]:
        """Its words, comments included."""
        return tokens(self.source)

    @cached_property
    def names(self) -> Names:
        """Its names, whether it parses or not."""
        return names(self.source)

    @cached_property
    def _parsed(self) -> tuple[File, list[Diagnostic]]:
        return parse(self.source)

    @cached_property
    def checked(self) -> CheckedFile:
        """What the compiler makes of it."""
        home = self.path.name if self.path else ""
        return check(self._parsed[0], files=Files.beside(self.path, self.root), home=home)

    @property
    def diagnostics(self) -> list[Diagnostic]:
        """Everything there is to say about it, in the order of the text."""
        return sorted([*self._parsed[1], *self.checked.diagnostics], key=lambda d: d.primary.span)

    @property
    def definitions(self) -> Mapping[str, Definition]:
        """Its functions and lets, lowered."""
        return self.checked.module.exports

    @property
    def formatted(self) -> str | None:
        """The text in the canonical layout; None where it does not parse, since nothing of it must be lost."""
        file, problems = self._parsed
        return None if problems else format_source(file, self.source)

    def used(self, source: str) -> Document | None:
        """The library or file that a `use` names as it is written, `paper` or `"norms.pzm"`; None if there is none."""
        if not source.startswith('"'):
            return _library(source) if source in libraries() else None
        if self.path is None:
            return None
        try:
            folder = self.path.parent.resolve()
            path, root = (folder / source.strip('"')).resolve(), self.root or folder
            if not path.is_relative_to(root) or not path.is_file() or path.stat().st_size > 4 * MAX_LENGTH:
                return None
            return Document(read_file(path), path, root)
        except (OSError, ValueError, RuntimeError, MetricNotFound):  # a name that no file can have, or no text
            return None


def _library(name: str) -> Document:
    path = Path(str(resources.files("pzc.grammar").joinpath("std", f"{name}.pzm")))
    return Document(library_source(name), path if path.is_file() else None)
