"""A few positions that stand for all of a matrix, or of a model's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_GOLDEN = (5**0.5 - 1) / 2


def spread(size: int, n: int) -> npt.NDArray[np.int64]:
    """`n` of the positions 0 … size − 1, in their order, the same ones every time; all of them if there are no more.

    One is in every nth part, at a place in it that goes by multiples of the golden ratio: were it the same in all, the
    positions of a matrix whose size is a multiple of `n` rows would be of one column.
    """
    if size <= n:
        return np.arange(size)
    parts = np.arange(n)
    return ((parts + parts * _GOLDEN % 1) * (size / n)).astype(np.int64)
