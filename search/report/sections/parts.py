"""What goes with good metrics: operators, leaves and comparison groups against fitness."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape
from typing import Any

from pzc.grammar.counting import count
from pzc.search.reading import Run
from pzc.search.report import html
from pzc.search.report.effects import Effect, effects, families, frequencies, the_best
from pzc.search.report.features import Feature
from pzc.search.report.figure import WIDTH, Figure, plain_ticks
from pzc.search.report.numbers import percent
from pzc.search.report.sections.section import Section, with_figures
from pzc.search.report.themes import Theme

ROWS = 16
"""How many rows a chart by feature has."""

HOW_EFFECTS = (
    "Parts are those of the form a metric ranks by, so what changes no mask counts for nothing. The effect is that of "
    "a linear model of the logarithm of the {measure} against that of the best published metric, on all windows a "
    "candidate was measured on, with every part in it. It says what goes with good metrics in this run, on this model; "
    "it does not prove a cause. Intervals come from drawing whole families of descent."
)


def section(run: Run) -> Section:
    """Operators, leaves and groups against fitness."""
    common = frequency(frequencies(run), len(the_best(run)), len(run.measured))
    found = effects(run)
    if not found:
        note = html.paragraph(
            "Too few candidates were measured for effects; a longer run will show them.", class_="note"
        )
        return with_figures("parts", "What matters", [common], after=note)
    note = html.paragraph(HOW_EFFECTS.format(measure=run.measure), class_="note")
    numbers = html.folded(f"All {len(found)} parts with their numbers", _table(found, run.measure))
    figures = [common, effect(found, families(run), run.measure)]
    return with_figures("parts", "What matters", figures, after=note + numbers)


def _table(found: Sequence[Effect], measure: str) -> str:
    rows = [
        [
            escape(e.feature.name),
            e.feature.kind,
            percent(e.change, signed=True),
            f"{percent(e.low, signed=True)} to {percent(e.high, signed=True)}",
            f"{e.candidates:,}",
            f"{e.families:,}",
            f"{e.gained:,}" if e.gained else "–",
            percent(e.gain, signed=True),
        ]
        for e in found
    ]
    heads = ["part", "kind", "effect", "95 % interval", "candidates", "families", "gained by", "median change"]
    return html.table(heads, rows, numbers=(2, 3, 4, 5, 6, 7)) + html.paragraph(
        "Gained by: offspring of one parent that has the part when the parent has not, and the median change of their "
        f"{measure} from that of the parent."
    )


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
    ranked = sorted(found, key=lambda e: -max(-e.high, e.low))[:ROWS]
    ranked.sort(key=lambda e: e.change)
    size = WIDTH, 0.9 + 0.25 * len(ranked)
    says = _says_effects(found, families, measure)
    return Figure("effects", "What each part does", says, partial(_draw_effects, ranked, measure), size)


def _is_clear(e: Effect) -> bool:
    """Whether the interval of an effect excludes zero."""
    return e.low > 0 or e.high < 0


def _says_effects(found: Sequence[Effect], families: int, measure: str) -> str:
    clear = list(filter(_is_clear, found))
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
    return says + f"Bars are 95 % intervals over {count(families, 'family', 'families')} of descent."


def _draw_effects(ranked: Sequence[Effect], measure: str, figure: Any, theme: Theme) -> None:
    axes = figure.subplots()
    rows = ranked[::-1]
    for y, e in enumerate(rows):
        colour = theme.muted if not _is_clear(e) else theme.series[0] if e.change < 0 else theme.series[1]
        axes.plot([100 * e.low, 100 * e.high], [y, y], color=colour, linewidth=2)
        axes.plot(
            100 * e.change, y, "o" if e.change < 0 else "s", markersize=6, markeredgecolor=colour,
            markerfacecolor=colour if _is_clear(e) else theme.paper,
        )  # fmt: skip
    axes.axvline(0, color=theme.ink, linewidth=1)
    axes.set_yticks(range(len(rows)), [f"{e.feature.name}  ({e.candidates:,})" for e in rows])
    axes.set_xlabel(f"change of the {measure} with it (%)")
    axes.grid(False, axis="y")
    plain_ticks(axes.xaxis)
