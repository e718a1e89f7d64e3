"""Niches: candidates whose masks hardly differ are variants of one metric, however their formulas look.

On real models a published metric has neighbours by the dozen that move one weight in a thousand: `abs(W) * X + c * G`
for any small c prunes as Wanda does. A population that holds a few of each niche goes on searching elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from torch import Tensor

from pzc.search.candidate import Candidate
from pzc.search.spread import spread

BITS = 1024
"""About how many bits of the masks a signature holds."""

NEAR = 0.01
"""The share of differing bits below which two candidates are in one niche."""


def signature(masks: Mapping[str, Tensor]) -> str:
    """Bits of masks bool `[out, in]` from all over the model, in hexadecimal digits."""
    flat = [masks[name].numpy(force=True).reshape(-1) for name in sorted(masks)]
    ends = np.cumsum([bits.size for bits in flat])
    places = spread(int(ends[-1]), BITS)
    parts = np.split(places, np.searchsorted(places, ends[:-1]))
    bits = [bits[part - (end - bits.size)] for bits, part, end in zip(flat, parts, ends, strict=True)]
    return np.packbits(np.concatenate(bits)).tobytes().hex()


def distance(a: str, b: str) -> float:
    """The share of bits in which two signatures of one model differ."""
    return (int(a, 16) ^ int(b, 16)).bit_count() / (4 * len(a))


def few_of_a_niche(pool: Iterable[Candidate], most: int, n: int) -> list[Candidate]:
    """The first n of a pool, of which no more than `most` are alike: else one good formula with ever finer numbers
    would crowd out everything else."""
    chosen: list[Candidate] = []
    for c in pool:
        if sum(alike(c, other) for other in chosen) < most:
            chosen.append(c)
            if len(chosen) == n:
                break
    return chosen


def alike(a: Candidate, b: Candidate) -> bool:
    """Whether two candidates are in one niche, or of one shape."""
    if (a.shape or a.formula) == (b.shape or b.formula):
        return True
    return bool(a.signature and b.signature) and distance(a.signature, b.signature) < NEAR
