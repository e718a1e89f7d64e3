"""Functions of a file: written out where they are called, checked where they are defined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from pzc.compiler.limits import MAX_SIZE
from pzc.compiler.load import load
from pzc.compiler.metric import Metric, compile_source
from pzc.grammar import printer
from pzc.grammar.diagnostics import Diagnostic, SourceError
from pzc.grammar.syntax import AxisName, Binary, Call, Expression, Name, Negation
from tests.programs import EXPRESSIONS


def diagnostics(source: str) -> list[Diagnostic]:
    try:
        return list(compile_source(source, "m.pzm").diagnostics)
    except SourceError as error:
        return list(error.diagnostics)


def codes(source: str) -> list[str]:
    return [d.code for d in diagnostics(source) if d.severity != "note"]


def metric(source: str) -> Metric:
    return compile_source(f"pzm 1 {source}", "m.pzm").metrics[-1]


@pytest.mark.parametrize(
    ("source", "same"),
    [
        ("fn twice(x) = x + x metric m = twice(abs(W))", "abs(W) + abs(W)"),
        ("fn share(x, axis) = x / sum(x, axis) metric m = share(abs(W), in)", "abs(W) / sum(abs(W), in)"),
        ("fn share(x, axis) = x / sum(x, axis) metric m = share(abs(W), out)", "abs(W) / sum(abs(W), out)"),
        ("fn f(x, axis) = max(x, axis) metric m = W * f(W, in)", "W * max(W, in)"),
        ("fn f(x, y) = max(x, y) metric m = f(W, X)", "max(W, X)"),
        ("fn root(x, p) = norm(x, p, in) ^ (1 / p) metric m = W * root(W, 3)", "W * norm(W, 3, in) ^ (1 / 3)"),
        ("fn q(x, share) = quantile(x, share) metric m = W - q(W, 0.9)", "W - quantile(W, 0.9)"),
        ("fn a(x) = x * 2 fn b(x) = a(a(x)) metric m = b(W)", "W * 2 * 2"),
        ("fn s(x, axis) = x / sum(x, axis) fn t(x, a) = s(x, a) metric m = t(abs(W), in)", "abs(W) / sum(abs(W), in)"),
        ("let x = X fn f(x) = x * x metric m = f(W) * x", "W * W * X"),
        ("param a = 2 fn f(x) = x ^ a metric m = f(W)", "W ^ 2"),
        ("fn sqrt(x) = sqrt(abs(x)) metric m = sqrt(W)", "sqrt(abs(W))"),
        ("fn abs(x) = abs(x) + 1 fn f(x) = abs(x) metric m = f(W)", "abs(W) + 1"),
    ],
)  # fmt: skip
def test_a_call_is_its_body_with_what_it_is_given(source: str, same: str) -> None:
    assert metric(source).core is metric(f"metric m = {same}").core


def uses(e: Expression | AxisName, name: str) -> bool:
    match e:
        case Name(text):
            return text == name
        case Binary():
            return uses(e.left, name) or uses(e.right, name)
        case Negation():
            return uses(e.operand, name)
        case Call():
            return e.function == name or any(uses(a, name) for a in e.arguments)
    return False


def replaced(e: Expression | AxisName, name: str, text: str) -> str:
    """The text of an expression with another one in the place of a name, in parentheses."""
    match e:
        case Name(own) if own == name:
            return f"({text})"
        case Binary():
            return f"({replaced(e.left, name, text)}) {e.operator} ({replaced(e.right, name, text)})"
        case Negation():
            return f"-({replaced(e.operand, name, text)})"
        case Call():
            return f"{e.function}({', '.join(replaced(a, name, text) for a in e.arguments)})"
    return printer.expression(e)


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS)
def test_a_function_means_what_its_body_means_written_out(body: Expression) -> None:
    head = "pzm 1 let scale = 2 let x_1 = X "
    by_hand = f"{head} metric m = W * ({replaced(body, 'a', 'abs(W)')})"
    called = f"{head} fn f_(a, b) = ({printer.expression(body)}) + 0 * b metric m = W * (f_(abs(W), 1))"
    try:
        found = compile_source(by_hand, "m.pzm").metrics[-1]
    except SourceError:
        return
    if uses(body, "b"):
        return
    inner = compile_source(called, "m.pzm").metrics[-1].core.args[1].args[0]
    assert inner is found.core.args[1]


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        ("fn f(x) = x + foo metric m = f(W)", "PZ0201", "`foo` is not known here"),
        ("fn f(x) = f(x) metric m = f(W)", "PZ0201", "`f` calls itself"),
        ("fn f(x) = g(x) fn g(x) = x metric m = f(W)", "PZ0201", "`g` is defined further down"),
        ("fn f(x) = x metric m = f(W, X)", "PZ0202", "`f(x)` takes 1 argument; 2 given"),
        ("fn f(x, y) = x * y metric m = f()", "PZ0202", "`f(x, y)` takes 2 arguments; 0 given"),
        ("fn f(x, x) = x metric m = f(W, X)", "PZ0204", "`x` is given twice to `f`"),
        ("fn f(W) = W metric m = f(X)", "PZ0204", "`W` is the name of a leaf"),
        ("fn X(x) = x metric m = W", "PZ0204", "`X` is the name of a leaf"),
        ("fn f(x) = x let f = W metric m = f(W)", "PZ0204", "`f` is defined twice"),
        ("fn f(x) = x metric m = f", "PZ0201", "`f` is a function: write `f(…)`"),
        ("let f = W metric m = f(W)", "PZ0201", "`f` is a value, not a function"),
        ("fn f(x, axis) = sum(x, axis) metric m = W * f(X, out)", "PZ0203",
         "in `f`: `sum` over `out`, but this value has no `out` axis"),
        ("fn f(x, axis) = sum(x, axis) metric m = W * f(W, X)", "PZ0202",
         "in `f`: `sum` takes 1 value and may be given an axis; 2 given"),
        ("fn f(x) = x + 1 metric m = W * f(in)", "PZ0206", "in `f`: `x` is an axis here, not a value"),
        ("fn f(x, p) = norm(x, p) metric m = W * f(W, X)", "PZ0208", "in `f`: the order of a norm is a number above 0"),
        ("fn f(x, y) = x metric m = f(W, X)", "PZ0401", "`y` is never used in `f`"),
        ("fn f(H) = H metric m = W * f(X)", "PZ0204", "`H` is the name of a leaf"),
        ("fn f(a, b) = sum(sum(sum(W, a), b), a) metric m = W * f(in, out)", "PZ0203",
         "`sum` over `in`, but this value has no `in` axis"),
        ("fn f(x) = x metric m = W", "PZ0401", "`f` is never used"),
        ("fn f(x) = sum(x, axs) metric m = W * f(W)", "PZ0201", "`axs` is not known here"),
        ("fn f(x, axis) = sum(x, axs) metric m = f(W, in)", "PZ0201", "`axs` is not known here"),
    ],
)  # fmt: skip
def test_what_can_be_wrong(source: str, code: str, message: str) -> None:
    found = [d for d in diagnostics(f"pzm 1 {source}") if d.severity != "note"]
    assert [(d.code, d.message) for d in found] == [(code, message)]


@pytest.mark.parametrize(
    ("body", "call", "same"),
    [
        ("sum(Y, a)", "f(W, out, in)", "sum(Y)"),
        ("sum(sum(x, in), a)", "f(W, out, in)", "sum(sum(W, in), out)"),
        ("sum(sum(x, a), b)", "f(W, in, out)", "sum(sum(W, in), out)"),
        ("norm(max(x, a), 2, b)", "f(G, out, in)", "norm(max(G, out), 2, in)"),
    ],
)
def test_a_body_is_right_if_some_axes_make_it_so(body: str, call: str, same: str) -> None:
    """Whatever axes its author thought of, a definition has no error that a call with others would not have."""
    assert metric(f"fn f(x, a, b) = {body} metric m = W * {call}").core is metric(f"metric m = W * {same}").core


def test_every_argument_that_nothing_uses_is_told_where_it_is_given() -> None:
    source = "pzm 1 fn f(x, y, z) = y metric m = f(X, W, X)"
    found = [d for d in diagnostics(source) if d.code == "PZ0401"]
    assert [source[d.primary.span.start : d.primary.span.end] for d in found] == ["x", "z"]


def test_a_file_and_its_text_mean_the_same_whatever_ends_its_lines(tmp_path: Path) -> None:
    text = "pzm 1\n# one\n## two\n## three\nmetric m = abs(W) # four\n * X\n"
    for end in ("\n", "\r\n", "\r"):
        path = tmp_path / "m.pzm"
        path.write_bytes(text.replace("\n", end).encode())
        read, written = load(str(path)), compile_source(text.replace("\n", end), "m.pzm").metrics[0]
        assert read.formula == written.formula == "abs(W) * X"
        assert read.doc == written.doc == "two\nthree"


@pytest.mark.parametrize(
    "source",
    [
        "fn mean(x, y) = (x + y) / 2 fn g(a, b) = mean(a, b) metric m = g(abs(W), X)",
        "fn norm(x, p, q) = x * p + q fn g(a, b) = norm(a, 1, b) metric m = g(abs(W), X)",
    ],
)
def test_a_function_named_as_a_reduction_takes_values(source: str) -> None:
    assert codes(f"pzm 1 {source}") == []


def test_a_minus_before_a_call_that_is_a_number_belongs_to_it() -> None:
    metric = compile_source("pzm 1 fn f(x) = x metric m = abs(W) * X ^ -f(2)", "m.pzm").metrics[0]
    again = compile_source(metric.source, "again.pzm").metrics[0]
    assert again.keys.exact == metric.keys.exact
    assert metric.formula == "abs(W) * X ^ -2"


def test_an_error_inside_a_call_is_shown_at_the_call_and_in_the_body() -> None:
    source = "pzm 1\nfn f(x, axis) = x / sum(x, axis)\nmetric m = W * f(X, out)\n"
    (found,) = diagnostics(source)
    assert source[found.primary.span.start : found.primary.span.end] == "f(X, out)"
    assert [source[s.span.start : s.span.end] for s in found.secondary] == ["axis"]


def test_a_function_with_an_error_is_reported_once() -> None:
    assert codes("pzm 1 fn f(x) = y metric a = f(W) metric b = f(X) metric c = f(W, 1)") == ["PZ0201"]


def test_functions_that_grow_end_in_a_diagnostic() -> None:
    chain = "".join(f"fn f{i + 1}(x) = f{i}(f{i}(x))\n" for i in range(60))
    assert codes(f"pzm 1 fn f0(x) = x + x\n{chain}metric m = f60(W)") == ["PZ0103"]
    unused = "".join(f"fn g{i + 1}(x) = k(g{i}(x + 1), g{i}(x * 2))\n" for i in range(40))
    found = codes(f"pzm 1 fn k(x, y) = x\nfn g0(x) = x\n{unused}metric m = g40(W)")
    assert "PZ0103" in found
    nested = "".join(f"fn h{i + 1}(x) = {'abs(' * 100}h{i}(x){')' * 100}\n" for i in range(60))
    assert set(codes(f"pzm 1 fn h0(x) = x * 0 + 1\n{nested}metric m = W * h60(W)")) == {"PZ0103"}
    assert MAX_SIZE == 2000


def test_scores_of_a_metric_with_functions() -> None:
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(4, 6)), rng.uniform(size=6)
    m = metric("fn share(x, axis) = x / sum(x, axis) metric m = (share(abs(W), in) + share(abs(W), out)) * X ^ 0.5")
    a = np.abs(w)
    want = (a / a.sum(1, keepdims=True) + a / a.sum(0, keepdims=True)) * np.sqrt(x)
    np.testing.assert_allclose(m.reference_score(W=w, X=x), want, rtol=1e-12)


def test_parameters_that_a_metric_reads_are_known_through_functions_and_lets() -> None:
    source = "pzm 1 param a = 1 param b = 2 param c = 3 let s = a * W fn f(x) = x * b metric m = f(s) metric n = W ^ c"
    assert [m.params for m in compile_source(source, "m.pzm").metrics] == [(("a", 1.0), ("b", 2.0)), (("c", 3.0),)]


def test_calls_inside_calls_count_as_levels() -> None:
    def chain(n: int) -> str:
        return "fn f0(x) = x\n" + "".join(f"fn f{i + 1}(x) = f{i}(x)\n" for i in range(n)) + f"metric m = f{n}(abs(W))"

    assert codes(f"pzm 1 {chain(98)}") == []
    (found,) = diagnostics(f"pzm 1 {chain(130)}")
    assert found.code == "PZ0103"
    assert found.message.endswith("with calls inside calls counted, this has more than 200 levels")


def test_the_calls_that_one_expression_makes_are_limited() -> None:
    functions = " ".join(f"fn f{i}(x) = x" for i in range(14))
    body = "".join(f"f{i}(" for i in range(14)) + "x" + ")" * 14
    terms = " + ".join(f"f({i})" for i in range(150))
    found = diagnostics(f"pzm 1 {functions} fn f(x) = {body} metric m = W * ({terms})")
    assert [d.code for d in found] == ["PZ0103"]
    assert "more than 2,000 calls" in found[0].message
