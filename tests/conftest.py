"""Fixtures: a tiny random LLaMA with its tokenizer, and skipping of tests that need what is not here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.terminal import Terminal, terminal_of

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: threads cost more than they give

settings.register_profile("pzc", deadline=None)  # no test depends on how busy the machine is
settings.load_profile("pzc")

SHARED = Path(__file__).parent.parent.parent / "shared"
WORDS = ["the", "of", "and", "a", "to", "in", "is", "it", "that", "was", "for", "on", "are", "as", "with"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("shared") and not SHARED.is_dir():
            item.add_marker(pytest.mark.skip(reason=f"{SHARED} is not here"))
        if item.get_closest_marker("gpu"):
            import torch

            if not torch.accelerator.is_available():
                item.add_marker(pytest.mark.skip(reason="no accelerator"))


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """The command line in an empty folder, with no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return terminal_of(monkeypatch)


@pytest.fixture(autouse=True, scope="session")
def without_accelerators() -> Iterator[None]:
    """Tests are of a CPU, wherever they run, but for those with the mark `gpu`."""
    import torch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.accelerator, "is_available", lambda: False)
        yield


@pytest.fixture(autouse=True)
def with_accelerators(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those have it, since without one they are skipped."""
    if request.node.get_closest_marker("gpu"):
        import torch

        monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """A search sets the threads of its process; the next test gets what it would have had."""
    import torch

    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def shared() -> Path:
    return SHARED


@pytest.fixture
def tiny() -> Callable[..., Any]:
    """Makes random `LlamaForCausalLM`s of 3 blocks: the same weights for the same seed."""
    return make_tiny


@pytest.fixture
def windows() -> Any:
    """Six calibration windows of 12 tokens for `tiny`."""
    import torch

    return torch.randint(0, len(WORDS), (6, 12), generator=torch.Generator().manual_seed(3))


@pytest.fixture
def tokenizer() -> Any:
    """A tokenizer of whole words that fits `tiny`."""
    return make_tokenizer()


def divergence(model: Any, dense: Any, windows: Any) -> float:
    """The mean KL(dense ‖ model) of the next tokens by torch's own function, in float64."""
    import torch
    from torch.nn.functional import kl_div

    with torch.no_grad():
        q, p = (m(windows).logits[:, :-1].double().log_softmax(-1).flatten(0, 1) for m in (model, dense))
    return float(kl_div(q, p, reduction="batchmean", log_target=True))


def make_tiny(seed: int = 0, dtype: str = "float32", **changes: Any) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **{
            "vocab_size": len(WORDS) + 2,
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 64,
            "initializer_range": 0.3,
            "bos_token_id": 0,
            "eos_token_id": len(WORDS) + 1,
            **changes,
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    for parameter in model.parameters():  # the rotary frequencies stay in float32, as when a model is loaded
        parameter.data = parameter.data.to(getattr(torch, dtype))
    return model.eval()


def make_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["<s>", *WORDS, "</s>"])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="the"))  # noqa: S106
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>")  # noqa: S106
