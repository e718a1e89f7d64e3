"""Watching products inside a module: what the experts of a mixture read and put out, where their matrices are slices of
one parameter and no module of their own is called.

The module's own code runs; only its functions of torch are looked at. A product with a slice of a watched parameter is
a layer at work, be it `linear(x, w)`, or `x @ w` with a transposed one. Exactly the tokens that the router sent to an
expert pass through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pzc.runtime.errors import Hopeless
from pzc.runtime.models.layers import Layer, excluding

See: TypeAlias = Callable[[str, Tensor, Tensor], None]
"""Called as `see(layer, inputs [tokens, in], outputs [tokens, out])`."""

_PRODUCTS: dict[Any, tuple[int, int]] = {
    nn.functional.linear: (0, 1),
    torch.matmul: (0, 1),
    Tensor.matmul: (0, 1),
    Tensor.__matmul__: (0, 1),
    torch.mm: (0, 1),
    Tensor.mm: (0, 1),
    torch.addmm: (1, 2),
}
"""Functions that multiply activations with a matrix: the positions of both."""


@contextmanager
def watching(layers: Sequence[Layer], see: See) -> Iterator[None]:
    """Call `see` for each product with one of the layers while the context is open.

    Experts run one after another meanwhile (transformers' implementation "eager"), since faster ones multiply all at
    once or in kernels of their own. Raises Hopeless from the forward pass where a module's products can't be seen.
    """
    modules: dict[nn.Module, list[Layer]] = {}
    for layer in layers:
        for module in layer.modules:
            modules.setdefault(module, []).append(layer)
    with ExitStack() as stack:
        for module, members in modules.items():
            stack.enter_context(_one_after_another(module))
            stack.enter_context(_watched(module, members, see))
        yield


@contextmanager
def _one_after_another(module: nn.Module) -> Iterator[None]:
    config: Any = getattr(module, "config", None)
    before = getattr(config, "_experts_implementation", None)
    if before in (None, "eager"):
        yield
        return
    config._experts_implementation = "eager"
    try:
        yield
    finally:
        config._experts_implementation = before


@contextmanager
def _watched(module: nn.Module, layers: Sequence[Layer], see: See) -> Iterator[None]:
    original = module.forward
    own = "forward" in vars(module)  # as where accelerate moves a module's inputs

    def forward(*args: Any, **kwargs: Any) -> Any:
        with _Watch(layers, see) as watch:
            output = original(*args, **kwargs)
        watch.check()
        return output

    module.forward = forward
    try:
        yield
    finally:
        if own:
            module.forward = original
        else:
            del module.forward


class _Watch(TorchFunctionMode):
    """One call of a module."""

    def __init__(self, layers: Sequence[Layer], see: See) -> None:
        super().__init__()
        self._see = see
        self._layers = {(layer.key, layer.index): layer.name for layer in layers}
        self._module = layers[0].module
        self._stacks = {id(layer.parameter): layer.key for layer in layers if layer.index is not None}
        self._slices: dict[str, tuple[Tensor, ...]] = {}
        self._places: dict[int, tuple[str, int | None]] = {
            layer.parameter.data_ptr(): (layer.key, None) for layer in layers if layer.index is None
        }
        self._seen: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__getitem__ and id(args[0]) in self._stacks:
            found = self._slice(self._stacks[id(args[0])], args[0], args[1])
            if found is not None:
                return found
        output = func(*args, **(kwargs or {}))
        if func in _PRODUCTS:
            self._note(func, args, kwargs or {}, output)
        return output

    def _slice(self, key: str, stack: Tensor, index: Any) -> Tensor | None:
        """One matrix of a stack. All are taken at once: the gradient of each alone would be as large as the stack."""
        if isinstance(index, bool) or not (isinstance(index, int) or (isinstance(index, Tensor) and index.ndim == 0)):
            return None
        if key not in self._slices:
            self._slices[key] = stack.unbind(0)
            self._places |= {one.data_ptr(): (key, e) for e, one in enumerate(self._slices[key])}
        return self._slices[key][int(index)]

    def _note(self, func: Any, args: Any, kwargs: Any, output: Tensor) -> None:
        left, right = _PRODUCTS[func]
        weight = args[right] if len(args) > right else kwargs.get("weight")
        if len(args) <= left or not isinstance(weight, Tensor) or weight.ndim != 2:
            return
        place = self._places.get(weight.data_ptr())
        if place is None:
            return
        self._seen.add(place[0])
        if place in self._layers:
            self._see(self._layers[place], args[left], output)

    def check(self) -> None:
        """Raise Hopeless if the call made no product with a parameter that can be told from others."""
        missed = [name for (key, _), name in self._layers.items() if key not in self._seen]
        if missed:
            kind = type(self._module).__name__
            raise Hopeless(
                f"what {missed[0]} reads cannot be observed: {kind} multiplies in a way of its own",
                hint=f"use a metric without activations, or {excluding(missed, list(self._layers.values()))}",
                layer=missed[0],
            )
