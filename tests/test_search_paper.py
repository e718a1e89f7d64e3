"""Pruner-Zero's algorithm 1 and its baseline, as the paper describes them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from pzc.compiler.core import leaves_of, size
from pzc.compiler.paper.opposing import simplify
from pzc.compiler.paper.trees import BINARY, LEAVES, UNARY
from pzc.compiler.source import expression
from pzc.search import paper_trees
from pzc.search.algorithms import ALGORITHMS, Breeding
from pzc.search.candidate import Candidate
from pzc.search.paper_trees import Tree, expressed, levels, mutated, offspring, random_tree, read, ways, written
from pzc.search.plan import Plan
from pzc.search.proposals import rng_for
from pzc.search.settings import Settings, leaves_for
from pzc.search.space import space_for
from pzc.search.state import State
from tests.searches import closed, made, small_search

MANY = 300


def assert_valid(tree: Tree) -> None:
    """Operators with as many arguments as they take, and leaves of the release."""
    name, sides = tree["data"], [side for side in ("left", "right") if side in tree]
    arity = 2 if name in BINARY else 1 if name in UNARY else 0
    assert arity or name in LEAVES
    assert sides == ["left", "right"][:arity]
    assert set(tree) == {"data", *sides}
    for side in sides:
        assert_valid(tree[side])


def trees(n: int = MANY) -> list[Tree]:
    return [random_tree(rng_for(0, 0, slot, 0)) for slot in range(n)]


def test_first_trees_have_three_to_five_levels() -> None:
    for tree in trees():
        assert_valid(tree)
    found = Counter(map(levels, trees()))
    assert {3, 4, 5} <= set(found) <= {2, 3, 4, 5}  # a tree that is grown may end before its last level
    assert {node for tree in trees() for node in names(tree)} == {*LEAVES, *UNARY, *BINARY}


def names(tree: Tree) -> set[str]:
    return {tree["data"]}.union(*(names(tree[side]) for side in ("left", "right") if side in tree))


def test_the_root_of_a_first_tree_is_an_operator() -> None:
    assert not {tree["data"] for tree in trees()} & set(LEAVES)


def test_a_mutation_changes_one_node_for_another_of_its_kind() -> None:
    for slot, tree in enumerate(trees(60)):
        changed = mutated(tree, rng_for(1, 0, slot, 0))
        assert_valid(changed)
        assert ways(changed) == ways(tree)
        differ = [way for way in ways(tree) if at(tree, way)["data"] != at(changed, way)["data"]]
        assert len(differ) == 1


def at(tree: Tree, way: tuple[str, ...]) -> Tree:
    for side in way:
        tree = tree[side]
    return tree


def test_offspring_are_valid_simplified_and_new() -> None:
    some = trees(80)
    how = Counter[str]()
    for slot in range(150):
        first, second = some[slot % 80], some[(slot * 7 + 1) % 80]
        child, name = offspring(first, second, rng_for(2, 1, slot, 0))
        assert_valid(child)
        assert child not in (first, second)
        how[name] += 1
        if name != "random":
            assert simplify(child)[0] == child
            assert levels(child) <= paper_trees.DEEPEST
            assert size(expressed(child).core) <= paper_trees.LARGEST
    assert set(how) == {"crossover", "crossover, mutation", "random"}
    bred = how["crossover"] + how["crossover, mutation"]
    assert 0.35 < how["crossover"] / bred < 0.65  # mutation with probability 0.5


def test_an_offspring_equal_to_a_parent_gives_way_to_a_random_tree() -> None:
    leaf = {"data": "W"}
    names = {offspring(leaf, leaf, rng_for(0, 0, slot, 0))[1] for slot in range(20)}
    assert names == {"random", "crossover, mutation"}


def test_a_tree_is_read_as_it_was_written() -> None:
    for tree in trees(50):
        assert read(written(tree)) == tree


@pytest.mark.parametrize("space", ["pruner_zero", "default", "elementwise"])
def test_the_leaves_of_the_release_are_gathered_whatever_the_space(space: str) -> None:
    needed = frozenset().union(*(leaves_of(expressed(tree).core) for tree in trees(50)))
    assert needed <= leaves_for(Settings(algorithm="paper", space=space)) | {"windows"}


PLAN = Plan(algorithm="paper", population=10, islands=1, generations=25, seed=3)
SETTINGS = Settings(algorithm="paper", space="pruner_zero")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> State:
    return small_search(tmp_path_factory.mktemp("paper"), PLAN, settings=SETTINGS)


def bred(state: State) -> list[Candidate]:
    return [c for c in state.candidates if not c.published]


def test_one_candidate_a_generation_after_the_first_population(run: State) -> None:
    slots = Counter(c.generation for c in bred(run))
    assert slots == {0: 10, **dict.fromkeys(range(1, 25), 1)}
    assert all(c.attempt == 0 for c in bred(run))


def test_everything_is_measured_in_full(run: State) -> None:
    assert {c.status for c in bred(run)} <= {"evaluated", "refused"}
    assert {len(c.losses) for c in run.found} == {16}
    assert {c.per for c in bred(run)} == {"row"}


def test_parents_are_of_the_best_and_trees_are_kept(run: State) -> None:
    operators = Counter(c.operator for c in bred(run) if c.generation)
    assert operators["crossover"]
    assert operators["crossover, mutation"]
    for c in bred(run):
        assert_valid(read(c.genome))
        population = {member.number for member in run.population(c.generation)}
        assert set(c.parents) <= population
        assert len(c.parents) == (0 if c.operator == "random" else 2)
        assert c.formula == made_formula(c)


def made_formula(c: Candidate) -> str:

    return expression(expressed(read(c.genome)).core)


def test_the_worst_is_removed_after_every_step(run: State) -> None:
    for generation in range(1, 25):
        evaluated = [c for c in bred(run) if c.generation < generation and c.status == "evaluated"]
        assert run.population(generation) == sorted(evaluated, key=lambda c: c.order)[:10]


def test_half_of_the_population_is_sampled_and_its_best_ten_breed() -> None:
    """Of 50 the best ten of 25 drawn: the parents of many steps are of the better part, and none of the last 15."""
    plan = replace(PLAN, population=50)
    tree = written({"data": "mul", "left": {"data": "W"}, "right": {"data": "X"}})
    state = closed(plan, [[], [], [made(n, losses=(float(n),), genome=tree) for n in range(50)]])

    breeding = Breeding(plan, space_for("pruner_zero"), tuple(state.population(1)))
    drafts = [ALGORITHMS["paper"].draft(breeding, rng_for(0, 1, slot, 0)) for slot in range(300)]
    parents = Counter(n for draft in drafts for n in draft.parents)
    assert max(parents) < 35
    drawn = sorted(parents.elements())
    assert 7 < sum(drawn) / len(drawn) < 13  # the best ten of 25 out of 0 to 49 are 9.7 in the mean
    assert all(a != b for a, b in (draft.parents for draft in drafts if draft.parents))


def test_the_baseline_draws_and_measures(tmp_path: Path) -> None:
    plan = Plan(algorithm="random", population=6, islands=1, generations=3)
    state = small_search(tmp_path, plan, settings=replace(SETTINGS, algorithm="random"))
    assert {c.operator for c in bred(state)} == {"random"}
    assert {c.parents for c in bred(state)} == {()}
    assert {c.status for c in bred(state)} <= {"evaluated", "refused"}
    assert len(bred(state)) == 18
