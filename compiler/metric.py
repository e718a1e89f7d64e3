"""A metric as a value: what `load` returns and everything else takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pzc.compiler.check import check
from pzc.compiler.core import Node, leaves_of, size
from pzc.compiler.leaves import ALIASES, LEAVES, TIERS, Tier, short
from pzc.compiler.rank import Keys, keys
from pzc.compiler.source import expression, to_syntax
from pzc.grammar import printer
from pzc.grammar.diagnostics import Diagnostic, SourceError
from pzc.grammar.parse import parse
from pzc.grammar.syntax import Edition, File, MetricDefinition, Span

if TYPE_CHECKING:
    from pzc.compiler.reference import Array


@dataclass(frozen=True)
class Metric:
    """A checked pruning metric: for each weight a score; the weights with the lowest scores are pruned.

    `core` is the graph that computes the score, `per` the comparison group, `params` the values its parameters
    were lowered with.
    """

    name: str
    core: Node
    per: str
    doc: str = ""
    params: tuple[tuple[str, float], ...] = ()

    @cached_property
    def leaves(self) -> frozenset[str]:
        """Full names of the statistics it reads, such as `W` and `X.l2`."""
        return leaves_of(self.core)

    @property
    def tier(self) -> Tier:
        """The dearest pass its statistics need."""
        return max((LEAVES[n].tier for n in self.leaves), key=TIERS.index, default="weights")

    @cached_property
    def formula(self) -> str:
        """The score as one line of `.pzm`, with `let`s written out and parameters as numbers."""
        return expression(self.core)

    @property
    def complexity(self) -> int:
        """Nodes in the formula."""
        return size(self.core)

    @property
    def source(self) -> str:
        """A complete `.pzm` file that defines this metric."""
        definition = MetricDefinition(self.name, to_syntax(self.core), self.per, self.doc)
        return printer.format_source(File((Edition("1", Span(0, 0)), definition)), "")

    @cached_property
    def keys(self) -> Keys:
        """What identifies the metric: exactly, as a real function, and by the ranking inside its groups."""
        return keys(self.core, self.per)

    def score(self, **leaves: Any) -> Any:
        """The scores of a layer's weights.

        Leaves are given by name, `W=…` of shape `[out, in]`, `X=…` of shape `[in]`, members of a family with an
        underscore: `X_mean=…`. torch tensors give a float32 tensor, anything else a float64 array, both of shape
        `[out, in]`. Where the metric is not defined a score is NaN or infinite; `pzc.prune` refuses those. Raises
        TypeError for a leaf that is missing or unknown, ValueError or PruningError for a wrong shape.
        """
        given = {_leaf_name(name): value for name, value in leaves.items()}
        missing = sorted(self.leaves - set(given))
        if missing:
            raise TypeError(f"the metric {self.name} needs {', '.join(map(short, missing))}")
        if any(type(v).__module__.startswith("torch") for v in given.values()):
            from pzc.runtime.scores import score

            return score(self.core, given, _layer_shape(given))
        return self.reference_score(**leaves)

    def reference_score(self, **leaves: Any) -> Array:
        """The scores by the reference evaluator in numpy float64; arguments as for `score`."""
        import numpy as np  # a checker that never scores must not wait for numpy

        from pzc.compiler.reference import evaluate

        given = {_leaf_name(name): np.asarray(value) for name, value in leaves.items()}
        scores: Array = np.broadcast_to(evaluate(self.core, given), _layer_shape(given))
        return scores


def _layer_shape(leaves: Mapping[str, Any]) -> tuple[int, int]:
    """`(out, in)` as far as the leaves tell; 1 for an axis that none of them has."""
    rows, columns = 1, 1
    for name, value in leaves.items():
        shape = tuple(getattr(value, "shape", ()))
        if len(LEAVES[name].axes) == 2 and len(shape) == 2:
            return shape[0], shape[1]
        if LEAVES[name].axes == ("in",) and shape:
            columns = shape[-1]
    return rows, columns


def _leaf_name(argument: str) -> str:
    name = argument.replace("_", ".", 1) if argument.split("_")[0] in ALIASES else argument
    full = ALIASES.get(name, name)
    if full not in LEAVES:
        raise TypeError(f"there is no leaf {argument}; there are {', '.join([*ALIASES, *LEAVES])}")
    return full


def compile_source(
    source: str, filename: str, settings: Mapping[str, float] | None = None
) -> tuple[list[Metric], list[Diagnostic]]:
    """The metrics of a source text and its warnings. Raises SourceError with every error there is."""
    file, problems = parse(source)
    checked, found = check(file, settings)
    diagnostics = sorted(problems + found, key=lambda d: d.primary.span.start)
    if any(d.severity == "error" for d in diagnostics):
        raise SourceError(diagnostics, source, filename)
    return [Metric(c.name, c.core, c.per, c.doc, c.params) for c in checked], diagnostics
