"""Identity before work: whether a candidate must, or very likely does, prune the same weights as an earlier one.

Four tests of growing reach and price: the same text, the same real function, the same ranking inside every comparison
group (all three proven by rewriting), and the same ranks on probe layers, which is evidence and is confirmed on fresh
probes before it is used. Masks are compared later, when they exist.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pzc.compiler.core import Node
from pzc.compiler.sameness.fingerprint import confirm, fingerprint
from pzc.compiler.sameness.keys import keys
from pzc.search.candidate import Candidate, Status

_BY_KEY: tuple[tuple[Status, str], ...] = (
    ("same text", "exact_key"),
    ("same value", "real_key"),
    ("same ranking", "rank_key"),
    ("same fingerprint", "fingerprint"),
)
"""How a candidate can repeat another, the cheapest test first, with the field that it compares. All but the last are
proofs."""


def identified(core: Node, per: str) -> dict[str, str]:
    """The keys of a score, as fields of a candidate."""
    found = keys(core, per)
    return {
        "exact_key": f"{per} {found.exact}",
        "real_key": f"{per} {found.real}",
        "rank_key": found.rank,
        "fingerprint": fingerprint(core, per) or "",
    }


@dataclass
class Identity:
    """The candidates that later ones may repeat, by key."""

    _known: dict[str, dict[str, int]] = field(default_factory=lambda: {name: {} for _, name in _BY_KEY})

    def repeats(self, new: Candidate, core: Node, core_of: Callable[[int], Node]) -> tuple[Status, int] | None:
        """How a candidate repeats an earlier one, and its number; None where it is new.

        `core_of` gives the score of an earlier candidate, with which an equal fingerprint is confirmed.
        """
        for status, name in _BY_KEY:
            key = getattr(new, name)
            number = self._known[name].get(key) if key else None
            if number is None:
                continue
            if name != "fingerprint" or confirm(core, core_of(number), new.per):
                return status, number
        return None

    def copy(self) -> Identity:
        """One that may learn of candidates that are only proposed."""
        return Identity({name: dict(numbers) for name, numbers in self._known.items()})

    def add(self, c: Candidate) -> None:
        """Let later candidates be recognised as repetitions of this one, or of the one that it repeats."""
        number = c.number if c.alias_of is None else c.alias_of
        for _, name in _BY_KEY:
            key = getattr(c, name)
            if key:
                self._known[name].setdefault(key, number)
