"""An arm of a metric: a score, its comparison group, and the layers it is for."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from pzc.compiler.core import Node


@dataclass(frozen=True)
class Arm:
    """The score `core` and the comparison group `per` of the layers whose names match one of the patterns `layers`;
    of all that are left where there are none."""

    core: Node
    per: str
    layers: tuple[str, ...] = ()

    def takes(self, layer: str) -> bool:
        """Whether the dotted name of a layer matches: as a whole, or from one of its dots on. `*` stands for any
        characters, `?` for one."""
        return not self.layers or any(matches(pattern, layer) for pattern in self.layers)


def matches(pattern: str, layer: str) -> bool:
    """Whether a pattern takes the dotted name of a layer: as a whole, or from one of its dots on."""
    parts = layer.split(".")
    plain = pattern.replace("[", "[[]")
    return any(fnmatchcase(".".join(parts[i:]), plain) for i in range(len(parts)))
