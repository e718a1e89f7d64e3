"""Colours for `.pzm` text: a Pygments lexer made from the language's own tables.

Pygments finds it by the name `pzm`, and through Pygments the terminal, MkDocs, Sphinx and minted do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pygments.lexer import RegexLexer, bygroups, default, include, words
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String, Text

from pzc.compiler.functions import FUNCTION_NAMES
from pzc.compiler.groups import GROUPS
from pzc.compiler.leaves import ALIASES, AXES, LEAVES
from pzc.grammar.words import NAME

DEFINES = {
    "pzm": Number,
    "use": Name.Namespace,
    "let": Name.Variable,
    "param": Name.Constant,
    "fn": Name.Function,
    "metric": Name.Class,
    "space": Name.Class,
}
"""The keywords that begin a statement, and the colour of the name that follows."""

_WHOLE = r"(?![A-Za-z0-9_])"
_TEXT = r'"[^"#\n]*"'
_DOTTED = rf"{NAME}(?:\.{NAME})*"
_ENTRY = rf"(?:{_TEXT}|{_DOTTED})"
_COLON = rf"(?=(?:\s*,\s*{_ENTRY}){{0,64}}\s*:)"
"""What follows a layer of an arm or an entry of a space: perhaps more layers, then a colon."""

_BLANK: list[Any] = [
    (r"[ \t\r\n\f]+", Text.Whitespace),
    (r"##[^\n]*", String.Doc),
    (r"#[^\n]*", Comment.Single),
]

_GROUP = (words(tuple(GROUPS), suffix=_WHOLE), Keyword.Type)

_ROOT: list[Any] = [
    include("blank"),
    *((word + _WHOLE, Keyword.Declaration, word) for word in DEFINES),
    (r"(per)(\s*)(:)", bygroups(Keyword, Text.Whitespace, Punctuation), "groups"),
    (rf"per{_WHOLE}", Keyword, "group"),
    (rf"else{_WHOLE}", Keyword),
    (r"in(?=\s*\[)", Keyword),  # the range of a parameter
    (words(AXES, suffix=_WHOLE), Keyword.Constant),
    (rf"{_DOTTED}{_COLON}", Name.Label),
    (rf"{_TEXT}{_COLON}", String.Symbol),
    (_TEXT, String.Double),
    (words((*LEAVES, *ALIASES), suffix=r"(?![A-Za-z0-9_.])"), Name.Variable.Magic),
    (rf"({NAME})(\.)({NAME})(?=\s*\()", bygroups(Name.Namespace, Punctuation, Name.Function)),
    (rf"({NAME})(\.)(?={NAME}|\*)", bygroups(Name.Namespace, Punctuation)),
    (words(FUNCTION_NAMES, suffix=_WHOLE), Name.Builtin),
    (rf"{NAME}(?=\s*\()", Name.Function),
    (NAME, Name),
    (r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", Number),
    (r"\.\.|[-+*/^=]", Operator),
    (r"[](){}\[,:.]", Punctuation),
]


class PzmLexer(RegexLexer):  # type: ignore[misc]  # Pygments has no types
    """Tokens of `.pzm`. Any text comes back whole; what is no part of the language is an `Error`."""

    name = "pzm"
    aliases: ClassVar[list[str]] = ["pzm"]
    filenames: ClassVar[list[str]] = ["*.pzm"]
    mimetypes: ClassVar[list[str]] = ["text/x-pzm"]
    tokens: ClassVar[dict[str, list[Any]]] = {
        "root": _ROOT,
        "blank": _BLANK,
        **{
            word: [include("blank"), (NAME, colour, "#pop"), default("#pop")] if word != "pzm" else [default("#pop")]
            for word, colour in DEFINES.items()
        },
        "group": [include("blank"), (*_GROUP, "#pop"), default("#pop")],
        "groups": [include("blank"), _GROUP, (",", Punctuation), default("#pop")],
    }

    def __init__(self, **options: Any) -> None:
        # Pygments would strip blank lines at both ends and add a line end: the text is to come back as it was
        super().__init__(**{"stripnl": False, "ensurenl": False, **options})


_STYLES = {
    Comment: "pzm.comment",
    String.Doc: "pzm.comment",
    String: "pzm.text",
    Keyword.Constant: "pzm.axis",
    Keyword.Type: "pzm.group",
    Keyword: "pzm.keyword",
    Number: "pzm.number",
    Name.Variable.Magic: "pzm.leaf",
    Name.Builtin: "pzm.function",
    Name.Function: "pzm.function",
    Name.Class: "pzm.name",
}
"""How the terminal draws a kind of token; a kind that is not here is drawn as the kind above it."""


def coloured(text: str) -> Iterator[tuple[str, str]]:
    """The pieces of `.pzm` text, each with the name of its style in `console.THEME`, empty for none."""
    for _, kind, piece in PzmLexer().get_tokens_unprocessed(text):
        yield piece, next((_STYLES[k] for k in reversed(kind.split()) if k in _STYLES), "")
