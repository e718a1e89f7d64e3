"""Keys: three hashes that say with which other metrics one is the same, and how."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from pzc.compiler.core import Node
from pzc.compiler.rewriting.canonical import canonical
from pzc.compiler.rewriting.rank import rank_class
from pzc.compiler.structure import KEY_BYTES, key


@dataclass(frozen=True)
class Keys:
    """What identifies a metric: BLAKE2b hashes of 256 bits in hex.

    `exact`: the same graph up to commutative order; `real`: the same real function; `rank`: the same order inside
    every comparison group, so the same mask for every model and sparsity.
    """

    exact: str
    real: str
    rank: str


def keys(root: Node, per: str) -> Keys:
    """The three keys of a score under a comparison group, which may be a pattern such as `2:4`."""
    return Keys(key(root).hex(), key(canonical(root)).hex(), rank_key(root, per))


def rank_key(root: Node, per: str) -> str:
    """The key of what ranks alike: the group and the hash of the rank class."""
    return _hashed(per.encode() + key(rank_class(root, per)))


def keys_of_arms(arms: Sequence[tuple[tuple[str, ...], Keys]]) -> Keys:
    """The keys of a metric by role, from the layers and the keys of each of its arms in their order."""

    def joined(kind: str) -> str:
        return _hashed(json.dumps([[layers, getattr(each, kind)] for layers, each in arms]).encode())

    return Keys(joined("exact"), joined("real"), joined("rank"))


def _hashed(content: bytes) -> str:
    return blake2b(content, digest_size=KEY_BYTES).hexdigest()
