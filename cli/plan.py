"""`pzc plan`, and the lines about a plan that `pzc prune` starts with."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pzc.cli import options
from pzc.cli.console import output, print_json
from pzc.compiler.load import load

if TYPE_CHECKING:
    from pzc.runtime.plan import Plan

PASSES = {
    "forward": "a forward pass",
    "hessian": "a forward pass for Hessians",
    "backward": "a forward and backward pass",
}
"""What each pass over the calibration text is, by the tier of the leaves that it is for."""


@click.command("plan")
@options.metric
@options.parameter
@options.loading
@options.target
@options.per
@options.chosen_layers
@click.option("--sequential/--one-shot", default=False, help="Activations after earlier blocks are pruned, or dense.")
@options.calibration
@options.seed
@click.option(
    "--output", "-o", "folder", type=click.Path(path_type=Path), help="As for `pzc prune`; nothing is written."
)
@click.option("--overwrite", is_flag=True, help="As for `pzc prune`.")
@click.option("--stream", "streams", is_flag=True, help="As for `pzc prune`; both ways are planned.")
@options.as_json
@options.quiet
@click.pass_context
def command(
    ctx: click.Context, /, metric: str, settings: dict[str, float], model: str, device: str, dtype: str | None,
    trust_remote_code: bool, folder: Path | None, overwrite: bool, streams: bool, as_json: bool, quiet: bool,
    **how: Any,
) -> None:  # fmt: skip
    """Say what `pzc prune` with the same options would do and take, but for updates and allocations. No weights are
    loaded and no text is read.

    Memory is counted from the model's shapes, time guessed from a moment's work on this machine.

    \b
    pzc plan --metric wanda --model pocket
    pzc plan -f wanda -m smollm2 --pattern 2:4 --sequential
    pzc plan -f pruner_zero -m meta-llama/Llama-3.1-70B -n 128 -l 2048 --json
    """
    options.check_pattern(ctx, how["pattern"])
    if trust_remote_code:
        raise click.UsageError("a plan runs no code that comes with a model", ctx)
    chosen = load(metric, settings)
    from pzc.runtime.masks import Target, parse_pattern
    from pzc.runtime.plan import plan
    from pzc.runtime.stream_model import open_shell
    from pzc.runtime.targets import check_sequential, check_target
    from pzc.runtime.texts import default_length

    target = Target(how["per"], how["sparsity"], parse_pattern(how["pattern"]) if how["pattern"] else None)
    shell = open_shell(model, device=device, dtype=dtype, include=how["include"], exclude=how["exclude"])
    check_target(chosen, target, shell.layers.layers)
    if how["sequential"]:
        check_sequential(chosen, target)
    length = how["length"] or default_length(shell.model)
    found = plan(
        shell.loaded, shell.layers, chosen, target, sequential=how["sequential"], windows=how["windows"],
        eval_windows=how["eval_windows"], length=length,
    )  # fmt: skip
    if as_json:
        print_json(asdict(found))
        return
    for name, text in described(found):
        output.print(f"{name:<12}{text}", soft_wrap=True)


def described(plan: Plan) -> list[tuple[str, str]]:
    """A plan as rows of a name and a text."""
    rows = [
        ("model", f"{size_of(plan)}, of {plan.parameters / 1e6:.2f} M parameters"),
        *(("pass", f"{PASSES[p.tier]} for {', '.join(p.leaves)}") for p in plan.passes),
    ]
    if not plan.passes:
        rows.append(("passes", "none: the metric reads nothing but weights"))
    if plan.sequential:
        rows.append(
            ("blocks", "one after another, twice each: what a block reads has gone through those pruned before")
        )
    counts = plan.tokens
    rows.append(("tokens", f"{counts['calibration']:,} to calibrate on, {counts['evaluation']:,} to evaluate on"))
    for way, name in (("memory", "in memory"), ("stream", "--stream")):
        rows.append((name, taken(plan, way) + f", {gigabytes(plan.disk[way])} written"))
    return rows


def size_of(plan: Plan) -> str:
    """The model's size in a few words."""
    return f"{plan.blocks} blocks, {plan.linears} linears, {plan.weights / 1e6:.2f} M weights"


def line(plan: Plan, way: str, how: dict[str, Any], length: int) -> str:
    """A plan for one way of running in a line."""
    passes = ", then ".join(PASSES[p.tier] for p in plan.passes)
    over = f"{passes} over {how['windows']} × {length} tokens" if passes else "no calibration"
    return f"{size_of(plan)} · {over} · {taken(plan, way)}"


def taken(plan: Plan, way: str) -> str:
    """The memory and time of one way of running."""
    return f"about {gigabytes(plan.memory[way])} of memory, about {duration(plan.seconds[way])}"


def gigabytes(size: float) -> str:
    """A number of bytes, rounded to what an estimate is good for."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"


def duration(seconds: float) -> str:
    """A time, rounded to what an estimate is good for."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
