"""The embedded model: a real LLaMA that loads like any other and that pruning hurts."""

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from pzc import runtime
from pzc.runtime.data import pydoc

FOLDER = Path(runtime.__path__[0]) / "pocket"
WINDOW = 128


@pytest.fixture
def model() -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(FOLDER, local_files_only=True).eval()


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)


def windows_of(text: str, tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    """Thirty-two windows spread over the text, as `[window, token]`."""
    ids = torch.tensor(tokenizer(text, verbose=False)["input_ids"])
    windows = ids[: len(ids) // WINDOW * WINDOW].view(-1, WINDOW)
    return windows[torch.linspace(0, len(windows) - 1, 32).long()]


def perplexity(model: LlamaForCausalLM, windows: torch.Tensor) -> float:
    with torch.no_grad():
        return math.exp(model(input_ids=windows, labels=windows).loss.item())


def linears(model: LlamaForCausalLM) -> dict[str, torch.nn.Linear]:
    found = model.model.layers.named_modules()
    return {name: module for name, module in found if isinstance(module, torch.nn.Linear)}


def drop_half(weight: torch.Tensor, score: torch.Tensor) -> None:
    """Zero the half of each row that scores lowest, in place."""
    lowest = score.argsort(dim=1)[:, : weight.shape[1] // 2]
    weight.scatter_(1, lowest, 0.0)


def test_is_a_small_llama(model: LlamaForCausalLM) -> None:
    assert isinstance(model, LlamaForCausalLM)
    assert model.dtype == torch.float32
    assert model.config.max_position_embeddings == WINDOW
    assert model.config.tie_word_embeddings
    assert model.config.num_key_value_heads < model.config.num_attention_heads
    assert (FOLDER / "model.safetensors").stat().st_size <= 2_000_000


def test_every_shape_divides_into_groups_of_eight(model: LlamaForCausalLM) -> None:
    """Semi-structured masks such as 2:4 and 4:8 apply to every matrix."""
    assert all(side % 8 == 0 for linear in linears(model).values() for side in linear.weight.shape)


def test_folder_names_no_machine() -> None:
    for path in FOLDER.glob("*.json"):
        assert "_name_or_path" not in json.loads(path.read_text())


@pytest.mark.parametrize("text", ["The quick brown fox.\n\n  jumps, Ünïcode → 中文 \x00 end", " a", "a  b\tc\r\n", ""])
def test_tokenizer_gives_text_back(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def input_norms(model: LlamaForCausalLM, windows: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the ℓ2 norm of each input feature of each linear layer over the windows, as `[in]`."""
    norms: dict[str, torch.Tensor] = {}

    def watch(name: str, linear: torch.nn.Linear) -> torch.utils.hooks.RemovableHandle:
        def hook(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            norms[name] = inputs[0].flatten(0, 1).norm(dim=0)

        return linear.register_forward_pre_hook(hook)

    hooks = [watch(name, linear) for name, linear in linears(model).items()]
    perplexity(model, windows)
    for hook in hooks:
        hook.remove()
    return norms


def test_pruning_hurts_and_activations_help(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase) -> None:
    """Half of the weights gone, by magnitude and by Wanda (Sun et al., 2023): what pocket is for."""
    calibration = windows_of(pydoc.calibration_text(), tokenizer)
    evaluation = windows_of(pydoc.evaluation_text(), tokenizer)
    norms = input_norms(model, calibration)
    weights = {name: linear.weight.detach().clone() for name, linear in linears(model).items()}
    dense = perplexity(model, evaluation)

    for linear in linears(model).values():
        whole = linear.weight.data.view(1, -1)  # magnitude ranks the matrix, Wanda each row
        drop_half(whole, whole.abs())
    magnitude = perplexity(model, evaluation)

    for name, linear in linears(model).items():
        linear.weight.data = weights[name].clone()
        drop_half(linear.weight.data, linear.weight.abs() * norms[name])
    wanda = perplexity(model, evaluation)

    assert dense < 40
    assert dense < wanda < magnitude
    assert magnitude > 1.3 * dense
