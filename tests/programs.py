"""Random programs: syntax trees of every shape, and source texts with comments in every place."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

from pzc.grammar.syntax import (
    AxisName,
    Binary,
    Call,
    Edition,
    Expression,
    Let,
    MetricDefinition,
    Name,
    Negation,
    Number,
    Param,
    Statement,
)

NAMES = st.sampled_from(["a", "b", "scale", "x_1", "_", "Long", "a_name_that_is_rather_long_for_a_name"])
NUMBERS = st.sampled_from(["0", "1", "2.50", "1e-3", "3.4E+5", "007"])
SIGNED = st.builds(lambda sign, n: sign + n, st.sampled_from(["", "-"]), NUMBERS)
LEAVES = st.one_of(st.sampled_from(["W", "X", "X.l1", "G.mean"]).map(Name), NAMES.map(Name), NUMBERS.map(Number))


def _larger(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    arguments = st.lists(st.one_of(inner, st.sampled_from(["in", "out"]).map(AxisName)), max_size=3).map(tuple)
    return st.one_of(
        st.builds(Binary, st.sampled_from("+-*/^"), inner, inner),
        st.builds(Negation, inner),
        st.builds(Call, st.sampled_from(["sum", "abs", "norm", "f"]), arguments),
    )


EXPRESSIONS: st.SearchStrategy[Expression] = st.recursive(LEAVES, _larger, max_leaves=20)

_LINE = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\n\r"), max_size=12)
DOCS = st.lists(_LINE.map(str.rstrip).filter(lambda line: not line.startswith(" ")), max_size=3).map("\n".join)
COMMENTS = _LINE.map(lambda line: "#" + line.lstrip("#").rstrip())


def _param(name: str, default: str, bounds: tuple[str, str] | None, doc: str) -> Param:
    return Param(name, default, *(bounds or (None, None)), doc)


STATEMENTS: st.SearchStrategy[Statement] = st.one_of(
    st.builds(Let, NAMES, EXPRESSIONS, DOCS),
    st.builds(_param, NAMES, SIGNED, st.none() | st.tuples(SIGNED, SIGNED), DOCS),
    st.builds(MetricDefinition, NAMES, EXPRESSIONS, st.none() | st.sampled_from(["row", "col", "model"]), DOCS),
    NUMBERS.map(Edition),
)


def spaced(text: str, random: Any, comments: tuple[str, ...] = ()) -> str:
    """The same tokens with other spaces between them, and with comments between tokens."""
    waiting = list(comments)
    out = []
    for line in text.split("\n"):
        if line.startswith("##"):
            out.append(line + "\n")
            continue
        for token in re.findall(r"[A-Za-z_]\w*(?:\.\w+)?|[0-9.]+(?:[eE][+-]?\d+)?|\S", line):
            out.append(token + random.choice([" ", " ", "\n", "\t", "  \r\n", "\n\n\n"]))
            if waiting and random.random() < 0.3:
                out.append(waiting.pop(0) + "\n")
        out.append("\n")
    return "".join(out + [comment + "\n" for comment in waiting])
