"""A model without its weights: modules as its configuration describes them, and where each weight is stored.

A weight is a placeholder: it has the shape, type and device but is a single NaN that stands for all of its elements, so
it takes no memory. Only the headers of the files are read, and what is tied and stored twice, which must be the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from pzc.runtime.errors import PruningError
from pzc.runtime.models.loading import attempt
from pzc.runtime.models.stored import Source, find_sources
from pzc.runtime.quiet import quiet
from pzc.runtime.shards import Shards, open_shards


@dataclass(frozen=True, eq=False)
class Outline:
    """A model of placeholders, the type of its weights, the files that hold these, and where in them each parameter and
    saved buffer is, by its name in the model."""

    model: Any
    dtype: torch.dtype
    shards: Shards
    sources: Mapping[str, Source]


def outline(name: str, folder: Path, *, device: torch.device, dtype: torch.dtype | None = None) -> Outline:
    """The model of a folder of safetensors shards; `name` is what messages call it.

    Raises PruningError for what is no such folder, for a damaged file, a quantised model, one that transformers does
    not know, and tensors that have other names than the model's parameters.
    """
    shards = open_shards(folder)
    with quiet():
        config = attempt(name, "configuration", lambda: AutoConfig.from_pretrained(folder, trust_remote_code=False))
        if getattr(config, "quantization_config", None) is not None:
            raise PruningError(f"the weights of {name} are quantised, which cannot be pruned", model=name)
        kind = dtype or config.dtype or _first_type(shards)
        model = attempt(name, "model", lambda: _on_meta(config, kind))
    _widen(model, kind)
    sources = find_sources(name, model, shards)
    _put_placeholders(model, device)
    return Outline(model, kind, shards, sources)


def _first_type(shards: Shards) -> torch.dtype:
    """The type of the first weight that has a fraction, as transformers takes it."""
    types = (stored.torch_dtype for stored in shards.tensors.values())
    return next((found for found in types if found.is_floating_point), torch.float32)


def _on_meta(config: Any, dtype: torch.dtype) -> Any:
    """The model of a configuration with its parameters on the meta device, and real buffers."""
    with _parameters_on_meta():
        try:
            return AutoModelForCausalLM.from_config(config, dtype=dtype)
        except ValueError as error:
            if "Unrecognized configuration class" in str(error):
                raise PruningError("the configuration is of no causal language model") from error
            raise


def _widen(model: Any, dtype: torch.dtype) -> None:
    """Give those parameters and buffers float32 that transformers keeps so whatever the model's type."""
    plan: dict[str, torch.dtype] = model._get_dtype_plan(dtype)
    if not plan:
        return
    pattern = re.compile("|".join(f"(?:{name.replace('*', '.*')})" for name in plan))
    for path, module in model.named_modules():
        for key, parameter in list(module.named_parameters(recurse=False)):
            if pattern.search(f"{path}.{key}"):
                module._parameters[key] = nn.Parameter(parameter.to(torch.float32), requires_grad=False)
        for key, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_floating_point() and pattern.search(f"{path}.{key}"):
                module._buffers[key] = buffer.to(torch.float32)


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Move each parameter to the meta device as a module gets it. Memory that nobody wrote to was never taken."""
    register: Callable[..., None] = nn.Module.register_parameter

    def on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        register(module, name, parameter)

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def _put_placeholders(model: nn.Module, device: torch.device) -> None:
    """Replace meta parameters, those that are tied by one."""
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is None:
                continue
            if id(parameter) not in made:
                nothing = torch.full((), torch.nan, dtype=parameter.dtype, device=device).expand(parameter.shape)
                made[id(parameter)] = nn.Parameter(nothing, requires_grad=False)
            module._parameters[name] = made[id(parameter)]
