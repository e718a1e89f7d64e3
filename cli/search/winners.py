"""The end of a search: the winner beside the best of the zoo."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from pzc.cli.console import change_text, formula, output, print_json, say
from pzc.cli.search.live import ended
from pzc.cli.search.watch import named
from pzc.grammar.counting import count
from pzc.search.commands import compare_command
from pzc.search.hall import Member
from pzc.search.prepare import Prepared
from pzc.search.run import Result


def report(run: Prepared, result: Result, as_json: bool) -> None:
    """The winner beside the best of the zoo, on held-out text."""
    if as_json:
        print_json(
            {
                "event": "done",
                **named(run.store.place),
                "folder": str(run.folder),
                "ended": ended(result.state, run.settings, run.store.workers.spent()),
                "dense": result.dense,
                "counts": dict(result.state.counts),
                "hall_of_fame": [_row(m) for m in result.members],
                "zoo": [_row(m) for m in result.zoo],
                "change": _change(result) if result.members else None,
            }
        )
        return
    best_zoo = result.best_zoo
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("metric", "formula", "per"):
        table.add_column(heading, header_style="dim", overflow="fold")
    for heading in ("search", "further", "held-out"):
        table.add_column(heading, header_style="dim", overflow="fold", justify="right")
    table.add_row(Text("dense", "bold"), "", "", "", "", f"{result.dense:.2f}")
    shown = [*result.members[:3], *sorted(result.zoo, key=lambda m: m.held_out)]
    low = min(m.held_out for m in shown)
    for m in shown:
        text = Text(f"{m.held_out:.2f}", style="good" if m.held_out == low else "")
        name, further = Text(m.metric.name, "bold"), "" if math.isnan(m.further) else f"{m.further:.2f}"
        table.add_row(name, formula(m.metric.formula), m.metric.per, f"{m.fitness:.2f}", further, text)
    output.print(table)
    if not result.members:
        refusals = result.state.standing().refusals.most_common()
        why = "refused: " + ", ".join(f"{reason} ({n:,})" for reason, n in refusals)
        say(f"nothing was measured in full: give the search more time{f'; {why}' if refusals else ''}")
        return
    found = result.change
    amount = change_text(found.value, found.error)
    against = f"{amount} (standard error) in held-out perplexity against {best_zoo.metric.name}, the best of the zoo"
    output.print(Text.assemble(("\nthe best metric found", "bold"), f", {against}:\n"), soft_wrap=True)
    output.print(formula(result.files[0].read_text(encoding="utf-8")), soft_wrap=True)
    output.print("[bold]the best of the zoo[/]:\n")
    output.print(formula(best_zoo.metric.source), soft_wrap=True)
    other = best_zoo.metric
    following = compare_command(asdict(run.settings), result.files[0], other.name, other.per)
    say(f"wrote {run.folder / 'hall_of_fame'} ({count(len(result.files), 'metric')})   next: {following}")


def _change(result: Result) -> dict[str, Any]:
    found = result.change
    return {"against": result.best_zoo.metric.name, "share": found.value, "standard_error": found.error}


def _row(m: Member) -> dict[str, Any]:
    return {
        "name": m.metric.name,
        "formula": m.metric.formula,
        "per": m.metric.per,
        "fitness": m.fitness,
        "further": None if math.isnan(m.further) else m.further,
        "further_windows": m.further_windows,
        "held_out": m.held_out,
        "candidate": m.candidate.number,
        "generation": m.candidate.generation,
    }
