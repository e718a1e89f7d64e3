"""Masks: which weights are kept, exactly as many as asked for in every comparison group.

The smallest scores are pruned; where scores tie, the lower index goes first, as in a stable ascending sort.
No group is sorted in full: the score of the last pruned weight is found by selection, and only ties at that
score need their order. Scores must be finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import blake2b
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pzc.compiler.groups import GROUPS
from pzc.compiler.pattern import EXPECTED, Pattern, pattern_of
from pzc.runtime.errors import PruningError
from pzc.runtime.scoring.selection import Choose, by_pattern, by_row, lowest_first
from pzc.runtime.scoring.stripes import Job, block_rows, blocks, in_stripes

_PATTERN_HINT = f"{EXPECTED}: of every 4 consecutive inputs 2 are kept"
_SAMPLED = 1 << 16
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Target:
    """How much is pruned, and among which weights.

    `per` is the comparison group (row, col, layer, block or model) where it is not left to the metric. `pattern`
    `(n, m)` replaces group and sparsity: of every m consecutive inputs, n are kept. Raises PruningError for a group,
    sparsity or pattern that is none.
    """

    per: str | None = None
    sparsity: float | Fraction = 0.5
    pattern: Pattern | None = None

    def __post_init__(self) -> None:
        if self.per is not None and self.per not in GROUPS:
            *others, last = GROUPS
            raise PruningError(
                f"`{self.per}` is no comparison group", hint=f"use {', '.join(others)} or {last}", group=self.per
            )
        check_sparsity(self.sparsity)
        if self.pattern is not None and not _is_pattern(self.pattern):
            raise PruningError(f"{':'.join(map(str, self.pattern))} is no pattern", hint=_PATTERN_HINT)

    @property
    def share(self) -> float:
        """The share of weights that is pruned."""
        return 1 - self.pattern[0] / self.pattern[1] if self.pattern else float(self.sparsity)


def pruned_count(size: int, sparsity: float | Fraction) -> int:
    """`sparsity · size` rounded down, with the sparsity as it is written: 0.29 of 100 are 29, not 28.999…"""
    if isinstance(sparsity, Fraction):
        return math.floor(sparsity * size)
    return math.floor(Fraction(repr(float(sparsity))) * size + Fraction(1, 10**9))


def _is_pattern(given: Sequence[object]) -> bool:
    match tuple(given):
        case (int(n), int(m)):
            return 0 < n < m
        case _:
            return False


def parse_pattern(text: str) -> Pattern:
    """Read `N:M`: of every M consecutive inputs of a row, N are kept and M − N are pruned."""
    pattern = pattern_of(text)
    if pattern is None:
        raise PruningError(f"`{text}` is no pattern", hint=_PATTERN_HINT)
    return pattern


def share_text(share: float | Fraction) -> str:
    """A share as a percentage, with up to four digits: `62.5%`."""
    return f"{100 * float(share):.4g}%"


def check_sparsity(sparsity: float | Fraction) -> None:
    """Raise PruningError unless the sparsity is a number between 0 and 1."""
    if not isinstance(sparsity, float | int | Fraction):
        raise PruningError(f"a sparsity of {sparsity!r} is no number")
    if not 0.0 < sparsity < 1.0:
        raise PruningError(
            f"a sparsity of {float(sparsity):g} is not between 0 and 1",
            hint="write 0.5 to prune half of the weights",
        )


def keep_mask(scores: Tensor, group: str, sparsity: float | Fraction) -> Tensor:
    """Which weights of one layer are kept: bool `[out, in]` for float32 scores `[out, in]`.

    Of every row (`group` "row") ⌊in · sparsity⌋ weights are pruned, of every column ("col") ⌊out · sparsity⌋, of the
    whole matrix ("layer") ⌊out · in · sparsity⌋, with the sparsity as it is written (`pruned_count`).
    """
    check_sparsity(sparsity)
    if group == "row":
        return _in_blocks(scores, Target("row", sparsity))
    if group == "col":
        return keep_mask(scores.T, "row", sparsity).T
    if group == "layer":
        return keep_most(scores, pruned_count(scores.numel(), sparsity))
    raise PruningError(
        f"`{group}` is no comparison group of one layer",
        hint="use row, col or layer; block and model go over several layers",
    )


def keep_most(scores: Tensor, count: int) -> Tensor:
    """Prune the `count` lowest of all scores of a float32 matrix: bool of its shape, true where a weight is kept."""
    flat = scores.reshape(1, -1)
    if scores.device.type != "cpu":
        return ~_lowest(flat, count).view(scores.shape)
    keep = torch.empty(flat.shape, dtype=torch.bool)
    by_row(1, flat.shape[1], count)(flat.numpy(), keep.numpy())
    return keep.view(scores.shape)


def keep_mask_nm(scores: Tensor, n: int, m: int) -> Tensor:
    """Keep the `n` largest scores of every `m` consecutive inputs and prune the other `m − n`.

    Takes float32 `[out, in]`, returns bool `[out, in]`. Raises PruningError unless `in` is a multiple of `m`.
    """
    return _in_blocks(scores, Target(pattern=(n, m)))


def chooser(shape: tuple[int, int], group: str, target: Target) -> Callable[[], Choose] | None:
    """How to choose what is kept in a block of rows of a layer `(out, in)`, where every comparison group lies in one
    row; None where it doesn't. Each thread makes one for itself. Raises PruningError where a pattern does not fit."""
    rows, columns = min(block_rows(shape[1]), shape[0]), shape[1]
    if target.pattern:
        n, m = target.pattern
        if columns % m:
            raise PruningError(
                f"the pattern {n}:{m} needs a multiple of {m} inputs, but a layer has {columns}", inputs=columns
            )
        return lambda: by_pattern(rows, columns, n, m)
    if group == "row":
        count = pruned_count(columns, target.sparsity)
        return lambda: by_row(rows, columns, count)
    return None


