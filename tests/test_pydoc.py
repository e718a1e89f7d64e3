"""The embedded text: English from the running interpreter, in sides that share nothing."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pzc.runtime.data import pydoc


def words(text: str) -> list[str]:
    """Return each paragraph of `text` with its white space normalised."""
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


@pytest.mark.parametrize("side", [pydoc.calibration_text, pydoc.training_text])
def test_no_paragraph_of_the_evaluation_side_is_elsewhere(side: Callable[[], str]) -> None:
    assert not set(words(pydoc.evaluation_text())) & set(words(side()))


def test_calibration_is_part_of_training() -> None:
    assert pydoc.training_text().startswith(pydoc.calibration_text())


@pytest.mark.parametrize("side", [pydoc.calibration_text, pydoc.evaluation_text, pydoc.training_text])
def test_no_paragraph_comes_twice(side: Callable[[], str]) -> None:
    found = words(side())
    assert len(found) == len(set(found))


def test_sizes_suffice_for_windows_of_128_tokens() -> None:
    """A token of `pocket` is 2.8 characters or more, so 400 windows are at most 150,000 characters or so."""
    assert len(pydoc.calibration_text()) >= 400 * 128 * 2.8
    assert len(pydoc.evaluation_text()) >= 150 * 128 * 2.8
    assert len(pydoc.training_text()) >= 500_000


def test_text_is_prose() -> None:
    text = pydoc.calibration_text() + pydoc.evaluation_text()
    assert "  " not in text
    assert not any(mark in text for mark in ("****", "====", ">>>", "::="))
    assert sum(letter.isascii() for letter in text) > 0.99 * len(text)


def test_texts_are_the_same_in_another_process() -> None:
    """Neither the hash seed of strings nor what was imported before plays a part."""
    program = (
        "import hashlib, sys; from pzc.runtime.data import pydoc\n"
        "text = pydoc.calibration_text() + pydoc.evaluation_text()\n"
        "assert 'torch' not in sys.modules\n"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The title of this one here\n****", []),
        ("One two three\n   four  five six.", ["One two three four five six."]),
        ("stmt ::= one two three four five six.", []),
        (">>> print('one two three four five six.')", []),
        ("“One” two three…\n\n\nfour five six seven eight nine.", ["four five six seven eight nine."]),
    ],
)
def test_paragraphs(text: str, expected: list[str]) -> None:
    assert pydoc.paragraphs(text) == expected
