"""Helpers of a search on the same machine: processes that join its run, and end with it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pzc.cli.search.join import HERE
from pzc.search.place import Place
from pzc.search.settings import Settings

GRACE = 5.0
"""Seconds that a helper has to end."""


@contextmanager
def helping(place: Place, settings: Settings, given: dict[str, Any]) -> Iterator[None]:
    """Have `--workers` less one processes join the run while the context is open. What goes wrong there is in
    `worker-N.log` of the run's folder."""
    command = [sys.executable, "-m", "pzc", "search", "--join", place.url or str(place.folder), "--study", place.study]
    command += ["--attached", "--quiet", *(["--trust-remote-code"] if given["trust_remote_code"] else [])]
    command += ["--device", given["device"]]
    for name in HERE:
        if getattr(settings, name) is not None:
            command += [f"--{name.replace('_', '-')}", getattr(settings, name)]
    running: list[subprocess.Popen[bytes]] = []
    place.folder.mkdir(parents=True, exist_ok=True)
    try:
        for number in range(2, given["workers"] + 1):
            with (place.folder / f"worker-{number}.log").open("wb") as log:
                running.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))  # noqa: S603
            # a process that was killed has its number until somebody waits for it, and would count as alive
            threading.Thread(target=running[-1].wait, daemon=True).start()
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
