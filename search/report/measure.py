"""What needs the model: the winner beside published metrics, on text that the search has not seen."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pzc.compiler.load import load, zoo_metric
from pzc.compiler.metric import Metric
from pzc.runtime.errors import PruningError
from pzc.runtime.evaluation.compare import Compared, compare
from pzc.runtime.models.layers import Layer, find_layers
from pzc.runtime.models.loading import Loaded, load_model
from pzc.runtime.models.passes import Progress, silent
from pzc.runtime.planning.texts import Texts, default_length, texts_for
from pzc.runtime.pruning.masking import masks_for
from pzc.runtime.pruning.targets import check_pattern, check_target
from pzc.runtime.scoring.masks import Target, parse_pattern
from pzc.runtime.statistics.gather import gather
from pzc.search.content import model_sha256
from pzc.search.errors import StoreError
from pzc.search.hall import HALL
from pzc.search.readable import readable
from pzc.search.reading import Run

SPARSITIES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
PATTERNS = ("2:4", "4:8")
FAMILIAR = ("wanda", "magnitude")
"""Published metrics that are shown beside the best one, since everyone knows them."""


@dataclass(frozen=True)
class Difference:
    """The share of mask bits that differ between the winner and one published metric: in all, and by layer name."""

    metric: str
    share: float
    layers: Mapping[str, float]


@dataclass(frozen=True)
class Measured:
    """What was measured with the model. Metrics are named as in `metrics`, the winner first.

    `by_sparsity`, `by_windows` and `by_target` hold a result for each metric at each sparsity, number of calibration
    windows, and target as it is written; `blocks` gives the block of each layer.
    """

    metrics: tuple[str, ...]
    dense: Compared
    by_sparsity: Mapping[float, Mapping[str, Compared]]
    by_windows: Mapping[int, Mapping[str, Compared]]
    by_target: Mapping[str, Mapping[str, Compared]]
    differences: tuple[Difference, ...]
    blocks: Mapping[str, int]
    text: str
    """What it was evaluated on, in words."""


def winning_metric(run: Run) -> Metric:
    """The winner as the hall of fame has it, else as people would read it."""
    file = run.folder / HALL / "01.pzm"
    metric = load(str(file)) if file.is_file() else readable(run.winner)
    return replace(metric, name="the winner")


def metrics_of(run: Run) -> list[Metric]:
    """The winner, the best published metrics of the run by fitness and in its final, and familiar ones, each with the
    group it had in the run."""
    best = [*(c.operator for c in run.zoo[:1]), *([run.outcome.published] if run.outcome else [])]
    names = dict.fromkeys([*best, *(n for n in FAMILIAR if any(c.operator == n for c in run.zoo))])
    return [winning_metric(run), *(published_metric(run, name) for name in names)]


def published_metric(run: Run, name: str) -> Metric:
    """A metric of the zoo with the comparison group in which it was best in the run: in its final, else by fitness."""
    metric = zoo_metric(name)
    if run.outcome and run.outcome.published == name and run.outcome.published_per:
        return replace(metric, per=run.outcome.published_per)
    return replace(metric, per=next((c.per for c in run.zoo if c.operator == name), metric.per))


def measure(
    run: Run,
    *,
    device: str = "auto",
    trust_remote_code: bool = False,
    eval_windows: int | None = None,
    progress: Progress = silent,
) -> Measured:
    """Measure the winner on the model of its run.

    Raises StoreError for another model or text than the run's, PruningError for one that cannot be used.
    """
    s = run.settings
    loaded = load_model(str(s["model"]), device=device, dtype=s.get("dtype"), trust_remote_code=trust_remote_code)
    if "model_sha256" in s and s["model_sha256"] != model_sha256(loaded, s):
        raise StoreError(f"{loaded.name} is not the model of this run", "leave the model's part out with --no-model")
    metrics = metrics_of(run)
    zoo = [published_metric(run, c.operator) for c in run.published]
    leaves = frozenset().union(*(m.leaves for m in (*metrics, *zoo)))
    texts = _texts(run, loaded, leaves, eval_windows or int(s["held_out_windows"]))
    layers = find_layers(loaded.model, **run.chosen_layers).layers
    own = Target(None, float(s["sparsity"]), parse_pattern(s["pattern"]) if s.get("pattern") else None)
    written = {run.target: own} | {p: Target(pattern=parse_pattern(p)) for p in PATTERNS if _fits(p, layers)}
    sparse = {share: Target(None, share) for share in SPARSITIES}
    targets = list(dict.fromkeys([*written.values(), *sparse.values()]))

    results: dict[tuple[str, Target], Compared] = {}
    how = {**run.chosen_layers, "seed": int(s["seed"])}
    dense, *rest = _counted(loaded, metrics, texts, targets, how, progress)
    for one in rest:
        if one.metric and one.target:
            results[one.metric.name, one.target] = one
    names = tuple(m.name for m in metrics)
    shape = " × ".join(map(str, texts.evaluation_windows.shape))
    return Measured(
        names,
        dense,
        {share: {n: results[n, target] for n in names} for share, target in sparse.items()},
        _by_windows(loaded, metrics, texts, own, how, progress),
        {text: {n: results[n, target] for n in names} for text, target in written.items()},
        tuple(_differences(loaded, metrics[0], zoo, texts.calibration_windows, own, how, progress)),
        {layer.name: layer.block for layer in layers},
        f"{texts.measured_on}, {shape} tokens",
    )


def _texts(run: Run, loaded: Loaded, leaves: Collection[str], eval_windows: int) -> Texts:
    s = run.settings
    texts = texts_for(
        loaded, leaves, s["data"], s.get("eval_data"), windows=int(s["windows"]), eval_windows=eval_windows,
        length=s.get("length") or default_length(loaded.model), seed=int(s["seed"]),
    )  # fmt: skip
    known = [t for t in (texts.calibration, texts.evaluation) if t is not None]
    read = [t.sha256 for t in known if (t.name, t.part) != ("self", "evaluation")]  # that is as long as it is asked for
    if not set(read) <= set(s.get("text_sha256", read)):
        raise StoreError("the text is not that of this run", "leave the model's part out with --no-model")
    return texts


def _fits(pattern: str, layers: tuple[Layer, ...]) -> bool:
    try:
        check_pattern(Target(pattern=parse_pattern(pattern)), layers)
    except PruningError:
        return False
    return True


def _counted(
    loaded: Loaded,
    metrics: list[Metric],
    texts: Texts,
    targets: list[Target],
    how: dict[str, Any],
    progress: Progress,
) -> list[Compared]:
    found = []
    for one in compare(loaded.model, metrics, texts.calibration_windows, texts.evaluation_windows, targets, **how):
        found.append(one)
        progress("held-out text", len(found), len(metrics) * len(targets) + 1)
    return found


def _by_windows(
    loaded: Loaded, metrics: list[Metric], texts: Texts, target: Target, how: dict[str, Any], progress: Progress
) -> dict[int, dict[str, Compared]]:
    """Every metric with the statistics of 1, 2, 4, … of the run's calibration windows, spread evenly over them."""
    windows = texts.calibration_windows
    if windows is None:
        return {}
    counts = sorted({len(windows), *(2**i for i in range(len(windows).bit_length()) if 2**i <= len(windows))})
    found: dict[int, dict[str, Compared]] = {}
    for i, n in enumerate(counts):
        some = windows[[k * len(windows) // n for k in range(n)]]
        _, *rest = compare(loaded.model, metrics, some, texts.evaluation_windows, [target], **how)
        found[n] = {one.metric.name: one for one in rest if one.metric}
        progress("calibration", i + 1, len(counts))
    return found


def _differences(
    loaded: Loaded, winner: Metric, zoo: list[Metric], windows: Tensor | None, target: Target, how: dict[str, Any],
    progress: Progress,
) -> list[Difference]:  # fmt: skip
    """How far the winner's masks are from those of each published metric, nearest first."""
    layers = find_layers(loaded.model, how["include"], how["exclude"])
    leaves = frozenset().union(*(m.leaves for m in (winner, *zoo)))
    statistics = gather(loaded.model, layers, windows, leaves, seed=how["seed"])
    ours = masks_for(winner, target, statistics, layers.layers)
    found = []
    for i, metric in enumerate(zoo):
        progress("masks", i + 1, len(zoo))
        try:
            check_target(metric, target)
            theirs = masks_for(metric, target, statistics, layers.layers)
        except PruningError:
            continue
        differing = {n: int(torch.count_nonzero(ours[n] ^ theirs[n])) for n in ours}
        shares = {n: differing[n] / ours[n].numel() for n in ours}
        found.append(Difference(metric.name, sum(differing.values()) / layers.size, shares))
    return sorted(found, key=lambda d: d.share)


def best_other(measured: Measured, at: Mapping[str, Compared]) -> str | None:
    """The published metric with the lowest perplexity among these results, None where none could be measured."""
    others = [n for n in measured.metrics[1:] if math.isfinite(at[n].perplexity)]
    return min(others, key=lambda n: at[n].perplexity, default=None)
