"""An ONNX model: the core graph in ONNX's operators, for layers of any size, in float32.

    session = onnxruntime.InferenceSession("wanda.onnx")
    session.run(["scores"], {"W": weight, "X": norms})  # float32 [out, in] and [in] to float32 [out, in]

What ONNX leaves open is written out: NaN gets through every minimum, maximum and selection by `Where`, never by the
grace of a runtime.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from pzc.compiler.arguments import argument
from pzc.compiler.arm import Arm
from pzc.compiler.core import Node, leaves_of, topological, value_of
from pzc.compiler.leaves import LEAVES
from pzc.compiler.metric import Metric
from pzc.compiler.targets.table import about

OPSET = 18
"""The first with the axes of every reduction as an input and with the least of several values in a scatter."""

IR_VERSION = 8
"""The version of the file format that came with the opset."""

Axis = str | None


def emit(metric: Metric, arm: Arm, version: str) -> bytes:
    """The model of one arm as the bytes of an `.onnx` file; its metadata say what it computes."""
    written = model(arm.core)
    written.producer_name, written.producer_version = "pzc", version
    facts = about(metric, arm, version)
    helper.set_model_props(written, {k: v if isinstance(v, str) else json.dumps(v) for k, v in facts.items()})
    content: bytes = written.SerializeToString(deterministic=True)
    return content


def model(core: Node) -> ModelProto:
    """The score as a checked model with the leaves as named float32 inputs and sizes `out` and `in` left open."""
    g = _Graph()
    leaves = {n: leaf.axes for n, leaf in LEAVES.items() if n in leaves_of(core)}
    values: dict[Node, str] = {}
    for node in topological(core):
        args = [values[a] for a in node.args]
        if node.op == "number":
            values[node] = g.constant([[node.value]])
        elif node.op == "leaf":
            missing = [i for i, axis in enumerate(("out", "in")) if axis not in LEAVES[str(node.value)].axes]
            name = argument(str(node.value))
            values[node] = g.add("Unsqueeze", name, g.constant(missing, np.int64)) if missing else name
        elif node.op in _SAME:
            values[node] = g.add(_SAME[node.op], *args)
        elif node.op in _ELEMENTWISE:
            values[node] = _ELEMENTWISE[node.op](g, *args)
        else:
            constants = [value_of(a) for a in node.args[1:]]
            values[node] = _OVER_AXIS[node.op](g, args[0], *constants, node.value)
    matrix = next((argument(n) for n, axes in leaves.items() if len(axes) == 2), values[core])
    g.nodes.append(helper.make_node("Expand", [values[core], g.add("Shape", matrix)], ["scores"]))
    sizes = ["out", "in"] if any(len(axes) == 2 for axes in leaves.values()) else [None, None]
    inputs = [helper.make_tensor_value_info(argument(n), TensorProto.FLOAT, axes) for n, axes in leaves.items()]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, sizes)]
    graph = helper.make_graph(g.nodes, "score", inputs, outputs, list(g.constants.values()))
    written = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    checker.check_model(written, full_check=True)
    return written


class _Graph:
    """Nodes and constants as they are added; a tensor is known by its name."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[tuple[str, bytes, tuple[int, ...]], TensorProto] = {}

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """The name of an operation's first output; those of the others end in their number."""
        name = f"/{op}_{len(self.nodes)}"  # no argument begins with a slash
        names = [name, *(f"{name}_{i}" for i in range(1, outputs))]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return name

    def constant(self, value: Any, dtype: type[np.generic] = np.float32) -> str:
        """The name of a constant; one for all that are equal."""
        array = np.array(value, dtype=dtype)
        key = (array.dtype.name, array.tobytes(), array.shape)
        if key not in self.constants:
            self.constants[key] = numpy_helper.from_array(array, f"/constant_{len(self.constants)}")
        return self.constants[key].name


# Elementwise


def _sigmoid(g: _Graph, x: str) -> str:
    """1 / (1 + e⁻ˣ) by e^−|x|, which never overflows and keeps small values apart."""
    e = g.add("Exp", g.add("Neg", g.add("Abs", x)))
    positive = g.add("GreaterOrEqual", x, g.constant(0))
    return g.add("Div", g.add("Where", positive, g.constant(1), e), g.add("Add", e, g.constant(1)))


