"""The commands about meaning: equiv, simplify, explain of a metric, diff."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import pzc
from pzc.compiler.load import zoo_names
from tests.terminal import Terminal, terminal_of

TREE = (
    '{"data":"mul","left":{"data":"abs","left":{"data":"mul","left":{"data":"W"},"right":{"data":"W"}}},'
    '"right":{"data":"mms","left":{"data":"G"}}}'
)
SMALL = ("--model", "pocket", "--windows", "2", "--length", "32", "--threads", "1")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "tree.json").write_text(TREE, encoding="utf-8")
    return terminal_of(monkeypatch)


# equiv


def test_a_proof_is_shown_step_by_step(terminal: Terminal) -> None:
    shown = terminal("equiv", "wanda", "obd", "--per", "row")
    assert (shown.code, shown.err) == (0, "")
    lines = [line.split() for line in shown.out.splitlines()]
    assert shown.out.startswith("same ranking, proven: the same mask for every model, per row")
    assert ["sqr(W)", "*", "sqr(X)"] in lines
    assert any(line[:4] == ["~", "abs(W)", "*", "X"] and "rank" in line for line in lines)


def test_every_step_of_a_long_derivation_shows_what_it_changes(terminal: Terminal) -> None:
    ria = "(abs(W) / sum(abs(W), in) + abs(W) / sum(abs(W), out)) * X ^ 0.5"
    shown = terminal("simplify", f"({ria} - mean({ria})) / (std({ria}, in) + 1e-5) per row", "--steps")
    steps = re.findall(r"^#     [=~] (.*?)    \[", shown.out, re.MULTILINE)
    assert len(steps) > 5
    assert all(len(step) < 100 for step in steps)
    assert all(step != before for before, step in pairwise(steps))


def test_a_counterexample_is_shown_in_numbers(terminal: Terminal) -> None:
    shown = terminal("equiv", "wanda", "gblm")
    assert (shown.code, shown.err) == (1, "")
    assert shown.out.startswith("different: on this 1 × 2 layer, at 50% per row, the masks differ")
    w, x, g = (json.loads(re.findall(rf"^ +{name} = +(\[.*\])", shown.out, re.MULTILINE)[0]) for name in "WXG")
    scores = [json.loads(found) for found in re.findall(r"scores +(\[.*\])", shown.out)]
    assert scores == [
        (np.abs(w) * x).tolist(),
        (np.abs(w) * x + 100 * np.abs(w) * g).tolist(),
    ]
    kept = [json.loads(found) for found in re.findall(r"kept +(\[.*\])", shown.out)]
    assert kept == [[int(i == np.argmax(s)) for i in range(2)] for s in scores]


def test_neither_proof_nor_counterexample_is_said_to_be_so(terminal: Terminal) -> None:
    shown = terminal("equiv", "wanda", "wanda_variance", "--per", "model")
    assert shown.code == 4
    assert shown.out.startswith("not known: neither a proof nor a counterexample was found")
    assert "no proof" in " ".join(shown.out.split())


def test_other_groups_are_pointed_at(terminal: Terminal) -> None:
    shown = terminal("equiv", "wanda", "obd")
    assert shown.code == 1
    assert "They prune alike with --per row and with --per layer." in shown.out


def test_equiv_in_json(terminal: Terminal) -> None:
    found = json.loads(terminal("equiv", "pruner_zero", "sqr(W) * (G - min(G))", "--json").out)
    (pair,) = found["pairs"]
    assert (found["same"], found["kind"], pair["per"]) == (True, "rank", ["row", "row"])
    assert pair["form"] == "abs(W) * sqrt(G - min(G))"
    assert {"rule", "kind", "law", "reason", "before", "after", "whole"} == set(pair["steps"][0][0])
    assert pair["steps"][0][-1]["whole"] == pair["steps"][1][-1]["whole"] == pair["form"]
    found = json.loads(terminal("equiv", "wanda", "ria", "--pattern", "2:4", "--json").out)
    example = found["pairs"][0]["counterexample"]
    assert (found["same"], example["pattern"], example["sparsity"]) == (False, [2, 4], None)
    first, second = example["kept"]
    assert first != second


def test_arms_are_shown_one_by_one(terminal: Terminal) -> None:
    shown = terminal("equiv", "stade_w", "wanda")
    assert shown.code == 1
    assert "o_proj, down_proj, out_proj, fc2:\ndifferent" in shown.out
    assert "else:\nsame formula" in shown.out


# simplify


def test_simplify_prints_a_file_and_what_was_redundant(terminal: Terminal, tmp_path: Path) -> None:
    shown = terminal("simplify", "pruner_zero")
    assert (shown.code, shown.err) == (0, "")
    assert "metric pruner_zero = sqr(W) * (G - min(G))  per row" in shown.out
    assert "#     the divisor `max(G) - min(G)`" in shown.out
    assert "#     `abs` of `W * W`" in shown.out
    (tmp_path / "short.pzm").write_text(shown.out, encoding="utf-8")
    assert pzc.load("short.pzm").keys.rank == pzc.load("pruner_zero").keys.rank
    assert terminal("check", "short.pzm").code == 0


def test_the_abs_of_the_published_tree_is_redundant(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "tree.pzm").write_text(terminal("import", "tree.json").out, encoding="utf-8")
    shown = terminal("simplify", "tree.pzm", "--steps")
    assert "= sqr(W) * (G - min(G))  per row" in shown.out
    assert "`abs` of `abs(W) * abs(W)`" in shown.out
    assert re.search(r"^#     ~ .* \[rank\] ", shown.out, re.MULTILINE)


@pytest.mark.parametrize("keep", ["rank", "real"])
@pytest.mark.parametrize("name", zoo_names())
def test_every_simplified_metric_compiles_and_means_the_same(name: str, keep: str, terminal: Terminal) -> None:
    found = json.loads(terminal("simplify", name, "--keep", keep, "--json").out)
    Path("short.pzm").write_text(found["source"], encoding="utf-8")
    assert getattr(pzc.load("short.pzm").keys, keep) == getattr(pzc.load(name).keys, keep)


# explain


def test_explain_says_what_a_metric_is(terminal: Terminal) -> None:
    shown = terminal("explain", "pruner_zero")
    assert (shown.code, shown.err) == (0, "")
    facts = dict(re.findall(r"^  (\w+(?: \w+)?) {2,}(.*?) *$", shown.out, re.MULTILINE))
    assert facts["source"] == "abs(W * W) * ((G - min(G)) / (max(G) - min(G)))"
    assert facts["ranks as"].startswith("sqr(W) * (G - min(G))")
    assert facts["axes"] == "[out, in]"
    assert facts["sign"] == "≥ 0"
    assert facts["needs"] == "W, G → one forward and backward pass"
    assert facts["cost"] == "7 flops and 12 bytes read a weight"
    assert "Dong et al." in shown.out
    assert "└── ÷" in shown.out


def test_explain_breaks_what_a_metric_is_where_a_sentence_ends(terminal: Terminal, tmp_path: Path) -> None:
    about = "## The score of one, whose text\n## goes on.\n## Somebody et al.,\n## 2026."
    (tmp_path / "m.pzm").write_text(f"pzm 1\n{about}\nmetric m = abs(W) * X\n", encoding="utf-8")
    shown = terminal("explain", str(tmp_path / "m.pzm"))
    assert "\n  The score of one, whose text goes on.\n  Somebody et al., 2026.\n" in shown.out


def test_explain_gives_warnings_with_their_codes(terminal: Terminal) -> None:
    shown = terminal("explain", "sqr(abs(W) / X) per layer")
    assert "warning[PZ0303]" in shown.out
    assert "note[PZ0307]" in shown.out
    assert "not where X can be zero" in shown.out


def test_explain_of_a_tree_says_what_the_papers_simplification_does(terminal: Terminal, tmp_path: Path) -> None:
    assert "there are none" in terminal("explain", "tree.json").out
    tree = '{"data":"exp","left":{"data":"log","left":{"data":"W"}}}'
    (tmp_path / "other.json").write_text(tree, encoding="utf-8")
    shown = terminal("explain", "other.json")
    assert "exp(log(W)) → W   changes the value" in shown.out
    found = json.loads(terminal("explain", "other.json", "--json").out)
    assert found["opposing"]["left"] == {"data": "W"}
    assert found["opposing"]["removed"][0]["changes_value"] is True
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    shown = terminal("explain", "bad.json")
    assert (shown.code, shown.out) == (1, "")
    assert shown.err.startswith("error: bad.json: this is not JSON")


@pytest.mark.parametrize("name", zoo_names())
def test_every_published_metric_is_explained(name: str, terminal: Terminal) -> None:
    assert terminal("explain", name, "--steps").code == 0
    found = json.loads(terminal("explain", name, "--json").out)
    metric = pzc.load(name)
    assert [arm["per"] for arm in found["arms"]] == [arm.per for arm in metric.arms]
    assert {leaf for arm in found["arms"] for leaf in arm["leaves"]} == metric.leaves
    if len(found["arms"]) == 1:
        assert found["arms"][0]["keys"]["rank"] == metric.keys.rank


# diff


def test_diff_counts_bits_as_the_masks_say(terminal: Terminal) -> None:
    shown = terminal("diff", "magnitude", "abs(W) * X", *SMALL, "--json", "--per", "row")
    found = json.loads(shown.out)
    assert found["weights"] == sum(layer["weights"] for layer in found["layers"])
    assert found["differing"] == sum(layer["differing"] for layer in found["layers"])
    assert 0.01 < found["differ"] == found["differing"] / found["weights"] < 0.5
    assert all(layer["pruned"][0] == layer["pruned"][1] for layer in found["layers"])
    same = json.loads(terminal("diff", "wanda", "obd", "--per", "row", *SMALL, "--json").out)
    assert same["differ"] == 0
    turned = json.loads(terminal("diff", "magnitude", "0 - abs(W) per layer", *SMALL, "--json").out)
    assert turned["differ"] > 0.99  # all but ties


def test_diff_shows_kinds_of_layers_or_every_layer(terminal: Terminal) -> None:
    shown = terminal("diff", "wanda", "ria", *SMALL, "--pattern", "2:4")
    assert shown.code == 0
    rows = [line.split() for line in shown.out.splitlines()]
    assert rows[0] == ["wanda", "and", "ria", "·", "pocket", "·", "2:4"]
    assert rows[-1][0] == "all"
    assert {row[0] for row in rows} >= {"q_proj", "down_proj"}
    every = terminal("diff", "wanda", "ria", *SMALL, "--pattern", "2:4", "--layers")
    assert "model.layers.0.self_attn.q_proj" in every.out
    assert every.out.splitlines()[-1].split()[-1] == rows[-1][3]


def test_a_proof_says_where_it_holds(terminal: Terminal) -> None:
    """The logarithm of a negative weight is no number, and W is one; float32's tanh of 10 and of 11 is 1."""
    assert "for every model, per row, wherever both are defined" in " ".join(
        terminal("equiv", "ln(W) per row", "W per row").out.split()
    )
    assert "for every model, per row, as far as float32 tells the scores apart" in " ".join(
        terminal("equiv", "tanh(abs(W) * X)", "wanda").out.split()
    )
    shown = terminal("equiv", "wanda", "obd", "--per", "row").out
    assert shown.splitlines()[0].endswith("for every model, per row")


@pytest.mark.parametrize("command", ["simplify", "explain"])
def test_a_group_in_which_a_score_is_constant_is_refused(command: str, terminal: Terminal) -> None:
    for metric in ("X per row", "W - W + X"):
        shown = terminal(command, metric, "--per", "col")
        assert shown.code == 2
        assert "constant inside its group (per col)" in shown.err
    assert terminal(command, "X per row", "--per", "layer").code == 0
