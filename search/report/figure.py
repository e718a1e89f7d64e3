"""A figure of the page, and what all of them are drawn with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pzc.search.report.themes import POINTS, Draw, Theme

WIDTH = 4.7
"""Inches: a figure is as wide as a telephone, so that its text is as large there as that around it."""


@dataclass(frozen=True)
class Figure:
    """A figure of the page: `says` is a sentence on what it shows in this run, `size` in inches."""

    name: str
    title: str
    says: str
    draw: Draw
    size: tuple[float, float]


def plain_ticks(axis: Any) -> None:
    """Tick labels as plain numbers, on a logarithmic axis too, and few of them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    low, high = sorted(axis.get_view_interval())
    if axis.get_scale() == "log":
        if low > 0 and high / low < 8:  # a short way on a logarithmic axis is best cut into even steps
            axis.set_major_locator(MaxNLocator(5))
            axis.set_minor_locator(NullLocator())
        else:
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}".replace("-", "−")))


def label_of(name: str) -> str:
    """A name as a legend shows it: one that begins with `_` would be left out."""
    return f" {name}" if name.startswith("_") else name


def label_bar(axes: Any, x: float, y: float, text: str, theme: Theme) -> None:
    """A number at the end of a bar."""
    axes.annotate(
        text, (x, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=POINTS - 1.5, color=theme.ink
    )
