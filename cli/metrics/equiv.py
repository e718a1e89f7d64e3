"""`pzc equiv`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click
import numpy as np
from rich.table import Table
from rich.text import Text

from pzc.cli import completion, options
from pzc.cli.console import formula, output, print_json, shortened
from pzc.cli.metrics.derivation import as_json as steps_as_json
from pzc.cli.metrics.derivation import drawn, written
from pzc.cli.metrics.groups import arms_per
from pzc.compiler.core import topological
from pzc.compiler.language.findings import findings
from pzc.compiler.leaves import LEAVES, short
from pzc.compiler.load import load
from pzc.compiler.pattern import pattern_of, pattern_text
from pzc.compiler.rewriting.simplify import form_of
from pzc.compiler.sameness.counterexample import Counterexample
from pzc.compiler.sameness.equiv import Equivalence, Pair, Verdict, equivalent
from pzc.compiler.sameness.keys import keys
from pzc.compiler.source import expression

SAME, DIFFERENT, UNKNOWN = 0, 1, 4


_HEADS = {
    "exact": "same formula",
    "real": "same function, proven",
    "rank": "same ranking, proven",
}


@click.command("equiv")
@click.argument("first", metavar="A", shell_complete=completion.metrics)
@click.argument("second", metavar="B", shell_complete=completion.metrics)
@options.per
@options.pattern
@options.as_json
@click.pass_context
def command(ctx: click.Context, first: str, second: str, per: str | None, pattern: str | None, as_json: bool) -> None:
    """Say whether the metrics A and B prune alike, and why.

    The answer is a derivation of both to one form, by the rules of the compiler; or a small layer on which they keep
    different weights; or, where neither is found, that it is not known. Each metric is compared in its own groups
    unless --per or --pattern says otherwise; metrics by role are compared arm by arm.

    Exit codes: 0 the same, 1 different (or an error in a metric), 4 not known.

    \b
    pzc equiv wanda obd --per row
    pzc equiv wanda gblm
    pzc equiv 'abs(W) * X' my.pzm:best --pattern 2:4 --json
    """
    options.check_pattern(ctx, pattern)
    a, b = load(first), load(second)
    for metric in (a, b):
        arms_per(metric, per)
    names = (a.name, b.name) if a.name != b.name else ("first", "second")
    found = equivalent(a, b, per, pattern_of(pattern) if pattern else None)
    if as_json:
        print_json(_as_json(found, pattern))
    else:
        _draw(found, names, pattern)
    ctx.exit({True: SAME, False: DIFFERENT, None: UNKNOWN}[found.same])


def _draw(found: Equivalence, names: tuple[str, str], pattern: str | None) -> None:
    for i, pair in enumerate(found.pairs):
        if i:
            output.print()
        if len(found.pairs) > 1:
            output.print(Text(f"{', '.join(pair.layers) or 'else'}:", style="bold"))
        for part in _parts(pair.verdict, names, pattern):
            output.print(part)
    if found.reason:
        if found.pairs:
            output.print()
        output.print(Text.assemble(("not known", "warning"), f": {found.reason}"))


def _parts(v: Verdict, names: tuple[str, str], pattern: str | None) -> Iterator[Text | Table]:
    if v.same:
        group = pattern or f"per {v.first.per}"
        where = "" if v.kind == "exact" else "".join(text for holds, text in _LIMITS if holds(v))
        yield Text.assemble((_HEADS[v.kind or "rank"], "good"), f": the same mask for every model, {group}{where}")
    elif v.counterexample:
        yield from _counterexample(v, v.counterexample, names)
        alike = [] if pattern else [per for per in dict.fromkeys((v.first.per, v.second.per)) if _alike(v, per)]
        if alike:
            yield Text(
                f"\nTheir groups differ. They prune alike with {' and with '.join(f'--per {per}' for per in alike)}."
            )
        if v.kind is None:
            return
    else:
        yield Text.assemble(("not known", "warning"), ": neither a proof nor a counterexample was found")
        yield Text(_EVIDENCE[v.evidence])
        return
    if v.kind == "exact":
        return
    for name, scored, steps in zip(names, (v.first, v.second), v.steps, strict=True):
        yield Text(f"\n{name}", style="bold")
        yield drawn(scored.core, steps)


def _may_be_undefined(v: Verdict) -> bool:
    """Whether one of the scores has an operation that its arguments can be outside the domain of."""
    return any(f.code in ("PZ0303", "PZ0304") for s in (v.first, v.second) for f in findings(s.core, s.per))


def _saturates(v: Verdict) -> bool:
    """Whether one of the scores has a function whose values float32 soon can't tell apart."""
    return any(node.op in ("exp", "sigmoid", "tanh") for s in (v.first, v.second) for node in topological(s.core))


