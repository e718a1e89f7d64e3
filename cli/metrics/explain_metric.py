"""What `pzc explain` says of a metric: what it means, what it needs, what it costs."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from pzc.cli.console import fail, formula, output, print_json
from pzc.cli.metrics.derivation import as_json as steps_as_json
from pzc.cli.metrics.derivation import drawn, visible, written
from pzc.cli.metrics.groups import arms_per
from pzc.compiler.analysis.intervals import Interval, interval
from pzc.compiler.analysis.signs import Sign
from pzc.compiler.arm import Arm
from pzc.compiler.core import Node, leaves_of, size
from pzc.compiler.cost import cost
from pzc.compiler.language.findings import Finding, findings
from pzc.compiler.leaves import AXES, LEAVES, short
from pzc.compiler.load import load, read_file, zoo_names
from pzc.compiler.metric import Metric
from pzc.compiler.paper import opposing
from pzc.compiler.paper.trees import TreeError, import_paper_tree, read_tree
from pzc.compiler.rewriting.derive import derive
from pzc.compiler.rewriting.simplify import form_of, redundant, simplest
from pzc.compiler.sameness.keys import keys
from pzc.compiler.source import expression, number_text
from pzc.compiler.targets import latex
from pzc.grammar.counting import count
from pzc.grammar.diagnostics import CODES
from pzc.grammar.render import plain

LARGEST_TREE = 60
"""Operations and leaves of a score whose tree is drawn."""

_SIGNS = {
    Sign.NONE: "never defined",
    Sign.NEGATIVE: "< 0",
    Sign.ZERO: "always 0",
    Sign.POSITIVE: "> 0",
    Sign.NEGATIVE | Sign.ZERO: "≤ 0",
    Sign.NON_NEGATIVE: "≥ 0",
    Sign.NEGATIVE | Sign.POSITIVE: "any but 0",
    Sign.ANY: "any",
}

_PASSES = {
    "forward": "one forward pass",
    "hessian": "one forward pass, block by block, that sums up X·Xᵀ",
    "backward": "one forward and backward pass",
}

_NOT_FINITE = ("PZ0302", "PZ0303", "PZ0304", "PZ0306")


def explain_metric(reference: str, per: str | None, settings: dict[str, float], steps: bool, as_json: bool) -> int:
    """Print what there is to say of a metric; the exit code. Raises MetricNotFound and SourceError."""
    try:
        tree = read_tree(read_file(Path(reference))) if reference.endswith(".json") else None
        metric = load(reference, settings) if tree is None else import_paper_tree(tree, "tree")
    except TreeError as error:
        fail(f"{reference}: {error}")
        return 1
    arms = arms_per(metric, per)
    if as_json:
        print_json(_as_json(metric, arms) | ({"opposing": _opposing_as_json(tree)} if tree else {}))
        return 0
    _title(metric, arms, reference)
    for arm in arms:
        if len(arms) > 1:
            output.print(Text.assemble("\n", (plain(", ".join(arm.layers)) or "else", "bold"), f"  per {arm.per}"))
        output.print(_facts(arm, steps))
        if steps:
            output.print(Text("\n  derivation", style="dim"))
            output.print(drawn(arm.core, derive(arm.core, arm.per)))
        for found in findings(arm.core, arm.per):
            _draw_finding(found)
        if size(arm.core) <= LARGEST_TREE:
            output.print(Text("\n  tree", style="dim"))
            output.print(_indented(_tree(arm.core)))
    if tree:
        _draw_opposing(tree)
    return 0


_PARAGRAPHS = re.compile(r"(?<=[.:])\n|\n\n+")
"""Where a doc comment is broken whatever the width: behind a sentence that ends with its line."""


def _title(metric: Metric, arms: list[Arm], reference: str) -> None:
    where = "zoo" if reference.strip() in zoo_names() else "" if metric.name == "inline" else plain(reference)
    group = f"per {arms[0].per}" if len(arms) == 1 else "by role"
    output.print(Text.assemble((metric.name, "bold"), f"  {group}", (f"    {where}" if where else "", "dim")))
    for paragraph in _PARAGRAPHS.split(metric.doc):
        for line in textwrap.wrap(paragraph, max(20, output.width - 4)):
            output.print(Text(f"  {plain(line)}", style="dim"))
    for name, value in metric.params:
        output.print(Text.assemble("  ", (f"{name} = {number_text(value)}", "dim")))


def _facts(arm: Arm, steps: bool) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _rows(arm, steps):
        table.add_row(f"  {name}", value if isinstance(value, Text) else Text(value))
    return table


def _rows(arm: Arm, steps: bool) -> Iterator[tuple[str, Text | str]]:
    root, per = arm.core, arm.per
    yield "", ""
    yield "source", formula(expression(root))
    n = len(list(visible(root, derive(root, per))))
    told = f"   {count(n, 'step')}: --steps shows them" if n and not steps else ""
    yield "ranks as", Text.assemble(formula(expression(simplest(root, per))), (told, "dim"))
    gone = redundant(root, per)
    if gone:
        yield "redundant", formula(", ".join(part.what.replace("`", "") for part in gone))
    yield "axes", f"[{', '.join(a for a in AXES if a in root.axes)}]"
    yield "sign", _SIGNS[root.sign]
    yield "interval", f"{_interval(interval(root))} for usual values of its leaves"
    yield "finite", _finite(root, per)
    yield "needs", _needs(root)
    yield "size", f"{size(root)} operations and leaves, {root.height} levels"
    found = cost(root)
    flops = "1 flop" if found.flops == 1 else f"{number_text(found.flops)} flops"
    yield "cost", f"{flops} and {found.bytes} bytes read a weight"
    for kind in ("exact", "real", "rank"):
        yield f"{kind} key", Text(getattr(keys(root, per), kind)[:16], style="dim")
    yield "latex", Text(latex.formula(root))


def _interval(found: Interval) -> str:
    if found.empty:
        return "empty"
    low, high = ("−∞" if v == -math.inf else "∞" if v == math.inf else f"{v:.3g}" for v in found)
    return f"[{low}, {high}]"


def _finite(root: Node, per: str) -> Text | str:
    bad = [f for f in findings(root, per) if f.code in _NOT_FINITE]
    if not bad:
        return "wherever its leaves are, but for degenerate layers"
    return Text("; ".join(dict.fromkeys(f"not where {f.label.replace('`', '')}" for f in bad)))


def _needs(root: Node) -> str:
    """The leaves, and the passes over calibration text that give them."""
    leaves = leaves_of(root)
    names = ", ".join(short(n) for n in LEAVES if n in leaves)
    tiers = {LEAVES[n].tier for n in leaves}
    dear = [_PASSES[t] for t in ("hessian", "backward") if t in tiers] or [
        _PASSES[t] for t in ("forward",) if t in tiers
    ]
    return f"{names} → {' and '.join(dear) if dear else 'no pass over any text'}"


def _draw_opposing(tree: opposing.Tree) -> None:
    """What Pruner-Zero's own simplification would do to its tree."""
    output.print(Text("\n  opposing operations, removed as Pruner-Zero's paper says", style="dim"))
    left, removed = opposing.simplify(tree)
    if not removed:
        output.print("    there are none")
        return
    for each in removed:
        told = ("changes the value", "warning") if each.changed else ("keeps the value", "good")
        output.print(Text.assemble(f"    {_call(each.before)} → {_call(each.after)}   ", told))
    told = ("another ranking", "warning") if _ranks_otherwise(tree, left) else ("the same ranking", "good")
    output.print(Text.assemble(f"    left: {_call(left)}, per row ", told))


