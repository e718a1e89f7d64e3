"""Blocks of a matrix's rows that stay in the processor's cache, and threads that share them out.

A block is a few rows; a stripe is a run of blocks that one thread goes through. Both follow from the matrix's size
alone, so that what is added up per stripe does not depend on how many threads there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

Job = Callable[[int, range], None]
"""What is done with a stripe: its place, and the first rows of its blocks."""

BLOCK = 1 << 18
"""Values of a block: a megabyte of float32. Smaller ones make threads wait for Python, larger ones leave the
cache."""

_STRIPES = 32
_ALONE_UP_TO = 1 << 19


def block_rows(columns: int) -> int:
    """How many rows of this length a block has."""
    return max(1, BLOCK // max(1, columns))


def stripes(rows: int, columns: int) -> list[range]:
    """The stripes of a matrix: each lists where its blocks begin, and stops where the next begins."""
    step = block_rows(columns)
    long = -(-rows // (step * _STRIPES)) * step
    return [range(start, min(start + long, rows), step) for start in range(0, rows, long)]


def blocks(stripe: range) -> Iterator[tuple[int, int]]:
    """The blocks of a stripe: first row, row after the last."""
    return ((start, min(start + stripe.step, stripe.stop)) for start in stripe)


def workers(rows: int, columns: int) -> int:
    """How many threads share a matrix out: torch's number of threads, but one for a small matrix."""
    return 1 if rows * columns <= _ALONE_UP_TO else min(torch.get_num_threads(), len(stripes(rows, columns)))


def in_stripes(rows: int, columns: int, worker: Callable[[], Job]) -> None:
    """Go through all stripes of a matrix. `worker` is called once in each thread and gives what that thread does: it
    holds the thread's buffers. The first error ends the run and is raised."""
    waiting = deque(enumerate(stripes(rows, columns)))

    def work() -> None:
        try:
            with torch.no_grad():
                job = worker()
                while waiting:
                    try:
                        place, stripe = waiting.popleft()
                    except IndexError:  # another thread took it
                        return
                    job(place, stripe)
        except BaseException:
            waiting.clear()
            raise

    others = workers(rows, columns) - 1
    with _one_thread_an_operation():
        if not others:
            work()
            return
        with ThreadPoolExecutor(others) as pool:
            running = [pool.submit(work) for _ in range(others)]
            work()
    for future in running:
        future.result()


@contextmanager
def _one_thread_an_operation() -> Iterator[None]:
    """torch must not split the operations on a block among threads: they are too short to wait for one another, the
    more so on a machine that has other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
