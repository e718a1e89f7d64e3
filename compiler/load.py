"""Find the metric that a person names: in the zoo, in a file, or written out on the spot."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path

from pzc.compiler.language.modules import libraries, library_source
from pzc.compiler.metric import Metric, compile_source
from pzc.compiler.names import is_leaf
from pzc.grammar.diagnostics import SourceError, did_you_mean
from pzc.grammar.parse import parse, without_mark
from pzc.grammar.syntax import Fn, Let, MetricDefinition, Param, RolesDefinition


class MetricNotFound(Exception):
    """A reference that is no zoo metric, no readable file and no expression; the message says which."""


def read_file(path: Path) -> str:
    """The text of a `.pzm` file. Raises MetricNotFound when there is none or it is not UTF-8 text."""
    try:
        return without_mark(path.read_text(encoding="utf-8"))  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        raise MetricNotFound(f"{path} is not UTF-8 text (byte {error.start})") from error
    except ValueError as error:  # a name that no file can have
        raise MetricNotFound(f"cannot read {str(path)!r}: {error}") from error
    except OSError as error:
        raise MetricNotFound(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error


def zoo() -> dict[str, Metric]:
    """Every published metric of the zoo by name, in the order of their names."""
    files = sorted(f.name for f in resources.files("pzc.metrics").iterdir() if f.name.endswith(".pzm"))
    return {name: zoo_metric(name) for name in (f.removesuffix(".pzm") for f in files)}


@cache
def packaged_names() -> frozenset[str]:
    """The names that the sources of the zoo and the libraries define, and the libraries' own."""
    sources = (*map(zoo_source, zoo_names()), *map(library_source, libraries()))
    statements = [s for source in sources for s in parse(source)[0].statements]
    named = {s.name for s in statements if isinstance(s, Let | Param | Fn | MetricDefinition | RolesDefinition)}
    parameters = {p.text for s in statements if isinstance(s, Fn) for p in s.parameters}
    return frozenset(named | parameters | set(libraries()))


def zoo_names() -> list[str]:
    """The names of the zoo's metrics."""
    entries = resources.files("pzc.metrics").iterdir()
    return sorted(f.name.removesuffix(".pzm") for f in entries if f.name.endswith(".pzm"))


ELSEWHERE = {
    "wanda_sp": "flap_wifn",
    "wifv": "flap",
    "ifv": "flap_ifv",
    "wifn": "flap_wifn",
    "l_obs": "obs",
    "billm": "sparsegpt",
    "stade*": "wanda_variance",
    "stade_star": "wanda_variance",
    "param_first": "snip",
    "param_second": "fisher",
    "param_mix": "llm_pruner",
}
"""Names under which scores of the zoo are published elsewhere, in small letters."""


def did_you_mean_metric(name: str) -> str | None:
    """The metric of the zoo that a name may mean, as a question, or None when none is close."""
    known = ELSEWHERE.get(name.lower().replace("-", "_"))
    return f"did you mean `{known}`?" if known else did_you_mean(name, zoo_names())


def zoo_source(name: str) -> str:
    """The `.pzm` source of a zoo metric."""
    return resources.files("pzc.metrics").joinpath(f"{name}.pzm").read_text(encoding="utf-8")


def zoo_metric(name: str, settings: Mapping[str, float] | None = None) -> Metric:
    """One metric of the zoo."""
    return compile_source(zoo_source(name), f"{name}.pzm", settings).metrics[0]


def load(reference: str | os.PathLike[str], settings: Mapping[str, float] | None = None) -> Metric:
    """The metric that a command line means by `reference`.

    A zoo name (`wanda`), a file that defines one metric (`my.pzm`), one metric of a file (`my.pzm:best`), or an
    expression (`'abs(W) * X ^ 0.5 per row'`). `settings` replaces defaults of its parameters.

    Raises MetricNotFound, or SourceError when the source has errors.
    """
    text = os.fspath(reference).strip()
    path, name = file_and_name(text)
    if text in zoo_names():
        return _with_settings(zoo_source(text), f"{text}.pzm", "", settings)
    if path.endswith(".pzm") or _is_file(text):
        return _with_settings(read_file(Path(path)), path, name, settings, Path(path))
    if text.isidentifier() and not is_leaf(text):
        hint = did_you_mean_metric(text)
        raise MetricNotFound(f"there is no metric `{text}` in the zoo" + (f"; {hint}" if hint else ""))
    if settings:
        raise MetricNotFound(f"an expression has no parameter `{min(settings)}`; write the number into it")
    return inline(text)


def load_all(reference: str) -> list[Metric]:
    """The metric that `load` finds, or all metrics of a file that is named alone."""
    path, name = file_and_name(reference.strip())
    if path.endswith(".pzm") and not name:
        return list(compile_source(read_file(Path(path)), path, path=Path(path)).metrics)
    return [load(reference)]


def file_and_name(text: str) -> tuple[str, str]:
    """The file and the metric of `FILE:NAME`, which may have other colons; the metric is empty where none is named."""
    path, colon, name = text.rpartition(":")
    return (path, name) if colon and not _is_file(text) else (text, "")


def _is_file(text: str) -> bool:
    """Whether a file has this name; an expression may be longer than any name."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _with_settings(
    source: str, filename: str, name: str, settings: Mapping[str, float] | None, path: Path | None = None
) -> Metric:
    for parameter, value in (settings or {}).items():
        if not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
            raise MetricNotFound(f"the parameter `{parameter}` cannot be {value!r}: it takes a number")
    metrics = compile_source(source, filename, settings, path=path).metrics
    names = [m.name for m in metrics]
    if not metrics:
        raise MetricNotFound(f"{filename} defines no metric")
    if not name and len(metrics) > 1:
        raise MetricNotFound(f"{filename} defines {', '.join(names)}: name one, as in {filename}:{names[0]}")
    metric = next((m for m in metrics if m.name == name), None) if name else metrics[0]
    if metric is None:
        raise MetricNotFound(f"{filename} defines no `{name}`; it has {', '.join(names)}")
    unknown = sorted(set(settings or {}) - {n for n, _ in metric.params})
    if unknown:
        has = ", ".join(n for n, _ in metric.params) or "none"
        raise MetricNotFound(f"`{metric.name}` has no parameter `{unknown[0]}`; it has {has}")
    return metric


def inline(text: str, name: str = "inline", *, analyse: bool = True) -> Metric:
    """A metric from an expression with an optional group, such as `abs(W) * X per row`.

    Without `analyse`, an expression that is never defined is no error: what runs it will meet it.
    """
    one = "an inline metric is one expression, such as 'abs(W) * X per row'"
    if text.lstrip().startswith("{"):
        raise MetricNotFound(f"{one}; a metric by role is written in a file")
    head = f"pzm 1 metric {name} = "
    try:
        compiled = compile_source(head + text, "expression", analyse=analyse)
    except SourceError as error:
        raise SourceError([d.moved(-len(head), len(text)) for d in error.diagnostics], text, "expression") from None
    unused = any(d.code == "PZ0401" for d in compiled.diagnostics)
    if len(compiled.metrics) != 1 or compiled.spaces or unused:
        raise MetricNotFound(one)
    return compiled.metrics[0]
