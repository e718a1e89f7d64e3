"""One run of the search from start to end: settings, texts, model, store, evolution, hall of fame."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from pzc.compiler.leaves import LEAVES
from pzc.compiler.load import zoo
from pzc.grammar import printer
from pzc.runtime.data import Text, calibration_windows, evaluation_windows, sides, tokenise, windows_between
from pzc.runtime.errors import PruningError
from pzc.runtime.evaluate import perplexity
from pzc.runtime.masks import Target, parse_pattern
from pzc.runtime.models import Loaded, load_model
from pzc.runtime.passes import Progress, silent
from pzc.runtime.sampling import sampler
from pzc.runtime.texts import default_length
from pzc.search import hall
from pzc.search.candidate import ZOO
from pzc.search.evolve import evolve, measure_zoo
from pzc.search.fitness import Fitness
from pzc.search.space import load_space, space_for
from pzc.search.state import Plan, State, replay
from pzc.search.store import Store, StoreError

HALL = "hall_of_fame"


@dataclass(frozen=True)
class Settings:
    """What a run is started with, and resumed with.

    Only how far it goes, `generations` and the `limit` in seconds, may be another when it is resumed. The model and
    the texts may have other names then, but not another content.
    """

    model: str = "pocket"
    data: str = "pydoc"
    eval_data: str | None = None
    windows: int = 16
    fitness_windows: int = 32
    held_out_windows: int = 64
    length: int | None = None
    sparsity: float = 0.5
    pattern: str | None = None
    per: str | None = None
    space: str = "default"
    population: int = 32
    generations: int = 1000
    seed: int = 0
    seed_zoo: bool = False
    dtype: str | None = None
    limit: float | None = None


@dataclass
class Budget:
    """When to stop: after `seconds` of searching, earlier sessions of the run included, or when asked to.

    `asked` may be set by a signal handler. The clock stands until `start`: measuring the zoo does not count.
    """

    seconds: float = math.inf
    spent: float = 0.0
    asked: bool = False
    _since: float | None = None

    def start(self) -> None:
        """Begin to count now."""
        self._since = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds of searching so far."""
        return self.spent + (0.0 if self._since is None else time.monotonic() - self._since)

    def over(self) -> bool:
        """Whether the search should stop before the next candidate."""
        return self.asked or self.elapsed >= self.seconds


