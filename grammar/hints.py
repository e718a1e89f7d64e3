"""What an author may have meant: the help below a syntax error.

Most of it is tables, of characters and of words that people bring from papers and from other languages. The rest
looks at the token at which the parser stopped, at what stands before and after it, and at what could stand there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from lark import Token

from pzc.grammar.diagnostics import did_you_mean

_COMPARISON = "there are no comparisons; `sign`, `min`, `max` and `clamp` may do"
_CONDITION = "there are no conditions; `sign`, `min`, `max` and `clamp` may do"
_NAMES = "names are made of the letters A to Z and a to z, digits and `_`"
_LATEX = "formulas are written as in `abs(W) / sum(abs(W), in)`, not in LaTeX"
_NUMBER = "a number is written as `1000`, `0.5` or `1e-6`"
_GROUP = "group with `(` and `)`"
_COMMENT = "a comment begins with `#`"
_FUNCTION = "a function is written `fn name(x) = …`"
_ARM = "an arm is written `down_proj: abs(W) * X per row`, the last one `else: …`"
_LIBRARY = "write `use paper (mms)`, or `use paper` and then `paper.mms(x)`"
_PARAM = "a parameter is a number, as in `param a = 0.5 in [0, 1]`"

QUOTES = "'`“”„‘’«»"

CHARACTERS = {
    **dict.fromkeys("×·∙⋅∗⊙⊗∘", "write `*`"),
    "÷": "write `/`",
    **dict.fromkeys("−–—‐‑", "write `-`"),
    "√": "write `sqrt(…)`",
    **dict.fromkeys("∑Σ", "write `sum(…)`"),
    "‖": "write `norm(…, 2)`",
    "|": "write `abs(…)`",
    ";": "statements need no separator",
    **dict.fromkeys("<>≤≥≠≈!", _COMPARISON),
    **dict.fromkeys("&¬∧∨?", _CONDITION),
    "∈": "write `in`",
    "∞": "numbers are finite; leave it out",
    **dict.fromkeys("∂∇", "gradients are the leaves `G`, `G.l1` and `G.mean`"),
    "@": "there is no matrix product; `*` multiplies position by position",
    "%": "a comment begins with `#`; a share is written as `0.5`",
    **dict.fromkeys(QUOTES, "names and numbers are written without quotes"),
    "\\": _LATEX,
    "$": "names and formulas are written without `$`",
}
"""What to write for characters that people try."""

WORDS = {
    **dict.fromkeys(("def", "function", "func", "define", "lambda"), _FUNCTION),
    **dict.fromkeys(("import", "from", "include", "require"), _LIBRARY),
    **dict.fromkeys(("const", "var", "val", "set"), "write `let name = …`"),
    "return": "nothing is returned: the score is the expression of a `metric`",
    **dict.fromkeys(("version", "edition"), "a file begins with `pzm 1`"),
    **dict.fromkeys(("by", "group"), "a comparison group is written `per row`"),
    "as": "a library keeps its name: `use paper`, then `paper.mms(x)`",
    **dict.fromkeys(("if", "elif", "when", "unless", "switch", "case", "default"), _CONDITION),
    **dict.fromkeys(("and", "or", "not", "xor"), _CONDITION),
    **dict.fromkeys(("for", "while", "do"), "there are no loops; reductions such as `sum(x, in)` go over an axis"),
}
"""What to write for words that mean something elsewhere."""

_LITERAL = re.compile(r"_\d+|x[0-9A-Fa-f]+|[eEfFjJ]")
"""What stands right behind a number in the numbers of other languages: 1_000, 0x10, 1e, 1.5f, 3j."""


def for_character(character: str, statement: str = "") -> str | None:
    """What to write for a character that the language does not use; `statement` is the type of its first token."""
    if statement == "USE" and character in QUOTES:
        return 'a file is written in double quotes: `use "norms.pzm" (share)`'
    if character in CHARACTERS:
        return CHARACTERS[character]
    script, _, letter = unicodedata.name(character, "").partition(" LETTER ")
    if script.startswith("GREEK") and letter:  # not one of the old signs for numbers
        name = letter.split()[-1].replace("LAMDA", "LAMBDA")
        return f"write its name: `{name if 'CAPITAL' in script else name.lower()}`"
    form = unicodedata.decomposition(character).split(" ")[0]
    plain = unicodedata.normalize("NFKC", character)
    if form == "<super>" and plain.isdigit():
        return f"write `^ {plain}`"
    if form in ("<super>", "<sub>"):
        return "there are no subscripts and superscripts"
    if form == "<fraction>":
        return f"write `{plain.replace('⁄', ' / ')}`"
    if unicodedata.category(character) in ("Zs", "Cf"):
        return "this looks like a space, or like nothing: delete it"
    if plain != character and plain.isascii() and plain.strip("."):
        return f"write `{plain}`"
    return _NAMES if character.isalpha() or character == "°" else None


def for_token(
    token: Token, expected: set[str], before: Sequence[Token], after: Sequence[Token], keywords: Sequence[str]
) -> str | None:
    """The help for an unexpected token.

    `expected` holds the types that could stand there; `before` is empty where a statement should begin.
    """
    if not before:
        return _at_start(token, after, keywords)
    statement = next((t.type for t in before if t.type != "DOC"), "")
    words = {k.upper() for k in keywords}
    named = _type(before, -1) in words or statement == "FN"
    if expected == {"NAME"} and named and token.type in (*words, "PER", "ELSE", "IN", "OUT"):
        return f"`{token}` is a word of the language; choose another name"
    braces = any(t.type == "LBRACE" for t in before)
    found = (
        _in_a_head(token, before, after, statement)
        or (_in_an_arm(token, expected, before) if braces and statement == "METRIC" else None)
        or (_in_a_space(token, before) if braces and statement == "SPACE" else None)
        or _IN_STATEMENTS.get(statement, lambda *_: None)(token, expected, before, after)
    )
    return found or _word(token, before) or _in_an_expression(token, expected, before, after)


def _word(token: Token, before: Sequence[Token]) -> str | None:
    words = [token, *before[-1:]]
    return next((WORDS[w] for w in words if w.type == "NAME" and w in WORDS), None)


def _type(tokens: Sequence[Token], at: int = 0) -> str:
    """The type of one token; empty where there is none."""
    return tokens[at].type if -len(tokens) <= at < len(tokens) else ""


def _adjoins(before: Token, token: Token) -> bool:
    return before.end_pos == token.start_pos


def _at_start(token: Token, after: Sequence[Token], keywords: Sequence[str]) -> str:
    following = _type(after)
    if token.type in ("SLASH", "STRING") or token.type == following == "MINUS":
        return _COMMENT
    close = did_you_mean(token, keywords) if following in ("NAME", "NUMBER") else None
    if token in WORDS or close:
        return WORDS.get(token) or close or ""
    if token.type == "NAME" and following == "EQUAL":
        return f"write `metric {token} = …` or `let {token} = …`"
    if following in ("PLUS", "MINUS", "STAR", "SLASH") and _type(after, 1) == "EQUAL":
        return "a name keeps its value: give the new one another name with `let`"
    if token.type == "NAME" and following == "LPAR":
        line = [t.type for t in after if t.line == token.line]
        define = "EQUAL" in line and "RPAR" in line and line.index("EQUAL") == line.index("RPAR") + 1
        return f"write `fn {token}(x) = …`" if define else f"a score has a name: `metric m = {token}(…)`"
    return "a file is a list of statements such as `metric m = abs(W) * X per row`"


def _in_a_head(token: Token, before: Sequence[Token], after: Sequence[Token], statement: str) -> str | None:
    """Between a keyword and what it defines."""
    kind, previous = token.type, before[-1]
    if _type(before, -1) == statement and kind == "NUMBER" and statement not in ("PZM", "USE"):
        return "a name begins with a letter"
    if _type(before, -2) != statement or previous.type != "NAME" or statement in ("PZM", "USE"):
        return None
    if kind in ("MINUS", "DOT") and (statement != "PARAM" or _adjoins(previous, token)):
        return _NAMES
    if kind == "LPAR" and statement == "METRIC":
        return "a metric has no parameters: it reads `W`, `X` and other leaves by name"
    if kind == "LPAR":
        return f"a function is written `fn {previous}(x) = …`"
    if kind == "PER":
        return f"the group stands last: `metric {previous} = … per row`"
    if statement == "FN" and kind == "NAME":
        return f"parameters stand in parentheses: `fn {previous}({token}) = …`"
    if statement == "SPACE" and kind == "EQUAL":
        return f"a space is written `space {previous} {{ … }}`, without `=`"
    if statement in ("LET", "METRIC") and kind == "COLON":
        return f"write `{before[-2]} {previous} = …`"
    return None


def _in_a_use(token: Token, expected: set[str], before: Sequence[Token], after: Sequence[Token]) -> str | None:
    if token.type == "SLASH" or (token.type == "DOT" and _type(after) == "PZM"):
        return 'a file is written in quotes: `use "norms.pzm" (share)`'
    if token.type == "$END":
        return None
    if token.type == "RPAR" and _type(before, -1) == "COMMA":
        return "a name stands behind every comma: leave the last one out"
    if token.type in ("STAR", "RPAR"):
        return "without a list everything is known by its full name: `use paper`, then `paper.mms(x)`"
    return _LIBRARY


def _in_a_fn(token: Token, expected: set[str], before: Sequence[Token], after: Sequence[Token]) -> str | None:
    kind, inside = token.type, "EQUAL" not in {t.type for t in before}
    if kind == "RPAR" and _type(before, -1) == "LPAR" and inside:
        return "a function has at least one parameter; name a value with `let`"
    if inside and kind == "EQUAL":
        return "a parameter has no default"
    if inside and kind == "COLON" and _type(before, -1) != "RPAR":
        return "a parameter has no type"
    if inside and kind in ("COLON", "LBRACE"):
        return _FUNCTION
    return _only_a_metric(token, expected, before, after)


def _in_a_let(token: Token, expected: set[str], before: Sequence[Token], after: Sequence[Token]) -> str | None:
    if token.type == "IN" and "STAR" in expected:
        return _PARAM
    return _only_a_metric(token, expected, before, after)


def _only_a_metric(token: Token, expected: set[str], before: Sequence[Token], after: Sequence[Token]) -> str | None:
    return "only a metric has a comparison group" if token.type == "PER" and "STAR" in expected else None


_IN_STATEMENTS = {
    "PZM": lambda *_: "the edition is written `pzm 1`",
    "USE": _in_a_use,
    "FN": _in_a_fn,
    "LET": _in_a_let,
    "PARAM": lambda *_: _PARAM,
}


def _in_an_arm(token: Token, expected: set[str], before: Sequence[Token]) -> str | None:
    kind = token.type
    if kind == "RBRACE":
        return "a metric by role has an arm at least for `else`"
    if "COLON" in expected or token in ("if", "case", "when", "default"):
        return _ARM
    begins = kind == "STAR" and "STRING" in expected
    if begins or (_type(before, -1) == "DOT" and kind in ("STAR", "NUMBER")):
        return 'a pattern with `*`, `?` or a number is written in quotes: `"layers.0.*"`'
    if kind == "COMMA" and _type(before, -2) == "PER":
        return "arms need no separator"
    if _type(before, -1) == "RBRACE":
        return "each arm has its own comparison group"
    return None


def _in_a_space(token: Token, before: Sequence[Token]) -> str | None:
    if token.type == "STRING":
        return "names are written without quotes"
    if token.type == "LSQB":
        return "a list is written without brackets: `leaves: W, X, G`"
    if "NUMBER" in (_type(before, -1), _type(before, -2)) and token.type in ("MINUS", "DOT"):
        return "a range is written `3 .. 5`"
    if "NUMBER" in (_type(before, -1), _type(before, -2)):
        return "a weight stands behind its name: `W 5, X 3`"
    return None


def _in_an_expression(token: Token, expected: set[str], before: Sequence[Token], after: Sequence[Token]) -> str | None:
    kind, previous = token.type, _type(before, -1)
    if kind in _EXPRESSION:
        return _EXPRESSION[kind](token, expected, before, after)
    if kind == previous and kind in ("STAR", "CARET"):
        return "a power is written `x ^ 2`"
    if kind == previous == "SLASH":
        return "there is one division, `/`; a comment begins with `#`"
    if kind == "PLUS" and "NAME" in expected:
        return "a `+` in front changes nothing: leave it out"
    if kind == "COMMA" and _type(before, -2) == "PER":
        return "a metric has one comparison group"
    if kind in ("COMMA", "NUMBER") and previous == "NUMBER":
        return _NUMBER
    if kind == "NAME" and previous == "NUMBER" and _adjoins(before[-1], token) and _LITERAL.fullmatch(token):
        return _NUMBER
    if kind in ("NAME", "NUMBER", "LPAR") and "STAR" in expected:
        callable_ = previous == "NAME" and kind != "LPAR" and len(before[-1]) > 1 and before[-1].islower()
        return "write `*` to multiply" + (f", or parentheses to call: `{before[-1]}({token})`" if callable_ else "")
    if kind == "NUMBER" and previous == "PER":
        return "a pattern such as 2:4 is no part of a metric: `pzc prune --pattern 2:4`"
    return None


def _equal(token: Token, expected: set[str], before: Sequence[Token], after: Sequence[Token]) -> str | None:
    if _type(before, -1) == "EQUAL":
        return "write one `=`"
    if "RPAR" in expected and _type(after) != "EQUAL":
        return "arguments have no names; an axis is the last one: `sum(W, in)`"
    return _COMPARISON if "STAR" in expected else None


def _dot(token: Token, expected: set[str], before: Sequence[Token], after: Sequence[Token]) -> str | None:
    if "NUMBER" in (_type(before, -1), _type(after)):
        return "a number has digits on both sides of its point: `0.5`, `5.0`"
    return "functions are written before a value: `abs(W)`, not `W.abs()`" if "STAR" in expected else None


def _axis(token: Token, expected: set[str], before: Sequence[Token], after: Sequence[Token]) -> str:
    if _type(before, -1) == "PER":
        return "`row` compares the weights of one output, `col` those of one input"
    return "`in` and `out` are axes: they stand only as an argument of a reduction, as in `sum(W, in)`"


def _close(token: Token, expected: set[str], before: Sequence[Token], after: Sequence[Token]) -> str | None:
    if token.type != "RPAR":
        return "did you mean `)`?" if "RPAR" in expected else _GROUP
    return "this `)` closes nothing" if "STAR" in expected else None


def _open(token: Token, expected: set[str], before: Sequence[Token], after: Sequence[Token]) -> str:
    by_role = _type(before, -1) == "EQUAL" and _type(before, -3) == "METRIC" and any(t.type == "COLON" for t in after)
    if token.type == "LBRACE" and by_role:
        return f"a metric by role is written `metric {before[-2]} {{ … }}`, without `=`"
    if token.type == "LBRACE" or "NAME" in expected:
        return _GROUP
    return "values have no elements to pick; a reduction over an axis removes it: `sum(W, in)`"


_EXPRESSION = {
    "STRING": lambda *_: "only files and layers are written in quotes",
    "EQUAL": _equal,
    "DOT": _dot,
    "IN": _axis,
    "OUT": _axis,
    "RPAR": _close,
    "RSQB": _close,
    "RBRACE": _close,
    "LSQB": _open,
    "LBRACE": _open,
}
