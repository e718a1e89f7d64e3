"""A run as whoever looks on sees it: from its store alone, once or until nobody works on it any more."""

from __future__ import annotations

import time
from typing import Any

from pzc.cli.console import change_text
from pzc.cli.search.live import View, ended
from pzc.cli.search.watch import named, stands
from pzc.search.final import Outcome
from pzc.search.reading import outcome_of
from pzc.search.replay import catch_up
from pzc.search.settings import Settings, plan_of, settings_of
from pzc.search.state import Standing, State
from pzc.search.store import Store

EVERY = 2.0
"""Seconds between two looks."""

STILL = 2
"""Looks in a row that find nobody at work before a run counts as one that stands still."""


class Seen:
    """A run that others work on, or nobody. Raises StoreError for one that has not begun; with `waits` it waits for
    that as long as somebody gathers its statistics."""

    def __init__(self, store: Store, *, waits: bool) -> None:
        self.store = store
        self._looks = self._still = 0
        while waits and store.settings is None and not self.over():
            pass
        self._state = State(plan_of(self.settings))

    @property
    def settings(self) -> Settings:
        """What it is told now: --resume may have changed its bounds."""
        return settings_of(self.store)

    @property
    def spent(self) -> float:
        """Seconds of searching so far."""
        return self.store.workers.spent()

    def over(self) -> bool:
        """Wait until the next look, but for the first; whether nobody is at work any more."""
        if self._looks:
            time.sleep(EVERY)
        self._looks, self._still = self._looks + 1, 0 if self.store.workers.at_work() else self._still + 1
        return self._still >= STILL

    def standing(self) -> Standing:
        """How it stands."""
        self._state.plan = plan_of(self.settings)
        catch_up(self._state, self.store)
        return self._state.standing()

    def through(self) -> tuple[str, Outcome | None]:
        """Why it has ended, with what its final has measured; nothing while it may go on or the final lacks, as of a
        run that went further since the last."""
        why, outcome = ended(self._state, self.settings, self.spent), outcome_of(self.store)
        measured = outcome is not None and outcome.slots in (None, self.store.slots())
        return (why, outcome) if why and (measured or not self._state.found) else ("", None)

    def note(self) -> str:
        """Who is at work on it or, at its end, who has won."""
        workers = len(self.store.workers.at_work())
        why, outcome = self.through()
        if workers or not why:
            return f"{workers} at work" if workers else f"nobody is at work on it; {self._following}"
        return "\n".join([f"ended with {why}", *([_said(outcome)] if outcome else [])])

    @property
    def _following(self) -> str:
        place = self.store.place
        return "--resume goes on with it" if place.url else f"go on with: pzc search {place.resume}"

    def view(self, *, fits: bool) -> View:
        """How it looks now."""
        now = self.standing()
        return View(now, self.settings, str(self.store.place), self.spent, self.note(), fits)

    def as_json(self) -> dict[str, Any]:
        """How it stands, for machines."""
        now, (why, _), outcome = self.standing(), self.through(), outcome_of(self.store)
        best = [
            {"formula": m.formula, "per": c.per, "fitness": c.fitness, "windows": len(c.losses), "candidate": c.number}
            for c, m in now.best
        ]
        return {
            **named(self.store.place), "workers": len(self.store.workers.at_work()), "ended": why or None,
            **stands(now, self.spent), "best": best, "outcome": _as_json(outcome) if outcome else None,
        }  # fmt: skip

    def last(self) -> dict[str, Any]:
        """The event that it ends with, or stands still with."""
        why, outcome = self.through()
        if not why:
            return {"event": "stopped", **named(self.store.place)}
        measured = _as_json(outcome) if outcome else {"dense": None, "winner": None, "change": None}
        counts = self.standing().counts
        return {"event": "done", **named(self.store.place), "ended": why, "counts": counts, **measured}


def _said(outcome: Outcome) -> str:
    """What the final has measured, in words."""
    change = change_text(outcome.change, outcome.error)
    winner = f"{outcome.formula}  per {outcome.per}" if outcome.formula else f"candidate {outcome.candidate}"
    return f"the winner: {winner}: {change} in held-out perplexity against {outcome.published}"


def _as_json(outcome: Outcome) -> dict[str, Any]:
    """What the final has measured, for machines."""
    return {
        "dense": outcome.dense,
        "winner": {
            "candidate": outcome.candidate,
            "formula": outcome.formula,
            "per": outcome.per,
            "held_out": outcome.held_out,
        },
        "change": {"against": outcome.published, "share": outcome.change, "standard_error": outcome.error},
    }
