"""Which processes can be seen from here."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from pzc.runtime.processes import is_running, process_table


def test_a_process_is_running_until_it_is_waited_for() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert is_running(process.pid)
    process.kill()
    process.wait()
    assert not is_running(process.pid)


def test_a_process_of_somebody_else_is_running(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(pid: int, number: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "kill", refused)
    assert is_running(1)


def test_processes_that_see_each_other_name_one_table() -> None:
    asked = [sys.executable, "-c", "from pzc.runtime.processes import process_table; print(process_table())"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip() == process_table()
    assert ":" not in process_table()
    assert is_running(os.getpid())
