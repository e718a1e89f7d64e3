"""Hostile input: whatever the text, the checker answers, in time, with diagnostics of its own and no other exception.

The properties are in tests/fuzzing.py; scripts/fuzz.py looks for more with coverage as its guide.
"""

from __future__ import annotations

import json
import os
import random
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pzc.compiler import ir
from pzc.compiler.functions import ELSEWHERE, FUNCTION_NAMES
from pzc.compiler.groups import GROUPS
from pzc.compiler.language.modules import libraries, library_source
from pzc.compiler.language.spaces import ENTRIES
from pzc.compiler.leaves import ALIASES, LEAVES
from pzc.compiler.load import zoo, zoo_names, zoo_source
from pzc.compiler.metric import compile_source
from pzc.compiler.paper.trees import BINARY, UNARY
from pzc.grammar import printer
from pzc.grammar.diagnostics import SourceError
from pzc.grammar.hints import for_character
from pzc.grammar.parse import MAX_LENGTH
from pzc.grammar.syntax import Edition, File
from tests.fuzzing import examine, examine_diagnostics, examine_document, examine_tree, watchdog
from tests.programs import STATEMENTS

INVALID = Path(__file__).parent / "invalid"
SEEDS = [
    *(zoo_source(name) for name in zoo_names()),
    *(library_source(name) for name in libraries()),
    *(p.read_text(encoding="utf-8", errors="replace") for p in sorted(INVALID.glob("*.pzm"))),
]
WORDS = ["pzm", "use", "let", "fn", "param", "metric", "space", "per", "in", "out", "else", "a", "b", "f", "m"]
SYMBOLS = [*'+-*/^()[]{},:=."#|;$', "..", "##", "\n", "\n\n", "## doc\n", "# note\n", '"*"', '"a.pzm"']
NUMBERS = ["0", "1", "2", "0.5", "100", "1e38", "3.4e38", "1e39", "1e-45", "1e-400", "1e400", "9" * 400, "007"]
TABLES = [*LEAVES, *ALIASES, *FUNCTION_NAMES, *ELSEWHERE, *GROUPS, *ENTRIES, "paper", "paper.mms", "paper.*"]
TOKENS = [*WORDS, *SYMBOLS, *NUMBERS, *TABLES]

fuzz = settings(deadline=None, suppress_health_check=list(HealthCheck))
more = settings(fuzz, max_examples=300)


def tokens_of(text: str) -> list[str]:
    """The text cut into words, numbers, spaces and single characters."""
    return re.findall(r"\w+|\s+|##?[^\n]*|.", text)


# Texts


@fuzz
@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    examine(text)


def test_any_character() -> None:
    """What to write instead of each character of Unicode."""
    for code in range(sys.maxunicode + 1):
        hint = for_character(chr(code))
        assert hint is None or hint.isprintable(), hex(code)


@fuzz
@given(st.lists(st.sampled_from(TOKENS), max_size=60), st.sampled_from(["", "pzm 1\n", "pzm 1 use paper metric m = "]))
def test_any_tokens(tokens: list[str], head: str) -> None:
    examine(head + " ".join(tokens))


def mutated(text: str, r: random.Random) -> str:
    """The text with a few of its tokens deleted, repeated, swapped, replaced or cut off, or joined to another text."""
    tokens = tokens_of(text)
    for _ in range(r.randint(1, 4)):
        i, j = sorted((r.randrange(len(tokens) + 1), r.randrange(len(tokens) + 1)))
        j = min(j, i + r.choice([1, 2, 5, 20]))
        other = tokens_of(r.choice(SEEDS))
        at = r.randrange(len(other) + 1)
        tokens = r.choice(
            [
                tokens[:i] + tokens[j:],
                tokens[:j] + tokens[i:j] * r.choice([1, 3]) + tokens[j:],
                tokens[:i] + tokens[i:j][::-1] + tokens[j:],
                [*tokens[:i], r.choice(TOKENS), " ", *tokens[j:]],
                tokens[:i] + other[at : at + r.choice([1, 5, 30])] + tokens[j:],
                tokens[:i],
            ]
        )
    return "".join(tokens)


@more
@given(st.sampled_from(SEEDS), st.randoms(use_true_random=False))
def test_mutated_programs(text: str, r: random.Random) -> None:
    examine(mutated(text, r))


