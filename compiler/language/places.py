"""Where in its file each part of an expression stands, for what is said about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from pzc.compiler.core import Node
from pzc.grammar.syntax import Span


@dataclass(frozen=True, eq=False)
class Places:
    """The nodes that one expression writes, each with its first place there, and the places of the `let`s it reads.

    What a function writes stands at the call that is written out.
    """

    written: dict[Node, Span] = field(default_factory=dict)
    lets: dict[Places, None] = field(default_factory=dict)

    def all(self) -> dict[Node, Span]:
        """The place of every node: in the expression itself, else in the nearest `let` that writes it."""
        found: dict[Node, Span] = {}
        nearest = dict.fromkeys((self,))
        waiting = [self]
        for places in waiting:
            found = places.written | found
            more = [p for p in places.lets if p not in nearest]
            nearest |= dict.fromkeys(more)
            waiting += more
        return found
