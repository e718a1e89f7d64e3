"""Condensed parents rank as what was bred, in fewer nodes, inside the space."""

from __future__ import annotations

import numpy as np
import pytest

from pzc.compiler.core import size, topological
from pzc.compiler.leaves import LEAVES
from pzc.compiler.load import inline
from pzc.compiler.reference import evaluate
from pzc.compiler.source import expression
from pzc.search.condensed import condensed
from pzc.search.proposals import rng_for
from pzc.search.space import Genotype, random_genotype, space_for, space_names, why_not
from pzc.search.variation import new_factor

GROWN = (
    "abs(W) * G * (abs(W) * X) * sqrt(X.max ^ 1.73) * (abs(W / norm(W, 2, out)) * G * (abs(W) / max(abs(W), in) * X)"
    " * X ^ 1.16) ^ 0.557"
)


def genotype(text: str, per: str = "layer") -> Genotype:
    metric = inline(f"{text} per {per}", analyse=False)
    return Genotype(metric.core, metric.per)


@pytest.mark.parametrize("name", space_names())
def test_the_short_form_ranks_alike_and_stays_in_the_space(name: str) -> None:
    space, shorter = space_for(name), 0
    for slot in range(200):
        long = random_genotype(space, rng_for(3, 0, slot, 0))
        short = condensed(long, space)
        assert short.per == long.per
        assert inline(f"{expression(short.core)} per {short.per}", analyse=False).core is short.core
        operations = {n.op for n in topological(short.core)} - {"leaf", "number"}
        had = {n.op for n in topological(long.core)} | space.operations
        assert operations <= had | {"var", "sum"}
        shorter += size(short.core) < size(long.core)
        leaves = values(slot)
        a, b = (np.broadcast_to(evaluate(g.core, leaves), (6, 7)) for g in (long, short))
        if np.isfinite(a).all() and np.isfinite(b).all():
            assert same_order(a, b, long.per), f"{expression(long.core)} per {long.per}  ~  {expression(short.core)}"
    assert shorter > 40


def values(seed: int) -> dict[str, np.ndarray]:
    """A value for each leaf, without zeros."""
    rng = np.random.default_rng(seed)
    length = {"out": 6, "in": 7}
    found = {
        name: rng.uniform(0.2, 2.0, [length[axis] for axis in statistic.axes]) for name, statistic in LEAVES.items()
    }
    return {**found, "W": rng.normal(size=(6, 7)), "in_features": 7.0, "out_features": 6.0}


def same_order(a: np.ndarray, b: np.ndarray, per: str) -> bool:
    """Whether no clear difference inside a group is turned round: exponents of four digits move a score a little."""
    a, b = (x if per == "row" else x.T if per == "col" else x.reshape(1, -1) for x in (a, b))
    da, db = (x[:, :, None] - x[:, None, :] for x in (a, b))
    clear = (np.abs(da) > 1e-2 * np.abs(a).max()) & (np.abs(db) > 1e-2 * np.abs(b).max())
    return bool((np.sign(da) == np.sign(db))[clear].all())


def test_what_has_outgrown_the_space_can_be_added_to_again() -> None:
    space, grown = space_for("default"), genotype(GROWN)
    short = condensed(grown, space)
    assert expression(short.core) == (
        "abs(W) * G ^ 0.5 * X ^ 0.7075 * X.max ^ 0.2778 / (max(abs(W), in) ^ 0.1789 * sum(W ^ 2, out) ^ 0.08943)"
    )

    def added(parent: Genotype) -> int:
        children = [new_factor([parent], space, rng_for(0, 0, slot, 0)) for slot in range(60)]
        return sum(why_not(c, space) is None for c in children if c)

    assert added(grown) < 20
    assert added(short) > 40


def test_no_operation_comes_in_that_the_space_lacks() -> None:
    cube = genotype("W * W * W * G", "row")
    assert condensed(cube, space_for("elementwise")) is cube
    assert expression(condensed(cube, space_for("default")).core) != expression(cube.core)
