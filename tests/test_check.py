"""The checker: axes, groups, warnings, parameters; and what `pzc check` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pzc.compiler.groups import GROUPS
from pzc.compiler.language.check import check
from pzc.compiler.load import MetricNotFound, inline, load, zoo_names, zoo_source
from pzc.compiler.metric import compile_source
from pzc.grammar.diagnostics import Diagnostic, SourceError
from pzc.grammar.parse import parse
from tests.terminal import Terminal


def diagnostics(source: str, **settings: float) -> list[Diagnostic]:
    """Errors and warnings but for those about values, which have tests of their own."""
    try:
        found = list(compile_source(source, "m.pzm", settings).diagnostics)
    except SourceError as error:
        found = list(error.diagnostics)
    return [d for d in found if d.code not in ("PZ0302", "PZ0303", "PZ0304", "PZ0305", "PZ0307")]


def codes(source: str, **settings: float) -> list[str]:
    return [d.code for d in diagnostics(source, **settings)]


AXES = [
    ("W", {"out", "in"}),
    ("X", {"in"}),
    ("X.mean + 1", {"in"}),
    ("noise * windows", {"out", "in"}),
    ("sum(W, in)", {"out"}),
    ("sum(W, out)", {"in"}),
    ("sum(W)", set()),
    ("sum(W, in) * X", {"out", "in"}),
    ("X - mean(X)", {"in"}),
    ("max(mean(W, in), mean(W, out))", {"out", "in"}),
    ("norm(G, 2, out) + std(X)", {"in"}),
    ("clamp(mean(W), 0, X)", {"in"}),
    ("in_features / out_features", set()),
]


@pytest.mark.parametrize(("text", "axes"), AXES)
def test_values_combine_by_the_names_of_their_axes(text: str, axes: set[str]) -> None:
    (metric,) = compile_source(f"pzm 1 metric m = W * ({text}) per row", "m.pzm").metrics
    assert metric.core.args[1].axes == axes


@pytest.mark.parametrize(("text", "axes"), AXES)
@pytest.mark.parametrize("per", GROUPS)
def test_a_score_must_vary_inside_its_group(text: str, axes: set[str], per: str) -> None:
    """One of fewer axes is broadcast: `X per row` prunes whole columns, and is fine."""
    varies = {"row": "in" in axes, "col": "out" in axes, "layer": bool(axes), "block": True, "model": True}[per]
    assert codes(f"pzm 1 metric m = {text} per {per}") == ([] if varies else ["PZ0301"])


def test_what_simplifies_to_a_constant_is_refused_too() -> None:
    for score, per in (
        ("W - W + X", "col"),
        ("abs(W) * 0", "row"),
        ("W / W", "layer"),
        ("sum(W, in) + X - X", "row"),
        ("W / W * X", "col"),
        ("2 * W - W - W", "model"),
    ):
        (found,) = diagnostics(f"pzm 1 metric m = {score} per {per}")
        assert found.code == "PZ0301"
        assert "simplifies to `" in found.primary.text


def test_a_group_that_is_left_out_is_the_row() -> None:
    assert inline("abs(W)").per == "row"


@pytest.mark.parametrize("call", ["sum", "mean", "std", "var", "min", "max"])
def test_reductions_need_the_axis(call: str) -> None:
    assert codes(f"pzm 1 metric m = W * {call}(X, in) per row") == []
    assert codes(f"pzm 1 metric m = W * {call}(X) per row") == []
    assert codes(f"pzm 1 metric m = W * {call}(X, out) per row") == ["PZ0203"]
    assert codes(f"pzm 1 metric m = W * {call}(1) per row") == ["PZ0203"]


def test_min_and_max_are_both_reductions_and_functions_of_two() -> None:
    for name in ("min", "max"):
        assert inline(f"W * {name}(W, X)").core.args[1].op == name
        assert inline(f"W * {name}(W, in)").core.args[1].op == f"a{name}"
        assert inline(f"W * {name}(W)").core.args[1].op == f"a{name}"


def test_one_mistake_is_reported_once() -> None:
    source = "pzm 1 let a = foo let b = a + sum(a, in) metric m = b * a per row metric n = a per row"
    assert codes(source) == ["PZ0201"]
    assert codes("pzm 1 let a = W W metric m = a * a(W) per row") == ["PZ0101"]
    assert codes("pzm let a = 1 metric m = W + a per row") == ["PZ0101"]


def test_a_name_is_known_from_the_statement_after_it() -> None:
    assert codes("pzm 1 metric m = W * a per row let a = 2") == ["PZ0201"]
    assert codes("pzm 1 let a = a metric m = W * a per row") == ["PZ0201"]


@pytest.mark.parametrize("text", ["metric m = m * W", "metric m { else: m * W }", "let m = m * W metric n = W"])
def test_nothing_stands_in_its_own_definition(text: str) -> None:
    assert [d.message for d in diagnostics(f"pzm 1 {text}")] == ["`m` stands in its own definition"]


@pytest.mark.parametrize(
    "text",
    ["W per row space s { leaves: W ops: * }", "{up: W else: X * W}", " { else: W }", "W metric b = X", "W let a = X"],
)
def test_an_inline_metric_is_one_expression(text: str) -> None:
    with pytest.raises(MetricNotFound, match="an inline metric is one expression"):
        load(text)


def test_what_nothing_uses_is_a_warning() -> None:
    found = diagnostics("pzm 1 param p = 1 let a = W let b = a metric m = W per row")
    assert [(d.code, d.severity, d.message) for d in found] == [
        ("PZ0401", "warning", "`p` is never used"),
        ("PZ0401", "warning", "`b` is never used"),
    ]
    assert codes("pzm 1 let a = W let b = a") == ["PZ0402"]
    assert codes("pzm 1") == ["PZ0402"]


def test_settings_replace_defaults() -> None:
    source = "pzm 1 param a = 0.5 in [0, 1] param b = 2 metric m = abs(W) * X ^ a * b per row"
    (metric,) = compile_source(source, "m.pzm", {"a": 0.75}).metrics
    assert metric.params == (("a", 0.75), ("b", 2.0))
    assert metric.formula == "abs(W) * X ^ 0.75 * 2"
    assert codes(source, a=1.5) == ["PZ0207"]
    assert codes(source, b=-1e9) == []
    for bad in (float("nan"), float("inf"), -1e39):
        (found,) = diagnostics(source, a=bad)
        assert found.code == "PZ0104"
        assert f"{bad:g} is beyond float32" in found.message


@pytest.mark.parametrize(("number", "fits"), [("3.4e38", True), ("3.5e38", False), ("1e-45", True), ("1e-50", False)])
def test_numbers_fit_float32(number: str, fits: bool) -> None:
    assert codes(f"pzm 1 metric m = W * {number} per row") == ([] if fits else ["PZ0104"])
    assert codes(f"pzm 1 param a = -{number} metric m = W * a per row") == ([] if fits else ["PZ0104"])
    assert codes("pzm 1 metric m = W * 0.000e-99 + 0 + X per row") == []


def test_the_norm_is_of_a_number_above_zero() -> None:
    for p, fits in {"1": True, "0.5": True, "a": True, "0": False, "-1": False, "X": False, "1 + 1": False}.items():
        assert codes(f"pzm 1 param a = 3 metric m = W / norm(W, {p}) + a per row") == ([] if fits else ["PZ0208"]), p


def test_metrics_without_an_error_are_kept_beside_those_with_one() -> None:
    file, _ = parse("pzm 1 metric a = foo per row metric b = W per row")
    checked = check(file)
    assert [m.name for m in checked.metrics] == ["b"]
    assert [d.code for d in checked.diagnostics] == ["PZ0201"]


@pytest.mark.parametrize("name", zoo_names())
def test_the_zoo_is_without_warnings(name: str) -> None:
    found = compile_source(zoo_source(name), name).diagnostics
    assert [d for d in found if d.severity != "note"] == []


def test_the_command(tmp_path: Path, terminal: Terminal) -> None:
    good, bad, warned = (tmp_path / f"{n}.pzm" for n in ("good", "bad", "warned"))
    good.write_text("pzm 1\nmetric a = W  per row\nmetric b = X  per row\n")
    bad.write_text("pzm 1\nmetric a = Z * sum(X, out)  per row\n")
    warned.write_text("pzm 1\nlet u = W\nmetric a = W  per row\n")

    shown = terminal("check", str(good), str(warned))
    assert shown.code == 0
    assert shown.out == f"{good}: 2 metrics fine\n{warned}: 1 metric fine, 1 warning\n"
    assert shown.err.startswith("warning[PZ0401]: `u` is never used\n")

    shown = terminal("check", str(bad), str(good), str(tmp_path / "absent.pzm"))
    assert shown.code == 1
    assert shown.out == f"{bad}: 2 errors\n{good}: 2 metrics fine\n"
    assert "error[PZ0201]" in shown.err
    assert "error[PZ0203]" in shown.err
    assert "absent.pzm: no such file" in shown.err

    shown = terminal("check", "--quiet", str(good))
    assert (shown.code, shown.out, shown.err) == (0, "", "")


@pytest.mark.parametrize("bounds", ["[0, 1e999]", "[1e-60, 1]", "[-1e39, 1]"])
def test_bounds_of_a_parameter_are_numbers_of_float32(bounds: str) -> None:
    assert "PZ0104" in codes(f"pzm 1 param a = 0.5 in {bounds} metric m = abs(W) * X ^ a")


def places(source: str, code: str) -> list[str]:
    """The lines at which something of this code is found."""
    try:
        found = list(compile_source(source, "m.pzm").diagnostics)
    except SourceError as error:
        found = list(error.diagnostics)
    return [source[source.rfind("\n", 0, d.primary.span.start) + 1 :].split("\n")[0] for d in found if d.code == code]


@pytest.mark.parametrize(
    ("source", "code", "line"),
    [
        ("fn f(x) = ln(x) * 2\nmetric k = f(X + 1) * abs(W)\nmetric m = ln(W) * X", "PZ0304", "metric m = ln(W) * X"),
        ("let old = W / 0\nmetric m = abs(W) * (W / 0)", "PZ0306", "metric m = abs(W) * (W / 0)"),
        ("let old = W / 0\nlet new = W / 0 * 2\nmetric m = new + X", "PZ0306", "let new = W / 0 * 2"),
        ("let old = W / 0\nlet new = old * 2\nmetric m = new + X", "PZ0306", "let old = W / 0"),
        ("let old = W / 0\nfn f(x) = x * old\nmetric m = f(X) + 1", "PZ0306", "let old = W / 0"),
        ("let old = W / 0\nfn f(x) = x * X\nmetric m = f(old) + 1", "PZ0306", "let old = W / 0"),
        ("fn f(x) = x * (W / 0)\nmetric m = f(X) + 1", "PZ0306", "metric m = f(X) + 1"),
    ],
)
def test_what_is_said_of_a_value_stands_where_the_metric_has_it_from(source: str, code: str, line: str) -> None:
    assert places(f"pzm 1\n{source}\n", code) == [line]


def test_a_mistake_in_two_metrics_is_reported_for_both() -> None:
    for mistake, code in (("sqrt(-1)", "PZ0306"), ("(1 / W)", "PZ0303"), ("ln(W)", "PZ0304"), ("tanh(X)", "PZ0305")):
        source = f"pzm 1\nmetric a = {mistake} * W\nmetric b = {mistake} * X * W\n"
        assert places(source, code) == source.splitlines()[1:], mistake
    source = "pzm 1\nfn f(p) = norm(W, p)\nmetric a = W * f(0)\nmetric b = X * f(0)\n"
    assert places(source, "PZ0208") == source.splitlines()[2:]
    assert codes("pzm 1 fn f(p) = norm(W, p) fn g(p) = f(p) + f(p) metric a = W * g(0) + g(0)") == ["PZ0208"] * 2
    shared = "pzm 1\nlet root = ln(W)\nmetric a = root * W\nmetric b = root * X\n"
    assert places(shared, "PZ0304") == ["let root = ln(W)"]


def test_a_name_whose_first_definition_does_not_parse_is_known_by_its_second() -> None:
    assert codes("pzm 1\nlet a = )\nlet a = abs(W)\nfn f(x) = x * a\nmetric m = f(X)\n") == ["PZ0101"]


@pytest.mark.parametrize(
    ("reference", "settings", "says"),
    [
        ("a\0b.pzm", {}, "cannot read"),
        ("\ud800.pzm", {}, "cannot read"),
        ("gblm", {"alpha": "x"}, "`alpha` cannot be 'x'"),
        ("gblm", {"alpha": None}, "`alpha` cannot be None"),
        ("gblm", {"alpha": float("nan")}, "`alpha` cannot be nan"),
        ("gblm", {"alpha": 10**400}, "`alpha` cannot be 1000"),
    ],
)
def test_what_cannot_be_loaded_is_said(reference: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(MetricNotFound, match=says):
        load(reference, settings)
