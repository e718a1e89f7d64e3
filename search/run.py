"""One run of the search from start to end: settings, texts, model, store, workers, hall of fame."""

from __future__ import annotations

import hashlib
import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pzc.compiler.core import leaf, leaves_of
from pzc.compiler.leaves import ALIASES, LEAVES
from pzc.compiler.load import inline, zoo
from pzc.compiler.metric import Metric
from pzc.grammar import printer
from pzc.runtime.data.sampling import sampler
from pzc.runtime.data.texts import sides
from pzc.runtime.data.windows import calibration_windows, evaluation_windows, tokenise, windows_between, windows_left
from pzc.runtime.errors import PruningError
from pzc.runtime.evaluation.evaluate import perplexity
from pzc.runtime.models.loading import Loaded, load_model, resolve_dtype
from pzc.runtime.models.passes import Progress, check_length, device_of, silent
from pzc.runtime.planning.texts import default_length
from pzc.runtime.saving.checkpoint import versions
from pzc.runtime.scoring.masks import Target, parse_pattern, share_text
from pzc.search import exports, hall
from pzc.search.algorithms import ALGORITHMS
from pzc.search.errors import StoreError, of_another_version
from pzc.search.fitness import Fitness
from pzc.search.objective import MEASURES, OBJECTIVES
from pzc.search.plan import Plan
from pzc.search.proposals import Given
from pzc.search.shared import private_folder
from pzc.search.space import Genotype, Space, apply, load_space, space_for
from pzc.search.state import State
from pzc.search.store import KEPT, Place, Store
from pzc.search.worker import work

HALL = "hall_of_fame"

ZOO_MEMBERS = 5
"""How many metrics of the zoo, the best by fitness, are measured on held-out text beside the hall of fame."""


@dataclass(frozen=True)
class Settings:
    """What a run is started with, and resumed with.

    None for a length or a type is the model's own, which a run has instead as soon as its model is loaded.

    Only how far it goes (`generations`, `evaluations`, `patience`, `reach`, and the `limit` in seconds) may be another
    when it is resumed. The model and the texts may have other names then, but not another content, and the windows must
    be the same. `seeds` are metrics of the user as `name: formula per group`. `fitness_dtype` is the type in which
    candidates are raced, `threads` the CPU threads of a worker: results depend on both in their last bits.
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
    algorithm: str = "default"
    space: str = "default"
    template: str | None = None
    objective: str = "perplexity"
    population: int = 32
    islands: int = 2
    generations: int | None = None
    evaluations: int | None = None
    patience: int | None = None
    reach: float | None = None
    seed: int = 0
    seed_zoo: bool = False
    seeds: tuple[str, ...] = ()
    dtype: str | None = None
    fitness_dtype: str | None = None
    threads: int | None = None
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
        """Begin to count now, unless that has been done."""
        self._since = time.monotonic() if self._since is None else self._since

    @property
    def session(self) -> float:
        """Seconds of searching in this session."""
        return 0.0 if self._since is None else time.monotonic() - self._since

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


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to search."""

    settings: Settings
    folder: Path
    store: Store
    state: State
    given: Given
    fitness: Fitness
    further: tuple[Tensor, ...]
    """Windows of the search's text, int64 `[n, length]` for each round of the last contest, used for nothing else."""
    held_out: Tensor
    kept: Path
    """The file in which processes of this machine share what was gathered."""


def open_store(place: Place, settings: Settings | None) -> tuple[Store, Settings]:
    """A new run with these settings, or, for None, the run that is there with its own."""
    store = Store(place, resume=settings is None)
    return (store, settings) if settings is not None else (store, settings_of(store))


