"""Metrics written as trees of Pruner-Zero's release, where its operators can say them."""

from __future__ import annotations

from dataclasses import dataclass

from pzc.compiler.core import Node, topological
from pzc.compiler.metric import Metric
from pzc.compiler.paper.trees import Tree, TreeError
from pzc.compiler.source import expression


@dataclass(frozen=True)
class _Scaled:
    """A tree and what its value must be multiplied by: a number above 0 times a power of the number of windows."""

    tree: Tree
    factor: float = 1.0
    windows: float = 0.0

    @property
    def plain(self) -> bool:
        return self.factor == 1 and self.windows == 0

    def power(self, data: str, e: float) -> _Scaled:
        """An operator that raises its argument to a power. Raises TreeError where its factor is beyond a float."""
        try:
            return _Scaled(_node(data, self.tree), self.factor**e, self.windows * e)
        except OverflowError:
            raise TreeError("a number that goes into a power is too large") from None


def _node(data: str, *children: Tree) -> Tree:
    return {"data": data, **dict(zip(("left", "right"), children, strict=False))}


def export_paper_tree(metric: Metric) -> Tree:
    """A tree of the release that ranks weights as a metric does.

    The release has no numbers, so positive factors are kept aside; one that is left at the root changes no ranking
    and is dropped. Raises TreeError, with the part that is to blame, for what its operators can't say.
    """
    if metric.roles:
        raise TreeError("a tree has no roles: every layer gets the same score")
    if metric.per != "row":
        raise TreeError(f"the release compares per row, and this metric per {metric.per}")
    found: dict[Node, _Scaled | None] = {}
    for node in topological(metric.core):
        found[node] = _written(node, found)
        if found[node] is None and node is metric.core:
            blame = next((n for n in topological(node) if found[n] is None and _is_whole(n)), node)
            raise TreeError(f"no operator of the release says `{expression(blame)}`")
    result = found[metric.core]
    if result is None:
        raise TreeError("the release has no numbers")
    return result.tree


def _is_whole(node: Node) -> bool:
    """Whether a part can be blamed: a number or a leaf alone may yet be part of something that can be said."""
    return node.op not in ("number", "leaf", "amin", "amax", "mean", "std", "norm")


def _written(node: Node, found: dict[Node, _Scaled | None]) -> _Scaled | None:
    for pattern in _PATTERNS:
        result = pattern(node, found)
        if result is not None:
            return result
    return None


Found = dict[Node, "_Scaled | None"]


def _leaf(node: Node, found: Found) -> _Scaled | None:
    """|W|, W · W, ‖X‖₂ = (windows · x)^½ for the release's x, ‖G‖₂ = g / 100 for its g."""
    if node.op == "abs" and node.args[0].value == "W":
        return _Scaled(_node("W"))
    if node.value == "X.l2":
        return _Scaled(_node("sqrt", _node("X")), 1.0, 0.5)
    if node.op == "sqr" and node.args[0].value == "X.l2":
        return _Scaled(_node("X"), 1.0, 1.0)
    if node.op == "sqr" and node.args[0].value == "W":
        return _Scaled(_node("sqr", _node("W")))
    if node.op == "mul" and all(a.value == "W" for a in node.args):
        return _Scaled(_node("mul", _node("W"), _node("W")))
    return _Scaled(_node("G"), 0.01) if node.value == "G.l2" else None


def _factor(node: Node, found: Found) -> _Scaled | None:
    """c · x, x / c and x / windows for a number c."""
    if node.op not in ("mul", "div"):
        return None
    a, b = node.args
    if node.op == "mul" and a.op == "number":
        a, b = b, a
    x = found.get(a)
    e = 1 if node.op == "mul" else -1
    if x is not None and b.value == "windows":
        return _Scaled(x.tree, x.factor, x.windows + e)
    if x is None or b.op != "number" or not b.value:
        return None
    c = float(b.value) ** e
    return _Scaled(x.tree if c > 0 else _node("neg", x.tree), x.factor * abs(c), x.windows)


