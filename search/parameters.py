"""What a trial shows as its parameters: what of a candidate could matter for its fitness, for Optuna's own pictures.

No sampler reads them. They are of one kind in every run, so that studies can be laid beside each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from pzc.compiler.core import leaves_of
from pzc.compiler.groups import GROUPS
from pzc.search.proposals import Proposal

LARGEST = 1_000_000
"""More nodes than any candidate has."""


def _reads(family: str) -> Callable[[Proposal], bool]:
    return lambda p: any(name.partition(".")[0] == family for name in leaves_of(p.core))


_YES_NO = CategoricalDistribution([False, True])

PARAMETERS: dict[str, tuple[BaseDistribution, Callable[[Proposal], Any]]] = {
    "per": (CategoricalDistribution(list(GROUPS)), lambda p: p.candidate.per),
    "complexity": (IntDistribution(1, LARGEST), lambda p: p.candidate.complexity),
    "reads inputs": (_YES_NO, _reads("X")),
    "reads outputs": (_YES_NO, _reads("Y")),
    "reads gradients": (_YES_NO, _reads("G")),
    "reads Hessians": (_YES_NO, _reads("H")),
}
"""Each parameter with its distribution, and how a proposal fills it."""


def parameters(proposal: Proposal) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """The parameters of a proposal, and their distributions."""
    values = {name: value(proposal) for name, (_, value) in PARAMETERS.items()}
    return values, {name: distribution for name, (distribution, _) in PARAMETERS.items()}
