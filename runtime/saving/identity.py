"""All that the bytes of a run's result depend on: by it a run that was cut off is known again."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from pzc.runtime.models.layers import Layers
from pzc.runtime.models.loading import Loaded
from pzc.runtime.models.passes import device_of
from pzc.runtime.pruning.request import Request
from pzc.runtime.saving.checkpoint import described_arms, versions


def facts(
    loaded: Loaded, layers: Layers, request: Request, calibration: Tensor | None, evaluation: Tensor
) -> dict[str, Any]:
    """What a result depends on, for `work.fingerprint`."""
    config: Any = loaded.model.config
    return {
        "weights": loaded.sha256,
        "config": hashlib.sha256(config.to_json_string().encode()).hexdigest(),
        "dtype": str(loaded.dtype),
        "device": str(device_of(loaded.model)),
        "threads": torch.get_num_threads(),
        "layers": [layer.name for layer in layers.layers],
        "arms": described_arms(request.metric, request.target),
        "targets": [asdict(target) for target in request.targets],
        "sequential": request.sequential,
        "update": request.update,
        "allocation": request.allocation,
        "seed": request.seed,
        "calibration": _hashed(calibration),
        "evaluation": _hashed(evaluation),
        "versions": versions(),
    }


def _hashed(windows: Tensor | None) -> str | None:
    if windows is None:
        return None
    return hashlib.sha256(f"{tuple(windows.shape)}".encode() + windows.contiguous().numpy().tobytes()).hexdigest()
