"""Build cases: their scores by the reference evaluator, each checked against `exact`; masks against a plain sort."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from suite import exact

from pzc.compiler import ir, jcs, masks
from pzc.compiler.arm import Arm
from pzc.compiler.metric import Metric, compile_source
from pzc.compiler.reference import evaluate
from pzc.conformance.cases import Case
from pzc.grammar.diagnostics import SourceError

Content = dict[str, Any]

INPUTS: dict[str, Any] = {
    "W": [[1, -2, 0.5, 3], [-1.5, 0, 2.25, -0.75], [4, -3, 1, 0.125]],
    "X.l2": [1, 2, 0.5, 4],
    "X.l1": [3, 5, 1, 8],
    "X.mean": [0.5, -1, 0, 2],
    "X.var": [0.25, 1.5, 2, 0],
    "X.max": [2, 3, 0.75, 5],
    "Y.l2": [2, 0.5, 3],
    "Y.l1": [4, 1, 6],
    "Y.mean": [-1, 0.25, 0],
    "Y.var": [1, 0, 2.5],
    "Y.max": [3, 0.5, 4],
    "H.diag": [2, 8, 0.5, 32],
    "H.inv_diag": [0.75, 0.25, 2, 0.0625],
    "H.chol_diag": [0.5, 0.25, 1.5, 0.125],
    "G.l2": [[0.5, 1, 2, 0.25], [3, 1.5, 0, 1], [0.125, 2, 1, 4]],
    "G.l1": [[1, 2, 3, 0.5], [4, 2, 0, 2], [0.25, 3, 2, 6]],
    "G.mean": [[0.5, -1, 1, 0], [-2, 1.5, 0, 0.25], [-0.125, 2, -1, 3]],
    "noise": [[0.5, 0.25, 0.75, 0.125], [0, 0.875, 0.375, 0.625], [0.0625, 0.9375, 0.5, 0.25]],
    "out_features": 3,
    "in_features": 4,
    "depth": 0.5,
    "windows": 8,
}
"""A layer of three outputs and four inputs: a value for every leaf, each exact in float32."""


def given(*leaves: str, **changed: Any) -> Content:
    """The named leaves of `INPUTS`, and others as given: `given("X.l2", W=[[1, 2]])`. There is always a matrix."""
    names = {n.replace("_", ".", 1) if n[0] in "XYHG" else n: v for n, v in changed.items()}
    return {**{n: INPUTS[n] for n in ("W", *leaves) if n not in names}, **names}


def written(value: Any) -> Any:
    """Numbers as a case writes them."""
    if isinstance(value, list):
        return [written(v) for v in value]
    return value if math.isfinite(value) else "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def source_of(formula: str, per: str = "model") -> str:
    """A whole source of one formula."""
    return f"pzm 1\n\nmetric m = {formula}  per {per}\n"


def scored(
    description: str,
    source: str,
    inputs: Content | None = None,
    *,
    select: tuple[Share, ...] = (),
    oracle: Callable[..., Any] | None = None,
    **more: Any,
) -> Content:
    """A case with scores, and masks for each of `select`: `(per, sparsity)`, a sparsity, or a pattern such as `"2:4"`.

    `inputs` are those of one layer, or come as `layers` among `more`. `oracle` takes the leaves of a layer as numpy
    arrays of two dimensions by name (`X` for `X.l2`, `X_mean` for `X.mean`) and gives the scores.
    """
    source = source if "metric " in source or "metric\n" in source else source_of(source)
    content: Content = {"description": description, "source": source, **more}
    if inputs is not None:
        content["inputs"] = inputs
    content["expect"] = {}
    case = Case("", content)
    metric = case.metric
    if metric is None:
        raise AssertionError(f"{source!r} has errors: {[d.message for d in case.compiled[1]]}")
    scores = []
    for layer, leaves in zip(case.layers, [x["inputs"] for x in more.get("layers", [content])], strict=True):
        scores.append(_scores(metric, layer.name, leaves, layer.shape))
        if oracle is not None:
            with np.errstate(all="ignore"):
                want = np.broadcast_to(oracle(**_arrays(leaves)), layer.shape)
            _same(scores[-1], want.tolist(), f"{source!r}, oracle")
    one = "layers" not in content
    expect: Content = {"scores": written(scores[0] if one else scores), "ir_sha256": ir.sha256(metric)}
    if select:
        arms = [metric.arm(layer.name) for layer in case.layers]
        expect["masks"] = [_mask(how, scores, arms, one) for how in select]
    return content | {"expect": expect}


def _scores(metric: Metric, layer: str, leaves: Content, shape: tuple[int, int]) -> list[list[float]]:
    arm = metric.arm(layer)
    place = ir.graph(a.core for a in metric.arms)[1][arm.core]
    exactly = exact.evaluate(ir.emit(metric), place, leaves, shape)
    arrays = {n: np.array(v, dtype=np.float64) for n, v in leaves.items()}
    _same(np.broadcast_to(evaluate(arm.core, arrays), shape).tolist(), exactly, metric.formula)
    return [[v + 0.0 for v in row] for row in exactly]


def _same(found: list[list[float]], want: list[list[float]], what: str) -> None:
    if not all(exact.is_close(f, w) for a, b in zip(found, want, strict=True) for f, w in zip(a, b, strict=True)):
        raise AssertionError(f"{what}: {found}, not {want}")


def _arrays(leaves: Content) -> dict[str, Any]:
    """Leaves by the names that Python knows, each with both dimensions."""
    arrays = {}
    for name, value in leaves.items():
        array = np.array(value, dtype=np.float64)
        shape = (-1, 1) if name.startswith("Y") else (1, -1)
        arrays[name.removesuffix(".l2").replace(".", "_")] = array if array.ndim == 2 else array.reshape(shape)
    return arrays


Share = tuple[str, float] | str | float


def _mask(how: Share, scores: list[list[list[float]]], arms: list[Arm], one: bool) -> Content:
    """The masks of layers. Only layers of one arm are compared; a group is that of the arm where `how` names none."""
    mask: Content = {"pattern": how} if isinstance(how, str) else {"sparsity": how}
    if isinstance(how, tuple):
        mask = {"per": how[0], "sparsity": how[1]}
    kept: dict[int, Any] = {}
    for arm in dict.fromkeys(arms):
        places = [i for i, other in enumerate(arms) if other == arm]
        arrays = [np.array(scores[i]) for i in places]
        kept |= zip(places, _kept(arrays, mask.get("per", arm.per), mask), strict=True)
    rows = [kept[i].astype(int).tolist() for i in range(len(scores))]
    return {**mask, "kept": rows[0] if one else rows}


def _kept(arrays: list[Any], per: str, mask: Content) -> list[Any]:
    """The masks of the reference, checked group by group against Python's own sort."""
    if "pattern" in mask:
        n, m = map(int, mask["pattern"].split(":"))
        kept = [masks.keep_pattern(a, n, m) for a in arrays]
        for array, found in zip(arrays, kept, strict=True):
            _sorts(array.reshape(-1, m), found.reshape(-1, m), lambda _: m - n)
        return kept
    sparsity = mask["sparsity"]

    def count(size: int) -> int:
        return int(Fraction(str(sparsity)) * size)

    if per in ("block", "model"):
        kept = masks.keep_across(arrays, sparsity)
        whole = [np.concatenate([a.reshape(1, -1) for a in group], axis=1) for group in (arrays, kept)]
        _sorts(whole[0], whole[1], count)
        return kept
    kept = [masks.keep(a, per, sparsity) for a in arrays]
    groups: Callable[[Any], Any] = {"row": np.array, "col": np.transpose}.get(per, lambda a: a.reshape(1, -1))
    for array, found in zip(arrays, kept, strict=True):
        _sorts(groups(array), groups(found), count)
    return kept


