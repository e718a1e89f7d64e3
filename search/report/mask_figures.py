"""How far the winner's masks are from those of published metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from pzc.search.report.figure import WIDTH, Figure, label_bar
from pzc.search.report.measure import Measured
from pzc.search.report.numbers import percent
from pzc.search.report.themes import Theme


def differences(measured: Measured) -> Figure:
    """How far the winner's masks are from those of each published metric."""
    near, far = measured.differences[0], measured.differences[-1]
    says = (
        f"The winner's masks are nearest to those of {near.metric}, from which {percent(near.share)} of the bits "
        f"differ, and furthest from those of {far.metric}, {percent(far.share)}."
    )

    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.subplots()
        rows = measured.differences[::-1]
        axes.barh(range(len(rows)), [100 * d.share for d in rows], color=theme.series[0], height=0.68)
        for y, d in enumerate(rows):
            label_bar(axes, 100 * d.share, y, f"{100 * d.share:.1f}", theme)
        axes.set_yticks(range(len(rows)), [d.metric for d in rows])
        axes.set_xlim(0, 112 * max(0.01, *(d.share for d in rows)))
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel("mask bits that differ from the winner's (%)")
        axes.grid(False, axis="y")

    return Figure(
        "masks", "The winner's masks against the zoo's", says, draw, (WIDTH, 0.9 + 0.21 * len(measured.differences))
    )


def layers(measured: Measured) -> Figure:
    """Layer by layer, how far the winner's masks are from those of the best published metric."""
    chosen = next((d for d in measured.differences if d.metric == measured.metrics[1]), measured.differences[0])
    each: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for name, share in chosen.layers.items():
        each[name.rpartition(".")[2]][measured.blocks[name]].append(share)
    roles = {role: {block: fmean(some) for block, some in blocks.items()} for role, blocks in each.items()}  # experts
    largest = max(0.01, *chosen.layers.values())
    blocks = sorted(set(measured.blocks.values()))
    written = len(blocks) <= 8
    cells = "Numbers are the bits that differ, in %" if written else "Colour is the share of bits that differ"
    most, least = (pick(chosen.layers, key=lambda n: chosen.layers[n]) for pick in (max, min))
    says = (
        f"Against {chosen.metric}, masks differ most in {_place(most)} ({percent(chosen.layers[most])}) and least in "
        f"{_place(least)} ({percent(chosen.layers[least])}). {cells}; full colour is "
        f"{percent(largest)}."
    )

    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.subplots()
        for y, role in enumerate(roles):
            for block, share in roles[role].items():
                axes.add_patch(_cell(block, y, theme.series[0], 0.05 + 0.95 * share / largest))
                if written:
                    light = share < 0.8 * largest
                    axes.annotate(
                        f"{100 * share:.1f}", (block, y), ha="center", va="center", fontsize=9,
                        color=theme.ink if light else theme.paper,
                    )  # fmt: skip
        axes.set_xlim(blocks[0] - 0.5, blocks[-1] + 0.5)
        axes.set_ylim(len(roles) - 0.5, -0.5)
        axes.set_yticks(range(len(roles)), list(roles))
        axes.set_xticks(_ticks(blocks))
        axes.set_xlabel("block")
        axes.grid(False)

    return Figure("layers", f"Layer by layer against {chosen.metric}", says, draw, (WIDTH, 0.9 + 0.3 * len(roles)))


def _cell(x: int, y: int, colour: str, alpha: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, alpha=alpha, linewidth=0)


def _ticks(blocks: Sequence[int]) -> list[int]:
    return list(blocks)[:: max(1, len(blocks) // 8)]


def _place(layer: str) -> str:
    return layer.removeprefix("model.")
