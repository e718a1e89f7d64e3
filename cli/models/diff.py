"""`pzc diff`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from pzc.cli import completion, options
from pzc.cli.console import errors, output, print_json, progress
from pzc.compiler.load import load

if TYPE_CHECKING:
    from pzc.runtime.evaluation.difference import LayerDifference


@click.command("diff")
@click.argument("first", metavar="A", shell_complete=completion.metrics)
@click.argument("second", metavar="B", shell_complete=completion.metrics)
@options.loading
@options.target
@options.per
@options.data
@options.windows
@options.length
@options.seed
@click.option("--layers", is_flag=True, help="A line for every layer, not for every kind of layer.")
@options.as_json
@options.quiet
@click.pass_context
def command(
    ctx: click.Context, /, first: str, second: str, model: str, device: str, dtype: str | None,
    trust_remote_code: bool, layers: bool, as_json: bool, quiet: bool, **how: Any,
) -> None:  # fmt: skip
    """Say how much the masks of the metrics A and B differ on a model. Nothing is pruned.

    The share of mask bits that differ is that of the weights that one keeps and the other prunes. At 50 % two masks
    that have nothing to do with each other differ in half of their bits.

    \b
    pzc diff wanda ria --model pocket
    pzc diff wanda my.pzm:best -m smollm2 --pattern 2:4 --layers
    pzc diff magnitude 'abs(W) * X ^ 0.5 per row' -s 0.6 --json
    """
    options.check_pattern(ctx, how["pattern"])
    metrics = (load(first), load(second))
    from pzc.cli.texts import texts_of
    from pzc.runtime.evaluation.difference import difference
    from pzc.runtime.models.loading import load_model
    from pzc.runtime.scoring.masks import Target, parse_pattern, share_text

    pattern = parse_pattern(how["pattern"]) if how["pattern"] else None
    target = Target(how["per"], how["sparsity"], pattern)
    loaded = load_model(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    texts = texts_of(loaded, metrics[0].leaves | metrics[1].leaves, {**how, "eval_data": None, "eval_windows": 0})
    with progress(quiet or as_json) as bar:
        found = difference(
            loaded.model, metrics, target, texts.calibration_windows, seed=how["seed"], progress=bar
        )  # fmt: skip
    if as_json:
        compared = [{"name": m.name, "formula": m.formula, "per": m.per} for m in metrics]
        asked = {name: how[name] for name in ("pattern", "per", "data", "windows", "length", "seed")}
        print_json({"metrics": compared, "model": model, "sparsity": target.share, **asked, **_as_json(found)})
        return
    names = [m.name if m.name != "inline" else m.formula for m in metrics]
    to = how["pattern"] or share_text(how["sparsity"])
    output.print(_table(found, f"{names[0]} and {names[1]} · {model} · {to}", layers))
    if texts.calibration is not None:
        errors.print(
            f"statistics from {how['windows']} windows of {texts.calibration.title}",
            style="dim",
            soft_wrap=True,
        )


def _table(found: Sequence[LayerDifference], title: str, every: bool) -> Table:
    table = Table(title=Text(title, style="bold"), title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("layer" if every else "layers", header_style="dim", overflow="fold")
    for heading in ("weights", "differ") if every else ("number", "weights", "differ", "least", "most"):
        table.add_column(heading, header_style="dim", justify="right", no_wrap=True)
    groups: dict[str, list[LayerDifference]] = {}
    for one in found:
        groups.setdefault(one.name if every else one.name.rpartition(".")[2], []).append(one)
    for name, members in groups.items():
        table.add_row(name, *_numbers(members, every))
    if len(groups) > 1:
        table.add_row("all", *_numbers(found, every), style="bold")
    return table


def _numbers(members: Sequence[LayerDifference], every: bool) -> list[str]:
    weights = sum(one.weights for one in members)
    differ = f"{sum(one.differing for one in members) / weights:.2%}"
    if every:
        return [f"{weights:,}", differ]
    shares = [one.share for one in members]
    return [str(len(members)), f"{weights:,}", differ, f"{min(shares):.2%}", f"{max(shares):.2%}"]


def _as_json(found: Sequence[LayerDifference]) -> dict[str, Any]:
    weights, differing = (sum(getattr(one, name) for one in found) for name in ("weights", "differing"))
    return {
        "differ": differing / weights,
        "weights": weights,
        "differing": differing,
        "layers": [
            {"name": one.name, "weights": one.weights, "differing": one.differing, "pruned": list(one.pruned)}
            for one in found
        ],
    }
