"""A section of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pzc.search.candidate import Candidate
from pzc.search.report import html
from pzc.search.report.figure import Figure


@dataclass(frozen=True)
class Section:
    """A part of the page: its anchor, heading, HTML, and the figures in it."""

    anchor: str
    heading: str
    body: str
    figures: tuple[Figure, ...] = ()


def with_figures(anchor: str, heading: str, found: Sequence[Figure], before: str = "", after: str = "") -> Section:
    """A section of some figures, with HTML before and after them."""
    return Section(anchor, heading, before + html.figures(found) + after, tuple(found))


def of_candidate(c: Candidate) -> str:
    """A candidate as `.pzm` text."""
    return f"{c.formula}  per {c.per}"
