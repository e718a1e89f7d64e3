"""Statistics of the gradients of the weights (G): one backward pass a window.

Each gradient is folded into its statistics as it is produced, so the gradient of the whole model is never held.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pzc.runtime.errors import NoGradient, PruningError
from pzc.runtime.models.layers import Layer
from pzc.runtime.models.passes import Progress, cross_entropy, device_of, logits_of
from pzc.runtime.statistics.activations import Table
from pzc.runtime.statistics.leaves import COLLECTORS, as_leaf, collect_from, own_leaves
from pzc.runtime.statistics.unreached import NO_GRADIENT, UNREACHED, mark, warn_of

_HALF_SCALE = 1024.0

_FOLDED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "G.l2": lambda total, g: total.addcmul_(g, g),
    "G.l1": lambda total, g: total.add_(g.abs()),
    "G.mean": lambda total, g: total.add_(g),
}

_FINISHED: dict[str, Callable[[Tensor, int], Tensor]] = {
    "G.l2": lambda total, windows: total.sqrt_(),
    "G.l1": lambda total, windows: total,
    "G.mean": lambda total, windows: total.div_(windows),
}


def gradient_tables(
    model: nn.Module, layers: Sequence[Layer], windows: Tensor, leaves: Collection[str], progress: Progress
) -> dict[str, Table]:
    """The leaves of the tier "backward", float32, by layer: gradients of each window's mean cross-entropy.

    The loss is scaled by `loss_scale`.
    """
    with folding(model, layers, leaves) as tables:
        device = device_of(model)
        scale = loss_scale(layers)
        for done, window in enumerate(windows.split(1), start=1):
            ids = window.to(device)
            loss = cross_entropy(logits_of(model, ids), ids).sum() * scale
            if not loss.requires_grad:
                raise _no_gradient(layers)
            loss.backward()
            progress("statistics", done, len(windows))
    return tables(len(windows))


def _no_gradient(layers: Sequence[Layer]) -> NoGradient:
    """What is raised where a loss depends on no weight of the layers, or torch keeps no graph."""
    inside = torch.is_inference_mode_enabled()
    return NoGradient(
        f"no gradient reaches {layers[0].name} or any other layer",
        hint="leave torch.inference_mode(), or use a metric without gradients" if inside else None,
        layer=layers[0].name,
    )


def loss_scale(layers: Sequence[Layer]) -> float:
    """What a loss is multiplied by before its backward pass: 1024 in float16, as in mixed-precision training, so that
    small gradients don't vanish; else 1."""
    return _HALF_SCALE if any(layer.parameter.dtype == torch.float16 for layer in layers) else 1.0


@contextmanager
def folding(
    module: nn.Module, layers: Sequence[Layer], leaves: Collection[str]
) -> Iterator[Callable[[int], dict[str, Table]]]:
    """Fold the gradients of these layers, which are in `module`, while the context is open and backward passes run.

    The losses must be scaled by `loss_scale`. Yields a function that takes the number of windows and gives the tables
    by layer name, once.
    """
    scale = loss_scale(layers)
    members: dict[nn.Parameter, list[Layer]] = {}
    for layer in layers:
        members.setdefault(layer.parameter, []).append(layer)
    gathered = [_Gradients(parameter, those, leaves, scale) for parameter, those in members.items()]

    def tables(windows: int) -> dict[str, Table]:
        unreached = dict.fromkeys(layer for one in gathered for layer in one.unreached())
        warn_of([layer for layer in unreached if layer.expert], "gradient")
        return {layer.name: table for one in gathered for layer, table in one.finish(windows, unreached)}

    with _only_gradients_of(module, list(members)), ExitStack() as stack:
        for one in gathered:
            stack.callback(one.parameter.register_post_accumulate_grad_hook(one.take).remove)
        yield tables


class _Gradients:
    """What is folded of the gradients of one parameter, laid out as it is stored: of one layer, or of many experts."""

    def __init__(self, parameter: nn.Parameter, layers: Sequence[Layer], leaves: Collection[str], scale: float) -> None:
        self.parameter = parameter
        self._layers = layers
        self._scale = scale
        self._totals = {name: torch.zeros_like(parameter, dtype=torch.float32) for name in _FOLDED if name in leaves}
        own = own_leaves(leaves, "backward")
        self._own: dict[str, dict[str, Any]] = {
            layer.name: {name: COLLECTORS[name](layer) for name in own} for layer in layers if own
        }

    def take(self, parameter: Tensor) -> None:
        gradient = parameter.grad
        parameter.grad = None
        if gradient is None:
            return
        g = gradient.float() / self._scale if self._scale != 1 else gradient.float()
        for name, total in self._totals.items():
            _FOLDED[name](total, g)
        for layer in self._layers if self._own else ():
            collect_from(self._own[layer.name], layer.name, layer.oriented(g))

    def unreached(self) -> list[Layer]:
        """The layers whose gradients were all zero, though they have weights that are not."""
        return [
            layer
            for layer in self._layers
            if self._totals and all(_is_zero(layer.oriented(t)) for t in self._totals.values()) and layer.weight.any()
        ]

    def _check(self) -> None:
        """Raise PruningError where a gradient was too large for float16. A NaN or an infinity passes on into sums."""
        for total in self._totals.values() if self._scale != 1 else ():
            low, high = torch.aminmax(total)
            if not (torch.isfinite(low) and torch.isfinite(high)):
                name = self._layers[0].name
                raise PruningError(
                    f"gradients of {name} are too large for float16",
                    hint="load the model as bfloat16 or float32, as with --dtype bfloat16",
                    layer=name,
                )

    def finish(self, windows: int, unreached: Collection[Layer]) -> Iterator[tuple[Layer, Table]]:
        """The leaves of each layer, `[out, in]`; what stands for them, and a mark, where it is `unreached`."""
        self._check()
        finished = {name: _FINISHED[name](total, windows) for name, total in self._totals.items()}
        for layer in self._layers:
            for total in finished.values() if layer in unreached and layer.expert else ():
                layer.oriented(total).copy_(layer.weight.abs())
            table = {name: layer.oriented(total) for name, total in finished.items()}
            if layer in unreached:
                table |= mark(layer, UNREACHED if layer.expert else NO_GRADIENT)
            own = self._own.get(layer.name, {})
            yield layer, table | {n: as_leaf(n, layer, collector.finish()) for n, collector in own.items()}


def _is_zero(matrix: Tensor) -> bool:
    return not matrix[0].any() and not matrix.any()  # the first row tells of most


@contextmanager
def _only_gradients_of(model: nn.Module, weights: list[nn.Parameter]) -> Iterator[None]:
    """Let only these weights have gradients, from none; flags and gradients are put back afterwards."""
    found = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    try:
        for parameter, _, _ in found:
            parameter.requires_grad_(False)
            parameter.grad = None
        for weight in weights:
            weight.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for parameter, required, gradient in found:
            parameter.grad = gradient
            parameter.requires_grad_(required)
