"""Processes that kill themselves at a moment that a test chooses, as `kill -9` would."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from typing import Any


def dies(target: Callable[..., None], *how: Any) -> None:
    """Run a function of a test module in a process of its own, which must end by SIGKILL."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([target.__module__])
    process = context.Process(target=target, args=how)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