@fuzz
@given(st.lists(STATEMENTS, max_size=6))
def test_random_statements(statements: list[Any]) -> None:
    examine(printer.format_source(File((Edition("1"), *statements)), ""))


# Programs whose names are known reach further: the analyses, the exports, the scores.

_HEAD = "pzm 1\nuse paper\nparam a = 0.5\nlet b = W + X\nfn f(x) = x / sum(abs(x))\n"


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    axis = st.sampled_from(["", ", in", ", out"])
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*/^"), inner),
        st.builds("-{}".format, inner),
        st.builds("{}({})".format, st.sampled_from(["abs", "sqr", "sqrt", "exp", "ln", "tanh", "sigmoid", "f"]), inner),
        st.builds("{}({})".format, st.sampled_from(["paper.mms", "paper.log", "paper.zsn", "sign"]), inner),
        st.builds("{}({}, {})".format, st.sampled_from(["min", "max", "paper.div"]), inner, inner),
        st.builds("clamp({}, {}, {})".format, inner, inner, inner),
        st.builds("norm({}, {}{})".format, inner, st.sampled_from(NUMBERS[1:]), axis),
        st.builds("quantile({}, {}{})".format, inner, st.sampled_from(["0", "0.3", "1"]), axis),
        st.builds(
            "{}({}{})".format, st.sampled_from(["sum", "mean", "std", "min", "rank", "tail", "median"]), inner, axis
        ),
    )


FORMULAS = st.recursive(
    st.sampled_from(["W", "X", "Y", "G", "a", "b", "H.diag", "depth", *NUMBERS]), _larger, max_leaves=15
)


@more
@given(FORMULAS, st.sampled_from(list(GROUPS)))
def test_formulas(formula: str, per: str) -> None:
    examine(f"{_HEAD}metric m = {formula} per {per}")


# Several files


