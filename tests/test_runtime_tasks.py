"""Zero-shot tasks: lm-eval's numbers on a file are those of a plain loop over choices."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pzc.runtime.errors import PruningError
from pzc.runtime.evaluation.tasks import evaluate_tasks, find_tasks, read_questions
from pzc.runtime.models.loading import Loaded
from tests.conftest import WORDS
from tests.terminal import terminal_of

QUESTIONS = [
    {"query": "the of", "choices": ["and a", "to in is it that"], "gold": 0},
    {"query": "a to in", "choices": ["was", "for on are as", "with the"], "gold": 2},
    {"query": "it that was", "choices": ["is", "of of"], "gold": 1},
    *(
        {"query": WORDS[i], "choices": [WORDS[i - 1], f"{WORDS[i - 2]} {WORDS[i - 3]}"], "gold": i % 2}
        for i in range(9)
    ),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "words.jsonl"
    path.write_text("\n".join(map(json.dumps, QUESTIONS)) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def loaded(tiny: Callable[..., Any], tokenizer: Any) -> Loaded:
    return Loaded(tiny(), tokenizer, "tiny", torch.float32, ())


def by_hand(loaded: Loaded, question: dict[str, Any]) -> tuple[float, float]:
    """Whether the most likely choice is the correct one, in all and for each character."""
    ids = loaded.tokenizer(question["query"], add_special_tokens=False)["input_ids"]
    scores = []
    for choice in question["choices"]:
        answer = loaded.tokenizer(choice, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = loaded.model(torch.tensor([ids + answer])).logits[0].log_softmax(-1)
        scores.append(sum(float(logits[len(ids) + i - 1, token]) for i, token in enumerate(answer)))
    lengths = [len(choice) for choice in question["choices"]]
    gold = question["gold"]
    return float(np.argmax(scores) == gold), float(np.argmax(np.array(scores) / lengths) == gold)


@pytest.mark.parametrize("limit", [None, 4])
def test_accuracy_is_that_of_a_plain_loop(loaded: Loaded, file: Path, limit: int | None) -> None:
    pytest.importorskip("lm_eval")
    before = loaded.tokenizer.pad_token
    (found,) = evaluate_tasks(loaded, find_tasks([str(file)]), limit=limit, seed=2**62)
    assert loaded.tokenizer.pad_token == before
    expected = np.array([by_hand(loaded, q) for q in QUESTIONS[:limit]])
    assert found.task == "words"
    assert found.items == len(expected)
    assert set(found.measures) == {"acc", "acc_norm"}
    for place, name in enumerate(("acc", "acc_norm")):
        assert found.measures[name].value == pytest.approx(expected[:, place].mean())
        error = expected[:, place].std(ddof=1) / math.sqrt(len(expected))
        assert found.measures[name].error == pytest.approx(error)
    assert len({tuple(row) for row in expected}) > 1  # the example tells the two measures and right from wrong apart


def test_the_prompts_of_questions_are_those_of_lm_eval(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(
        '{"query": "Question: Why?\\n", "choices": [" so", "thus"], "gold": 1}\n\n'
        '{"query": "He sat and", "choices": ["ate", "flew"], "gold": 0}\n'
    )
    first, second = read_questions(str(path))
    assert (first.prompt, first.choices, first.gold) == ("Question: Why?\nAnswer:", ("so", "thus"), 1)
    assert second.prompt == "He sat and"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2, is no JSON"),
        ("[1]", "line 2, is no question"),
        ('{"query": "a", "choices": ["b"], "gold": 0}', "line 2, is no question"),
        ('{"query": "a", "choices": ["b", "c"], "gold": 2}', "line 2, is no question"),
        ('{"query": "a", "choices": ["b", "c"], "gold": true}', "line 2, is no question"),
        ('{"query": "a", "choices": ["b", ""], "gold": 0}', "line 2, is no question"),
    ],
)
def test_a_file_that_is_no_task_is_refused_with_its_line(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(f'{{"query": "a", "choices": ["b", "c"], "gold": 0}}\n{line}\n')
    with pytest.raises(PruningError, match=message):
        read_questions(str(path))


def test_files_and_tasks_that_are_not_there(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    with pytest.raises(PruningError, match=r"nowhere\.jsonl cannot be read: no such file"):
        find_tasks([str(tmp_path / "nowhere.jsonl")])
    with pytest.raises(PruningError, match="there is no task `arc_easyy`") as raised:
        find_tasks(["arc_easyy"])
    assert "a JSONL file with" in str(raised.value.hint)


def test_a_task_that_is_none_shows_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    monkeypatch.setattr("pzc.runtime.models.loading.load_model", None)  # would be called
    (tmp_path / "q.jsonl").write_text("{")
    shown = terminal_of(monkeypatch)("eval", "--data", "pydoc", "--tasks", str(tmp_path / "q.jsonl"))
    assert shown.code == 1
    assert "q.jsonl, line 1, is no JSON" in shown.err


def test_without_the_package_there_is_one_message(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "lm_eval", None)
    shown = terminal_of(monkeypatch)("eval", "--tasks", str(file))
    assert shown.code == 1
    assert shown.err.splitlines()[0] == "error: zero-shot tasks need the package `lm-eval`"
    assert "pip install 'pzc[eval]'" in shown.err
