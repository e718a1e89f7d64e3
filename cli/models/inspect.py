"""`pzc inspect`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Table

from pzc.cli import options
from pzc.cli.console import errors, fail, output, print_json
from pzc.compiler.pattern import pattern_text

if TYPE_CHECKING:
    from pzc.runtime.evaluation.inspection import Inspected

SHOWN = 5
"""Layers that are named when something is wrong with them."""

KEYS: dict[str, Callable[[Any], str]] = {
    "role": lambda layer: layer.role,
    "block": lambda layer: f"block {layer.block}",
    "layer": lambda layer: layer.name,
}


@click.command("inspect")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--by", type=click.Choice(list(KEYS)), default="role", show_default=True, help="What a line of the table is."
)
@click.option(
    "--verify", metavar="N:M", callback=options.read_pattern, help="Exit with 1 unless every layer has this pattern."
)
@options.as_json
@click.pass_context
def command(ctx: click.Context, folder: Path, by: str, verify: str | None, as_json: bool) -> None:
    """Say what is really zero in a saved model, and which N:M patterns hold.

    Weights are read from the folder's safetensors files, one parameter at a time. Where the folder has a pruning.json,
    its layers are looked at and their sparsities checked against it. Exits with 1 where they disagree, where a weight
    is not finite, and where a pattern to be verified is broken.

    \b
    pzc inspect out/wanda50
    pzc inspect out/wanda24 --verify 2:4
    pzc inspect out/wanda50 --by layer --json
    """
    from pzc.runtime.evaluation.inspection import disagreements, inspect, read_record
    from pzc.runtime.scoring.masks import parse_pattern

    record = read_record(folder) if folder.is_dir() else None
    layers = list(inspect(folder, parse_pattern(verify) if verify else None))
    if not layers:
        fail(f"{folder} holds no layers of numbered blocks")
        ctx.exit(1)
    wrong = disagreements(record, layers) if record else []
    odd = [layer for layer in layers if layer.odd]
    broken = [layer for layer in layers if layer.broken]
    if as_json:
        print_json(_as_json(layers, record, wrong, verify))
    else:
        output.print(_table(layers, by))
        if record:
            output.print()
            output.print(_summary(record))
        if verify and not broken:
            output.print(f"{verify} holds in all {len(layers)} layers")
    _complain(wrong, f"{len(wrong)} layers are not as pruning.json says")
    _complain([f"{x.name}: {x.odd} weights are not finite" for x in odd], f"{len(odd)} layers hold NaN or infinity")
    _complain([_where(x) for x in broken], f"{verify} is broken in {len(broken)} of {len(layers)} layers")
    ctx.exit(1 if wrong or odd or broken else 0)


def _complain(lines: list[str], message: str) -> None:
    if lines:
        fail(message)
        for line in lines[:SHOWN]:
            errors.print(f"  {line}", soft_wrap=True, markup=False)
        if len(lines) > SHOWN:
            errors.print(f"  and {len(lines) - SHOWN} more: --json lists all")


def _where(layer: Inspected) -> str:
    row, column = layer.first or (0, 0)
    return f"{layer.name}: {layer.broken} groups, the first in row {row} at column {column}"


def _patterns(layers: list[Inspected]) -> str:
    """The patterns that all these layers have."""
    shared = set(layers[0].patterns).intersection(*(layer.patterns for layer in layers[1:]))
    return ", ".join(map(pattern_text, sorted(shared, key=lambda p: p[1])))


def _table(layers: list[Inspected], by: str) -> Table:
    """A line a role, a block or a layer, with the range of its layers' sparsities, and one for all."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    headings = [by, *([] if by == "layer" else ["layers"]), "weights", "zero", *([] if by == "layer" else ["range"])]
    for heading in (*headings, "pattern"):
        table.add_column(heading, justify="left" if heading in (by, "pattern") else "right", header_style="dim")
    groups: dict[str, list[Inspected]] = {}
    for layer in layers:
        groups.setdefault(KEYS[by](layer), []).append(layer)
    for name, mine in (*groups.items(), ("all", layers)):
        size, zeros = sum(x.weights for x in mine), sum(x.zeros for x in mine)
        low, high = min(x.sparsity for x in mine), max(x.sparsity for x in mine)
        spread = [] if by == "layer" else ["" if low == high else f"{low:.2%} – {high:.2%}"]
        count = [] if by == "layer" else [str(len(mine))]
        table.add_row(name, *count, f"{size:,}", f"{zeros / size:.2%}", *spread, _patterns(mine))
    return table


def _summary(record: dict[str, Any]) -> Table:
    """What `pruning.json` says of the run."""
    rows: dict[str, str] = {}
    metric, target, perplexity = record.get("metric"), record.get("target"), record.get("perplexity") or {}
    if metric and target:  # masks of one's own come of none
        pattern = target.get("pattern")
        rows["metric"] = f"{metric['name']}: {metric['formula']}"
        allocation = record.get("options", {}).get("allocation", "uniform")
        shares = "" if allocation == "uniform" else f" on average, by {allocation}"
        rows["target"] = (pattern_text(pattern) if pattern else f"{target['sparsity']:.2%}") + shares
    rows["model"] = record["model"]["name"]
    calibration = (record.get("data") or {}).get("calibration")
    rows["calibration"] = f"{calibration['name']} ({calibration['part']})" if calibration else "none"
    if perplexity.get("before") and perplexity.get("after"):
        rows["perplexity"] = f"{perplexity['before']:.2f} dense, {perplexity['after']:.2f} pruned"
    rows["made with"] = ", ".join(f"{name} {v}" for name, v in record.get("versions", {}).items())
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for name, said in rows.items():
        table.add_row(name, escape(said))
    return table


def _as_json(
    layers: list[Inspected], record: dict[str, Any] | None, wrong: list[str], verify: str | None
) -> dict[str, Any]:
    size, zeros = sum(x.weights for x in layers), sum(x.zeros for x in layers)
    return {
        "weights": size,
        "sparsity": zeros / size,
        "verified": None if verify is None else {"pattern": verify, "holds": not any(x.broken for x in layers)},
        "agrees": None if record is None else not wrong,
        "disagreements": wrong,
        "layers": [
            {
                "name": x.name,
                "role": x.role,
                "block": x.block,
                "shape": x.shape,
                "sparsity": x.sparsity,
                "patterns": [pattern_text(p) for p in x.patterns],
                "not_finite": x.odd,
                "broken": x.broken,
            }
            for x in layers
        ],
    }