PLACES = ["a.pzm", "b.pzm", "sub/c.pzm", "sub/deep/d.pzm", "link.pzm", "loop.pzm", "pipe.pzm", "sub", "absent.pzm"]
OUTSIDE = ["../secret.pzm", "sub/../../secret.pzm", "../../secret.pzm", "out.pzm", "away/secret.pzm", "/etc/hostname"]
ODD = ["", ".", "..", "a.pzm\0", "x" * 5000, "~", "CON", "a.pzm/b.pzm", "\N{SNOWMAN}.pzm", "norms"]
SECRET = "treasure_that_must_stay_hidden"  # noqa: S105


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files to use, with a link out of it, a link to itself, a pipe, and a secret beside it."""
    outer = tmp_path_factory.mktemp("outer")
    inner = outer / "inner"
    (inner / "sub" / "deep").mkdir(parents=True)
    (outer / "secret.pzm").write_text(f"pzm 1\nlet {SECRET} = 1\nlet x = {SECRET}\n")
    (inner / "out.pzm").symlink_to(outer / "secret.pzm")
    (inner / "away").symlink_to(outer)
    (inner / "loop.pzm").symlink_to(inner / "loop.pzm")
    (inner / "link.pzm").symlink_to(inner / "b.pzm")
    os.mkfifo(inner / "pipe.pzm")
    return inner


USES = st.lists(
    st.tuples(st.sampled_from(PLACES * 2 + OUTSIDE + ODD), st.sampled_from(["", " (x)", f" ({SECRET})", " (x, f)"])),
    max_size=4,
)


@settings(fuzz, max_examples=150)
@given(st.lists(USES, min_size=4, max_size=4), st.sampled_from(["x", "b.x", "f(W)", SECRET, "secret.x", "out.x"]))
def test_files_that_use_each_other(folder: Path, uses: list[list[tuple[str, str]]], value: str) -> None:
    """Whatever the links between files: an answer, and nothing from outside the folder in it."""
    for name, lines in zip(PLACES[:4], uses, strict=True):
        body = "".join(f'use "{source}"{names}\n' for source, names in lines)
        text = f"pzm 1\n{body}let x = 2\nfn f(x) = x\nmetric m = W * {value}\n"
        (folder / name).write_text(text, encoding="utf-8")
    for name in PLACES[:4]:
        path = folder / name
        source = path.read_text(encoding="utf-8")
        with watchdog():
            try:
                compiled = compile_source(source, name, path=path)
            except SourceError as error:
                examine_diagnostics(error.diagnostics, source)
                said = " ".join(d.message for d in error.diagnostics)
                assert SECRET not in said or any(SECRET in (folder / n).read_text("utf-8") for n in PLACES[:4])
                continue
        assert all(SECRET not in m.source for m in compiled.metrics)


def test_what_lies_outside_is_never_read(folder: Path) -> None:
    for outside in OUTSIDE:
        (folder / "a.pzm").write_text(f'pzm 1\nuse "{outside}" (x)\nmetric m = W * x\n', encoding="utf-8")
        with pytest.raises(SourceError) as caught:
            compile_source((folder / "a.pzm").read_text(encoding="utf-8"), "a.pzm", path=folder / "a.pzm")
        assert [d.code for d in caught.value.diagnostics] == ["PZ0504"], outside


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    (folder / "a.pzm").write_text('pzm 1\nuse "pipe.pzm" (x)\nmetric m = W * x\n', encoding="utf-8")
    with watchdog(), pytest.raises(SourceError) as caught:
        compile_source((folder / "a.pzm").read_text(encoding="utf-8"), "a.pzm", path=folder / "a.pzm")
    assert [d.code for d in caught.value.diagnostics] == ["PZ0501"]


# Trees of Pruner-Zero's release, and documents


def _node(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.sampled_from([*UNARY, *BINARY, "W", "X", "G", "foo", "", "𝕏"])
    children = st.dictionaries(st.sampled_from(["left", "right", "middle"]), inner, max_size=3)
    return st.builds(lambda data, rest: {"data": data, **rest}, names | st.integers() | st.none(), children)


TREES = st.recursive(
    st.sampled_from([{"data": "W"}, {"data": "X"}, {"data": "G"}, None, 3, "W", []]), _node, max_leaves=30
)


@more
@given(TREES)
def test_any_tree(tree: Any) -> None:
    examine_tree(json.dumps(tree))


@fuzz
@given(st.text(max_size=100) | st.integers(1, 10**5).map(lambda n: '{"data":"neg","left":' * n))
def test_any_text_as_a_tree_or_a_document(text: str) -> None:
    examine_tree(text)
    examine_document(text)


DOCUMENTS = [ir.emit(metric) for metric in zoo().values()]


@more
@given(st.sampled_from(DOCUMENTS), st.randoms(use_true_random=False))
def test_mutated_documents(text: str, r: random.Random) -> None:
    """Any change of the tokens gives the same document, another valid one, or an error."""
    tokens = re.findall(r'"[^"]*"|-?[\d.]+|.', text)
    for _ in range(r.randint(1, 3)):
        i = r.randrange(len(tokens))
        other = r.choice(["", tokens[r.randrange(len(tokens))], "0", "-1", "1e999", "null", "[]", "{}", '"in"', '"W"'])
        tokens[i] = r.choice([other, tokens[i] + other])
    examine_document("".join(tokens))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5) | st.floats() | st.text(max_size=3),
    lambda x: st.lists(x, max_size=4),
)


@more
@given(st.sampled_from(DOCUMENTS), JSON, st.randoms(use_true_random=False))
def test_documents_with_other_values(text: str, value: Any, r: random.Random) -> None:
    """Any JSON value in the place of one of the document's."""
    document = json.loads(text)
    at: Any = document
    while True:
        key = r.choice(list(at) if isinstance(at, dict) else range(len(at)))
        if not isinstance(at[key], dict | list) or not at[key] or r.random() < 0.3:
            at[key] = value
            break
        at = at[key]
    examine_document(json.dumps(document))


# Short texts that would take long


def balanced(parts: list[str], operator: str = "+") -> str:
    """The parts joined by an operator, in few levels."""
    while len(parts) > 1:
        parts = [f"({' '.join([a, operator, b])})" for a, b in zip(parts[::2], parts[1::2], strict=False)] + (
            parts[-1:] if len(parts) % 2 else []
        )
    return parts[0]