def settings_of(store: Store) -> Settings:
    """What a stored run was started with. Raises StoreError for one that ended before it was ready to search, and
    for one of another version that has what this one lacks."""
    kept = store.settings
    if kept is None:
        place = store.place
        raise StoreError(
            f"the search in {place} has not begun",
            f"it may still be gathering statistics; if nobody is at it, begin it with {place.begin}",
        )
    known = {f.name: kept[f.name] for f in fields(Settings) if f.name in kept}
    settings = Settings(**{**known, "seeds": tuple(known.get("seeds", ()))})
    if settings.algorithm not in ALGORITHMS or settings.objective not in OBJECTIVES:
        raise of_another_version(f"its algorithm is {settings.algorithm}, its objective {settings.objective}")
    return settings


def plan_of(settings: Settings) -> Plan:
    """How the population of a run evolves."""
    return Plan(
        algorithm=settings.algorithm,
        population=settings.population,
        islands=settings.islands if settings.algorithm == "default" else 1,
        generations=settings.generations,
        seed=settings.seed,
        seed_zoo=settings.seed_zoo,
        evaluations=settings.evaluations,
        patience=settings.patience,
        target=settings.reach,
    )


def stored_state(store: Store, plan: Plan) -> State:
    """The state of a run from its store alone: whole generations closed, of the next what is there."""
    state = State(plan)
    catch_up(state, store)
    return state


def catch_up(state: State, store: Store) -> None:
    """Take in what has been settled since the state was last brought up to date."""
    while True:
        slots, size = store.generation(state.generation)
        if not size or len(slots) < size:
            break
        state.close((c for slot in sorted(slots) for c in slots[slot]), replayed=True)
    state.refresh()
    for slot, candidates in slots.items():
        state.show(slot, candidates[-1])


def prepare(
    store: Store,
    settings: Settings,
    *,
    device: str = "auto",
    trust_remote_code: bool = False,
    keeps_settings: bool = False,
    progress: Progress = silent,
) -> Prepared:
    """Load the model and the texts and gather the statistics. Who only helps with a run keeps its settings as they are.

    Raises PruningError for a model or text that cannot be used, StoreError when the run was started with other
    content under the same names.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    loaded = load_model(settings.model, device=device, dtype=settings.dtype, trust_remote_code=trust_remote_code)
    length = settings.length or default_length(loaded.model)
    check_length(loaded.model, length)
    needed = length * max(2 * settings.windows + 3 * settings.fitness_windows, settings.held_out_windows) + 64
    sample = sampler(loaded.model, loaded.tokenizer, tokens=needed, length=length, seed=settings.seed)
    search_text, held_out_text = sides(settings.data, settings.eval_data, sampler=sample)
    tokens = tokenise(loaded.tokenizer, search_text.text)
    calibration = calibration_windows(tokens, settings.windows, length)
    fitness_windows = windows_between(tokens, settings.windows, settings.fitness_windows, length)
    further = windows_left(tokens, settings.windows, settings.fitness_windows, length)
    held_out = evaluation_windows(tokenise(loaded.tokenizer, held_out_text.text), settings.held_out_windows, length)
    content = {
        "model_sha256": loaded.sha256,
        "text_sha256": [search_text.sha256, held_out_text.sha256],
        "choice_of_windows_sha256": _windows_sha256(calibration, fitness_windows, *further),
        "space_sha256": _space_sha256(settings.space),
    }
    _check_same(store.settings or content, content)
    leaves = leaves_for(settings)
    stored, raced = str(loaded.dtype).removeprefix("torch."), settings.fitness_dtype or _fast_dtype(loaded)
    settings = replace(settings, length=length, dtype=stored, fitness_dtype=raced)
    about = f"{content} {settings.windows} {length} {settings.seed} {loaded.dtype} {sorted(leaves)}"
    about = hashlib.sha256(about.encode()).hexdigest()
    kept = _kept(store.place, about)
    fitness = Fitness(
        loaded.model,
        calibration,
        fitness_windows,
        leaves,
        target_of(settings),
        seed=settings.seed,
        dtype=resolve_dtype(raced),
        objective=OBJECTIVES[settings.objective],
        kept=kept,
        about=about,
        progress=progress,
    )
    plan = plan_of(settings)
    before = store.settings
    _warn_of_other_versions(before or {})
    if not keeps_settings:
        kept_before = {"versions": versions()} if before is None else before
        store.set_settings({**kept_before, **asdict(settings), **content})  # from here on there is something to resume
    state = stored_state(store, plan)
    return Prepared(settings, store.place.folder, store, state, given(settings), fitness, further, held_out, kept)


def target_of(settings: Settings) -> Target:
    """What candidates are pruned to, whatever their group."""
    return Target(None, settings.sparsity, parse_pattern(settings.pattern) if settings.pattern else None)


def given(settings: Settings) -> Given:
    """What the search starts from. Candidates have one score for all layers, so metrics by role are left out."""
    space = space_for(settings.space, "row" if settings.pattern else settings.per, settings.template)
    published = [m for m in zoo().values() if not m.roles]
    seeds = [_seed(text) for text in settings.seeds]
    return Given(_grouped(published, space), _grouped(seeds, space), space)


def _grouped(metrics: Iterable[Metric], space: Space) -> tuple[Metric, ...]:
    """Metrics in their own comparison groups, where the space has them; otherwise in each group of the space."""
    return tuple(
        replace(m, per=group) for m in metrics for group in ((m.per,) if m.per in space.groups else space.groups)
    )


def _seed(text: str) -> Metric:
    name, _, formula = text.partition(": ")
    return inline(formula, name, analyse=False)


def leaves_for(settings: Settings) -> frozenset[str]:
    """The statistics that the space, its functions, the template, the user's metrics or the zoo read."""
    start = given(settings)
    spec = load_space(settings.space)
    named = {ALIASES.get(name, name) for name, _ in spec.leaves}
    weight = leaf("W")
    written = [apply(op, *[weight] * op.arity) for op, _ in spec.ops if op.function]
    written.append(start.space.expressed(Genotype(weight, "row")).core)
    read = {name for core in written for name in leaves_of(core)}
    read |= {name for m in (*start.published, *start.seeds) for name in m.leaves}
    return frozenset(name for name in named | read if name in LEAVES)


