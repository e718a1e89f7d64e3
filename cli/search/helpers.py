"""Helpers of a search on the same machine: processes that join its run, and end with it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pzc.cli.console import say
from pzc.cli.search.join import HERE
from pzc.search.place import URL, Place
from pzc.search.settings import Settings

GRACE = 5.0
"""Seconds that a helper has to end."""

STOPPED = 130
"""The exit code of one that was asked to stop, as by the ctrl-c that stops all."""


@contextmanager
def helping(place: Place, settings: Settings, given: dict[str, Any]) -> Iterator[None]:
    """Have `--workers` less one processes join the run while the context is open. What goes wrong there is in
    `worker-N.log` of the run's folder."""
    command = [sys.executable, "-m", "pzc", "search", "--join", place.name, "--study", place.study]
    command += ["--attached", str(os.getpid()), "--device", given["device"], "--quiet"]
    command += ["--trust-remote-code"] if given["trust_remote_code"] else []
    for name in HERE:
        if getattr(settings, name) is not None:
            command += [f"--{name.replace('_', '-')}", getattr(settings, name)]
    seen = {**os.environ, **({URL: place.url} if place.url else {})}
    running: list[subprocess.Popen[bytes]] = []
    ended = threading.Event()
    place.folder.mkdir(parents=True, exist_ok=True)
    try:
        for number in range(2, given["workers"] + 1):
            with (place.folder / f"worker-{number}.log").open("wb") as log:
                helper = subprocess.Popen(command, env=seen, stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # noqa: S603
            running.append(helper)
            threading.Thread(target=_attend, args=(helper, Path(log.name), ended), daemon=True).start()
        yield
    finally:
        ended.set()
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _attend(process: subprocess.Popen[bytes], log: Path, ended: threading.Event) -> None:
    """Wait for a helper, and say when it ended before the run and not as it should. One that was killed has its number
    until somebody waits for it, and would count as alive."""
    code = process.wait()
    if code not in (0, STOPPED) and not ended.is_set():
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        say(f"a helper {how}; the run goes on without it; what it said is in {log}")
