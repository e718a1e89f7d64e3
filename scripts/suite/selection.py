"""Cases of masks: groups, counts, ties, patterns, several layers, and metrics by role."""

from __future__ import annotations

from typing import Any

from suite.build import INPUTS, Content, given, scored

DISTINCT = [[5, -1, 8, 3, -7, 2], [4, 6, -2, 9, 1, 0], [-3, 7, 10, -5, 11, -4]]
TIES = [[1, 2, 1, 2, 1, 2], [3, 3, 3, 3, 3, 3], [2, 1, 1, 3, 3, 2]]
ZEROS = [[0, 0, 1, 0, -1, 0], [0, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 3]]
SHARES = (0.1, 0.25, 0.5, 0.6, 0.75, 0.9)


def groups() -> list[Content]:
    """Each group at several sparsities, on distinct scores and on ties."""
    cases = []
    for per in ("row", "col", "layer", "block", "model"):
        select = tuple((per, share) for share in SHARES)
        for which, matrix in {"distinct scores": DISTINCT, "ties": TIES, "zeros and ties": ZEROS}.items():
            cases.append(scored(f"per {per}: {which}", f"pzm 1 metric m = W per {per}", given(W=matrix), select=select))
        one = f"pzm 1 metric m = W per {per}"
        cases.append(scored(f"per {per}: one row", one, given(W=[[3, 1, 2, 1]]), select=select))
        cases.append(scored(f"per {per}: one column", one, given(W=[[3], [1], [2], [1]]), select=select))
    wide = [[(7 * i) % 100 for i in range(100)]]
    counts = (0.01, 0.07, 0.29, 0.57, 0.58, 0.995, 0.001)
    others: list[tuple[str, str, Any, tuple[Any, ...]]] = [
        ("the share is the decimal as it is written", "W", wide, tuple(("row", s) for s in counts)),
        ("a share too small for one weight prunes none", "W", [[1, 2, 3]], (("row", 0.3),)),
        ("one weight is never pruned", "W", [[1]], (("row", 0.99), ("layer", 0.5))),
        ("other groups than the metric's own", "W", DISTINCT, (("row", 0.5), ("col", 0.5), ("layer", 0.5))),
        ("negative scores are the lowest", "-abs(W)", DISTINCT, (("row", 0.5),)),
        ("close scores are not ties", "W", [[1, 1 + 2**-20, 1 - 2**-20, 1]], (("row", 0.5),)),
        ("large and small scores", "W", [[1e30, -1e30, 1e-30, -1e-30]], (("row", 0.5), ("row", 0.25))),
        ("minus zero ties with zero", "W * X", [[0, 0, 1, -1]], (("row", 0.25), ("row", 0.5))),
    ]
    for what, formula, matrix, select in others:
        row = {"X_l2": [-1, 1, 1, 1]} if "X" in formula else {}
        cases.append(scored(what, f"pzm 1 metric m = {formula} per row", given(W=matrix, **row), select=select))
    inputs = given("X.l2", "Y.l2", W=INPUTS["W"])
    cases += [
        scored(
            "per row by inputs: whole columns go", "pzm 1 metric m = X per row", inputs, select=(("row", 0.5), "2:4")
        ),
        scored("per col by outputs: whole rows go", "pzm 1 metric m = Y per col", inputs, select=(("col", 0.5),)),
        scored(
            "per layer by outputs: ties inside a row", "pzm 1 metric m = Y per layer", inputs, select=(("layer", 0.4),)
        ),
        scored(
            "per layer by inputs: ties inside a column",
            "pzm 1 metric m = X per layer",
            inputs,
            select=(("layer", 0.4),),
        ),
    ]
    return cases


def patterns() -> list[Content]:
    """N:M: of every M consecutive inputs N are kept."""
    row = [5, -1, 8, 3, -7, 2, 4, 6, -2, 9, 1, 0]
    matrices = {
        "distinct scores": [row, row[::-1]],
        "ties": [[1, 1, 2, 2] * 3, [2, 1, 2, 1] * 3, [1, 2, 2, 1] * 3],
        "equal scores: the lower index goes": [[3] * 12],
        "zeros": [[0, 0, 0, 1, 0, -1, 0, 0, 0, 0, 0, 0]],
    }
    kinds = ("1:2", "1:4", "2:4", "3:4", "2:6", "5:6", "1:12", "11:12")
    return [
        scored(f"{pattern}: {which}", "pzm 1 metric m = W", given(W=matrix), select=(pattern,))
        for pattern in kinds
        for which, matrix in matrices.items()
    ]


def _layer(name: str, **inputs: Any) -> Content:
    return {"name": name, "inputs": inputs}


