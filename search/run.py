"""One run of the search from start to end: evolve until the budget is spent, then the final and the hall of fame."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pzc.compiler.metric import Metric
from pzc.runtime.errors import PruningError
from pzc.runtime.evaluation.uncertainty import Estimate, change, perplexity
from pzc.runtime.models.passes import Progress, silent
from pzc.runtime.planning.commands import options_of
from pzc.runtime.scoring.masks import share_text
from pzc.search import exports, hall
from pzc.search.final import ROUNDS, Contender, Final, Outcome, contend, measure, published
from pzc.search.hall import HALL
from pzc.search.objective import MEASURES
from pzc.search.prepare import Prepared
from pzc.search.replay import catch_up, stored_state
from pzc.search.settings import plan_of
from pzc.search.state import State
from pzc.search.worker import work

ZOO_MEMBERS = 5
"""How many metrics of the zoo, the best by fitness, are measured on held-out text beside the hall of fame."""


@dataclass
class Budget:
    """When to stop: after `seconds` of searching, earlier sessions of the run included, or when asked to.

    `asked` may be set by a signal handler. The clock stands until `start` and from `stop` on: neither measuring the zoo
    nor the final counts.
    """

    seconds: float = math.inf
    spent: float = 0.0
    asked: bool = False
    _since: float | None = None
    _until: float | None = None

    def start(self) -> None:
        """Begin to count now, unless that has been done."""
        self._since = time.monotonic() if self._since is None else self._since

    def stop(self) -> None:
        """Count no further."""
        self._until = time.monotonic() if self._until is None else self._until

    @property
    def stopped(self) -> bool:
        """Whether the search is through, and what follows it has begun."""
        return self._until is not None

    @property
    def session(self) -> float:
        """Seconds of searching in this session."""
        now = time.monotonic() if self._until is None else self._until
        return 0.0 if self._since is None else now - self._since

    @property
    def elapsed(self) -> float:
        """Seconds of searching so far."""
        return self.spent + self.session

    def over(self) -> bool:
        """Whether the search should stop before the next candidate."""
        return self.asked or self.elapsed >= self.seconds


@dataclass(frozen=True)
class Result:
    """What a run has found: members of the hall of fame, best first, the best of the zoo by fitness, and the files."""

    members: list[hall.Member]
    zoo: list[hall.Member]
    dense: float
    files: list[Path]
    state: State

    @property
    def best(self) -> Metric:
        """The first metric of the hall of fame. Raises PruningError where nothing was measured in full."""
        if not self.members:
            raise PruningError("nothing was measured in full", hint="give the search more time")
        return self.members[0].metric

    @property
    def ended(self) -> str:
        """What was reached, in words, that the search ends with; empty where its time, or who asked, ended it."""
        return self.state.ended()

    @property
    def best_zoo(self) -> hall.Member:
        """The best of the zoo on held-out text."""
        return min(self.zoo, key=lambda m: m.held_out)

    @property
    def change(self) -> Estimate:
        """How much higher the winner's held-out perplexity is than that of the best of the zoo, as a share of it, with
        the standard error of the paired differences. There must be a winner."""
        return change(self.members[0].losses, self.best_zoo.losses)


def search(run: Prepared, budget: Budget, *, leads: bool = True, over: Callable[[], bool] | None = None) -> None:
    """Measure the zoo, then evolve until the budget is spent, or until `over()`. One worker of a run leads: its clock
    counts."""
    budget.spent = run.store.workers.spent()
    with run.store.workers.beating(lambda: budget.session if leads else 0.0):
        try:
            work(run.state, run.store, run.given, run.fitness, over or budget.over, lambda: _begin(run, budget, leads))
        finally:
            budget.stop()


def _begin(run: Prepared, budget: Budget, leads: bool) -> None:
    if not run.state.zoo:
        raise PruningError("no metric of the zoo can be measured on this model", hint="check the model with pzc eval")
    if not leads:  # who does may have changed the bounds
        budget.seconds = (run.store.settings or {}).get("limit") or math.inf
    budget.start()


def finish(run: Prepared, progress: Progress = silent, *, at_once: int = 1) -> Result:
    """Measure the best candidates on further windows of the search's text, then the best of these, the best of the zoo
    and the dense model on held-out text, by `at_once` threads, and write the hall of fame.

    The order is that of the loss over the search's windows and the further ones: held-out text chooses none of
    them. What others have settled since the search ended counts; what workers that are gone were at is ended. The model
    is dense again afterwards.
    """
    catch_up(run.state, run.store)
    run.store.end_abandoned()
    contenders = contend(run.fitness, run.state.best(ROUNDS[0]), run.further, progress, at_once)
    best, zoo = contenders[: hall.MEMBERS], [published(c) for c in run.state.zoo[:ZOO_MEMBERS]]
    final = Final(run.fitness, run.held_out, at_once)
    every = measure(final, [*best, *zoo], progress)
    dense = perplexity(final.losses(None))
    members = every[: len(best)]
    result = Result(members, every[len(best) :], dense, _write_hall(run, members), run.state)
    if members:
        run.store.set_winner(members[0].candidate.number)
        run.store.set_outcome(asdict(_outcome(run, best[0], result)))
    exports.write(run.state.every(), len(run.fitness.windows), run.folder)
    run.kept.unlink(missing_ok=True)
    return result


def _outcome(run: Prepared, contender: Contender, result: Result) -> Outcome:
    losses, winner, other = contender.losses, result.members[0], result.best_zoo
    return Outcome(
        contender.candidate.number, perplexity(losses), len(losses), winner.held_out, other.metric.name,
        other.held_out, result.dense, other.metric.per, contender.own, winner.metric.formula, winner.metric.per,
        result.change.error, run.store.slots(),
    )  # fmt: skip


@contextmanager
def kept(run: Prepared, tell: Callable[[State, list[Path]], object] = lambda state, files: None) -> Iterator[None]:
    """Write the best so far of a run that is interrupted in its search or its final, and `tell` of it. That may be in
    the middle of anything, but what is stored is whole."""
    try:
        yield
    except KeyboardInterrupt:
        state = stored_state(run.store, plan_of(run.settings))
        tell(state, _keep(run, state))
        raise


def _keep(run: Prepared, state: State) -> list[Path]:
    """Write the hall of fame of a search that was stopped, without measuring anything. One that an earlier final has
    measured stays as it is: then no file is written, unless it lies in another folder, and its winner stays one."""
    members = hall.unmeasured(state.best(hall.MEMBERS))
    exports.write(state.every(), len(run.fitness.windows), run.folder)
    outcome = run.store.outcome
    measured = outcome is not None and outcome["candidate"] == run.store.winner
    if not members or (measured and (run.folder / HALL).is_dir()):
        return []
    if not measured:
        run.store.set_winner(members[0].candidate.number)
    return _write_hall(run, members)


def _write_hall(run: Prepared, members: Sequence[hall.Member]) -> list[Path]:
    s = run.settings
    layers = options_of(asdict(s), "include", "exclude")
    about = f"{s.model}{layers} at {s.pattern or share_text(s.sparsity)}, seed {s.seed}"
    return hall.write(members, run.folder / HALL, about, MEASURES[s.objective])
