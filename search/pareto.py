"""Pareto fronts: what no other candidate beats in every objective, and NSGA-II's order of a population.

Deb, Pratap, Agarwal and Meyarivan, A fast and elitist multiobjective genetic algorithm: NSGA-II, 2002.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

from pzc.compiler.leaves import TIERS
from pzc.search.candidate import Candidate

T = TypeVar("T")
Point = tuple[float, ...]


def objectives(c: Candidate) -> Point:
    """What is traded off, each to be small: fitness, complexity, and how dear the statistics are."""
    return c.fitness, float(c.complexity), float(TIERS.index(c.tier)) if c.tier in TIERS else -1.0


def unbeaten(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The candidates that no other beats, best fitness first: none is at least as good in fitness, complexity and cost
    tier and better in one of them. Of several that are alike in all three the oldest stands for them."""
    found: list[Candidate] = []
    seen: list[Point] = []
    pool = (c for c in candidates if c.status == "evaluated" and math.isfinite(c.fitness))
    for c in sorted(pool, key=lambda c: (*objectives(c), c.number)):
        _, size, tier = objectives(c)
        if not any(smaller <= size and cheaper <= tier for smaller, cheaper in seen):
            found.append(c)
            seen.append((size, tier))
    return found


def dominates(a: Point, b: Point) -> bool:
    """Whether a is nowhere worse than b and somewhere better."""
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


def fronts(points: Sequence[Point]) -> list[list[int]]:
    """Positions by front: what nothing dominates, what only the first front dominates, and so on."""
    left = list(range(len(points)))
    found: list[list[int]] = []
    while left:
        front = [i for i in left if not any(dominates(points[j], points[i]) for j in left)]
        found.append(front)
        taken = set(front)
        left = [i for i in left if i not in taken]
    return found


def crowding(points: Sequence[Point]) -> list[float]:
    """How much room each point of a front has along every objective; the ends have infinite room."""
    room = [0.0] * len(points)
    for axis in range(len(points[0]) if points else 0):
        order = sorted(range(len(points)), key=lambda i: (points[i][axis], i))
        low, high = points[order[0]][axis], points[order[-1]][axis]
        room[order[0]] = room[order[-1]] = math.inf
        span = high - low
        if not span or not math.isfinite(span):
            continue
        for before, at, after in zip(order, order[1:], order[2:], strict=False):
            room[at] += (points[after][axis] - points[before][axis]) / span
    return room


def nsga2(pool: Sequence[Candidate], n: int) -> list[Candidate]:
    """The n survivors of a pool: front by front, and of the last front those with the most room."""
    points = [objectives(c) for c in pool]
    chosen: list[Candidate] = []
    for front in fronts(points):
        room = crowding([points[i] for i in front])
        ranked = sorted(range(len(front)), key=lambda k: (-room[k], front[k]))
        chosen += [pool[front[k]] for k in ranked[: n - len(chosen)]]
        if len(chosen) == n:
            break
    return chosen