def _ranks_otherwise(tree: opposing.Tree, left: opposing.Tree) -> bool:
    """Whether the ranking is not known to be the same."""
    return keys(opposing.graph(tree), "row").rank != keys(opposing.graph(left), "row").rank


def _call(tree: opposing.Tree) -> str:
    """A tree of the release as calls: `mul(W, mms(G))`. A tree is read to 100 levels, which recursion can do."""
    sides = [_call(tree[side]) for side in ("left", "right") if tree.get(side) is not None]
    return f"{tree['data']}({', '.join(sides)})" if sides else str(tree["data"])


def _opposing_as_json(tree: opposing.Tree) -> dict[str, Any]:
    left, removed = opposing.simplify(tree)
    return {
        "removed": [{"before": each.before, "after": each.after, "changes_value": each.changed} for each in removed],
        "left": left,
        "same_ranking": not _ranks_otherwise(tree, left),
    }


def _draw_finding(found: Finding) -> None:
    severity = CODES[found.code][0]
    output.print(Text.assemble("\n  ", (f"{severity}[{found.code}]", severity), f": {found.message}: {found.label}"))
    if found.help:
        output.print(Text.assemble("    ", ("help", "help"), f": {found.help}"))


def _tree(root: Node) -> Tree:
    """The score as it is computed; what is shared is drawn wherever it is used."""

    def label(node: Node) -> Text:
        axes = Text(f"  [{', '.join(a for a in AXES if a in node.axes)}]" if node.axes else "", style="dim")
        if not node.args:
            return Text.assemble(formula(expression(node)), axes)
        over = f" over {node.value}" if node.value else ""
        return Text.assemble(f"{_NAMES.get(node.op, node.op)}{over}", axes)

    def grow(tree: Tree, node: Node) -> None:
        for arg in node.args:
            grow(tree.add(label(arg)), arg)

    whole = Tree(label(root), guide_style="dim")
    grow(whole, root)
    return whole


_NAMES = {"add": "+", "sub": "−", "mul": "×", "div": "÷", "pow": "^", "neg": "minus", "amin": "min", "amax": "max"}


def _indented(tree: Tree) -> Table:
    table = Table(box=None, padding=0, pad_edge=False, show_header=False)
    table.add_row("    ", tree)
    return table


def _as_json(metric: Metric, arms: list[Arm]) -> dict[str, Any]:
    return {
        "name": metric.name,
        "doc": metric.doc,
        "params": dict(metric.params),
        "arms": [_arm_as_json(arm) for arm in arms],
    }


def _arm_as_json(arm: Arm) -> dict[str, Any]:
    root, per = arm.core, arm.per
    found, spent, reach = keys(root, per), cost(root), interval(root)
    return {
        "layers": list(arm.layers),
        "per": per,
        "source": expression(root),
        "ranks_as": expression(simplest(root, per)),
        "canonical": {keep: written(form_of(root, per, keep)) for keep in ("real", "rank")},
        "redundant": [part.what for part in redundant(root, per)],
        "steps": steps_as_json(derive(root, per)),
        "axes": [a for a in AXES if a in root.axes],
        "sign": _SIGNS[root.sign],
        "interval": None if reach.empty else [reach.low, reach.high],
        "findings": [
            {"code": f.code, "severity": CODES[f.code][0], "message": f.message, "label": f.label, "help": f.help}
            for f in findings(root, per)
        ],
        "leaves": {n: LEAVES[n].tier for n in LEAVES if n in leaves_of(root)},
        "size": size(root),
        "depth": root.height,
        "flops": spent.flops,
        "bytes": spent.bytes,
        "keys": {"exact": found.exact, "real": found.real, "rank": found.rank},
        "latex": latex.formula(root),
    }
