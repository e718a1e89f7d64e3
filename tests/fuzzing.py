"""What must hold for any input at all: the properties that tests/test_fuzz.py and scripts/fuzz.py try to break.

Each takes hostile input and fails by an AssertionError, or by whatever exception the code under test lets through.
"""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from pzc.cli import console
from pzc.cli.metrics import reports, sarif
from pzc.compiler import ir
from pzc.compiler.leaves import LEAVES
from pzc.compiler.metric import Compiled, Metric, compile_source
from pzc.compiler.paper.export import export_paper_tree
from pzc.compiler.paper.trees import TreeError, import_paper_tree, read_tree, source_of_tree
from pzc.compiler.targets import torch as to_torch
from pzc.grammar.diagnostics import CODES, Diagnostic, SourceError
from pzc.grammar.parse import parse
from pzc.grammar.printer import format_source
from pzc.grammar.render import render

HANG = 20
"""Seconds of work after which an input counts as one that hangs the checker; a sound one takes milliseconds."""

NAME = "fuzz.pzm"


class Hang(AssertionError):
    """Something took longer than any input may."""


@contextmanager
def watchdog(seconds: int = HANG) -> Iterator[None]:
    """Fail what takes longer."""

    def bark(*_: object) -> None:
        raise Hang(f"no answer after {seconds} seconds of work")

    before = signal.signal(signal.SIGPROF, bark)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


# Source texts


def examine(source: str, path: Path | None = None) -> Compiled | None:
    """Check a text and everything that follows from it. None where it has errors."""
    with watchdog():
        try:
            compiled = compile_source(source, NAME, path=path)
        except SourceError as error:
            assert any(d.severity == "error" for d in error.diagnostics)
            examine_diagnostics(error.diagnostics, source)
            _formats(source)
            return None
        assert all(d.severity != "error" for d in compiled.diagnostics)
        examine_diagnostics(compiled.diagnostics, source)
        assert _formats(source, path) == _meaning(compiled)
        for metric in compiled.metrics:
            examine_metric(metric)
        return compiled


def examine_diagnostics(diagnostics: Iterable[Diagnostic], source: str) -> None:
    """Known codes, places inside the text, and every way to show them."""
    diagnostics = tuple(diagnostics)
    for d in diagnostics:
        assert d.code in CODES
        assert d.message
        for label in (d.primary, *d.secondary):
            assert 0 <= label.span.start <= label.span.end <= len(source), d
        assert render(d, source, NAME).startswith(f"{d.severity}[{d.code}]")
    report = reports.Report(NAME, source, found=diagnostics)
    with console.output.capture() as shown:
        reports.github([report], quiet=True)
    assert len(shown.get().splitlines()) == len(diagnostics)
    json.dumps(sarif.log([report])).encode()
    json.dumps([reports._row(d, source) for d in diagnostics]).encode()


def _meaning(compiled: Compiled) -> list[Any]:
    """What a text defines, without its layout and its names for parts."""
    metrics = [(m.name, m.arms, m.params) for m in compiled.metrics]
    spaces = [
        (
            s.name,
            s.leaves,
            [(op.name, w) for op, w in (*s.ops, *s.reductions)],
            s.exponents,
            s.depth,
            s.size,
            s.nesting,
            s.tier,
            s.per,
        )
        for s in compiled.spaces
    ]
    return [*metrics, *spaces]


def examine_syntax(source: str) -> None:
    """Parse a text, show what is wrong with it, and format it."""
    with watchdog():
        _, problems = parse(source)
        examine_diagnostics(problems, source)
        _formats(source)


def _formats(source: str, path: Path | None = None) -> list[Any]:
    """What the text in its canonical layout defines. A text with syntax errors is not formatted."""
    file, problems = parse(source)
    if problems:
        return []
    formatted = format_source(file, source)
    again, problems = parse(formatted)
    assert not problems
    assert again == file
    assert format_source(again, formatted) == formatted
    with suppress(SourceError):
        return _meaning(compile_source(formatted, NAME, path=path))
    return []


def examine_metric(metric: Metric) -> None:
    """Keys, source, document, torch module and scores of a metric, each of which must say the same metric again."""
    again = compile_source(metric.source, NAME)
    assert [(m.name, m.arms) for m in again.metrics] == [(metric.name, metric.arms)]
    assert again.metrics[0].keys == metric.keys
    assert ir.parse(ir.emit(metric)).arms == metric.arms
    module = to_torch.emit(metric, "0")
    compile(module, "module.py", "exec")
    with suppress(TreeError):
        tree = export_paper_tree(metric)
        assert read_tree(json.dumps(tree)) == tree
    for shape in ((3, 4), (1, 1)):
        scores = metric.reference_score(layer="model.layers.0.mlp.up_proj", **layer(shape))
        assert scores.shape == shape or not any(len(LEAVES[n].axes) == 2 for n in metric.leaves)


def layer(shape: tuple[int, int], seed: int = 0) -> dict[str, Any]:
    """A value for every leaf, with zeros among them."""
    rng = np.random.default_rng(seed)
    sizes = {"out": shape[0], "in": shape[1]}
    values: dict[str, Any] = {}
    for leaf in LEAVES.values():
        value = rng.normal(size=[sizes[a] for a in leaf.axes])
        value = value if leaf.signed else np.abs(value) + leaf.positive
        values[leaf.name.replace(".", "_")] = value * (rng.uniform(size=np.shape(value)) > 0.2) if leaf.axes else value
    return values


# Documents


def examine_tree(text: str) -> None:
    """A JSON text that may be a tree of Pruner-Zero's release: TreeError or SourceError, and nothing else."""
    with watchdog(), suppress(TreeError, SourceError):
        tree = read_tree(text)
        source = source_of_tree(tree)
        examine(source)
        import_paper_tree(tree)


def examine_document(text: str) -> Metric | None:
    """A text that may be a `pzm-ir/1` document: InvalidDocument, or a metric whose own document says the same."""
    with watchdog():
        try:
            metric = ir.parse(text)
        except ir.InvalidDocument as error:
            assert str(error)
            str(error).encode()
            return None
        emitted = ir.emit(metric)
        assert ir.emit(ir.parse(emitted)) == emitted
        assert ir.parse(emitted) == metric
        io.BytesIO(emitted.encode())
        return metric
