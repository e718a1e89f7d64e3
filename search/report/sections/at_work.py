"""What the model shows: the winner beside published metrics at other sparsities, patterns and numbers of calibration
windows, and how far its masks are from theirs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from pzc.runtime.evaluation.compare import Compared
from pzc.runtime.evaluation.uncertainty import change
from pzc.search.reading import Run
from pzc.search.report import html
from pzc.search.report.figure import WIDTH, Figure, plain_ticks
from pzc.search.report.mask_figures import differences, layers
from pzc.search.report.measure import Measured, best_other
from pzc.search.report.numbers import percent, perplexity, plus_minus
from pzc.search.report.sections.section import Section, with_figures
from pzc.search.report.themes import LINES, MARKERS, Theme

BROKEN = 100.0
"""A chart ends at so many times the dense model's perplexity: what is worse than that is broken."""

X = TypeVar("X", int, float)


def section(run: Run, measured: Measured | None) -> Section:
    """What the model shows."""
    if measured is None:
        none = "Left out with `--no-model`: masks, perplexity against sparsity and calibration, other patterns."
        return Section("model", "The winner at work", html.paragraph(none))
    where = html.paragraph(f"Held-out perplexity on {measured.text}, one-shot, no weight updated.", class_="note")
    return with_figures("model", "The winner at work", drawn(measured, run.target), before=where)


def drawn(measured: Measured, run_target: str) -> list[Figure]:
    """All figures that there is something to show in."""
    found = [sparsity(measured)]
    if len(measured.by_windows) > 1:
        found.append(windows(measured))
    if len(measured.by_target) > 1:
        found.append(targets(measured, run_target))
    if measured.differences:
        found += [layers(measured), differences(measured)]
    return found


def beside_best(measured: Measured, at: Mapping[str, Compared]) -> str:
    """The winner against the best published metric of these results, as a sentence without its end."""
    winner, name = at[measured.metrics[0]], best_other(measured, at)
    if not math.isfinite(winner.perplexity):
        return f"the winner could not be measured: {winner.failure or 'its perplexity is not finite'}"
    if name is None:
        return f"the winner has {perplexity(winner.perplexity)}"
    found = change(winner.losses, at[name].losses)
    amount = percent(abs(found.value)) + plus_minus(found)
    place = "below" if found.value < 0 else "above"
    ours, theirs = perplexity(winner.perplexity), perplexity(at[name].perplexity)
    return f"the winner has {ours}, {amount} {place} the {theirs} of {name}"


def sparsity(measured: Measured) -> Figure:
    """Perplexity against sparsity."""
    low, high = min(measured.by_sparsity), max(measured.by_sparsity)
    wins = [s for s, at in measured.by_sparsity.items() if _wins(measured, at)]
    says = (
        f"At {percent(low, 0)} {beside_best(measured, measured.by_sparsity[low])}; at {percent(high, 0)} "
        f"{beside_best(measured, measured.by_sparsity[high])}. The winner is ahead of the others drawn here at "
        f"{len(wins)} of {len(measured.by_sparsity)} sparsities; the dense model has "
        f"{perplexity(measured.dense.perplexity)}."
    )
    by_percent = {100 * s: at for s, at in measured.by_sparsity.items()}
    return _lines("sparsity", "Perplexity against sparsity", says, measured, by_percent, "sparsity (%)", log=False)


def windows(measured: Measured) -> Figure:
    """Perplexity against the number of calibration windows."""
    fewest, most = min(measured.by_windows), max(measured.by_windows)
    says = (
        f"With {fewest} calibration window {beside_best(measured, measured.by_windows[fewest])}; with {most} "
        f"{beside_best(measured, measured.by_windows[most])}."
    )
    label = "calibration windows"
    return _lines("windows", "Perplexity against calibration", says, measured, measured.by_windows, label, log=True)


def _wins(measured: Measured, at: Mapping[str, Compared]) -> bool:
    name = best_other(measured, at)
    return name is not None and at[measured.metrics[0]].perplexity < at[name].perplexity


def _lines(
    name: str, title: str, says: str, measured: Measured, table: Mapping[X, Mapping[str, Compared]], label: str, *,
    log: bool,
) -> Figure:  # fmt: skip
    """Perplexity on a logarithmic axis, a line for each metric."""

    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.subplots()
        x = sorted(table)
        for i, metric in enumerate(measured.metrics):
            axes.plot(
                x, [table[v][metric].perplexity for v in x], color=theme.series[i % 5], linestyle=LINES[i % 5],
                marker=MARKERS[i % 5], markersize=5, label=metric, zorder=4 - i * 0.1,
            )  # fmt: skip
        dense = measured.dense.perplexity
        axes.axhline(dense, color=theme.muted, linestyle=(0, (1, 2)), label="dense")
        shown = [r.perplexity for at in table.values() for r in at.values() if math.isfinite(r.perplexity)]
        axes.set_yscale("log")
        axes.set_ylim(dense * 0.93, min(1.1 * max(shown, default=BROKEN * dense), BROKEN * dense))
        if log:
            axes.set_xscale("log", base=2)
            axes.set_xticks(x, [f"{v:g}" for v in x])
            axes.minorticks_off()
        else:
            axes.set_xticks(x, [f"{v:.0f}" for v in x])
        axes.set_xlabel(label)
        axes.set_ylabel("held-out perplexity")
        plain_ticks(axes.yaxis)
        figure.legend(loc="outside upper center", ncols=3)

    return Figure(name, title, says, draw, (WIDTH, 3.7))


def targets(measured: Measured, run_target: str) -> Figure:
    """Perplexity at the run's own target and at patterns."""
    sentences = [f"At {name} {beside_best(measured, at)}." for name, at in measured.by_target.items()]
    says = " ".join(sentences) + f" The search ran at {run_target}."

    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.subplots()
        names = list(measured.by_target)
        for i, metric in enumerate(measured.metrics):
            shift = 0.16 * (i - (len(measured.metrics) - 1) / 2)
            axes.plot(
                [k + shift for k in range(len(names))], [measured.by_target[n][metric].perplexity for n in names],
                MARKERS[i % 5], color=theme.series[i % 5], label=metric, markersize=7,
            )  # fmt: skip
        axes.axhline(measured.dense.perplexity, color=theme.muted, linestyle=(0, (1, 2)), label="dense")
        axes.set_yscale("log")
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_xlabel("target")
        axes.set_ylabel("held-out perplexity")
        axes.grid(False, axis="x")
        plain_ticks(axes.yaxis)
        figure.legend(loc="outside upper center", ncols=3)

    return Figure("targets", "Perplexity at other targets", says, draw, (WIDTH, 3.6))
