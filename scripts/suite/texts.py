"""Cases of sources with errors and warnings, of metrics that are the same, and of `pzm-ir/1` documents."""

from __future__ import annotations

import json

from suite.build import Content, alike, document, refused, warned

from pzc.compiler import ir
from pzc.compiler.load import inline
from pzc.compiler.metric import compile_source

E = "pzm 1\n"


def _doubled(times: int) -> str:
    """Lets that each add the one before to itself, from `a`."""
    letters = "abcdefgh"
    return "".join(f" let {letters[i + 1]} = {letters[i]} + {letters[i]}" for i in range(times))


ERRORS: list[tuple[str, str, tuple[str, ...]]] = [
    ("an empty source", "", ("PZ0106",)),
    ("no edition", "metric m = W", ("PZ0106",)),
    ("an edition of the future", "pzm 2 metric m = W", ("PZ0106",)),
    ("an edition twice", "pzm 1 metric m = W pzm 1", ("PZ0106",)),
    ("an edition after a statement", "metric m = W pzm 1", ("PZ0106",)),
    ("a metric without a value", E + "metric m =", ("PZ0101",)),
    ("a metric without a name", E + "metric = W", ("PZ0101",)),
    ("a parenthesis that does not close", E + "metric m = abs(W", ("PZ0101",)),
    ("a parenthesis too many", E + "metric m = abs(W))", ("PZ0101",)),
    ("two values without an operator", E + "metric m = W X", ("PZ0101",)),
    ("an operator without a right side", E + "metric m = W *", ("PZ0101",)),
    ("a text before the statements", E + "hello metric m = W", ("PZ0101",)),
    ("a comma outside a call", E + "metric m = W, X", ("PZ0101",)),
    ("a keyword as a name", E + "let per = W metric m = W", ("PZ0101",)),
    ("a number that is no number", E + "metric m = W * 1.", ("PZ0101",)),
    ("a character that is not of the language", E + "metric m = W @ X", ("PZ0102",)),
    ("a multiplication sign", E + "metric m = W × X", ("PZ0102",)),
    ("a semicolon", E + "metric m = W;", ("PZ0102",)),
    ("an expression of 300 levels", E + f"metric m = {'-' * 300}W", ("PZ0103",)),
    ("a number beyond float32", E + "metric m = W * 1e39", ("PZ0104",)),
    ("a number that float32 takes for zero", E + "metric m = W * 1e-60", ("PZ0104",)),
    ("a doc comment at the end", E + "metric m = W\n## of what?", ("PZ0105",)),
    ("an unknown name", E + "metric m = W * Z", ("PZ0201",)),
    ("an unknown function", E + "metric m = log(W)", ("PZ0201",)),
    ("an unknown member of a leaf", E + "metric m = W * X.l3", ("PZ0201",)),
    ("a leaf in small letters", E + "metric m = w", ("PZ0201",)),
    ("a function as a value", E + "metric m = W * abs", ("PZ0201",)),
    ("a value as a function", E + "metric m = W(X)", ("PZ0201",)),
    ("a metric as a value", E + "metric m = W metric n = m * X", ("PZ0201",)),
    ("a name before its definition", E + "metric m = W * a let a = X", ("PZ0201",)),
    ("a name in its own definition", E + "let a = a * W metric m = a", ("PZ0201",)),
    ("a parameter that is used before it", E + "let b = X ^ a param a = 2 metric m = W * b", ("PZ0201",)),
    ("an argument too many", E + "metric m = abs(W, X)", ("PZ0202",)),
    ("an argument too few", E + "metric m = clamp(W, 1)", ("PZ0202",)),
    ("no argument", E + "metric m = W * abs()", ("PZ0202",)),
    ("a norm without its order", E + "metric m = W * norm(X)", ("PZ0202",)),
    ("an axis by its number", E + "metric m = W * sum(W, 1)", ("PZ0202",)),
    ("a sum over an axis that is gone", E + "metric m = W * sum(sum(W, in), in)", ("PZ0203",)),
    ("a sum of inputs over outputs", E + "metric m = W * sum(X, out)", ("PZ0203",)),
    ("a sum of outputs over inputs", E + "metric m = W * sum(Y, in)", ("PZ0203",)),
    ("a sum of a number", E + "metric m = W * sum(in_features)", ("PZ0203",)),
    ("a tail of a number", E + "metric m = W * tail(2)", ("PZ0203",)),
    ("a tail over an axis that is not there", E + "metric m = W * tail(X, out)", ("PZ0203",)),
    ("a rank of a number", E + "metric m = W * rank(2)", ("PZ0203",)),
    ("a quantile over an axis that is not there", E + "metric m = W * quantile(X, 0.5, out)", ("PZ0203",)),
    ("a name twice", E + "let a = X let a = W metric m = a", ("PZ0204",)),
    ("the name of a leaf", E + "let X = W metric m = W", ("PZ0204",)),
    ("the name of a function", E + "let sum = W metric m = W", ("PZ0204",)),
    ("two metrics of one name", E + "metric m = W metric m = X", ("PZ0204",)),
    ("an unknown group", E + "metric m = W per rows", ("PZ0205",)),
    ("an axis as a group", E + "metric m = W per column", ("PZ0205",)),
    ("an axis for a function that takes none", E + "metric m = abs(W, in)", ("PZ0206",)),
    ("two axes", E + "metric m = W * sum(W, in, out)", ("PZ0206",)),
    ("an axis before the value", E + "metric m = W * sum(in, W)", ("PZ0206",)),
    ("a parameter outside its range", E + "param a = 2 in [0, 1] metric m = W ^ a", ("PZ0207",)),
    ("a parameter with an empty range", E + "param a = 2 in [3, 1] metric m = W ^ a", ("PZ0207",)),
    ("a norm of order zero", E + "metric m = W * norm(X, 0)", ("PZ0208",)),
    ("a norm of negative order", E + "metric m = W * norm(X, -1)", ("PZ0208",)),
    ("a norm of an order that varies", E + "metric m = W * norm(X, in_features)", ("PZ0208",)),
    ("a quantile above one", E + "metric m = W * quantile(X, 1.5)", ("PZ0209",)),
    ("a negative quantile", E + "metric m = W * quantile(X, -0.5)", ("PZ0209",)),
    ("a quantile that varies", E + "metric m = W * quantile(X, depth)", ("PZ0209",)),
    ("a number is no score", E + "metric m = 1", ("PZ0301",)),
    ("a sum of all is no score", E + "metric m = sum(W) per layer", ("PZ0301",)),
    ("a row's number per row", E + "metric m = sum(abs(W), in) per row", ("PZ0301",)),
    ("outputs per row", E + "metric m = Y per row", ("PZ0301",)),
    ("inputs per column", E + "metric m = X per col", ("PZ0301",)),
    ("what cancels", E + "metric m = W - W", ("PZ0301",)),
    ("what divides out", E + "metric m = W / W per layer", ("PZ0301",)),
    ("windows per model", E + "metric m = windows per model", ("PZ0301",)),
    (
        "several errors in the order of the text",
        E + "metric m = foo * X per rows metric n = abs(W, 1)",
        ("PZ0201", "PZ0205", "PZ0202"),
    ),
]

