"""Named protocols of evaluation: perplexities that may be set beside published ones.

Wanda's (`lib/eval.py` and `lib/data.py` of its release, arXiv 2306.11695): the text is tokenised once as the tokenizer
does by default, so that LLaMA's begins with its BOS, and cut into windows of the model's longest length.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pzc.runtime.data.texts import Text, hub_rows
from pzc.runtime.data.windows import evaluation_windows
from pzc.runtime.errors import PruningError
from pzc.runtime.models.loading import Loaded
from pzc.runtime.models.passes import check_length, longest_window


@dataclass(frozen=True)
class Protocol:
    """A text and how it is cut: its rows from the Hugging Face hub or from a file, what joins them, how many of its
    rows are read and how many windows are cut at most."""

    name: str
    source: Callable[[], list[str]]
    joint: str
    rows: int | None = None
    windows: int | None = None


def _wikitext2() -> list[str]:
    return hub_rows("wikitext2", "Salesforce/wikitext", "wikitext-2-raw-v1", split="test")


def _c4() -> list[str]:
    shard = {"validation": "en/c4-validation.00000-of-00008.json.gz"}
    return hub_rows("c4", "allenai/c4", data_files=shard, split="validation", rows=1100)


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol("wanda-wikitext2", _wikitext2, "\n\n"),
        Protocol("wanda-c4", _c4, " ", rows=1100, windows=256),
    )
}


def protocol_text(protocol: Protocol, file: str | None = None) -> Text:
    """The text of a protocol, from the hub or from a file with the same rows.

    A JSONL file (`.jsonl`, `.json`, either with `.gz`) has rows with a field `text`. Of any other file a line is a row,
    as the dataset `wikitext` has them: with its line end, and empty where it is blank. Raises PruningError for what
    cannot be read, and for fewer rows than the protocol has.
    """
    rows = protocol.source() if file is None else _rows_of(file)
    if len(rows) < (protocol.rows or 0):
        raise PruningError(
            f"{protocol.name} reads {protocol.rows:,} documents, but {file or 'the text'} has {len(rows):,}",
            hint="give the whole shard, or measure this text without --protocol",
        )
    return Text(file or protocol.name, protocol.joint.join(rows[: protocol.rows]), "whole" if file else "evaluation")


def protocol_windows(
    loaded: Loaded, protocol: Protocol, text: Text, *, length: int | None = None, limit: int | None = None
) -> Tensor:
    """The windows of a protocol, int64 `[n, length]`: of the model's longest length unless another is given, the first
    `limit` of them. Raises PruningError where the text or the model does not suffice."""
    length = length or model_length(loaded.model)
    check_length(loaded.model, length)
    ids = loaded.tokenizer(text.text, verbose=False)["input_ids"]
    tokens = torch.tensor(ids, dtype=torch.int64)
    most = min(n for n in (protocol.windows, limit, len(tokens) // length or 1) if n is not None)
    return evaluation_windows(tokens, most, length)


def model_length(model: nn.Module) -> int:
    """The most tokens that a model reads at once. Raises PruningError where its configuration does not say."""
    longest = longest_window(model)
    if longest is None:
        raise PruningError("this model's configuration does not say how long its windows are", hint="give --length")
    return longest


def _rows_of(file: str) -> list[str]:
    path = Path(file).expanduser()
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "it is no gzip file"
        raise PruningError(f"{file} cannot be read: {reason.lower()}", data=file) from error
    except UnicodeDecodeError as error:
        raise PruningError(f"{file} is no text in UTF-8: byte {error.start} is not part of it", data=file) from error
    if Path(path.name.removesuffix(".gz")).suffix not in (".jsonl", ".json", ".ndjson"):
        return [f"{line}\n" if line.strip() else "" for line in text.removesuffix("\n").split("\n")]
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            rows += [str(json.loads(line)["text"])] if line.strip() else []
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise PruningError(f"{file}, line {number}, is no JSON with a field `text`", data=file) from error
    return rows


def bytes_predicted(loaded: Loaded, text: Text, windows: Tensor, *, special: bool) -> int | None:
    """The UTF-8 bytes of the tokens that windows from the start of a text predict, which is all but the first of each.

    `special` says whether the text was tokenised with special tokens. None where the tokenizer does not say which
    characters a token is for.
    """
    if not getattr(loaded.tokenizer, "is_fast", False):
        return None
    how = {"add_special_tokens": special, "return_offsets_mapping": True, "verbose": False}
    ends = [end for _, end in loaded.tokenizer(text.text, **how)["offset_mapping"]]
    count, length = windows.shape
    if len(ends) < count * length:
        return None
    spans = ((ends[i * length], ends[(i + 1) * length - 1]) for i in range(count))
    return sum(len(text.text[start:end].encode()) for start, end in spans)
