"""Pareto fronts and NSGA-II against what their definitions say, and which candidates breed on an island."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pzc.compiler.leaves import TIERS
from pzc.search.candidate import Candidate
from pzc.search.pareto import crowding, dominates, fronts, nsga2, objectives
from pzc.search.plan import Plan
from pzc.search.population import island_pool, survivors, worth
from tests.searches import made

points = st.lists(st.tuples(*[st.integers(0, 4).map(float)] * 3), min_size=1, max_size=14)


def ranks(found: list[tuple[float, ...]]) -> list[int]:
    """The front of each point, as the length of the longest chain of points that each dominate the next one."""

    def chain(p: tuple[float, ...]) -> int:
        better = [q for q in set(found) if q != p and all(a <= b for a, b in zip(q, p, strict=True))]
        return max((1 + chain(q) for q in better), default=0)

    return [chain(p) for p in found]


@given(points)
def test_fronts_are_the_layers_of_the_dominance_order(found: list[tuple[float, ...]]) -> None:
    got = {i: rank for rank, front in enumerate(fronts(found)) for i in front}
    assert [got[i] for i in range(len(found))] == ranks(found)
    assert sum(map(len, fronts(found))) == len(found)


@given(points)
def test_crowding_is_the_sum_of_the_gaps_between_neighbours(found: list[tuple[float, ...]]) -> None:
    found = sorted(set(found))
    room = crowding(found)
    for i, p in enumerate(found):
        want = 0.0
        for axis in range(3):
            values = [q[axis] for q in found]
            span = max(values) - min(values)
            # of points that tie along an axis, which are its ends and its neighbours is a matter of order
            order = sorted(range(len(found)), key=lambda j: (found[j][axis], j))
            at = order.index(i)
            if at in (0, len(order) - 1):
                want = math.inf
            elif span:
                want += (values[order[at + 1]] - values[order[at - 1]]) / span
        assert math.isclose(room[i], want), (p, room[i], want)


def of(point: tuple[float, ...], number: int) -> Candidate:
    """A candidate with such objectives."""
    fitness, complexity, tier = point
    return made(number, f"abs(W) ^ {number}", losses=(fitness,), complexity=int(complexity), tier=TIERS[int(tier) % 3])


@given(points, st.integers(1, 14))
def test_nsga2_takes_front_by_front_and_the_loneliest_of_the_last(found: list[tuple[float, ...]], n: int) -> None:
    pool = [of(p, i) for i, p in enumerate(found)]
    chosen = nsga2(pool, n)
    assert len(chosen) == len(set(chosen)) == min(n, len(pool))
    rank = dict(zip(pool, ranks([objectives(c) for c in pool]), strict=True))
    left = [c for c in pool if c not in chosen]
    assert max(rank[c] for c in chosen) <= min((rank[c] for c in left), default=99)
    last = max(rank[c] for c in chosen)
    front = [c for c in pool if rank[c] == last]
    room = dict(zip(front, crowding([objectives(c) for c in front]), strict=True))
    kept = [room[c] for c in chosen if rank[c] == last]
    assert min(kept) >= max((room[c] for c in front if c not in chosen), default=0.0)


@given(points)
def test_the_first_front_is_what_nothing_dominates(found: list[tuple[float, ...]]) -> None:
    front = fronts([objectives(of(p, 0)) for p in found])[0]
    assert front
    for i, point in enumerate(found):
        beaten = any(dominates(objectives(of(other, 0)), objectives(of(point, 0))) for other in found)
        assert (i in front) != beaten


def test_a_cheaper_statistic_is_an_advantage() -> None:
    cheap, dear = (made(i, losses=(1.0,), complexity=3, tier=tier) for i, tier in enumerate((TIERS[0], TIERS[-1])))
    assert dominates(objectives(cheap), objectives(dear))
    assert not dominates(objectives(cheap), objectives(cheap))


@given(points, st.integers(1, 10), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_survivors(found: list[tuple[float, ...]], n: int, share: float) -> None:
    """The best is the first of them; the rest is in the order of worth; without a Pareto share the worthiest are in."""
    pool = sorted((of(p, i) for i, p in enumerate(found)), key=lambda c: c.order)
    plan = Plan(alike=99, pareto=share)
    chosen = survivors(pool, plan, n)
    assert len(chosen) == len(set(chosen)) == min(n, len(pool))
    assert chosen[0] == pool[0]
    assert [worth(c, plan) for c in chosen[1:]] == sorted(worth(c, plan) for c in chosen[1:])
    if share == 0.0:
        best = sorted(worth(c, plan) for c in pool[: 2 * n])[: n - 1]
        assert set(best) <= {worth(c, plan) for c in chosen}
    assert survivors([], plan, n) == []


# Islands


def on(island: int, generation: int, loss: float, number: int) -> Candidate:
    return made(number, generation=generation, island=island, losses=(loss,))


def test_an_island_breeds_its_own_and_what_migrated() -> None:
    plan = Plan(islands=3, migration=2, migrants=2, alike=9)
    found = sorted(
        (
            on(island, generation, 10 * island + generation, 10 * island + generation)
            for island in range(3)
            for generation in range(6)
        ),
        key=lambda c: c.order,
    )

    def numbers(generation: int, island: int) -> list[int]:
        return [c.number for c in island_pool(found, [], plan, generation, island)]

    assert numbers(0, 0) == []
    assert numbers(1, 1) == [10]
    assert numbers(2, 1) == [0, 1, 10, 11]  # the best two of the island before it, from before generation 2
    assert numbers(3, 1) == [0, 1, 10, 11, 12]
    assert numbers(2, 0) == [0, 1, 20, 21]  # the first follows the last
    assert numbers(5, 2) == [10, 11, *range(20, 25)]
    assert numbers(5, 0) == [*range(5), 20, 21]


def test_an_island_alone_gets_nothing_from_itself() -> None:
    found = [on(0, generation, 1.0 + generation, generation) for generation in range(4)]
    assert island_pool(found, [], Plan(islands=1, migration=1), 3, 0) == found[:3]


def test_the_zoo_breeds_on_every_island_if_it_may() -> None:
    zoo = [made(0, generation=-1, losses=(2.0,))]
    found = [on(0, 0, 1.0, 1), on(1, 0, 3.0, 2)]
    plan = Plan(islands=2, migration=9, seed_zoo=True)
    assert [c.number for c in island_pool(found, zoo, plan, 1, 0)] == [1, 0]
    assert [c.number for c in island_pool(found, zoo, plan, 1, 1)] == [0, 2]
    assert [c.number for c in island_pool(found, zoo, replace(plan, seed_zoo=False), 1, 1)] == [2]
