"""Counting and masking values against numpy on whole arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pzc.runtime.scoring import stripes
from pzc.runtime.scoring.values import count_zeros, is_finite, write_masked

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


@pytest.fixture
def few_values_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stripes, "BLOCK", 12)


def some(rows: int, columns: int) -> np.ndarray:
    """Small whole numbers, among them zeros of both signs."""
    random = np.random.default_rng(rows)
    return np.copysign(random.integers(0, 3, (rows, columns)), random.normal(size=(rows, columns)))


@pytest.mark.usefixtures("few_values_a_block")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (2, 40)])
def test_zeros_of_both_signs_are_counted(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    values = some(*shape)
    assert count_zeros(torch.from_numpy(values).to(dtype)) == (values == 0).sum()
    assert count_zeros(torch.from_numpy(values.T.copy()).T.to(dtype)) == (values == 0).sum()


@pytest.mark.usefixtures("few_values_a_block")
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_a_mask_drops_is_zero(dtype: torch.dtype) -> None:
    dense = torch.from_numpy(some(9, 5)).to(dtype)
    keep = torch.from_numpy(np.random.default_rng(1).random((9, 5)) < 0.5)
    for weight in (torch.ones(9, 5, dtype=dtype), torch.ones(5, 9, dtype=dtype).T):
        write_masked(weight, dense, keep)
        assert np.array_equal(weight.double().numpy(), np.where(keep.numpy(), dense.double().numpy(), 0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_values_are_finite(dtype: torch.dtype) -> None:
    values = torch.full((3, 4), torch.finfo(dtype).max, dtype=dtype)  # whose sum is not
    assert is_finite(values)
    for bad in (torch.inf, torch.nan):
        values[1, 2] = bad
        assert not is_finite(values)
