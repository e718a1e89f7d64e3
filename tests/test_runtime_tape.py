"""Metrics in blocks of rows: the same scores and masks as at once, in few buffers, with common parts computed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pzc.compiler.core import Node, leaf, make, number, topological
from pzc.compiler.load import inline, load
from pzc.compiler.reference import evaluate
from pzc.runtime.errors import NonFiniteScore, PruningError
from pzc.runtime.scoring import compiled, scores, stripes
from pzc.runtime.scoring.blockwise import Given, run
from pzc.runtime.scoring.compiled import compiled_score
from pzc.runtime.scoring.masks import Target, keep_mask, keep_mask_nm
from pzc.runtime.scoring.partials import BY_PARTS, finish, join, part
from pzc.runtime.scoring.scores import checked_mask, checked_scores, mask_each, score, score_each
from pzc.runtime.scoring.stripes import in_stripes
from pzc.runtime.scoring.tape import plan
from tests.strategies import EXPRESSIONS, probe

SHAPE = (23, 8)
PUBLISHED = ("magnitude", "wanda", "ria", "pruner_zero", "gblm")
INEXACT = {"exp", "ln", "tanh", "sigmoid", "sum", "mean", "std", "var", "norm"}
Leaves = dict[str, torch.Tensor]


@pytest.fixture
def blocks() -> Iterator[None]:
    """Blocks of three rows of 8, shared by two threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stripes, "BLOCK", 24)
        patch.setattr(stripes, "_STRIPES", 4)
        patch.setattr(stripes, "_ALONE_UP_TO", 0)
        threads = torch.get_num_threads()
        torch.set_num_threads(2)
        yield
        torch.set_num_threads(threads)


def leaves(seed: int = 0, zeros: bool = False) -> Leaves:
    return {name: torch.as_tensor(value).float() for name, value in probe(seed, zeros, SHAPE).items()}


def at_once(core: Node, given: Leaves) -> torch.Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stripes, "BLOCK", 1 << 17)
        return score(core, given, SHAPE)


def same_in_any_block(core: Node) -> bool:
    """Whether no operation's last digits depend on where in memory a value stands, or how many are added up."""
    nodes = topological(core)
    return not any(n.op in INEXACT or (n.op == "pow" and n.args[1].value not in (-1.0, 1.0, 2.0)) for n in nodes)


def well_behaved(core: Node, given: Leaves) -> float | None:
    """The largest value on the way; None where rounding could be seen: near a pole or an edge, or among huge values."""
    exact = {name: value.double().numpy() for name, value in given.items()}
    values = {node: evaluate(node, exact) for node in topological(core)}
    flat = np.abs(np.concatenate([v.ravel() for v in values.values()]))
    if not flat.max() < 1e3 or ((flat > 0) & (flat < 1e-3)).any():
        return None
    risky = (n.args[-1] if n.op == "div" else n.args[0] for n in values if n.op in ("sign", "ln", "div", "pow", "sqrt"))
    return None if any((np.abs(values[n]) < 1e-2).any() for n in risky) else float(flat.max())


def core_of(formula: str) -> Node:
    return inline(f"{formula} per row", analyse=False).core


# Scores


@pytest.mark.usefixtures("blocks")
@settings(deadline=None, max_examples=300)
@given(EXPRESSIONS, st.integers(0, 100))
def test_blocks_change_no_score(core: Node, seed: int) -> None:
    given = leaves(seed, zeros=True)
    found, expected = score(core, given, SHAPE), at_once(core, given)
    if same_in_any_block(core):
        assert torch.equal(found.nan_to_num(7.0), expected.nan_to_num(7.0))
    elif largest := well_behaved(core, given):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-6 * largest)


@pytest.mark.usefixtures("blocks")
@settings(deadline=None)
@given(EXPRESSIONS, st.integers(0, 100))
def test_threads_change_no_bit(core: Node, seed: int) -> None:
    two = score(core, leaves(seed), SHAPE)
    torch.set_num_threads(1)
    try:
        one = score(core, leaves(seed), SHAPE)
    finally:
        torch.set_num_threads(2)
    assert torch.equal(one.nan_to_num(7.0), two.nan_to_num(7.0))


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_types_and_layouts_are_scored_in_float32(name: str, dtype: torch.dtype) -> None:
    core, given = load(name).core, leaves()
    stored = given["W"].to(dtype)
    wide = {**given, "W": stored.float()}
    expected = score(core, wide, SHAPE)
    for weight in (stored, stored.T.contiguous().T):
        assert torch.equal(score(core, {**given, "W": weight}, SHAPE), expected)
        masks = [checked_mask(core, g, SHAPE, "l", "row", Target()) for g in ({**given, "W": weight}, wide)]
        assert torch.equal(*masks)
    assert expected.dtype == torch.float32


