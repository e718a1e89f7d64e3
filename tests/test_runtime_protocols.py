"""Wanda's protocols, against its release's few lines written out plainly."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pzc.runtime.data.protocols import PROTOCOLS, bytes_predicted, protocol_text, protocol_windows
from pzc.runtime.errors import PruningError
from pzc.runtime.evaluation.evaluate import window_losses
from pzc.runtime.evaluation.uncertainty import perplexity
from pzc.runtime.models.loading import Loaded, load_model
from tests.conftest import WORDS
from tests.terminal import terminal_of

LINES = ["", " the of and", " ", *(" ".join(WORDS[i % 9 : i % 9 + 5]) for i in range(40))]


@pytest.fixture
def loaded(tiny: Callable[..., Any], tokenizer: Any) -> Loaded:
    return Loaded(tiny(), tokenizer, "tiny", torch.float32, ())


def plain(model: Any, tokenizer: Any, text: str, length: int, most: int | None) -> float:
    """`eval_ppl_wikitext` of Wanda's release, for one window at a time."""
    ids = tokenizer(text, return_tensors="pt").input_ids[:, : None if most is None else most * length]
    nlls = []
    for i in range(ids.numel() // length):
        inputs = ids[:, i * length : (i + 1) * length]
        with torch.no_grad():
            logits = model(inputs).logits
        loss = torch.nn.functional.cross_entropy(logits[0, :-1], inputs[0, 1:])
        nlls.append(float(loss) * length)
    return math.exp(sum(nlls) / (len(nlls) * length))


def test_wikitext_is_the_datasets_rows_joined_by_blank_lines(loaded: Loaded, tmp_path: Path) -> None:
    """A row of the dataset is a line with its end, or nothing where the line is blank."""
    file = tmp_path / "test.txt"
    file.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    rows = [line + "\n" if line.strip() else "" for line in LINES]
    protocol = PROTOCOLS["wanda-wikitext2"]
    text = protocol_text(protocol, str(file))
    assert text.text == "\n\n".join(rows)
    windows = protocol_windows(loaded, protocol, text)
    assert windows.shape[1] == 64  # the model's longest
    expected = plain(loaded.model, loaded.tokenizer, "\n\n".join(rows), 64, None)
    assert perplexity(window_losses(loaded.model, windows)) == pytest.approx(expected, rel=1e-5)
    assert protocol_windows(loaded, protocol, text, length=8, limit=2).shape == (2, 8)


@pytest.mark.parametrize("ending", ["jsonl", "json.gz"])
def test_c4_is_its_first_documents_and_at_most_256_windows(ending: str, loaded: Loaded, tmp_path: Path) -> None:
    documents = [" ".join(WORDS[i % 5 : i % 5 + 6]) for i in range(1200)]
    file = tmp_path / f"c4.{ending}"
    content = "".join(json.dumps({"text": d, "url": "x"}) + "\n" for d in documents).encode()
    file.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    protocol = PROTOCOLS["wanda-c4"]
    text = protocol_text(protocol, str(file))
    assert text.text == " ".join(documents[:1100])
    windows = protocol_windows(loaded, protocol, text, length=16)
    assert windows.shape == (256, 16)
    expected = plain(loaded.model, loaded.tokenizer, text.text, 16, 256)
    assert perplexity(window_losses(loaded.model, windows)) == pytest.approx(expected, rel=1e-5)


def test_a_shard_that_was_cut_short_is_not_the_protocols_text(tmp_path: Path) -> None:
    file = tmp_path / "c4.jsonl"
    file.write_text('{"text": "the of and a to"}\n' * 1099, encoding="utf-8")
    with pytest.raises(PruningError, match=r"wanda-c4 reads 1,100 documents, but .*c4\.jsonl has 1,099"):
        protocol_text(PROTOCOLS["wanda-c4"], str(file))
    assert protocol_text(PROTOCOLS["wanda-wikitext2"], str(file)).part == "whole"  # which has no number of rows


def test_special_tokens_are_the_tokenizers_own(loaded: Loaded, tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    loaded.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    file = tmp_path / "test.txt"
    file.write_text("the of and a to in is it\n", encoding="utf-8")
    protocol = PROTOCOLS["wanda-wikitext2"]
    windows = protocol_windows(loaded, protocol, protocol_text(protocol, str(file)), length=4)
    assert windows.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_bytes_are_those_of_the_predicted_words(loaded: Loaded, tmp_path: Path) -> None:
    file = tmp_path / "test.txt"
    file.write_text("the of and a to in is it\n", encoding="utf-8")
    protocol = PROTOCOLS["wanda-wikitext2"]
    text = protocol_text(protocol, str(file))
    windows = protocol_windows(loaded, protocol, text, length=4)
    assert bytes_predicted(loaded, text, windows, special=True) == [len(" of and a"), len(" in is it")]


def test_files_that_are_no_text(tmp_path: Path) -> None:
    protocol = PROTOCOLS["wanda-c4"]
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{"body": "y"}\n')
    (tmp_path / "b.json.gz").write_bytes(b"no gzip")
    (tmp_path / "c.txt").write_bytes(b"ab\xff")
    whole = gzip.compress(b"text of some length, to be damaged in the middle")
    (tmp_path / "e.json.gz").write_bytes(whole[:12] + b"\xff\xff\xff" + whole[15:])
    for name, message in (
        ("a.jsonl", "line 2"),
        ("b.json.gz", "cannot be read"),
        ("e.json.gz", "cannot be read: it is no gzip file"),
        ("c.txt", "byte 2"),
        ("d", "no such"),
    ):
        with pytest.raises(PruningError, match=message):
            protocol_text(protocol, str(tmp_path / name))


def test_eval_prints_a_table_and_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    terminal = terminal_of(monkeypatch)
    file = tmp_path / "test.txt"
    file.write_text("Words that are read, one after another, for as long as it takes.\n" * 60, encoding="utf-8")
    how = ("--protocol", "wanda-wikitext2", "--data", str(file), "--length", "32", "--limit", "3", "--threads", "1")
    found = json.loads(terminal("eval", *how, "--against", "pocket", "--json").out)
    assert (found["protocol"], found["windows"], found["length"]) == ("wanda-wikitext2", 3, 32)
    mean = sum(found["losses"]) / 3
    assert found["perplexity"] == pytest.approx(math.exp(mean))
    error = math.sqrt(sum((x - mean) ** 2 for x in found["losses"]) / 2 / 3)
    assert found["perplexity_error"] == pytest.approx(math.exp(mean) * error)
    assert found["kl_divergence"] == pytest.approx(0, abs=1e-6)
    tokens = load_model("pocket").tokenizer
    ids = tokens(protocol_text(PROTOCOLS["wanda-wikitext2"], str(file)).text)["input_ids"]
    sizes = np.array([len(tokens.decode(ids[32 * i + 1 : 32 * (i + 1)]).encode()) for i in range(3)])
    bits = np.array(found["losses"]) * 31 / math.log(2)
    assert found["bits_per_byte"] == pytest.approx(bits.sum() / sizes.sum())
    without = np.array([np.delete(bits, i).sum() / np.delete(sizes, i).sum() for i in range(3)])
    jackknife = math.sqrt(2 / 3 * ((without - without.mean()) ** 2).sum())
    assert found["bits_per_byte_error"] == pytest.approx(jackknife, rel=0.05)
    shown = terminal("eval", *how)
    assert "bits a byte" in shown.out
    assert f"{found['perplexity']:.4f}" in shown.out
    assert terminal("eval", *how, "--held-out").code == 2
