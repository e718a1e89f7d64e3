"""Datasets of the Hugging Face hub that published perplexities are measured on."""

from __future__ import annotations

from typing import Any

from pzc.runtime.errors import PruningError

C4_SHARDS = {"train": "en/c4-train.00000-of-01024.json.gz", "validation": "en/c4-validation.00000-of-00008.json.gz"}

C4_DOCUMENTS = 1100
"""How many documents of a shard are read, as Wanda's release does (`lib/data.py`)."""


def wikitext2(split: str) -> list[str]:
    """The rows of WikiText-2, raw, of the split `train` or `test`.

    Raises PruningError where the package `datasets` is missing or the dataset cannot be fetched.
    """
    return _rows("wikitext2", "Salesforce/wikitext", "wikitext-2-raw-v1", split=split)


def c4(split: str) -> list[str]:
    """The first documents of C4's first shard of the split `train` or `validation`. Raises as `wikitext2` does."""
    return _rows("c4", "allenai/c4", data_files={split: C4_SHARDS[split]}, split=split, rows=C4_DOCUMENTS)


def _rows(name: str, *place: str, rows: int | None = None, **options: Any) -> list[str]:
    """The field `text` of the first `rows` rows of a dataset; `name` is what messages call it."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise PruningError(
            f"the text `{name}` needs the package `datasets`",
            hint="pip install 'pzc[datasets]', or use a file or pydoc",
            data=name,
        ) from error
    from pzc.runtime.quiet import hub_quiet  # imports transformers

    try:
        with hub_quiet():
            table = load_dataset(*place, **options)
        return list((table if rows is None else table.select(range(rows)))["text"])
    except Exception as error:  # datasets raises what its network and file layers raise
        reason = str(error).strip().splitlines()
        raise PruningError(
            f"the text `{name}` cannot be fetched: {reason[0] if reason else type(error).__name__}",
            hint="it needs a network the first time; a file or pydoc does not",
            data=name,
        ) from error