def _sorts(groups: Any, kept: Any, count: Callable[[int], int]) -> None:
    """The masks are what Python's own sort, by score and then by place, gives."""
    for scores, mask in zip(groups.tolist(), kept.tolist(), strict=True):
        if not all(map(math.isfinite, scores)):
            raise AssertionError("a mask of scores that are not finite")
        order = sorted(range(len(scores)), key=lambda i: (scores[i], i))
        if {i for i, k in enumerate(mask) if not k} != set(order[: count(len(scores))]):
            raise AssertionError(f"mask {mask} of {scores}")


def refused(description: str, source: str, *codes: str, **more: Any) -> Content:
    """A case of a source with errors: their codes in the order of the text."""
    found = Case("", {"source": source, **more}).compiled[1]
    errors = [d.code for d in found if d.severity == "error"]
    if errors != list(codes):
        raise AssertionError(f"{source!r} has {errors}, not {list(codes)}")
    return {"description": description, "source": source, **more, "expect": {"errors": errors}}


def warned(description: str, source: str, *codes: str) -> Content:
    """A case of a source with warnings and no errors."""
    found = [d.code for d in Case("", {"source": source}).compiled[1] if d.severity != "note"]
    if found != list(codes):
        raise AssertionError(f"{source!r} has {found}, not {list(codes)}")
    return {"description": description, "source": source, "expect": {"errors": [], "warnings": found}}


def alike(description: str, a: str, b: str, *same: str) -> Content:
    """A case of two metrics and which of their keys are equal: `exact`, `real`, `rank`."""
    source = f"pzm 1\n\nmetric a = {a}\n\nmetric b = {b}\n"
    try:
        first, second = (m.keys for m in compile_source(source, "case.pzm").metrics)
    except SourceError as error:
        raise AssertionError(source) from error
    keys = {k: getattr(first, k) == getattr(second, k) for k in ("exact", "real", "rank")}
    if keys != {k: k in same for k in keys}:
        raise AssertionError(f"{source!r}: {keys}")
    return {"description": description, "source": source, "expect": {"keys": keys}}


def document(description: str, text: str, valid: bool) -> Content:
    """A case of a `pzm-ir/1` document that a reader takes or refuses."""
    try:
        metric = ir.parse(text)
    except ir.InvalidDocument as error:
        if valid:
            raise AssertionError(f"{description}: refused") from error
        return {"description": description, "document": text, "expect": {"valid": False}}
    if not valid:
        raise AssertionError(f"{description}: taken")
    return {"description": description, "document": text, "expect": {"valid": True, "ir_sha256": ir.sha256(metric)}}


def write(path: Path, cases: list[Content]) -> None:
    """A file of cases: each key of a case on a line of its own."""
    seen = [c["description"] for c in cases]
    twice = sorted({d for d in seen if seen.count(d) > 1})
    if twice:
        raise AssertionError(f"described twice: {twice}")
    blocks = (",\n".join(f"    {jcs.dumps(k)}: {jcs.dumps(v)}" for k, v in case.items()) for case in cases)
    path.write_text("[\n" + ",\n".join(f"  {{\n{block}\n  }}" for block in blocks) + "\n]\n", encoding="utf-8")
