"""The sections of the page, in its order."""

from __future__ import annotations

from collections.abc import Sequence

from pzc.search.reading import Run
from pzc.search.report.html import Colour
from pzc.search.report.measure import Measured
from pzc.search.report.sections import (
    about,
    at_work,
    elsewhere,
    lineage,
    parts,
    predictors,
    progress,
    trade_off,
    variations,
    winner,
)
from pzc.search.report.sections.section import Section


def contents(run: Run, others: Sequence[Run], measured: Measured | None, colour: Colour) -> list[Section]:
    """All sections, in the order of the page."""
    return [
        winner.section(run, measured, colour),
        progress.section(run, others),
        at_work.section(run, measured),
        elsewhere.section(run),
        trade_off.section(run, colour),
        lineage.section(run, colour),
        parts.section(run),
        variations.section(run),
        predictors.section(run),
        about.section(run),
    ]
