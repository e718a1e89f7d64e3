"""`pzc simplify`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import click

from pzc.cli import completion, options
from pzc.cli.console import formula, output, print_json
from pzc.cli.metrics.derivation import as_json as steps_as_json
from pzc.cli.metrics.derivation import visible, written
from pzc.cli.metrics.groups import arms_per
from pzc.compiler.arm import Arm
from pzc.compiler.load import load
from pzc.compiler.metric import Metric
from pzc.compiler.rewriting.derive import Step, derive
from pzc.compiler.rewriting.simplify import form_of, redundant, simplest
from pzc.compiler.source import expression


@click.command("simplify")
@click.argument("metric", shell_complete=completion.metrics)
@click.option(
    "--keep",
    type=click.Choice(["rank", "real"]),
    default="rank",
    show_default=True,
    help="What must stay: the order inside every group, or the value.",
)
@click.option("--steps", is_flag=True, help="Add the derivation as comments.")
@options.per
@options.parameter
@options.as_json
def command(
    metric: str, keep: Literal["rank", "real"], steps: bool, per: str | None, settings: dict[str, float], as_json: bool
) -> None:
    """Print the shortest metric that prunes as METRIC does, as a .pzm file, and what of it was redundant.

    \b
    pzc simplify pruner_zero
    pzc simplify ria --keep real --steps
    pzc simplify 'sqrt(sqr(W) * sqr(X)) per row' --json
    """
    given = load(metric, settings)
    arms = arms_per(given, per)
    shorter = [Arm(simplest(arm.core, arm.per, keep), arm.per, arm.layers) for arm in arms]
    result = replace(given, core=shorter[-1].core, per=shorter[-1].per, params=(), roles=tuple(shorter[:-1]))
    if as_json:
        print_json(_as_json(result, arms, shorter, keep))
        return
    output.print(formula(result.source), end="", soft_wrap=True)
    for line in _comments(arms, keep, steps):
        output.print(formula(f"# {line}".rstrip()), soft_wrap=True)


def _derived(arm: Arm, keep: Literal["rank", "real"]) -> list[Step]:
    return [step for step in derive(arm.core, arm.per) if keep == "rank" or step.rule.kind != "rank"]


def _comments(arms: list[Arm], keep: Literal["rank", "real"], steps: bool) -> Iterator[str]:
    """What was redundant, and the steps, each under the layers that it is about."""
    yield ""
    yield "in place of" if len(arms) == 1 else "in place of, for the layers"
    for arm in arms:
        whose = f"{', '.join(arm.layers) or 'else'}: " if len(arms) > 1 else ""
        yield f"    {whose}{expression(arm.core)}  per {arm.per}"
    for arm in arms:
        gone = redundant(arm.core, arm.per, keep)
        if gone:
            yield "redundant, since " + (
                f"it changes no order per {arm.per}:" if keep == "rank" else "it changes no value:"
            )
        yield from (f"    {part.what}" for part in gone)
        if steps:
            yield "canonical form:"
            yield f"      {expression(arm.core)}"
            for step, now in visible(arm.core, _derived(arm, keep)):
                sign = "~" if step.rule.kind == "rank" else "="
                yield f"    {sign} {now}    [{step.rule.kind}] {step.rule.name}: {step.rule.reason}"


def _as_json(
    result: Metric, arms: list[Arm], shorter: list[Arm], keep: Literal["rank", "real"]
) -> dict[str, object]:  # fmt: skip
    return {
        "source": result.source,
        "keep": keep,
        "arms": [
            {
                "layers": list(arm.layers),
                "per": arm.per,
                "given": expression(arm.core),
                "shortest": expression(short.core),
                "canonical": written(form_of(arm.core, arm.per, keep)),
                "redundant": [part.what for part in redundant(arm.core, arm.per, keep)],
                "steps": steps_as_json(_derived(arm, keep)),
            }
            for arm, short in zip(arms, shorter, strict=True)
        ],
    }
