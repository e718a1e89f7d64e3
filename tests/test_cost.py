"""The cost of a score: operations and bytes for each weight, counted by hand."""

from __future__ import annotations

import pytest

from pzc.compiler.cost import Cost, cost
from tests.lowering import core

# operations on matrices, and sweeps over matrices in float32
CASES = {
    "W": (0, 4),
    "abs(W) * X": (2, 4),
    "abs(W) * sqrt(X + 1)": (2, 4),  # what is done once a column counts for nothing
    "abs(W) * X + 100 * abs(W) * G": (5, 8),  # |W| is shared
    "G - min(G)": (2, 8),  # G is read for its minimum, and again for the score
    "(G - min(G)) / (max(G) - min(G))": (4, 8),  # both extremes in one sweep
    "sqr(W) * (G - min(G))": (4, 12),
    "abs(W) / sum(abs(W), in)": (3, 8),
    "X * sum(abs(W), out)": (2, 4),
    "std(W - mean(W)) * X": (6, 8),
    "norm(W, 2) * W": (3, 8),
    "norm(W, 1) * W": (3, 8),
    "norm(W, 3) * W": (4, 8),
    "W - median(W)": (13, 8),
    "clamp(W, 0, 1)": (2, 4),
    "X / sum(X)": (0, 0),
}


@pytest.mark.parametrize("text", CASES)
def test_cost(text: str) -> None:
    assert cost(core(text)) == Cost(*CASES[text])
