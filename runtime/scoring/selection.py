"""Choosing what is kept in one block of rows, on a CPU: in place, with buffers that are used again.

The smallest scores go; where scores tie, the lower index goes first. Scores must be finite.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]
Keep = npt.NDArray[np.bool_]
Choose = Callable[[Scores, Keep], None]
"""Takes contiguous float32 `[rows, in]`; writes bool `[rows, in]`, true where a weight is kept. It holds buffers: one
for each thread."""

_WORDS: dict[int, type[np.unsignedinteger]] = {2: np.uint16, 4: np.uint32, 8: np.uint64}
_PAIRS_UP_TO = 8
_LONG = 128


def by_row(rows: int, columns: int, count: int) -> Choose:
    """Prune `count` weights of every row, in blocks of up to `rows` rows."""
    buffer = np.empty((rows, columns), np.float32)

    def choose(scores: Scores, keep: Keep) -> None:
        if count == 0:
            keep[:] = True
            return
        parted = buffer[: len(scores)]
        np.copyto(parted, scores)
        lowest_first(parted, count)  # no row is sorted in full
        limit = parted[:, count - 1 : count]
        np.greater(scores, limit, out=keep)
        if np.count_nonzero(keep) < len(scores) * (columns - count):  # in some row more tie at the limit than may go
            _keep_ties(scores, limit, count, keep)

    return choose


def by_pattern(rows: int, columns: int, n: int, m: int) -> Choose:
    """Keep `n` of every `m` consecutive inputs, in blocks of up to `rows` rows; `columns` is a multiple of `m`."""
    if m in _WORDS and sys.byteorder == "little":
        return _in_words(rows * columns, n, m)
    if m <= _PAIRS_UP_TO:
        return lambda scores, keep: _by_pairs(scores, keep, n, m)
    runs = by_row(rows * columns // m, m, m - n)
    return lambda scores, keep: runs(scores.reshape(-1, m), keep.reshape(-1, m))


def lowest_first(scores: Scores, count: int) -> None:
    """Put the `count` smallest scores of every row `[..., in]` first, in place, the largest of them last of all.

    Where no score has a sign, their bits have the same order, and integers are parted in two thirds of the time.
    """
    bits = scores.view(np.int32)
    (bits if bits.min() >= 0 else scores).partition(count - 1, axis=-1)


def _keep_ties(scores: Scores, limit: Scores, count: int, keep: Keep) -> None:
    """Keep the last of the scores that tie at the limit, in rows where too few are kept."""
    wanted = scores.shape[1] - count
    crowded = np.flatnonzero(_row_counts(keep) < wanted)
    few = len(crowded) < len(scores)
    some, at, kept = (scores[crowded], limit[crowded], keep[crowded]) if few else (scores, limit, keep)
    row, column = np.divmod(np.flatnonzero(some == at), scores.shape[1])
    ties = np.bincount(row, minlength=len(some))
    later = np.repeat(np.cumsum(ties), ties) - np.arange(len(row))  # a tie and those after it in its row
    left = later <= (wanted - _row_counts(kept))[row]
    keep[crowded[row[left]], column[left]] = True


def _row_counts(mask: Keep) -> npt.NDArray[np.intp]:
    """How many of each row are true. numpy counts along an axis ten times as slowly as a whole array."""
    if mask.shape[1] < _LONG:
        return np.asarray(np.count_nonzero(mask, axis=1))
    return np.array([np.count_nonzero(row) for row in mask])


def _in_words(size: int, n: int, m: int) -> Choose:
    """Compare every score with its neighbours at distance 1 … m − 1, and count in words that hold a run each, a byte
    a score: the rank of a score is how many of its run go before it.

    Of positions i < j of a run, i goes first if s_i ≤ s_j: a byte c_d[i] = 1 for d = j − i. It lowers the rank of i,
    which starts as m − 1 − i, and raises that of j: rank += c_d · (2^(8d) − 1), the word's lowest byte being
    position 0. Comparisons that leave the run are masked out.
    """
    word = _WORDS[m]
    first = np.zeros(size, np.bool_)
    ranks, term = np.empty(size // m, word), np.empty(size // m, word)
    start = word(sum((m - 1 - i) << (8 * i) for i in range(m)))
    inside = [word(sum(1 << (8 * i) for i in range(m - d))) for d in range(m)]
    spread = [word((1 << (8 * d)) - 1) for d in range(m)]

    def choose(scores: Scores, keep: Keep) -> None:
        flat = scores.reshape(-1)
        before, rank, part = first[: flat.size], ranks[: flat.size // m], term[: flat.size // m]
        rank.fill(start)
        for d in range(1, m):
            np.less_equal(flat[:-d], flat[d:], out=before[:-d])
            np.bitwise_and(before.view(word), inside[d], out=part)
            np.multiply(part, spread[d], out=part)
            np.add(rank, part, out=rank)
        np.greater_equal(rank.view(np.uint8).reshape(scores.shape), m - n, out=keep)

    return choose


def _by_pairs(scores: Scores, keep: Keep, n: int, m: int) -> None:
    """The same for any small `m`: each pair of a run is compared once."""
    parts = np.ascontiguousarray(scores.reshape(-1, m).T)
    rank = np.zeros(parts.shape, np.int8)
    first = np.empty(parts.shape[1], np.bool_)
    for i in range(m):
        for j in range(i + 1, m):
            np.less_equal(parts[i], parts[j], out=first)
            rank[j] += first.view(np.int8)
            rank[i] -= first.view(np.int8)
        rank[i] += m - 1 - i
    keep[:] = (rank >= m - n).T.reshape(scores.shape)
