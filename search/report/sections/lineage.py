"""Where the winner comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from itertools import pairwise
from typing import Any

from pzc.grammar.counting import count
from pzc.search.algorithms import SEED
from pzc.search.candidate import Candidate
from pzc.search.reading import Run
from pzc.search.report import html
from pzc.search.report.descent import ancestors, main_line
from pzc.search.report.figure import WIDTH, Figure, plain_ticks
from pzc.search.report.html import Colour
from pzc.search.report.numbers import percent, perplexity
from pzc.search.report.sections.section import Section, of_candidate, with_figures
from pzc.search.report.themes import POINTS, Theme

NAMED = 4
"""A drawing of the lineage names the variations of so many steps, those that helped most; a table names all."""


def section(run: Run, colour: Colour) -> Section:
    """The lineage of the winner."""
    line = main_line(run)
    rows = []
    for before, c in zip([None, *line], line, strict=False):
        moved = percent(c.fitness / before.fitness - 1, signed=True) if before and math.isfinite(before.fitness) else ""
        way = f"{c.operator}, published" if c.published else c.operator
        also = ", ".join(f"with {n}" for n in c.parents[1:])
        rows.append(
            [
                str(c.number),
                escape(f"{way} {also}".strip()),
                perplexity(c.fitness),
                moved,
                html.element("code", html.formula(of_candidate(c), colour)),
            ]
        )
    headings = ["candidate", "made by", run.measure, "change", "as it was bred"]
    return with_figures(
        "lineage", "Where the winner comes from", [lineage(run)],
        after=html.table(headings, rows, numbers=(0, 2, 3)),
    )  # fmt: skip


def lineage(run: Run) -> Figure:
    """The ancestors of the winner."""
    return Figure("lineage", "The winner's ancestors", _says(run), partial(_draw, run), (WIDTH, 3.6))


def _says(run: Run) -> str:
    family, line = ancestors(run), main_line(run)
    founders = [c for c in family if not c.parents]
    thick = ", the thick one," if len(family) > len(line) else ""
    return (
        f"The winner has {count(len(family) - 1, 'ancestor')} and descends from "
        f"{count(len(founders), 'founder')}; its line of first parents{thick} took "
        f"{count(len(line) - 1, 'step')} from {_founder(line[0])} at "
        f"{perplexity(line[0].fitness)} to {perplexity(run.winner.fitness)}."
    )


def _founder(c: Candidate) -> str:
    return c.operator if c.published else "a metric that was given" if c.operator == SEED else "a random formula"


def _draw(run: Run, figure: Any, theme: Theme) -> None:
    from matplotlib.ticker import MaxNLocator

    axes = figure.subplots()
    family, line = ancestors(run), main_line(run)
    place = {c.number: (max(c.generation, -1), c.fitness) for c in family}
    _draw_descent(axes, theme, family, line, place)
    on_line = {c.number for c in line}
    for label, who, marker, colour, size in (
        ("other ancestors", [c for c in family if c.number not in on_line], "o", theme.muted, 18),
        ("line of first parents", line, "o", theme.series[0], 26),
        ("the winner", [run.winner], "*", theme.series[1], 130),
    ):
        if who:
            x, y = zip(*(place[c.number] for c in who), strict=True)
            axes.scatter(x, y, s=size, marker=marker, color=colour, label=label, zorder=3)
    _name_steps(axes, theme, line, place)
    axes.set_yscale("log")
    axes.set_xlabel("generation (−1: the zoo)")
    axes.set_ylabel(f"fitness ({run.measure})")
    axes.margins(0.08)
    plain_ticks(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    plain_ticks(axes.xaxis)
    figure.legend(loc="outside upper center", ncols=3, columnspacing=1, handletextpad=0.2)


Places = Mapping[int, tuple[int, float]]
"""Where candidates are drawn, by their numbers: generation and fitness."""


def _draw_descent(
    axes: Any, theme: Theme, family: Sequence[Candidate], line: Sequence[Candidate], place: Places
) -> None:
    """A line from each parent to its child."""
    on_line = {(a.number, b.number) for a, b in pairwise(line)}
    for c in family:
        for parent in c.parents:
            thick = (parent, c.number) in on_line
            (x0, y0), (x1, y1) = place[parent], place[c.number]
            axes.plot(
                [x0, x1], [y0, y1], color=theme.series[0] if thick else theme.muted, linewidth=2 if thick else 0.8,
                alpha=1 if thick else 0.7, zorder=2 if thick else 1,
            )  # fmt: skip


def _name_steps(axes: Any, theme: Theme, line: Sequence[Candidate], place: Places) -> None:
    """The first of the line, and the steps that helped most, by their variations."""
    from matplotlib.patheffects import withStroke

    steps = sorted(pairwise(line), key=lambda p: p[1].fitness / p[0].fitness)
    named = {line[0].number, *(child.number for _, child in steps[:NAMED])}
    for c in line:
        if c.number in named:
            axes.annotate(
                c.operator, place[c.number], xytext=(6, 6), textcoords="offset points", fontsize=POINTS - 1.5,
                color=theme.ink, zorder=4, path_effects=[withStroke(linewidth=3, foreground=theme.paper)],
            )  # fmt: skip
