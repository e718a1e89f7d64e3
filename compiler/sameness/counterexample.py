"""Counterexamples: a small layer on which two metrics prune different weights, as small and as round as can be found.

What is tried, in this order: layers of a few weights with small whole numbers, then with zeros and signs, then with
fractions, then ones whose leaves follow from small activations and gradients, then from random ones. A layer counts
where both scores are finite and the masks differ, and not by rounding: scores of one layer are equal or clearly apart,
and the masks stay when every operation is off by a little (Parker, Monte Carlo Arithmetic, 1997).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from numpy.random import RandomState

from pzc.compiler.core import Node, leaves_of, topological
from pzc.compiler.groups import JOINT
from pzc.compiler.leaves import AXES, LEAVES
from pzc.compiler.masks import Mask, keep, keep_across, keep_pattern
from pzc.compiler.pattern import Pattern
from pzc.compiler.reference import Array, apply
from pzc.compiler.sameness.fingerprint import CLEAR
from pzc.compiler.sameness.probes import BLOCK_DEPTH, KINDS, Layer, layer, measured

Shape = tuple[int, int]
Values = tuple[float, ...]


@dataclass(frozen=True)
class Scored:
    """A score and its comparison group."""

    core: Node
    per: str


@dataclass(frozen=True)
class Counterexample:
    """Layers, by the leaves that either metric reads, on which two metrics keep different weights at a sparsity or a
    pattern: `scores` float64 and `masks` bool of the first and the second, each `[out, in]` a layer."""

    layers: tuple[Layer, ...]
    sparsity: float | None
    pattern: Pattern | None
    scores: tuple[tuple[Array, ...], tuple[Array, ...]]
    masks: tuple[tuple[Mask, ...], tuple[Mask, ...]]


SHAPES: dict[str, tuple[tuple[Shape, ...], ...]] = {
    "row": (((1, 2),), ((1, 3),), ((2, 2),), ((2, 3),), ((3, 3),)),
    "col": (((2, 1),), ((3, 1),), ((2, 2),), ((3, 2),), ((3, 3),)),
    "layer": (((1, 2),), ((2, 1),), ((2, 2),), ((2, 3),), ((3, 3),)),
    "block": (((1, 2),), ((1, 2), (1, 2)), ((2, 2), (1, 2)), ((2, 2), (2, 2))),
    "model": (((1, 2),), ((1, 2), (1, 2)), ((2, 2), (1, 2)), ((2, 2), (2, 2))),
}
"""The layers that are tried, by the comparison group: sizes `(out, in)`, the smallest first."""

SPARSITIES = (0.5, 0.25, 0.75, 0.34, 0.67, 0.2, 0.85)

STAGES: tuple[tuple[Values, Values], ...] = (
    ((1, 2, 3), (1, 2, 3)),
    ((-3, -2, -1, 0, 1, 2, 3), (0, 1, 2, 3)),
    ((-5, -2, -1, -0.5, -0.1, 0.1, 0.5, 1, 2, 5), (0.1, 0.2, 0.5, 1, 2, 5)),
)
"""What signed and other leaves are drawn from, one stage after another."""

PARTICULAR: dict[str, Values] = {"noise": (0.25, 0.5, 0.75), "windows": (1, 2, 4), "depth": (BLOCK_DEPTH,)}
"""Leaves that can't be any small number."""

DRAWS = 100
"""Layers of a shape and a stage."""


def find(a: Scored, b: Scored, pattern: Pattern | None = None) -> Counterexample | None:
    """Layers on which two scores, each in its own groups or both by a pattern N:M, keep different weights. None where
    none was found, which proves nothing."""
    leaves = leaves_of(a.core) | leaves_of(b.core)
    block = "model" not in (a.per, b.per)
    for draws in _candidates(a.per, b.per, pattern, leaves, block):
        found = [c for layers in draws if (c := _differing(a, b, pattern, leaves, layers)) is not None]
        if found:
            return min(found, key=_size)
    return None


def _size(c: Counterexample) -> float:
    """No ties first, then small, round numbers."""
    ties = sum(s.size - len(np.unique(s)) for scores in c.scores for s in scores)
    values = np.concatenate([np.ravel(v) for one in c.layers for v in one.values()])
    return 100 * ties + float(np.abs(values).sum() + (values < 0).sum() + len(np.unique(values)) / 100)


