"""The winner on other models, texts and targets: what `pzc search transfer` has measured, on the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from pzc.runtime.evaluation.uncertainty import Estimate
from pzc.search.reading import Run
from pzc.search.report import html
from pzc.search.report.figure import WIDTH, Figure, plain_ticks
from pzc.search.report.measure import winning_metric
from pzc.search.report.numbers import change, perplexity
from pzc.search.report.sections.section import Section, with_figures
from pzc.search.report.themes import Theme
from pzc.search.transfer import Row, kept


def section(run: Run) -> Section:
    """What `pzc search transfer` has measured."""
    heading, rows = "The winner elsewhere", rows_of(run)
    if not rows:
        how = f"pzc search transfer {run.place.typed} --model …"
        hint = f"`{how}` measures the hall of fame on other models, texts and targets; the next report shows it here."
        return Section("transfer", heading, html.paragraph(hint, class_="note"))
    after = html.folded("In numbers", table(rows))
    return with_figures("transfer", heading, [figure(rows)], after=after)


def rows_of(run: Run) -> list[Row]:
    """What was measured of the winner elsewhere, in its own group or by a pattern; other members of the hall of fame,
    and those of one that is gone, are left out."""
    winner = winning_metric(run)
    return [
        row
        for row in kept(run.folder)
        if (row["formula"], row["published"]) == (winner.formula, False)
        and row["per"] in (winner.per, None)
        and row["ratio"] is not None
    ]


_TOLD_BY = {
    "text": "{}", "eval_windows": "{} windows", "length": "{} tokens each", "calibration": "statistics of {}",
    "windows": "of {} windows", "include": "{} alone", "exclude": "{} dense", "seed": "seed {}",
    "dtype": "in {}",
}  # fmt: skip
"""By what rows of one model and target are told apart."""


def where(row: Row, rows: Sequence[Row]) -> str:
    """Where a row was measured: `smollm2, 2:4`, with the text and the rest of what the rows have several of."""
    several = [name for name in _TOLD_BY if len({r[name] for r in rows}) > 1]
    more = [_TOLD_BY[name].format(row[name]) for name in several if row[name] is not None]
    if row["eval_windows"] is None and set(several) - {"text"}:
        more.append("windows not noted")
    return ", ".join([Path(row["model"]).name, row["target"], *more])


def figure(rows: Sequence[Row]) -> Figure:
    """The change of perplexity against the best published metric, with its standard error, by model and target."""
    better = [row for row in rows if row["ratio"] - 1 < -2 * (row["standard_error"] or 0.0)]
    worse = [row for row in rows if row["ratio"] - 1 > 2 * (row["standard_error"] or 0.0)]
    says = (
        f"By more than two standard errors the winner is below the best published metric in {len(better)} of "
        f"{len(rows)} and above it in {len(worse)}. The published one is chosen on the windows that measure it, which "
        "favours it. Bars are two standard errors over paired windows."
    )

    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.subplots()
        for y, row in enumerate(rows[::-1]):
            amount, error = 100 * (row["ratio"] - 1), 200 * (row["standard_error"] or 0.0)
            colour = theme.series[0] if row in better else theme.series[1] if row in worse else theme.muted
            axes.plot([amount - error, amount + error], [y, y], color=colour, linewidth=2)
            axes.plot(amount, y, "o" if amount < 0 else "s", color=colour, markersize=6)
        axes.axvline(0, color=theme.ink, linewidth=1)
        axes.set_yticks(range(len(rows)), [f"{where(r, rows)}  ({r['best_published']})" for r in rows[::-1]])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel("perplexity against the best published metric (%)")
        axes.grid(False, axis="y")
        plain_ticks(axes.xaxis)

    return Figure("transfer", "Transfer to other models, texts and targets", says, draw, (WIDTH, 1.0 + 0.3 * len(rows)))


def table(rows: Sequence[Row]) -> str:
    """The same in numbers."""
    cells = [
        [
            escape(", ".join(filter(None, [Path(row["model"]).name, row["dtype"]]))), escape(row["target"]),
            escape(f"{row['text']}{_size(row, 'eval_windows')}"),
            escape(_noted(row, row["calibration"] and f"{row['calibration']}{_size(row, 'windows')}")),
            _noted(row, row["seed"]),
            perplexity(row["dense"]), perplexity(row["perplexity"]), escape(row["best_published"]),
            change(Estimate(row["ratio"] - 1, math.nan if row["standard_error"] is None else row["standard_error"])),
        ]
        for row in rows
    ]  # fmt: skip
    heads = ["model", "target", "text", "statistics", "seed", "dense", "winner", "best published", "change"]
    return html.table(heads, cells, numbers=(4, 5, 6, 8))


def _noted(row: Row, value: object) -> str:
    """A condition in words. A row of a version that noted none has no number of windows either."""
    return str(value) if value is not None else "not noted" if row["eval_windows"] is None else "none"


def _size(row: Row, name: str) -> str:
    """How many windows of how many tokens, where that is known."""
    return "" if row[name] is None else f", {row[name]} × {row['length']} tokens"
