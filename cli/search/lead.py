"""Leading a search: begin a run or go on with one, with helpers on this machine, up to its hall of fame."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pzc.cli import options
from pzc.cli.console import print_json, progress, say
from pzc.cli.search.from_options import changed, place_of, settings_of
from pzc.compiler.leaves import Tier, within
from pzc.compiler.load import zoo
from pzc.grammar.counting import count

if TYPE_CHECKING:
    from pzc.search.place import Place
    from pzc.search.prepare import Prepared
    from pzc.search.settings import Settings
    from pzc.search.state import State
    from pzc.search.store import Store


def lead(ctx: click.Context, given: dict[str, Any]) -> None:
    """Lead a run to its end, or until somebody stops it."""
    import torch

    from pzc.cli.search.watch import gentle, watching
    from pzc.cli.search.winners import report
    from pzc.search.helpers import helping
    from pzc.search.prepare import opened
    from pzc.search.run import Budget, finish, kept, search

    threads = torch.get_num_threads()  # a run sets its own number
    resumed: str | None = given["resume"]
    if resumed and given["folder"] and "://" not in resumed:
        raise click.UsageError("--run begins a search and --resume goes on with one; give one of them", ctx)
    silent = given["quiet"] or given["as_json"]
    place = place_of(ctx, resumed or given["storage"], given)
    leading = _Leading(ctx, given, place, begun=bool(resumed))
    new = None if resumed else settings_of(ctx, given)
    with opened(place, new) as (store, settings), leading.to_the_end():
        if resumed:
            settings = changed(ctx, settings, given)
        budget = Budget(settings.limit or math.inf)
        run = _prepared(store, settings, given, silent)
        leading.begun = True
        if not silent:
            _say_left_out(run.given.space.tier)
            say(_plan(run, given["workers"]))
            if resumed and not options.is_typed(ctx, "workers"):
                say_idle(run.settings, threads)
        before = store.slots()
        with kept(run, partial(_say_best, run, given["as_json"])), gentle(budget):
            with (
                helping(place, settings, given["workers"] - 1, say, given["device"], given["trust_remote_code"]),
                watching(run, budget, silent, given["as_json"]),
            ):
                search(run, budget)
            if budget.asked:
                raise KeyboardInterrupt
            _say_why(run, silent, stood=bool(resumed) and store.slots() == before)
            with progress(silent) as bar, store.workers.beating(lambda: budget.session):
                result = finish(run, bar, at_once=given["workers"])
        report(run, result, given["as_json"])


@dataclass
class _Leading:
    """A run that this command leads. It has `begun` when its model and texts are prepared."""

    ctx: click.Context
    given: dict[str, Any]
    place: Place
    begun: bool

    @contextmanager
    def to_the_end(self) -> Iterator[None]:
        """Say how to go on when somebody stops the run, or the disk is full."""
        from pzc.runtime.errors import PruningError

        try:
            yield
        except KeyboardInterrupt:
            self._stopped()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self.begun:
                raise
            following = f"what is settled is kept; with room, go on with: pzc search {self.place.resume}"
            raise PruningError(f"the disk is full: {error.filename or self.place.folder}", hint=following) from error

    def _stopped(self) -> None:
        from pzc.cli.search.watch import named

        place, workers = self.place, self.given["workers"]
        team = f" --workers {workers}" if workers > 1 else ""
        following = f"stopped; go on with: pzc search {place.resume}{team}"
        say(following if self.begun else "stopped before the search began")
        if self.given["as_json"] and self.begun:
            print_json({"event": "stopped", **named(place), "folder": str(place.folder)})
        self.ctx.exit(130)


def _prepared(store: Store, settings: Settings, given: dict[str, Any], silent: bool) -> Prepared:
    from pzc.search.prepare import prepare

    with progress(silent) as bar, store.workers.beating():  # who looks on sees somebody at work
        return prepare(
            store,
            settings,
            device=given["device"],
            trust_remote_code=given["trust_remote_code"],
            progress=bar,
        )


def _say_left_out(tier: Tier | None) -> None:
    """Which published metrics a search is not compared with."""
    if by_role := [m.name for m in zoo().values() if m.roles]:
        say(f"left out of the zoo: {', '.join(by_role)}; the search knows no metrics by role")
    if dear := [m for m in zoo().values() if not m.roles and not within(m.leaves, tier)]:
        say(f"left out of the zoo: {count(len(dear), 'metric')} with dearer statistics than {tier}")


def _plan(run: Prepared, workers: int) -> str:
    """What is about to happen, and for how long."""
    from pzc.cli.search.live import clock, ends

    s, layers, windows = run.settings, run.fitness.layers, run.fitness.windows
    size = f"{count(len(layers.layers), 'linear')}, {layers.size / 1e6:.2f} M weights"
    texts = f"statistics of {s.windows} × {windows.shape[1]} tokens, {len(windows)} windows a candidate"
    until = ", or ".join(filter(None, [f"{clock(s.limit)} of searching" if s.limit else "", ends(s)]))
    each = count(s.threads or 1, "thread")
    team = f"{workers} × {each}" if workers > 1 else each
    how = "" if s.algorithm == "default" else f"{s.algorithm} algorithm, "
    return (
        f"plan  {size} · {texts} in {s.fitness_dtype} · {how}{s.space} space, population {s.population}, {until}, "
        f"then the final, {team} → {run.store.place}"
    )


def say_idle(settings: Settings, here: int) -> None:
    """Say how many workers would use this machine's threads, where one of a run that is resumed leaves some idle."""
    if settings.threads and (workers := here // settings.threads) > 1:
        say(f"one worker of this run uses {settings.threads} of {here} threads; --workers {workers} would use all")


def _say_best(run: Prepared, as_json: bool, state: State, files: list[Path]) -> None:
    """Say which is the best of a run that is stopped, and which file of the new hall of fame holds it."""
    from pzc.search.hall import HALL

    best = state.standing().best
    if best and not as_json:
        where = f"→ {files[0]}" if files else f"({run.folder / HALL} is as the last final has measured it)"
        say(f"best so far {best[0][0].fitness:.3f}  {best[0][1].formula}  per {best[0][0].per}  {where}")


def _say_why(run: Prepared, silent: bool, *, stood: bool) -> None:
    """Say what the search ended with, and always where it `stood` there already."""
    from pzc.cli.search.live import ended

    why = ended(run.state, run.settings, run.store.workers.spent())
    if stood:
        more = "" if run.state.used_up else "; with more it goes on"
        say(f"this run has gone as far as it may: {why}{more}")
    elif not silent:
        say(f"ended with {why}")
