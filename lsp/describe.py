"""What there is to say about a word: the Markdown that a hover shows, and the line beside a completion."""

from __future__ import annotations

from pzc.compiler import core
from pzc.compiler.analysis.signs import Sign
from pzc.compiler.core import Node, leaves_of
from pzc.compiler.functions import ELEMENTWISE, REDUCTIONS
from pzc.compiler.language.check import Checked
from pzc.compiler.leaves import ALIASES, AXES, LEAVES, TIERS
from pzc.lsp.document import Document
from pzc.lsp.names import Symbol

KEYWORDS = {
    "pzm": "the edition of the language, first in every file: `pzm 1`",
    "use": 'names from a library, `use paper (mms)`, or from a file beside this one, `use "norms.pzm" (share)`',
    "let": "a name for an expression: `let a = abs(W)`",
    "fn": "a function, written out wherever it is called: `fn share(x, axis) = x / sum(x, axis)`",
    "param": "a constant that `--set` and the search may change: `param a = 0.5 in [0, 1]`",
    "metric": "a score for every weight; those with the lowest are pruned: `metric m = abs(W) * X per row`",
    "space": "what a search may build: `space s { leaves: W, X  ops: *, sqrt }`",
}
"""The words that begin a statement."""

GROUPS = {
    "row": "the weights of one output are compared with each other",
    "col": "the weights of one input are compared with each other",
    "layer": "the weights of one matrix are compared with each other",
    "block": "the weights of all pruned matrices of one block are compared with each other",
    "model": "the weights of all pruned matrices are compared with each other",
}
"""The comparison groups."""

AXIS = {"out": "the rows of a weight matrix: one for each output", "in": "its columns: one for each input"}
"""The axes."""

RANGE = {"in": "the range of a param: `in [0, 1]`"}
"""What `in` is before a `[`."""

WORDS = {
    "per": "the comparison group: which scores are compared with each other",
    "else": "the arm of all layers that no other arm takes",
}
"""The other words of the language."""

COSTS = {
    "weights": "needs no data",
    "forward": "needs a forward pass",
    "hessian": "needs a forward pass that sums up X·Xᵀ",
    "backward": "needs gradients",
}

_SIGNS = {
    Sign.POSITIVE: "above zero",
    Sign.NON_NEGATIVE: "never below zero",
    Sign.NEGATIVE: "below zero",
    Sign.NEGATIVE | Sign.ZERO: "never above zero",
    Sign.ZERO: "always zero",
}


def value(node: Node) -> str:
    """Axes, sign and cost of a value."""
    has = ", ".join(a for a in AXES if a in node.axes)
    shape = f"axes `[{has}]`" if has else "a single number"
    return " · ".join([shape, _SIGNS.get(node.sign, "any sign"), COSTS[_tier(node)]])


def _tier(*nodes: Node) -> str:
    tiers = [LEAVES[name].tier for node in nodes for name in leaves_of(node)]
    return max(tiers, key=TIERS.index, default="weights")


def leaf(name: str) -> str:
    """A leaf by its name or short name."""
    entry = LEAVES[ALIASES.get(name, name)]
    same = f" = `{entry.name}`" if name != entry.name else ""
    return f"`{name}`{same}: {entry.doc}\n\n{value(core.leaf(entry.name))}"


def function(name: str) -> str:
    """A function of the core, in each of its meanings."""
    lines = [f"`{f.written}`: {f.doc}" for f in (ELEMENTWISE.get(name),) if f]
    for f in (REDUCTIONS.get(name),):
        if f is not None:
            over = "within an axis or over all" if f.keeps else "over an axis, which it removes, or over all"
            lines.append(f"`{f.written}`, `{f.written[:-1]}, in)`: {f.doc}; {over}")
    return "\n\n".join(lines)


def symbol(s: Symbol, document: Document) -> str:
    """A name that a text defines: its definition, its doc comment and what the compiler knows of its value."""
    if s.kind == "parameter":
        return _parameter(s, document)
    if s.kind == "library":
        return _library(s, document)
    if s.kind == "import":
        return imported(s.source, s.name, document) or f"`{s.name}` from {s.source}, which cannot be read"
    written = document.source[s.statement.start : s.statement.end]
    parts = [f"```pzm\n{written}\n```", s.doc]
    definition = document.definitions.get(s.name)
    if definition is not None and definition.kind == s.kind == "let" and definition.node is not None:
        parts.append(value(definition.node))
    if s.kind == "metric":
        parts += [_metric(m) for m in document.checked.metrics if m.name == s.name]
    return "\n\n".join(p for p in parts if p)


def _parameter(s: Symbol, document: Document) -> str:
    owner = next((x for x in document.names.symbols if x.kind == "fn" and x.statement == s.statement), s)
    definition = document.definitions.get(owner.name)
    axis = definition is not None and definition.function is not None and s.name in definition.function.axes
    return f"`{s.name}`: {'the axis' if axis else 'a parameter'} of `{owner.name}({', '.join(owner.parameters)})`"


def imported(source: str, name: str, document: Document) -> str | None:
    """A name of a used library or file; None where there is no such thing."""
    used = document.used(source)
    found = next((s for s in used.names.symbols if s.name == name), None) if used else None
    if used is None or found is None or found.kind in ("parameter", "import", "library"):
        return None
    return f"{symbol(found, used)}\n\nfrom {source}"


def _library(s: Symbol, document: Document) -> str:
    used = document.used(s.source)
    if used is None:
        return f"{s.source} cannot be read"
    members = ", ".join(f"`{x.name}`" for x in exported(used))
    return f"{s.source} defines {members}"


def exported(document: Document) -> list[Symbol]:
    """What other files may use of a text."""
    return [s for s in document.names.symbols if s.kind in ("fn", "let")]


def _metric(m: Checked) -> str:
    tier = _tier(*(arm.core for arm in m.arms))
    return " · ".join([COSTS[tier], *dict.fromkeys(GROUPS[arm.per] for arm in m.arms)])
