"""What may stand at the cursor."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from pzc.compiler.functions import ELEMENTWISE, FUNCTION_NAMES, REDUCTIONS
from pzc.compiler.groups import GROUPS
from pzc.compiler.language.modules import libraries
from pzc.compiler.language.spaces import ENTRIES, NESTED
from pzc.compiler.leaves import AXES, LEAVES, TIERS, short
from pzc.grammar.syntax import Span
from pzc.grammar.words import RESERVED
from pzc.lsp import describe
from pzc.lsp.document import Document
from pzc.lsp.names import Symbol
from pzc.lsp.tokens import Token

Kind = Literal["leaf", "function", "keyword", "group", "axis", "value", "library", "file", "entry"]


@dataclass(frozen=True, slots=True)
class Item:
    """One proposal: what it inserts, what it is, and Markdown about it."""

    label: str
    kind: Kind
    doc: str = ""


@dataclass(frozen=True)
class _Cursor:
    """The words before the cursor, nearest last, without the one that is being written; `statement` are those of
    the statement it stands in."""

    document: Document
    offset: int
    before: tuple[Token, ...]
    statement: tuple[Token, ...]

    @property
    def known(self) -> dict[str, Symbol]:
        """The names in scope."""
        return self.document.names.known_in(self.statement[0].start)

    def previous(self, n: int = 1) -> str:
        """The n-th word before the cursor, of its statement."""
        return self.statement[-n].text if len(self.statement) >= n else ""


def complete(document: Document, offset: int) -> tuple[list[Item], Span]:
    """What may stand at an offset, and the part of a word there that it replaces."""
    inside = next((t for t in document.tokens if t.start < offset <= t.end), None)
    if inside is not None and inside.kind in ("comment", "doc", "number"):
        return [], Span(offset, offset)
    word = inside if inside is not None and inside.kind in ("name", "string") else None
    start = word.start if word else offset
    before = tuple(t for t in document.tokens if t.end <= start and t.kind not in ("comment", "doc"))
    cursor = _Cursor(document, offset, before, _statement(before))
    if word is not None and word.kind == "string":
        closed = len(word.text) > 1 and word.text.endswith('"')
        end = word.end - closed
        files = _files(document) if cursor.previous() == "use" and offset <= end else []
        return files, Span(word.start + 1, end) if files else Span(offset, offset)
    for fits, propose in _PLACES:
        if fits(cursor):
            return list(propose(cursor)), Span(start, word.end if word else offset)
    return [], Span(offset, offset)


def _statement(before: tuple[Token, ...]) -> tuple[Token, ...]:
    begins = [i for i, t in enumerate(before) if t.text in describe.KEYWORDS]
    return before[begins[-1] :] if begins else ()


def _open_call(cursor: _Cursor) -> tuple[str, int] | None:
    """The function whose parentheses the cursor stands in, and how many commas are before it there."""
    depth = commas = 0
    words = cursor.statement
    for i in range(len(words) - 1, -1, -1):
        text = words[i].text
        if text == ")":
            depth += 1
        elif text == "(" and depth:
            depth -= 1
        elif text == "(":
            name = words[i - 1].text if i and words[i - 1].kind == "name" else ""
            member = i > 2 and words[i - 2].text == "."
            return (f"{words[i - 3].text}.{name}" if member else name), commas
        elif text == "," and not depth:
            commas += 1
    return None


# What there is to propose


def _keywords(cursor: _Cursor) -> list[Item]:
    first = not cursor.before
    return [Item(word, "keyword", about) for word, about in describe.KEYWORDS.items() if first or word != "pzm"]


def _groups(cursor: _Cursor) -> list[Item]:
    return [Item(group, "group", describe.GROUPS.get(group, "")) for group in GROUPS]


def _sources(cursor: _Cursor) -> list[Item]:
    found = [Item(name, "library", f"the library `{name}`") for name in libraries()]
    return found + [Item(f'"{f.label}"', f.kind, f.doc) for f in _files(cursor.document)]


def _files(document: Document) -> list[Item]:
    """The files beside this one."""
    if document.path is None:
        return []
    try:
        beside = sorted(p.name for p in document.path.parent.glob("*.pzm") if p.name != document.path.name)
    except OSError:
        return []
    return [Item(name, "file", f"the file `{name}` beside this one") for name in beside]


def _imports(cursor: _Cursor) -> list[Item]:
    """What the library or file of a `use` defines and is not listed yet."""
    source = cursor.statement[1].text
    listed = {t.text for t in cursor.statement[2:]}
    return [item for item in _exported(cursor.document, source) if item.label not in listed]


def _exported(document: Document, source: str) -> list[Item]:
    used = document.used(source)
    return [_symbol(s, used) for s in describe.exported(used)] if used else []


def _members(cursor: _Cursor) -> list[Item]:
    """What may follow `X.` or `paper.`."""
    family = cursor.previous(2)
    leaves = [n.partition(".")[2] for n in LEAVES if n.startswith(f"{family}.")]
    if leaves:
        return [Item(member, "leaf", describe.leaf(f"{family}.{member}")) for member in leaves]
    symbol = cursor.known.get(family)
    return _exported(cursor.document, symbol.source) if symbol and symbol.kind == "library" else []


def _entries(cursor: _Cursor) -> list[Item]:
    return [Item(f"{name}:", "entry") for name in ENTRIES]


def _values(cursor: _Cursor) -> list[Item]:
    """Leaves, functions and the names in scope; axes where a function may take one."""
    own = [_symbol(s, cursor.document) for s in cursor.known.values() if _is_value(s)]
    taken = {item.label for item in own}
    leaves = [Item(n, "leaf", describe.leaf(n)) for n in map(short, LEAVES)]
    functions = [Item(n, "function", describe.function(n)) for n in FUNCTION_NAMES if n not in taken]
    return _axes(cursor) + own + leaves + functions


def _items(cursor: _Cursor) -> list[Item]:
    """What the entry of a space may list."""
    if _entry(cursor) == "tier":
        return [Item(tier, "group", describe.COSTS[tier]) for tier in TIERS]
    wanted = _LISTED.get(_entry(cursor))
    return [item for item in map(_as_listed, _values(cursor)) if wanted and wanted(item)]


def _as_listed(item: Item) -> Item:
    """A library is listed with all its functions."""
    return replace(item, label=f"{item.label}.*") if item.kind == "library" else item


_ELSEWHERE = {*ELEMENTWISE, *REDUCTIONS} - {name for name, f in ELEMENTWISE.items() if f.arity <= 2}
"""The functions of the language that are no operations of a space."""

_LISTED: dict[str, Callable[[Item], bool]] = {
    "leaves": lambda item: item.kind == "leaf",
    "ops": lambda item: item.kind in ("function", "library") and item.label not in _ELSEWHERE,
    "nesting": lambda item: item.kind == "function" and item.label in NESTED,
    "reductions": lambda item: item.label in REDUCTIONS and not REDUCTIONS[item.label].keeps,
}


def _is_value(s: Symbol) -> bool:
    return s.kind not in ("metric", "space")


def _axes(cursor: _Cursor) -> list[Item]:
    call = _open_call(cursor)
    if call is None or not call[1]:
        return []
    name, commas = call
    own = name.partition(".")[0] in cursor.known
    reduction = REDUCTIONS.get(name)
    if own or (reduction is not None and commas >= reduction.arity):
        return [Item(axis, "axis", describe.AXIS[axis]) for axis in AXES]
    return []


def _following(cursor: _Cursor) -> list[Item]:
    """What may follow a whole expression: its group, another arm, or a statement."""
    ungrouped = cursor.statement[0].text == "metric" and cursor.previous(2) != "per"
    items = [Item("per", "keyword", describe.WORDS["per"])] if ungrouped else []
    braces = [t.text for t in cursor.statement]
    if braces.count("{") > braces.count("}"):
        return [*items, Item("else", "keyword", describe.WORDS["else"])]
    return items + _keywords(cursor)


def _range(cursor: _Cursor) -> list[Item]:
    """What may follow in a `param`: behind its number a range, or a statement."""
    if cursor.statement[-1].kind != "number" or "[" in [t.text for t in cursor.statement]:
        return []
    return [Item("in", "keyword", describe.RANGE["in"]), *_keywords(cursor)]


_KINDS: dict[str, Kind] = {"fn": "function", "library": "library"}


def _symbol(s: Symbol, document: Document) -> Item:
    return Item(s.name, _KINDS.get(s.kind, "value"), describe.symbol(s, document))


# Where the cursor stands: the first place that fits decides


def _in_space(c: _Cursor) -> bool:
    return c.previous(len(c.statement)) == "space"


def _ends_value(c: _Cursor) -> bool:
    last = c.statement[-1]
    return last.text in (")", "]", "}") or (last.kind in ("name", "number", "string") and last.text not in RESERVED)


_Place = tuple[Callable[[_Cursor], bool], Callable[[_Cursor], Iterable[Item]]]
_PLACES: tuple[_Place, ...] = (
    (lambda c: not c.statement, _keywords),
    (lambda c: c.previous() == "use", _sources),
    (lambda c: c.previous() == "." and c.statement[0].text != "use", _members),
    (lambda c: c.statement[0].text == "use" and c.previous() in ("(", ",") and len(c.statement) > 2, _imports),
    (lambda c: c.previous() == "per" or (_in_space(c) and _entry(c) == "per" and c.previous() in (":", ",")), _groups),
    (lambda c: c.previous() in describe.KEYWORDS, lambda c: []),  # a name that is new, or the edition
    (lambda c: c.statement[0].text == "fn" and "=" not in [t.text for t in c.statement], lambda c: []),
    (lambda c: _in_space(c) and (c.previous() == "{" or _ends_value(c)) and c.previous() != "}", _entries),
    (lambda c: c.statement[0].text == "param" and c.previous() != "]", _range),
    (lambda c: _ends_value(c), _following),
    (_in_space, _items),
    (lambda c: c.previous() == "{" or (c.previous() == "," and not _open_call(c)), lambda c: []),  # a layer
    (lambda c: True, _values),
)


def _entry(c: _Cursor) -> str:
    """The entry of a space that the cursor stands in."""
    names = [a.text for a, b in zip(c.statement, c.statement[1:], strict=False) if b.text == ":"]
    return names[-1] if names else ""
