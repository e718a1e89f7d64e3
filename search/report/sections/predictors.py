"""What was said of candidates before the pruned model was run, against their fitness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pzc.grammar.counting import count
from pzc.search.predictors import LEAST, SURROGATE, Pairs, correlation, told
from pzc.search.reading import Run
from pzc.search.report import html
from pzc.search.report.figure import WIDTH, Figure, plain_ticks
from pzc.search.report.sections.section import Section, with_figures
from pzc.search.report.sections.trade_off import DOTS, TOP
from pzc.search.report.themes import Theme

NODES = "number of nodes"
"""What is shown beside the predictors, as it costs nothing to know."""

UNITS = {
    "second-order loss": "second-order loss (share removed)",
    "output error": "output error (share removed)",
    SURROGATE: "surrogate (normal score of the expected rank)",
    NODES: "number of nodes, as bred",
}
"""Predictors with what they are measured in."""


def section(run: Run) -> Section:
    """Predictors against fitness."""
    found = [predictor(name, pairs, run.measure) for name, pairs in predictions(run).items()]
    note = (
        "Predictors are what is said of a candidate before the pruned model is run. Two read the statistics alone: the "
        "share of the second-order loss Σ W²G² and of the layers' output Σ W²X² that its masks remove. The surrogate "
        "expects a rank from the masks of those measured before, as a normal score: 0 is the middle, the lower the "
        "better. The number of nodes is shown beside them, as it costs nothing to know. Candidates that lost their "
        "race have no fitness, so ρ understates what predictors tell."
    )
    if not found:
        note += f" Fewer than {LEAST} candidates have a fitness, too few to compare them with it."
    return with_figures("predictors", "Predictors", found, before=html.paragraph(note, class_="note"))


def predictions(run: Run) -> dict[str, Pairs]:
    """Of each predictor, what it said and the fitness of every candidate that has one, if they are enough to tell; the
    number of nodes comes along."""
    nodes = [(float(c.complexity), c.fitness) for c in run.found]
    return {**told(run.found), **({NODES: nodes} if len(nodes) >= LEAST else {})}


def predictor(name: str, pairs: Sequence[tuple[float, float]], measure: str) -> Figure:
    """A predictor against fitness."""
    rho = f"{correlation(pairs):.2f}".replace("-", "−")
    says = (
        f"Spearman's ρ between {name} and fitness is {rho} over the {count(len(pairs), 'candidate')} that have "
        f"one; those up to {TOP:g} times the best {measure} are drawn"
    )
    top = TOP * min(y for _, y in pairs)
    shown = [p for p in sorted(pairs, key=lambda p: p[1])[:: math.ceil(len(pairs) / DOTS)] if p[1] <= top]

    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.subplots()
        axes.scatter([x for x, _ in shown], [y for _, y in shown], s=12, color=theme.series[0], alpha=0.6, linewidths=0)
        low, high = min(x for x, _ in shown), max(x for x, _ in shown)
        if low > 0 and high / low > 8:
            axes.set_xscale("log")
        axes.set_yscale("log")
        plain_ticks(axes.xaxis)
        plain_ticks(axes.yaxis)
        axes.set_xlabel(UNITS.get(name, name))
        axes.set_ylabel(f"fitness ({measure})")

    return Figure(f"predictor-{slug(name)}", f"Predictor: {name}", says + ".", draw, (WIDTH, 3.2))


def slug(name: str) -> str:
    """A name as a file may have it."""
    return "".join(ch if ch.isalnum() and ch.isascii() else "-" for ch in name.lower()).strip("-")
