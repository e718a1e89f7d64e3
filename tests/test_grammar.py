"""What the grammar reads: trees, spans, and every syntax error of a file at once."""

from __future__ import annotations

import re
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pzc.grammar.parse import parse
from pzc.grammar.printer import expression
from pzc.grammar.syntax import (
    AxisName,
    Binary,
    Call,
    Comment,
    Edition,
    Expression,
    Let,
    MetricDefinition,
    Name,
    Negation,
    Number,
    Param,
    Span,
    Statement,
    depth,
)
from pzc.grammar.words import KEYWORDS, NAME
from tests.programs import EXPRESSIONS, spaced

GRAMMAR = (resources.files("pzc.grammar") / "pzm.lark").read_text(encoding="utf-8")

W, X = Name("W"), Name("X")


def statements(source: str) -> tuple[Statement, ...]:
    file, problems = parse(source)
    assert not problems, problems[0].message
    return file.statements


def value(text: str) -> Expression:
    (let,) = statements(f"let x = {text}")
    assert isinstance(let, Let)
    return let.value


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("W", W),
        ("X.l1", Name("X.l1")),
        ("1.5e-3", Number("1.5e-3")),
        ("W - X - 1", Binary("-", Binary("-", W, X), Number("1"))),
        ("W / X / 1", Binary("/", Binary("/", W, X), Number("1"))),
        ("W + X * 2", Binary("+", W, Binary("*", X, Number("2")))),
        ("(W + X) * 2", Binary("*", Binary("+", W, X), Number("2"))),
        ("W ^ X ^ 2", Binary("^", W, Binary("^", X, Number("2")))),
        ("W * X ^ 2", Binary("*", W, Binary("^", X, Number("2")))),
        ("-W ^ 2", Negation(Binary("^", W, Number("2")))),
        ("(-W) ^ 2", Binary("^", Negation(W), Number("2"))),
        ("W ^ -X", Binary("^", W, Negation(X))),
        ("W ^ -X ^ 2", Binary("^", W, Negation(Binary("^", X, Number("2"))))),
        ("-W * X", Binary("*", Negation(W), X)),
        ("W - -X", Binary("-", W, Negation(X))),
        ("--W", Negation(Negation(W))),
        ("sum(W)", Call("sum", (W,))),
        ("norm(W, 2, in)", Call("norm", (W, Number("2"), AxisName("in")))),
        ("f()", Call("f", ())),
        ("max(min(W, X), 1)", Call("max", (Call("min", (W, X)), Number("1")))),
    ],
)
def test_trees(text: str, tree: Expression) -> None:
    assert value(text) == tree


def test_python_reads_arithmetic_in_the_same_order() -> None:
    for text in ("1 - 2 - 3 * 4", "2 ^ 3 ^ 2", "-2 ^ 2", "2 ^ -1 * 8", "-(1 - 4) ^ 2 / 3 / 3", "--3 - -4 * -5"):
        want = eval(text.replace("^", "**"))  # noqa: S307
        assert arithmetic(value(text)) == want


def arithmetic(e: Expression) -> float:
    if isinstance(e, Number):
        return float(e.text)
    if isinstance(e, Negation):
        return -arithmetic(e.operand)
    assert isinstance(e, Binary)
    a, b = arithmetic(e.left), arithmetic(e.right)
    return {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else 0.0, "^": a**b if e.operator == "^" else 0.0}[
        e.operator
    ]


def test_every_statement() -> None:
    source = """
pzm 1
## How strong.
## Very.
param a = -0.5 in [-1, 1e1]
param b = 2
let s = W * a
metric m = s ^ b  per layer
metric n = s
"""
    assert statements(source) == (
        Edition("1"),
        Param("a", "-0.5", "-1", "1e1", "How strong.\nVery."),
        Param("b", "2"),
        Let("s", Binary("*", W, Name("a"))),
        MetricDefinition("m", Binary("^", Name("s"), Name("b")), "layer"),
        MetricDefinition("n", Name("s"), None),
    )


