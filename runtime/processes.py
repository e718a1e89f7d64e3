"""Whether a process is still there, of those that can be seen from here."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path


@cache
def process_table() -> str:
    """The name of the table in which this process has its number: of the machine as it was started and, where it has
    several tables, of this one. Two machines or containers may have one hostname and see nothing of each other's
    processes."""
    try:
        started = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").partition("-")[0]
        return f"{socket.gethostname()}/{started}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:  # no Linux
        return socket.gethostname()


def is_running(pid: int) -> bool:
    """Whether there is a process with this number, of whomever."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