LARGE = balanced([f"X * {i}" for i in range(300)])
HOSTILE = {
    "names for a large value": "let a = " + LARGE + "".join(f"\nlet b{i} = a" for i in range(20_000)),
    "metrics of a large value": "let a = " + LARGE + "".join(f"\nmetric m{i} = W * a" for i in range(20_000)),
    "arms of a large value": f"let a = {LARGE}\nmetric m {{ " + "g: W * a " * 15_000 + "else: W }",
    "calls of a large function": f"fn f(x) = x + {LARGE}\n" + "".join(f"let b{i} = f({i})\n" for i in range(20_000)),
    "calls in one expression": f"fn f(x) = x + {LARGE}\nmetric m = " + balanced([f"f({i})" for i in range(1_900)]),
    "functions that call twice": "fn f0(x) = x + 1\n"
    + "".join(f"fn f{i + 1}(x) = f{i}(x) + f{i}(x + {i})\n" for i in range(40)),
    "one long statement": "metric m = max(" + "W, " * 60_000 + "W)",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_would_take_hours_is_refused(text: str) -> None:
    """Each stands for millions of parts, in well under a million characters."""
    with watchdog(120), pytest.raises(SourceError) as caught:
        compile_source(f"pzm 1\n{text}", "m.pzm", analyse=False)
    assert "PZ0103" in {d.code for d in caught.value.diagnostics}


def test_many_names_do_not_slow_down_a_hint() -> None:
    names = "".join(f"let a{i}bcdefgh = W\n" for i in range(30_000))
    with watchdog(60), pytest.raises(SourceError) as caught:
        compile_source(f"pzm 1\n{names}metric m = {balanced([f'a{i}bxdefgh' for i in range(99)])}", "m.pzm")
    assert "did you mean `a0bcdefgh`?" in caught.value.diagnostics[0].message


def test_thousands_of_warnings_can_be_shown() -> None:
    source = "pzm 1\n" + "".join(f"metric m{i} = W / X\n" for i in range(8_000))
    with watchdog(120):
        compiled = compile_source(source, "m.pzm")
        assert len(compiled.diagnostics) == 8_000
        examine_diagnostics(compiled.diagnostics, source)


def test_a_file_with_an_error_is_checked_once(tmp_path: Path) -> None:
    """Twenty layers of two files, each of which uses both below: a million ways to the one that is broken."""
    for i in range(19):
        for side in "ab":
            uses = "".join(f'use "{s}{i + 1}.pzm" (x{s})\n' for s in "ab")
            (tmp_path / f"{side}{i}.pzm").write_text(f"pzm 1\n{uses}let x{side} = xa + xb\n", encoding="utf-8")
    for side in "ab":
        (tmp_path / f"{side}19.pzm").write_text(f"pzm 1\nlet x{side} = $\n", encoding="utf-8")
    with watchdog(), pytest.raises(SourceError) as caught:
        compile_source((tmp_path / "a0.pzm").read_text(), "a0.pzm", path=tmp_path / "a0.pzm")
    assert {d.code for d in caught.value.diagnostics} == {"PZ0503"}


def test_used_files_are_limited_together(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"f{i}.pzm").write_text(f"pzm 1\nlet x{i} = 1\n# " + "#" * (MAX_LENGTH // 2), encoding="utf-8")
    source = "pzm 1\n" + "".join(f'use "f{i}.pzm" (x{i})\n' for i in range(3)) + "metric m = W * x0 * x1 * x2"
    with pytest.raises(SourceError) as caught:
        compile_source(source, "m.pzm", path=tmp_path / "m.pzm")
    assert [d.code for d in caught.value.diagnostics] == ["PZ0505", "PZ0505"]


def test_a_place_in_another_file_of_the_same_name_is_not_shown_in_this_one(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    padding = "#" * 500
    (tmp_path / "sub" / "m.pzm").write_text(f"pzm 1\n{padding}\nfn f(x) = sum(x, out)\n", encoding="utf-8")
    source = 'pzm 1\nuse "sub/m.pzm" (f)\nmetric m = W * f(X)'
    with pytest.raises(SourceError) as caught:
        compile_source(source, "sub/m.pzm", path=tmp_path / "m.pzm")
    assert [d.code for d in caught.value.diagnostics] == ["PZ0203"]
    examine_diagnostics(caught.value.diagnostics, source)


def test_constants_without_end_are_no_exponents() -> None:
    examine("pzm 1\nmetric m = " + "(" * 20 + "abs(W)" + " ^ 1e38)" * 20)
    examine(f"pzm 1\nlet a = {balanced(['1e38'] * 16, '*')}\nmetric m = abs(W) ^ a")
