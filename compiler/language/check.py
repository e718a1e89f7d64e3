"""Check the statements of a file in their order: names defined, metrics lowered, every error collected.

A name is known from the statement after it. What has an error defines its name all the same, so that one mistake is
reported once.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from pzc.compiler.arm import Arm
from pzc.compiler.core import Node, number, size
from pzc.compiler.groups import GROUPS, why_constant
from pzc.compiler.language.findings import findings
from pzc.compiler.language.lower import Lowering, TooManyErrors
from pzc.compiler.language.modules import Files, Module, UseError, library
from pzc.compiler.language.parameters import axis_parameters
from pzc.compiler.language.places import Places
from pzc.compiler.language.scope import Definition, Function, Kind
from pzc.compiler.language.spaces import SpaceSpec, check_space
from pzc.compiler.limits import MAX_SHOWN
from pzc.compiler.names import is_name, taken
from pzc.compiler.rewriting.canonical import canonical
from pzc.compiler.rewriting.plain import plain
from pzc.compiler.source import expression
from pzc.grammar.diagnostics import CODES, Diagnostic, Label, did_you_mean, some
from pzc.grammar.parse import parse
from pzc.grammar.syntax import (
    ArmDefinition,
    Edition,
    Expression,
    File,
    Fn,
    Let,
    MetricDefinition,
    Name,
    Param,
    RolesDefinition,
    SpaceDefinition,
    Span,
    Use,
)
from pzc.grammar.words import BLANKS, RESERVED

EDITION = 1
"""The newest edition this compiler reads."""


@dataclass(frozen=True)
class Checked:
    """A metric whose names are resolved: its arms, the last one for all layers that are left, and the parameters that
    it reads with the values it was lowered with."""

    name: str
    arms: tuple[Arm, ...]
    doc: str
    params: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class CheckedFile:
    """What a file without errors defines, and everything there is to say about it."""

    metrics: tuple[Checked, ...]
    spaces: tuple[SpaceSpec, ...]
    module: Module
    diagnostics: tuple[Diagnostic, ...]


def check(
    file: File,
    settings: Mapping[str, float] | None = None,
    *,
    files: Files | None = None,
    home: str = "",
    analyse: bool = True,
) -> CheckedFile:
    """Every metric and space without an error, and everything there is to say about the file.

    `settings` replaces the defaults of parameters by name, `files` says what the file may use, `home` is its name.
    Without `analyse`, nothing is said about the values that a score can take.
    """
    checker = _Checker(settings or {}, files or Files(), home, analyse)
    checker.file(file)
    module = Module(
        {n: d for n, d in checker.scope.items() if d.kind in ("fn", "let") and not d.imported},
        {n: d.kind for n, d in checker.scope.items() if not d.imported},
    )
    return CheckedFile(tuple(checker.metrics), tuple(checker.spaces), module, tuple(checker.lowering.diagnostics))


def _check_text(source: str, name: str, files: Files) -> tuple[Module, list[Diagnostic]]:
    """A file that another one uses."""
    file, problems = parse(source)
    checked = check(file, files=files, home=name)
    return checked.module, [*problems, *checked.diagnostics]


class _Checker:
    def __init__(self, settings: Mapping[str, float], files: Files, home: str, analyse: bool) -> None:
        self.settings = settings
        self.analyse = analyse
        self.files = files
        self.home = home
        self.scope: dict[str, Definition] = {}
        self.order = 0
        self.lowering = Lowering(self.scope, home, files.spent)
        self.report = self.lowering.report
        self.metrics: list[Checked] = []
        self.spaces: list[SpaceSpec] = []
        self.given: dict[str, float] = {}
        self.said: set[tuple[str, Span]] = set()

    def file(self, file: File) -> None:
        """Everything there is to say, or as much as is reported."""
        with suppress(TooManyErrors):
            self._statements(file)

    def _statements(self, file: File) -> None:
        if "pzm" not in file.broken:
            self._edition(file)
        self.scope.update({name: Definition("broken", Span()) for name in file.broken if name})
        self.lowering.names.later = {s.name for s in file.statements if isinstance(s, Let | Param | Fn)}
        self.lowering.names.later |= {n.text for s in file.statements if isinstance(s, Use) for n in s.names}
        for s in file.statements:
            if self.files.spent.told:
                return
            self.lowering.names.defining = s.name if isinstance(s, Let | MetricDefinition | RolesDefinition) else ""
            match s:
                case Use():
                    self._use(s)
                case Let():
                    node = self.lowering.value(s.value)
                    self._define(s.name, s.name_span, "let", node, doc=s.doc, places=self.lowering.places)
                case Fn():
                    self._fn(s)
                case Param():
                    self._param(s)
                case MetricDefinition():
                    self._metric(s)
                case RolesDefinition():
                    self._roles(s)
                case SpaceDefinition():
                    self._space(s)
            self.lowering.names.defining = ""
            if isinstance(s, Let | Param | Fn):
                self.lowering.names.later.discard(s.name)
            elif isinstance(s, Use):
                self.lowering.names.later -= {n.text for n in s.names}
        if not file.broken and not any(d.severity == "error" for d in self.lowering.diagnostics):
            self._unused(file)  # what a part with an error would use is not known

    def _unused(self, file: File) -> None:
        """Warn of what nothing uses; a file that defines functions and no metric is there to be used by others."""
        ends = [s for s in file.statements if isinstance(s, MetricDefinition | RolesDefinition | SpaceDefinition)]
        if not ends and any(isinstance(s, Fn) for s in file.statements):
            return
        if file.statements and not ends:
            self.report("PZ0402", "this file defines no metric", file.statements[-1].span)
            return
        for name, d in self.scope.items():
            if d.kind in ("let", "param", "fn", "library") and not d.used:
                self.report("PZ0401", f"`{name}` is never used", d.span)

    def _edition(self, file: File) -> None:
        stated = [s for s in file.statements if isinstance(s, Edition)]
        begin = f"begin with `pzm {EDITION}`"
        if not stated and not file.statements and not file.broken:
            self.report("PZ0106", "there is no metric here: this file has no statements", Span(), help=begin)
        elif not stated:
            at = file.statements[0].span if file.statements else Span()
            self.report("PZ0106", "a file begins with the edition it is written in", at, help=begin)
        elif stated[0].number != str(EDITION):
            message = f"edition {stated[0].number} is not known; this pzc reads edition {EDITION}"
            self.report("PZ0106", message, stated[0].span)
        for s in stated if stated and stated[0] is not file.statements[0] else stated[1:]:
            self.report("PZ0106", "the edition is stated once, at the top of the file", s.span)

    # What defines names

    def _define(
        self,
        name: str,
        span: Span,
        kind: Kind,
        node: Node | None = None,
        *,
        doc: str = "",
        function: Function | None = None,
        places: Places | None = None,
    ) -> Definition | None:
        """Give a name its meaning, unless it is taken."""
        reads = frozenset(self.lowering.reading)
        definition = Definition(kind, span, node, function=function, reads=reads, doc=doc, places=places)
        return self._bind(name, span, definition)

    def _bind(
        self, name: str, span: Span, definition: Definition, hint: str = "choose another name"
    ) -> Definition | None:
        has = taken(name)
        before = self.scope.get(name)
        definition.order = self.order
        self.order += 1
        if has == "a leaf" or (has and definition.function is None and definition.kind != "broken"):
            self.report("PZ0204", f"`{name}` is the name of {has}", span, help=hint)
            self.scope[name] = Definition("broken", span)
        elif before is not None and before.kind != "broken":
            first = Label(before.span, "first defined here")
            self.report("PZ0204", f"`{name}` is defined twice", span, "again here", also=(first,))
        else:
            self.scope[name] = definition
            return definition
        return None

    def _use(self, use: Use) -> None:
        try:
            module = self.files.file(use.source, _check_text) if use.quoted else library(use.source, _check_text)
        except UseError as error:
            self.report(error.code, error.message, use.source_span, help=error.help)
            for name in use.names or [_prefix(use)]:
                self.scope.setdefault(name.text, Definition("broken", name.span))
            return
        if not use.names:
            prefix = _prefix(use)
            hint = f'list the names that you need: `use "{use.source}" (…)`'
            if is_name(prefix.text) and prefix.text not in RESERVED:
                definition = Definition("library", prefix.span, members=module.exports)
                self._bind(prefix.text, prefix.span, definition, hint)
            else:
                message = f"`{prefix.text}` cannot stand before the names of this file"
                self.report("PZ0501", message, prefix.span, help=hint)
        for name in use.names:
            self._take(name.text, name.span, module, use.source)

    def _take(self, name: str, span: Span, module: Module, source: str) -> None:
        """Bring one name of another file into this one."""
        found = module.exports.get(name)
        if found is None:
            kind = module.others.get(name)
            hint = did_you_mean(name, module.exports) or "it defines " + some([f"`{n}`" for n in module.exports])
            message = f"`{source}` defines no `{name}`"
            if kind is not None:
                message, hint = f"`{name}` is a {kind} of `{source}`", "functions and lets can be used"
            self.report("PZ0506", message, span, help=hint)
            found = Definition("broken", span)
        own = Definition(found.kind, span, found.node, function=found.function, doc=found.doc, imported=True)
        self._bind(name, span, own)

    def _fn(self, fn: Fn) -> None:
        names: list[str] = []
        self.lowering.reading = set()
        for p in fn.parameters:
            if taken(p.text):
                self.report("PZ0204", f"`{p.text}` is the name of {taken(p.text)}", p.span, help="choose another name")
            elif p.text in names:
                self.report("PZ0204", f"`{p.text}` is given twice to `{fn.name}`", p.span)
            else:
                names.append(p.text)
        function: Function | None = None
        if len(names) == len(fn.parameters):
            axes = axis_parameters(tuple(names), fn.value, self.scope)
            function = Function(fn.name, tuple(names), fn.value, self.scope, self.home, fn.name_span, axes, self.order)
            used = self.lowering.attempt(function)
            if used is None:
                function = None
            for p in fn.parameters:
                if used is not None and p.text not in used:
                    self.report("PZ0401", f"`{p.text}` is never used in `{fn.name}`", p.span)
        kind: Kind = "fn" if function else "broken"
        self._define(fn.name, fn.name_span, kind, function=function, doc=fn.doc)

    def _param(self, p: Param) -> None:
        set_here = p.name in self.settings
        default = float(self.settings[p.name] if set_here else p.default)
        low, high = float(p.low or "-inf"), float(p.high or "inf")
        node = None
        self.lowering.reading = {p.name}
        for text, value in ((p.low, low), (p.high, high)):
            if text is not None:
                self.lowering.fits(text, value, p.name_span)
        if self.lowering.fits(f"{default:g}" if set_here else p.default, default, p.name_span):
            node = number(default)
            if low > high:
                self.report("PZ0207", f"the range [{p.low}, {p.high}] is empty", p.name_span)
            elif not low <= default <= high:
                self.report("PZ0207", f"`{p.name}` = {default:g} is not in its range [{p.low}, {p.high}]", p.name_span)
        if self._define(p.name, p.name_span, "param", node, doc=p.doc):
            self.given[p.name] = default

    # Metrics and spaces

    def _metric(self, m: MetricDefinition) -> None:
        arm = self._arm(m.name, m.value, m.per, m.per_span, ())
        self._define(m.name, m.name_span, "metric")
        if arm is not None:
            self._add(m.name, (arm,), m.doc)

    def _roles(self, m: RolesDefinition) -> None:
        arms: list[Arm | None] = []
        reading: set[str] = set()
        for a in m.arms:
            arms.append(self._arm(m.name, a.value, a.per, a.per_span, tuple(x.text for x in a.layers)))
            reading |= self.lowering.reading
        sound = self._roles_fit(m.arms)
        self.lowering.reading = reading
        self._define(m.name, m.name_span, "metric")
        whole = tuple(arm for arm in arms if arm is not None)
        if sound and len(whole) == len(arms):
            self._add(m.name, whole, m.doc)

    def _roles_fit(self, arms: tuple[ArmDefinition, ...]) -> bool:
        """Whether every layer finds an arm and every arm can find a layer."""
        *before, last = arms
        seen: set[str] = set()
        blank = False
        misplaced = next((a for a in before if not a.layers), None)
        if misplaced is not None:
            self.report("PZ0108", "`else` takes all layers that are left, so it is the last arm", misplaced.span)
        elif last.layers:
            hint = "add `else: …` with the score of all other layers; `--include` leaves layers dense"
            self.report("PZ0108", "not every layer has an arm", last.span, help=hint)
        for layer in (x for a in arms for x in a.layers):
            if not layer.text.strip(BLANKS):
                blank = True
                self.report("PZ0108", "this text matches no layer", layer.span)
            elif layer.text in seen:
                self.report("PZ0401", f"`{layer.text}` is never used: an arm above takes it", layer.span)
            seen.add(layer.text)
        return misplaced is None and not last.layers and not blank

    def _add(self, name: str, arms: tuple[Arm, ...], doc: str) -> None:
        params = tuple((n, value) for n, value in self.given.items() if n in self.lowering.reading)
        self.metrics.append(Checked(name, arms, doc, params))

    def _space(self, s: SpaceDefinition) -> None:
        self.lowering.reading = set()
        space = check_space(s, self.lowering)
        self._define(s.name, s.name_span, "space")
        if space is not None:
            self.spaces.append(space)

    def _arm(
        self, metric: str, value: Expression, per: str | None, per_span: Span, layers: tuple[str, ...]
    ) -> Arm | None:
        node = self.lowering.value(value)
        group = per or "row"
        if group not in GROUPS:
            hint = did_you_mean(group, GROUPS) or "the groups are " + ", ".join(f"`{g}`" for g in GROUPS)
            self.report("PZ0205", f"there is no comparison group `{group}`", per_span, help=hint)
            return None
        if node is None:
            return None
        sound = self._sound(node, group, value.span) and self._ranks(metric, node, group, value.span)
        return Arm(node, group, layers) if sound else None

    def _sound(self, node: Node, per: str, at: Span) -> bool:
        """Whether a score is defined somewhere; what may go wrong with its values is said once, where it stands."""
        sound = True
        if not self.analyse:
            return sound
        found_here = findings(node, per)
        places = self.lowering.places.all() if found_here else {}
        for found in found_here:
            span = at if found.node is node else places.get(found.node, at)
            if (found.code, span) not in self.said:
                self.said.add((found.code, span))
                self.report(found.code, found.message, span, found.label, help=found.help)
            sound = sound and CODES[found.code][0] != "error"
        return sound

    def _ranks(self, metric: str, node: Node, per: str, at: Span) -> bool:
        """Whether a score can rank the weights inside its groups."""
        reason, simplified = why_constant(node, per), ""
        if reason is None:
            form = canonical(node)
            reason = why_constant(form, per)
            if reason:
                written = f"`{expression(plain(form))}`, which" if size(form) <= MAX_SHOWN else "a score that"
                simplified = f"simplifies to {written} "
        if reason:
            message = f"the score of `{metric}` is constant inside its group"
            self.report("PZ0301", message, at, simplified + reason[0], help=reason[1])
        return reason is None


def _prefix(use: Use) -> Name:
    """What stands before the names of a library or file that is used whole: its own name."""
    stem = use.source.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".pzm")
    return Name(stem, use.source_span)
