"""What a pruning run is asked to do, as one frozen value, and what follows from it: which leaves are gathered when, and
so which passes over the calibration windows there are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any, TypedDict, Unpack

from pzc.compiler.leaves import LEAVES, TIERS, Tier
from pzc.compiler.load import load, zoo_metric
from pzc.compiler.metric import Metric
from pzc.runtime.errors import PruningError
from pzc.runtime.models.layers import Layer
from pzc.runtime.pruning.allocation import Allocation, check_reachable, leaves_for, named_allocation
from pzc.runtime.pruning.allocation_file import check_allocation
from pzc.runtime.pruning.targets import check_sequential, check_target
from pzc.runtime.scoring.masks import Target, check_sparsity, parse_pattern
from pzc.runtime.statistics.forward import forward_leaves
from pzc.runtime.statistics.gather import passes_for
from pzc.runtime.statistics.hessian import FACTOR

UPDATES = ("none", "obs", "sparsegpt")
"""What becomes of the weights that are kept: nothing; SparseGPT's update, for the metric's mask; or the same with
SparseGPT's own mask, chosen on the way."""


class Way(TypedDict, total=False):
    """The options of a run that say how weights are pruned, whatever the metric and the target.

    With `update` "obs" the weights that are kept make up for those that go (`obs`). The zoo's `sparsegpt` is the
    published method unless `update` says otherwise: it is "sparsegpt" then, and chooses its mask on the way.

    With `sequential`, what a block's layers read and put out is taken after the blocks before it were pruned, and
    before it is itself; gradients are the dense model's either way. Left to None, runs that update weights are
    sequential, as published, and others are not.

    `include` and `exclude` are patterns of layers' names, as `find_layers` takes them. `seed` is that of `noise`. In
    the folder `cache` statistics of gradients are kept and taken from.
    """

    sequential: bool | None
    update: str | None
    include: Sequence[str] | str
    exclude: Sequence[str] | str
    seed: int
    cache: Path | str | None


class How(Way, total=False):
    """The options of a run beside its metric: those of `Way`, and its target.

    `sparsity` is the share of weights to prune, or several shares, each for a result of its own. `pattern` (`N:M`: of
    every M consecutive inputs N are kept) replaces groups and sparsity. `per` overrides the metric's comparison groups.
    `allocation` gives blocks or layers sparsities of their own that make `sparsity` together, and blocks their own N of
    M: by a name, a file or what a file holds.
    """

    sparsity: float | Sequence[float]
    pattern: str | tuple[int, int] | None
    per: str | None
    allocation: Allocation | PathLike[str]


