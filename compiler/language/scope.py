"""What a name can mean inside a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pzc.compiler.core import Node
from pzc.compiler.language.places import Places
from pzc.grammar.syntax import Expression, Span

Kind = Literal["let", "param", "fn", "parameter", "library", "metric", "space", "broken"]


@dataclass(frozen=True, eq=False)
class Function:
    """A function of a file: it is written out wherever it is called, and never calls itself.

    `scope` is what its file defines; of that it sees what comes before its own `order`. `home` is the file's name,
    `axes` are those of its parameters that stand where an axis belongs.
    """

    name: str
    parameters: tuple[str, ...]
    body: Expression = field(repr=False)
    scope: Mapping[str, Definition] = field(repr=False)
    home: str
    span: Span
    axes: frozenset[str]
    order: int

    @property
    def written(self) -> str:
        """A call with every argument: `share(x, axis)`."""
        return f"{self.name}({', '.join(self.parameters)})"


@dataclass
class Definition:
    """What a name stands for. `broken` is that of a statement with an error: its uses are not reported again.

    `node` is the value of a `let`, a `param` or a function's parameter, `axis` the axis that a parameter was given,
    `members` what a library holds, `reads` the names of the params that it depends on, `order` how many names its
    file defines before it, `places` where the parts of a `let` stand; `imported` says that another file defines it.
    """

    kind: Kind
    span: Span
    node: Node | None = None
    axis: str | None = None
    function: Function | None = None
    members: Mapping[str, Definition] = field(default_factory=dict)
    reads: frozenset[str] = frozenset()
    doc: str = ""
    places: Places | None = None
    order: int = 0
    imported: bool = False
    used: bool = False
