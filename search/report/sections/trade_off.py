"""Fitness against size and cost: the Pareto front."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

from pzc.compiler.leaves import TIERS
from pzc.grammar.counting import count
from pzc.search.candidate import Candidate
from pzc.search.readable import readable
from pzc.search.reading import Run
from pzc.search.report import html
from pzc.search.report.figure import WIDTH, Figure, plain_ticks
from pzc.search.report.html import Colour
from pzc.search.report.numbers import perplexity
from pzc.search.report.sections.section import Section, with_figures
from pzc.search.report.themes import LINES, MARKERS, Theme

DOTS = 700
"""A cloud of candidates is drawn with about so many of them, evenly spaced by fitness."""

TOP = 2.0
"""A chart of the front ends at so many times the best fitness."""

TIER_NAMES = {
    "weights": "weights only",
    "forward": "activations",
    "hessian": "Hessian",
    "backward": "gradients",
}

FRONT_ROWS = 30
"""How many rows of the front are listed."""


def section(run: Run, colour: Colour) -> Section:
    """The Pareto front."""
    front = run.front
    rows = [
        [
            html.element("code", html.formula(f"{metric.formula}  per {c.per}", colour)),
            perplexity(c.fitness),
            str(metric.complexity),
            TIER_NAMES[c.tier],
            (f"the zoo's {c.operator}" if c.published else f"candidate {c.number}")
            + (", the winner" if c.number == run.winner.number else ""),
        ]
        for c, metric in front[:FRONT_ROWS]
    ]
    listing = html.table(["metric", run.measure, "nodes", "reads", "from"], rows, numbers=(1, 2))
    more = f" The first {FRONT_ROWS} of them are listed." if len(front) > FRONT_ROWS else ""
    return with_figures(
        "pareto",
        "Fitness, complexity and cost",
        [fronts(run)],
        after=html.folded(
            f"{count(len(front), 'metric')} of the front", listing + (html.paragraph(more) if more else "")
        ),
    )


@dataclass(frozen=True)
class _Shown:
    """What the chart has: the front with the sizes of its members as they are read, the others that are drawn, how many
    have a fitness at all, and where the axis ends."""

    front: list[tuple[Candidate, int]]
    cloud: list[Candidate]
    everyone: int
    top: float


def fronts(run: Run) -> Figure:
    """The Pareto front in the cloud of all whose fitness is known."""
    everyone = sorted([*run.zoo, *run.found], key=lambda c: c.order)
    front = [(c, metric.complexity) for c, metric in run.front]
    on_it = {c.number for c, _ in front}
    cloud = [c for c in everyone[:: math.ceil(len(everyone) / DOTS)] if c.number not in on_it]
    shown = _Shown(front, cloud, len(everyone), TOP * front[0][0].fitness)
    return Figure("pareto", "The Pareto front", _says(run, shown), partial(_draw, run, shown), (WIDTH, 3.5))


def _says(run: Run, shown: _Shown) -> str:
    best, size_of_best = shown.front[0]
    cheapest, _ = min(shown.front, key=lambda row: (TIERS.index(row[0].tier), row[0].fitness))
    simplest, least = min(shown.front, key=lambda row: (row[1], row[0].fitness))
    says = (
        f"Of the {count(shown.everyone, 'metric')} with a fitness, {len(shown.front)} cannot be beaten in fitness, "
        f"size and cost at once. The simplest, of {count(least, 'node')}, has {perplexity(simplest.fitness)}; the best "
        f"that reads {TIER_NAMES[cheapest.tier]} has {perplexity(cheapest.fitness)}; the best of all, of "
        f"{count(size_of_best, 'node')}, {perplexity(best.fitness)}."
    )
    lost = sum(c.published and c.status == "lost race" for c in run.candidates)
    if lost:
        says += f" {count(lost, 'published metric')} lost the race and {'is' if lost == 1 else 'are'} not among them."
    above = sum(c.fitness > shown.top for c, _ in shown.front)
    if above:
        says += f" {above} of the front, with more than {TOP:g} times the best {run.measure}, are above the axis."
    if shown.everyone > DOTS:
        says += f" Of the others {len(shown.cloud)} are drawn, evenly spaced by fitness."
    return says


def _draw(run: Run, shown: _Shown, figure: Any, theme: Theme) -> None:
    axes = figure.subplots()
    for i, tier in enumerate(TIERS):
        members = sorted((size, c.fitness) for c, size in shown.front if c.tier == tier)
        if members:
            axes.plot(
                *zip(*members, strict=True), linestyle=LINES[i], marker=MARKERS[i], color=theme.series[i],
                label=TIER_NAMES[tier], markersize=6, linewidth=1.2,
            )  # fmt: skip
    size_of_winner = next((size for c, size in shown.front if c.number == run.winner.number), None)
    if size_of_winner is None:
        size_of_winner = readable(run.winner).complexity
    axes.plot(
        size_of_winner, run.winner.fitness, "*", markersize=15, markerfacecolor="none", markeredgecolor=theme.ink,
        markeredgewidth=1.2, linestyle="", label="the winner", zorder=4,
    )  # fmt: skip
    dots = [c for c in shown.cloud if c.fitness <= shown.top]
    axes.scatter(
        [c.complexity for c in dots], [c.fitness for c in dots], s=9, color=theme.muted, alpha=0.35, linewidths=0,
        label="not on it, as bred", zorder=1,
    )  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(shown.front[0][0].fitness * 0.985, shown.top)
    axes.set_xlim(0, 1.5 * max(size_of_winner, *(size for _, size in shown.front)))
    axes.set_xlabel("size as it is read (nodes)")
    axes.set_ylabel(f"fitness ({run.measure})")
    plain_ticks(axes.yaxis)
    axes.legend(title="front, by what it reads", title_fontsize=9)
