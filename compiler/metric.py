"""A metric as a value: what `load` returns and everything else takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pzc.compiler.arm import Arm as Arm
from pzc.compiler.core import Node, leaves_of, size
from pzc.compiler.language.check import check
from pzc.compiler.language.modules import Files
from pzc.compiler.language.spaces import SpaceSpec
from pzc.compiler.leaves import ALIASES, LEAVES, TIERS, Tier, short
from pzc.compiler.names import is_bare
from pzc.compiler.sameness.keys import Keys, keys, keys_of_arms
from pzc.compiler.source import expression, to_syntax
from pzc.grammar import printer
from pzc.grammar.diagnostics import Diagnostic, SourceError
from pzc.grammar.parse import parse
from pzc.grammar.syntax import ArmDefinition, Edition, File, Layer, MetricDefinition, RolesDefinition, Span

if TYPE_CHECKING:
    from pzc.compiler.reference import Array


@dataclass(frozen=True)
class Metric:
    """A checked pruning metric: for each weight a score; the weights with the lowest scores are pruned.

    `core` is the graph that computes the score, `per` the comparison group, `params` the values its parameters
    were lowered with. A metric by role has other scores for the layers of its `roles`, tried in their order.
    """

    name: str
    core: Node
    per: str
    doc: str = ""
    params: tuple[tuple[str, float], ...] = ()
    roles: tuple[Arm, ...] = ()

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Every score with the layers that it is for; the last takes all that are left."""
        return (*self.roles, Arm(self.core, self.per))

    def arm(self, layer: str) -> Arm:
        """The score for a layer, by the layer's dotted name in the model."""
        return next(arm for arm in self.arms if arm.takes(layer))

    @cached_property
    def leaves(self) -> frozenset[str]:
        """Full names of the statistics it reads, such as `W` and `X.l2`."""
        return frozenset().union(*(leaves_of(arm.core) for arm in self.arms))

    @property
    def tier(self) -> Tier:
        """The dearest pass its statistics need."""
        return max((LEAVES[n].tier for n in self.leaves), key=TIERS.index, default="weights")

    @cached_property
    def formula(self) -> str:
        """The score as one line of `.pzm`, with `let`s written out and parameters as numbers."""
        if not self.roles:
            return expression(self.core)
        return f"{{ {'  '.join(' '.join(part.split()) for part in printer.parts_of(self._roles()))} }}"

    @property
    def complexity(self) -> int:
        """Nodes in the formula."""
        return sum(size(arm.core) for arm in self.arms)

    @property
    def source(self) -> str:
        """A complete `.pzm` file that defines this metric."""
        whole = MetricDefinition(self.name, to_syntax(self.core), self.per, self.doc)
        definition = self._roles() if self.roles else whole
        return printer.format_source(File((Edition("1", Span(0, 0)), definition)), "")

    def _roles(self) -> RolesDefinition:
        arms = [
            ArmDefinition(tuple(Layer(t, not is_bare(t)) for t in a.layers), to_syntax(a.core), a.per)
            for a in self.arms
        ]
        return RolesDefinition(self.name, tuple(arms), self.doc)

    @cached_property
    def keys(self) -> Keys:
        """What identifies the metric: exactly, as a real function, and by the ranking inside its groups."""
        if not self.roles:
            return keys(self.core, self.per)
        return keys_of_arms([(a.layers, keys(a.core, a.per)) for a in self.arms])

    def score(self, *, layer: str = "", **leaves: Any) -> Any:
        """The scores of a layer's weights; `layer` is its dotted name, which a metric by role needs.

        Leaves are given by name, `W=…` of shape `[out, in]`, `X=…` of shape `[in]`, members of a family with an
        underscore: `X_mean=…`. torch tensors give a float32 tensor, anything else a float64 array, both of shape
        `[out, in]`. Where the metric is not defined a score is NaN or infinite; `pzc.prune` refuses those. Raises
        TypeError for a leaf that is missing or unknown, ValueError or PruningError for a wrong shape.
        """
        core = self._core(layer)
        given = {_leaf_name(name): value for name, value in leaves.items()}
        missing = sorted(leaves_of(core) - set(given))
        if missing:
            raise TypeError(f"the metric {self.name} needs {', '.join(map(short, missing))}")
        if any(type(v).__module__.startswith("torch") for v in given.values()):
            from pzc.runtime.scoring.scores import score

            return score(core, given, _layer_shape(given))
        return self.reference_score(layer=layer, **leaves)

    def reference_score(self, *, layer: str = "", **leaves: Any) -> Array:
        """The scores by the reference evaluator in numpy float64; arguments as for `score`."""
        import numpy as np  # a checker that never scores must not wait for numpy

        from pzc.compiler.reference import evaluate

        given = {_leaf_name(name): np.asarray(value) for name, value in leaves.items()}
        scores: Array = np.broadcast_to(evaluate(self._core(layer), given), _layer_shape(given))
        return scores

    def _core(self, layer: str) -> Node:
        if self.roles and not layer:
            raise TypeError(f"the metric {self.name} is by role: say which `layer` is scored")
        return self.arm(layer).core


def _layer_shape(leaves: Mapping[str, Any]) -> tuple[int, int]:
    """`(out, in)` as far as the leaves tell; 1 for an axis that none of them has."""
    rows, columns = 1, 1
    for name, value in leaves.items():
        shape = tuple(getattr(value, "shape", ()))
        if len(LEAVES[name].axes) == 2 and len(shape) == 2:
            return shape[0], shape[1]
        if LEAVES[name].axes == ("in",) and shape:
            columns = shape[-1]
        if LEAVES[name].axes == ("out",) and shape:
            rows = shape[0]
    return rows, columns


def _leaf_name(argument: str) -> str:
    for name in (argument, argument.replace("_", ".", 1)):
        full = ALIASES.get(name, name)
        if full in LEAVES:
            return full
    raise TypeError(f"there is no leaf {argument}; there are {', '.join([*ALIASES, *LEAVES])}")


@dataclass(frozen=True)
class Compiled:
    """What a source text without errors defines, and its warnings and notes."""

    metrics: tuple[Metric, ...]
    spaces: tuple[SpaceSpec, ...]
    diagnostics: tuple[Diagnostic, ...]


def compile_file(
    source: str,
    filename: str,
    settings: Mapping[str, float] | None = None,
    *,
    path: Path | None = None,
    analyse: bool = True,
) -> Compiled:
    """Everything that a source text defines. Raises SourceError with every error there is.

    `path` is the file that the text comes from, where there is one: it may use the files beside it. Without
    `analyse`, nothing is said about the values that a score can take.
    """
    file, problems = parse(source)
    checked = check(file, settings, files=Files.beside(path), home=filename, analyse=analyse)
    diagnostics = sorted([*problems, *checked.diagnostics], key=lambda d: d.primary.span.start)
    if any(d.severity == "error" for d in diagnostics):
        raise SourceError([d for d in diagnostics if d.severity != "note"], source, filename)  # first things first
    metrics = [Metric(c.name, c.arms[-1].core, c.arms[-1].per, c.doc, c.params, c.arms[:-1]) for c in checked.metrics]
    return Compiled(tuple(metrics), checked.spaces, tuple(diagnostics))


def compile_source(
    source: str, filename: str, settings: Mapping[str, float] | None = None, *, path: Path | None = None
) -> tuple[list[Metric], list[Diagnostic]]:
    """The metrics of a source text and its warnings and notes, as `compile_file`."""
    compiled = compile_file(source, filename, settings, path=path)
    return list(compiled.metrics), list(compiled.diagnostics)