@pytest.mark.usefixtures("blocks")
def test_leaves_are_not_written_to_and_scores_are_new() -> None:
    given = leaves()
    before = {name: value.clone() for name, value in given.items()}
    for formula in ("W", "-W", "W * X", "sqr(W) + mean(W)", "rank(W) + W"):
        score(core_of(formula), given, SHAPE).fill_(3.0)
        checked_mask(core_of(formula), given, SHAPE, "l", "row", Target())
    assert all(torch.equal(given[name], before[name]) for name in given)


# Reductions


@given(st.sampled_from(sorted(BY_PARTS)), st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 99))
def test_parts_give_the_reduction(op: str, heights: list[int], seed: int) -> None:
    x = np.random.default_rng(seed).normal(3.0, 1.0, (sum(heights), 4)).astype(np.float32)
    numpy = {
        "sum": np.sum,
        "mean": np.mean,
        "amin": np.min,
        "amax": np.max,
        "var": lambda v, axis: np.var(v, axis, ddof=1),
        "std": lambda v, axis: np.std(v, axis, ddof=1),
        "norm": lambda v, axis: (np.abs(v) ** 3).sum(axis) ** (1 / 3),
    }[op]
    for axis, dimension in (("out", 0), (None, None)):
        if len(x) == 1 and axis and op in ("var", "std"):
            continue
        args = (leaf("W"), number(3)) if op == "norm" else (leaf("W"),)
        node = make(op, *args, value=axis)
        parts = [part(node, torch.from_numpy(block)) for block in np.split(x, np.cumsum(heights)[:-1])]
        found = finish(node, parts)
        joined = parts[0]
        for other in parts[1:]:
            joined = join(node, joined, other)
        assert torch.equal(found, finish(node, [joined]))
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy().squeeze(), numpy(x.astype(np.float64), axis=dimension), rtol=2e-6)


def test_a_large_sum_keeps_its_digits() -> None:
    """Added up in float32 block after block, the ones would be lost beside 2²⁵."""
    x = torch.ones(4096, 1)
    x[0] = 2.0**25
    node = make("sum", leaf("W"), value="out")
    assert finish(node, [part(node, row) for row in x.split(1)]).item() == 2.0**25 + 4096


# The tape


@pytest.mark.parametrize(
    ("formula", "sweeps", "buffers"),
    [
        ("abs(W) * X", 1, 1),
        ("sqr(W) * (G - min(G)) / (max(G) - min(G))", 2, 2),
        ("abs(W) / sum(abs(W), in) + abs(W) / sum(abs(W), out)", 2, 2),
        ("abs(W) / norm(W, 2, in)", 1, 1),
        ("(W - mean(W)) / std(W)", 2, 1),
        ("abs(W - mean(abs(W) / norm(W, 2, out)))", 3, 1),
        ("tanh(sqrt(exp(abs(W) * X) + X) * 2 - 1)", 1, 1),
        ("median(abs(W)) * W", 2, 1),
    ],
)
def test_sweeps_and_buffers(formula: str, sweeps: int, buffers: int) -> None:
    tape = plan((core_of(formula),))
    assert (len(tape.sweeps), tape.buffers) == (sweeps, buffers)


@pytest.mark.usefixtures("blocks")
def test_metrics_of_a_batch_share_what_they_have_in_common() -> None:
    cores = tuple(core_of(f) for f in ("abs(W) * X", "abs(W) * X + G", "sqrt(abs(W) * X)"))
    seen: Counter[Node] = Counter()
    given = Given(cores, leaves(), SHAPE)
    run(plan(cores), given, visit=lambda node, value: seen.update([node] if node.axes == {"out", "in"} else []))
    assert set(seen.values()) == {8}  # 23 rows in blocks of 3
    assert len(seen) == 6  # W, G, abs(W), and the three


@pytest.mark.usefixtures("blocks")
@settings(deadline=None, max_examples=60)
@given(st.lists(EXPRESSIONS, min_size=1, max_size=5), st.integers(0, 99), st.sampled_from([0, 3000, 1 << 20]))
def test_a_batch_gives_what_each_gives_alone(cores: list[Node], seed: int, memory: int) -> None:
    given = leaves(seed, zeros=True)
    together = list(score_each(cores, given, SHAPE, "l", memory))
    masks = list(mask_each(cores, given, SHAPE, "l", "row", Target(sparsity=0.3), memory))
    for core, found, mask in zip(cores, together, masks, strict=True):
        alone = score(core, given, SHAPE)
        if isinstance(found, NonFiniteScore):
            assert not alone.isfinite().all()
            assert isinstance(mask, NonFiniteScore)
        else:
            assert torch.equal(found, alone)
            assert isinstance(mask, torch.Tensor)
            assert torch.equal(mask, keep_mask(alone, "row", 0.3))


