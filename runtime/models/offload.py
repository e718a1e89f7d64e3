"""Weights that accelerate has offloaded to the CPU's memory: its hooks take them to an accelerator while their module
runs, and between that their parameters are placeholders on the meta device.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def kept_on_cpu(module: nn.Module, key: str) -> Tensor | None:
    """The weight that stands for a module's parameter on the meta device, in the CPU's memory: what is written to it is
    what the module runs with. None where it is on the disk, or nowhere."""
    for hook in _hooks(module):
        weights = getattr(hook, "weights_map", None)
        if weights is None:
            continue
        # accelerate keeps names with a prefix, over tensors or over an index of files
        prefix, dataset = getattr(weights, "prefix", ""), getattr(weights, "dataset", weights)
        tensors = getattr(dataset, "state_dict", dataset)
        found = tensors.get(f"{prefix}{key}") if hasattr(tensors, "get") else None
        if isinstance(found, Tensor) and found.device.type == "cpu":
            return found
    return None


def runs_on(model: nn.Module) -> torch.device | None:
    """Where the first of a model's modules with weights runs, where hooks say so."""
    for module in model.modules():
        for hook in _hooks(module) if any(True for _ in module.parameters(recurse=False)) else ():
            device = getattr(hook, "execution_device", None)
            if isinstance(device, int):
                kind = torch.accelerator.current_accelerator()
                return torch.device(kind.type, device) if kind else torch.device("cpu")
            if device is not None:
                return torch.device(device)
    return None


def _hooks(module: nn.Module) -> list[Any]:
    hook = getattr(module, "_hf_hook", None)
    return list(getattr(hook, "hooks", [hook])) if hook is not None else []
