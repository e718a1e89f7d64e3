"""Free memory goes back to the system."""

from __future__ import annotations

import ctypes
import multiprocessing
import platform
import resource
import sys
from pathlib import Path

import pytest

from pzc.runtime import heap

SIZE, COUNT = 1 << 16, 2000


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def free_most() -> None:
    """Hold many pieces of memory, free most of them, and have what is free given back."""
    held = [bytes([1]) * SIZE for _ in range(COUNT)]
    kept = held[1::20]  # so that no long stretch is free
    del held
    before = resident()
    heap.give_back()
    assert before - resident() > SIZE * COUNT / 2
    assert all(each == bytes([1]) * SIZE for each in kept)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_free_memory_below_what_is_in_use_goes_back() -> None:
    """In a process of its own, whose memory no other test has used."""
    process = multiprocessing.get_context("spawn").Process(target=free_most)
    process.start()
    process.join(600)
    assert process.exitcode == 0


def test_another_system_has_no_such_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def library(name: object) -> None:
        raise AssertionError("there is no C library of this kind")

    heap._trim.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", library)
    heap.give_back()
    assert heap._trim()(0) is None
    heap._trim.cache_clear()