EDGES: list[tuple[str, str, tuple[str, ...]]] = [
    ("an edition with a fraction", "pzm 1.0 metric m = W", ("PZ0106",)),
    ("an edition thrice", "pzm 1 pzm 1 pzm 1 metric m = W", ("PZ0106", "PZ0106")),
    ("a doc comment before the edition", "## of what?\npzm 1 metric m = W", ("PZ0105",)),
    ("names are checked without an edition", "metric m = Z", ("PZ0106", "PZ0201")),
    ("a space that is not the language's", E + "metric m = W\u00a0* X", ("PZ0102",)),
    ("a statement with a syntax error is not checked further", E + "metric m = Z * W @ X", ("PZ0102",)),
    ("the next statement is checked", E + "metric m = W @ X metric n = Z", ("PZ0102", "PZ0201")),
    ("a faulty statement's name counts as known", E + "let a = W * metric m = a", ("PZ0101",)),
    ("a keyword where a name should be", E + "let metric = W metric m = W", ("PZ0101",)),
    ("an expression of 201 levels", E + f"metric m = {'-' * 200}W", ("PZ0103",)),
    (
        "an expression of more than 2,000 parts",
        E + "let a = W" + " + W" * 150 + _doubled(4) + " metric m = e",
        ("PZ0103",),
    ),
    ("a metric that is called as a leaf", E + "metric W = W", ("PZ0204",)),
    ("a metric that is called as a function", E + "metric abs = W", ("PZ0204",)),
    ("a `let` that is called as a family of leaves", E + "let H = X metric m = W", ("PZ0204",)),
    ("a space and a `let` of one name", E + "space s { leaves: W ops: * } let s = X metric m = W", ("PZ0204",)),
    ("a parameter that is called as a leaf", E + "fn f(X) = X metric m = f(W)", ("PZ0204",)),
    ("a parameter that is called as a function", E + "fn f(sum) = sum metric m = f(W)", ("PZ0204",)),
    ("an axis and a value for a function of one value", E + "metric m = abs(W, X, in)", ("PZ0206",)),
    ("an axis alone for a reduction", E + "metric m = W * sum(in)", ("PZ0202",)),
    ("two values and an axis for `min`", E + "metric m = W * min(W, X, in)", ("PZ0202",)),
    ("a norm of an order that is a quotient", E + "metric m = W * norm(X, 1 / 2)", ("PZ0208",)),
    ("an axis that is used as a value", E + "fn f(a) = sum(W, a) * a metric m = W * f(in)", ("PZ0206",)),
    ("a norm of order zero in a body that nobody calls", E + "fn f(x) = norm(x, 0) metric m = W", ("PZ0208",)),
    ("a quantile above one in a body that nobody calls", E + "fn f(x) = quantile(x, 5, in) metric m = W", ("PZ0209",)),
    ("a keyword where a group should be", E + "metric m = W per let", ("PZ0101",)),
    ("a keyword where a layer's score should be", E + "metric m { else: let }", ("PZ0101",)),
    ("a keyword where a layer should be", E + "metric m { let: W else: W }", ("PZ0101",)),
    ("a keyword where a space's leaf should be", E + "space s { leaves: let ops: * } metric m = W", ("PZ0101",)),
    ("a keyword where a leaf's member should be", E + "metric m = W * X. let", ("PZ0101",)),
    ("a keyword on the next line goes on with a statement", E + "metric m = W per\nlet a = Z", ("PZ0101", "PZ0201")),
    ("a misspelt keyword on a line of its own", E + "metric m = sum(X, out)\nlett q = 3", ("PZ0203", "PZ0101")),
    ("a line that begins with a sign and a value", E + "metric m = W * sum(X, out)\n+ q", ("PZ0203", "PZ0201")),
    ("a name on the next line, where a value should be", E + "metric m = W *\nlett q = 3", ("PZ0101",)),
    ("a doc comment inside of parentheses", E + "metric m = sum(\n## all of it\nX, out)", ("PZ0105",)),
    ("a doc comment ends a statement", E + "metric m = W * sum(X, out)\n## more\n+ 3", ("PZ0203", "PZ0101")),
    ("an error that only a call makes", E + "fn f(x) = sum(x, in) metric m = W * f(Y)", ("PZ0203",)),
    ("a library used twice", E + "use paper use paper metric m = paper.sqr(W)", ("PZ0204",)),
    ("a name that a prefix lacks", E + "use paper metric m = paper.nope(W)", ("PZ0201",)),
    ("the power of nought", E + "metric m = X ^ 0", ("PZ0301",)),
    ("nought times a score", E + "metric m = W * 0", ("PZ0301",)),
    ("the depth per block", E + "metric m = depth per block", ("PZ0301",)),
    ("a division by nought", E + "metric m = W / 0", ("PZ0306",)),
    ("a root of what is negative", E + "metric m = sqrt(-1 - X)", ("PZ0306",)),
    ("a pattern of blanks", E + 'metric m { " ": W else: X }', ("PZ0108",)),
    ("`else` twice", E + "metric m { else: W a: W else: W }", ("PZ0108",)),
    ("a space with an entry twice", E + "space s { leaves: W leaves: X ops: * }", ("PZ0601",)),
    ("a space with an empty range", E + "space s { leaves: W ops: * depth: 3 .. 2 }", ("PZ0602",)),
    ("a space with a weight of nought", E + "space s { leaves: W 0 ops: * }", ("PZ0602",)),
    ("a space with a reduction as an operation", E + "space s { leaves: W ops: sum }", ("PZ0602",)),
    ("a space with a range as its size", E + "space s { leaves: W ops: * size: 2 .. 3 }", ("PZ0602",)),
    ("a space with a depth of three numbers", E + "space s { leaves: W ops: * depth: 2, 3, 4 }", ("PZ0602",)),
    ("a space with a function of three values", E + "space s { leaves: W ops: *, clamp }", ("PZ0602",)),
    ("a space with a tail as a reduction", E + "space s { leaves: W ops: * reductions: tail }", ("PZ0602",)),
    ("a space with a rank as a reduction", E + "space s { leaves: W ops: * reductions: rank }", ("PZ0602",)),
    ("a space with a name as an exponent", E + "space s { leaves: W ops: * exponents: two }", ("PZ0602",)),
    ("a space with a bound on what is no operation", E + "space s { leaves: W ops: * nesting: tan 2 }", ("PZ0602",)),
    ("a space with no nesting at all", E + "space s { leaves: W ops: * nesting: exp 0 }", ("PZ0602",)),
    ("a space with a tier that does not exist", E + "space s { leaves: W ops: * tier: forwards }", ("PZ0602",)),
    ("a space with two tiers", E + "space s { leaves: W ops: * tier: forward, backward }", ("PZ0602",)),
    ("a space with a leaf above its tier", E + "space s { leaves: W, G ops: * tier: forward }", ("PZ0602",)),
    ("a space with a group that does not exist", E + "space s { leaves: W ops: * per: rows }", ("PZ0602",)),
    ("a letter that is not of ASCII", E + "let é = X metric m = W * é", ("PZ0102", "PZ0102")),
    ("a byte order mark after the start", E + "\ufeffmetric m = W", ("PZ0102",)),
    ("an edition with a zero before it", "pzm 01 metric m = W", ("PZ0106",)),
    ("no edition before a statement that does not parse", "hello metric m = W", ("PZ0101",)),
    ("no edition before a number", "1 metric m = W", ("PZ0101", "PZ0106")),
    ("an edition of the future hides nothing", "pzm 2 metric m = W * Z", ("PZ0106", "PZ0201")),
    ("a comment ends at a carriage return", E + "metric m = W # times\r* Z", ("PZ0201",)),
    ("a text ends at a carriage return", E + 'metric m { "a\rb": W  else: X * W }', ("PZ0107",)),
    (
        "a misspelt keyword on a line that a carriage return ends",
        E + "metric m = sum(X, out)\rlett q = 3",
        ("PZ0203", "PZ0101"),
    ),
    ("a character that does not belong, behind a token that does not fit", E + "metric m = W W @ X", ("PZ0102",)),
    ("a doc comment at the end of what is not complete", E + "metric m = (W\n## d", ("PZ0101", "PZ0105")),
    ("names of a faulty `use` count as known", E + "use paper mms, zsn) metric m = W * mms(G) * zsn(G)", ("PZ0101",)),
    ("the name of a misspelt statement counts as known", E + "lett q = 3 metric m = W * q", ("PZ0101",)),
    ("what has an error in it has no second", E + "let a = Q * X metric m = W * sum(a, out) + norm(a, a)", ("PZ0201",)),
    ("the first of two definitions stays", E + "let a = X let a = Y metric m = W * sum(a, out)", ("PZ0204", "PZ0203")),
    (
        "a parameter outside its range has its value",
        E + "param p = 2 in [3, 4] metric m = W * mean(p, in)",
        ("PZ0207", "PZ0203"),
    ),
    ("an unknown name beyond the last argument", E + "metric m = W * abs(X, q)", ("PZ0202", "PZ0201")),
    ("an unknown name where an axis belongs", E + "metric m = W * sum(W, rows)", ("PZ0201",)),
    ("a wrong order and a missing axis in one call", E + "metric m = W * norm(X, 0, out)", ("PZ0208",)),
    (
        "an error of two places of a body",
        E + "fn f(x) = sum(x, in) + mean(x, in) metric m = W * f(Y)",
        ("PZ0203", "PZ0203"),
    ),
    ("an axis that is a value in a body that nobody calls", E + "fn f(a) = sum(W, a) * a metric m = W", ("PZ0206",)),
    ("a sum that no axis fits", E + "fn f(a) = sum(sum(sum(W, in), out), a) metric m = W", ("PZ0203",)),
    ("three sums over two axes", E + "fn f(a, b) = sum(sum(sum(W, a), b), a) metric m = W", ("PZ0203",)),
    ("a parameter that is called as a family of leaves", E + "fn f(H) = H metric m = W * f(X)", ("PZ0204",)),
]
"""Where implementations could differ that all seem to follow the page."""

