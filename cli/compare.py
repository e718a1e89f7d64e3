"""`pzc compare`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from pzc.cli import options
from pzc.cli.console import errors, fail, formula, output, print_json, progress, say, shortened, warn
from pzc.compiler.load import load, zoo
from pzc.compiler.source import expression

if TYPE_CHECKING:
    from pathlib import Path

    from pzc.compiler.metric import Metric
    from pzc.runtime.compare import Compared


@click.command("compare")
@click.option(
    "--metric",
    "-f",
    "references",
    multiple=True,
    metavar="F",
    help="A metric; may be repeated. [default: the whole zoo]",
)
@options.loading
@options.target
@options.per
@options.chosen_layers
@options.calibration
@options.cache
@options.seed
@options.as_json
@options.quiet
@click.pass_context
def command(
    ctx: click.Context, /, references: tuple[str, ...], model: str, device: str, dtype: str | None,
    trust_remote_code: bool, cache: Path | None, as_json: bool, quiet: bool, **how: Any,
) -> None:  # fmt: skip
    """Prune one model with several metrics, one-shot, and print what each costs. The model is not saved.

    \b
    pzc compare --model pocket
    pzc compare -f wanda -f my.pzm:best -m smollm2 --data text.txt
    pzc compare -f wanda -f ria --pattern 2:4 --json
    """
    options.check_pattern(ctx, how["pattern"])
    metrics = [load(r) for r in references] or list(zoo().values())
    from pzc.cli.texts import described, texts_of
    from pzc.runtime.compare import compare
    from pzc.runtime.layers import find_layers
    from pzc.runtime.masks import Target, parse_pattern
    from pzc.runtime.models import load_model
    from pzc.runtime.roles import idle_roles

    pattern = parse_pattern(how["pattern"]) if how["pattern"] else None
    target = Target(how["per"], how["sparsity"], pattern)
    loaded = load_model(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    layers = find_layers(loaded.model, how["include"], how["exclude"]).layers
    for sentence in (s for m in metrics if references for s in idle_roles(m, layers)):
        warn(sentence)
    texts = texts_of(loaded, frozenset().union(*(m.leaves for m in metrics)), how)
    rows: list[Compared] = []
    with progress(quiet or as_json) as bar:
        for row in compare(
            loaded.model, metrics, texts.calibration_windows, texts.evaluation_windows, target,
            include=how["include"], exclude=how["exclude"], seed=how["seed"], progress=bar, cache=cache,
        ):  # fmt: skip
            rows.append(row)
            bar("metrics", len(rows), 1 + len(metrics))
    if as_json:
        print_json([_row(r) for r in rows])
        ctx.exit(1 if any(r.failure for r in rows) else 0)
    to = how["pattern"] or f"{how['sparsity']:.0%}"
    output.print(_table(rows, f"{model} · {to} · one-shot"))
    errors.print(described(texts, how), style="dim", soft_wrap=True)
    measured = [(r.perplexity, r.metric.name) for r in rows if r.metric and not r.failure]
    for r in rows:
        if r.metric and r.failure:
            fail(f"{r.metric.name}: {r.failure}")
    if measured:
        perplexity, name = min(measured)
        say(f"best: {name}, {perplexity / rows[0].perplexity:.2f} times the dense model's perplexity")
    ctx.exit(1 if any(r.failure for r in rows) else 0)


def _table(rows: list[Compared], title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for heading, justify in (
        ("metric", "left"),
        ("formula", "left"),
        ("per", "left"),
        ("sparsity", "right"),
        ("perplexity", "right"),
        ("s", "right"),
    ):
        table.add_column(heading, justify=justify, header_style="dim", overflow="fold", no_wrap=heading != "formula")  # type: ignore[arg-type]
    best = min((r.perplexity for r in rows[1:] if not r.failure), default=0.0)
    for r in [rows[0], *sorted(rows[1:], key=lambda r: math.inf if r.failure else r.perplexity)]:
        style = "good" if r.metric and r.perplexity == best else ""
        table.add_row(
            Text(r.metric.name if r.metric else "dense", style="bold"),
            _formula(r.metric) if r.metric else "",
            r.per or "",
            "" if r.failure else f"{r.sparsity:.2%}",
            Text("refused", style="error") if r.failure else Text(f"{r.perplexity:.2f}", style=style),
            f"{r.seconds:.1f}",
        )
    return table


def _formula(metric: Metric) -> Text:
    """The score; of a metric by role one a line, with the layers that it is for."""
    if not metric.roles:
        return formula(shortened(metric.formula))
    lines = (f"{', '.join(arm.layers) or 'else'}: {expression(arm.core)}" for arm in metric.arms)
    return Text("\n").join(formula(shortened(line)) for line in lines)


def _row(r: Compared) -> dict[str, Any]:
    return {
        "metric": r.metric.name if r.metric else None,
        "formula": r.metric.formula if r.metric else None,
        "per": r.per,
        "sparsity": r.sparsity,
        "perplexity": r.perplexity,
        "failure": r.failure,
        "seconds": round(r.seconds, 3),
    }