def _lesser(g: _Graph, x: str, y: str) -> str:
    return g.add("Where", g.add("Or", g.add("Less", x, y), g.add("IsNaN", x)), x, y)


def _greater(g: _Graph, x: str, y: str) -> str:
    return g.add("Where", g.add("Or", g.add("Greater", x, y), g.add("IsNaN", x)), x, y)


_SAME = {
    "neg": "Neg",
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "pow": "Pow",
    "abs": "Abs",
    "sqrt": "Sqrt",
    "exp": "Exp",
    "ln": "Log",
    "tanh": "Tanh",
}
"""Operations that ONNX has as they are."""

_ELEMENTWISE: dict[str, Callable[..., str]] = {
    "sqr": lambda g, x: g.add("Mul", x, x),
    "sigmoid": _sigmoid,
    "sign": lambda g, x: g.add("Where", g.add("IsNaN", x), x, g.add("Sign", x)),
    "min": _lesser,
    "max": _greater,
    "clamp": lambda g, x, low, high: _lesser(g, _greater(g, x, low), high),
}


# Over an axis


def _reduce(g: _Graph, op: str, x: str, axis: Axis) -> str:
    axes = {"out": [0], "in": [1], None: [0, 1]}[axis]
    return g.add(op, x, g.constant(axes, np.int64), keepdims=1)


def _sum(g: _Graph, x: str, axis: Axis) -> str:
    """Σ x; over both axes row by row and then in float64, since runtimes add up in float32 as the values come."""
    if axis:
        return _reduce(g, "ReduceSum", x, axis)
    rows = g.add("Cast", _reduce(g, "ReduceSum", x, "in"), to=TensorProto.DOUBLE)
    return g.add("Cast", _reduce(g, "ReduceSum", rows, "out"), to=TensorProto.FLOAT)


def _mean(g: _Graph, x: str, axis: Axis, freedom: int = 0) -> str:
    """Σ x / (n − freedom); 0 / 0 where that is none."""
    n = g.add("Shape", x, start=int(axis == "in"), end=1 + (axis == "in")) if axis else g.add("Size", x)
    count = g.add("Sub", n, g.constant(freedom, np.int64)) if freedom else n
    return g.add("Div", _sum(g, x, axis), g.add("Cast", count, to=TensorProto.FLOAT))


def _variance(g: _Graph, x: str, axis: Axis) -> str:
    centred = g.add("Sub", x, _mean(g, x, axis))
    return _mean(g, g.add("Mul", centred, centred), axis, freedom=1)


def _any_nan(g: _Graph, x: str, axis: Axis) -> str:
    found = g.add("Cast", g.add("IsNaN", x), to=TensorProto.FLOAT)
    return g.add("Cast", _reduce(g, "ReduceMax", found, axis), to=TensorProto.BOOL)


def _nan_where(g: _Graph, bad: str, x: str) -> str:
    return g.add("Where", bad, g.constant(np.nan), x)


def _extreme(op: str) -> Callable[..., str]:
    return lambda g, x, axis: _nan_where(g, _any_nan(g, x, axis), _reduce(g, op, x, axis))


def _norm(g: _Graph, x: str, p: float, axis: Axis) -> str:
    total = _sum(g, g.add("Pow", g.add("Abs", x), g.constant(p)), axis)
    return g.add("Pow", total, g.constant(1 / p))


def _groups(g: _Graph, x: str, axis: Axis) -> tuple[str, str, str]:
    """What a selection works on: the groups as rows in ascending order, where each value was, which rows have NaN.
    NaN is sorted as 0, since no order is laid down for it."""
    rows = g.add("Transpose", x, perm=[1, 0]) if axis == "out" else x
    rows = rows if axis else g.add("Reshape", x, g.constant([1, -1], np.int64))
    plain = g.add("Where", g.add("IsNaN", rows), g.constant(0), rows)
    ordered = g.add("TopK", plain, g.add("Shape", rows, start=1), outputs=2, axis=1, largest=0, sorted=1)
    return ordered, f"{ordered}_1", _any_nan(g, rows, "in")


