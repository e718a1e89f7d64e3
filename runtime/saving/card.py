"""The model card: a README.md beside a pruned model's weights, from its record alone."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from pzc.compiler.pattern import pattern_text
from pzc.runtime.models.loading import CARD
from pzc.runtime.pruning.obs import COLUMNS

NAMED = {"smollm2": ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0"), "pocket": (None, "mit")}
"""Of the models that pzc knows by a name of its own: their place on the Hugging Face hub, and their licence."""

UNSAID = frozenset({"device", "threads", "model", "metric"})
"""Options that are not repeated: what a machine has, and what is written first."""


def known_license(name: str, files: tuple[Path, ...]) -> str | None:
    """The licence of a model, from the card beside its weights; None where there is no card or it says nothing."""
    if name in NAMED:
        return NAMED[name][1]
    card = files[0].parent / CARD if files else Path(CARD)
    if not card.is_file():
        return None
    try:
        said = ModelCard.load(card, ignore_metadata_errors=True).data.license
    except Exception:  # a card of another's making may hold anything: then nothing is known
        return None
    return said if isinstance(said, str) else None


def model_card(record: Mapping[str, Any], folder: str) -> str:
    """The text of the card of the model in `folder`, whose record is `pruning.json`'s."""
    metric, model, sparsity = record["metric"], record["model"], record["sparsity"]
    target, pattern = record["target"], record["target"]["pattern"]
    wanted = pattern_text(pattern) if pattern else f"{target['sparsity']:.4g}"
    base = NAMED[model["name"]][0] if model["name"] in NAMED else _hub_id(model["name"])
    data = ModelCardData(
        base_model=base,
        base_model_relation="finetune" if base else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        license=model.get("license"),
        tags=["pruning", "sparsity", "pzc"],
    )
    update = (record.get("update") or {}).get("method", "none")
    groups = ", ".join(dict.fromkeys(arm["per"] for arm in metric["arms"]))
    if update == "sparsegpt":  # which chooses on the way
        groups = f"{COLUMNS} columns"
    allocation = record["options"].get("allocation", "uniform")
    shares = "" if allocation == "uniform" else f" on average over all layers, by `{allocation}`"
    kept = f"{pattern[0]} of {pattern[1]} consecutive inputs are kept" if pattern else f"{wanted} zero"
    layers = _choice(record["options"])
    rows = [
        ("metric", f"`{metric['name']}`"),
        ("score", f"`{metric['formula']}`" + ("" if pattern else f", compared per {groups}")),
        ("target", kept + shares),
        *([("layers", layers)] if layers else []),
        ("weights that are kept", "unchanged" if update == "none" else f"updated by {update}"),
        *([("activations", _read(record))] if record["passes"] else []),
        ("zero", f"{sparsity['after']:.2%} of {sparsity['weights']:,} weights (dense: {sparsity['before']:.2%})"),
        ("calibration", _text(record["data"]["calibration"], record["options"].get("windows"), record)),
        ("evaluation", _text(record["data"]["evaluation"], record["options"].get("eval_windows"), record)),
    ]
    if perplexity := record["perplexity"]:
        rows.append(("perplexity", f"{_number(perplexity['before'])} dense, {_number(perplexity['after'])} pruned"))
    table = "\n".join(f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in rows)
    return f"""---
{data.to_yaml().strip()}
---

# {model["name"]}, pruned by {metric["name"]} to {wanted}{" on average" if shares else ""}

Weights of {"the layers named below" if layers else "the linear layers in the decoder blocks"} were set to zero by
pzc. They are zeros in dense tensors: the model is neither smaller nor faster by itself.

| | |
| --- | --- |
{table}

`pruning.json` holds the metric's source, every option, the hashes of model and texts, the share of zeros of each layer
and the versions of what ran.

```
{_applied(record, folder) if "mask" in record else reproduce(record["options"], folder)}
```
"""


def _read(record: Mapping[str, Any]) -> str:
    """Where the activations were from."""
    return "of the blocks as they are pruned" if record["sequential"] else "of the dense model"


def _choice(options: Mapping[str, Any]) -> str:
    """Which layers were chosen, where it is not all of the decoder blocks."""
    given = ((name, options.get(name)) for name in ("include", "exclude"))
    return "; ".join(f"{name} {', '.join(f'`{glob}`' for glob in globs)}" for name, globs in given if globs)


def reproduce(options: Mapping[str, Any], folder: str) -> str:
    """The command that made a model, from its options as they are recorded."""
    words = ["pzc", "prune", "--model", str(options["model"]), "--metric", str(options["metric"])]
    replaced = {"sparsity", "per"} if options.get("pattern") else set()
    for name, value in options.items():
        if name == "sequential":  # its default is the update's
            words.append("--sequential" if value else "--one-shot")
            continue
        if name in UNSAID | replaced or value is None or value is False or value == {} or value == []:
            continue
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif isinstance(value, Mapping):
            words += [w for key, number in value.items() for w in (flag, f"{key}={number}")]
        elif isinstance(value, list | tuple):
            words += [w for each in value for w in (flag, str(each))]
        else:
            words += [flag, str(value)]
    return shlex.join([*words, "--output", folder])


def _applied(record: Mapping[str, Any], folder: str) -> str:
    """The command that put masks on a model."""
    model, mask = record["model"], record["mask"]
    words = ["pzc", "apply", mask["name"], "--model", model["name"]]
    words += [] if mask["dtype"] is None else ["--dtype", mask["dtype"]]
    words += [] if mask["of_this_model"] else ["--force"]
    return shlex.join([*words, "--output", folder])


def _hub_id(name: str) -> str | None:
    """A name if it is one of the Hugging Face hub and no folder here."""
    return name if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not Path(name).exists() else None


def _text(text: Mapping[str, str] | None, windows: int | None, record: Mapping[str, Any]) -> str:
    if text is None:
        return "none"
    length = record["options"].get("length")
    return f"{text['name']} ({text['part']})" + (f", {windows} × {length} tokens" if windows and length else "")


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.2f}"
