"""`pzc zoo`."""

from __future__ import annotations

import click
from rich.table import Table

from pzc.cli import completion, options
from pzc.cli.console import formula, output, print_json, shortened
from pzc.compiler.load import MetricNotFound, did_you_mean_metric, zoo, zoo_names, zoo_source


@click.group("zoo", invoke_without_command=True)
@options.as_json
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List the published metrics, or show one.

    \b
    pzc zoo
    pzc zoo show wanda
    pzc zoo --json
    """
    if ctx.invoked_subcommand is not None:
        return
    metrics = zoo().values()
    if as_json:
        print_json(
            [{"name": m.name, "formula": m.formula, "per": m.per, "tier": m.tier, "doc": m.doc} for m in metrics]
        )
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("metric", "needs", "per", "formula"):
        table.add_column(heading, header_style="dim", overflow="fold")
    for m in metrics:
        table.add_row(f"[bold]{m.name}[/]", m.tier, m.per, formula(shortened(m.formula)))
    output.print(table)


@command.command("show")
@click.argument("name", shell_complete=completion.metrics)
def show(name: str) -> None:
    """Print a metric's source, with its citation."""
    if name not in zoo_names():
        hint = did_you_mean_metric(name)
        raise MetricNotFound(f"there is no metric `{name}` in the zoo" + (f"; {hint}" if hint else ""))
    output.print(formula(zoo_source(name)), end="", soft_wrap=True)
