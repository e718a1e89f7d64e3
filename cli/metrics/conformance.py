"""`pzc conformance`."""

from __future__ import annotations

import json
from collections import Counter

import click
from rich.table import Table
from rich.text import Text

from pzc.cli import options
from pzc.cli.console import fail, output, print_json
from pzc.conformance.cases import Case, exported, suite
from pzc.conformance.targets import TARGETS, Outcome

SHOWN = 10
"""Failures of a target that are written out."""


@click.command("conformance")
@click.option("--target", "targets", type=click.Choice(list(TARGETS)), multiple=True, help="A target; may be repeated.")
@click.option("--export", is_flag=True, help="Print the cases, each with its pzm-ir/1 document, and run none.")
@options.as_json
@click.pass_context
def command(ctx: click.Context, targets: tuple[str, ...], export: bool, as_json: bool) -> None:
    """Run the conformance suite against every target.

    Exits with 1 when a case fails, or a target that was asked for runs none.

    \b
    pzc conformance
    pzc conformance --target javascript
    pzc conformance --export | my-own-implementation
    """
    cases = suite()
    if export:
        click.echo(json.dumps(exported(cases), ensure_ascii=False))
        return
    outcomes = {target: TARGETS[target](cases) for target in targets or TARGETS}
    if as_json:
        print_json({target: _report(cases, found) for target, found in outcomes.items()})
    else:
        output.print(_table(cases, outcomes))
        for target, found in outcomes.items():
            _show(target, cases, found)
    failed = any(o.status == "failed" for found in outcomes.values() for o in found)
    unrun = any(all(o.status == "skipped" for o in outcomes[target]) for target in targets)
    ctx.exit(int(failed or unrun))


def _report(cases: list[Case], found: list[Outcome]) -> dict[str, object]:
    failed = [(c, o) for c, o in zip(cases, found, strict=True) if o.status == "failed"]
    return {
        **{status: sum(o.status == status for o in found) for status in ("passed", "failed", "skipped")},
        "skips": dict(Counter(o.message for o in found if o.status == "skipped")),
        "failures": [{"topic": c.topic, "description": c.description, "message": o.message} for c, o in failed],
    }


def _table(cases: list[Case], outcomes: dict[str, list[Outcome]]) -> Table:
    """Passed of all that are not skipped, by topic and target."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("topic", header_style="dim")
    for target in outcomes:
        table.add_column(target, header_style="dim", justify="right")
    for topic in [*dict.fromkeys(case.topic for case in cases), ""]:
        cells = []
        for found in outcomes.values():
            here = [
                o.status for c, o in zip(cases, found, strict=True) if topic in ("", c.topic) and o.status != "skipped"
            ]
            passed = here.count("passed")
            cells.append("–" if not here else f"{passed}" if passed == len(here) else f"[error]{passed}/{len(here)}[/]")
        table.add_row(Text(topic) if topic else Text("all", "bold"), *cells)
    return table


def _show(target: str, cases: list[Case], found: list[Outcome]) -> None:
    failed = [(c, o) for c, o in zip(cases, found, strict=True) if o.status == "failed"]
    for case, outcome in failed[:SHOWN]:
        fail(f"{target}, {case.topic}: {case.description}: {outcome.message}")
    if len(failed) > SHOWN:
        fail(f"{target}: {len(failed) - SHOWN} more")
    for reason, count in Counter(o.message for o in found if o.status == "skipped").items():
        output.print(Text(f"{target}: {count} skipped: {reason}", "dim"))