FILES: list[tuple[str, str, tuple[str, ...], dict[str, str]]] = [
    ("a function that calls itself", "fn f(x) = f(x) metric m = f(W)", ("PZ0201",), {}),
    ("a function before its definition", "fn f(x) = g(x) fn g(x) = x metric m = f(W)", ("PZ0201",), {}),
    ("a function as a value of its own", "fn f(x) = x metric m = W * f", ("PZ0201",), {}),
    ("an argument too many for a function", "fn f(x) = x metric m = f(W, X)", ("PZ0202",), {}),
    ("a value where a function takes an axis", "fn f(a) = sum(W, a) metric m = W * f(X)", ("PZ0202",), {}),
    ("an argument twice", "fn f(x, x) = x metric m = f(W, X)", ("PZ0204",), {}),
    ("an unknown name in a function", "fn f(x) = q metric m = f(W)", ("PZ0201",), {}),
    ("a library that does not exist", "use papers metric m = W", ("PZ0501",), {}),
    ("a name that the library lacks", "use paper (nope) metric m = W", ("PZ0506",), {}),
    ("a file that does not exist", 'use "no.pzm" (g) metric m = g(W)', ("PZ0501",), {}),
    ("a file that uses itself", 'use "case.pzm" (g) metric m = g(W)', ("PZ0502",), {}),
    ("a file outside the folder", 'use "../a.pzm" (g) metric m = g(W)', ("PZ0504",), {}),
    ("a file with an error", 'use "a.pzm" (g) metric m = g(W)', ("PZ0503",), {"a.pzm": "pzm 1 fn g(x) = q"}),
    ("a metric of a file", 'use "a.pzm" (n) metric m = W * n', ("PZ0506",), {"a.pzm": "pzm 1 metric n = W"}),
    (
        "a name that a file has from another",
        'use "a.pzm" (sqr) metric m = sqr(W)',
        ("PZ0506",),
        {"a.pzm": "pzm 1 use paper (sqr) fn g(x) = sqr(x)"},
    ),
    (
        "the prefix of a file that is called as a function",
        'use "norm.pzm" metric m = W',
        ("PZ0204",),
        {"norm.pzm": "pzm 1 fn g(x) = x"},
    ),
    ("a prefix that is no name", 'use "a-b.pzm" metric m = W', ("PZ0501",), {"a-b.pzm": "pzm 1 fn g(x) = x"}),
    (
        "a circle of two files",
        'use "a.pzm" (g) metric m = g(W)',
        ("PZ0503",),
        {"a.pzm": 'pzm 1 use "b.pzm" (h) fn g(x) = h(x)', "b.pzm": 'pzm 1 use "a.pzm" (g) fn h(x) = g(x)'},
    ),
    ("a parameter of a file", 'use "a.pzm" (p) metric m = W * p', ("PZ0506",), {"a.pzm": "pzm 1 param p = 2"}),
    ("a text that does not close", 'metric m { "mlp: W  else: W * X }', ("PZ0107",), {}),
    ("a metric by role without `else`", "metric m { up_proj: W }", ("PZ0108",), {}),
    ("`else` before another arm", "metric m { else: W up_proj: W * X }", ("PZ0108",), {}),
    ("a metric by role without arms", "metric m { }", ("PZ0101",), {}),
    ("an arm that is constant in its group", "metric m { up_proj: Y per row else: W }", ("PZ0301",), {}),
    ("what is never defined", "metric m = ln(-abs(W) - 1)", ("PZ0306",), {}),
    (
        "a space with an entry that it does not have",
        "space s { leaves: W ops: * depth: 2 .. 3 colour: 3 }",
        ("PZ0601",),
        {},
    ),
    ("a space with a leaf that does not exist", "space s { leaves: W, V ops: * depth: 2 .. 3 }", ("PZ0602",), {}),
    ("a space without operators", "space s { leaves: W depth: 2 .. 3 }", ("PZ0603",), {}),
]

