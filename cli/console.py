"""The terminal: results to stdout, everything else to stderr; bars where there is a terminal, lines where not."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text
from rich.theme import Theme

THEME = Theme(
    {
        "pzm.leaf": "cyan",
        "pzm.function": "magenta",
        "pzm.number": "yellow",
        "pzm.keyword": "bold blue",
        "pzm.comment": "dim",
        "pzm.axis": "green",
        "pzm.group": "green",
        "pzm.text": "yellow",
        "pzm.name": "bold",
        "error": "bold red",
        "warning": "bold yellow",
        "note": "bold blue",
        "help": "green",
        "good": "bold green",
        "markdown.code": "cyan",
    }
)


class _Results(Console):
    """Stdout. A reader that has gone away ends the command, without results that others could mistake for whole."""

    def on_broken_pipe(self) -> None:
        raise  # the BrokenPipeError that rich is at


class _Said(Console):
    """Stderr. Without a reader what is said leads nowhere, and results still go to stdout; `quiet` is true then."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # Python itself still flushes it in the end


# without emoji: `:a:` is part of a file name here
output = _Results(theme=THEME, highlight=False, emoji=False)
errors = _Said(theme=THEME, highlight=False, emoji=False, stderr=True)


LONGEST_FORMULA = 90
"""Characters of a formula in a table."""


def formula(text: str) -> Text:
    """`.pzm` text in colour."""
    from pzc.cli.lexer import coloured  # Pygments takes a while: only what draws a formula waits for it

    return Text.assemble(*coloured(text))


def shortened(text: str, before: str = "") -> str:
    """A formula that is too long for a table, cut; of one that comes `before` it, to show what differs."""
    if len(text) <= LONGEST_FORMULA:
        return text
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, before, strict=False)))
    start = text.rfind(" ", 0, same - LONGEST_FORMULA // 4) + 1 if same > LONGEST_FORMULA // 2 else 0
    end = start + LONGEST_FORMULA
    return f"{'… ' if start else ''}{text[start:end]}{' …' if end < len(text) else ''}"


def change_text(share: float, error: float | None = None) -> str:
    """A change as a share, with its standard error where that is known: `−1.9% ± 0.5%`."""
    return f"{share:+.1%}{'' if error is None else f' ± {error:.1%}'}".replace("-", "−")


def fail(message: str, hint: str | None = None) -> None:
    """One error on stderr, with what would help."""
    errors.print(f"[error]error[/]: {escape(message)}", soft_wrap=True)
    if hint:
        errors.print(f"  [help]help[/]: {escape(hint)}", soft_wrap=True)


def warn(message: str) -> None:
    """One warning on stderr."""
    errors.print(f"[warning]warning[/]: {escape(message)}", soft_wrap=True)


def say(message: str) -> None:
    """One line about what is happening, on stderr."""
    errors.print(message, soft_wrap=True, markup=False)


def print_json(value: Any) -> None:
    """One JSON object on a line of stdout."""
    finite = json.loads(json.dumps(value), parse_constant=lambda name: None)  # JSON has no NaN and no infinity
    encoding = getattr(output.file, "encoding", None) or "utf-8"
    output.file.write(json.dumps(finite, ensure_ascii=encoding.lower() != "utf-8") + "\n")
    output.file.flush()


class _Quiet:
    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show nothing."""


class _Lines:
    """Plain lines where there is no terminal: the start of a stage, its end, and one every ten seconds."""

    def __init__(self) -> None:
        self._stage = ""
        self._began = self._shown = time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._shown = stage, now
        if done >= total:
            say(f"{stage}: {done}/{total} in {now - self._began:.1f} s")
            self._began = now  # the next stage begins where this one ends
        elif now - self._shown > 10:
            self._shown = now
            say(f"{stage}: {done}/{total}")


class _Bars:
    """A bar for each stage."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, Any] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self._tasks or (self._bars.tasks[self._tasks[stage]].finished and done < total):
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)


@contextmanager
def progress(quiet: bool = False) -> Iterator[Any]:
    """A callable `(stage, done, total)` that draws bars, prints lines, or shows nothing. Warnings of pzc's own are
    printed as lines meanwhile."""
    with _warnings_as_lines():
        if quiet:
            yield _Quiet()
        elif not errors.is_terminal:
            yield _Lines()
        else:
            columns = (
                TextColumn(" {task.description:<12}", markup=False),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(compact=True),
            )
            with Progress(*columns, console=errors) as bars:
                yield _Bars(bars)


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if category.__module__.startswith("pzc."):
                warn(str(message))
            else:
                others(message, category, *where, **more)

        warnings.showwarning = show
        yield