def _in_blocks(scores: Tensor, target: Target) -> Tensor:
    """The mask of a target whose groups lie in rows."""
    rows, columns = scores.shape
    make = chooser((rows, columns), "row", target)
    if scores.device.type != "cpu" or make is None:
        if not target.pattern:
            return ~_lowest(scores, pruned_count(columns, target.sparsity))
        n, m = target.pattern
        return ~_lowest(scores.reshape(-1, m), m - n).view(rows, columns)
    keep = torch.empty((rows, columns), dtype=torch.bool)
    values, kept = scores.numpy(), keep.numpy()

    def worker() -> Job:
        choose = make()

        def job(place: int, stripe: range) -> None:
            for start, stop in blocks(stripe):
                choose(np.ascontiguousarray(values[start:stop], np.float32), kept[start:stop])

        return job

    in_stripes(rows, columns, worker)
    return keep


def joint_masks(scores: Mapping[str, Tensor], sparsity: float | Fraction) -> dict[str, Tensor]:
    """Masks of some layers that are one group together, as those of a block or of the whole model: of all their
    weights ⌊total · sparsity⌋ are pruned.

    Takes and returns tensors `[out, in]` by layer name; ties go by the order of the layers, then by index.
    """
    check_sparsity(sparsity)
    count = pruned_count(sum(s.numel() for s in scores.values()), sparsity)
    if count == 0:
        return {name: torch.ones_like(s, dtype=torch.bool) for name, s in scores.items()}
    flat = {name: s.float().reshape(-1) for name, s in scores.items()}
    limit = _kth(list(flat.values()), count)
    left = count - sum(int(torch.count_nonzero(s < limit)) for s in flat.values())
    masks = {}
    for name, s in flat.items():
        drop, left = drop_lowest(s, limit, left)
        masks[name] = ~drop.view(scores[name].shape)
    return masks


