"""Settling a proposal: refused, a repetition, lost or placed on the way, or measured in full."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from pzc.compiler.core import Node
from pzc.runtime.errors import NonFiniteScore, PruningError, is_out_of_memory
from pzc.search.algorithms import ALGORITHMS, SEED, Draft
from pzc.search.bar import Bar
from pzc.search.candidate import Candidate
from pzc.search.fitness import Fitness
from pzc.search.niche import NEAR, distance, signature
from pzc.search.proposals import Proposal, candidate_of
from pzc.search.readable import shape
from pzc.search.saturation import unsaturated
from pzc.search.space import Genotype
from pzc.search.state import State

OUT_OF_MEMORY = "out of memory"
"""Why a candidate is refused whose scores or masks need more than there is, so that the next can be tried."""

Rungs = Callable[[int, float], None]
"""Called after every rung of a race with its number and the mean loss so far."""


def settle(
    proposal: Proposal,
    state: State,
    fitness: Fitness,
    bar: Bar,
    rung: Rungs = lambda number, loss: None,
) -> Candidate:
    """What becomes of a proposal. Only closed generations have a say, so it is the same whoever settles it when."""
    if proposal.settled:
        return proposal.candidate
    new, core = proposal.candidate, proposal.core
    algorithm = ALGORITHMS[state.plan.algorithm]
    known = state.zoo[0] if state.zoo and not new.published else None
    masks, mask_hash, reason = _masks(fitness, core, new.per, known)
    if algorithm.identity and not new.published and (form := _unsaturated(core, new, masks, fitness, known)):
        core = form
        masks, mask_hash, reason = _masks(fitness, core, new.per, known)
        draft = Draft(Genotype(core, new.per), new.operator, new.parents, new.genome)
        stands = candidate_of(draft, new.number, (new.generation, new.slot, new.attempt), new.island)
        new = replace(stands, predictors=new.predictors)
    if masks is None:
        return replace(new, status="refused", reason=reason)
    predictors = {**new.predictors, **fitness.predicted(masks)}
    new = replace(new, mask_hash=mask_hash, signature=signature(masks), predictors=predictors)
    if algorithm.identity:
        alias = state.same_mask(mask_hash)
        if alias is not None:
            return replace(new, status="same mask", alias_of=alias)
    new = replace(new, shape=shape(core, new.per))
    race = bar.race(new)
    losses, verdict = fitness.race(masks, race, rung)
    if not all(map(math.isfinite, losses)):
        return replace(new, status="refused", reason="the pruned model's loss is not finite")
    expected = race.expected(losses) if verdict == "placed" else ()
    return replace(new, losses=tuple(losses), expected=expected, status=verdict or "evaluated")


def _unsaturated(
    core: Node, new: Candidate, masks: dict[str, Tensor] | None, fitness: Fitness, known: Candidate | None
) -> Node | None:
    """What a score ranks as over the reals, where saturation has given it other masks, or none to a metric of the
    user. What else was refused may come again in another form."""
    form = unsaturated(core, new.per) if masks or new.operator == SEED else None
    own = _masks(fitness, form, new.per, known)[0] if form else None
    if own is None or (masks and distance(signature(own), signature(masks)) < NEAR):
        return None
    return form


def _masks(
    fitness: Fitness, core: Node, per: str, known: Candidate | None
) -> tuple[dict[str, Tensor] | None, str, str]:
    """The masks of a score with their hash, or None and the reason for which it is refused. Where memory suffices no
    longer for one that is `known` to have been measured, it is not the score's fault, and nothing is settled."""
    try:
        return *fitness.masks(Genotype(core, per)), ""
    except NonFiniteScore:
        return None, "", "not finite"
    except PruningError as error:
        return None, "", error.message
    except (MemoryError, RuntimeError) as error:
        if known is None or not is_out_of_memory(error):
            raise
    fitness.masks(Genotype(known.metric().core, known.per))
    return None, "", OUT_OF_MEMORY