def _kept(place: Place, about: str) -> Path:
    """Where processes of one machine share what was gathered."""
    return private_folder() / f"{about[:16]}.safetensors" if place.url else place.folder / KEPT


FAST_FROM = 20_000_000
"""Parameters of a model from which candidates are raced in bfloat16, if that is faster."""


def _fast_dtype(loaded: Loaded) -> str:
    """The type in which candidates are raced: bfloat16 where the device gains from it."""
    stored = str(loaded.dtype).removeprefix("torch.")
    large = sum(p.numel() for p in loaded.model.parameters()) >= FAST_FROM
    return "bfloat16" if large and loaded.dtype == torch.float32 and _gains(device_of(loaded.model)) else stored


def _gains(device: torch.device) -> bool:
    """Whether products of matrices take less than three quarters of the time in bfloat16."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.ones(512, 1024, dtype=dtype, device=device)
        w = torch.ones(1024, 1024, dtype=dtype, device=device)
        times = []
        for _ in range(5):
            start = time.perf_counter()
            float((x @ w).sum())
            times.append(time.perf_counter() - start)
        seconds[dtype] = sorted(times)[2]
    return seconds[torch.bfloat16] < 0.75 * seconds[torch.float32]


def _windows_sha256(*windows: Tensor) -> str:
    """A hash of the tokens `[n, length]` that statistics, fitness and the last contest are taken from."""
    return hashlib.sha256(b"".join(w.numpy().astype("<i8").tobytes() for w in windows)).hexdigest()


def _space_sha256(reference: str) -> str:
    """A hash of what a space says, whatever its layout."""
    spec = load_space(reference)
    bodies = [printer.expression(op.function.body) for op, _ in spec.ops if op.function]
    return hashlib.sha256(f"{replace(spec, doc='')} {bodies}".encode()).hexdigest()


def _check_same(kept: Mapping[str, Any], content: Mapping[str, Any]) -> None:
    """Raise StoreError unless the model, the texts, the windows and the space have the content that the run began
    with."""
    for key, now in content.items():
        if kept.get(key) != now:
            what = key.removesuffix("_sha256").replace("_", " ")
            hashes = f"{_short(kept[key]) if key in kept else 'not noted'} then, {_short(now)} now"
            raise StoreError(
                f"the {what} is not the one that this search began with: {hashes}", "start a new search for it"
            )


class OtherVersions(UserWarning):
    """A run goes on with other versions of packages than it began with."""


def _warn_of_other_versions(kept: Mapping[str, Any]) -> None:
    """Warn of packages whose versions are not those that the run began with."""
    now, then = versions(), kept.get("versions", {})
    changed = [f"{name} {then[name]} then, {now[name]} now" for name in now if name in then and then[name] != now[name]]
    if changed:
        text = f"the search goes on with other versions than it began with ({'; '.join(changed)}): results may differ"
        warnings.warn(OtherVersions(text), stacklevel=3)


def _short(sha256: Any) -> str:
    return " and ".join(str(s)[:12] for s in (sha256 if isinstance(sha256, list) else [sha256]))


def search(run: Prepared, budget: Budget, *, leads: bool = True, over: Callable[[], bool] | None = None) -> None:
    """Measure the zoo, then evolve until the budget is spent, or until `over()`. One worker of a run leads: its clock
    counts."""
    budget.spent = run.store.spent()
    with run.store.beating(lambda: budget.session if leads else 0.0):
        work(run.state, run.store, run.given, run.fitness, over or budget.over, lambda: _begin(run, budget))


def _begin(run: Prepared, budget: Budget) -> None:
    if not run.state.zoo:
        raise PruningError("no metric of the zoo can be measured on this model", hint="check the model with pzc eval")
    budget.start()


def finish(run: Prepared, progress: Progress = silent, *, at_once: int = 1) -> Result:
    """Measure the best candidates on further windows of the search's text, then the best of these, the best of the zoo
    and the dense model on held-out text, by `at_once` threads, and write the hall of fame.

    The order is that of the loss over the search's windows and the further ones: held-out text never chooses. The model
    is dense again afterwards.
    """
    contenders = hall.contend(run.fitness, run.state.best(hall.ROUNDS[0]), run.further, progress, at_once)
    best, zoo = contenders[: hall.MEMBERS], [hall.Contender(c) for c in run.state.zoo[:ZOO_MEMBERS]]
    final = hall.Final(run.fitness, run.held_out, at_once)
    every = hall.measure(final, [*best, *zoo], progress)
    dense = perplexity(final.losses(None))
    files = _write_hall(run, every[: len(best)])
    exports.write(run.state.every(), len(run.fitness.windows), run.folder)
    run.kept.unlink(missing_ok=True)
    return Result(every[: len(best)], every[len(best) :], dense, files, run.state)


def keep(run: Prepared) -> list[Path]:
    """Write the hall of fame of a search that was stopped, without measuring anything."""
    members = hall.unmeasured(run.state.best(hall.MEMBERS))
    exports.write(run.state.every(), len(run.fitness.windows), run.folder)
    return _write_hall(run, members) if members else []


def _write_hall(run: Prepared, members: Sequence[hall.Member]) -> list[Path]:
    s = run.settings
    about = f"{s.model} at {s.pattern or share_text(s.sparsity)}, seed {s.seed}"
    files = hall.write(members, run.folder / HALL, about, MEASURES[s.objective])
    if members:
        run.store.set_winner(members[0].candidate.number)
    return files


def default_threads(workers: int) -> int:
    """CPU threads of each of some workers on this machine: torch's number, which OMP_NUM_THREADS sets, shared out."""
    return max(1, torch.get_num_threads() // workers)


def default_space(algorithm: str) -> str:
    """Where an algorithm searches when nothing else is said."""
    return ALGORITHMS[algorithm].space


def default_population(algorithm: str) -> int:
    """How many candidates breed when nothing else is said."""
    return ALGORITHMS[algorithm].population