def _candidates(
    first: str, second: str, pattern: Pattern | None, leaves: frozenset[str], block: bool
) -> Iterator[Iterator[tuple[Layer, ...]]]:
    """For every shape and stage, the layers to try."""
    random = RandomState(7)
    if pattern:
        shapes: list[tuple[Shape, ...]] = [((1, pattern[1]),), ((2, pattern[1]),)]
    else:
        both = dict.fromkeys((*SHAPES[first], *SHAPES[second]))
        shapes = sorted(both, key=lambda layers: sum(out * inn for out, inn in layers))
    if _free(leaves):
        for sizes, stage in product(shapes, STAGES):
            yield (_drawn(random, sizes, leaves, stage, block) for _ in range(DRAWS))
    for sizes in shapes:
        yield (_followed(random, sizes, block) for _ in range(DRAWS))
    larger = [tuple((out + 1, inn if pattern else inn + 1) for out, inn in shapes[-1])]
    for sizes, kind in product([shapes[-1], *larger], KINDS):
        yield (
            tuple(layer(random, kind, size, 2, depth) for size, depth in zip(sizes, _depths(sizes, block), strict=True))
            for _ in range(DRAWS // 3)
        )


def _depths(sizes: Sequence[Shape], block: bool) -> list[float]:
    return [BLOCK_DEPTH] * len(sizes) if block or len(sizes) == 1 else [i / (len(sizes) - 1) for i in range(len(sizes))]


def _free(leaves: frozenset[str]) -> bool:
    """Whether each leaf can have small values of its own: there are activations, a bias and gradients that give them as
    long as one of a family is read. H follows from X, and an output's variance from weights and inputs."""
    families = [name.split(".")[0] for name in leaves]
    return len(families) == len(set(families)) and not {"X", "H"} <= set(families) and "Y.var" not in leaves


def _drawn(
    random: RandomState, sizes: Sequence[Shape], leaves: frozenset[str], stage: tuple[Values, Values], block: bool
) -> tuple[Layer, ...]:
    """Layers whose leaves are drawn from a stage's numbers."""
    windows = float(random.choice(PARTICULAR["windows"]))
    layers = []
    for size, depth in zip(sizes, _depths(sizes, block), strict=True):
        given: dict[str, Array] = {}
        for name in sorted(leaves):
            entry = LEAVES[name]
            numbers = PARTICULAR.get(
                name, stage[0] if entry.signed else [v for v in stage[1] if v or not entry.positive]
            )
            given[name] = random.choice(numbers, tuple(size[AXES.index(x)] for x in entry.axes))
        fixed = {"out_features": size[0], "in_features": size[1], "depth": depth, "windows": windows}
        given.update({name: np.array(float(value)) for name, value in fixed.items() if name in leaves})
        given.setdefault("W", np.ones(size))
        _silence_gradients(given)
        layers.append(given)
    return tuple(layers)


def _silence_gradients(given: dict[str, Array]) -> None:
    """The gradient of a weight is zero where its input always is."""
    for inputs in (name for name in given if name in ("X.l2", "X.l1", "X.max")):
        for gradients in (name for name in given if name.startswith("G.")):
            given[gradients] = given[gradients] * (given[inputs] != 0)


def _followed(random: RandomState, sizes: Sequence[Shape], block: bool) -> tuple[Layer, ...]:
    """Layers whose leaves follow from small whole activations and gradients."""
    windows = int(random.choice([1, 2]))
    tokens = int(random.choice([1, 2, 3]))
    layers = []
    for (out, inn), depth in zip(sizes, _depths(sizes, block), strict=True):
        inputs = random.randint(-2, 4, (windows, tokens, inn)).astype(np.float64)
        gradients = random.randint(-2, 4, (windows, out, inn)) * (inputs != 0).any((0, 1))
        weight = random.choice([-3.0, -2, -1, 1, 2, 3], (out, inn))
        given = measured(weight, inputs, random.randint(-2, 3, out).astype(np.float64), gradients.astype(np.float64))
        layers.append({**given, "depth": np.array(depth), "noise": random.choice(PARTICULAR["noise"], (out, inn))})
    return tuple(layers)


def _differing(
    a: Scored, b: Scored, pattern: Pattern | None, leaves: frozenset[str], layers: Sequence[Layer]
) -> Counterexample | None:
    """The counterexample that these layers are, if they are one."""
    if not leaves <= layers[0].keys():
        return None
    plain = (_scores(a.core, layers), _scores(b.core, layers))
    first, second = plain
    if first is None or second is None or _one_order(first, second, a.per, b.per, pattern):
        return None
    if not (_clear(first) and _clear(second)):
        return None
    off_first, off_second = _all_off(a.core, layers), _all_off(b.core, layers)
    if off_first is None or off_second is None:
        return None
    for sparsity in (None,) if pattern else SPARSITIES:
        masks = (_masks(first, a.per, sparsity, pattern), _masks(second, b.per, sparsity, pattern))
        steady = (
            _equal(mask, _masks(scores, scored.per, sparsity, pattern))
            for scored, mask, others in zip((a, b), masks, (off_first, off_second), strict=True)
            for scores in others
        )
        if not _equal(*masks) and all(steady):
            read = leaves | {"W"}
            shown = tuple({name: values for name, values in one.items() if name in read} for one in layers)
            return Counterexample(shown, sparsity, pattern, (first, second), masks)
    return None


def _one_order(first: Sequence[Array], second: Sequence[Array], per: str, other: str, pattern: Pattern | None) -> bool:
    """Whether both scores are sorted alike in every group, so that no masks differ; a quick look, for most layers."""
    if pattern is None and per != other:
        return False

    def order(scores: Sequence[Array]) -> list[npt.NDArray[np.intp]]:
        if pattern:
            return [np.argsort(s.reshape(-1, pattern[1]), axis=1, kind="stable") for s in scores]
        if per in ("row", "col"):
            return [np.argsort(s, axis=1 if per == "row" else 0, kind="stable") for s in scores]
        return [np.argsort(np.concatenate([s.ravel() for s in scores]), kind="stable")]

    return all(np.array_equal(x, y) for x, y in zip(order(first), order(second), strict=True))


def _equal(a: Sequence[Mask], b: Sequence[Mask]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def _masks(scores: Sequence[Array], per: str, sparsity: float | None, pattern: Pattern | None) -> tuple[Mask, ...]:
    if sparsity is None or pattern is not None:
        n, m = pattern or (1, 2)
        return tuple(keep_pattern(s, n, m) for s in scores)
    if per in JOINT:
        return tuple(keep_across(scores, sparsity))
    return tuple(keep(s, per, sparsity) for s in scores)


def _scores(core: Node, layers: Sequence[Layer], off: int | None = None) -> tuple[Array, ...] | None:
    found = []
    for one in layers:
        values = _evaluated(core, one, off)
        if values is None or not np.isfinite(values).all():
            return None
        found.append(np.ascontiguousarray(np.broadcast_to(values, one["W"].shape)))
    return tuple(found)


def _clear(scores: Sequence[Array]) -> bool:
    """Whether any two scores are equal to the last bit or further apart than rounding takes them."""
    ascending = np.sort(np.concatenate([s.ravel() for s in scores]))
    below, above = ascending[:-1], ascending[1:]
    apart = above - below >= CLEAR * np.maximum(np.abs(below), np.abs(above))
    return bool((apart | (below == above)).all())


def _all_off(core: Node, layers: Sequence[Layer]) -> list[tuple[Array, ...]] | None:
    """Some scores of which every operation is off by a little; None where float64 may lose a difference."""
    found = [_scores(core, layers, off) for off in range(1, 4)]
    scores = [each for each in found if each is not None]
    return scores if len(scores) == len(found) else None


_OFF = 1e-11
_CALM = {"tanh": 8.0, "sigmoid": 16.0, "exp": 16.0}
"""Up to which argument float64 tells apart what these functions make of different numbers."""
_SMALL, _LARGE = 1e-7, 1e7
"""Beyond which a sum may swallow a value."""


def _evaluated(core: Node, layer: Mapping[str, Array], off: int | None) -> Array | None:
    """The value of a core graph. With `off`, every result that can be rounded is off by up to 1e-11 of itself, and
    there is none where float64 may not tell apart what the reals do."""
    values: dict[Node, Array] = {}
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the deviation of a single value: NaN, as it should be
        for node in topological(core):
            args = [values[x] for x in node.args]
            value = apply(node, args, layer)
            if off is not None and node.args:
                if node.op in _CALM and np.abs(args[0]).max() > _CALM[node.op]:
                    return None
                size = np.abs(value[value != 0])
                if size.size and not _SMALL <= size.min() <= size.max() <= _LARGE:
                    return None
                value = value * (1 + _OFF * _scatter(value, off))
            values[node] = value
    return values[core]


def _scatter(values: Array, salt: int) -> Array:
    """Numbers in [−1, 1) that follow from the bits of values: equal for equal ones, so that true ties stay, and zero
    for short binary fractions, which are exact."""
    bits = np.ascontiguousarray(values + 0.0).view(np.uint64)
    mixed = (bits ^ (bits >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15 + 2 * salt)
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    scattered: Array = (mixed >> np.uint64(11)).astype(np.float64) / 2.0**52 - 1.0
    scattered[values * 1024 == np.rint(values * 1024)] = 0.0
    return scattered
