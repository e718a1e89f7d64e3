"""The plot of a comparison: perplexity against sparsity, a line a metric, and patterns beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pzc.runtime.errors import PruningError
from pzc.runtime.evaluation.comparison import Row
from pzc.runtime.evaluation.uncertainty import change

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours that eyes of all kinds tell apart (Okabe and Ito, 2008); their yellow is too pale for paper."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
"""With the colours, these tell lines apart on paper without any: they repeat in another rhythm."""

LOGARITHMIC_FROM = 4.0
"""Perplexities whose largest is so many times the smallest are drawn on a logarithmic axis."""

OFF_FROM = 20.0
"""Metrics that are nowhere below so many times the dense model's perplexity are left off, and said to be."""

LONGEST_NAME = 34


def check_matplotlib() -> None:
    """Raise PruningError where there is no matplotlib, so that it shows before anything is measured."""
    try:
        import matplotlib as _  # noqa: F401
    except ImportError as error:
        raise PruningError("a plot needs the package `matplotlib`", hint="pip install 'pzc[report]'") from error


def draw(results: Sequence[Row], title: str, text: str, files: Sequence[Path]) -> Sequence[Path]:
    """Draw the results into each of `files`, whose ending says how, `.png` or `.svg`, and return them; where there is
    nothing to draw, none, and files of these names are removed.

    `text` names what perplexity was measured on. Bars are one standard error on either side, of the change from the
    dense model over paired windows: what makes a window hard for both tells nothing about a metric. Needs matplotlib;
    no display and no global state of it is used.
    """
    import matplotlib
    from matplotlib.figure import Figure

    finite = [row for row in results if row.compared.metric and math.isfinite(row.perplexity.value)]
    limit = OFF_FROM * results[0].perplexity.value
    shown = {row.name for row in finite if row.perplexity.value < limit}
    refused = sorted({row.name for row in results if row.compared.failure} - {row.name for row in finite})
    off = sorted({row.name for row in results if row.compared.metric} - shown - set(refused))
    measured = [row for row in finite if row.name in shown]
    shares = [row for row in measured if not row.compared.target.pattern]  # type: ignore[union-attr]
    patterns = list(dict.fromkeys(row.target for row in measured if row.compared.target.pattern))  # type: ignore[union-attr]
    panels = [name for name, there in (("shares", shares), ("patterns", patterns)) if there]
    if not panels:
        for file in files:
            file.unlink(missing_ok=True)
        return ()
    order = _by_perplexity(measured)
    fixed = {"svg.hashsalt": "pzc", "svg.fonttype": "none", "font.size": 10, "text.parse_math": False}
    with matplotlib.rc_context(fixed):
        figure = Figure(figsize=(8.4, max(4.6, 0.6 + 0.2 * len(order))), layout="constrained")
        widths = [3 if name == "shares" else max(1.0, 0.6 * len(patterns)) for name in panels]
        axes = figure.subplots(1, len(panels), sharey=True, width_ratios=widths, squeeze=False)[0]
        known: dict[str, Any] = {}
        for axis, panel in zip(axes, panels, strict=True):
            if panel == "shares":
                drawn = _lines(axis, shares, order, results[0])
            else:
                drawn = _points(axis, [row for row in measured if row not in shares], patterns, order, results[0])
            known = drawn | known
            dense = axis.axhline(
                results[0].perplexity.value, color="0.35", linewidth=1, linestyle=(0, (2, 2)), zorder=1
            )
            axis.grid(axis="y", which="both", color="0.9", linewidth=0.6)
            axis.set_axisbelow(True)
            axis.spines[["top", "right"]].set_visible(False)
        values = [row.perplexity.value for row in measured]
        if max(values) > LOGARITHMIC_FROM * results[0].perplexity.value:
            _logarithmic(axes[0])
        axes[0].set_ylabel(f"perplexity on {text}")
        figure.legend(
            [*(known[name] for name in order), dense], [*map(_label, order), "dense"],
            loc="outside right upper", frameon=False, fontsize=8.5, title="best first",
            title_fontsize=8.5, alignment="left",
        )  # fmt: skip
        notes = [
            f"{what}: {', '.join(map(_label, those))}"
            for what, those in (("off the scale", off), ("refused", refused))
            if those
        ]
        if any(_bar(row, results[0]) for row in measured):
            notes.append("bars: one standard error of the change from the dense model, windows paired")
        if notes:
            figure.supxlabel("\n".join(notes), fontsize=8, x=0.01, ha="left")
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
        for file in files:
            about = {"Date": None, "Creator": "pzc"} if file.suffix == ".svg" else {"Software": "pzc"}
            partial = file.with_name(f".{file.stem}.partial{file.suffix}")
            figure.savefig(partial, dpi=200, metadata=about)
            partial.replace(file)
    return files


