"""What the run was started with."""

from __future__ import annotations

from dataclasses import fields
from html import escape

from pzc.grammar.counting import count
from pzc.search.reading import Run
from pzc.search.report import html
from pzc.search.report.evolution import evolution
from pzc.search.report.numbers import duration
from pzc.search.report.sections.section import Section
from pzc.search.settings import Settings

TYPED = {"limit": "--time", "seeds": "--seed-metrics"}
"""Settings that the options of `pzc search` call by other names."""


def section(run: Run) -> Section:
    """What the run was started with."""
    last = evolution(run)[-1]
    settled, work = count(last.settled, "candidate"), duration(last.seconds)
    done = f"{settled} in {work} of work, {last.evaluations:,} of them measured."
    text = f"{done} Fitness is the {run.measure} of the pruned model on the search's windows; lower is better."
    kept = {**run.settings, "limit": f"{limit:g}s"} if (limit := run.settings.get("limit")) else run.settings
    rows = sorted([escape(typed(k)), html.element("code", escape(written(v)))] for k, v in kept.items())
    body = html.paragraph(text) + html.folded("Settings of the run", html.table(["setting", "value"], rows))
    return Section("settings", "About this run", body)


def typed(key: str) -> str:
    """A setting as the option that it is given by; what is no option, such as a hash, in words."""
    if key in {f.name for f in fields(Settings)}:
        return TYPED.get(key, f"--{key.replace('_', '-')}")
    return f"SHA-256 of the {key.removesuffix('_sha256').replace('_', ' ')}" if key.endswith("_sha256") else key


def written(value: object) -> str:
    """The value of a setting in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "–"
    return "–" if value is None else str(value)
