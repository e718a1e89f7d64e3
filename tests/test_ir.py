"""`pzm-ir/1`: a metric as canonical JSON, and back."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pzc
from pzc.compiler import ir, jcs
from pzc.compiler.arm import Arm
from pzc.compiler.core import Node, leaf, make, number
from pzc.compiler.functions import FUNCTION_NAMES
from pzc.compiler.groups import GROUPS
from pzc.compiler.leaves import ALIASES, LEAVES
from pzc.compiler.limits import FLOAT32_MAX, FLOAT32_MIN
from pzc.compiler.load import inline, zoo_names
from pzc.compiler.metric import Metric, compile_source
from pzc.compiler.reference import DIMENSION, ELEMENTWISE, KEEPING, REDUCTIONS, along, evaluate, quantile
from pzc.conformance.cases import suite
from pzc.conformance.targets import node_program
from pzc.grammar.words import RESERVED
from tests import strategies
from tests.strategies import EXPRESSIONS, probe

DOCS = Path(__file__).parent.parent / "docs"
SCHEMA = json.loads((DOCS / "pzm-ir-1.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

TAKEN = {n.partition(".")[0] for n in (*RESERVED, *LEAVES, *ALIASES, *FUNCTION_NAMES)}
PATTERNS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters='"#\r\n'), max_size=8).filter(
    lambda pattern: pattern.strip(" \t\f")
)
ARMS = st.builds(Arm, EXPRESSIONS, strategies.GROUPS, st.lists(PATTERNS, min_size=1, max_size=3).map(tuple))
METRICS = st.builds(
    lambda name, core, per, roles: Metric(name, core, per, roles=tuple(roles)),
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True).filter(lambda name: name not in TAKEN),
    EXPRESSIONS,
    strategies.GROUPS,
    st.lists(ARMS, max_size=3),
)


# Writing


def test_the_document_of_a_metric() -> None:
    metric = inline("abs(W) * sum(X) ^ 0.5 per layer")
    assert ir.emit(metric) == (
        '{"arms":[{"layers":[],"per":"layer","score":6}],"format":"pzm-ir/1","leaves":["W","X.l2"],"name":"inline",'
        '"nodes":[{"axes":["out","in"],"name":"W","op":"leaf"},'
        '{"args":[0],"axes":["out","in"],"op":"abs"},'
        '{"axes":["in"],"name":"X.l2","op":"leaf"},'
        '{"args":[2],"axes":[],"op":"sum"},'
        '{"axes":[],"op":"number","value":0.5},'
        '{"args":[3,4],"axes":[],"op":"pow"},'
        '{"args":[1,5],"axes":["out","in"],"op":"mul"}]}\n'
    )
    assert ir.sha256(metric) == hashlib.sha256(ir.emit(metric).encode()).hexdigest()


def test_the_arms_of_a_metric_by_role_share_their_nodes() -> None:
    source = 'pzm 1 metric m { up_proj, "mlp.*": abs(W) * Y per col  else: abs(W) * 2 }'
    content = json.loads(ir.emit(compile_source(source, "m.pzm").metrics[0]))
    assert content["arms"] == [
        {"layers": ["up_proj", "mlp.*"], "per": "col", "score": 3},
        {"layers": [], "per": "row", "score": 5},
    ]
    assert content["leaves"] == ["W", "Y.l2"]
    assert [(n["op"], n.get("args")) for n in content["nodes"]] == [
        ("leaf", None),
        ("abs", [0]),
        ("leaf", None),
        ("mul", [1, 2]),
        ("number", None),
        ("mul", [1, 4]),
    ]


def test_the_document_is_the_same_in_every_process() -> None:
    program = "import pzc; from pzc.compiler.ir import emit; print(emit(pzc.load('ria')), end='')"
    others = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, timeout=600
        ).stdout.decode()
        for seed in ("1", "2")
    }
    assert others == {ir.emit(pzc.load("ria"))}


# Canonical JSON


@pytest.mark.parametrize(
    ("bits", "text"),
    [  # the examples of RFC 8785, appendix B
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("ffefffffffffffff", "-1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("c340000000000000", "-9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555553", "333333333.3333332"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)
def test_numbers_as_the_rfc_has_them(bits: str, text: str) -> None:
    assert jcs.number(struct.unpack(">d", bytes.fromhex(bits))[0]) == text


def test_numbers_as_ecmascript_prints_them() -> None:
    node = node_program()
    if node is None:
        pytest.skip("there is no node")
    rng = np.random.default_rng(0)
    doubles = rng.integers(0, 2**64, 20_000, dtype=np.uint64).view(np.float64).tolist()
    doubles += (rng.normal(size=5000) * 10.0 ** rng.integers(-25, 25, 5000)).tolist()
    doubles += [float(i) for i in range(-300, 300)] + [10.0**i for i in range(-320, 309)]
    finite = [x for x in doubles if math.isfinite(x)]
    program = "process.stdin.on('data', d => b += d).on('end', () => console.log(JSON.stringify(JSON.parse(b))))"
    done = subprocess.run(
        [node, "-e", "let b = ''; " + program], input=json.dumps(finite), capture_output=True, text=True, timeout=600
    )
    assert jcs.dumps(finite) + "\n" == done.stdout


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_read_back(value: float) -> None:
    assert float(jcs.number(value)) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_has_no_number_for(value: float) -> None:
    with pytest.raises(ValueError, match="JSON has no number"):
        jcs.dumps([value])


def test_keys_are_sorted_and_nothing_is_escaped_that_need_not_be() -> None:
    assert (
        jcs.dumps({"b": [True, None], "a": 'é€"\\\n\u0001', "": 1.0})
        == '{"":1,"a":"é€\\"\\\\\\n\\u0001","b":[true,null]}'
    )
    assert jcs.dumps({"\ufb33": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\ufb33":1}'  # by UTF-16, as the RFC has it


# Reading


@settings(deadline=None, max_examples=300)
@given(METRICS)
def test_a_metric_is_read_back_from_its_document(metric: Metric) -> None:
    text = ir.emit(metric)
    found = ir.parse(text)
    assert ir.emit(found) == text
    assert (found.name, found.arms) == (metric.name, metric.arms)
    assert ir.emit(ir.parse(json.dumps(json.loads(text), indent=1))) == text  # in another layout
    VALIDATOR.validate(json.loads(text))


@given(st.floats(-FLOAT32_MAX, FLOAT32_MAX).filter(lambda x: x == 0 or abs(x) > FLOAT32_MIN))
def test_any_number_is_read_back(value: float) -> None:
    text = ir.emit(Metric("m", make("mul", leaf("W"), number(value)), "row"))
    assert ir.emit(ir.parse(text)) == text
    assert ir.parse(text).core.args[1].value == value


@pytest.mark.parametrize("name", zoo_names())
def test_the_zoo_is_read_back(name: str) -> None:
    metric = pzc.load(name)
    text = ir.emit(metric)
    VALIDATOR.validate(json.loads(text))
    assert ir.parse(text).arms == metric.arms
    assert ir.parse(text).keys == metric.keys


def run(rows: list[dict[str, Any]], leaves: dict[str, np.ndarray]) -> np.ndarray:
    """Another reader of the format: only the JSON and numpy."""
    values: list[np.ndarray] = []
    for row in rows:
        args = [values[i] for i in row.get("args", [])]
        over = DIMENSION[row.get("axis")]
        if row["op"] == "number":
            value = np.full((1, 1), float(row["value"]))
        elif row["op"] == "leaf":
            value = np.asarray(leaves[row["name"]])
            shape = (1, -1) if row["axes"] == ["in"] else value.shape + (1,) * (2 - value.ndim)
            value = value.reshape(shape)
        elif row["op"] == "norm":
            p = args[1].item()
            value = (np.abs(args[0]) ** p).sum(over, keepdims=True) ** (1 / p)
        elif row["op"] == "quantile":
            value = quantile(args[0], args[1].item(), over)
        elif row["op"] in KEEPING:
            value = along(args[0], over, KEEPING[row["op"]])
        elif row["op"] in REDUCTIONS:
            value = REDUCTIONS[row["op"]](args[0], axis=over, keepdims=True)
        else:
            value = ELEMENTWISE[row["op"]](*args)
        values.append(value)
    return values[-1]


@settings(deadline=None, max_examples=200)
@given(EXPRESSIONS, st.integers(0, 2**32 - 1))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_document_is_enough_to_score(core: Node, seed: int) -> None:
    leaves = probe(seed)
    with np.errstate(all="ignore"):
        found = run(json.loads(ir.emit(Metric("m", core, "row")))["nodes"], leaves)
        np.testing.assert_array_equal(found, evaluate(core, leaves))


# What is refused (many more cases are in conformance/documents.json)

GOOD = ir.emit(inline("abs(W) * sum(X) ^ 0.5 per layer"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("pzm-ir/1", "pzm-ir/2"), "the format is not pzm-ir/1"),
        (('"op":"abs"', '"op":"log"'), "node 1 has no operation that is known"),
        (('"args":[0]', '"args":[1]'), "an argument of node 1 is not the place of an earlier node"),
        (('"args":[0]', '"args":[0,0]'), "node 1 does not have 1 arguments"),
        (('{"args":[0],"axes":["out","in"]', '{"args":[0],"axes":["in"]'), "node 1 has other axes"),
        (('"name":"X.l2"', '"name":"X.l3"'), "node 2 is no leaf that is known"),
        (('"leaves":["W","X.l2"]', '"leaves":["W"]'), "the leaves are not those"),
        (('"per":"layer"', '"per":"rows"'), "arm 0 has no comparison group"),
        (('"value":0.5', '"value":1e39'), "node 4 is not a number that float32 holds"),
        (('"value":0.5', '"value":NaN'), "JSON has no NaN"),
        (('"value":0.5', '"value":0.5,"value":0.5'), "a key is there twice"),
        (('"args":[1,5]', '"args":[5,1]'), "in the order of a depth-first walk"),
        (("}\n", "}}\n"), "this is not JSON"),
    ],
)
def test_what_is_wrong_is_said(change: tuple[str, str], message: str) -> None:
    assert GOOD.count(change[0]) >= 1
    with pytest.raises(ir.InvalidDocument, match=message.replace("(", r"\(")):
        ir.parse(GOOD.replace(*change))


HOSTILE = {
    "deep lists": "[" * 1_000_000,
    "deep objects": '{"a":' * 1_000_000,
    "deep in a document": GOOD.replace("[0]", "[" * 100_000 + "]" * 100_000),
    "a long document": " " * (ir.MAX_TEXT + 1),
    "a long text": '"' + "\\\\" * 1_000_000,
    "a number of a million digits": GOOD.replace("0.5", "9" * 1_000_000),
    "a place of a million digits": GOOD.replace("[0]", f"[{'9' * 1_000_000}]"),
    "a million arguments": GOOD.replace("[0]", f"[{'0,' * 1_000_000}0]"),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_documents_are_refused(text: str) -> None:
    with pytest.raises(ir.InvalidDocument):
        ir.parse(text)


@settings(deadline=None, max_examples=500)
@given(st.integers(0, len(GOOD)), st.integers(0, 12), st.text('{}[]",:0123456789.-e\\ abinotruelfW\ud800', max_size=6))
def test_a_damaged_document_is_read_or_refused(at: int, length: int, text: str) -> None:
    damaged = GOOD[:at] + text + GOOD[at + length :]
    try:
        metric = ir.parse(damaged)
    except ir.InvalidDocument:
        return
    assert json.loads(ir.emit(metric)) == json.loads(damaged)
    VALIDATOR.validate(json.loads(damaged))


# The schema and the page


def enumerated(name: str) -> set[str]:
    return set(SCHEMA["$defs"][name]["properties"]["op"]["enum"])


def test_the_schema_has_the_tables_of_the_code() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    along = {op for op, o in ir.OPERATIONS.items() if o.kind != "elementwise"}
    assert enumerated("alongAxis") == along
    assert enumerated("elementwise") == set(ir.OPERATIONS) - along
    assert SCHEMA["$defs"]["leafName"]["enum"] == sorted(LEAVES)
    assert SCHEMA["$defs"]["arm"]["properties"]["per"]["enum"] == list(GROUPS)
    for kind in ("elementwise", "alongAxis"):
        for case in SCHEMA["$defs"][kind]["oneOf"]:
            op, args = case["properties"]["op"], case["properties"]["args"]
            assert args["minItems"] == args["maxItems"]
            assert {ir.OPERATIONS[x].arity for x in op.get("enum", [op.get("const")])} == {args["minItems"]}


@pytest.mark.parametrize("case", [c for c in suite() if c.topic == "documents"], ids=lambda c: c.description)
def test_the_schema_takes_every_valid_document(case: Any) -> None:
    if case.expect["valid"]:
        VALIDATOR.validate(json.loads(case.content["document"]))


@pytest.mark.parametrize(
    "change",
    [
        {"format": "pzm-ir/2"},
        {"name": "no name"},
        {"name": "metric"},
        {"arms": [{"layers": ['a"b'], "per": "row", "score": 0}, json.loads(GOOD)["arms"][0]]},
        {"arms": [{"layers": [" "], "per": "row", "score": 0}, json.loads(GOOD)["arms"][0]]},
        {"extra": 1},
        {"arms": []},
        {"nodes": [{"op": "abs", "axes": [], "args": [0, 1]}]},
        {"nodes": [{"op": "log", "axes": [], "args": [0]}]},
        {"nodes": [{"op": "abs", "axes": [], "args": [0], "axis": "in"}]},
        {"nodes": [{"op": "leaf", "axes": [], "name": "V"}]},
    ],
    ids=str,
)
def test_the_schema_refuses_what_it_can(change: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(json.loads(GOOD) | change)


def test_the_page_has_the_table_of_the_code() -> None:
    page = (DOCS / "pzm-ir.md").read_text(encoding="utf-8")
    lines = page.split("## Operations\n")[1].split("**Axes.**")[0].replace("\\|", "").strip().splitlines()[2:]
    rows = {cells[0].strip("` "): cells[1:3] for cells in (line.strip("|").split("|") for line in lines)}
    kinds = {"elementwise": "all", "reduction": "reduced", "ranking": "kept"}
    assert {op: [cell.strip() for cell in cells] for op, cells in rows.items()} == {
        op: [str(o.arity), kinds[o.kind]] for op, o in ir.OPERATIONS.items()
    }
    limits = " ".join(page.split())
    assert f"more than {ir.MAX_TEXT:,} characters" in limits
    assert f"more than {ir.MAX_SIZE:,} parts or {ir.MAX_DEPTH} levels" in limits
    example = page.split("```json\n")[1].split("```")[0]
    assert example == ir.emit(pzc.load("wanda"))


def test_every_function_of_the_language_is_an_operation() -> None:
    calls = {"norm": "norm(W, 2)", "quantile": "quantile(W, 0.5)", "clamp": "clamp(W, 0, 1)"}
    for name in FUNCTION_NAMES:
        op = json.loads(ir.emit(inline(f"X * {calls.get(name, f'{name}(W)')}")))["nodes"][-2]["op"]
        assert op in ir.OPERATIONS


def test_the_order_of_a_norm_may_be_as_small_as_a_number_can_be() -> None:
    """1e-45 is 1.4e-45 in float32, and not zero: the language has it, so a document has it."""
    metric = inline("abs(W) - norm(W, 1e-45)")
    assert ir.parse(ir.emit(metric)).core is metric.core


@pytest.mark.parametrize("formula", ["min(W, -a)", "W * -a", "W ^ -a", "min(W, --2)", "W * -b"])
def test_a_minus_before_a_number_is_written_as_it_is_read(formula: str) -> None:
    """`-a` once was the `neg` of a number, which no source says but by a name."""
    (metric,) = compile_source(f"pzm 1\n\nparam a = 0.5\nlet b = -3\nmetric m = {formula} per row\n", "m.pzm").metrics
    (again,) = compile_source(metric.source, "m.pzm").metrics
    assert again.core is metric.core


def test_what_no_source_can_say_is_refused_by_both_readers() -> None:
    document = json.loads(ir.emit(inline("abs(W) per layer")))
    assert set(SCHEMA["properties"]["name"]["not"]["enum"]) == TAKEN
    said: list[dict[str, Any]] = [{"name": name} for name in sorted(TAKEN)]
    said += [{"arms": [{"layers": ["a", p], "per": "row", "score": 1}, document["arms"][0]]} for p in UNSAID]
    texts = [json.dumps(document | change) for change in said]
    for text in texts:
        with pytest.raises(ir.InvalidDocument, match="no source can say"):
            ir.parse(text)
    assert ir.parse(json.dumps(document | {"name": "_in"})).source
    if shutil.which("node"):
        code = f"import {{ parse }} from {json.dumps(str(IR_JS))}; let n = 0;"
        code += f"for (const t of {json.dumps(texts)}) {{ try {{ parse(t); }} catch {{ n++; }} }} console.log(n);"
        done = subprocess.run(["node", "--input-type=module", "-e", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str(len(texts))


UNSAID = ['a"b', "a#b", "  ", "\t \f", "a\nb", "a\rb"]
IR_JS = Path(__file__).parent.parent / "javascript" / "ir.js"
