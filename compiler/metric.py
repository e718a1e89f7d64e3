"""A metric as a value: what `load` returns and everything else takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pzc.compiler.arguments import argument
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
    doc: str = field(default="", repr=False)
    params: tuple[tuple[str, float], ...] = ()
    roles: tuple[Arm, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or another process needs: no cached property, since some are numbered anew in every process."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

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
        underscore: `X_mean=…`. If any is a torch tensor the scores are a float32 tensor, else a float64 array, both of
        shape `[out, in]` and for reading only: a score that lacks an axis is a view. Where the metric is not defined a
        score is NaN or infinite; `pzc.prune` refuses those. Raises TypeError for a leaf that is missing or unknown,
        ValueError for a wrong shape.
        """
        core = self._core(layer)
        given = _by_name(leaves)
        missing = sorted(leaves_of(core) - set(given))
        if missing:
            raise TypeError(f"the metric {self.name} needs {', '.join(map(short, missing))}")
        if any(type(v).__module__.startswith("torch") for v in given.values()):
            from pzc.runtime.scoring.scores import score

            return score(core, given, _layer_shape(given))
        return self._reference(core, given)

    def reference_score(self, *, layer: str = "", **leaves: Any) -> Array:
        """The scores by the reference evaluator in numpy float64; arguments as for `score`, tensors too."""
        return self._reference(self._core(layer), _by_name(leaves))

    def _reference(self, core: Node, given: Mapping[str, Any]) -> Array:
        import numpy as np  # a checker that never scores must not wait for numpy

        from pzc.compiler.reference import evaluate

        arrays = {n: v.detach().cpu().double().numpy() if hasattr(v, "detach") else v for n, v in given.items()}
        shape = _layer_shape(given)
        scores: Array = np.broadcast_to(evaluate(core, arrays), shape)
        return scores

    def _core(self, layer: str) -> Node:
        if self.roles and not layer:
            raise TypeError(f"the metric {self.name} is by role: say which `layer` is scored")
        return self.arm(layer).core


def _by_name(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves by their full names, as arrays or tensors. Raises TypeError for a leaf that there is not, or twice."""
    import numpy as np

    found: dict[str, Any] = {}
    for name, value in leaves.items():
        full = next((n for n in LEAVES if name in (argument(n), n, n.replace(".", "_"))), None)
        if full is None:
            raise TypeError(f"there is no leaf {name}; there are {', '.join([*ALIASES, *LEAVES])}")
        if full in found:
            raise TypeError(f"the leaf {short(full)} is given twice")
        found[full] = value if hasattr(value, "detach") else np.asarray(value, dtype=np.float64)
    return found


def _layer_shape(leaves: Mapping[str, Any]) -> tuple[int, int]:
    """`(out, in)` as far as the leaves tell; 1 for an axis that none of them has.

    Raises ValueError for leaves that are not of one layer.
    """
    sizes: dict[str, int] = {}
    for name, value in leaves.items():
        axes, shape = LEAVES[name].axes, tuple(value.shape)
        if len(shape) != len(axes) or 0 in shape:
            wanted = f"[{', '.join(axes)}]" if axes else "a single number"
            raise ValueError(f"`{short(name)}` has shape {list(shape)}; it takes {wanted}")
        for axis, n in zip(axes, shape, strict=True):
            if sizes.setdefault(axis, n) != n:
                others = f"`{axis}` is {sizes[axis]} in the other leaves"
                raise ValueError(f"`{short(name)}` has shape {list(shape)}, but {others}")
    return sizes.get("out", 1), sizes.get("in", 1)


@dataclass(frozen=True)
class Compiled:
    """What a source text without errors defines, and its warnings and notes."""

    metrics: tuple[Metric, ...]
    spaces: tuple[SpaceSpec, ...]
    diagnostics: tuple[Diagnostic, ...]


def compile_source(
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