def test_a_batch_stays_within_its_memory() -> None:
    cores = [core_of(f"abs(W) * X ^ {i / 10}") for i in range(1, 10)]
    given = Given(tuple(cores), leaves(), SHAPE)
    size = 4 * SHAPE[0] * SHAPE[1]
    for memory in (0, 3 * size, 5 * size, 100 * size):
        runs = list(scores._batches(cores, given, size, memory, direct=True))
        assert [core for some in runs for core in some] == cores
        for some in runs:
            needs = len(some) * size + scores._size(plan(some, frozenset(), True), given)
            assert needs <= memory or len(some) == 1
    assert len(runs) == 1


# Masks


@pytest.mark.usefixtures("blocks")
@settings(deadline=None, max_examples=200)
@given(
    EXPRESSIONS,
    st.integers(0, 99),
    st.sampled_from(["row", "col", "layer"]),
    st.sampled_from([None, (1, 2), (2, 4), (3, 8), (7, 8)]),
)
def test_masks_in_blocks_are_those_of_the_scores(
    core: Node, seed: int, group: str, pattern: tuple[int, int] | None
) -> None:
    given = {name: (value * 3).round() / 2 for name, value in leaves(seed, zeros=True).items()}  # so that scores tie
    found = score(core, given, SHAPE)
    target = Target(sparsity=0.4, pattern=pattern)
    if not found.isfinite().all():
        with pytest.raises(NonFiniteScore):
            checked_mask(core, given, SHAPE, "l", group, target)
        return
    expected = keep_mask_nm(found, *pattern) if pattern else keep_mask(found, group, 0.4)
    assert torch.equal(checked_mask(core, given, SHAPE, "l", group, target), expected)


@pytest.mark.usefixtures("blocks")
def test_patterns_and_groups_that_do_not_fit_are_refused() -> None:
    with pytest.raises(PruningError, match="multiple of 3 inputs, but a layer has 8"):
        checked_mask(core_of("W"), leaves(), SHAPE, "l", "row", Target(pattern=(1, 3)))
    with pytest.raises(PruningError, match="no comparison group of one layer"):
        checked_mask(core_of("W"), leaves(), SHAPE, "l", "block", Target())


# Scores that are not finite


@pytest.mark.usefixtures("blocks")
def test_what_is_not_finite_is_found_in_whatever_block_it_is() -> None:
    given = leaves()
    given["G.l2"][[4, 11, 22], 5] = 0.0
    core = core_of("W * ln(G) + mean(W)")
    for work in (
        lambda: checked_scores(core, given, SHAPE, "a layer"),
        lambda: checked_mask(core, given, SHAPE, "a layer", "row", Target()),
    ):
        with pytest.raises(NonFiniteScore) as caught:
            work()
        assert caught.value.data["expression"] == "ln(G)"
        assert caught.value.data["share"] == pytest.approx(3 / (23 * 8))


@pytest.mark.usefixtures("blocks")
def test_when_all_is_well_a_metric_is_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    monkeypatch.setattr(scores, "run", lambda *args, **more: runs.append(1) or run(*args, **more))
    checked_mask(load("ria").core, leaves(), SHAPE, "l", "row", Target())
    checked_scores(load("ria").core, leaves(), SHAPE, "l")
    assert len(runs) == 2


# Threads


@pytest.mark.usefixtures("blocks")
def test_every_block_is_visited_once_and_errors_come_out() -> None:
    seen: list[int] = []

    def worker() -> stripes.Job:
        return lambda place, stripe: seen.extend(row for a, b in stripes.blocks(stripe) for row in range(a, b))

    in_stripes(*SHAPE, worker)
    assert sorted(seen) == list(range(SHAPE[0]))

    def failing() -> stripes.Job:
        def job(place: int, stripe: range) -> None:
            raise ValueError(place)

        return job

    with pytest.raises(ValueError):
        in_stripes(*SHAPE, failing)
    assert torch.get_num_threads() == 2


# One kernel


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_compiled_metric_gives_the_same_scores(name: str) -> None:
    core, given = load(name).core, leaves()
    given["W"] = given["W"].bfloat16()
    found = compiled_score(core, Given((core,), given, SHAPE), backend="eager")  # traced; no compiler is needed
    assert found is not None
    torch.testing.assert_close(found, score(core, given, SHAPE))


def test_without_a_compiler_there_is_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_failed", set())

    def without(leaves: Leaves) -> torch.Tensor:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", lambda function, backend: without)
    core = core_of("abs(W) * X ^ 0.123")
    given = Given((core,), leaves(), SHAPE)
    with pytest.warns(UserWarning, match="not compiled: inductor on cpu failed with RuntimeError"):
        assert compiled_score(core, given) is None
    assert compiled_score(core, given) is None
