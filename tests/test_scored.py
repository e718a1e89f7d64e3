"""Losses window by window, and ratios of perplexities with their errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from pzc.compiler.load import inline, load
from pzc.runtime.compare import compare
from pzc.runtime.masks import Target
from pzc.search.scored import ratio, scored


def test_losses_are_those_of_compare(tiny: Any, windows: torch.Tensor) -> None:
    model, metrics = tiny(), [load("wanda"), load("magnitude")]
    before = {name: p.clone() for name, p in model.named_parameters()}
    targets = [Target(sparsity=0.5), Target(pattern=(2, 4))]
    dense, *rest = scored(model, metrics, windows[:4], windows[4:], targets)
    assert [(s.metric, s.target) for s in rest] == [(m, t) for m in metrics for t in targets]
    for i, target in enumerate(targets):
        want = list(compare(model, metrics, windows[:4], windows[4:], target))
        assert dense.perplexity == pytest.approx(want[0].perplexity)
        assert [s.perplexity for s in rest[i::2]] == pytest.approx([w.perplexity for w in want[1:]])
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_a_metric_that_cannot_be_measured_says_why(tiny: Any, windows: torch.Tensor) -> None:
    metrics = [inline("X per row"), load("wanda")]
    _, failed, fine = scored(tiny(), metrics, windows, windows, [Target(per="col")])
    assert "constant" in failed.failure
    assert math.isnan(failed.perplexity)
    assert math.isfinite(fine.perplexity)


def test_the_error_of_a_ratio_is_that_of_many_samples() -> None:
    """Against the spread of the ratio over many draws of windows from one distribution."""
    rng = np.random.default_rng(0)
    hard = rng.normal(3.0, 1.0, (4000, 32))
    ours, theirs = hard + rng.normal(-0.1, 0.2, hard.shape), hard
    found = [ratio(a, b) for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)]
    values, errors = np.array(found).T
    assert values.mean() == pytest.approx(math.exp(-0.1), rel=0.01)
    assert errors.mean() == pytest.approx(values.std(), rel=0.05)
    assert ratio([2.0], [1.0])[0] == pytest.approx(math.e)
    assert math.isnan(ratio([2.0], [1.0])[1])