PAIR = [
    _layer("layers.0.attn.q_proj", W=[[1, -4, 2], [0.5, 3, -1]], **{"X.l2": [1, 2, 1], "depth": 0, "windows": 4}),
    _layer("layers.0.mlp.up_proj", W=[[2, 0.25], [-6, 1]], **{"X.l2": [3, 1], "depth": 0, "windows": 4}),
]
FOUR = [
    *PAIR,
    _layer("layers.1.attn.q_proj", W=[[-2, 5, 0.125], [1, 1, 1]], **{"X.l2": [1, 1, 2], "depth": 1, "windows": 4}),
    _layer("layers.1.mlp.up_proj", W=[[1, 2], [3, 4]], **{"X.l2": [0.5, 8], "depth": 1, "windows": 4}),
]


def layers() -> list[Content]:
    """Groups of several layers."""
    shares = (0.1, 0.3, 0.5, 0.8)
    model, block = (tuple((per, share) for share in shares) for per in ("model", "block"))
    rows = (("row", 0.5), ("col", 0.5), ("layer", 0.5))
    formulae = {"magnitude": "abs(W)", "Wanda": "abs(W) * X", "deeper layers last": "abs(W) + 2 * depth"}
    cases = [
        scored(
            f"a model of four layers: {what}", f"pzm 1 metric m = {text} per model", layers=FOUR, select=model + rows
        )
        for what, text in formulae.items()
    ]
    cases += [
        scored(f"a block of two layers: {what}", f"pzm 1 metric m = {text} per block", layers=PAIR, select=block + rows)
        for what, text in formulae.items()
    ]
    even = [_layer(f"layers.{i}.fc", W=[[1, 2], [2, 1]]) for i in range(3)]
    cases.append(
        scored("ties across layers: the earlier layer goes", "pzm 1 metric m = W per model", layers=even, select=model)
    )
    depth = [_layer(f"layers.{i}.fc", W=[[1, 2], [2, 1]], depth=i / 2) for i in range(3)]
    cases.append(
        scored("whole layers by depth", "pzm 1 metric m = depth per model", layers=depth, select=(("model", 1 / 4),))
    )
    return cases


def _wide(*names: str) -> list[Content]:
    """Layers of one shape and value under several names."""
    values = {n: INPUTS[n] for n in ("W", "X.l2", "Y.l2")}
    return [{"name": name, "inputs": values} for name in names]


def roles() -> list[Content]:
    """Metrics by role: the first arm counts whose pattern matches the layer's name, whole or from a dot on."""
    body = {
        "a name": "up_proj: abs(W) * Y per col  else: abs(W) * X per row",
        "names": "up_proj, gate_proj: abs(W) * Y per col  else: abs(W) * X per row",
        "a dotted name": "mlp.up_proj: Y * W  else: X",
        "a text": '"mlp.*": abs(W) + Y  else: abs(W) + X',
        "a star in the middle": '"layers.*.up_proj": abs(W) + Y  else: abs(W) + X',
        "a star takes dots": '"model*proj": abs(W) + Y  else: abs(W) + X',
        "a question mark": '"layers.?.mlp.up_proj": abs(W) + Y  else: abs(W) + X',
        "a question mark takes a dot": '"layers?0.mlp.up_proj": abs(W) + Y  else: abs(W) + X',
        "a carriage return ends no layer": "up_proj:\r abs(W) + Y\r else: abs(W) + X",
        "brackets are only text": '"layers.[01].mlp.up_proj": abs(W) + Y  else: abs(W) + X',
        "capitals count": '"MLP.*": abs(W) + Y  else: abs(W) + X',
        "no part of a word": '"proj": abs(W) + Y  else: abs(W) + X',
        "the first arm that matches": '"mlp.*": W + 1  up_proj: W + 2  "*": W + 3  else: W + 4',
        "one score for all": "up_proj: abs(W) * X  else: abs(W) * X",
        "arms that share a part": "up_proj: abs(W) * X per col  else: sqr(abs(W) * X) + abs(W)",
    }
    names = (
        "model.layers.0.mlp.up_proj",
        "model.layers.1.mlp.gate_proj",
        "model.layers.10.mlp.up_proj",
        "model.layers.0.self_attn.q_proj",
        "up_proj",
        "lm_head",
    )
    cases = [
        scored(f"by role: {what}", f"pzm 1 metric m {{ {arms} }}", layers=_wide(*names), select=(0.5, "2:4"))
        for what, arms in body.items()
    ]
    groups = {
        "each arm has its group": "up_proj: abs(W) per col  else: abs(W) per row",
        "layers of different arms are not compared": "up_proj: 100 * abs(W) per model  else: abs(W) per model",
        "blocks": "up_proj: abs(W) per block  else: abs(W) * X per block",
        "a group of several layers beside a row": "up_proj: abs(W) per model  else: abs(W) per row",
    }
    return cases + [
        scored(f"by role: {what}", f"pzm 1 metric m {{ {arms} }}", layers=FOUR, select=(0.3, 0.5, ("layer", 0.5)))
        for what, arms in groups.items()
    ]
