"""Named protocols of evaluation: perplexities that may be set beside published ones.

Wanda's (`lib/eval.py` and `lib/data.py` of its release, arXiv 2306.11695): the text is tokenised once as the tokenizer
does by default, so that LLaMA's begins with its BOS, and cut into windows of the model's longest length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from pzc.runtime.data import hub
from pzc.runtime.data.reading import is_jsonl, read_text, text_rows
from pzc.runtime.data.texts import Text
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


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol("wanda-wikitext2", partial(hub.wikitext2, "test"), "\n\n"),
        Protocol("wanda-c4", partial(hub.c4, "validation"), " ", rows=hub.C4_DOCUMENTS, windows=256),
    )
}


def protocol_text(protocol: Protocol, file: str | None = None) -> Text:
    """The text of a protocol, from the hub or from a file with the same rows.

    A JSONL file (`reading.is_jsonl`) has rows with a field `text`. Of any other file a line is a row,
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
    if is_jsonl(file):
        return text_rows(file)
    return [f"{line}\n" if line.strip() else "" for line in read_text(file).removesuffix("\n").split("\n")]


def bytes_predicted(loaded: Loaded, text: Text, windows: Tensor, *, special: bool) -> list[int] | None:
    """The UTF-8 bytes of the tokens that each of the windows from the start of a text predicts: all but its first.

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
    return [len(text.text[start:end].encode()) for start, end in spans]
