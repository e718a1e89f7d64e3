"""Text to calibrate on and text to evaluate on, which never overlap."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pzc.runtime.data import hub
from pzc.runtime.data.reading import is_jsonl, read_text, text_rows
from pzc.runtime.errors import PruningError

Side = Literal["calibration", "evaluation"]
Part = Literal["whole", "first four fifths", "last fifth", "calibration", "evaluation"]
Sampler = Callable[[Side], str]
"""Makes the text `self` of a side: see `pzc.runtime.data.sampling`."""

LONG_LINE, MOST_SHARED = 40, 0.01
"""Two files share text when lines of at least so many characters recur for more than this share of the second."""

CALIBRATION_SHARE = 4, 5
"""The share of a file that calibration reads when the same file serves evaluation too."""


@dataclass(frozen=True)
class Text:
    """A text, the name it was asked for by, the SHA-256 of what is read (UTF-8), and which part that is."""

    name: str
    text: str
    part: Part

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def title(self) -> str:
        """Its name and which part of it was read."""
        return f"{self.name} ({self.part})"


def sides(data: str, eval_data: str | None = None, *, sampler: Sampler | None = None) -> tuple[Text, Text]:
    """The calibration text of `data` and the evaluation text of `eval_data` (by default `data` too).

    A name is `pydoc`, `wikitext2`, `c4` or `self`, each with a side of its own for either use, or a text or
    JSONL file. A file is used whole; but when one content serves both, calibration reads the first four
    fifths, cut at a line, and evaluation the rest. `self` needs a `sampler`. Raises PruningError for what
    cannot be read.
    """
    other = data if eval_data is None else eval_data
    if data in _NAMED or other in _NAMED:
        return _one(data, "calibration", sampler), _one(other, "evaluation", sampler)
    first, second = _read(data), _read(other)
    if first != second:
        _check_apart(data, first, other, second)
        return Text(data, first.whole, "whole"), Text(other, second.whole, "whole")
    head, tail = first.halves(data)
    return Text(data, head, "first four fifths"), Text(other, tail, "last fifth")


def calibration_side(data: str, eval_data: str | None = None, *, sampler: Sampler | None = None) -> Text:
    """The calibration text that `sides` gives, for a run that evaluates nothing."""
    other = data if eval_data is None else eval_data
    if data in _NAMED or other in _NAMED:
        return _one(data, "calibration", sampler)
    return sides(data, eval_data)[0]


def evaluation_side(data: str, eval_data: str | None = None, *, sampler: Sampler | None = None) -> Text:
    """The evaluation text that `sides` gives, for a run that calibrates on nothing."""
    other = data if eval_data is None else eval_data
    if data in _NAMED or other in _NAMED:
        return _one(other, "evaluation", sampler)
    return sides(data, eval_data)[1]


def _check_apart(data: str, first: _Pieces, other: str, second: _Pieces) -> None:
    """Raise PruningError when more than a hundredth of the evaluation text, by its longer lines, is in the other."""
    known = set(first.lines)
    lines = second.lines
    shared = sum(len(line) for line in lines if line in known)
    share = shared / max(1, sum(map(len, lines)))
    if share > MOST_SHARED:
        raise PruningError(
            f"{share:.0%} of {other} is in {data} too: text to evaluate on must not be calibrated on",
            hint=f"leave --eval-data out, and {data} is cut in two",
            share=share,
        )


def eval_text(data: str, held_out: bool = False, *, sampler: Sampler | None = None) -> Text:
    """The text to evaluate on. A file is used whole, or with `held_out` only its last fifth, which is what
    `sides` leaves to evaluation when the same file was calibrated on."""
    if data in _NAMED or not held_out:
        return _one(data, "evaluation", sampler)
    return Text(data, _read(data).halves(data)[1], "last fifth")


# Files


@dataclass(frozen=True)
class _Pieces:
    """A file's content in the pieces between which it may be cut: lines, or the texts of JSONL rows."""

    pieces: tuple[str, ...]
    joint: str

    @property
    def whole(self) -> str:
        return self.joint.join(self.pieces)

    @property
    def lines(self) -> list[str]:
        """The lines that are long enough not to recur by chance."""
        return [line.strip() for line in self.whole.split("\n") if len(line.strip()) >= LONG_LINE]

    def halves(self, name: str) -> tuple[str, str]:
        """The first four fifths by length, as whole pieces, and the rest."""
        total = sum(len(piece) + len(self.joint) for piece in self.pieces)
        taken = cut = 0
        for piece in self.pieces:
            taken += len(piece) + len(self.joint)
            if taken * CALIBRATION_SHARE[1] > total * CALIBRATION_SHARE[0]:
                break
            cut += 1
        head, tail = self.joint.join(self.pieces[:cut]), self.joint.join(self.pieces[cut:])
        if not head.strip() or not tail.strip():
            raise PruningError(
                f"{name} has too few lines to be cut into text for calibration and text for evaluation",
                hint="name another file for evaluation",
                data=name,
            )
        return head, tail


