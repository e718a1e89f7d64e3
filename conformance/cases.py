"""Read the suite: the files `*.json` beside this one, each a list of cases. docs/conformance.md describes a case."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from pzc.compiler import ir
from pzc.compiler.metric import Metric, compile_source
from pzc.grammar.diagnostics import Diagnostic, SourceError

Values = npt.NDArray[np.float64]

WORDS = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}
"""How a case writes what JSON has no number for."""


@dataclass(frozen=True)
class Layer:
    """One layer of a case: its name, what is known of it, and the scores `[out, in]` that must come, if given."""

    name: str
    inputs: dict[str, Values]
    scores: Values | None

    @property
    def shape(self) -> tuple[int, int]:
        """`(out, in)`, by the first input that is a matrix."""
        return next((v.shape[0], v.shape[1]) for v in self.inputs.values() if v.ndim == 2)


@dataclass(frozen=True)
class Case:
    """A case as it is written, with the file it is from."""

    topic: str
    content: dict[str, Any]

    @property
    def description(self) -> str:
        """What it is about, in words."""
        return str(self.content["description"])

    @property
    def expect(self) -> dict[str, Any]:
        """What must come of it."""
        expect: dict[str, Any] = self.content["expect"]
        return expect

    @cached_property
    def layers(self) -> list[Layer]:
        """Its layers: one, where it has `inputs`; none, where it is about sources or documents alone."""
        if "layers" in self.content:
            scores = self.expect.get("scores") or [None] * len(self.content["layers"])
            return [_layer(x["name"], x["inputs"], s) for x, s in zip(self.content["layers"], scores, strict=True)]
        if "inputs" in self.content:
            return [_layer(self.content.get("layer", ""), self.content["inputs"], self.expect.get("scores"))]
        return []

    @cached_property
    def compiled(self) -> tuple[Sequence[Metric], Sequence[Diagnostic]]:
        """The metrics of its source, and what there is to say about the source."""
        with TemporaryDirectory() as folder:
            path = Path(folder, "case.pzm")
            for name, text in self.content.get("files", {}).items():
                (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
                (path.parent / name).write_text(text, encoding="utf-8")
            try:
                found = compile_source(self.content["source"], path.name, self.content.get("set"), path=path)
                return found.metrics, found.diagnostics
            except SourceError as error:
                return (), error.diagnostics

    @cached_property
    def metric(self) -> Metric | None:
        """The metric it is about; None where its source has errors."""
        metrics, _ = self.compiled
        return next((m for m in metrics if m.name == self.content.get("metric", m.name)), None)


def _layer(name: str, inputs: dict[str, Any], scores: Any) -> Layer:
    return Layer(name, {k: values(v) for k, v in inputs.items()}, None if scores is None else values(scores))


def values(written: Any) -> Values:
    """Nested lists of numbers and words as an array."""
    return np.array(_numbers(written), dtype=np.float64)


def _numbers(written: Any) -> Any:
    return [_numbers(x) for x in written] if isinstance(written, list) else WORDS.get(written, written)


def suite() -> list[Case]:
    """Every case, by topic."""
    files = sorted(
        (f for f in resources.files(__package__).iterdir() if f.name.endswith(".json")), key=lambda f: f.name
    )
    topics = ((f.name.removesuffix(".json"), json.loads(f.read_text(encoding="utf-8"))) for f in files)
    return [Case(topic, content) for topic, cases in topics for content in cases]


def exported(cases: list[Case]) -> list[dict[str, Any]]:
    """The cases with their topics, and with the document of each metric as `ir`, for an implementation that reads
    documents, not sources."""
    rows = []
    for case in cases:
        metric = case.metric if case.layers else None
        rows.append({"topic": case.topic} | case.content | ({"ir": ir.emit(metric)} if metric else {}))
    return rows
