"""Whether two metrics prune alike: a proof by rewriting, a counterexample, or neither.

A proof is an equal key. What is found on probe layers is never one: where there is neither proof nor counterexample,
`Verdict.evidence` says what the probes say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pzc.compiler.arm import Arm
from pzc.compiler.groups import JOINT
from pzc.compiler.metric import Metric
from pzc.compiler.pattern import Pattern, pattern_text
from pzc.compiler.rewriting.derive import Step, derive
from pzc.compiler.sameness.counterexample import Counterexample, Scored, find
from pzc.compiler.sameness.fingerprint import confirm, fingerprint
from pzc.compiler.sameness.keys import keys

Kind = Literal["exact", "real", "rank"]
KINDS: tuple[Kind, ...] = ("exact", "real", "rank")
"""Sameness, the strongest first: the same graph, the same real function, the same order in every group."""


@dataclass(frozen=True)
class Verdict:
    """What is known of two scores.

    `same` says whether they prune alike: True is proven, False has a `counterexample`, None is not known. `kind` is the
    strongest sameness of the two scores that is proven; in different groups, equal scores prune differently all the
    same. `steps` lead from each score to the common form. `evidence`, where nothing is known, says whether they rank
    alike on random probes, None if those do not tell.
    """

    first: Scored
    second: Scored
    same: bool | None
    kind: Kind | None
    steps: tuple[tuple[Step, ...], tuple[Step, ...]] = ((), ())
    counterexample: Counterexample | None = None
    evidence: bool | None = None


@dataclass(frozen=True)
class Pair:
    """Arms of two metrics that are for the same layers, and what is known of them."""

    layers: tuple[str, ...]
    verdict: Verdict


@dataclass(frozen=True)
class Equivalence:
    """What is known of two metrics: of each pair of arms. `reason` says why arms can't be paired, or why their verdicts
    do not settle that of the metrics."""

    pairs: tuple[Pair, ...]
    reason: str | None = None

    @property
    def same(self) -> bool | None:
        """Whether the metrics prune alike; None where it is not known."""
        found = [pair.verdict.same for pair in self.pairs]
        if False in found:
            return False
        return None if self.reason or None in found else True

    @property
    def kind(self) -> Kind | None:
        """The strongest sameness that holds for all layers."""
        found = [pair.verdict.kind for pair in self.pairs]
        return None if self.reason or None in found else max((k for k in found if k), key=KINDS.index)


def equivalent(a: Metric, b: Metric, per: str | None = None, pattern: Pattern | None = None) -> Equivalence:
    """Compare two metrics in their own groups, or both in the group `per`, or by a pattern N:M.

    Metrics by role are compared arm by arm in their order; a metric of one score stands beside every arm of another.
    """
    first, second = a.arms, b.arms
    if len(first) == 1 < len(second) or len(second) == 1 < len(first):
        reason = None if pattern else _split(max(first, second, key=len), per)
        names = max(first, second, key=len)
        first, second = (arms * (len(names) if len(arms) == 1 else 1) for arms in (first, second))
        return Equivalence(_pairs(names, first, second, per, pattern), reason)
    if [arm.layers for arm in first] != [arm.layers for arm in second]:
        return Equivalence((), "their arms are for different layers, so they can't be compared one by one")
    return Equivalence(_pairs(first, first, second, per, pattern))


def _split(arms: Sequence[Arm], per: str | None) -> str | None:
    """Why equal scores can prune differently where one metric has several arms."""
    joint = [arm for arm in arms if (per or arm.per) in JOINT]
    return f"layers of different arms are not compared with each other per {per or joint[0].per}" if joint else None


def _pairs(
    names: Sequence[Arm], first: Sequence[Arm], second: Sequence[Arm], per: str | None, pattern: Pattern | None
) -> tuple[Pair, ...]:
    return tuple(
        Pair(name.layers, compare(Scored(a.core, per or a.per), Scored(b.core, per or b.per), pattern))
        for name, a, b in zip(names, first, second, strict=True)
    )


def compare(a: Scored, b: Scored, pattern: Pattern | None = None) -> Verdict:
    """What is known of two scores, each in its own group or both by a pattern."""
    groups = tuple(pattern_text(pattern) if pattern else scored.per for scored in (a, b))
    one_group = groups[0] == groups[1]
    kind = _kind(a, b, groups[0], one_group)
    if kind and one_group:
        return Verdict(a, b, True, kind, (_steps(a, groups[0], kind), _steps(b, groups[0], kind)))
    found = find(a, b, pattern)
    if found or not one_group:
        steps = (_steps(a, groups[0], kind), _steps(b, groups[0], kind)) if kind else ((), ())
        return Verdict(a, b, False if found else None, kind, steps, found)
    return Verdict(a, b, None, None, evidence=_evidence(a, b, groups[0]))


def _kind(a: Scored, b: Scored, group: str, one_group: bool) -> Kind | None:
    first, second = keys(a.core, group), keys(b.core, group)
    for kind in KINDS if one_group else KINDS[:2]:
        if getattr(first, kind) == getattr(second, kind):
            return kind
    return None


def _steps(scored: Scored, group: str, kind: Kind) -> tuple[Step, ...]:
    """The derivation as far as this kind of sameness needs it."""
    if kind == "exact":
        return ()
    return tuple(step for step in derive(scored.core, group) if kind == "rank" or step.rule.kind != "rank")


def _evidence(a: Scored, b: Scored, group: str) -> bool | None:
    first, second = fingerprint(a.core, group), fingerprint(b.core, group)
    if first is None or second is None:
        return None
    return first == second and confirm(a.core, b.core, group)
