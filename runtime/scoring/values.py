"""Looking at every value of a tensor: whether all are finite, how many are zero, and zeros for what a mask drops.

On a CPU by numpy, a block of rows at a time that stays in the processor's cache: there torch's comparisons take three
times as long.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pzc.runtime.scoring.stripes import block_rows

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def is_finite(values: Tensor) -> bool:
    """Whether no value is infinite or NaN. A finite sum proves it in one sweep; but a sum can overflow."""
    total = values.sum(dtype=torch.float32 if values.element_size() == 2 else None)
    return math.isfinite(total.item()) or bool(torch.isfinite(values).all())


def count_true(mask: Tensor) -> int:
    """How many of a bool tensor are true. On a CPU by numpy: torch takes ten times as long where half of them are."""
    return int(np.count_nonzero(mask.numpy()) if mask.device.type == "cpu" else torch.count_nonzero(mask))


def count_zeros(values: Tensor) -> int:
    """How many values of a matrix are zero, of either sign."""
    if values.device.type != "cpu":
        return values.numel() - int(torch.count_nonzero(values))
    if values.stride(1) != 1:
        values = values.T
    rows, columns = values.shape
    half = values.element_size() == 2
    flat = (values.view(torch.int16) if half else values).numpy()
    zero: np.ndarray = np.empty((min(block_rows(columns), rows), columns), np.uint16 if half else np.bool_)
    count = 0
    for part in _blocks(rows, columns):
        found = zero[: part.stop - part.start]
        if half:  # numpy has no bfloat16; without its sign, either zero is 0
            count += found.size - int(np.count_nonzero(np.left_shift(flat[part].view(np.uint16), 1, out=found)))
        else:
            count += int(np.count_nonzero(np.equal(flat[part], 0, out=found)))
    return count


def write_masked(weight: Tensor, dense: Tensor, keep: Tensor) -> None:
    """Write `dense` to `weight` where `keep` is true and +0 elsewhere: all `[out, in]`, `keep` bool. Both
    weights may be the same tensor.

    The bits are masked: that is faster than `masked_fill_`, and unlike a product it makes zeros of infinities too.
    """
    integer = _INTEGERS[dense.element_size()]
    if weight.device.type != "cpu":
        weight.view(integer).copy_(keep.to(integer).neg_().bitwise_and_(dense.view(integer)))  # 0 or all ones
        return
    if weight.stride(1) != 1:
        weight, dense, keep = weight.T, dense.T, keep.T
    to, source, kept = weight.view(integer).numpy(), dense.view(integer).numpy(), keep.view(torch.int8).numpy()
    rows, columns = to.shape
    mask = np.empty((min(block_rows(columns), rows), columns), np.int8)
    for part in _blocks(rows, columns):
        ones = np.negative(kept[part], out=mask[: part.stop - part.start])
        np.bitwise_and(source[part], ones, out=to[part])


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    high = block_rows(columns)
    return (slice(start, min(start + high, rows)) for start in range(0, rows, high))