_LIMITS = (
    (_may_be_undefined, ", wherever both are defined"),
    (_saturates, ", as far as float32 tells the scores apart"),
)
"""What a proof about real numbers leaves open, and how it is said."""


def _alike(v: Verdict, per: str) -> bool:
    return keys(v.first.core, per).rank == keys(v.second.core, per).rank


_EVIDENCE = {
    True: "They rank alike on all random probe layers. That is evidence that they are the same, and no proof.",
    False: "They rank differently on random probe layers, but on none that is small and clear enough to show.",
    None: "Random probe layers do not tell: the scores are not finite there, or too close to call.",
}


def _counterexample(v: Verdict, c: Counterexample, names: tuple[str, str]) -> Iterator[Text | Table]:
    sizes = " and ".join(f"{out} × {inn}" for out, inn in (layer["W"].shape for layer in c.layers))
    where = f"on this {sizes} layer" if len(c.layers) == 1 else f"on these layers of {sizes}"
    how = pattern_text(c.pattern) if c.pattern else f"{c.sparsity:.0%} {_groups(v)}"
    yield Text.assemble(("different", "error"), f": {where}, at {how}, the masks differ")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for column in range(4):
        table.add_column(overflow="fold", no_wrap=column == 1)
    for i, layer in enumerate(c.layers):
        which = "" if len(c.layers) == 1 else f"{i + 1}"
        for name in sorted(layer, key=list(LEAVES).index):
            table.add_row(f"  {which}", f"{short(name)} =", _numbers(layer[name]), "")
            which = ""
    table.add_row()
    for name, scored, scores, masks in zip(names, (v.first, v.second), c.scores, c.masks, strict=True):
        table.add_row("", Text(name, style="bold"), formula(shortened(expression(scored.core))), "")
        table.add_row("", "scores", "  ".join(map(_numbers, scores)), "")
        table.add_row("", "kept", "  ".join(_numbers(mask.astype(float)) for mask in masks), "")
    yield table


def _groups(v: Verdict) -> str:
    if v.first.per == v.second.per:
        return f"per {v.first.per}"
    return f"per {v.first.per} and per {v.second.per}"


def _numbers(values: Any) -> str:
    """Numbers as text, to six digits: `2`, `[1, 2]` (also for one row), `[[1, 2], [3, 4]]`."""
    array = np.asarray(values)
    if array.ndim == 0:
        return f"{float(array):.6g}"
    if array.ndim == 2 and len(array) == 1:
        array = array[0]
    return f"[{', '.join(map(_numbers, array))}]"


def _as_json(found: Equivalence, pattern: str | None) -> dict[str, Any]:
    return {
        "same": found.same,
        "kind": found.kind,
        "pattern": pattern,
        "reason": found.reason,
        "pairs": [_pair(pair, pattern) for pair in found.pairs],
    }


def _pair(pair: Pair, pattern: str | None) -> dict[str, Any]:
    v = pair.verdict
    common = None
    if v.same and v.kind:
        common = written(form_of(v.first.core, pattern or v.first.per, "rank" if v.kind == "rank" else "real"))
    return {
        "layers": list(pair.layers),
        "formulas": [expression(v.first.core), expression(v.second.core)],
        "per": [v.first.per, v.second.per],
        "same": v.same,
        "kind": v.kind,
        "form": common,
        "steps": [steps_as_json(steps) for steps in v.steps],
        "counterexample": _example(v.counterexample) if v.counterexample else None,
        "alike_on_probes": v.evidence,
    }


def _example(c: Counterexample) -> dict[str, Any]:
    def lists(arrays: Sequence[Any]) -> list[Any]:
        return [np.asarray(a).tolist() for a in arrays]

    return {
        "layers": [{name: np.asarray(v).tolist() for name, v in layer.items()} for layer in c.layers],
        "sparsity": c.sparsity,
        "pattern": list(c.pattern) if c.pattern else None,
        "scores": [lists(scores) for scores in c.scores],
        "kept": [lists(masks) for masks in c.masks],
    }
