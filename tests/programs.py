"""Random programs: syntax trees of every shape, and source texts with comments in every place."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

from pzc.grammar.syntax import (
    ArmDefinition,
    AxisName,
    Binary,
    Call,
    Edition,
    Entry,
    Expression,
    Fn,
    Item,
    Layer,
    Let,
    MetricDefinition,
    Name,
    Negation,
    Number,
    Param,
    RolesDefinition,
    SpaceDefinition,
    Statement,
    Use,
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
        st.builds(Call, st.sampled_from(["sum", "abs", "norm", "f", "paper.mms"]), arguments),
    )


EXPRESSIONS: st.SearchStrategy[Expression] = st.recursive(LEAVES, _larger, max_leaves=20)

_LINE = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\n\r"), max_size=12)
DOCS = st.lists(_LINE.map(str.rstrip).filter(lambda line: not line.startswith(" ")), max_size=3).map("\n".join)
COMMENTS = _LINE.map(lambda line: "#" + line.lstrip("#").rstrip())


def _param(name: str, default: str, bounds: tuple[str, str] | None, doc: str) -> Param:
    return Param(name, default, *(bounds or (None, None)), doc)


WORDS = st.lists(NAMES.map(Name), min_size=1, max_size=3).map(tuple)
PER = st.none() | st.sampled_from(["row", "col", "model"])
LAYERS = st.one_of(
    st.sampled_from(["gate_proj", "mlp.up_proj"]).map(Layer),
    st.sampled_from(["layers.0.*", "*", "a b", "?_proj"]).map(lambda text: Layer(text, True)),
)
ARMS = st.lists(
    st.builds(ArmDefinition, st.lists(LAYERS, max_size=4).map(tuple), EXPRESSIONS, PER), min_size=1, max_size=4
).map(tuple)
ITEMS = st.one_of(
    st.builds(Item, st.sampled_from(["W", "X.l1", "paper.*", "sqrt", *"+-*/^"]), st.none() | NUMBERS),
    st.builds(Item, NUMBERS, st.none() | NUMBERS),
)
ENTRIES = st.lists(
    st.builds(Entry, st.sampled_from(["leaves", "ops", "depth", "per"]), st.lists(ITEMS, min_size=1).map(tuple)),
    max_size=4,
).map(tuple)

STATEMENTS: st.SearchStrategy[Statement] = st.one_of(
    st.builds(Let, NAMES, EXPRESSIONS, DOCS),
    st.builds(_param, NAMES, SIGNED, st.none() | st.tuples(SIGNED, SIGNED), DOCS),
    st.builds(MetricDefinition, NAMES, EXPRESSIONS, PER, DOCS),
    st.builds(RolesDefinition, NAMES, ARMS, DOCS),
    st.builds(SpaceDefinition, NAMES, ENTRIES, DOCS),
    st.builds(Use, NAMES, st.just(False), WORDS | st.just(()), DOCS),
    st.builds(Use, st.sampled_from(["a.pzm", "../b c.pzm"]), st.just(True), WORDS | st.just(()), DOCS),
    st.builds(Fn, NAMES, WORDS, EXPRESSIONS, DOCS),
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
        for token in re.findall(r"\"[^\"]*\"|\.\.|[A-Za-z_]\w*(?:\.[\w*]+)?|[0-9.]+(?:[eE][+-]?\d+)?|\S", line):
            out.append(token + random.choice([" ", " ", "\n", "\t", "  \r\n", "\n\n\n"]))
            if waiting and random.random() < 0.3:
                out.append(waiting.pop(0) + "\n")
        out.append("\n")
    return "".join(out + [comment + "\n" for comment in waiting])