WARNINGS = [
    ("a `let` that nothing uses", E + "let a = X metric m = W", ("PZ0401",)),
    ("a parameter that nothing uses", E + "param a = 2 metric m = W", ("PZ0401",)),
    ("a source without a metric", E + "let a = X", ("PZ0402",)),
    ("two that nothing uses", E + "let a = X let b = X metric m = W", ("PZ0401", "PZ0401")),
    ("a used name that nothing uses", E + "use paper (mms) metric m = abs(W) * X", ("PZ0401",)),
    ("what can overflow float32", E + "metric m = exp(W) * X", ("PZ0302",)),
    ("a division by what can be zero", E + "metric m = X / W", ("PZ0303",)),
    ("a logarithm of what can be zero", E + "metric m = ln(abs(W)) * X", ("PZ0304",)),
    (
        "two parameters of a function that nothing uses",
        E + "fn f(x, y) = X metric m = W * f(W, W)",
        ("PZ0401", "PZ0401"),
    ),
    ("a function that nothing uses", E + "fn f(x) = x metric m = W", ("PZ0401",)),
    ("a file of functions is a library", E + "fn f(x) = x", ()),
    ("a pattern that an arm above has", E + "metric m { a: W b, a: W * X else: sqr(W) }", ("PZ0401",)),
    ("a blank that no source knows is a pattern", E + 'metric m { "\u2003": W else: abs(W) * X }', ()),
    (
        "a space with every entry",
        E + "space s { leaves: W 5, X ops: *, / 2, sqrt reductions: mean 3, norm exponents: 0.5, -1 depth: 2 .. 5 "
        "size: 40 nesting: tanh, ^ 2, max tier: forward per: row, layer }",
        (),
    ),
    ("nothing to warn of", E + "let a = X metric m = abs(W) * a", ()),
]


