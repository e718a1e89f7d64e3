"""How figures look: colours for light and dark pages, and for SVG that follows the page it is in.

The colours of series are those of Okabe and Ito (Color Universal Design, 2008), which people with any kind of colour
blindness tell apart, in the order of their contrast with the page; a series also has a marker or a line style of its
own.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Theme:
    """Colours: of text and axes, of what should stand back, of the grid, of the page, and of series."""

    ink: str
    muted: str
    grid: str
    paper: str
    series: tuple[str, ...]


LIGHT = Theme("#1b1f24", "#6b7280", "#e3e6ea", "#ffffff", ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#7a5c00"))
DARK = Theme("#e6e8eb", "#9aa1ab", "#30363d", "#14171b", ("#56b4e9", "#e69f00", "#2fc79a", "#e39ac4", "#f0e442"))

MARKERS = ("o", "s", "^", "D", "v")
LINES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), "-.", (0, (6, 2, 1, 2, 1, 2)))

_STANDS_FOR = {
    "#0a0b01": "var(--ink)",
    "#0a0b02": "var(--muted)",
    "#0a0b03": "var(--grid)",
    "#0a0b04": "var(--paper)",
    **{f"#0a0b1{i}": f"var(--series-{i})" for i in range(len(LIGHT.series))},
}
_names = list(_STANDS_FOR)
PAGE = Theme(_names[0], _names[1], _names[2], _names[3], tuple(_names[4:]))
"""Colours that stand for the page's own, which `svg` puts in their places."""

Draw = Callable[[Any, Theme], None]
"""Draws a figure's axes: takes the figure and the theme."""

POINTS = 10.0
"""Size of text."""


def _saved(draw: Draw, size: tuple[float, float], theme: Theme, **how: Any) -> bytes:
    """A figure of `size` inches as a file. It belongs to no window and no global state."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with rc_context(_settings(theme)):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure, theme)
        figure.savefig(buffer, **how)
    return buffer.getvalue()


def _settings(theme: Theme) -> dict[Any, Any]:
    from cycler import cycler

    return {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": POINTS,
        "axes.titlesize": POINTS,
        "axes.labelsize": POINTS,
        "legend.fontsize": POINTS - 1,
        "xtick.labelsize": POINTS - 1,
        "ytick.labelsize": POINTS - 1,
        "text.color": theme.ink,
        "axes.labelcolor": theme.ink,
        "axes.edgecolor": theme.muted,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "xtick.labelcolor": theme.ink,
        "ytick.labelcolor": theme.ink,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "savefig.facecolor": theme.paper,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": theme.grid,
        "grid.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": cycler(color=theme.series),
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "text.parse_math": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "pzc",
    }


def png(draw: Draw, size: tuple[float, float], theme: Theme) -> bytes:
    """The figure as PNG on the colour of the theme's paper, 160 dots an inch."""
    return _saved(draw, size, theme, format="png", dpi=160, facecolor=theme.paper, metadata={"Software": None})


def svg(draw: Draw, size: tuple[float, float], name: str) -> str:
    """The figure as an `<svg>` for a page, with the page's colours and fonts and ids that begin with its name."""
    written = _saved(draw, size, PAGE, format="svg", facecolor="none", metadata={"Date": None, "Creator": None})
    text = written.decode("utf-8")
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href=", "href=")
    text = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", text)
    text = re.sub(r"(font: [\d.]+px) [^;\"]*", r"\1 var(--sans)", text)
    for stands, colour in _STANDS_FOR.items():
        text = text.replace(stands, colour)
    return re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', text, count=1).strip()