def test_layout_means_nothing() -> None:
    lines = "pzm 1\n## d\nlet a = W\nmetric m = a * X per row\nmetric n = a"
    assert statements("pzm 1 ## d\nlet a = W metric m = a * X per row metric n = a") == statements(lines)
    assert statements("pzm\n1\n##d\nlet\na\n=\r\n\tW metric m=a*X per\nrow metric n=a") == statements(lines)


def test_comments_belong_to_no_statement_and_doc_comments_to_the_next() -> None:
    source = "# top\npzm 1 # here\n## doc\n# between\nlet a = # inside\n W\n"
    file, problems = parse(source)
    assert not problems
    assert file.statements == (Edition("1"), Let("a", W, "doc"))
    texts = ["# top", "# here", "# between", "# inside"]
    assert file.comments == tuple(map(Comment, texts))
    assert [source[c.span.start : c.span.end] for c in file.comments] == texts


def test_every_node_knows_its_span() -> None:
    source = "let a = -( W + sum( X , in ) ) * 2"
    (let,) = statements(source)
    assert isinstance(let, Let)
    assert isinstance(let.value, Binary)
    assert isinstance(let.value.left, Negation)
    total = let.value.left.operand
    assert isinstance(total, Binary)
    call = total.right
    assert isinstance(call, Call)

    def text(span: Span) -> str:
        return source[span.start : span.end]

    assert text(let.span) == source
    assert text(let.name_span) == "a"
    assert text(let.value.span) == "-( W + sum( X , in ) ) * 2"
    assert text(let.value.left.span) == "-( W + sum( X , in ) )"
    assert text(total.span) == "( W + sum( X , in ) )"
    assert text(call.span) == "sum( X , in )"
    assert text(call.function_span) == "sum"
    assert [text(a.span) for a in call.arguments] == ["X", "in"]


@settings(deadline=None)
@given(EXPRESSIONS, st.randoms(use_true_random=False))
def test_spaces_and_comments_change_no_tree(e: Expression, random: object) -> None:
    assert value(spaced(expression(e), random)) == e


def test_every_syntax_error_is_reported_at_once_and_what_is_right_is_kept() -> None:
    source = "pzm 1\nlet a = W +\nlet b = X\nparam c = d\nmetric m = a $ b\nmetric n = b per row\n## doc"
    file, problems = parse(source)
    lines = [source[: p.primary.span.start].count("\n") + 1 for p in problems]
    assert lines == [2, 4, 5, 7]
    assert [p.code for p in problems] == ["PZ0101", "PZ0101", "PZ0102", "PZ0105"]
    assert file.statements == (Edition("1"), Let("b", X), MetricDefinition("n", Name("b"), "row"))
    assert {"a", "c", "m"} <= set(file.broken)


@pytest.mark.parametrize("word", [*KEYWORDS, "per", "in", "out"])
def test_words_of_the_language_are_no_names(word: str) -> None:
    for source in (f"let {word} = W", f"metric {word} = W", f"let a = {word} + W"):
        _, problems = parse(source)
        assert len(problems) == 1, source


@settings(deadline=None, max_examples=300)
@given(st.text(st.sampled_from('W X.l1 sum(,)in out per let metric param pzm 1=+-*/^[]#\n"|é\x00')) | st.text())
def test_any_text_gives_a_tree_or_diagnostics_inside_it(source: str) -> None:
    file, problems = parse(source)
    for span in [p.primary.span for p in problems] + [s.span for s in file.statements]:
        assert 0 <= span.start < span.end <= len(source)


def test_depth() -> None:
    assert depth(W) == 1
    assert depth(value("-2")) == 1
    assert depth(value("sum(-W + X * 2, in)")) == 4
    assert depth(value("-".join("W" * 50))) == 50


def test_a_byte_order_mark_is_skipped_at_the_start_alone() -> None:
    assert parse("\ufeffpzm 1\nmetric m = W\n")[1] == []
    assert [d.code for d in parse("pzm 1\n\ufeffmetric m = W\n")[1]] == ["PZ0102"]


def test_the_pattern_of_a_name_is_that_of_the_grammar() -> None:
    assert re.search(r"^NAME: +/(.+)/$", GRAMMAR, re.MULTILINE).group(1) == NAME  # type: ignore[union-attr]