def errors() -> list[Content]:
    """Sources with errors, and sources with warnings."""
    cases = [refused(what, source, *codes) for what, source, codes in (*ERRORS, *EDGES)]
    for what, text, codes, files in FILES:
        cases.append(refused(what, E + text, *codes, **({"files": files} if files else {})))
    return cases + [warned(what, source, *codes) for what, source, codes in WARNINGS]


SAMENESS = [
    ("the same text", "abs(W) * X", "abs(W) * X", ("exact", "real", "rank")),
    ("factors in another order", "abs(W) * X", "X * abs(W)", ("exact", "real", "rank")),
    ("terms in another order", "abs(W) + X", "X + abs(W)", ("exact", "real", "rank")),
    ("smaller of two in another order", "min(W, X)", "min(X, W)", ("exact", "real", "rank")),
    ("a square is a product", "sqr(W) + X", "W * W + X", ("real", "rank")),
    ("a square is a power", "sqr(W) + X", "W ^ 2 + X", ("real", "rank")),
    ("a root is a power", "sqrt(G) + W", "G ^ 0.5 + W", ("real", "rank")),
    ("an absolute value of a norm", "abs(X) * W", "X * W", ("real", "rank")),
    ("two minus signs", "--W", "W", ("real", "rank")),
    ("a difference is a sum", "W - X", "W + -1 * X", ("real", "rank")),
    ("a product with one", "1 * W + 0", "W", ("real", "rank")),
    ("distributed absolute values", "abs(W * X)", "abs(W) * X", ("real", "rank")),
    ("the square ranks as the absolute value", "sqr(W)", "abs(W)", ("rank",)),
    ("squares of products", "sqr(W) * sqr(X)", "abs(W) * X", ("rank",)),
    ("an exponential at the root", "exp(abs(W))", "abs(W)", ("rank",)),
    ("a hyperbolic tangent at the root", "tanh(W)", "W", ("rank",)),
    ("a positive factor", "3 * abs(W)", "abs(W)", ("rank",)),
    ("an addend that is constant", "abs(W) + 7", "abs(W)", ("rank",)),
    ("a row's factor per row", "abs(W) * (Y + 1)  per row", "abs(W)  per row", ("rank",)),
    ("a row's addend per row", "abs(W) + sum(W, in)  per row", "abs(W)  per row", ("rank",)),
    ("a column's factor per column", "abs(W) * (X + 1)  per col", "abs(W)  per col", ("rank",)),
    ("a column's factor per row counts", "abs(W) * X", "abs(W)", ()),
    ("a row's factor per layer counts", "abs(W) * (Y + 1)  per layer", "abs(W)  per layer", ()),
    ("the sign of a weight counts", "W", "abs(W)", ()),
    ("a negative factor turns the order", "-2 * abs(W)", "abs(W)", ()),
    ("a negative factor twice does not", "-1 * (-2 * abs(W))", "abs(W)", ("rank",)),
    ("an exponent of one factor counts", "abs(W) * X ^ 0.5", "abs(W) * X", ()),
    ("another group counts for the ranking alone", "abs(W)  per row", "abs(W)  per layer", ("exact", "real")),
    ("another leaf", "abs(W) * X", "abs(W) * X.l1", ()),
    ("another axis", "abs(W) / sum(abs(W), in)  per layer", "abs(W) / sum(abs(W), out)  per layer", ()),
]


