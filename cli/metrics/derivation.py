"""Derivations on the terminal: what a score becomes, step by step, with the rule of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from pzc.cli.console import formula, shortened
from pzc.compiler.core import Node
from pzc.compiler.rewriting.derive import Step
from pzc.compiler.rewriting.plain import plain
from pzc.compiler.source import expression

SYMBOLS = {"exact": "=", "real": "=", "rank": "~"}


def written(node: Node) -> str:
    """A canonical graph as people write it."""
    return expression(plain(node))


def visible(root: Node, steps: Sequence[Step]) -> Iterator[tuple[Step, str]]:
    """The steps that change what is written, with the score after each, shortened to where it changes: a square that
    becomes a power is written as before."""
    last = expression(root)
    for step in steps:
        now = written(step.whole)
        if now != last:
            yield step, shortened(now, last)
        last = now


def drawn(root: Node, steps: Sequence[Step], indent: int = 2) -> Table:
    """The score, then a line for each visible step: the score after it, what it keeps, its rule and why."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    for ratio in (None, 3, None, 2):
        table.add_column(ratio=ratio, overflow="fold")
    lead = " " * indent
    table.add_row(lead, formula(shortened(expression(root))), "", "")
    for step, now in visible(root, steps):
        why = Text(f"{step.rule.name}: {step.rule.reason}", style="dim")
        table.add_row(f"{lead}{SYMBOLS[step.rule.kind]}", formula(now), Text(step.rule.kind, style="dim"), why)
    return table


def as_json(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Every step, with the parts that it changes."""
    return [
        {
            "rule": step.rule.name,
            "kind": step.rule.kind,
            "law": str(step.rule),
            "reason": step.rule.reason,
            "before": written(step.before),
            "after": written(step.after),
            "whole": written(step.whole),
        }
        for step in steps
    ]
