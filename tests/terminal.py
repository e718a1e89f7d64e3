"""Running the command line inside the test's own process."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pzc.cli import console
from pzc.cli.main import main


@dataclass(frozen=True)
class Shown:
    """What a command wrote, and its exit code."""

    code: int
    out: str
    err: str


Terminal = Callable[..., Shown]


def terminal_of(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A function that runs `pzc` with the given arguments; `stdin` may be given as bytes."""

    def run(*arguments: str, stdin: bytes = b"") -> Shown:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
        with monkeypatch.context() as m:
            m.setattr(sys, "argv", ["pzc", *arguments])
            m.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
            m.setattr(sys, "stdout", out)
            m.setattr(sys, "stderr", err)
            # a console writes to whatever sys.stdout is, but remembers the width of the first terminal
            m.setattr(console.output, "_width", 100)
            m.setattr(console.errors, "_width", 100)
            with pytest.raises(SystemExit) as ended:
                main()
        texts = [stream.buffer.getvalue().decode("utf-8") for stream in (out, err)]  # type: ignore[attr-defined]
        return Shown(int(ended.value.code or 0), *texts)

    return run