@dataclass(frozen=True)
class Request:
    """A run's metric, and its options as `How` has them, with nothing left open. There are several `targets` only for
    one-shot runs that update no weight: they differ in their sparsity alone."""

    metric: Metric
    targets: tuple[Target, ...] = (Target(),)
    sequential: bool = False
    update: str = "none"
    allocation: Allocation = "uniform"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    seed: int = 0
    cache: Path | None = None

    @classmethod
    def of(cls, metric: Metric | str | PathLike[str], **how: Unpack[How]) -> Request:
        """The request for a metric (or what `pzc.load` takes) with some options; the others are as usual.

        Raises TypeError for an option that there is none of, and PruningError for values that are none or do not go
        together, as far as that shows without a model.
        """
        if unknown := how.keys() - How.__annotations__.keys():
            raise TypeError(f"there is no option `{min(unknown)}`; there are {', '.join(sorted(How.__annotations__))}")
        metric = metric if isinstance(metric, Metric) else load(metric)
        sparsity, pattern = how.get("sparsity", Target.sparsity), how.get("pattern")
        given = sparsity if isinstance(sparsity, Sequence) and not isinstance(sparsity, str) else [sparsity]
        shares = [_share(each) for each in given]
        if len(set(shares)) < len(shares) or not shares:
            raise PruningError("sparsities are given twice" if shares else "there is no sparsity")
        parsed = parse_pattern(pattern) if isinstance(pattern, str) else pattern
        targets = tuple(Target(how.get("per"), share, parsed) for share in shares)
        sequential, update = _way_of(metric, targets[0], how.get("sequential"), how.get("update"))
        if len(targets) > 1 and (sequential or update != "none"):
            what = f"update `{update}`" if update != "none" else "sequential run"
            raise PruningError(f"several sparsities share the statistics of the dense model, so there is no {what}")
        allocation = how.get("allocation", "uniform")
        if isinstance(allocation, str | PathLike):
            allocation = named_allocation(allocation)
        else:
            allocation = check_allocation(allocation, "the allocation")
        return cls(
            metric, targets, sequential, update, allocation, patterns(how.get("include", ())),
            patterns(how.get("exclude", ())), how.get("seed", 0), Path(cache) if (cache := how.get("cache")) else None,
        )  # fmt: skip

    @property
    def target(self) -> Target:
        """The only target, or the first of several."""
        return self.targets[0]

    @property
    def chooses(self) -> bool:
        """Whether the update chooses its mask on the way, so that the metric is not read."""
        return self.update == "sparsegpt"

    @cached_property
    def leaves(self) -> frozenset[str]:
        """The leaves of the metric that are read."""
        return frozenset() if self.chooses else self.metric.leaves

    @cached_property
    def activations(self) -> frozenset[str]:
        """Those that come from what layers read and put out."""
        return forward_leaves(self.leaves)

    @property
    def by_block(self) -> bool:
        """Whether the model is walked block by block, each pruned when it is reached."""
        return self.update != "none" or (self.sequential and bool(self.activations))

    @property
    def joint(self) -> bool:
        """Whether layers of several blocks are compared with each other."""
        return not self.target.pattern and not self.chooses and any(self.is_joint(arm.per) for arm in self.metric.arms)

    def is_joint(self, per: str) -> bool:
        """Whether layers of several blocks are compared where a metric's own group is `per`."""
        return not self.target.pattern and (self.target.per or per) == "model"

    @cached_property
    def walked(self) -> frozenset[str]:
        """What is gathered of each block when the walk reaches it: `H.factor`, and activations unless masks need those
        of all blocks at once."""
        factor = frozenset({FACTOR}) if self.update != "none" else frozenset[str]()
        return factor | (self.activations if self.by_block and not self.joint else frozenset())

    @cached_property
    def early(self) -> frozenset[str]:
        """What is gathered of the dense model before any block is pruned."""
        return (self.leaves - self.walked) | leaves_for(self.allocation)

    @property
    def needed(self) -> frozenset[str]:
        """All leaves that need calibration windows, and those that need none, by names of the language."""
        return self.early | self.leaves | as_tiers(self.walked)

    @property
    def passes(self) -> tuple[Tier, ...]:
        """The passes over the calibration windows, cheapest first, by the tiers of leaves that they are for."""
        every = [*passes_for(self.early), *(passes_for(as_tiers(self.walked)) if self.by_block else ())]
        return tuple(sorted(every, key=TIERS.index))

    @property
    def together(self) -> bool:
        """Whether several calibration windows may run at once: where a forward pass of the dense model is all. Then
        sums are rounded otherwise than one window after another would have them."""
        return self.passes == ("forward",) and not self.by_block

    def check(self, layers: Sequence[Layer]) -> None:
        """Raise PruningError for what can't be done to these layers, as far as that shows before anything is run."""
        for target in self.targets:
            check_target(self.metric, target, layers)
            check_reachable(self.allocation, self.metric, target, layers, adaptive=self.chooses)


def _share(sparsity: Any) -> Any:
    """A sparsity; of a number of another library's the Python number with the same digits, so that 0.3 is 0.3 in any
    precision."""
    known = not isinstance(sparsity, Real) or isinstance(sparsity, float | int | Fraction)
    share = sparsity if known else float(str(sparsity))
    check_sparsity(share)
    return share


def patterns(given: Sequence[str] | str) -> tuple[str, ...]:
    """Patterns of layers' names, of which one may be given by itself."""
    return (given,) if isinstance(given, str) else tuple(given)


def as_tiers(leaves: Collection[str]) -> frozenset[str]:
    """Leaves with one of the language in place of H.factor, which needs the same pass."""
    return frozenset(name if name in LEAVES else "H.diag" for name in leaves)


def _way_of(metric: Metric, target: Target, sequential: bool | None, update: str | None) -> tuple[bool, str]:
    """Whether a run goes block by block, and its update: as asked for, or the metric's own way where that is None."""
    published = metric == zoo_metric("sparsegpt")
    chosen = update or ("sparsegpt" if published else "none")
    if chosen not in UPDATES:
        raise PruningError(f"there is no update `{chosen}`", hint=f"use {', '.join(UPDATES[:-1])} or {UPDATES[-1]}")
    if chosen == "sparsegpt" and not published:
        raise PruningError(
            f"the update `sparsegpt` chooses its own mask, so it does not go with `{metric.name}`",
            hint="use the metric sparsegpt, or the update `obs` for this metric's mask",
        )
    if chosen == "sparsegpt" and target.per:
        raise PruningError(
            f"SparseGPT compares the weights of 128 columns with each other, not those of a {target.per}",
            hint="with --update obs or none its score prunes in any group",
        )
    sequential = chosen != "none" if sequential is None else sequential
    if sequential:
        check_sequential(metric, target)
    return sequential, chosen
