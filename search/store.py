"""The store of a run: an Optuna study, in a journal file of the run's folder or in any storage that Optuna knows.

A trial is a slot of a generation. A worker claims a slot by a running trial; of two claims on one slot the trial with
the lower number counts, so that no lock is held while a candidate is measured. What is settled is in the trial when
`tell` returns. Workers send a heartbeat; the claims of one that is gone are free again.

Optuna keeps every trial in memory. Of a journal it gets what the search itself reads and no more, with each candidate
as the one object that the state of the run has, too.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from sys import intern
from typing import Any

from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from pzc.runtime.evaluation.uncertainty import perplexity
from pzc.search.candidate import REQUIRED, Candidate, attributes, from_attributes
from pzc.search.errors import StoreError, of_another_version
from pzc.search.heartbeats import Workers
from pzc.search.journal import Line
from pzc.search.objective import MEASURES
from pzc.search.parameters import parameters
from pzc.search.patient import Patient
from pzc.search.place import JOURNAL, KEPT, Place
from pzc.search.proposals import Proposal
from pzc.search.studies import SETTINGS, open_study

_STATES = {"evaluated": TrialState.COMPLETE, "refused": TrialState.FAIL}
_WINNER, _OUTCOME = "winner", "outcome"


@dataclass(frozen=True)
class Claim:
    """A slot that this worker is to settle, the trial that says so, and what is to be settled."""

    slot: int
    trial: int
    proposal: Proposal


class Store:
    """The trials of one run. Several processes may work on it at once.

    Raises StoreError when `place` holds a run that was not asked for, or none that was, and later when the storage has
    not answered for a minute. A run that ended before its settings were written never began: a new one may take its
    place.
    """

    def __init__(self, place: Place, *, resume: bool) -> None:
        self.place = place
        self._seen = 0
        self._open: dict[int, int] = {}
        self._known: dict[int, dict[int, FrozenTrial]] = {}
        self.study, storage, self._id = open_study(place, _slim, resume=resume)
        self._storage = Patient(storage)
        self.workers = Workers(self.study, self._notes)
        self._begins = not resume
        if self._begins and self.settings is not None:
            raise self._taken()

    def _taken(self) -> StoreError:
        return StoreError(f"{self.place} already holds a search", f"go on with it: pzc search {self.place.resume}")

    @property
    def settings(self) -> dict[str, Any] | None:
        """What the run was started with, or None before it is set."""
        kept = self._notes().get(SETTINGS)
        return json.loads(kept) if kept else None

    def set_settings(self, settings: Mapping[str, Any]) -> None:
        """Keep what the run was started with, and the hashes of its model and texts. Raises StoreError where another
        run has begun here since this one was opened as new."""
        kept = self.settings
        if self._begins and kept is not None:
            raise self._taken()
        self._begins = False
        said = json.dumps(settings, sort_keys=True)
        if kept is None or said != json.dumps(kept, sort_keys=True):
            self._storage.set_study_user_attr(self._id, SETTINGS, said)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                Patient(self.study).set_metric_names([MEASURES[settings.get("objective", "perplexity")]])

    @property
    def winner(self) -> int | None:
        """The number of the candidate that has the first place in the hall of fame, or None before there is a hall."""
        found: int | None = self._notes().get(_WINNER)
        return found

    def set_winner(self, number: int) -> None:
        """Keep which candidate has the first place."""
        self._storage.set_study_user_attr(self._id, _WINNER, number)

    @property
    def outcome(self) -> dict[str, Any] | None:
        """What the final has measured of the first place, or None before there was one."""
        found: dict[str, Any] | None = self._notes().get(_OUTCOME)
        return found

    def set_outcome(self, outcome: Mapping[str, Any]) -> None:
        """Keep what the final has measured of the first place."""
        self._storage.set_study_user_attr(self._id, _OUTCOME, dict(outcome))

    def discard(self) -> None:
        """Take away the folder of a run that never began, if nothing else is in it."""
        for name in (JOURNAL, KEPT, f".{KEPT}.lock"):
            (self.place.folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            self.place.folder.rmdir()

    def _notes(self) -> dict[str, Any]:
        """What is kept of the study as a whole: the settings, the winner with its outcome, and each worker's
        heartbeat."""
        found: dict[str, Any] = self._storage.get_study_user_attrs(self._id)
        return found

    # Reading

    def generation(self, number: int) -> tuple[dict[int, list[Candidate]], int]:
        """What is settled of a generation, by slot: the drafts that only repeated others, then the candidate; and how
        many slots the generation has, 0 until it is begun."""
        slots: dict[int, list[Candidate]] = {}
        for trial in self._of(number).values():
            if _is_settled(trial):
                slots.setdefault(trial.user_attrs["place"][1], _candidates(trial))
        return slots, self._size(number)

    def _size(self, generation: int) -> int:
        """How many slots a generation has: as many as it was begun with, should the run's budget have been changed
        since. One of an earlier version may have got more on its way."""
        trials = self._known.get(generation, {})
        settled = [trial.user_attrs["place"][2] for trial in trials.values() if _is_settled(trial)]
        return max(settled, default=trials[min(trials)].user_attrs["place"][2] if trials else 0)

    def settled(self, generation: int) -> dict[int, Candidate]:
        """What became of the slots of a generation so far."""
        return {slot: candidates[-1] for slot, candidates in self.generation(generation)[0].items()}

    def slots(self) -> int:
        """How many slots are settled, over all generations."""
        self._look()
        return sum(_is_settled(trial) for trials in self._known.values() for trial in trials.values())

    def _of(self, generation: int) -> dict[int, FrozenTrial]:
        """The trials of a generation by number; a late worker may claim a slot of one when the next has begun."""
        self._look()
        return self._known.get(generation, {})

    def _look(self) -> None:
        """Learn of the trials that are new or were not finished when last seen: to list all of them takes longer the
        longer a run goes on."""
        with suppress(KeyError):  # until there is no such number yet
            while True:
                self._open[self._seen] = self._storage.get_trial_id_from_study_id_trial_number(self._id, self._seen)
                self._seen += 1
        for number, identity in list(self._open.items()):
            trial = self._storage.get_trial(identity)
            self._known.setdefault(trial.user_attrs["place"][0], {})[number] = trial
            if trial.state.is_finished():
                del self._open[number]

    # Working

    def claim(
        self, proposals: Sequence[Proposal], choose: Callable[[Proposal], Proposal] = lambda proposal: proposal
    ) -> Claim | None:
        """A slot that nobody has settled or is at work on, with what `choose` makes of its proposal, which the trial
        shows; None where there is none left, for now at least, or where the generation was begun with another number of
        slots.

        Raises StoreError for a worker whose heartbeats no longer arrive: to the others it is gone.
        """
        if self.workers.lost is not None:
            raise self.workers.lost
        generation = proposals[0].candidate.generation
        made: Claim | None = None
        while True:
            taken = self._claims(generation)
            if self._size(generation) not in (0, len(proposals)):
                if made is not None:
                    self._end(made.trial, TrialState.FAIL)
                return None
            if made is not None:
                number = taken.get(made.slot, -1)
                identity = self._open.get(number)
                if identity is not None and self._by_me(generation, number):  # or its twin, whose answer was lost
                    return replace(made, trial=identity)
                self._end(made.trial, TrialState.FAIL)  # another worker was first
            free = [slot for slot in range(len(proposals)) if slot not in taken]
            if not free:
                return None
            slot = self._first(free)
            chosen = choose(proposals[slot])
            trial = self._storage.create_new_trial(self._id, self._at_work(chosen, slot, len(proposals)))
            made = Claim(slot, trial, chosen)

    def _first(self, free: Sequence[int]) -> int:
        """Where this worker begins to look for a slot: workers spread over them, so that they seldom choose for the
        same one, of which only one may settle it."""
        workers = sorted({*self.workers.at_work(), self.workers.me})
        return free[workers.index(self.workers.me) * len(free) // len(workers)]

    def _at_work(self, proposal: Proposal, slot: int, slots: int) -> FrozenTrial:
        """The trial of a slot that this worker begins with: what others need to know, and what people like to see."""
        c = proposal.candidate
        values, distributions = parameters(proposal)
        return create_trial(
            state=TrialState.RUNNING,
            params=values,
            distributions=distributions,
            user_attrs={
                "source": f"{c.formula} per {c.per}",
                "operator": c.operator,
                "parents": list(c.parents),
                "island": c.island,
                "place": [c.generation, slot, slots],
                "worker": self.workers.me,
                "repeated": [attributes(r) for r in proposal.repeated],
            },
        )

    def _by_me(self, generation: int, number: int) -> bool:
        return self._known[generation][number].user_attrs.get("worker") == self.workers.me

    def _claims(self, generation: int) -> dict[int, int]:
        """The trial that settled each slot of a generation, or is at work on it."""
        trials, workers = self._of(generation), self._notes()
        settled: dict[int, int] = {}
        running: dict[int, int] = {}
        for number, trial in trials.items():
            slot = trial.user_attrs["place"][1]
            if _is_settled(trial):
                settled.setdefault(slot, number)
            elif not trial.state.is_finished() and self.workers.is_at_work(trial.user_attrs.get("worker", ""), workers):
                running.setdefault(slot, number)
        return {**running, **settled}

    def rung(self, claim: Claim, number: int, loss: float) -> None:
        """Note how a race stands: the perplexity so far, to be seen beside that of the whole."""
        with suppress(UpdateFinishedTrialError):  # others took this worker for dead
            self._storage.set_trial_intermediate_value(claim.trial, number, perplexity([loss]))

    def tell(self, claim: Claim, settled: Candidate) -> None:
        """Keep what became of a slot. It is stored when this returns. Who was taken for dead may find it settled."""
        state = _STATES.get(settled.status, TrialState.PRUNED)
        if claim.slot in self.settled(settled.generation):
            state = TrialState.FAIL
        else:
            with suppress(UpdateFinishedTrialError):
                self._storage.set_trial_user_attr(claim.trial, "outcome", _outcome(settled))
                self._storage.set_trial_user_attr(claim.trial, "result", attributes(settled))
        self._end(claim.trial, state, [settled.fitness] if state == TrialState.COMPLETE else None)

    def close(self, generation: int) -> None:
        """End what workers that are gone, or were slower than others, have left of a generation that is settled."""
        for number, trial in self._of(generation).items():
            if not trial.state.is_finished():
                self._end(self._open[number], TrialState.FAIL)

    def end_abandoned(self) -> None:
        """End the claims of workers that are gone, of whatever generation: for a run that nobody goes on with."""
        self._look()
        workers = self._notes()
        for identity in list(self._open.values()):
            if not self.workers.is_at_work(self._storage.get_trial(identity).user_attrs.get("worker", ""), workers):
                self._end(identity, TrialState.FAIL)

    def _end(self, trial: int, state: TrialState, values: Sequence[float] | None = None) -> None:
        with suppress(UpdateFinishedTrialError):  # it is ended already: it had arrived when it was told of again
            self._storage.set_trial_state_values(trial, state, values)


_NEEDED = ("place", "worker", "repeated")
"""What the search itself reads of a trial, beside its result."""


def _slim(line: Line) -> Line:
    """A line of the journal without what is only there for people to look at, and with candidates instead of what they
    are made from."""
    if "result" in line.get("user_attr", {}):
        return {**line, "user_attr": {"result": _read(line["user_attr"]["result"])}}
    if "user_attrs" in line:
        kept = {name: value for name, value in line["user_attrs"].items() if name in _NEEDED and value}
        kept["worker"] = intern(kept.get("worker", ""))
        if "repeated" in kept:
            kept["repeated"] = [_read(r) for r in kept["repeated"]]
        return {**line, "params": {}, "distributions": {}, "user_attrs": kept}
    return line


def _outcome(c: Candidate) -> str:
    """What became of a candidate, in words."""
    if c.alias_of is not None:
        return f"{c.status} as candidate {c.alias_of}"
    return f"{c.status}: {c.reason}" if c.reason else c.status


def _is_settled(trial: FrozenTrial) -> bool:
    return trial.state.is_finished() and "result" in trial.user_attrs


def _candidates(trial: FrozenTrial) -> list[Candidate]:
    kept = [*trial.user_attrs.get("repeated", ()), trial.user_attrs["result"]]
    return [c if isinstance(c, Candidate) else _read(c) for c in kept]


def _read(kept: Mapping[str, Any]) -> Candidate:
    if lacking := [name for name in REQUIRED if name not in kept]:
        raise of_another_version(f"a candidate has no {', '.join(lacking)}")
    return from_attributes(kept)
