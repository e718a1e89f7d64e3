"""The figures that need the run alone. Each function returns what it shows in this run, and how to draw it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from pzc.compiler.leaves import TIERS
from pzc.grammar.counting import count
from pzc.search.algorithms import SEED
from pzc.search.candidate import Candidate
from pzc.search.predictors import SURROGATE, correlation
from pzc.search.readable import readable
from pzc.search.reading import Run
from pzc.search.report.descent import FRESH, Variation, ancestors, main_line, outcomes
from pzc.search.report.effects import Effect
from pzc.search.report.evolution import beaten, evolution, reached
from pzc.search.report.features import Feature
from pzc.search.report.figure import WIDTH, Figure, label_bar, label_of, plain_ticks
from pzc.search.report.numbers import duration, joined, percent, perplexity
from pzc.search.report.themes import LINES, MARKERS, POINTS, Draw, Theme

DOTS = 700
"""A cloud of candidates is drawn with about so many of them, evenly spaced by fitness."""

NODES = "number of nodes"
"""What is shown beside the predictors, as it costs nothing to know."""

NAMED = 4
"""A drawing of the lineage names the variations of so many steps, those that helped most; a table names all."""

TOP = 2.0
"""A chart of the front ends at so many times the best fitness."""

ROWS = 16
"""How many rows a chart by feature has."""

TELLING = 30
"""Of fewer offspring the share that is better than its parent says little."""

TIER_NAMES = {
    "weights": "weights only",
    "forward": "activations",
    "hessian": "Hessian",
    "backward": "gradients",
}


UNITS = {
    "second-order loss": "second-order loss (share removed)",
    "output error": "output error (share removed)",
    SURROGATE: "surrogate (normal score of the expected rank)",
    NODES: "number of nodes, as bred",
}
"""Predictors with what they are measured in."""


def by_time(run: Run, others: Sequence[Run]) -> Figure:
    """Best fitness against seconds."""
    ours, zoo = evolution(run), run.zoo[0] if run.zoo else None
    says = f"The best {run.measure} fell to {perplexity(ours[-1].best)} in {duration(ours[-1].seconds)} of work"
    if zoo:
        first = beaten(run, zoo.fitness)
        when = f"beat after {duration(first.seconds)}" if first else "did not beat"
        says += f"; the best published metric, {zoo.operator}, has {perplexity(zoo.fitness)}, which the search {when}."
    else:
        says += "."
    for other in others:
        says += " " + _against(run, other, "seconds")
    draw = _curves([run, *others], "seconds", "time of all workers together (s)")
    return Figure("evolution-time", "Best fitness against time", says, draw, (WIDTH, 3.3))


def by_evaluations(run: Run, others: Sequence[Run]) -> Figure:
    """Best fitness against candidates that were measured."""
    last = evolution(run)[-1]
    says = f"{count(last.evaluations, 'candidate')} of {last.settled:,} settled needed a pruned model to run."
    for other in others:
        says += " " + _against(run, other, "evaluations")
    draw = _curves([run, *others], "evaluations", "candidates measured, in full or in part")
    return Figure("evolution-evaluations", "Best fitness against evaluations", says, draw, (WIDTH, 3.3))


def _against(run: Run, other: Run, key: str) -> str:
    best = evolution(other)[-1]
    ours = reached(run, best.best)
    unit = duration if key == "seconds" else lambda n: count(int(n), "evaluation")
    if ours is None:
        return f"{other.name} came to {perplexity(best.best)}, which this run did not reach."
    theirs = reached(other, best.best) or best
    return (
        f"The best of {other.name}, {perplexity(best.best)}, took it {unit(getattr(theirs, key))}; this run reached it "
        f"after {unit(getattr(ours, key))}."
    )


def _curves(runs: Sequence[Run], key: str, label: str) -> Draw:
    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.subplots()
        starts, lows = [], []
        for i, run in enumerate(runs):
            moments = evolution(run)
            x, y = [getattr(m, key) for m in moments], [m.best for m in moments]
            axes.plot(
                x, y, drawstyle="steps-post", color=theme.series[i % 5], linestyle=LINES[i % 5],
                label="this run" if i == 0 else label_of(run.name),
            )  # fmt: skip
            axes.plot(x[-1], y[-1], MARKERS[i % 5], color=theme.series[i % 5], markersize=5)
            starts.append(sorted(y)[min(len(y) - 1, len(y) // 2 + 2)])
            lows.append(min(y))
        zoo = runs[0].zoo[0] if runs[0].zoo else None
        if zoo:
            axes.axhline(zoo.fitness, color=theme.muted, linestyle=(0, (1, 2)), label=f"{zoo.operator}, the zoo's best")
            starts.append(zoo.fitness)
        low, high = min(lows), max(starts)
        span = high - low or 0.1 * high
        axes.set_ylim(low - 0.08 * span, high + 0.25 * span)
        axes.set_xlabel(label)
        axes.set_ylabel(f"best fitness ({runs[0].measure})")
        axes.set_xlim(left=0)
        plain_ticks(axes.xaxis)
        figure.legend(loc="outside upper center", ncols=1 if len(runs) > 2 else len(runs) + 1, columnspacing=1.2)

    return draw


def fronts(run: Run) -> Figure:
    """The Pareto front in the cloud of all whose fitness is known."""
    everyone = sorted([*run.zoo, *run.found], key=lambda c: c.order)
    front = [(c, metric.complexity) for c, metric in run.front]
    on_it = {c.number for c, _ in front}
    cloud = [c for c in everyone[:: math.ceil(len(everyone) / DOTS)] if c.number not in on_it]
    best, size_of_best = front[0]
    cheapest, _ = min(front, key=lambda row: (TIERS.index(row[0].tier), row[0].fitness))
    simplest, least = min(front, key=lambda row: (row[1], row[0].fitness))
    says = (
        f"Of the {count(len(everyone), 'metric')} with a fitness, {len(front)} cannot be beaten in fitness, size and "
        f"cost at once. The simplest, of {count(least, 'node')}, has {perplexity(simplest.fitness)}; the best that "
        f"reads {TIER_NAMES[cheapest.tier]} has {perplexity(cheapest.fitness)}; the best of all, of "
        f"{count(size_of_best, 'node')}, {perplexity(best.fitness)}."
    )
    lost = sum(c.published and c.status == "lost race" for c in run.candidates)
    if lost:
        says += f" {count(lost, 'published metric')} lost the race and {'is' if lost == 1 else 'are'} not among them."
    top = TOP * best.fitness
    above = sum(c.fitness > top for c, _ in front)
    if above:
        says += f" {above} of the front, with more than {TOP:g} times the best {run.measure}, are above the axis."
    if len(everyone) > DOTS:
        says += f" Of the others {len(cloud)} are drawn, evenly spaced by fitness."
    at = next((size for c, size in front if c.number == run.winner.number), None)
    place = readable(run.winner).complexity if at is None else at, run.winner.fitness

    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.subplots()
        for i, tier in enumerate(TIERS):
            members = sorted((size, c.fitness) for c, size in front if c.tier == tier)
            if members:
                axes.plot(
                    *zip(*members, strict=True), linestyle=LINES[i], marker=MARKERS[i], color=theme.series[i],
                    label=TIER_NAMES[tier], markersize=6, linewidth=1.2,
                )  # fmt: skip
        axes.plot(
            *place, "*", markersize=15, markerfacecolor="none", markeredgecolor=theme.ink, markeredgewidth=1.2,
            linestyle="", label="the winner", zorder=4,
        )  # fmt: skip
        shown = [c for c in cloud if c.fitness <= top]
        axes.scatter(
            [c.complexity for c in shown], [c.fitness for c in shown], s=9, color=theme.muted, alpha=0.35, linewidths=0,
            label="not on it, as bred", zorder=1,
        )  # fmt: skip
        axes.set_yscale("log")
        axes.set_ylim(best.fitness * 0.985, top)
        axes.set_xlim(0, 1.5 * max(place[0], *(size for _, size in front)))
        axes.set_xlabel("size as it is read (nodes)")
        axes.set_ylabel(f"fitness ({run.measure})")
        plain_ticks(axes.yaxis)
        axes.legend(title="front, by what it reads", title_fontsize=9)

    return Figure("pareto", "The Pareto front", says, draw, (WIDTH, 3.5))


def lineage(run: Run) -> Figure:
    """The ancestors of the winner."""
    family, line = ancestors(run), main_line(run)
    founders = [c for c in family if not c.parents]
    thick = ", the thick one," if len(family) > len(line) else ""
    says = (
        f"The winner has {count(len(family) - 1, 'ancestor')} and descends from "
        f"{count(len(founders), 'founder')}; its line of first parents{thick} took "
        f"{count(len(line) - 1, 'step')} from {_founder(line[0])} at "
        f"{perplexity(line[0].fitness)} to {perplexity(run.winner.fitness)}."
    )

    def draw(figure: Any, theme: Theme) -> None:
        from matplotlib.patheffects import withStroke
        from matplotlib.ticker import MaxNLocator

        axes = figure.subplots()
        place = {c.number: (max(c.generation, -1), c.fitness) for c in family}
        pairs = {(a.number, b.number) for a, b in pairwise(line)}
        for c in family:
            for parent in c.parents:
                on_line = (parent, c.number) in pairs
                (x0, y0), (x1, y1) = place[parent], place[c.number]
                axes.plot(
                    [x0, x1], [y0, y1], color=theme.series[0] if on_line else theme.muted,
                    linewidth=2 if on_line else 0.8, alpha=1 if on_line else 0.7, zorder=2 if on_line else 1,
                )  # fmt: skip
        numbers = {c.number for c in line}
        steps = sorted(pairwise(line), key=lambda p: p[1].fitness / p[0].fitness)
        named = {line[0].number, *(child.number for _, child in steps[:NAMED])}
        for label, who, marker, colour, size in (
            ("other ancestors", [c for c in family if c.number not in numbers], "o", theme.muted, 18),
            ("line of first parents", line, "o", theme.series[0], 26),
            ("the winner", [run.winner], "*", theme.series[1], 130),
        ):
            if who:
                x, y = zip(*(place[c.number] for c in who), strict=True)
                axes.scatter(x, y, s=size, marker=marker, color=colour, label=label, zorder=3)
        for c in line:
            if c.number in named:
                axes.annotate(
                    c.operator, place[c.number], xytext=(6, 6), textcoords="offset points", fontsize=POINTS - 1.5,
                    color=theme.ink, zorder=4, path_effects=[withStroke(linewidth=3, foreground=theme.paper)],
                )  # fmt: skip
        axes.set_yscale("log")
        axes.set_xlabel("generation (−1: the zoo)")
        axes.set_ylabel(f"fitness ({run.measure})")
        axes.margins(0.08)
        plain_ticks(axes.yaxis)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        plain_ticks(axes.xaxis)
        figure.legend(loc="outside upper center", ncols=3, columnspacing=1, handletextpad=0.2)

    return Figure("lineage", "The winner's ancestors", says, draw, (WIDTH, 3.6))


def _founder(c: Candidate) -> str:
    return c.operator if c.published else "a metric that was given" if c.operator == SEED else "a random formula"


def frequency(table: Sequence[tuple[Feature, float, float]], best: int, everyone: int) -> Figure:
    """How common features are among the best and among all: those that differ most."""
    ranked = sorted(table, key=lambda row: -abs(row[1] - row[2]))[:ROWS]
    ranked.sort(key=lambda row: row[2] - row[1])
    more, less = ranked[0], ranked[-1]
    says = (
        f"The {more[0].kind} {more[0].name} is in {percent(more[1], 0)} of the best {best} and in "
        f"{percent(more[2], 0)} of all {everyone:,} measured"
    )
    if less[2] > less[1]:
        says += f"; the {less[0].kind} {less[0].name} is in {percent(less[1], 0)} of these and in {percent(less[2], 0)}"

    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.subplots()
        rows = ranked[::-1]
        for y, (_, good, every) in enumerate(rows):
            axes.plot([100 * good, 100 * every], [y, y], color=theme.muted, linewidth=1.2, zorder=1)
        places = range(len(rows))
        axes.scatter(
            [100 * r[2] for r in rows], places, s=34, marker="o", color=theme.muted, label="all measured", zorder=2
        )
        axes.scatter(
            [100 * r[1] for r in rows], places, s=38, marker="D", color=theme.series[0], label="the best", zorder=3
        )
        axes.set_yticks(list(places), [r[0].name for r in rows])
        axes.set_xlim(-3, 103)
        axes.set_xlabel("candidates that have it (%)")
        axes.grid(False, axis="y")
        figure.legend(loc="outside upper right", ncols=2)

    return Figure("frequencies", "What the best are made of", says + ".", draw, (WIDTH, 1.2 + 0.24 * len(ranked)))


def effect(found: Sequence[Effect], families: int, measure: str) -> Figure:
    """The effects that are furthest from none, with their intervals."""
    clear = [e for e in found if e.low > 0 or e.high < 0]
    ranked = sorted(found, key=lambda e: -max(-e.high, e.low))[:ROWS]
    ranked.sort(key=lambda e: e.change)
    have = "has" if len(clear) == 1 else "have"
    says = (
        f"{len(clear)} of {count(len(found), 'part')} {have} a 95 % interval that excludes zero. By chance about "
        f"{len(found) / 20:.2g} would, and somewhat more, since parts ride along with a good lineage. "
    )
    helps, harms = (
        sorted((e for e in clear if (e.change < 0) == lower), key=lambda e: e.change if lower else -e.change)[:3]
        for lower in (True, False)
    )
    for verb, which in ((f"Goes with a lower {measure}", helps), ("With a higher one", harms)):
        if which:
            listed = ", ".join(
                f"{e.feature.name} ({percent(e.change, 0, signed=True)}, {e.candidates:,} candidates)" for e in which
            )
            says += f"{verb}: {listed}. "
    says += f"Bars are 95 % intervals over {count(families, 'family', 'families')} of descent."

    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.subplots()
        rows = ranked[::-1]
        for y, e in enumerate(rows):
            is_clear = e.low > 0 or e.high < 0
            colour = theme.muted if not is_clear else theme.series[0] if e.change < 0 else theme.series[1]
            axes.plot([100 * e.low, 100 * e.high], [y, y], color=colour, linewidth=2)
            axes.plot(
                100 * e.change, y, "o" if e.change < 0 else "s", markersize=6, markeredgecolor=colour,
                markerfacecolor=colour if is_clear else theme.paper,
            )  # fmt: skip
        axes.axvline(0, color=theme.ink, linewidth=1)
        axes.set_yticks(range(len(rows)), [f"{e.feature.name}  ({e.candidates:,})" for e in rows])
        axes.set_xlabel(f"change of the {measure} with it (%)")
        axes.grid(False, axis="y")
        plain_ticks(axes.xaxis)

    return Figure("effects", "What each part does", says, draw, (WIDTH, 0.9 + 0.25 * len(ranked)))


_SHARES = ("duplicate", "refused", "lost the race", "measured, no better", "better than its parent")


def variation(found: Sequence[Variation]) -> Figure:
    """What becomes of the offspring of each variation."""
    bred = [v for v in found if v.name not in FRESH]
    enough = [v for v in bred if v.proposed >= TELLING]
    most = max(v.records for v in found)
    leading = [v.name for v in found if v.records == most]
    says = f"Most records came from {joined(leading)}: {most}{' each' if len(leading) > 1 else ''}."
    if len(enough) > 1 and enough[0].better:
        best = [v for v in enough if v.rate == enough[0].rate]
        says = (
            f"Of the {len(enough)} variations with {TELLING} offspring or more, {joined([v.name for v in best])} most "
            f"often gave one that is better than its parent: "
            f"{joined([f'{v.better} of {v.proposed:,}' for v in best])} ({percent(best[0].rate)}). {says}"
        )
    elif bred and not enough:
        says = f"No variation has made {TELLING} candidates: too few to say which is better than its parent. {says}"

    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.subplots()
        rows = list(found)[::-1]
        colours = (theme.grid, theme.muted, theme.series[1], theme.series[2], theme.series[0])
        hatches = ("", "", "", "///", "")
        left = [0.0] * len(rows)
        for i, label in enumerate(_SHARES):
            parts = [
                100 / v.proposed * (v.duplicates, v.refused, v.lost, v.ranked - v.better, v.better)[i] for v in rows
            ]
            axes.barh(
                range(len(rows)), parts, left=left, color=colours[i], label=label, height=0.72, hatch=hatches[i],
                edgecolor=theme.paper, linewidth=0.6,
            )  # fmt: skip
            left = [a + b for a, b in zip(left, parts, strict=True)]
        axes.set_yticks(range(len(rows)), [f"{v.name}  ({v.proposed:,})" for v in rows])
        axes.set_xlim(0, 100)
        axes.set_xlabel("share of what it proposed (%)")
        axes.grid(False)
        figure.legend(loc="outside upper center", ncols=2, fontsize=8.5, handlelength=1.2)

    return Figure("variations", "What each variation leads to", says, draw, (WIDTH, 1.75 + 0.26 * len(found)))


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


def outcome(run: Run) -> Figure:
    """How many candidates were settled in each way."""
    table = outcomes(run)
    settled = len(run.bred)
    repeats = sum(n for name, n in table if name.startswith("same"))
    share = percent(repeats / settled, 0)
    says = f"Of {count(settled, 'candidate')}, {share} repeated an earlier one and were not measured."

    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.subplots()
        rows = table[::-1]
        axes.barh(range(len(rows)), [n for _, n in rows], color=theme.series[0], height=0.68)
        for y, (_, n) in enumerate(rows):
            label_bar(axes, n, y, f"{n:,}", theme)
        axes.set_yticks(range(len(rows)), [_shortened(name) for name, _ in rows])
        axes.set_xlabel("candidates")
        axes.set_xlim(0, 1.15 * max(n for _, n in rows))
        axes.grid(False, axis="y")
        plain_ticks(axes.xaxis)

    return Figure("outcomes", "What became of the candidates", says, draw, (WIDTH, 0.9 + 0.27 * len(table)))


def _shortened(name: str) -> str:
    return name if len(name) <= 34 else name[:33] + "…"


def slug(name: str) -> str:
    """A name as a file may have it."""
    return "".join(ch if ch.isalnum() and ch.isascii() else "-" for ch in name.lower()).strip("-")


def of_candidate(c: Candidate) -> str:
    """A candidate as `.pzm` text."""
    return f"{c.formula}  per {c.per}"
