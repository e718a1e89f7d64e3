"""`space` declarations: what a search may build, checked and with its names resolved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from pzc.compiler.functions import ELEMENTWISE, OPERATORS, REDUCTIONS
from pzc.compiler.groups import GROUPS
from pzc.compiler.language.lower import Lowering
from pzc.compiler.language.modules import libraries
from pzc.compiler.language.scope import Function
from pzc.compiler.leaves import ALIASES, LEAVES, TIERS, Tier, within
from pzc.grammar.diagnostics import did_you_mean, some
from pzc.grammar.syntax import Entry, Item, SpaceDefinition

LARGEST = 1000
"""The largest size and depth that a space may ask for."""


@dataclass(frozen=True)
class Op:
    """An operation of a space: a core operation by its name, or a function that is written out. `name` is how the
    space names it, `arity` how many values it takes."""

    name: str
    arity: int
    core: str = ""
    function: Function | None = None


@dataclass(frozen=True)
class SpaceSpec:
    """A checked `space`. Leaves (full names), operations and reductions come with the weights by which they are drawn.

    `exponents` are the numbers that `x ^ e` starts from, `depth` the least and most levels of a new tree, `size` the
    most nodes that a candidate may have, `nesting` core operations with how many of them may stand on one way from the
    root to a leaf together, `tier` the dearest statistics that it may read, `per` the comparison groups.
    """

    name: str
    doc: str = ""
    leaves: tuple[tuple[str, float], ...] = ()
    ops: tuple[tuple[Op, float], ...] = ()
    reductions: tuple[tuple[Op, float], ...] = ()
    exponents: tuple[float, ...] = (0.5, 2.0)
    depth: tuple[int, int] = (2, 5)
    size: int = 40
    nesting: tuple[tuple[tuple[str, ...], int], ...] = ()
    tier: Tier | None = None
    per: tuple[str, ...] = ("row",)


def check_space(definition: SpaceDefinition, lowering: Lowering) -> SpaceSpec | None:
    """The space, or None where it has errors, which `lowering` is told of."""
    before = len(lowering.diagnostics)
    found: dict[str, object] = {}
    for entry in definition.entries:
        if entry.name not in ENTRIES:
            hint = did_you_mean(entry.name, ENTRIES) or "there are " + ", ".join(f"`{n}`" for n in ENTRIES)
            lowering.report("PZ0601", f"a space has no entry `{entry.name}`", entry.name_span, help=hint)
        elif entry.name in found:
            lowering.report("PZ0601", f"`{entry.name}` stands twice in this space", entry.name_span)
        else:
            found[entry.name] = ENTRIES[entry.name](entry, lowering)
    _check_tier(definition, found, lowering)
    for name in ("leaves", "ops"):
        if name not in {e.name for e in definition.entries}:
            example = {"leaves": "leaves: W, X, G", "ops": "ops: *, /, sqrt"}[name]
            message = f"the space `{definition.name}` has no `{name}`"
            lowering.report("PZ0603", message, definition.name_span, help=f"add `{example}`")
    if len(lowering.diagnostics) > before:
        return None
    return SpaceSpec(definition.name, definition.doc, **found)  # type: ignore[arg-type]


def _check_tier(definition: SpaceDefinition, found: Mapping[str, object], lowering: Lowering) -> None:
    """Leaves that the tier of their space leaves out must not be listed."""
    tier = cast("Tier | None", found.get("tier"))
    for item in (i for entry in definition.entries if entry.name == "leaves" for i in entry.items):
        full = ALIASES.get(item.text, item.text)
        if full in LEAVES and not within([full], tier):
            message = f"`{item.text}` is of the tier `{LEAVES[full].tier}`, which is dearer than `{tier}`"
            lowering.report("PZ0602", message, item.span, help="leave it out, or raise the `tier`")


def _no_such(lowering: Lowering, what: str, item: Item, known: Iterable[str]) -> None:
    names = list(known)
    hint = did_you_mean(item.text, names) or "there are " + some([f"`{n}`" for n in names])
    lowering.report("PZ0602", f"there is no {what} `{item.text}`", item.span, help=hint)


def _weight(item: Item, lowering: Lowering) -> float | None:
    """The weight behind a name, 1 where there is none; None for what is no name."""
    if item.is_number:
        lowering.report("PZ0602", f"`{item.text}` is a number; this entry lists names", item.span)
        return None
    weight = float(item.more) if item.more is not None else 1.0
    if not lowering.fits(item.more or "1", weight, item.span):
        return None
    if weight <= 0:
        lowering.report("PZ0602", "a weight is a number above 0", item.span)
        return None
    return weight


def _leaves(entry: Entry, lowering: Lowering) -> tuple[tuple[str, float], ...]:
    found: dict[str, float] = {}
    for item in entry.items:
        weight = _weight(item, lowering)
        full = ALIASES.get(item.text, item.text)
        if weight is not None and full not in LEAVES:
            _no_such(lowering, "leaf", item, [*ALIASES, *LEAVES])
        elif weight is not None:
            found[full] = weight
    return tuple(found.items())


def _ops(entry: Entry, lowering: Lowering) -> tuple[tuple[Op, float], ...]:
    found: dict[str, tuple[Op, float]] = {}
    last = {item.text: item for item in entry.items}  # `lib.*` may be long, and be listed many times
    for item in (i for i in entry.items if last[i.text] is i):
        weight = _weight(item, lowering)
        for op in _ops_named(item, lowering) if weight is not None else ():
            found[op.name] = (op, weight or 0.0)
    return tuple(found.values())


def _ops_named(item: Item, lowering: Lowering) -> list[Op]:
    """The operations that an item means: one, or every function of a library."""
    name = item.text
    family, _, member = name.partition(".")
    definition = lowering.names.find(family if member == "*" else name)
    if definition is None or (definition.kind != "broken" and not definition.function):  # nothing of the file's own
        if name in _CORE:
            return [_CORE[name]]
    elif definition.kind == "broken":
        return []
    if definition is not None and member == "*":
        definition.used = True
        functions = [(f"{family}.{n}", d.function) for n, d in definition.members.items() if d.function]
        return [Op(n, len(f.parameters), function=f) for n, f in functions if _fit(f)]
    if definition is not None and definition.function is not None:
        definition.used = True
        if _fit(definition.function):
            return [Op(name, len(definition.function.parameters), function=definition.function)]
        lowering.report("PZ0602", f"`{name}` takes an axis or more than two values", item.span)
        return []
    if name in REDUCTIONS:
        message = f"`{name}` goes over an axis"
        hint = f"a space has no place for `{name}`" if REDUCTIONS[name].keeps else f"list it in `reductions: {name}`"
        lowering.report("PZ0602", message, item.span, help=hint)
        return []
    own = [n for n, d in lowering.names.scope.items() if d.kind == "fn"]
    if member and lowering.names.find(family) is None and family in libraries():
        lowering.report("PZ0602", f"`{family}` is not used here", item.span, help=f"write `use {family}` before")
        return []
    prefixes = [f"{n}.*" for n, d in lowering.names.scope.items() if d.kind == "library"]
    if name in ELEMENTWISE:
        lowering.report("PZ0602", f"`{name}` takes more than two values", item.span)
        return []
    _no_such(lowering, "operation", item, dict.fromkeys([*_CORE, *own, *prefixes]))
    return []


_CORE: dict[str, Op] = {
    **{name: Op(name, 2, op) for name, op in OPERATORS.items()},
    **{name: Op(name, f.arity, f.op) for name, f in ELEMENTWISE.items() if f.arity <= 2},
    "neg": Op("neg", 1, "neg"),
}
"""The operations of the core that a space may list."""


def _fit(function: Function) -> bool:
    return len(function.parameters) <= 2 and not function.axes


def _reductions(entry: Entry, lowering: Lowering) -> tuple[tuple[Op, float], ...]:
    found: dict[str, tuple[Op, float]] = {}
    for item in entry.items:
        weight = _weight(item, lowering)
        function = REDUCTIONS.get(item.text)  # the language's own, whatever the file calls so
        if weight is not None and (function is None or function.keeps):
            _no_such(lowering, "reduction", item, [n for n, f in REDUCTIONS.items() if not f.keeps])
        elif weight is not None and function is not None:
            found[item.text] = (Op(item.text, function.arity, function.op), weight)
    return tuple(found.values())


def _numbers(entry: Entry, lowering: Lowering) -> tuple[float, ...]:
    found = []
    for item in entry.items:
        negative = item.text == "-" and item.more and item.more[0] in "0123456789."
        text = f"-{item.more}" if negative else item.text
        value = float(text) if negative or item.is_number else None
        if value is None or (item.is_number and item.more):
            lowering.report("PZ0602", "this entry lists numbers, such as `0.5, -1`", item.span)
        elif lowering.fits(text, value, item.span):
            found.append(value)
    return tuple(found)


def _whole(text: str | None) -> int | None:
    value = float(text) if text is not None and text[0].isdigit() else 0.5
    return int(value) if value.is_integer() and 1 <= value <= LARGEST else None


def _depth(entry: Entry, lowering: Lowering) -> tuple[int, int]:
    item = entry.items[0]
    low, high = _whole(item.text), _whole(item.more or item.text)
    if len(entry.items) > 1 or not item.is_number or low is None or high is None or low > high:
        lowering.report("PZ0602", f"a depth is a range from 1 to {LARGEST}, such as `3 .. 5`", entry.span)
        return 1, 1
    return low, high


def _size(entry: Entry, lowering: Lowering) -> int:
    item = entry.items[0]
    size = _whole(item.text)
    if len(entry.items) > 1 or size is None or item.more:
        lowering.report("PZ0602", f"a size is a whole number from 1 to {LARGEST}", entry.span)
    return size or 1


def _nesting(entry: Entry, lowering: Lowering) -> tuple[tuple[tuple[str, ...], int], ...]:
    found: dict[tuple[str, ...], int] = {}
    for item in entry.items:
        most = _whole(item.more or "1")
        if item.text not in NESTED:
            _no_such(lowering, "operation of the language", item, NESTED)
        elif most is None:
            message = f"how often an operation may be nested is a whole number from 1 to {LARGEST}"
            lowering.report("PZ0602", message, item.span)
        else:
            found[NESTED[item.text]] = most
    return tuple(found.items())


_REDUCING = {name: f.op for name, f in REDUCTIONS.items() if not f.keeps}
NESTED: dict[str, tuple[str, ...]] = {
    name: tuple(ops[name] for ops in ({n: op.core for n, op in _CORE.items()}, _REDUCING) if name in ops)
    for name in {**_CORE, **_REDUCING}
}
"""What may be bounded in its nesting, with its core operations: `max` is one of two values and a reduction."""


def _tier(entry: Entry, lowering: Lowering) -> Tier | None:
    item = entry.items[0]
    if len(entry.items) > 1 or item.more:
        lowering.report("PZ0602", "a space has one tier, such as `forward`", entry.span)
    elif item.text not in TIERS:
        _no_such(lowering, "tier", item, TIERS)
    return next((tier for tier in TIERS if tier == item.text), None)


def _groups(entry: Entry, lowering: Lowering) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for item in entry.items:
        if item.text in GROUPS and item.more:
            lowering.report("PZ0602", "comparison groups have no weights", item.span)
        elif item.text not in GROUPS:
            _no_such(lowering, "comparison group", item, GROUPS)
        else:
            found[item.text] = None
    return tuple(found)


ENTRIES: Mapping[str, Callable[[Entry, Lowering], object]] = {
    "leaves": _leaves,
    "ops": _ops,
    "reductions": _reductions,
    "exponents": _numbers,
    "depth": _depth,
    "size": _size,
    "nesting": _nesting,
    "tier": _tier,
    "per": _groups,
}
"""What a space may say, and how it is read."""