def _logarithm(node: Node, found: Found) -> _Scaled | None:
    """ln(|x| + 0.001)."""
    if node.op != "ln" or node.args[0].op != "add":
        return None
    a, b = node.args[0].args
    a, b = (b, a) if a.op == "number" else (a, b)
    inner = a.args[0] if a.op == "abs" and found.get(a.args[0]) is not None else a
    x = found.get(inner)
    fits = (
        b.op == "number" and b.value == 0.001 and x is not None and x.plain and (a.op == "abs" or a.sign.non_negative)
    )
    return _Scaled(_node("log", x.tree)) if fits and x else None


def _exponential(node: Node, found: Found) -> _Scaled | None:
    """e^min(x, 100)."""
    if node.op != "exp" or node.args[0].op != "min":
        return None
    a, b = node.args[0].args
    a, b = (b, a) if a.op == "number" else (a, b)
    x = found.get(a)
    return _Scaled(_node("exp", x.tree)) if b.value == 100.0 and b.op == "number" and x and x.plain else None


def _scaling(node: Node, found: Found) -> _Scaled | None:
    """(x − min x) / (max x − min x) and (x − mean x) / std x: a positive factor of x drops out."""
    if node.op != "div" or node.args[0].op != "sub":
        return None
    above, below = node.args
    x, offset = above.args
    inner = found.get(x)
    if inner is None or offset.args != (x,) or offset.value is not None:
        return None
    if offset.op == "mean" and below.op == "std" and below.args == (x,) and below.value is None:
        return _Scaled(_node("zsn", inner.tree))
    spread = below.op == "sub" and below.args[1] is offset and below.args[0].op == "amax"
    if offset.op == "amin" and spread and below.args[0].args == (x,) and below.args[0].value is None:
        return _Scaled(_node("mms", inner.tree))
    return None


def _norm_quotient(node: Node, found: Found) -> _Scaled | None:
    """x / ‖y‖_F."""
    if node.op != "div" or node.args[1].op != "norm" or node.args[1].args[1].value != 2.0:
        return None
    x, y = found.get(node.args[0]), found.get(node.args[1].args[0])
    if x is None or y is None or node.args[1].value is not None:
        return None
    return _Scaled(_node("div", x.tree, y.tree), x.factor / y.factor, x.windows - y.windows)


def _unary(node: Node, found: Found) -> _Scaled | None:
    x = found.get(node.args[0]) if node.args else None
    if node.op == "sqrt":
        inner = node.args[0]
        if inner.op == "abs" and found.get(inner.args[0]) is not None:  # the release's root takes the magnitude
            x = found[inner.args[0]]
        elif not inner.sign.non_negative:
            return None
        return x.power("sqrt", 0.5) if x else None
    if x is None:
        return None
    if node.op in ("neg", "abs"):
        return _Scaled(_node(node.op, x.tree), x.factor, x.windows)
    if node.op == "sqr" or (node.op == "pow" and node.args[1].value == 2.0 and node.args[1].op == "number"):
        return x.power("sqr", 2)
    return _Scaled(_node("tanh", x.tree)) if node.op == "tanh" and x.plain else None


def _binary(node: Node, found: Found) -> _Scaled | None:
    if node.op not in ("add", "sub", "mul"):
        return None
    x, y = (found.get(a) for a in node.args)
    if x is None or y is None:
        return None
    if node.op == "mul":
        tree = _node("sqr", x.tree) if x == y else _node("mul", x.tree, y.tree)
        return _Scaled(tree, x.factor * y.factor, x.windows + y.windows)
    alike = x.factor == y.factor and x.windows == y.windows
    return _Scaled(_node(node.op, x.tree, y.tree), x.factor, x.windows) if alike else None


_PATTERNS = (_leaf, _factor, _logarithm, _exponential, _scaling, _norm_quotient, _unary, _binary)
"""What the release can say, the more particular first."""
