"""Targets for people: the formula in LaTeX, drawings of the core graph."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import pzc
from pzc.compiler.arm import Arm
from pzc.compiler.core import Node, leaf, make, number, topological
from pzc.compiler.leaves import LEAVES
from pzc.compiler.load import inline, zoo_names
from pzc.compiler.metric import Metric, compile_source
from pzc.compiler.reference import evaluate
from pzc.compiler.source import expression
from pzc.compiler.targets import dot, latex, mermaid
from tests.strategies import EXPRESSIONS

AWKWARD = 'a_"b%$&{}~^\\*?.[x]<b>é#35;&amp;'
"""A pattern of layers with whatever LaTeX, Graphviz and Mermaid read as their own."""


def formula(text: str) -> str:
    return latex.formula(inline(f"{text} per layer").core)


FORMULAE = {
    "abs(W) * X": r"\left\lvert W_{ij} \right\rvert \cdot \lVert X_{j} \rVert_2",
    "W - (X - Y)": r"W_{ij} - \left(\lVert X_{j} \rVert_2 - \lVert Y_{i} \rVert_2\right)",
    "(W + X) * Y.mean": r"\left(W_{ij} + \lVert X_{j} \rVert_2\right) \cdot \overline{Y_{i}}",
    "sqr(-W) * X.var": r"\left(-W_{ij}\right)^{2} \cdot \operatorname{Var}(X_{j})",
    "-(W ^ 2)": r"-W_{ij}^{2}",
    "(W / X) ^ 3": r"\left(\frac{W_{ij}}{\lVert X_{j} \rVert_2}\right)^{3}",
    "sum(abs(W), in) * W": r"\left(\sum_{j'} \left\lvert W_{ij'} \right\rvert\right) \cdot W_{ij}",
    "X * sum(W, in)": r"\lVert X_{j} \rVert_2 \cdot \left(\sum_{j'} W_{ij'}\right)",
    "W / sum(W / sum(W, out), in)": r"\frac{W_{ij}}{\sum_{j'} \frac{W_{ij'}}{\sum_{i'} W_{i'j'}}}",
    "W - mean(W / norm(W, 2, in))": r"W_{ij} - \operatorname*{mean}_{i',j'} "
    r"\frac{W_{i'j'}}{\left\lVert W_{i':} \right\rVert_{2}}",
    "W - max(W / sum(W, in), in)": r"W_{ij} - \max_{j'} \frac{W_{ij'}}{\sum_{j''} W_{ij''}}",
    "W + norm(W * X, 3, in)": r"W_{ij} + \left\lVert \left(W_{ij'} \cdot \lVert X_{j'} \rVert_2\right)_{j'} "
    r"\right\rVert_{3}",
    "W * norm(G, 2, in)": r"W_{ij} \cdot \left\lVert \left(\lVert G_{ij'} \rVert_2\right)_{j'} \right\rVert_{2}",
    "W + norm(W, 2)": r"W_{ij} + \left\lVert \left(W_{i'j'}\right)_{i',j'} \right\rVert_{2}",
    "W * norm(X.mean, 1)": r"W_{ij} \cdot \left\lVert \left(\overline{X_{j'}}\right)_{j'} \right\rVert_{1}",
    "rank(W * 2, out)": r"\#\left\{ i' : W_{i'j} \cdot 2 < W_{ij} \cdot 2 \right\}",
    "tail(W, in)": r"\sum_{j' : W_{ij'} \ge W_{ij}} W_{ij'}",
    "tail(W + Y, in) / 2": r"\frac{\sum_{j' : W_{ij'} + \lVert Y_{i} \rVert_2 \ge W_{ij} + \lVert Y_{i} \rVert_2} "
    r"\left(W_{ij'} + \lVert Y_{i} \rVert_2\right)}{2}",
    "rank(W)": r"\#\left\{ i',j' : W_{i'j'} < W_{ij} \right\}",
    "W + quantile(W, 0.9, in)": r"W_{ij} + \operatorname*{quantile}_{j'}\left(W_{ij'},\, 0.9\right)",
    "clamp(W, -1, 1)": r"\min\left(\max\left(W_{ij},\, -1\right),\, 1\right)",
    "ln(X + 1e-8) * W": r"\ln\left(\lVert X_{j} \rVert_2 + 10^{-8}\right) \cdot W_{ij}",
    "W * 2.5e-7 - -3": r"W_{ij} \cdot 2.5 \cdot 10^{-7} - \left(-3\right)",
    "W / H.inv_diag + G.mean * noise": r"\frac{W_{ij}}{(H^{-1})_{jj}} + \overline{G_{ij}} \cdot u_{ij}",
}


@pytest.mark.parametrize("text", FORMULAE)
def test_formulae(text: str) -> None:
    assert formula(text) == FORMULAE[text]


# A formula means what the metric means, as far as sympy reads it: its grammar has no indices beside names, no |x|.

ELEMENTWISE = st.recursive(
    st.one_of(
        st.sampled_from(["W", "G.mean", "X.mean"]).map(leaf), st.sampled_from([0.5, 2.0, -3.0, 1e-7]).map(number)
    ),
    lambda parts: st.one_of(
        st.builds(make, st.sampled_from(["neg", "sqr", "sqrt", "exp"]), parts),
        st.builds(make, st.sampled_from(["add", "sub", "mul", "div", "min", "max"]), parts, parts),
        st.builds(lambda x, e: make("pow", x, number(e)), parts, st.sampled_from([-2.0, 0.5, 3.0])),
    ),
    max_leaves=6,
)
SYMBOLS = {"W_{ij}": ("a", "W"), r"\overline{G_{ij}}": ("b", "G.mean"), r"\overline{X_{j}}": ("c", "X.mean")}


@settings(deadline=None, max_examples=100)
@given(ELEMENTWISE)
def test_sympy_reads_the_formula_as_the_metric(core: Node) -> None:
    sympy = pytest.importorskip("sympy")
    from sympy.parsing.latex import parse_latex

    values = {"W": 1.25, "G.mean": 0.75, "X.mean": 1.5}
    leaves = {n: np.full([1] * len(LEAVES[n].axes), v) for n, v in values.items()}
    steps = [evaluate(n, leaves) for n in topological(core)]
    assume(all(np.isfinite(s).all() and (np.abs(s) < 1e9).all() for s in steps))
    text = latex.formula(core)
    for tex, (symbol, _) in SYMBOLS.items():
        text = text.replace(tex, symbol)
    found = parse_latex(text.replace(r"\,", ""), backend="lark")
    given_values = {sympy.Symbol(s): values[n] for s, n in SYMBOLS.values()} | {sympy.Symbol("e"): sympy.E}
    want = float(evaluate(core, leaves).item())
    assert float(found.subs(given_values)) == pytest.approx(want, rel=1e-6, abs=1e-9), (expression(core), text)


@settings(deadline=None, max_examples=200)
@given(EXPRESSIONS)
def test_brackets_and_scripts_close(core: Node) -> None:
    text = latex.formula(core)
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    assert text.count(r"\left") == text.count(r"\right")
    assert not re.search(r"\}\^\{[^}]*\}\^", text)  # no double superscript


@pytest.mark.parametrize("name", zoo_names())
def test_the_zoo_as_text(name: str) -> None:
    metric = pzc.load(name)
    tex = latex.emit(metric, "1.2").splitlines()
    assert tex[0].startswith(f"% {name}, ")
    assert tex[1].startswith("S_{ij} = ")
    assert dot.emit(metric, "1.2").startswith(f"// {name}, written by pzc 1.2\ndigraph")
    assert mermaid.emit(metric, "1.2").startswith(f"%% {name}, written by pzc 1.2\nflowchart")


def test_a_metric_by_role_as_cases() -> None:
    text = 'pzm 1 metric m { up_proj, "a_%*": W * 2 per col  else: abs(W) }'
    assert latex.emit(compile_source(text, "m.pzm").metrics[0], "0") == (
        "% m, by layer; written by pzc 0\n"
        "S_{ij} = \\begin{cases}\n"
        "  W_{ij} \\cdot 2 & \\texttt{up\\_proj}, \\texttt{a\\_\\%*}, \\text{per col} \\\\\n"
        "  \\left\\lvert W_{ij} \\right\\rvert & \\text{else}, \\text{per row} \\\\\n"
        "\\end{cases}\n"
    )


def test_a_graph_deeper_than_python_recurses() -> None:
    core = leaf("W")
    for _ in range(3000):
        core = make("tanh", core)
    assert latex.formula(core).count(r"\tanh") == 3000
    assert dot.emit(Metric("m", core, "row"), "0").count("tanh") == 3000


# Drawings

RATIO = "pzm 1 metric m = abs(W) / sum(abs(W), in) per layer"


def test_a_drawing_has_every_node_once() -> None:
    metric = compile_source(RATIO, "m.pzm").metrics[0]
    assert dot.emit(metric, "0").splitlines()[6:] == [
        '    n0 [label="W\\n[out, in]", shape=box, style="rounded,filled", fillcolor="#cfe8f3"]',
        '    n1 [label="abs\\n[out, in]", shape=box]',
        "    n0 -> n1",
        '    n2 [label="sum over in\\n[out]", shape=box]',
        "    n1 -> n2",
        '    n3 [label="div\\n[out, in]", shape=box]',
        '    n1 -> n3 [label="1"]',
        '    n2 -> n3 [label="2"]',
        '    s0 [label="m\\nper layer", shape=box, style="bold,filled", fillcolor="#fdebc8"]',
        "    n3 -> s0",
        "}",
    ]
    assert mermaid.emit(metric, "0").splitlines()[1:] == [
        "flowchart BT",
        '    n0(["W<br>[out, in]"])',
        '    n1["abs<br>[out, in]"]',
        "    n0 --> n1",
        '    n2["sum over in<br>[out]"]',
        "    n1 --> n2",
        '    n3["div<br>[out, in]"]',
        "    n1 -->|1| n3",
        "    n2 -->|2| n3",
        '    s0[["m<br>per layer"]]',
        "    n3 --> s0",
    ]


def test_arms_share_their_nodes() -> None:
    metric = compile_source("pzm 1 metric m { q_proj: abs(W) else: abs(W) * X }", "m.pzm").metrics[0]
    for text in (dot.emit(metric, "0"), mermaid.emit(metric, "0")):
        assert text.count('"abs') == 1
        assert [re.findall(key, text) for key in (r"\bs\d(?=[ \[]*\[)", "q_proj", "else")] == [
            ["s0", "s1"],
            ["q_proj"],
            ["else"],
        ]


def test_no_layer_breaks_out_of_its_label() -> None:
    metric = Metric("m", leaf("W"), "row", roles=(Arm(leaf("X.l2"), "col", (AWKWARD,)),))
    label = next(line for line in mermaid.emit(metric, "0").splitlines() if "per col" in line)
    inside = label.split('"')[1].replace("<br>", "")
    read = re.sub(r"#(\d+);", lambda c: chr(int(c[1])), inside)
    assert read == f"m{AWKWARD}per col"
    assert not set('"<>{}`') & set(inside)
    if shutil.which("dot"):
        drawn = subprocess.run(
            ["dot", "-Tplain"], input=dot.emit(metric, "0"), capture_output=True, text=True, check=True
        )
        assert not drawn.stderr


@pytest.mark.skipif(shutil.which("dot") is None, reason="there is no Graphviz")
@pytest.mark.parametrize("name", ["ria", "z_pruner", "stade_w"])
def test_graphviz_draws_it(name: str) -> None:
    text = dot.emit(pzc.load(name), "0")
    drawn = subprocess.run(["dot", "-Tplain"], input=text, capture_output=True, text=True, check=True)
    kinds = [line.split()[0] for line in drawn.stdout.splitlines()]
    assert not drawn.stderr
    assert kinds.count("edge") == text.count(" -> ")
