"""`pzc compare`."""

from __future__ import annotations

from typing import Any

import click
from rich.table import Table
from rich.text import Text

from pzc.cli import options
from pzc.cli.console import errors, formula, output, print_json, progress, say
from pzc.compiler.load import load, zoo


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
@options.calibration
@options.seed
@options.as_json
@options.quiet
def command(
    references: tuple[str, ...], model: str, device: str, dtype: str | None, trust_remote_code: bool,
    as_json: bool, quiet: bool, **how: Any,
) -> None:  # fmt: skip
    """Prune one model with several metrics, one-shot, and print what each costs. The model is not saved.

    \b
    pzc compare --model pocket
    pzc compare -f wanda -f my.pzm:best -m smollm2 --data text.txt
    pzc compare -f wanda -f ria --pattern 2:4 --json
    """
    metrics = [load(r) for r in references] or list(zoo().values())
    from pzc.runtime.compare import compare
    from pzc.runtime.masks import Target, parse_pattern
    from pzc.runtime.models import load_model
    from pzc.runtime.texts import default_length, texts_for

    pattern = parse_pattern(how["pattern"]) if how["pattern"] else None
    target = Target("row", how["sparsity"], pattern)
    loaded = load_model(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    length = how["length"] or default_length(loaded.model)
    texts = texts_for(
        loaded, how["data"], how["eval_data"], windows=how["windows"], eval_windows=how["eval_windows"],
        length=length, seed=how["seed"],
    )  # fmt: skip
    rows = []
    with progress(quiet or as_json) as bar:
        for row in compare(
            loaded.model, metrics, texts.calibration_windows, texts.evaluation_windows, target,
            per=how["per"], seed=how["seed"], progress=bar,
        ):  # fmt: skip
            rows.append(row)
            bar("metrics", len(rows), 1 + len(metrics))
    if as_json:
        print_json([_row(r) for r in rows])
        return
    to = how["pattern"] or f"{how['sparsity']:.0%}"
    read = texts.evaluation
    output.print(_table(rows, f"{model} · {to} · one-shot"))
    errors.print(
        f"perplexity on {read.name} ({read.part}), {how['eval_windows']} × {length} tokens; statistics from "
        f"{how['windows']} windows of {texts.calibration.name} ({texts.calibration.part})",
        style="dim", soft_wrap=True,
    )  # fmt: skip
    perplexity, name = min((r.perplexity, r.metric.name) for r in rows if r.metric)
    say(f"best: {name}, {perplexity / rows[0].perplexity:.2f} times the dense model's perplexity")


def _table(rows: list[Any], title: str) -> Table:
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
    best = min((r.perplexity for r in rows[1:]), default=0.0)
    for r in [rows[0], *sorted(rows[1:], key=lambda r: r.perplexity)]:
        style = "good" if r.metric and r.perplexity == best else ""
        table.add_row(
            Text(r.metric.name if r.metric else "dense", style="bold"),
            formula(r.metric.formula) if r.metric else "",
            r.per or "",
            f"{r.sparsity:.2%}",
            Text(f"{r.perplexity:.2f}", style=style),
            f"{r.seconds:.1f}",
        )
    return table


def _row(r: Any) -> dict[str, Any]:
    return {
        "metric": r.metric.name if r.metric else None,
        "formula": r.metric.formula if r.metric else None,
        "per": r.per,
        "sparsity": r.sparsity,
        "perplexity": r.perplexity,
        "seconds": round(r.seconds, 3),
    }
