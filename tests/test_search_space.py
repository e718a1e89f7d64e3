"""Random trees and offspring are metrics that the checker accepts, inside the space that they were made for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pzc.compiler.core import Node, leaf, leaves_of, make, number, size, topological
from pzc.compiler.functions import REDUCING
from pzc.compiler.groups import constant_in
from pzc.compiler.leaves import ALIASES
from pzc.compiler.load import MetricNotFound, inline, zoo
from pzc.compiler.rewriting.canonical import canonical
from pzc.compiler.source import expression
from pzc.runtime.errors import PruningError
from pzc.search.proposals import rng_for
from pzc.search.space import Genotype, Space, apply, build, load_space, random_genotype, space_for, space_names, why_not
from pzc.search.variation import VARIATIONS, moved, offspring, positions, replaced

A, X = make("abs", leaf("W")), leaf("X.l2")


def assert_valid(g: Genotype, space: Space) -> None:
    """A candidate that survives being printed and read, varies in its group and keeps to the limits."""
    read = inline(f"{expression(g.core)} per {g.per}", analyse=False)
    assert read.core is g.core, expression(g.core)
    assert read.per == g.per
    assert g.per in space.groups
    assert not constant_in(canonical(g.core), g.per)
    assert size(g.core) <= space.largest
    assert g.core.height <= 3 * space.depth[1]


def parents_of(space: Space, seed: int) -> list[Genotype]:
    rng = rng_for(seed, 0, 0, 0)
    return [random_genotype(space, rng) for _ in range(2)]


@pytest.mark.parametrize("name", space_names())
def test_random_genotypes_are_valid(name: str) -> None:
    space = space_for(name)
    leaves = {ALIASES.get(n, n) for n, _ in space.leaves}
    made = [random_genotype(space, rng_for(1, 0, slot, 0)) for slot in range(300)]
    for g in made:
        assert_valid(g, space)
        assert leaves_of(g.core) <= leaves
    assert len(set(made)) > 200
    assert {g.per for g in made} == set(space.groups)


@pytest.mark.parametrize("name", space_names())
@pytest.mark.parametrize("variation", VARIATIONS)
def test_each_variation_makes_valid_offspring_where_it_applies(name: str, variation: str) -> None:
    space = space_for(name)
    vary, weight = VARIATIONS[variation]
    assert weight > 0
    made = 0
    for seed in range(60):
        parents = parents_of(space, seed)
        child = vary(parents, space, rng_for(seed, 1, 0, 0))
        if child is not None and child not in parents and why_not(child, space) is None:
            assert_valid(child, space)
            made += 1
    lacks = {
        "default": set(),
        "elementwise": {"normalise", "axis", "group", "blend", "join", "power"},
        "pruner_zero": {"normalise", "group", "blend", "join", "power"},
    }
    applies = set(VARIATIONS) - lacks[name]
    assert (made > 0) == (variation in applies)


def operations_of(core: Node) -> set[str]:
    return {n.op for n in topological(core)} - {"leaf", "number"}


@pytest.mark.parametrize(
    ("ops", "reductions", "allowed"),
    [
        ("+", "reductions: sum", {"add", "abs", "sum", "div"}),  # a value is divided by its own reductions
        ("*, min", "", {"mul", "min", "abs"}),
        ("-, sqrt, ^", "", {"sub", "sqrt", "pow", "abs", "neg"}),
        ("*, ^", "reductions: mean", {"mul", "pow", "abs", "mean", "div"}),
    ],
)
def test_offspring_have_operations_of_the_space_alone(
    ops: str, reductions: str, allowed: set[str], tmp_path: Path
) -> None:
    path = tmp_path / "own.pzm"
    path.write_text(f"pzm 1\nspace own {{ leaves: W, X ops: {ops} {reductions} per: model }}\n", encoding="utf-8")
    space = space_for(str(path))
    population = parents_of(space, 0)
    for slot in range(300):
        rng = rng_for(0, 1, slot, 0)
        chosen = [population[int(i)] for i in rng.integers(len(population), size=2)]
        child, how = offspring(chosen, space, rng)
        assert operations_of(child.core) <= allowed, (how, expression(child.core))
        population.append(child)


def test_a_new_power_is_of_any_leaf_or_of_a_reduction_of_one() -> None:
    space, parent = space_for("default"), Genotype(inline("abs(W) * X").core, "layer")
    children = [VARIATIONS["power"][0]([parent], space, rng_for(seed, 0, 0, 0)) for seed in range(400)]
    factors = [child.core.args[1] for child in children if child and child.core.op == "mul"]
    assert all(child and child.core.args[0] is parent.core for child in children)
    assert {f.op for f in factors} == {"pow"}
    exponents = [abs(f.args[1].value) for f in factors]
    assert (min(exponents), max(exponents)) == (0.125, 0.5)
    times = Counter(next(iter(leaves_of(f))) for f in factors)
    assert set(times) == {ALIASES.get(name, name) for name, _ in space.leaves}
    assert min(times.values()) > len(children) / len(space.leaves) / 2  # alike, whatever their weights
    reducing = sum(any(n.op in REDUCING for n in topological(f)) for f in factors)
    assert len(factors) / 3 < reducing < len(factors) / 1.5


@pytest.mark.parametrize("name", space_names())
def test_generations_of_offspring_stay_valid(name: str) -> None:
    space = space_for(name)
    published = [g for m in zoo().values() if not why_not(g := Genotype(m.core, m.per), space)]
    population = published + [random_genotype(space, rng_for(0, 0, slot, 0)) for slot in range(10)]
    used = set()
    for slot in range(300):
        rng = rng_for(0, 1, slot, 0)
        chosen = [population[int(i)] for i in rng.integers(len(population), size=2)]
        child, how = offspring(chosen, space, rng)
        assert why_not(child, space) is None
        assert child not in chosen
        read = inline(f"{expression(child.core)} per {child.per}", analyse=False)
        assert read.core is child.core, expression(child.core)
        population[int(rng.integers(len(population)))] = child
        used.add(how)
    assert used >= {"crossover", "node", "leaf", "constant", "subtree", "hoist", "insert", "factor"}


def test_offspring_follow_the_seed_and_the_place() -> None:
    space = space_for("default")
    places = [(s, g, slot, a) for s in (0, 1) for g in (0, 1) for slot in (0, 1) for a in (0, 1)]
    parents = parents_of(space, 4)

    def made() -> list[tuple[Genotype, str]]:
        return [offspring(parents, space, rng_for(*place)) for place in places]

    assert made() == made()
    draws = [tuple(rng_for(*place).integers(2**60, size=2)) for place in places]
    assert len(set(draws)) == len(places)


def test_offspring_keep_to_nesting_and_to_the_tier() -> None:
    """Each bound refuses some of what would be bred without it, and none of it is bred with it."""
    free = space_for("default")
    bound = replace(space_for("default", tier="forward"), nesting=((("pow",), 1), (("mean", "norm"), 1)))
    assert {name for name, _ in free.leaves} - {name for name, _ in bound.leaves} == {"G.l2", "G.l1"}
    refused = Counter[str | None]()
    for space in (free, bound):
        population = [random_genotype(space, rng_for(0, 0, slot, 0)) for slot in range(12)]
        for slot in range(200):
            rng = rng_for(0, 1, slot, 0)
            child, _ = offspring([population[int(i)] for i in rng.integers(len(population), size=2)], space, rng)
            population[slot % len(population)] = child
            if space is free:
                refused[why_not(child, bound)] += 1
                continue
            ways = [(child.core, 0)]
            while ways:
                node, powers = ways.pop()
                powers += node.op == "pow"
                assert powers <= 1
                ways += [(a, powers) for a in node.args]
            assert not {"G.l1", "G.l2"} & leaves_of(child.core)
    assert min(refused["nested too deep"], refused["too dear"]) > 5


def test_the_cheaper_of_two_tiers_holds(tmp_path: Path) -> None:
    path = tmp_path / "mine.pzm"
    assert space_for("default", tier="weights").leaves == (("W", 5.0),)
    path.write_text("pzm 1 space s { leaves: X ops: * tier: forward }", encoding="utf-8")
    assert space_for(str(path), tier="backward").tier == space_for(str(path)).tier == "forward"
    with pytest.raises(MetricNotFound, match="the space `s` has no leaf of the tier `weights`, nor a cheaper one"):
        space_for(str(path), tier="weights")


def test_a_space_that_gives_no_metric_is_refused() -> None:
    columns = replace(space_for("elementwise"), leaves=(("X", 1.0),), groups=("col",))
    with pytest.raises(PruningError, match=r"the space `elementwise` gives no metric: of 1,000 .* \(constant: 1,000\)"):
        random_genotype(columns, rng_for(0, 0, 0, 0))
    tiny = replace(space_for("elementwise"), largest=0)
    with pytest.raises(PruningError, match="too large: 1,000"):
        offspring([Genotype(A, "row")] * 2, tiny, rng_for(0, 0, 0, 0))


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("norm(W, <hole>, in) * abs(W)", "does not fit the template: 1,000"),  # the order of a norm is a number
        ("X * 0 * <hole>", r"\(constant: "),
    ],
)
def test_a_template_that_no_filling_makes_a_metric_of_is_refused(template: str, why: str) -> None:
    with pytest.raises(PruningError, match=why):
        random_genotype(space_for("default", template=template), rng_for(0, 0, 0, 0))


def test_what_does_not_fit_the_hole_is_no_candidate() -> None:
    """Of a leaf without the axis of the sum there is no sum: the template is not left out instead."""
    space = space_for("default", template="sum(<hole>, in) * abs(W) * X")
    assert why_not(Genotype(leaf("Y.l2"), "row"), space) == "does not fit the template"
    assert why_not(Genotype(X, "row"), space) is None
    for seed in range(100):
        found = random_genotype(replace(space, leaves=(("W", 1.0), ("Y", 1.0))), rng_for(seed, 0, 0, 0))
        assert expression(space.expressed(found).core) == f"sum({expression(found.core)}, in) * abs(W) * X"


def test_a_pattern_leaves_rows_as_the_only_group() -> None:
    assert space_for("default", "row").groups == ("row",)
    assert space_for("default").groups == ("row", "col", "layer", "model")


def test_operations_are_made_valid() -> None:
    W = leaf("W")
    assert build("sqrt", W) is make("sqrt", A)
    assert build("pow", W, number(0.5)) is make("pow", A, number(0.5))
    assert build("pow", W, number(2)) is make("pow", W, number(2))
    assert build("ln", X).args[0].sign.positive
    assert build("mean", X, value="out") is make("mean", X)
    assert build("mean", build("mean", X)) is make("mean", X)
    assert build("neg", number(1)) is number(-1)
    assert build("abs", A) is A


@pytest.mark.parametrize("op", ["rank", "tail"])
def test_what_goes_over_axes_keeps_its_axis(op: str) -> None:
    """In `wanda_variant` the sum goes over a row: with other numbers in the formula it does, too."""
    x = make("mul", A, X)
    assert build(op, x, value="in") is make(op, x, value="in")
    assert build(op, X, value="in") is make(op, X)  # the only axis there is
    assert build(op, number(2), value="in") is number(2)
    core = make(op, make("pow", x, number(0.5)), value="in")
    replaced_in = replaced(core, (0, 0), make("mul", A, leaf("X.l1")))
    assert expression(replaced_in) == f"{op}((abs(W) * X.l1) ^ 0.5, in)"


@pytest.mark.parametrize(
    ("core", "per", "why"),
    [
        (make("sum", leaf("W"), value="in"), "row", "constant"),
        (make("mul", X, make("div", A, A)), "col", "constant"),
        (make("pow", A, number(1e7)), "row", "number too large"),
        (make("mul", A, X), "row", None),
    ],
)
def test_what_is_no_candidate(core: Node, per: str, why: str | None) -> None:
    assert why_not(Genotype(core, per), space_for("default")) == why


def test_trees_that_grow_too_far_are_no_candidates() -> None:
    wide = deep = A
    for _ in range(5):
        wide = make("add", wide, wide)
    for _ in range(15):
        deep = make("tanh", deep)
    assert why_not(Genotype(wide, "row"), space_for("default")) == "too large"
    assert why_not(Genotype(deep, "row"), space_for("default")) == "too deep"


def test_any_position_can_be_replaced() -> None:
    for seed in range(40):
        root = random_genotype(space_for("default"), rng_for(seed, 0, 0, 0)).core
        for path, node in positions(root):
            assert replaced(root, path, node) is root
            assert node in topological(root)
            changed = replaced(root, path, make("mul", leaf("W"), leaf("G.l2")))
            assert np.isin("W", list(leaves_of(changed)))


def test_a_space_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.pzm"
    path.write_text(
        "pzm 1\nfn half(x) = x / 2\nfn both(x, y) = x * half(y)\n"
        "space one { leaves: W, Y 2 ops: half, both, ^ 3 exponents: 3 depth: 2 .. 3 size: 9 per: block }\n"
        "space two { leaves: W ops: * }\n"
    )
    space = space_for(f"{path}:one")
    assert (space.groups, space.depth, space.largest) == (("block",), (2, 3), 9)
    made = [random_genotype(space, rng_for(0, 0, slot, 0)) for slot in range(200)]
    assert {"W", "Y.l2"} == frozenset().union(*(leaves_of(g.core) for g in made))
    text = " ".join(expression(g.core) for g in made)
    assert "/ 2" in text
    assert "^ 3" in text
    with pytest.raises(MetricNotFound, match=r"name one space of .*mine\.pzm, as in .*mine\.pzm:one; it has one, two"):
        load_space(str(path))
    odd = tmp_path / "run 1:30" / "mine.pzm"
    odd.parent.mkdir()
    odd.write_bytes(path.read_bytes())
    assert load_space(f" {odd}:one").name == "one"
    with pytest.raises(MetricNotFound, match=r"there is no space `defualt`; did you mean `default`\?"):
        load_space("defualt")
    (tmp_path / "none.pzm").write_text("pzm 1\nmetric m = W\n")
    with pytest.raises(MetricNotFound, match="it declares no space"):
        load_space(str(tmp_path / "none.pzm"))


def test_a_function_that_its_argument_does_not_fit_leaves_it_as_it_is() -> None:
    """Min-max scaling of a single number: there is no axis to go over."""
    ops = {op.name: op for op, _ in load_space("pruner_zero").ops}
    total = make("sum", leaf("W"), value=None)
    assert apply(ops["paper.mms"], total) is total
    assert apply(ops["paper.log"], leaf("W")) is inline("ln(abs(W) + 0.001)").core


def test_the_share_of_a_quantile_is_no_constant_to_move() -> None:
    core = inline("abs(W) / quantile(abs(W), 0.9)").core
    for seed in range(20):
        assert VARIATIONS["constant"][0]([Genotype(core, "row")], space_for("default"), rng_for(seed, 0, 0, 0)) is None


@pytest.mark.parametrize("name", space_names())
def test_moved_numbers_make_candidates_of_the_space(name: str) -> None:
    space, changed = space_for(name), 0
    for seed in range(100):
        parent = parents_of(space, seed)[0]
        child = moved(parent, space, rng_for(seed, 1, 0, 0), 0.3)
        if why_not(child, space) is None:
            assert_valid(child, space)
        had = {n.op for n in topological(parent.core)}
        assert {n.op for n in topological(child.core)} <= had | space.operations | {"number", "abs"}
        assert leaves_of(child.core) == leaves_of(parent.core)
        changed += child != parent
    assert (changed > 50) == ("pow" in space.operations)


def test_bare_factors_get_an_exponent_half_of_the_time() -> None:
    space = space_for("default")
    parent = Genotype(inline("abs(W) * X / sum(sqr(W), out) * windows per row").core, "row")
    texts = [expression(moved(parent, space, rng_for(seed, 0, 0, 0), 0.1).core) for seed in range(200)]
    assert 60 < sum("X ^ " in t for t in texts) < 140
    assert 60 < sum("out) ^ " in t for t in texts) < 140
    assert not any("abs(W) ^" in t or "windows ^" in t for t in texts)
