"""How candidates are made, and what each variation leads to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from typing import Any

from pzc.search.reading import Run
from pzc.search.report import html
from pzc.search.report.descent import FRESH, Variation, variations
from pzc.search.report.figure import WIDTH, Figure
from pzc.search.report.numbers import joined, percent
from pzc.search.report.sections.section import Section, with_figures
from pzc.search.report.themes import Theme

TELLING = 30
"""Of fewer offspring the share that is better than its parent says little."""


def section(run: Run) -> Section:
    """Every variation with what became of its offspring."""
    found = variations(run)
    rows = [
        [
            escape(v.name),
            f"{v.proposed:,}",
            f"{v.duplicates:,}",
            f"{v.refused:,}",
            f"{v.lost:,}",
            f"{v.ranked:,}",
            "–" if v.name in FRESH else f"{v.better:,} ({percent(v.rate)})",
            f"{v.records:,}",
            percent(math.expm1(v.median), signed=True) if math.isfinite(v.median) else "–",
        ]
        for v in found
    ]
    heads = ("variation", "proposed", "repeats", "refused", "lost", "ranked", "beat parent", "records", "median change")
    listing = html.table(heads, rows, numbers=range(1, 9)) + html.paragraph(
        "Ranked are those with a fitness, measured in full or estimated once it was clear where they come in; the "
        "median change from the first parent is theirs. Drafts that screening did not choose are not counted, and "
        "what it gained by tuning numbers counts for the variation."
    )
    return with_figures(
        "variations", "How candidates are made", [variation(found)], after=html.folded("In numbers", listing)
    )


def variation(found: Sequence[Variation]) -> Figure:
    """What becomes of the offspring of each variation."""
    size = WIDTH, 1.75 + 0.26 * len(found)
    return Figure("variations", "What each variation leads to", _says(found), partial(_draw, found), size)


def _says(found: Sequence[Variation]) -> str:
    bred = [v for v in found if v.name not in FRESH]
    enough = [v for v in bred if v.proposed >= TELLING]
    most = max(v.records for v in found)
    leading = [v.name for v in found if v.records == most]
    records = f"Most records came from {joined(leading)}: {most}{' each' if len(leading) > 1 else ''}."
    if len(enough) > 1 and enough[0].better:
        best = [v for v in enough if v.rate == enough[0].rate]
        return (
            f"Of the {len(enough)} variations with {TELLING} offspring or more, {joined([v.name for v in best])} most "
            f"often gave one that is better than its parent: "
            f"{joined([f'{v.better} of {v.proposed:,}' for v in best])} ({percent(best[0].rate)}). {records}"
        )
    if bred and not enough:
        return f"No variation has made {TELLING} candidates: too few to say which is better than its parent. {records}"
    return records


_SHARES: dict[str, Callable[[Variation], int]] = {
    "duplicate": lambda v: v.duplicates,
    "refused": lambda v: v.refused,
    "lost the race": lambda v: v.lost,
    "measured, no better": lambda v: v.ranked - v.better,
    "better than its parent": lambda v: v.better,
}
"""What can become of an offspring, with how many it became of."""


def _draw(found: Sequence[Variation], figure: Any, theme: Theme) -> None:
    axes = figure.subplots()
    rows = list(found)[::-1]
    colours = (theme.grid, theme.muted, theme.series[1], theme.series[2], theme.series[0])
    hatches = ("", "", "", "///", "")
    left = [0.0] * len(rows)
    for (label, how_many), colour, hatch in zip(_SHARES.items(), colours, hatches, strict=True):
        parts = [100 * how_many(v) / v.proposed for v in rows]
        axes.barh(
            range(len(rows)), parts, left=left, color=colour, label=label, height=0.72, hatch=hatch,
            edgecolor=theme.paper, linewidth=0.6,
        )  # fmt: skip
        left = [a + b for a, b in zip(left, parts, strict=True)]
    axes.set_yticks(range(len(rows)), [f"{v.name}  ({v.proposed:,})" for v in rows])
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of what it proposed (%)")
    axes.grid(False)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8.5, handlelength=1.2)
