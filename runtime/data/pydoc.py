"""English text that every CPython ships: the embedded default of `--data`, no download needed.

The help topics of `pydoc_data` (what `help("with")` prints) are dealt into two sides, calibration and
evaluation, by a hash of each topic's name. A topic may repeat the text of another ("compound" holds all of
"with"), so no paragraph of the evaluation side is left in the other one. The training text, on which
`scripts/train_pocket.py` trains the model `pocket`, adds the docstrings of the standard library to the
calibration side. All texts are read from the running interpreter, so their exact content depends on its
version, but the side of a topic does not.

This module doesn't import torch.
"""

import ast
import functools
import hashlib
import inspect
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from pydoc_data.topics import topics

EVALUATION_SHARE = 0.2  # of the topics, not of the text

# Source that is no part of the library proper: other people's packages, tests and demonstrations.
_SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idle_test", "turtledemo", "ensurepip"}

_PLAIN = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "…": "...", "–": "-", "—": "-", "\xa0": " "})


def calibration_text() -> str:
    """Return the text of the calibration side: paragraphs of prose, one a line, with blank lines between."""
    return "\n\n".join(_calibration())


def evaluation_text() -> str:
    """Return the text of the evaluation side, in the form of `calibration_text`.

    It shares no paragraph with `calibration_text` or `training_text`, even up to case and punctuation.
    """
    return "\n\n".join(_evaluation())


@functools.cache
def training_text() -> str:
    """Return the calibration text and after it the docstrings of the standard library, in the same form.

    The docstrings come from the interpreter's source files, which are parsed and never imported. It takes a
    few seconds.
    """
    docstrings = (paragraph for text in _docstrings() for paragraph in paragraphs(text))
    kept = _distinct([*_calibration(), *docstrings], without=_evaluation())
    return "\n\n".join(kept)


def paragraphs(text: str) -> list[str]:
    """Split `text` at blank lines and return its paragraphs of prose, each cleaned and on one line.

    Headings, code, tables, grammar rules and examples of a session are left out.
    """
    blocks = re.split(r"\n\s*\n", text.translate(_PLAIN))
    return [cleaned for block in blocks if _is_prose(cleaned := _clean(block))]


def _clean(block: str) -> str:
    """Drop rule lines such as `*****`, then join the lines and collapse each run of white space."""
    lines = [line for line in block.splitlines() if not re.fullmatch(r"\s*([^\w\s])\1{2,}\s*", line)]
    return " ".join(" ".join(lines).split())


def _is_prose(paragraph: str) -> bool:
    """Tell sentences from headings, code and tables, by the end, the length and the share of letters."""
    words = re.findall(r"[A-Za-z]+", paragraph)
    letters = sum(map(len, words)) + paragraph.count(" ")
    return (
        len(words) >= 6
        and paragraph[-1] in ".:!?)"
        and letters >= 0.82 * len(paragraph)
        and not re.search(r"::=|>>>|--\+|==\||\|  |[{;]$| = .* = ", paragraph)
    )


def _key(paragraph: str) -> str:
    """Return what two paragraphs share when they differ in case, punctuation and white space only."""
    return "".join(re.findall(r"\w+", paragraph.lower()))


def _distinct(candidates: Iterable[str], without: Iterable[str] = ()) -> list[str]:
    """Return the first of each paragraph in `candidates`, in order, and none that is in `without`."""
    seen = set(map(_key, without))
    kept = []
    for paragraph in candidates:
        key = _key(paragraph)
        if key not in seen:
            seen.add(key)
            kept.append(paragraph)
    return kept


def _is_evaluation(topic: str) -> bool:
    """Deal a topic by its name alone, so that every version of Python deals it to the same side."""
    first = hashlib.sha256(topic.encode()).digest()[0]
    return first / 256 >= 1 - EVALUATION_SHARE


def _side(evaluation: bool) -> Iterator[str]:
    for topic in sorted(topics):
        if _is_evaluation(topic) == evaluation:
            yield from paragraphs(topics[topic])


@functools.cache
def _evaluation() -> tuple[str, ...]:
    return tuple(_distinct(_side(evaluation=True)))


@functools.cache
def _calibration() -> tuple[str, ...]:
    return tuple(_distinct(_side(evaluation=False), without=_evaluation()))


def _docstrings() -> Iterator[str]:
    """Yield the docstrings of the standard library's modules, classes and functions, in a fixed order."""
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        if _SKIPPED_FOLDERS.isdisjoint(path.relative_to(library).parts):
            yield from _docstrings_of(path)


def _docstrings_of(path: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old modules hold invalid escape sequences
            tree = ast.parse(path.read_bytes())
    except SyntaxError:  # a few files are templates, or samples of other versions of the language
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text:
                yield inspect.cleandoc(text)