def _quantile(g: _Graph, x: str, q: float, axis: Axis) -> str:
    """(1 − f) sᵢ + f sᵢ₊₁ with h = q(n − 1) in float64, i = ⌊h⌋ and f = h − i; sᵢ where f = 0 or both are equal."""
    ordered, _, bad = _groups(g, x, axis)
    last = g.add("Sub", g.add("Shape", ordered, start=1), g.constant([1], np.int64))
    h = g.add("Mul", g.add("Cast", last, to=TensorProto.DOUBLE), g.constant([q], np.float64))
    whole = g.add("Floor", h)
    i = g.add("Cast", whole, to=TensorProto.INT64)
    low = g.add("Gather", ordered, i, axis=1)
    high = g.add("Gather", ordered, g.add("Min", g.add("Add", i, g.constant([1], np.int64)), last), axis=1)
    part = g.add("Sub", h, whole)
    rest = g.add("Sub", g.constant([1], np.float64), part)
    below, above = (
        g.add("Mul", g.add("Cast", share, to=TensorProto.FLOAT), neighbour)
        for share, neighbour in ((rest, low), (part, high))
    )
    alone = g.add("Or", g.add("Equal", part, g.constant([0], np.float64)), g.add("Equal", low, high))
    value = g.add("Where", alone, low, g.add("Add", below, above))  # either may be infinite
    value = _nan_where(g, bad, value)
    return g.add("Transpose", value, perm=[1, 0]) if axis == "out" else value


def _begins(g: _Graph, ordered: str, origin: str) -> str:
    """In ascending order equal values are a run; the place where the run of each begins."""
    one = g.constant([1], np.int64)
    tail = g.add("Slice", ordered, one, g.constant([2**62], np.int64), one)
    head = g.add("Slice", ordered, g.constant([0], np.int64), g.constant([-1], np.int64), one)
    begins = g.add("Cast", g.add("Not", g.add("Equal", tail, head)), to=TensorProto.INT64)
    first = g.add("Slice", g.add("Mul", origin, g.constant(0, np.int64)), g.constant([0], np.int64), one, one)
    run = g.add("CumSum", g.add("Concat", first, begins, axis=1), g.constant(1, np.int64))
    shape, n = g.add("Shape", ordered), g.add("Shape", ordered, start=1)
    places = g.add("Range", g.constant(0, np.int64), g.add("Squeeze", n), g.constant(1, np.int64))
    places = g.add("Expand", places, shape)
    begin = g.add("ScatterElements", g.add("Expand", n, shape), run, places, axis=1, reduction="min")
    return g.add("GatherElements", begin, run, axis=1)


def _rank(g: _Graph, x: str, axis: Axis) -> str:
    """The place where a run of equal values begins is how many values are smaller."""
    ordered, origin, bad = _groups(g, x, axis)
    return _back(g, x, axis, _begins(g, ordered, origin), origin, bad)


def _tail(g: _Graph, x: str, axis: Axis) -> str:
    """Sums in float64 from the largest on, each read where the run of equal values begins."""
    ordered, origin, bad = _groups(g, x, axis)
    wide = g.add("Cast", ordered, to=TensorProto.DOUBLE)
    sums = g.add("CumSum", wide, g.constant(1, np.int64), reverse=1)
    return _back(g, x, axis, g.add("GatherElements", sums, _begins(g, ordered, origin), axis=1), origin, bad)


def _back(g: _Graph, x: str, axis: Axis, found: str, origin: str, bad: str) -> str:
    """What was found for each of the sorted values, where the value was."""
    back = g.add("ScatterElements", found, origin, found, axis=1)
    value = _nan_where(g, bad, g.add("Cast", back, to=TensorProto.FLOAT))
    if axis is None:
        return g.add("Reshape", value, g.add("Shape", x))
    return g.add("Transpose", value, perm=[1, 0]) if axis == "out" else value


_OVER_AXIS: dict[str, Callable[..., str]] = {
    "sum": _sum,
    "mean": _mean,
    "std": lambda g, x, axis: g.add("Sqrt", _variance(g, x, axis)),
    "var": _variance,
    "amin": _extreme("ReduceMin"),
    "amax": _extreme("ReduceMax"),
    "norm": _norm,
    "median": lambda g, x, axis: _quantile(g, x, 0.5, axis),
    "quantile": _quantile,
    "rank": _rank,
    "tail": _tail,
}
