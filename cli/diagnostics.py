"""Diagnostics on the terminal, in colour."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from pzc.cli.console import errors
from pzc.grammar.diagnostics import Diagnostic
from pzc.grammar.render import render


def show(diagnostics: Iterable[Diagnostic], source: str, filename: str) -> None:
    """Draw each diagnostic on stderr."""
    for d in diagnostics:
        errors.print(drawn(d, source, filename), soft_wrap=True)
        errors.print()


def drawn(d: Diagnostic, source: str, filename: str) -> Text:
    """One diagnostic in the colours of its severity."""
    text = Text(render(d, source, filename))
    text.highlight_regex(r"^(error|warning|note)\[\w+\]", d.severity)
    text.highlight_regex(r"(?m)^ *= help:", "help")
    text.highlight_regex(r"\^+[^\n]*", d.severity)
    text.highlight_regex(r"(?m)^ *\d* *[│┌·]─?", "dim")
    return text
