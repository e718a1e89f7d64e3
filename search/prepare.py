"""A run made ready to search: model, texts, statistics and store."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from pzc.runtime.data.sampling import sampler
from pzc.runtime.data.texts import sides
from pzc.runtime.data.windows import calibration_windows, evaluation_windows, tokenise, windows_between, windows_left
from pzc.runtime.errors import PruningError
from pzc.runtime.models.layers import Layers, find_layers
from pzc.runtime.models.loading import Loaded, load_model, resolve_dtype
from pzc.runtime.models.passes import Progress, check_length, device_of, silent
from pzc.runtime.planning.texts import default_length
from pzc.runtime.pruning.targets import check_pattern
from pzc.runtime.saving.checkpoint import versions
from pzc.runtime.statistics.gather import Statistics
from pzc.search.content import check_same, model_sha256, space_sha256, warn_of_other_versions, windows_sha256
from pzc.search.fitness import Fitness, dense_statistics
from pzc.search.objective import OBJECTIVES
from pzc.search.place import KEPT, Place
from pzc.search.proposals import Given
from pzc.search.replay import stored_state
from pzc.search.settings import Settings, given, leaves_for, plan_of, settings_of, target_of
from pzc.search.shared import private_folder, shared
from pzc.search.state import State
from pzc.search.store import Store


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


@contextmanager
def opened(place: Place, settings: Settings | None) -> Iterator[tuple[Store, Settings]]:
    """`open_store`, and take away again what was made for a new run that ends before it has begun."""
    anew = settings is not None and not (place.url or place.folder.exists())
    store, settings = open_store(place, settings)
    try:
        yield store, settings
    except BaseException:
        if anew and store.settings is None:  # else another has begun here meanwhile
            store.discard()
        raise


def prepare(
    store: Store,
    settings: Settings,
    *,
    loaded: Loaded | None = None,
    device: str = "auto",
    trust_remote_code: bool = False,
    keeps_settings: bool = False,
    progress: Progress = silent,
) -> Prepared:
    """Load the model, if it is not `loaded`, and the texts, and gather the statistics, with as many of torch's threads
    from then on as the settings have. Who only helps with a run keeps its settings as they are.

    Raises PruningError for a model or text that cannot be used, StoreError when the run was started with other
    content under the same names.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    if loaded is None:
        loaded = load_model(settings.model, device=device, dtype=settings.dtype, trust_remote_code=trust_remote_code)
    length = settings.length or default_length(loaded.model)
    check_length(loaded.model, length)
    windows = _windows(loaded, settings, length)
    content = {
        "model_sha256": model_sha256(loaded, store.settings or {}),
        "text_sha256": windows.texts,
        "choice_of_windows_sha256": windows_sha256(windows.calibration, windows.fitness, *windows.further),
        "space_sha256": space_sha256(settings.space),
    }
    check_same(store.settings or content, content)
    layers, target = find_layers(loaded.model, settings.include, settings.exclude), target_of(settings)
    check_pattern(target, layers.layers)
    stored = str(loaded.dtype).removeprefix("torch.")
    raced = settings.fitness_dtype or _fast_dtype(loaded)
    settings = replace(settings, length=length, dtype=stored, fitness_dtype=raced)
    about = f"{content} {settings.windows} {length} {settings.seed} {loaded.dtype}"
    statistics, kept = _statistics(loaded.model, layers, windows.calibration, settings, store.place, about, progress)
    fitness = Fitness(
        loaded.model,
        layers,
        statistics,
        windows.fitness,
        target,
        dtype=resolve_dtype(raced),
        objective=OBJECTIVES[settings.objective],
    )
    before = store.settings
    warn_of_other_versions(before or {})
    if not keeps_settings:
        kept_before = {"versions": versions()} if before is None else before
        store.set_settings({**kept_before, **asdict(settings), **content})  # from here on there is something to resume
    state = stored_state(store, plan_of(settings))
    return Prepared(
        settings, store.place.folder, store, state, given(settings), fitness, windows.further, windows.held_out, kept
    )


def _statistics(
    model: nn.Module, layers: Layers, windows: Tensor, settings: Settings, place: Place, about: str, progress: Progress
) -> tuple[Statistics, Path]:
    """The statistics that the search reads, over windows `[n, length]`, and the file in which the run's processes on
    this machine share them; `about` says what they depend on beside the leaves and the layers."""
    leaves, names = leaves_for(settings), [layer.name for layer in layers.layers]
    about = hashlib.sha256(f"{about} {sorted(leaves)} {names}".encode()).hexdigest()
    kept = private_folder() / f"{about[:16]}.safetensors" if place.url else place.folder / KEPT

    def gathered() -> Statistics:
        return dense_statistics(model, layers, windows, leaves, seed=settings.seed, progress=progress)

    return shared(kept, about, gathered).beside(layers.layers), kept


@dataclass(frozen=True)
class _Windows:
    """The windows of a run, int64 `[n, length]`, and the hashes of the texts of the search and of the final."""

    calibration: Tensor
    fitness: Tensor
    further: tuple[Tensor, Tensor]
    held_out: Tensor
    texts: list[str]


def _windows(loaded: Loaded, settings: Settings, length: int) -> _Windows:
    n, count, held_out = settings.windows, settings.fitness_windows, settings.held_out_windows
    needed = {"calibration": length * n + 1, "evaluation": length * held_out + 1}
    sample = sampler(loaded.model, loaded.tokenizer, **needed, length=length, seed=settings.seed)
    text, other = sides(settings.data, settings.eval_data, sampler=sample)
    tokens = tokenise(loaded.tokenizer, text.text)
    calibration = calibration_windows(tokens, n, length)
    if settings.data == "self":  # statistics are those of `pzc prune`; what measures is written behind that
        needed["calibration"] += length * (2 * n + 3 * count) + 64
        more = sampler(loaded.model, loaded.tokenizer, **needed, length=length, seed=settings.seed)("calibration")
        if not more.startswith(text.text):
            raise PruningError("the model does not write the same text twice here", hint="name a text with --data")
        tokens = tokenise(loaded.tokenizer, more.removeprefix(text.text))
    return _Windows(
        calibration,
        windows_between(tokens, n, count, length),
        windows_left(tokens, n, count, length),
        evaluation_windows(tokenise(loaded.tokenizer, other.text), held_out, length),
        [text.sha256, other.sha256],
    )


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
