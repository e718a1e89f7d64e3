"""How far each compiled target is from the reference evaluator: the zoo on one layer, with inputs that float32 holds.

    python benchmarks/targets.py [--out 1024] [--in 2048]

An error is the largest |found − wanted| of a layer relative to the wanted score, over the scores that are not below a
thousandth of the layer's mean magnitude: where terms cancel, a float32 score has few digits.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from pzc.compiler.arguments import argument
from pzc.compiler.core import Node, leaves_of
from pzc.compiler.leaves import LEAVES
from pzc.compiler.load import zoo
from pzc.compiler.metric import Metric
from pzc.compiler.reference import evaluate
from pzc.compiler.targets import export, numpy, onnx
from pzc.compiler.targets import torch as to_torch

Program = Callable[[dict[str, np.ndarray]], Any]
NUMBERS = itertools.count()


def source(target: Any, given: Callable[[np.ndarray], Any]) -> Callable[[Node], Program]:
    """Build the standalone module of a target, imported from a file."""

    def built(core: Node) -> Program:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"scores{next(NUMBERS)}.py")
            path.write_text(target.emit(Metric("scores", core, "row"), "0"), encoding="utf-8")
            spec = spec_from_file_location(path.stem, path)
            assert spec is not None and spec.loader is not None  # noqa: PT018, S101 - it is a Python file
            module = module_from_spec(spec)
            spec.loader.exec_module(module)
        return lambda leaves: module.scores(**{name: given(x) for name, x in leaves.items()})

    return built


def exported(core: Node) -> Program:
    module = export.program(core).module()
    return lambda leaves: module(**{name: torch.from_numpy(x) for name, x in leaves.items()})


def in_onnxruntime(core: Node) -> Program:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(onnx.model(core).SerializeToString(), options)
    return lambda leaves: session.run(["scores"], leaves)[0]


TARGETS: dict[str, Callable[[Node], Program]] = {
    "numpy": source(numpy, lambda x: x),
    "torch": source(to_torch, torch.from_numpy),
    "export": exported,
    "onnx": in_onnxruntime,
}


def layer(shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Statistics of the sizes that a language model's layers have, by full name, as float32."""
    rng = np.random.default_rng(0)
    values: dict[str, np.ndarray] = {}
    for name, leaf in LEAVES.items():
        size = [n for n, axis in zip(shape, ("out", "in"), strict=True) if axis in leaf.axes]
        spread = rng.normal(size=size) if leaf.signed else rng.lognormal(size=size)
        values[name] = np.asarray(spread * leaf.usual.typical, dtype=np.float32)
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=int, default=1024)
    parser.add_argument("--in", type=int, default=2048, dest="inn")
    options = parser.parse_args()
    leaves = layer((options.out, options.inn))
    print(f"{'metric':20}" + "".join(f"{target:>18}" for target in TARGETS))
    worst = dict.fromkeys(TARGETS, 0.0)
    for name, metric in zoo().items():
        for arm in metric.arms:
            wanted = np.broadcast_to(evaluate(arm.core, leaves), (options.out, options.inn))
            given = {argument(n): leaves[n] for n in leaves_of(arm.core)}
            cells = []
            for target, build in TARGETS.items():
                program = build(arm.core)
                start = time.perf_counter()
                found = np.broadcast_to(np.asarray(program(given), dtype=np.float64), wanted.shape)
                took = time.perf_counter() - start
                large = np.abs(wanted) > 1e-3 * np.abs(wanted).mean()
                error = float(np.max(np.abs(found - wanted)[large] / np.abs(wanted[large])))
                worst[target] = max(worst[target], error)
                cells.append(f"{error:.1e} {1e3 * took:5.0f} ms")
            print(f"{name:20}" + "".join(f"{cell:>18}" for cell in cells))
    print(f"{'largest error':20}" + "".join(f"{worst[target]:.1e}".rjust(18) for target in TARGETS))


if __name__ == "__main__":
    main()
