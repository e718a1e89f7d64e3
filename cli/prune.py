"""`pzc prune`."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from pzc.cli import options
from pzc.cli.console import errors, output, print_json, progress, say, warn
from pzc.compiler.load import load
from pzc.compiler.metric import Metric

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from pzc.runtime.prune import Pruned

PASSES = {
    "forward": "a forward pass",
    "hessian": "a forward pass for Hessians",
    "backward": "a forward and backward pass",
}
"""What each pass over the calibration text is, by the tier of the leaves that it is for."""


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
@options.as_json
@options.quiet
@click.pass_context
def command(
    ctx: click.Context, /, metric: str, settings: dict[str, float], model: str, device: str, dtype: str | None,
    trust_remote_code: bool, cache: Path | None, sparsities: tuple[float, ...], folder: Path, overwrite: bool,
    mask_only: bool, as_json: bool, quiet: bool, **how: Any,
) -> None:  # fmt: skip
    """Prune a model with a metric, measure it, and save it as a Hugging Face folder.

    Several sparsities come from one pass over the calibration text, each in a folder of its own inside the output.

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
    from pzc.runtime.checkpoint import check_output, described_arms, record, save
    from pzc.runtime.evaluate import perplexity, window_losses
    from pzc.runtime.layers import find_layers
    from pzc.runtime.mask_files import check_mask_output, write_masks
    from pzc.runtime.masks import Target, parse_pattern
    from pzc.runtime.models import load_model
    from pzc.runtime.passes import device_of
    from pzc.runtime.prune import check_target, prune, prune_each, way_of
    from pzc.runtime.roles import idle_roles
    from pzc.runtime.statistics import passes_for

    pattern = parse_pattern(how["pattern"]) if how["pattern"] else None
    target = Target(how["per"], sparsities[0], pattern)
    how["sequential"], how["update"] = way_of(chosen, target, how["sequential"], how["update"])
    _check_together(sparsities, mask_only, how)
    check_target(chosen, target)
    allocation = named_allocation(how["allocation"])
    places = _places(folder, sparsities, mask_only)
    for place in places:
        (check_mask_output if mask_only else check_output)(place, overwrite=overwrite)
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
        passes = ", then ".join(PASSES[tier] for tier in passes_for(leaves))
        over = f"{passes} over {how['windows']} × {length} tokens" if passes else "no calibration"
        size = f"{len(layers.blocks)} blocks, {len(layers.layers)} linears, {layers.size / 1e6:.2f} M weights"
        say(f"plan  {size} · {over}")
    done: list[Pruned] = []
    after: list[float] = []
    masks: dict[str, Tensor] = {}
    with progress(quiet or as_json) as bar:
        start = time.perf_counter()
        before = perplexity(window_losses(loaded.model, texts.evaluation_windows, bar))
        seconds = {"evaluation": time.perf_counter() - start}
        given: dict[str, Any] = {
            "windows": texts.calibration_windows, "per": how["per"], "allocation": allocation, "seed": how["seed"],
            "include": how["include"], "exclude": how["exclude"], "progress": bar,
            "on_mask": masks.__setitem__ if mask_only else None, "cache": cache,
        }  # fmt: skip
        if len(sparsities) > 1:
            runs = prune_each(loaded.model, chosen, sparsities, **given)
        else:
            pruned = prune(
                loaded.model, chosen, sparsity=sparsities[0], pattern=pattern, sequential=how["sequential"],
                update=how["update"], **given,
            )  # fmt: skip
            runs = iter([pruned])
        for sparsity, place, pruned in zip(sparsities, places, runs, strict=True):
            done.append(pruned)
            after.append(perplexity(window_losses(loaded.model, texts.evaluation_windows, bar)))
            content = record(
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
                },
                pruned=pruned,
                calibration=texts.calibration,
                evaluation=texts.evaluation,
                perplexity={"before": before, "after": after[-1]},
                seconds=seconds,
            )
            if mask_only:
                write_masks(place, masks, content)
            else:
                save(loaded.model, loaded.tokenizer, content, place, overwrite=overwrite)
            if as_json:
                print_json({"output": str(place), **content})
    for sentence in _damped(done[0].damped):
        warn(sentence)
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
