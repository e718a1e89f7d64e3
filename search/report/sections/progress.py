"""How the best fitness fell, beside other runs, and what became of the candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pzc.grammar.counting import count
from pzc.search.reading import Run, differing
from pzc.search.report import html
from pzc.search.report.descent import outcomes
from pzc.search.report.evolution import beaten, evolution, reached
from pzc.search.report.figure import WIDTH, Figure, label_bar, label_of, plain_ticks
from pzc.search.report.numbers import duration, joined, percent, perplexity
from pzc.search.report.sections.about import typed, written
from pzc.search.report.sections.section import Section, with_figures
from pzc.search.report.themes import LINES, MARKERS, Draw, Theme


def section(run: Run, others: Sequence[Run]) -> Section:
    """How fitness fell, beside other runs."""
    found = [by_time(run, others), by_evaluations(run, others), outcome(run)]
    warned = "".join(html.paragraph(_searches_elsewhere(run, other)) for other in others if differing(run, other))
    hint = "" if others else html.paragraph(
        "Give other runs on the same model, text and windows, such as one of `--algorithm random`, with `--against` to "
        "see them in the same figures.", class_="note",
    )  # fmt: skip
    return with_figures("evolution", "How it got there", found, before=warned, after=hint)


def _searches_elsewhere(run: Run, other: Run) -> str:
    """What another run does not share with this one, beside its algorithm."""
    ways = [
        f"`{typed(key)}` ({written(other.settings.get(key))}, here {written(run.settings.get(key))})"
        for key in differing(run, other)
    ]
    return f"{other.name} differs in {joined(ways)}: what sets the curves apart is not the algorithm alone."


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
