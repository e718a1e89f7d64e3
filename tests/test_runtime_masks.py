"""Masks against a brute-force stable sort."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pzc.runtime.errors import PruningError
from pzc.runtime.models.loading import resolve_device
from pzc.runtime.scoring import masks
from pzc.runtime.scoring.masks import (
    Target,
    joint_masks,
    keep_mask,
    keep_mask_nm,
    mask_hash,
    parse_pattern,
    pruned_count,
)
from pzc.runtime.scoring.selection import by_row, lowest_first

few = st.sampled_from([-2.0, -0.0, 0.0, 1.0, 1.5])  # so that many scores tie
any_score = st.floats(-(2.0**100), 2.0**100, width=32)
sparsities = st.integers(1, 99).map(lambda percent: percent / 100)


def matrices(max_side: int = 9) -> st.SearchStrategy[np.ndarray]:
    shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=max_side)
    return st.one_of(*(hnp.arrays(np.float32, shapes, elements=values) for values in (few, any_score)))


def stable(scores: np.ndarray, count: int) -> np.ndarray:
    """The first `count` of a stable ascending sort are pruned: what is kept of a flat group."""
    keep = np.ones(scores.shape, bool)
    keep[np.argsort(scores, kind="stable")[:count]] = False
    return keep


def exact_count(size: int, sparsity: float) -> int:
    """⌊sparsity · size⌋ for a sparsity of whole percents, without rounding errors."""
    return int(Fraction(round(sparsity * 100), 100) * size)


@given(matrices(), sparsities)
def test_rows_and_columns_and_layers_are_a_stable_sort(scores: np.ndarray, sparsity: float) -> None:
    rows, columns = scores.shape
    tensor = torch.from_numpy(scores)
    by_row = np.stack([stable(row, exact_count(columns, sparsity)) for row in scores])
    by_column = np.stack([stable(column, exact_count(rows, sparsity)) for column in scores.T]).T
    by_layer = stable(scores.ravel(), exact_count(scores.size, sparsity)).reshape(scores.shape)
    assert np.array_equal(keep_mask(tensor, "row", sparsity).numpy(), by_row)
    assert np.array_equal(keep_mask(tensor, "col", sparsity).numpy(), by_column)
    assert np.array_equal(keep_mask(tensor, "layer", sparsity).numpy(), by_layer)


@given(matrices(), st.data())
def test_both_ways_of_selection_are_a_stable_sort(scores: np.ndarray, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, scores.shape[1]))
    expected = ~np.stack([stable(row, count) for row in scores])
    kept = np.empty(scores.shape, np.bool_)
    by_row(*scores.shape, count)(scores, kept)
    assert np.array_equal(~kept, expected)  # on a CPU
    assert np.array_equal(masks._lowest(torch.from_numpy(scores), count).numpy(), expected)  # elsewhere


@given(st.lists(matrices(5), min_size=1, max_size=4), st.data())
def test_both_ways_to_the_kth_score_of_a_model(layers: list[np.ndarray], data: st.DataObject) -> None:
    flat = np.concatenate([scores.ravel() for scores in layers])
    k = data.draw(st.integers(1, flat.size))
    parts = [torch.from_numpy(scores).reshape(-1) for scores in layers]
    assert masks._kth(parts, k) == masks.kth_by_radix(parts, k) == np.sort(flat)[k - 1]


@pytest.mark.parametrize("sampled", [16, 1 << 10])
@pytest.mark.parametrize("values", ["normal", "few", "zeros", "one"])
def test_a_sample_finds_the_kth_score_of_many(sampled: int, values: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "_SAMPLED", sampled)
    rng = np.random.default_rng(1)
    made = {
        "normal": rng.normal(size=20_000),
        "few": rng.integers(0, 4, 20_000),
        "zeros": np.maximum(rng.normal(size=20_000), 0),
        "one": np.where(np.arange(20_000) % 1250 == 0, -1.0, 1.0),  # what a sample at even distances sees is no sample
    }[values].astype(np.float32)
    parts = [torch.from_numpy(made[:7_001]), torch.from_numpy(made[7_001:])]
    ordered = np.sort(made)
    for k in (1, 2, 37, 5_000, 10_000, 15_001, 19_998, 20_000):
        assert masks._kth(parts, k) == ordered[k - 1]


@given(st.lists(matrices(5), min_size=1, max_size=4), sparsities)
def test_layers_of_one_group_are_one_stable_sort_in_their_order(layers: list[np.ndarray], sparsity: float) -> None:
    flat = np.concatenate([scores.ravel() for scores in layers])
    expected = stable(flat, exact_count(flat.size, sparsity))
    found = joint_masks({str(i): torch.from_numpy(scores) for i, scores in enumerate(layers)}, sparsity)
    assert np.array_equal(np.concatenate([mask.numpy().ravel() for mask in found.values()]), expected)
    assert [tuple(mask.shape) for mask in found.values()] == [scores.shape for scores in layers]


@given(st.data(), st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 4), (4, 8), (5, 7), (3, 20), (19, 20)]))
def test_a_pattern_is_a_stable_sort_of_each_run_of_inputs(data: st.DataObject, pattern: tuple[int, int]) -> None:
    n, m = pattern
    shape = data.draw(st.integers(1, 4)), m * data.draw(st.integers(1, 3))
    scores = data.draw(hnp.arrays(np.float32, shape, elements=st.one_of(few, any_score)))
    expected = np.stack([stable(run, m - n) for run in scores.reshape(-1, m)]).reshape(shape)
    assert np.array_equal(keep_mask_nm(torch.from_numpy(scores), n, m).numpy(), expected)


def test_a_broadcast_score_prunes_the_lowest_index_of_a_tie() -> None:
    scores = torch.tensor([[3.0, 1.0, 1.0, 1.0]]).expand(2, 4)
    assert keep_mask(scores, "row", 0.5).tolist() == [[True, False, False, True]] * 2
    assert keep_mask_nm(scores, 2, 4).tolist() == [[True, False, False, True]] * 2


def test_counts_survive_the_rounding_of_decimals() -> None:
    assert [pruned_count(10, s / 10) for s in range(1, 10)] == list(range(1, 10))
    assert [pruned_count(10**11, s / 100) for s in range(1, 100)] == [s * 10**9 for s in range(1, 100)]
    assert pruned_count(7, 0.5) == 3
    assert pruned_count(9, 1 / 3) == 3


def test_large_matrices_are_pruned_exactly() -> None:
    scores = torch.randn(257, 1031, generator=torch.Generator().manual_seed(0))
    assert (~keep_mask(scores, "row", 0.5)).sum(1).unique().tolist() == [515]
    assert int((~keep_mask(scores, "layer", 0.3)).sum()) == int(257 * 1031 * 0.3)
    found = joint_masks({"a": scores, "b": scores * 0.1}, 0.7)
    assert sum(int((~mask).sum()) for mask in found.values()) == int(2 * 257 * 1031 * 0.7)


def test_hashes_tell_masks_apart() -> None:
    one, other = torch.tensor([[True, False]]), torch.tensor([[False, True]])
    assert mask_hash({"a": one}) == mask_hash({"a": one.clone()})
    assert len({mask_hash(m) for m in ({"a": one}, {"a": other}, {"b": one}, {"a": one.T})}) == 4


@pytest.mark.parametrize("text", ["", "2", "4:2", "2:2", "0:4", "2:4:8", "a:b", "-1:4", "2.0:4"])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(PruningError, match="no pattern"):
        parse_pattern(text)


def test_patterns_need_inputs_that_they_divide() -> None:
    assert parse_pattern(" 2:4 ") == (2, 4)
    with pytest.raises(PruningError, match="multiple of 4 inputs, but a layer has 6"):
        keep_mask_nm(torch.zeros(2, 6), 2, 4)


@pytest.mark.parametrize("sparsity", [0.0, 1.0, -0.1, 50.0, float("nan")])
def test_a_sparsity_is_between_zero_and_one(sparsity: float) -> None:
    with pytest.raises(PruningError, match="not between 0 and 1"):
        Target(sparsity=sparsity)


def test_an_unknown_group_is_refused() -> None:
    with pytest.raises(PruningError, match="no comparison group") as caught:
        Target(per="head")
    assert caught.value.hint == "use row, col, layer, block or model"
    with pytest.raises(PruningError, match="no comparison group of one layer") as caught:
        keep_mask(torch.zeros(2, 6), "block", 0.5)
    assert "block and model" in str(caught.value.hint)


@pytest.mark.gpu
def test_a_gpu_gives_the_masks_of_the_cpu() -> None:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.randn(96, 256, generator=generator)
    for scores in (smooth, smooth.round(), torch.zeros(96, 256)):
        there = scores.to(resolve_device("auto"))
        for group in ("row", "col", "layer"):
            assert torch.equal(keep_mask(there, group, 0.3).cpu(), keep_mask(scores, group, 0.3))
        assert torch.equal(keep_mask_nm(there, 3, 8).cpu(), keep_mask_nm(scores, 3, 8))
        assert torch.equal(keep_mask_nm(there, 3, 32).cpu(), keep_mask_nm(scores, 3, 32))
        one, other = joint_masks({"a": there}, 0.7), joint_masks({"a": scores}, 0.7)
        assert torch.equal(one["a"].cpu(), other["a"])


@given(matrices(), st.data())
def test_the_lowest_scores_of_a_row_go_first(scores: np.ndarray, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, scores.shape[1]))
    for values in (scores, np.abs(scores)):  # with signs, and as integers without
        parted = values.copy()
        lowest_first(parted, count)
        assert np.array_equal(np.sort(parted[:, :count], axis=1), np.sort(values, axis=1)[:, :count])
        assert np.array_equal(parted[:, count - 1], np.sort(values, axis=1)[:, count - 1])


@pytest.mark.parametrize("columns", [3, 200])
def test_ties_of_long_and_short_rows_go_by_index(columns: int) -> None:
    scores = np.random.default_rng(columns).integers(0, 4, (50, columns)).astype(np.float32)
    expected = np.stack([stable(row, columns // 2) for row in scores])
    assert np.array_equal(keep_mask(torch.from_numpy(scores), "row", 0.5).numpy(), expected)
