"""Weights that are pruned so many at a time: how often of each layer, so that the total is exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """Weights that are pruned `step` at a time: `size` of them, of which the share `proposed` should go."""

    size: int
    step: int
    proposed: float


def whole_steps(cells: Sequence[Cell], total: int) -> list[int]:
    """How many steps to prune of each cell: never more than `total` weights in all, and no step more would fit.

    Each cell gets its proposal rounded down, then those with the largest fractions one more. A cell keeps at least one
    step."""
    wanted = [cell.proposed * cell.size / cell.step for cell in cells]
    counts = [min(int(w + 1e-9), cell.size // cell.step - 1) for w, cell in zip(wanted, cells, strict=True)]
    left = total - sum(count * cell.step for count, cell in zip(counts, cells, strict=True))
    order = sorted(range(len(cells)), key=lambda i: (counts[i] - wanted[i], i))
    while left < 0:  # proposals that make more than the total by rounding errors alone
        for i in reversed(order):
            if left < 0 < counts[i]:
                counts[i] -= 1
                left += cells[i].step
    given = True
    while given:
        given = False
        for i in order:
            room = counts[i] < cells[i].size // cells[i].step - 1
            if room and cells[i].proposed > 0 and cells[i].step <= left:
                counts[i] += 1
                left -= cells[i].step
                given = True
    return counts
