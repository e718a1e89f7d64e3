"""Perplexity against a plain transformers loop, divergence against torch's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pzc.runtime.errors import PruningError
from pzc.runtime.evaluation.evaluate import compared_losses, window_losses
from pzc.runtime.evaluation.uncertainty import perplexity
from pzc.runtime.models.passes import cross_entropy
from tests.conftest import divergence


def test_losses_are_those_of_transformers(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    model = tiny()
    with torch.no_grad():
        expected = [float(model(window[None], labels=window[None]).loss) for window in windows]
    assert window_losses(model, windows) == pytest.approx(expected, rel=1e-5)
    assert perplexity(expected) == pytest.approx(math.exp(sum(expected) / 6))


def test_evaluation_counts_windows_and_leaves_training_mode_alone(
    tiny: Callable[..., Any], windows: torch.Tensor
) -> None:
    model = tiny(attention_dropout=0.5)
    expected = window_losses(model, windows)
    steps: list[tuple[str, int, int]] = []
    model.train()
    assert window_losses(model, windows, lambda *step: steps.append(step)) == expected
    assert model.training
    assert steps[-1] == ("perplexity", 6, 6)


def test_divergence_is_that_of_torch(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    pruned, dense = tiny(seed=1), tiny(seed=0)
    found = compared_losses(pruned, dense, windows)
    assert found.losses == window_losses(pruned, windows)
    assert found.divergences == pytest.approx([divergence(pruned, dense, w) for w in windows.split(1)], rel=1e-5)
    assert compared_losses(dense, dense, windows).divergences == pytest.approx([0] * len(windows), abs=1e-6)


def test_divergence_needs_one_vocabulary(tiny: Callable[..., Any], windows: torch.Tensor) -> None:
    with pytest.raises(PruningError, match="different vocabularies"):
        compared_losses(tiny(), tiny(vocab_size=40), windows)


def test_threads_share_windows_without_changing_losses(
    tiny: Callable[..., Any], windows: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pzc.runtime.models.passes.windows_at_once", lambda model, length: 1)
    model = tiny()
    seen: list[int] = []
    threads = torch.get_num_threads()
    found = window_losses(model, windows, lambda what, done, total: seen.append(done), at_once=3)
    assert found == window_losses(model, windows)
    assert seen == list(range(1, len(windows) + 1))
    assert torch.get_num_threads() == threads
    with pytest.raises(PruningError, match="token"):
        window_losses(model, windows + 10**6, at_once=3)


def test_perplexity_of_hopeless_losses_is_infinite() -> None:
    assert perplexity([800.0, 900.0]) == math.inf
    assert math.isnan(perplexity([math.nan]))


@pytest.mark.parametrize("windows", [[[1, 2, 3]], torch.ones(2, 4)])
def test_windows_are_integers(tiny: Callable[..., Any], windows: Any) -> None:
    with pytest.raises(PruningError, match="are an integer tensor"):
        window_losses(tiny(), windows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_losses_are_taken_a_few_positions_at_a_time(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pzc.runtime.models.passes._IN_CACHE", 3 * 50)
    generator = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(2, 11, 50, generator=generator)).to(dtype)
    ids = torch.randint(0, 50, (2, 11), generator=generator)
    pairs = zip(logits.float(), ids, strict=True)
    want = [torch.nn.functional.cross_entropy(some[:-1], row[1:]) for some, row in pairs]
    before = logits.clone()
    assert cross_entropy(logits, ids) == pytest.approx(torch.stack(want), rel=1e-6)
    assert torch.equal(logits, before)