def check_named(data: str, eval_data: str | None = None) -> None:
    """Raise PruningError for a name that is no text's and no file's. No text is read."""
    for name in (data, eval_data):
        if name is not None and name not in _NAMED and not Path(name).expanduser().exists():
            raise PruningError(
                f"there is no text `{name}`",
                hint=f"name a text or JSONL file, or one of {', '.join(sorted(_NAMED))}",
                data=name,
            )


def _read(name: str) -> _Pieces:
    check_named(name)
    rows = is_jsonl(name)
    pieces = _Pieces(tuple(text_rows(name)), "\n\n") if rows else _Pieces(tuple(read_text(name).split("\n")), "\n")
    if not pieces.whole.strip():
        raise PruningError(f"{name} holds no text", data=name)
    return pieces


# Named texts


def _one(name: str, side: Side, sampler: Sampler | None) -> Text:
    if name == "self":
        if sampler is None:
            raise PruningError("the text `self` is sampled from a dense model, and there is none here")
        return Text(name, sampler(side), side)
    if name in _NAMED:
        return Text(name, _NAMED[name](side), side)
    return Text(name, _read(name).whole, "whole")


def _pydoc(side: Side) -> str:
    from pzc.runtime.data import pydoc

    return pydoc.calibration_text() if side == "calibration" else pydoc.evaluation_text()


def _wikitext2(side: Side) -> str:
    """The rows of the train or test split joined by blank lines, as SparseGPT does, and Wanda with the test split; its
    train split is joined by spaces."""
    return "\n\n".join(hub.wikitext2("train" if side == "calibration" else "test"))


def _c4(side: Side) -> str:
    """Documents of the training split with blank lines between, or of the validation split joined by spaces, as Wanda
    does."""
    return "\n\n".join(hub.c4("train")) if side == "calibration" else " ".join(hub.c4("validation"))


_NAMED: dict[str, Callable[[Side], str]] = {
    "pydoc": _pydoc,
    "wikitext2": _wikitext2,
    "c4": _c4,
    "self": lambda side: "",
}


def is_named(data: str) -> bool:
    """Whether a text is one of those with a name, which have a side for calibration and one for evaluation."""
    return data in _NAMED


def calibrated_part(data: str, sha256: str) -> Part | None:
    """Which part of the file `data` has this hash: the whole, its first four fifths, or none (or it is no file)."""
    if data in _NAMED or not Path(data).expanduser().is_file():
        return None
    try:
        pieces = _read(data)
    except PruningError:  # of another form, such as those of the protocols: it has calibrated nothing
        return None
    if hashlib.sha256(pieces.whole.encode()).hexdigest() == sha256:
        return "whole"
    try:
        head, _ = pieces.halves(data)
    except PruningError:  # too short to be cut
        return None
    return "first four fifths" if hashlib.sha256(head.encode()).hexdigest() == sha256 else None
