"""A metric as one kernel that `torch.compile` makes: for accelerators, where each operation alone would write its
result to the device's memory and read it again.

It takes seconds to compile, so it is for a metric that scores a whole model. On a CPU the blocks of `blockwise` are as
fast without (`benchmarks/layers.py --table compiled` shows it).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from pzc.compiler.core import Node, topological, value_of
from pzc.runtime.scoring.blockwise import Given
from pzc.runtime.scoring.operations import apply

_failed: set[str] = set()


def compiled_score(core: Node, given: Given, backend: str = "inductor") -> Tensor | None:
    """The scores `[out, in]` of a metric in float32, or None where there is no compiler for the device, or it fails:
    that is said once."""
    kind = f"{backend} on {given.device.type}"
    if kind in _failed:
        return None
    try:
        with torch.no_grad():
            return _kernel(core, backend)(given.values).expand(given.shape)
    except Exception as error:  # a compiler, and what it calls, can fail in any way; the blocks need none of it
        _failed.add(kind)
        warnings.warn(f"metrics are not compiled: {kind} failed with {type(error).__name__}", stacklevel=2)
        return None


@lru_cache(maxsize=8)
def _kernel(core: Node, backend: str) -> Callable[[dict[str, Tensor]], Tensor]:
    """The compiled function of the leaves. Sizes that differ from the first call's become variables."""
    order = topological(core)

    def scores(leaves: dict[str, Tensor]) -> Tensor:
        device = next(iter(leaves.values())).device
        values: dict[Node, Tensor] = {}
        for node in order:
            if node.op == "leaf":
                values[node] = leaves[str(node.value)].float()
            elif node.op == "number":
                values[node] = torch.full((1, 1), value_of(node), device=device)
            else:
                values[node] = apply(node, [values[arg] for arg in node.args])
        return values[core]

    return torch.compile(scores, backend=backend)
