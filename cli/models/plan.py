"""`pzc plan`, and the lines about a plan that `pzc prune` starts with."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pzc.cli import options
from pzc.cli.asked import Asked, opened
from pzc.cli.cautions import caution
from pzc.cli.console import output, print_json

if TYPE_CHECKING:
    from pzc.runtime.planning.plan import Pass, Plan

PASSES = {
    "forward": "a forward pass",
    "hessian": "a forward pass for Hessians",
    "backward": "a forward and backward pass",
}
"""What each pass over the calibration text is, by the tier of the leaves that it is for."""

ALLOCATIONS = {
    "owl": "OWL: each block's share of outliers, from activations of the dense model",
    "alpha": "AlphaPruning: the singular values of every layer",
    "file": "as the file says",
}
"""What sparsities of blocks or layers come from."""


@click.command("plan")
@options.pruning
@click.option("--output", "-o", "folder", type=click.Path(path_type=Path), help="The folder to write: is there space?")
@options.overwrite
@options.mask_only
@click.option("--stream", "streams", is_flag=True, help="As for `pzc prune`; both ways are planned.")
@options.as_json
@options.quiet
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Say what `pzc prune` with the same options would do and take. No weights are loaded and no text is read;
    a model of the hub is fetched first, as for `pzc prune --stream`.

    Memory is counted from the model's shapes, time guessed from a moment's work on this machine. What `pzc prune` would
    refuse for its options, its output or the model's layers is refused here.

    \b
    pzc plan --metric wanda --model pocket
    pzc plan -f wanda -m smollm2 --pattern 2:4 --update obs
    pzc plan -f pruner_zero -m meta-llama/Llama-3.1-70B -n 128 -l 2048 --json
    """
    asked = Asked(**given)
    asked.check(ctx)
    if asked.trust_remote_code:
        raise click.UsageError("a plan runs no code that comes with a model", ctx)
    request = asked.request()
    from pzc.cli.models.results import check_places
    from pzc.runtime.data.texts import check_named
    from pzc.runtime.models.loading import SPREAD, check_planned
    from pzc.runtime.models.passes import check_length
    from pzc.runtime.planning.plan import plan
    from pzc.runtime.planning.texts import default_length
    from pzc.runtime.streaming.model import check_inside

    caution([request.metric])
    check_named(asked.data, asked.eval_data)
    if asked.folder is not None:
        check_places(asked)
    check_planned(asked.model)
    if asked.device == SPREAD and not asked.streams:
        asked = replace(asked, device="auto")  # the memory of all devices together
    model = opened(asked, placeholders=True)
    if asked.streams:
        check_inside(model.layers)
    request.check(model.layers.layers)
    length = asked.length or default_length(model.loaded.model)
    check_length(model.loaded.model, length)
    found = plan(
        model.loaded, model.layers, request, windows=asked.windows, eval_windows=asked.eval_windows, length=length,
        mask_only=asked.mask_only,
    )  # fmt: skip
    if asked.as_json:
        print_json(asdict(found))
        return
    for name, text in described(found):
        output.print(f"{name:<12}{text}", soft_wrap=True)


def described(plan: Plan) -> list[tuple[str, str]]:
    """A plan as rows of a name and a text."""
    rows = [
        ("model", f"{size_of(plan)}, of {plan.parameters / 1e6:.2f} M parameters"),
        *(("pass", f"{said(each)} for {', '.join(each.leaves)}") for each in plan.passes),
    ]
    if not plan.passes:
        rows.append(("passes", "none: the metric reads nothing but weights"))
    if plan.sequential:
        rows.append(
            ("blocks", "one after another, twice each: what a block reads has gone through those pruned before")
        )
    if plan.allocation != "uniform":
        rows.append(("allocation", ALLOCATIONS[plan.allocation]))
    if plan.update != "none":
        rows.append(("update", "of the weights that are kept, one Hessian for linears that read the same input"))
    counts = plan.tokens
    rows.append(("tokens", f"{counts['calibration']:,} to calibrate on, {counts['evaluation']:,} to evaluate on"))
    results = f"{plan.results} results, " if plan.results > 1 else ""
    rows.append(("output", f"{results}{gigabytes(plan.output)}"))
    for way, name in (("memory", "in memory"), ("stream", "--stream")):
        rows.append((name, taken(plan, way) + f", {gigabytes(plan.disk[way])} written"))
    return rows


def said(each: Pass) -> str:
    """What a pass is, in words."""
    return PASSES[each.tier] + (", block by block" if each.by_block else "")


def size_of(plan: Plan) -> str:
    """The model's size in a few words."""
    return f"{plan.blocks} blocks, {plan.linears} linears, {plan.weights / 1e6:.2f} M weights"


def line(plan: Plan, way: str, windows: int, length: int) -> str:
    """A plan for one way of running in a line."""
    passes = ", then ".join(map(said, plan.passes))
    over = f"{passes} over {windows} × {length} tokens" if passes else "no calibration"
    return f"{size_of(plan)} · {over} · {taken(plan, way)}"


def taken(plan: Plan, way: str) -> str:
    """The memory and time of one way of running."""
    return f"about {gigabytes(plan.memory[way])} of memory, about {duration(plan.seconds[way])}"


def gigabytes(size: float) -> str:
    """A number of bytes, rounded to what an estimate is good for."""
    if size >= 1e8:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def duration(seconds: float) -> str:
    """A time, rounded to what an estimate is good for."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
