"""Helpers of a search on the same machine: processes that join its run, and end with it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pzc.runtime.models.loading import devices_of
from pzc.search.place import URL, Place
from pzc.search.request import HERE
from pzc.search.settings import Settings

GRACE = 60.0
"""Seconds that helpers have to finish the candidates at work, which the final looks at, too."""

HURRY = 5.0
"""Seconds that they have where the search was interrupted."""

STOPPED = 130
"""The exit code of one that was asked to stop, as by the ctrl-c that stops all."""


@contextmanager
def helping(
    place: Place,
    settings: Settings,
    helpers: int,
    tell: Callable[[str], None],
    device: str = "auto",
    trust_remote_code: bool = False,
) -> Iterator[None]:
    """Have so many processes join the run while the context is open, and `tell` of one that ends before it. What goes
    wrong there is in `worker-N.log` of the run's folder; this process is worker 1. Of several accelerators each process
    takes another."""
    command = [sys.executable, "-m", "pzc", "search", "--join", place.name, "--study", place.study]
    command += ["--attached", str(os.getpid()), "--quiet"]
    command += ["--trust-remote-code"] if trust_remote_code else []
    for name in HERE:
        if getattr(settings, name) is not None:
            command += [f"--{name.replace('_', '-')}", getattr(settings, name)]
    seen = {**os.environ, **({URL: place.url} if place.url else {})}
    running: list[subprocess.Popen[bytes]] = []
    ended = threading.Event()
    place.folder.mkdir(parents=True, exist_ok=True)
    grace = HURRY
    try:
        for number, own in enumerate(devices_of(device, helpers + 1)[1:], 2):
            with (place.folder / f"worker-{number}.log").open("wb") as log:
                # in a group of its own: a terminal's ctrl-c is for this process alone
                helper = subprocess.Popen(  # noqa: S603
                    [*command, "--device", own],
                    env=seen,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    process_group=0,
                )
            running.append(helper)
            threading.Thread(target=_attend, args=(helper, Path(log.name), ended, tell), daemon=True).start()
        yield
        grace = GRACE
    finally:
        ended.set()
        _end(running, grace)


def _end(running: Sequence[subprocess.Popen[bytes]], grace: float) -> None:
    """Let processes finish what they are at, in so many seconds together; those that do not, or all on ctrl-c, are
    killed."""
    for process in running:
        process.terminate()
    until = time.monotonic() + grace
    try:
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()


def _attend(process: subprocess.Popen[bytes], log: Path, ended: threading.Event, tell: Callable[[str], None]) -> None:
    """Wait for a helper, and tell when it ended before the run and not as it should. One that was killed has its number
    until somebody waits for it, and would count as alive."""
    code = process.wait()
    if code not in (0, STOPPED) and not ended.is_set():
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        tell(f"a helper {how}; the run goes on without it; what it said is in {log}")