def _by_perplexity(measured: Sequence[Row]) -> list[str]:
    """The metrics' names, best first by the mean of their losses over the targets where they were measured."""
    losses: dict[str, list[float]] = {}
    for row in measured:
        losses.setdefault(row.name, []).append(math.log(row.perplexity.value))
    return sorted(losses, key=lambda name: sum(losses[name]) / len(losses[name]))


def _style(place: int) -> dict[str, Any]:
    return {
        "color": COLOURS[place % len(COLOURS)],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": DASHES[place // len(COLOURS) % len(DASHES)],
        "markersize": 5,
        "linewidth": 1.4,
    }


def _bar(row: Row, dense: Row) -> float:
    """The standard error of a perplexity beside the dense model's; 0 where it is not known."""
    error = change(row.compared.losses, dense.compared.losses).error * dense.perplexity.value
    return error if math.isfinite(error) else 0.0


def _draw(axis: Axes, points: Sequence[tuple[float, float, float]], place: int, **style: Any) -> Any:
    """Points `(x, perplexity, error)` of a metric, with bars; what stands for them in a legend."""
    x, y, errors = zip(*points, strict=True)
    bars: dict[str, Any] = {"yerr": errors, "elinewidth": 1, "capsize": 2} if any(errors) else {}
    return axis.errorbar(x, y, **{**_style(place), **style}, **bars)


def _lines(axis: Axes, shares: Sequence[Row], order: Sequence[str], dense: Row) -> dict[str, Any]:
    """A line through the sparsities of each metric, by its name: in per cent, those that were asked for."""

    def at(row: Row) -> float:
        return 100 * float(row.compared.target.sparsity)  # type: ignore[union-attr]

    drawn = {}
    for place, name in enumerate(order):
        mine = sorted((at(r), r.perplexity.value, _bar(r, dense)) for r in shares if r.name == name)
        if mine:
            drawn[name] = _draw(axis, mine, place)
    axis.set_xlabel("sparsity of the blocks' linear weights, %")
    ticks = sorted({at(row) for row in shares})
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    return drawn


def _points(
    axis: Axes, rows: Sequence[Row], patterns: Sequence[str], order: Sequence[str], dense: Row
) -> dict[str, Any]:
    """A point for each metric, by its name, at each pattern, side by side so that none hides another."""
    drawn = {}
    for place, name in enumerate(order):
        mine = {r.target: (r.perplexity.value, _bar(r, dense)) for r in rows if r.name == name}
        shift = 0.6 * ((place + 0.5) / len(order) - 0.5)
        at = [(patterns.index(target) + shift, *values) for target, values in mine.items()]
        if at:
            drawn[name] = _draw(axis, at, place, linestyle="none")
    axis.set_xticks(range(len(patterns)), list(patterns))
    axis.set_xlim(-0.5, len(patterns) - 0.5)
    axis.set_xlabel("pattern N:M")
    return drawn


def _logarithmic(axis: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator

    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axis.yaxis.set_minor_formatter(FuncFormatter(lambda value, place: ""))


def _label(name: str) -> str:
    """A name as a legend shows it."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 2]} …"