def drop_lowest(scores: Tensor, limit: float, ties: int) -> tuple[Tensor, int]:
    """Which of the scores `[numel]` are below a limit, or among the first so many `ties` at it; and how many ties are
    left for the layers that follow."""
    if ties == 0:
        return scores < limit, 0
    drop, tied = scores <= limit, scores == limit
    count = int(torch.count_nonzero(tied))
    if count > ties:
        drop &= ~tied | (tied.cumsum(0) <= ties)
    return drop, ties - min(count, ties)


def mask_hash(masks: Mapping[str, Tensor]) -> str:
    """A content hash of masks, the same on every machine."""
    digest = blake2b(digest_size=16)
    for name in sorted(masks):
        digest.update(f"{name}{tuple(masks[name].shape)}".encode())
        digest.update(np.packbits(masks[name].cpu().numpy()).tobytes())
    return digest.hexdigest()


def _lowest(scores: Tensor, count: int) -> Tensor:
    """The `count` lowest positions of each row, ties by index: bool like `scores` `[groups, members]`. For any device,
    but slow on a CPU."""
    if count == 0:
        return torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    limit = scores.kthvalue(count, dim=1, keepdim=True).values
    drop = scores <= limit
    if bool((drop.sum(1) == count).all()):
        return drop
    below, ties = scores < limit, scores == limit
    return below | (ties & (ties.cumsum(1) <= count - below.sum(1, keepdim=True)))


class Parts(Protocol):
    """Scores that come some at a time: a tensor `[numel]`, or a file."""

    def split(self, size: int, /) -> Iterable[Tensor]: ...


def _kth(parts: list[Tensor], k: int) -> float:
    """The k-th smallest of all scores, k from 1: float32 `[numel]` each.

    On a CPU a sample says between which two scores it very likely is, and what lies between them is sorted out.
    """
    if any(part.device.type != "cpu" for part in parts):
        return kth_by_radix(parts, k)
    flat = [part.numpy() for part in parts]
    total = sum(part.size for part in flat)
    step = -(-total // _SAMPLED)
    sample = np.sort(np.concatenate([part[::step] for part in flat]))
    share, size = k / total, len(sample)
    about, margin = round(share * size), 2 + round(6 * math.sqrt(size * share * (1 - share)))
    low = sample[about - margin] if about >= margin else -np.inf
    high = sample[about + margin] if about + margin < size else np.inf
    before = sum(int(np.count_nonzero(part < low)) for part in flat)
    between = np.concatenate([part[(part >= low) & (part <= high)] for part in flat])
    if not before < k <= before + between.size:
        return kth_by_radix(parts, k)
    lowest_first(between, k - before)
    return float(between[k - before - 1])


def kth_by_radix(parts: Sequence[Parts], k: int) -> float:
    """The k-th smallest of all scores, k from 1, by upper, then lower 16 bits of integers in the order of the floats.
    Scores are not copied, so those of a large model fit."""

    def ordered(chunk: Tensor) -> Tensor:
        bits = (chunk + 0.0).view(torch.int32)  # + 0.0 makes both zeros one
        return bits ^ ((bits >> 31) & 0x7FFFFFFF)

    def upper(chunk: Tensor) -> Tensor:
        return (ordered(chunk) >> 16) + 32768

    high, before = _bucket(parts, k, upper)
    low, _ = _bucket(parts, k - before, lambda chunk: ordered(chunk)[upper(chunk) == high] & 0xFFFF)
    bits = ((high - 32768) << 16) | low
    key = np.int32(bits)
    return float((key ^ ((key >> 31) & 0x7FFFFFFF)).view(np.float32))


def _bucket(parts: Sequence[Parts], k: int, digit: Callable[[Tensor], Tensor]) -> tuple[int, int]:
    """The digit (16 bits) of the k-th smallest score, and how many scores have smaller digits."""
    counts = torch.zeros(65536, dtype=torch.int64)
    for part in parts:
        for chunk in part.split(_CHUNK):
            counts += torch.bincount(digit(chunk), minlength=65536).cpu()
    total = counts.cumsum(0)
    found = int(torch.searchsorted(total, k))
    return found, int(total[found - 1]) if found else 0