@dataclass(frozen=True)
class Result:
    """What a run has found: members of the hall of fame and the zoo, best first by fitness, and the files."""

    members: list[hall.Member]
    zoo: list[hall.Member]
    dense: float
    files: list[Path]
    state: State


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to search."""

    settings: Settings
    folder: Path
    store: Store
    state: State
    fitness: Fitness
    held_out: Tensor


def open_store(folder: Path, settings: Settings | None) -> tuple[Store, Settings]:
    """A new run with these settings, or, for None, the run that the folder holds with its own."""
    store = Store(folder, resume=settings is None)
    if settings is not None:
        return store, settings
    kept = store.settings
    if kept is None:  # it ended before it was ready to search
        store.close()
        raise StoreError(f"the search in {folder} never began", f"begin it with --run {folder} and its options")
    known = {f.name for f in fields(Settings)}
    return store, Settings(**{k: v for k, v in kept.items() if k in known})


def prepare(
    store: Store,
    settings: Settings,
    folder: Path,
    *,
    device: str = "auto",
    trust_remote_code: bool = False,
    progress: Progress = silent,
) -> Prepared:
    """Load the model and the texts and gather the statistics.

    Raises PruningError for a model or text that cannot be used, StoreError when the run was started with other
    content under the same names.
    """
    loaded = load_model(settings.model, device=device, dtype=settings.dtype, trust_remote_code=trust_remote_code)
    length = settings.length or default_length(loaded.model)
    needed = length * max(2 * settings.windows + 2 * settings.fitness_windows, settings.held_out_windows) + 64
    sample = sampler(loaded.model, loaded.tokenizer, tokens=needed, length=length, seed=settings.seed)
    search_text, held_out_text = sides(settings.data, settings.eval_data, sampler=sample)
    content = {**_content(loaded, search_text, held_out_text), "space_sha256": _space_sha256(settings.space)}
    _check_same(store.settings or content, content)
    tokens = tokenise(loaded.tokenizer, search_text.text)
    fitness = Fitness(
        loaded.model,
        calibration_windows(tokens, settings.windows, length),
        windows_between(tokens, settings.windows, settings.fitness_windows, length),
        leaves_for(settings),
        target_of(settings),
        seed=settings.seed,
        progress=progress,
    )
    held_out = evaluation_windows(tokenise(loaded.tokenizer, held_out_text.text), settings.held_out_windows, length)
    plan = Plan(settings.population, settings.generations, settings.seed, seed_zoo=settings.seed_zoo)
    store.set_settings({**asdict(settings), **content})  # from here on there is something to resume
    return Prepared(settings, folder, store, replay(plan, store.candidates), fitness, held_out)


def target_of(settings: Settings) -> Target:
    """What candidates are pruned to, whatever their group."""
    return Target(None, settings.sparsity, parse_pattern(settings.pattern) if settings.pattern else None)


def leaves_for(settings: Settings) -> frozenset[str]:
    """The statistics that the space or the zoo reads."""
    named = {n for n, _ in load_space(settings.space).leaves}
    return frozenset(named | {n for m in zoo().values() if not m.roles for n in m.leaves if n in LEAVES})


def _content(loaded: Loaded, *texts: Text) -> dict[str, Any]:
    return {"model_sha256": loaded.sha256, "text_sha256": [t.sha256 for t in texts]}


def _space_sha256(reference: str) -> str:
    """A hash of what a space says, whatever its layout."""
    spec = load_space(reference)
    bodies = [printer.expression(op.function.body) for op, _ in spec.ops if op.function]
    return hashlib.sha256(f"{replace(spec, doc='')} {bodies}".encode()).hexdigest()


def _check_same(kept: dict[str, Any], content: dict[str, Any]) -> None:
    """Raise StoreError unless the model and the texts have the content that the run began with."""
    for key, now in content.items():
        if kept.get(key, now) != now:
            what = key.removesuffix("_sha256")
            hashes = f"{_short(kept.get(key))} then, {_short(now)} now"
            raise StoreError(
                f"the {what} is not the one that this search began with: {hashes}", "start a new search for it"
            )


def _short(sha256: Any) -> str:
    return " and ".join(str(s)[:12] for s in (sha256 if isinstance(sha256, list) else [sha256]))


def search(run: Prepared, budget: Budget) -> None:
    """Measure the zoo, then evolve until the budget is spent."""
    budget.spent = sum(c.seconds for c in run.state.candidates if c.generation != ZOO)
    published = [replace(m, per=run.settings.per or m.per) for m in zoo().values()]
    measure_zoo(run.state, run.fitness, run.store, published, lambda: budget.asked)
    budget.start()
    if not run.state.zoo and not budget.asked:
        raise PruningError("no metric of the zoo can be measured on this model", hint="check the model with pzc eval")
    space = space_for(run.settings.space, "row" if run.settings.pattern else run.settings.per)
    evolve(run.state, run.fitness, run.store, space, budget.over)


def finish(run: Prepared, progress: Callable[[int, int], None] = lambda done, total: None) -> Result:
    """Measure the best candidates, the zoo and the dense model on held-out text, and write the hall of fame.

    The order is that of fitness: held-out text never chooses. The model is dense again afterwards.
    """
    best = run.state.best(hall.MEMBERS)
    chosen = [*best, *run.state.zoo]
    every = hall.measure(run.fitness, chosen, run.held_out, lambda done: progress(done, len(chosen)))
    dense = perplexity(run.fitness.on(None, run.held_out))
    files = hall.write(every[: len(best)], run.folder / HALL, _about(run))
    return Result(every[: len(best)], every[len(best) :], dense, files, run.state)


def keep(run: Prepared) -> list[Path]:
    """Write the hall of fame of a search that was stopped, without measuring anything."""
    members = hall.unmeasured(run.state.best(hall.MEMBERS))
    return hall.write(members, run.folder / HALL, _about(run)) if members else []


def _about(run: Prepared) -> str:
    s = run.settings
    return f"{s.model} at {s.pattern or f'{s.sparsity:.0%}'}, seed {s.seed}"
