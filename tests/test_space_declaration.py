"""`space` declarations: what a search may build, as a file says it."""

from __future__ import annotations

import pytest

from pzc.compiler.language.spaces import SpaceSpec
from pzc.compiler.metric import compile_source
from pzc.grammar.diagnostics import Diagnostic, SourceError


def space(body: str, before: str = "") -> SpaceSpec:
    (found,) = compile_source(f"pzm 1 {before} space s {{ {body} }}", "s.pzm").spaces
    return found


def diagnostics(source: str) -> list[Diagnostic]:
    try:
        return list(compile_source(f"pzm 1 {source}", "s.pzm").diagnostics)
    except SourceError as error:
        return list(error.diagnostics)


def test_everything_a_space_says() -> None:
    found = space(
        "leaves: W 5, X, G.l1 0.5  ops: * 6, ^, min 0.5, neg  reductions: mean 3, norm  exponents: 0.5, -1, 2 "
        "depth: 3 .. 4  size: 30  per: row, block"
    )
    assert found.leaves == (("W", 5.0), ("X.l2", 1.0), ("G.l1", 0.5))
    assert [(op.core, op.arity, weight) for op, weight in found.ops] == [
        ("mul", 2, 6.0),
        ("pow", 2, 1.0),
        ("min", 2, 0.5),
        ("neg", 1, 1.0),
    ]
    assert [(op.core, weight) for op, weight in found.reductions] == [("mean", 3.0), ("norm", 1.0)]
    assert (found.exponents, found.depth, found.size, found.per) == ((0.5, -1.0, 2.0), (3, 4), 30, ("row", "block"))


def test_what_is_left_out_has_a_default() -> None:
    found = space("leaves: W ops: *")
    assert (found.reductions, found.depth, found.size, found.per) == ((), (2, 5), 40, ("row",))


def test_bounds_on_nesting_and_on_what_statistics_cost() -> None:
    found = space("leaves: W, X ops: * nesting: tanh, ^ 2, mean 3, max, ^ 4 tier: forward")
    assert found.nesting == ((("tanh",), 1), (("pow",), 4), (("mean",), 3), (("max", "amax"), 1))
    assert found.tier == "forward"
    assert (space("leaves: W ops: *").nesting, space("leaves: W ops: *").tier) == ((), None)


def test_functions_are_operations_and_a_library_is_all_of_its_functions() -> None:
    found = space("leaves: W ops: paper.* 2, half", "use paper fn half(x) = x / 2")
    names = {op.name: op.arity for op, _ in found.ops}
    release = {"sqr", "neg", "abs", "log", "exp", "sqrt", "tanh", "pow", "skp", "mms", "zsn"}
    assert {n for n, arity in names.items() if arity == 1} == {f"paper.{n}" for n in release} | {"half"}
    assert {n for n, arity in names.items() if arity == 2} == {f"paper.{n}" for n in ("add", "sub", "mul", "div")}
    assert dict(found.ops)[found.ops[0][0]] == 2.0


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        ("space s { leaves: W }", "PZ0603", "the space `s` has no `ops`"),
        ("space s { ops: * }", "PZ0603", "the space `s` has no `leaves`"),
        ("space s { leaves: W ops: * sizes: 3 }", "PZ0601", "a space has no entry `sizes`"),
        ("space s { leaves: W ops: * leaves: X }", "PZ0601", "`leaves` stands twice in this space"),
        ("space s { leaves: W, Q ops: * }", "PZ0602", "there is no leaf `Q`"),
        ("space s { leaves: W 0 ops: * }", "PZ0602", "a weight is a number above 0"),
        ("space s { leaves: 3 ops: * }", "PZ0602", "`3` is a number; this entry lists names"),
        ("space s { leaves: W ops: sum }", "PZ0602", "`sum` goes over an axis"),
        ("space s { leaves: W ops: foo }", "PZ0602", "there is no operation `foo`"),
        ("space s { leaves: W ops: paper.* }", "PZ0602", "`paper` is not used here"),
        ("space s { leaves: W 1e-400 ops: * }", "PZ0104", "1e-400 is zero in float32"),
        ("space s { leaves: W ops: paper.mms }", "PZ0602", "`paper` is not used here"),
        ("space s { leaves: W ops: clamp }", "PZ0602", "`clamp` takes more than two values"),
        ("space s { leaves: W ops: * per: row 2 }", "PZ0602", "comparison groups have no weights"),
        ("fn f(x, a) = sum(x, a) space s { leaves: W ops: f }", "PZ0602", "`f` takes an axis or more than two values"),
        ("space s { leaves: W ops: * reductions: rank }", "PZ0602", "there is no reduction `rank`"),
        ("space s { leaves: W ops: * exponents: W }", "PZ0602", "this entry lists numbers, such as `0.5, -1`"),
        ("space s { leaves: W ops: * depth: 5 .. 3 }", "PZ0602", "a depth is a range from 1 to 1000, such as `3 .. 5`"),
        ("space s { leaves: W ops: * depth: W }", "PZ0602", "a depth is a range from 1 to 1000, such as `3 .. 5`"),
        ("space s { leaves: W ops: * size: 0 }", "PZ0602", "a size is a whole number from 1 to 1000"),
        ("space s { leaves: W ops: * size: 3.5 }", "PZ0602", "a size is a whole number from 1 to 1000"),
        ("space s { leaves: W ops: * nesting: tan }", "PZ0602", "there is no operation of the language `tan`"),
        (
            "space s { leaves: W ops: * nesting: exp 0 }",
            "PZ0602",
            "how often an operation may be nested is a whole number from 1 to 1000",
        ),
        ("space s { leaves: W ops: * tier: forwards }", "PZ0602", "there is no tier `forwards`"),
        ("space s { leaves: W ops: * tier: forward 2 }", "PZ0602", "a space has one tier, such as `forward`"),
        (
            "space s { tier: forward leaves: W, G.l1 2 ops: * }",
            "PZ0602",
            "`G.l1` is of the tier `backward`, which is dearer than `forward`",
        ),
        ("space s { leaves: W ops: * per: rows }", "PZ0602", "there is no comparison group `rows`"),
        ("space s { leaves: W ops: * } let s = W", "PZ0204", "`s` is defined twice"),
        ("space s { leaves: W 1e99 ops: * }", "PZ0104", "1e99 is beyond float32"),
        ("use paper space s { leaves: W ops: * }", "PZ0401", "`paper` is never used"),
    ],
)
def test_what_can_be_wrong(source: str, code: str, message: str) -> None:
    assert [(d.code, d.message) for d in diagnostics(source)] == [(code, message)]


def test_functions_of_the_file_stand_for_those_of_the_core() -> None:
    found = space("leaves: W  ops: sqrt, abs, *", "use paper (sqrt) fn abs(x) = x * x")
    assert [(op.name, op.core, op.function is not None) for op, _ in found.ops] == [
        ("sqrt", "", True),
        ("abs", "", True),
        ("*", "mul", False),
    ]
    assert diagnostics("use paper (sqrt) space s { leaves: W ops: sqrt }") == []


@pytest.mark.parametrize("word", ["nan", "inf", "infinity"])
def test_names_are_no_exponents(word: str) -> None:
    found = diagnostics(f"space s {{ leaves: W ops: * exponents: {word} }}")
    assert {d.code for d in found} == {"PZ0602"}
