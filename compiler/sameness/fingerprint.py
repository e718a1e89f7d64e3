"""Functional fingerprints: how a score ranks the weights of a few probe layers, by the reference evaluator in float64.

Scores that rank alike have one fingerprint, whatever they look like. So an equal fingerprint is evidence that two
metrics prune alike, not proof, and `confirm` looks again at probes that no fingerprint has seen. Rewriting
(`compiler.rewriting.rank`) is the proof.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pzc.compiler.core import Node
from pzc.compiler.reference import Array, evaluate
from pzc.compiler.sameness.probes import KINDS, Probe, probe

Ranks = npt.NDArray[np.uint16]

TIED, CLEAR = 1e-11, 1e-9
"""Neighbouring scores whose distance, relative to the larger, is at most the first tie: that much is rounding. From the
second on they do not. Between the two it is too close to call: another machine may see it otherwise."""

SEEDS = (11, 12, 13, 14)
"""Of each kind of probe one."""

FRESH = range(1000, 1003)
"""Seeds of the probes that confirm: three of each kind."""

_UNDEFINED = b"undefined"


def fingerprint(root: Node, per: str) -> str | None:
    """A hash (hex) of the ranks of a score inside every comparison group of the probes; a pattern N:M ranks as `row`.

    None where the score is not finite, or where two scores are too close to call. A score that is not finite on probes
    with zeros alone has a fingerprint: the ranks on the others, and that it is not defined there.
    """
    per = "row" if ":" in per else per
    along = only_axis(root)
    digest = hashlib.blake2b(f"{per} {along}".encode(), digest_size=16)
    for kind, seed in zip(KINDS, SEEDS, strict=True):
        scores = scores_on(root, probe(kind, seed, per, along))
        if scores is None:
            if not kind.zeros:
                return None
            digest.update(_UNDEFINED)
            continue
        ranks = ranks_of(scores, per)
        if ranks is None:
            return None
        digest.update(ranks.tobytes())
    return digest.hexdigest()


def confirm(a: Node, b: Node, per: str) -> bool:
    """Whether two scores rank alike on every fresh probe on which both are defined and clear; false too where they are
    so on less than half of the probes."""
    per = "row" if ":" in per else per
    along = only_axis(a, b)
    seen = 0
    for kind in KINDS:
        for seed in FRESH:
            alike = same_ranks(a, b, per, probe(kind, seed, per, along))
            if alike is False:
                return False
            seen += alike is True
    return 2 * seen >= len(KINDS) * len(FRESH)


def only_axis(*roots: Node) -> str:
    """The axis that scores have where none has the other, or nothing."""
    axes = frozenset().union(*(root.axes for root in roots))
    return next(iter(axes)) if len(axes) == 1 else ""


def same_ranks(a: Node, b: Node, per: str, on: Probe) -> bool | None:
    """Whether two scores rank alike on a probe; None where one is not finite or too close to call."""
    first, second = scores_on(a, on), scores_on(b, on)
    if first is None or second is None:
        return None
    x, y = ranks_of(first, per), ranks_of(second, per)
    return None if x is None or y is None else bool(np.array_equal(x, y))


def scores_on(root: Node, on: Probe) -> list[Array] | None:
    """The scores of each layer of a probe, float64 `[out, in]`; None where one is not finite."""
    scores = []
    for layer in on.layers:
        values = evaluate(root, layer)
        if not np.isfinite(values).all():
            return None
        scores.append(np.broadcast_to(values, layer["W"].shape))
    return scores


def ranks_of(layers: Sequence[Array], per: str) -> Ranks | None:
    """The dense ranks of scores `[out, in]` inside their groups, `[groups, members]`: equal where scores tie. None
    where two scores are too close to call."""
    if per == "row":
        groups = layers[0]
    elif per == "col":
        groups = layers[0].T
    elif len(layers) == 1:
        groups = layers[0].reshape(1, -1)
    else:
        groups = np.concatenate([scores.ravel() for scores in layers])[np.newaxis]
    order = groups.argsort(axis=1, kind="stable")
    ascending = np.take_along_axis(groups, order, 1)
    below, above = ascending[:, :-1], ascending[:, 1:]
    distance = above - below
    size = np.maximum(np.abs(below), np.abs(above))
    apart = distance > TIED * size
    if (apart & (distance < CLEAR * size)).any():
        return None
    ranks = np.zeros(groups.shape, np.uint16)
    np.put_along_axis(ranks, order[:, 1:], apart.cumsum(1, dtype=np.uint16), 1)
    np.put_along_axis(ranks, order[:, :1], np.uint16(0), 1)
    return ranks
