"""`pzc prune`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from pzc.cli import options
from pzc.cli.console import errors, output, print_json, progress, say, warn
from pzc.cli.plan import line
from pzc.compiler.load import load
from pzc.compiler.metric import Metric

if TYPE_CHECKING:
    from torch import Tensor

    from pzc.runtime.models import Loaded
    from pzc.runtime.prune import Pruned
    from pzc.runtime.stream import Request
    from pzc.runtime.stream_model import Shell

Described = Callable[["Pruned", float, float, dict[str, float], float], dict[str, Any]]
"""The record of a result: what was done, the perplexity before and after, seconds of other stages, the sparsity."""

Written = tuple["Pruned", float, float, dict[str, Any]]
"""A result that is on the disk: what was done, the perplexity before and after, and the record."""


@click.command("prune")
@options.metric
@options.parameter
@options.loading
@options.sparsities
@options.pattern
@options.per
@click.option(
    "--allocation",
    default="uniform",
    show_default=True,
    metavar="A",
    help="Sparsities of blocks: uniform, owl, alpha, or a TOML or JSON file of blocks or layers.",
)
@options.chosen_layers
@click.option("--sequential/--one-shot", default=None, help="Activations after earlier blocks are pruned, or dense.")
@click.option(
    "--update",
    type=click.Choice(["none", "obs", "sparsegpt"]),
    help="What the kept weights do about the pruned: obs makes up for them. [default: none; sparsegpt for that metric]",
)
@options.calibration
@options.cache
@options.seed
@click.option("--output", "-o", "folder", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--overwrite", is_flag=True, help="Replace the folder if it exists.")
@click.option("--mask-only", is_flag=True, help="Write the masks to a safetensors file instead, for `pzc apply`.")
@click.option("--stream", "streams", is_flag=True, help="Hold one decoder block at a time, from shard to shard.")
@options.as_json
@options.quiet
@click.pass_context
def command(
    ctx: click.Context, /, metric: str, settings: dict[str, float], model: str, device: str, dtype: str | None,
    trust_remote_code: bool, cache: Path | None, sparsities: tuple[float, ...], folder: Path, overwrite: bool,
    mask_only: bool, streams: bool, as_json: bool, quiet: bool, **how: Any,
) -> None:  # fmt: skip
    """Prune a model with a metric, measure it, and save it as a Hugging Face folder.

    Several sparsities come from one pass over the calibration text, each in a folder of its own inside the output. With
    --stream a run that was cut off goes on at its last finished block when the same command is given again.

    \b
    pzc prune --metric wanda --model pocket --output out/wanda50
    pzc prune -f my.pzm:best -m smollm2 -d text.txt --pattern 2:4 --update obs -o out/best24
    pzc prune -f wanda --sparsity 0.3,0.5,0.7 --allocation owl -o out/wanda
    """
    options.check_pattern(ctx, how["pattern"])
    chosen = load(metric, settings)
    import torch

    from pzc.cli.texts import described, options_of, texts_of
    from pzc.runtime.allocation import leaves_for, named_allocation
    from pzc.runtime.checkpoint import check_output, described_arms, record
    from pzc.runtime.layers import find_layers
    from pzc.runtime.mask_files import check_mask_output
    from pzc.runtime.masks import Target, parse_pattern
    from pzc.runtime.models import load_model
    from pzc.runtime.passes import device_of
    from pzc.runtime.plan import plan
    from pzc.runtime.prune import way_of
    from pzc.runtime.roles import idle_roles
    from pzc.runtime.stream import Request
    from pzc.runtime.stream_model import open_shell
    from pzc.runtime.targets import check_target

    pattern = parse_pattern(how["pattern"]) if how["pattern"] else None
    target = Target(how["per"], sparsities[0], pattern)
    how["sequential"], how["update"] = way_of(chosen, target, how["sequential"], how["update"])
    _check_together(sparsities, mask_only, how)
    if streams:
        options.check_stream(ctx, trust_remote_code, sparsities, mask_only, how)
    check_target(chosen, target)
    allocation = named_allocation(how["allocation"])
    places = _places(folder, sparsities, mask_only)
    for place in places:
        (check_mask_output if mask_only else check_output)(place, overwrite=overwrite)
    shell = None
    if streams:
        shell = open_shell(model, device=device, dtype=dtype, include=how["include"], exclude=how["exclude"])
        loaded, layers = shell.loaded, shell.layers
    else:
        loaded = load_model(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
        layers = find_layers(loaded.model, how["include"], how["exclude"])
    check_target(chosen, target, layers.layers)
    for sentence in idle_roles(chosen, layers.layers):
        warn(sentence)
    leaves = leaves_for(allocation) | (chosen.leaves if how["update"] != "sparsegpt" else frozenset())
    if how["update"] != "none":
        leaves |= {"H.diag"}  # a Hessian, as the update needs
    texts = texts_of(loaded, leaves, how)
    length = texts.evaluation_windows.shape[1]
    if not (quiet or as_json):
        planned = plan(
            loaded, layers, chosen, target, sequential=how["sequential"], windows=how["windows"],
            eval_windows=how["eval_windows"], length=length, leaves=leaves,
        )  # fmt: skip
        say(f"plan  {line(planned, 'stream' if shell else 'memory', how, length)}")

    def described_run(
        pruned: Pruned, before: float, after: float, seconds: dict[str, float], sparsity: float
    ) -> dict[str, Any]:
        return record(
            metric={**_record(chosen), "arms": described_arms(chosen, target)},
            model=loaded,
            options={
                "model": model,
                "metric": metric,
                "set": settings,
                "device": str(device_of(loaded.model)),
                "threads": torch.get_num_threads(),
                "dtype": dtype,
                "trust_remote_code": trust_remote_code,
                "sparsity": sparsity,
                **how,
                "length": length,
                "stream": streams,
            },
            pruned=pruned,
            calibration=texts.calibration,
            evaluation=texts.evaluation,
            perplexity={"before": before, "after": after},
            seconds=seconds,
        )

    before, done, after = 0.0, list["Pruned"](), list[float]()
    if shell:
        request = Request(
            chosen, target, how["sequential"], how["seed"], texts.calibration_windows, texts.evaluation_windows
        )
        results = _streamed(shell, request, folder, overwrite, described_run, quiet or as_json)
    else:
        given: dict[str, Any] = {
            "windows": texts.calibration_windows, "per": how["per"], "allocation": allocation, "seed": how["seed"],
            "include": how["include"], "exclude": how["exclude"], "cache": cache,
        }  # fmt: skip
        if len(sparsities) == 1:
            given |= {"pattern": pattern, "sequential": how["sequential"], "update": how["update"]}
        results = _in_memory(
            loaded, chosen, sparsities, given, texts.evaluation_windows, places, mask_only, overwrite, described_run,
            quiet or as_json,
        )  # fmt: skip
    for place, (pruned, dense, measured, content) in zip(places, results, strict=True):
        before = dense
        done.append(pruned)
        after.append(measured)
        if as_json:
            print_json({"output": str(place), **content})
    for sentence in _damped(done[0].damped):
        warn(sentence)
    if how["allocation"] != "uniform" and len(set(done[0].allocated.values())) == 1:
        warn(f"--allocation {how['allocation']} came to the same share for every layer")
    if as_json:
        return
    output.print(_table(before, done, after, sparsities))
    errors.print(described(texts, how), style="dim", soft_wrap=True)
    again = {**how, "data": how["eval_data"] or how["data"]}
    for place in places:
        files = [place] if mask_only else [f for f in place.rglob("*") if f.is_file()]
        size = f"{sum(f.stat().st_size for f in files) / 1e6:.3g} MB"
        if mask_only:
            following = f"pzc apply {place} --model {model} --output FOLDER"
        else:
            following = f"pzc eval --model {place}{options_of(again, 'data', 'eval_windows', 'length')}"
        say(f"wrote {place} ({size})   next: {following}")


def _in_memory(
    loaded: Loaded, metric: Metric, sparsities: tuple[float, ...], given: dict[str, Any], evaluation: Tensor,
    places: list[Path], mask_only: bool, overwrite: bool, described_run: Described, silent: bool,
) -> Iterator[Written]:  # fmt: skip
    """Prune a model to every sparsity, and write each result to its place."""
    from pzc.runtime.checkpoint import save
    from pzc.runtime.evaluate import perplexity, window_losses
    from pzc.runtime.mask_files import write_masks
    from pzc.runtime.prune import prune, prune_each

    masks: dict[str, Tensor] = {}
    with progress(silent) as bar:
        start = time.perf_counter()
        before = perplexity(window_losses(loaded.model, evaluation, bar))
        seconds = {"evaluation": time.perf_counter() - start}
        given |= {"progress": bar, "on_mask": masks.__setitem__ if mask_only else None}
        if len(sparsities) > 1:
            runs = prune_each(loaded.model, metric, sparsities, **given)
        else:
            runs = iter([prune(loaded.model, metric, sparsity=sparsities[0], **given, restores=False)])
        for sparsity, place, pruned in zip(sparsities, places, runs, strict=True):
            after = perplexity(window_losses(loaded.model, evaluation, bar))
            content = described_run(pruned, before, after, seconds, sparsity)
            if mask_only:
                write_masks(place, masks, content)
            else:
                save(loaded.model, loaded.tokenizer, content, place, overwrite=overwrite)
            yield pruned, before, after, content


def _streamed(
    shell: Shell, request: Request, folder: Path, overwrite: bool, described_run: Described, silent: bool
) -> Iterator[Written]:
    """Prune a model from shard to shard."""
    from pzc.runtime.stream import stream, unfinished_beside

    for left in unfinished_beside(shell, request, folder):
        warn(f"another run's unfinished work is left in {left}: give its command again, or delete it")
    try:
        with progress(silent) as bar, stream(shell, request, folder, overwrite=overwrite, progress=bar) as done:
            content = described_run(done.pruned, done.before, done.after, {}, float(request.target.sparsity))
            done.save(content)
    except KeyboardInterrupt:
        say("stopped; the same command goes on from the last finished block")
        raise
    yield done.pruned, done.before, done.after, content


def _check_together(sparsities: tuple[float, ...], mask_only: bool, how: Mapping[str, Any]) -> None:
    """Raise UsageError for options that exclude each other."""
    changed = how["update"] != "none"
    if len(sparsities) > 1 and (how["sequential"] or changed):
        what = f"--update {how['update']}" if changed else "--sequential"
        raise click.UsageError(f"several sparsities share the statistics of the dense model, so not with {what}")
    if mask_only and changed:
        raise click.UsageError(
            f"--mask-only writes no weights, but --update {how['update']} changes them; give --update none, or no mask"
        )


def _places(folder: Path, sparsities: tuple[float, ...], mask_only: bool) -> list[Path]:
    """Where each sparsity goes: the output itself, or for several a folder in it, a file beside it."""
    if len(sparsities) == 1:
        return [folder]
    if mask_only:
        return [folder.with_name(f"{folder.stem}-{sparsity:g}{folder.suffix}") for sparsity in sparsities]
    return [folder / f"{sparsity:g}" for sparsity in sparsities]


def _damped(damped: Mapping[str, float]) -> list[str]:
    if not damped:
        return []
    layer, most = max(damped.items(), key=lambda item: item[1])
    return [
        f"{len(damped)} layers have Hessians that are positive definite only with more damping, up to {most:g} of the "
        f"mean diagonal for {layer}: more calibration text may help"
    ]


def _table(before: float, done: list[Pruned], after: list[float], sparsities: tuple[float, ...]) -> Table:
    names = [f"{sparsity:g}" for sparsity in sparsities] if len(sparsities) > 1 else ["pruned"]
    table = Table(box=None, padding=(0, 3, 0, 0))
    for heading in ("", "dense", *names):
        table.add_column(heading, justify="right" if heading else "left", header_style="dim")
    table.add_row("sparsity", f"{done[0].dense_sparsity:.2%}", *(f"{pruned.sparsity:.2%}" for pruned in done))
    table.add_row("perplexity", f"{before:.2f}", *(f"{perplexity:.2f}" for perplexity in after))
    return table


def _record(metric: Metric) -> dict[str, Any]:
    return {
        "name": metric.name,
        "source": metric.source,
        "formula": metric.formula,
        "per": metric.per,
        "params": dict(metric.params),
        "leaves": sorted(metric.leaves),
        "keys": asdict(metric.keys),
    }
