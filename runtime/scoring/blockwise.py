"""Running a tape on a layer: blocks of rows on a CPU, shared out among threads; the layer as one block elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pzc.compiler.core import Node, leaves_of, value_of
from pzc.compiler.leaves import AXES, LEAVES
from pzc.runtime.errors import PruningError
from pzc.runtime.scoring.operations import apply
from pzc.runtime.scoring.partials import Part, finish, join, part
from pzc.runtime.scoring.stripes import Job, block_rows, blocks, in_stripes
from pzc.runtime.scoring.tape import BOTH, Sweep, Tape

Shape = tuple[int, int]
Take = Callable[[Node, int, int, Tensor], None]
"""Gets a metric, a block's first row and the row after its last, and the scores of the block `[rows, in]`, which are
overwritten afterwards."""
Visit = Callable[[Node, Tensor], None]
"""Gets every node with its value, or that of a block; in any order, and from several threads."""


class Given:
    """The leaves of a layer of `shape` `(out, in)` as the metrics read them.

    A matrix stays in the type it has, everything else becomes float32. Raises PruningError for a leaf that is missing
    or has the wrong size.
    """

    def __init__(self, roots: tuple[Node, ...], leaves: Mapping[str, Any], shape: Shape) -> None:
        tensors = (value.device for value in leaves.values() if isinstance(value, Tensor) and value.ndim)
        self.device = next(tensors, torch.device("cpu"))
        self.shape = shape
        names = dict.fromkeys(name for root in roots for name in sorted(leaves_of(root)))
        self.values = {name: _aligned(name, leaves, shape, self.device) for name in names}

    @property
    def one_block(self) -> bool:
        return self.device.type != "cpu" or self.shape[0] <= block_rows(self.shape[1])

    def converted(self) -> frozenset[str]:
        """The leaves whose blocks must be copied: half precision, and weights that are stored as `[in, out]`."""
        matrices = {n: v for n, v in self.values.items() if set(LEAVES[n].axes) == BOTH}
        return frozenset(n for n, v in matrices.items() if v.dtype != torch.float32 or v.stride(1) != 1)


def run(
    tape: Tape,
    given: Given,
    *,
    into: Mapping[Node, Tensor] | None = None,
    taker: Callable[[], Take] | None = None,
    visit: Visit | None = None,
) -> Mapping[Node, Tensor]:
    """Compute a tape's metrics.

    The scores of a metric of both axes are written `into` the float32 matrix `[out, in]` given for it, and handed out
    block by block to what `taker` makes for each thread. Returns the values that are known as a whole, among them
    those of metrics that lack an axis.
    """
    whole: dict[Node, Tensor] = {}
    with torch.no_grad():
        for sweep in tape.sweeps:
            for node in sweep.before:
                whole[node] = _whole(node, whole, given)
                if visit is not None:
                    visit(node, whole[node])
            if sweep.steps:
                _sweep(sweep, tape.buffers, whole, given, into or {}, taker, visit)
    return whole


def _whole(node: Node, whole: Mapping[Node, Tensor], given: Given) -> Tensor:
    if node.op == "number":
        return torch.full((1, 1), value_of(node), device=given.device)
    if node.op == "leaf":
        return given.values[str(node.value)]
    return apply(node, [whole[arg] for arg in node.args])


def _sweep(
    sweep: Sweep,
    buffers: int,
    whole: dict[Node, Tensor],
    given: Given,
    into: Mapping[Node, Tensor],
    taker: Callable[[], Take] | None,
    visit: Visit | None,
) -> None:
    """One way through the rows; what is known afterwards is added to `whole`."""
    (rows, columns), device = given.shape, given.device
    high = rows if given.one_block else block_rows(columns)
    kept = {n: torch.empty((rows, columns if "in" in n.axes else 1), device=device) for n in sweep.kept}
    summed: dict[Node, list[Node]] = {}
    for reduction in sweep.after:
        if reduction.args[0] not in kept:
            summed.setdefault(reduction.args[0], []).append(reduction)
    parts: dict[int, dict[Node, Part]] = {}

    def worker() -> Job:
        memory = [torch.empty((high, columns), device=device) for _ in range(buffers)]
        take = taker() if taker is not None else None

        def job(place: int, stripe: range) -> None:
            found = parts[place] = {}
            for start, stop in blocks(stripe):
                values: dict[Node, Tensor] = {}
                for node, buffer in sweep.steps:
                    out = memory[buffer][: stop - start] if buffer is not None else None
                    if node in sweep.roots and node in into:
                        out = into[node][start:stop]
                    value = values[node] = _of_block(node, start, stop, values, whole, given, out)
                    if node in kept:
                        kept[node][start:stop] = value
                    for reduction in summed.get(node, ()):
                        if given.one_block:
                            whole[reduction] = apply(reduction, [value])
                        else:
                            new = part(reduction, value)
                            found[reduction] = join(reduction, found[reduction], new) if reduction in found else new
                    if take is not None and node in sweep.roots:
                        take(node, start, stop, value)
                    if visit is not None:
                        visit(node, value)

        return job

    if given.one_block:
        worker()(0, range(0, rows, rows))
    else:
        in_stripes(rows, columns, worker)
    whole.update((node, value) for node, value in kept.items() if node.axes != BOTH)
    for node in sweep.after:
        if node.args[0] in kept:
            whole[node] = apply(node, [kept[node.args[0]]])
        elif not given.one_block:
            whole[node] = finish(node, [parts[place][node] for place in sorted(parts)])
        if visit is not None:
            visit(node, whole[node])


def _of_block(
    node: Node,
    start: int,
    stop: int,
    values: Mapping[Node, Tensor],
    whole: Mapping[Node, Tensor],
    given: Given,
    out: Tensor | None,
) -> Tensor:
    """A node's value for some rows, in `out` if that is given."""
    if node.op == "leaf":
        value = given.values[str(node.value)][start:stop]
    else:
        value = apply(node, [values[a] if a in values else _rows(whole[a], start, stop) for a in node.args], out)
    return value if out is None or value is out else out.copy_(value)


def _rows(value: Tensor, start: int, stop: int) -> Tensor:
    return value if value.shape[0] == 1 else value[start:stop]


def _aligned(name: str, leaves: Mapping[str, Any], shape: Shape, device: torch.device) -> Tensor:
    if name not in leaves:
        raise PruningError(f"this metric reads `{name}`, which is not given", leaf=name)
    axes = LEAVES[name].axes
    value = torch.as_tensor(leaves[name]).detach().to(device)
    value = value if set(axes) == BOTH else value.float()
    wanted = (shape[0] if "out" in axes else 1, shape[1] if "in" in axes else 1)
    if value.shape == wanted:
        return value
    if value.numel() != wanted[0] * wanted[1] or value.ndim > 1:
        raise PruningError(
            f"`{name}` has shape {list(value.shape)}, but this layer needs {[shape[AXES.index(a)] for a in axes]}",
            leaf=name,
            shape=wanted,
        )
    return value.reshape(wanted)
