"""Zero-shot tasks by lm-evaluation-harness (`lm-eval`), on a model in memory.

A task is a name that lm-eval knows, or a JSONL file with `{"query": "…", "choices": ["…", "…"], "gold": 0}` a line. A
query that begins with `Question:` is followed by a line `Answer:`, which makes the prompts of ARC and PIQA those of
lm-eval; after any other a choice follows at once, with a blank between.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pzc.runtime.data.reading import json_rows
from pzc.runtime.errors import PruningError
from pzc.runtime.evaluation.uncertainty import Estimate
from pzc.runtime.models.loading import Loaded
from pzc.runtime.models.passes import evaluating
from pzc.runtime.quiet import quiet

BATCH = 8


@dataclass(frozen=True)
class Scored:
    """A task's results by the measure's name in lm-eval, such as `acc` and `acc_norm`, over `items` questions.

    `acc` is the share of questions whose correct choice has the highest log-likelihood, `acc_norm` that with
    log-likelihoods divided by the choices' lengths in characters.
    """

    task: str
    items: int
    measures: Mapping[str, Estimate]


@dataclass(frozen=True)
class Tasks:
    """Tasks that there are, as lm-eval takes them."""

    names: tuple[str, ...]
    prepared: list[Any]
    manager: Any


def find_tasks(names: Sequence[str]) -> Tasks:
    """Tasks by their names or files, before anything is measured.

    Raises PruningError where lm-eval is missing, a task is unknown, or a file is none.
    """
    try:
        import lm_eval as _  # noqa: F401
    except ImportError as error:
        raise PruningError("zero-shot tasks need the package `lm-eval`", hint="pip install 'pzc[eval]'") from error
    called = [Path(name).stem if _is_file(name) else name for name in names]
    for name in called:
        if called.count(name) > 1:
            raise PruningError(f"two tasks are called `{name}`", hint="a file's task has the file's name: rename one")
    prepared = [_of_file(name) if _is_file(name) else name for name in names]
    with quiet(), _muted():
        from lm_eval.tasks import TaskManager

        manager = TaskManager()
    for name in (name for name in prepared if isinstance(name, str)):
        if name not in manager.all_tasks:
            hint = "name a task of lm-eval, or a JSONL file with `query`, `choices` and `gold`"
            raise PruningError(f"there is no task `{name}`", hint=hint, task=name)
    return Tasks(tuple(names), prepared, manager)


def evaluate_tasks(loaded: Loaded, tasks: Tasks, *, limit: int | None = None, seed: int = 0) -> list[Scored]:
    """Answer the tasks without examples, the first `limit` questions of each.

    Raises PruningError where the data of one cannot be fetched.
    """
    with quiet(), _muted():
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM

        with evaluating(loaded.model), _unversioned():
            tokenizer = copy.deepcopy(loaded.tokenizer)  # a padding token may be given to it
            harness = HFLM(pretrained=loaded.model, tokenizer=tokenizer, batch_size=BATCH)
            try:
                found = simple_evaluate(
                    model=harness, tasks=tasks.prepared, num_fewshot=0, limit=limit, bootstrap_iters=1000,
                    log_samples=False, task_manager=tasks.manager, random_seed=seed,
                    numpy_random_seed=seed % 2**32, torch_random_seed=seed,
                )  # fmt: skip
            except (MemoryError, torch.OutOfMemoryError, PruningError):
                raise
            except Exception as error:  # datasets raises what its network and file layers raise
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise PruningError(
                    f"{', '.join(tasks.names)} cannot be evaluated: {reason}",
                    hint="a task's data needs a network the first time; a JSONL file does not",
                ) from error
    return [_scored(name, found) for name in found["results"]]


def _scored(name: str, found: Mapping[str, Any]) -> Scored:
    """The numbers of one task or group; lm-eval writes `acc,none` and `acc_stderr,none`."""
    result = found["results"][name]
    measures = {
        key.removesuffix(",none"): Estimate(value, _number(result.get(key.replace(",", "_stderr,", 1))))
        for key, value in result.items()
        if isinstance(value, int | float) and "," in key and "_stderr," not in key
    }
    items = found.get("n-samples", {}).get(name, {}).get("effective") or result.get("sample_len") or 0  # of a group
    return Scored(name, int(items), measures)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _is_file(name: str) -> bool:
    return name.endswith((".jsonl", ".ndjson")) or Path(name).expanduser().is_file()


@dataclass(frozen=True)
class Question:
    """A prompt and its choices, of which the one at `gold` is correct."""

    prompt: str
    choices: tuple[str, ...]
    gold: int


def read_questions(file: str) -> list[Question]:
    """The questions of a JSONL file. Raises PruningError, with the line, where it is none."""
    found = [_question(file, number, row) for number, row in json_rows(file)]
    if not found:
        raise PruningError(f"{file} holds no questions", data=file)
    return found


def _question(file: str, number: int, row: Any) -> Question:
    given: Any = row if isinstance(row, dict) else {}
    query, choices, gold = given.get("query"), given.get("choices"), given.get("gold")
    texts = isinstance(choices, list) and len(choices) > 1 and all(isinstance(c, str) and c.strip() for c in choices)
    whole = isinstance(gold, int) and not isinstance(gold, bool)
    if not (isinstance(query, str) and texts and whole and 0 <= gold < len(choices)):
        raise PruningError(
            f"{file}, line {number}, is no question",
            hint='a line is {"query": "…", "choices": ["…", "…"], "gold": 0}; gold counts from 0',
            data=file,
            line=number,
        )
    prompt = query.rstrip() + ("\nAnswer:" if query.startswith("Question:") else "")
    return Question(prompt, tuple(choice.strip() for choice in choices), gold)


def _of_file(file: str) -> Any:
    """A file as a task of lm-eval; its name is the file's without the ending."""
    questions = read_questions(file)
    import datasets
    from lm_eval.api.task import ConfigurableTask

    rows = [{"prompt": q.prompt, "choices": list(q.choices), "gold": q.gold} for q in questions]
    measures = [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in ("acc", "acc_norm")]
    with quiet(), _muted():
        return ConfigurableTask(
            config={
                "task": Path(file).stem,
                "custom_dataset": lambda **kwargs: {"test": datasets.Dataset.from_list(rows)},
                "test_split": "test",
                "output_type": "multiple_choice",
                "doc_to_text": lambda row: row["prompt"],
                "doc_to_choice": lambda row: row["choices"],
                "doc_to_target": lambda row: row["gold"],
                "target_delimiter": " ",
                "metric_list": measures,
            }
        )


@contextmanager
def _unversioned() -> Iterator[None]:
    """No call of git: lm-eval asks it for the version of the folder that it is run in, and where that is no repository
    git writes to the terminal, past Python."""
    from lm_eval import evaluator

    ask = evaluator.get_git_commit_hash
    evaluator.get_git_commit_hash = lambda: None
    try:
        yield
    finally:
        evaluator.get_git_commit_hash = ask


@contextmanager
def _muted() -> Iterator[None]:
    """No log of lm-eval's below errors: it speaks of settings that are as they should be."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "lm-eval", "datasets")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