def sameness() -> list[Content]:
    """Pairs of metrics with the keys that they share."""
    return [alike(what, a, b, *same) for what, a, b, same in SAMENESS]


NO_BLANKS = 'pzm 1 metric m { "\u2003\x1c\ufeff": abs(W)  else: W * X }'
"""White space and a mark that separate nothing in the language."""


def documents() -> list[Content]:
    """Documents that a reader takes, and such that it refuses."""
    text = ir.emit(inline("abs(W) * sum(X) ^ 0.5 + W"))
    good = json.loads(text)
    roles = 'pzm 1 metric m { up_proj: abs(W)  "*é*": W * X  else: abs(W) * X per col }'
    taken = [
        ("as it is written", text),
        ("without the line feed", text[:-1]),
        ("indented", json.dumps(good, indent=2)),
        ("with keys in another order", json.dumps(dict(reversed(good.items())))),
        ("with a number written otherwise", text.replace("0.5", "5.0e-1")),
        ("with places written as 0.0", text.replace('"args":[0]', '"args":[0.0]')),
        ("with a letter written as an escape", text.replace('"abs"', '"\\u0061bs"')),
        ("by role", ir.emit(compile_source(roles, "roles").metrics[0])),
        ("one leaf alone", ir.emit(inline("W"))),
        ("a pattern of what is no blank here", ir.emit(compile_source(NO_BLANKS, "blanks").metrics[0])),
    ]
    refusals = [
        ("nothing", ""),
        ("no JSON", "pzm 1"),
        ("a list", "[]"),
        ("null", "null"),
        ("two documents", text + text),
        ("deeply nested lists", "[" * 10_000),
        ("a text that does not close", text[:40]),
        ("a key twice", text.replace('"name":"inline"', '"name":"inline","name":"inline"')),
        ("a key of a node twice", text.replace('"op":"abs"', '"op":"abs","op":"abs"')),
        ("NaN", text.replace("0.5", "NaN")),
        ("a number beyond float64", text.replace("0.5", "1e999")),
        ("a number beyond float32", text.replace("0.5", "1e39")),
        ("a number that is zero in float32", text.replace("0.5", "1e-60")),
        ("a number as a text", text.replace("0.5", '"0.5"')),
        ("a truth value as a number", text.replace("0.5", "true")),
        ("another format", text.replace("pzm-ir/1", "pzm-ir/2")),
        ("a name that is none", text.replace('"inline"', '"no name"')),
        ("a name with a line feed", text.replace('"inline"', '"inline\\n"')),
    ]
    changes = [
        ("no nodes", {"nodes": []}),
        ("no arms", {"arms": []}),
        ("another key", {"doc": "what it is"}),
        ("a leaf missing in the list", {"leaves": ["W"]}),
        ("leaves in another order", {"leaves": ["X.l2", "W"]}),
        ("a leaf twice in the list", {"leaves": ["W", "W", "X.l2"]}),
        ("an arm without patterns that is not the last", {"arms": good["arms"] * 2}),
        ("a last arm with patterns", {"arms": [{**good["arms"][0], "layers": ["q"]}]}),
        ("an empty pattern", {"arms": [{**good["arms"][0], "layers": [""]}, *good["arms"]]}),
        ("a pattern that is a number", {"arms": [{**good["arms"][0], "layers": [1]}, *good["arms"]]}),
        ("a pattern of blanks", {"arms": [{**good["arms"][0], "layers": [" \t\f"]}, *good["arms"]]}),
        ("a pattern with a carriage return", {"arms": [{**good["arms"][0], "layers": ["a\rb"]}, *good["arms"]]}),
        ("half a character in a pattern", {"arms": [{**good["arms"][0], "layers": ["\ud800"]}, *good["arms"]]}),
        ("a group that does not exist", {"arms": [{**good["arms"][0], "per": "rows"}]}),
        ("a score beyond the nodes", {"arms": [{**good["arms"][0], "score": len(good["nodes"])}]}),
        ("a score below zero", {"arms": [{**good["arms"][0], "score": -1}]}),
        ("a score between two nodes", {"arms": [{**good["arms"][0], "score": 0.5}]}),
        ("a score that leaves a node out", {"arms": [{**good["arms"][0], "score": len(good["nodes"]) - 2}]}),
    ]
    refusals += [(what, json.dumps({**good, **change})) for what, change in changes]
    refusals += [(f"without `{key}`", json.dumps({k: v for k, v in good.items() if k != key})) for key in good]
    leaf, number, one = good["nodes"][0], {"axes": [], "op": "number", "value": 2}, {"args": [0], "axes": ["out", "in"]}
    row = {"axes": ["in"], "name": "X.l2", "op": "leaf"}
    graphs = [
        ("an unknown operation", [leaf, {**one, "op": "log"}]),
        ("an operation that every object of JavaScript has", [leaf, {**one, "op": "constructor"}]),
        ("a node without an operation", [leaf, {"args": [0], "axes": []}]),
        ("a node that is a list", [leaf, []]),
        ("an unknown leaf", [{**leaf, "name": "V"}]),
        ("a leaf by its short name", [{**row, "name": "X"}]),
        ("a leaf with other axes", [{**leaf, "axes": ["in"]}]),
        ("axes in another order", [{**leaf, "axes": ["in", "out"]}]),
        ("an argument too many", [leaf, {**one, "args": [0, 0], "op": "abs"}]),
        ("an argument too few", [leaf, {**one, "op": "add"}]),
        ("itself as an argument", [leaf, {**one, "args": [1], "op": "abs"}]),
        ("a later node as an argument", [{**one, "args": [1], "op": "abs"}, leaf]),
        ("a place as a text", [leaf, {**one, "args": ["0"], "op": "abs"}]),
        ("an axis for a function that takes none", [leaf, {**one, "axis": "in", "op": "abs"}]),
        ("an unknown axis", [leaf, {**one, "axis": "rows", "axes": ["out"], "op": "sum"}]),
        ("an axis that is null", [leaf, {**one, "axis": None, "axes": [], "op": "sum"}]),
        ("an axis by name where there is one alone", [row, {**one, "axis": "in", "axes": [], "op": "sum"}]),
        ("a sum of a number", [number, {**one, "axes": [], "op": "sum"}]),
        ("a sum that keeps its axes", [leaf, {**one, "op": "sum"}]),
        ("a rank that loses its axes", [leaf, {**one, "axes": [], "op": "rank"}]),
        ("a norm of order zero", [leaf, {**number, "value": 0}, {"args": [0, 1], "axes": [], "op": "norm"}]),
        ("a norm of an order that is no number", [leaf, {"args": [0, 0], "axes": [], "op": "norm"}]),
        ("a quantile of two", [leaf, number, {"args": [0, 1], "axes": [], "op": "quantile"}]),
        ("a node twice", [leaf, leaf, {**one, "args": [0, 1], "op": "add"}]),
        ("a node that nothing uses", [number, leaf, {**one, "args": [1], "op": "abs"}]),
        ("nodes in another order", [row, leaf, {**one, "args": [1, 0], "op": "mul"}]),
    ]
    square = [leaf, *({**one, "args": [i, i], "op": "mul"} for i in range(40))]
    chain = [leaf, *({**one, "args": [i], "op": "neg"} for i in range(250))]
    graphs += [("a graph that is huge when it is written out", square), ("a graph of 251 levels", chain)]
    for what, nodes in graphs:
        leaves = sorted({n["name"] for n in nodes if isinstance(n, dict) and n.get("op") == "leaf"})
        arms = [{"layers": [], "per": "row", "score": len(nodes) - 1}]
        refusals.append((what, json.dumps({**good, "arms": arms, "leaves": leaves, "nodes": nodes})))
    return [document(f"taken: {what}", text, True) for what, text in taken] + [
        document(f"refused: {what}", text, False) for what, text in refusals
    ]
