"""`pzc eval`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Table

from pzc.cli import completion, options
from pzc.cli.console import output, print_json, progress, say

if TYPE_CHECKING:
    from torch import Tensor

    from pzc.runtime.data.texts import Text
    from pzc.runtime.evaluation.tasks import Scored
    from pzc.runtime.evaluation.uncertainty import Estimate
    from pzc.runtime.models.loading import Loaded

PROTOCOLS = ("wanda-wikitext2", "wanda-c4")


def _names(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for value in values for name in value.split(",") if name.strip()))


@click.command("eval")
@options.loading
@click.option(
    "--data",
    "-d",
    metavar="TEXT",
    shell_complete=completion.texts,
    help="pydoc, self, wikitext2, c4, or a file. [default: pydoc]",
)
@click.option(
    "--protocol",
    type=click.Choice(PROTOCOLS),
    help="As published: the text (--data may name a file with it), its tokens, the longest windows, all of them.",
)
@click.option(
    "--held-out",
    is_flag=True,
    help="Of a file, read only the last fifth: what `pzc prune` leaves to evaluation when it has one file.",
)
@click.option(
    "--eval-windows", type=click.IntRange(1), help="Evaluation windows. [default: 16, or all of a protocol's]"
)
@click.option(
    "--length",
    "-l",
    type=click.IntRange(2),
    help="Tokens a window. [default: 512, or a protocol's, or the model's longest if less]",
)
@click.option(
    "--against",
    "--reference",
    "against",
    metavar="MODEL",
    shell_complete=completion.models,
    help="A second model, the dense one: also print KL(dense ‖ model). It writes the text `self`.",
)
@click.option(
    "--tasks",
    "-t",
    multiple=True,
    callback=_names,
    metavar="TASK,…",
    help="Zero-shot tasks of lm-eval, or JSONL files of questions. Perplexity only if --data or --protocol is given.",
)
@click.option("--limit", type=click.IntRange(1), help="At most N windows, and N questions of each task.", metavar="N")
@options.seed
@options.as_json
@options.quiet
def command(
    model: str, device: str, dtype: str | None, trust_remote_code: bool, data: str | None, protocol: str | None,
    held_out: bool, eval_windows: int | None, length: int | None, against: str | None, tasks: tuple[str, ...],
    limit: int | None, seed: int, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Measure perplexity: the exponential of the mean cross-entropy over windows that do not overlap.

    The text is tokenised once as one string without special tokens; each window stands alone. A file that
    calibrated the model is read only in its last fifth. Protocols are said in docs/evaluation.md.

    \b
    pzc eval --model out/wanda50 --against pocket --json
    pzc eval --model out/wanda50 --protocol wanda-wikitext2 --length 2048
    pzc eval --model out/wanda50 --tasks arc_easy,piqa --limit 200
    """
    from pzc.runtime.data.texts import is_named
    from pzc.runtime.evaluation.tasks import evaluate_tasks, find_tasks
    from pzc.runtime.models.loading import load_model
    from pzc.runtime.saving.checkpoint import versions

    of_texts = {"--against": against, "--eval-windows": eval_windows, "--length": length, "--held-out": held_out}
    if tasks and not (data or protocol) and (given := [name for name, value in of_texts.items() if value]):
        raise click.UsageError(f"{given[0]} is about a text: give --data or --protocol too")
    if protocol and held_out:
        raise click.UsageError("--protocol reads the whole text; leave --held-out out")
    if held_out and is_named(data or "pydoc"):
        raise click.UsageError(f"--held-out is for files: `{data or 'pydoc'}` has a side of its own for evaluation")
    most = min((n for n in (eval_windows or (None if protocol else 16), limit) if n is not None), default=None)
    asked = find_tasks(tasks) if tasks else None
    loaded = load_model(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    result: dict[str, Any] = {"model": model, "versions": versions()}
    if as_json:
        result["sha256"] = loaded.sha256
    shown: list[tuple[str, Estimate, str]] = []
    with progress(quiet or as_json) as bar:
        if data or protocol or not tasks:
            dense = _second(loaded, against, device, dtype, trust_remote_code) if against else None
            text, windows = _text(loaded, dense, data, protocol, held_out, most, length, seed)
            measured = _perplexity(loaded, text, windows, dense, protocol, bar)
            result |= measured.pop("fields")
            where = f"{text.title}, {len(windows)} × {windows.shape[1]} tokens"
            notes = {"perplexity": where, "KL divergence": f"nats a token, from {against}"}
            shown += [(name, value, notes.get(name, "")) for name, value in measured.items()]
        scored = evaluate_tasks(loaded, asked, limit=limit, seed=seed) if asked else []
    if scored:
        result["tasks"] = {s.task: _of_task(s) for s in scored}
        shown += [(f"{s.task} {name}", v, f"{s.items} questions") for s in scored for name, v in s.measures.items()]
    if as_json:
        print_json(result)
        return
    output.print(_table(shown))


def _text(
    loaded: Loaded, dense: Loaded | None, data: str | None, protocol: str | None, held_out: bool, most: int | None,
    length: int | None, seed: int,
) -> tuple[Text, Tensor]:  # fmt: skip
    from pzc.runtime.data.protocols import PROTOCOLS, protocol_text, protocol_windows
    from pzc.runtime.errors import PruningError
    from pzc.runtime.planning.texts import default_length, evaluation_for, unread_part

    calibrated = data is not None and unread_part(loaded.name, data)
    if protocol:
        if calibrated:
            raise PruningError(f"{data} calibrated this model", hint="a protocol reads the whole text: name another")
        text = protocol_text(PROTOCOLS[protocol], data)
        return text, protocol_windows(loaded, PROTOCOLS[protocol], text, length=length, limit=most)
    if calibrated and not held_out:
        held_out = True
        say(f"{data} calibrated this model: evaluating on its last fifth")
    length = length or default_length(loaded.model)
    return evaluation_for(
        loaded, data or "pydoc", dense=dense, held_out=held_out, windows=most, length=length, seed=seed
    )


def _second(loaded: Loaded, against: str, device: str, dtype: str | None, trust_remote_code: bool) -> Loaded:
    from pzc.runtime.errors import PruningError
    from pzc.runtime.models.loading import load_model

    second = load_model(against, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    if second.tokenizer.get_vocab() != loaded.tokenizer.get_vocab():
        raise PruningError(
            f"{loaded.name} and {against} read text in different tokens",
            hint="compare a model with its own dense one",
        )
    return second


def _perplexity(
    loaded: Loaded, text: Text, windows: Tensor, dense: Loaded | None, protocol: str | None, bar: Any
) -> dict[str, Any]:
    """Estimates by the names that a table shows, and as `fields` what goes into the JSON."""
    from pzc.runtime.data.protocols import bytes_predicted
    from pzc.runtime.evaluation.evaluate import compared_losses, window_losses
    from pzc.runtime.evaluation.uncertainty import exponential, mean, ratio

    divergences: list[float] = []
    if dense is None:
        losses = window_losses(loaded.model, windows, bar)
    else:
        both = compared_losses(loaded.model, dense.model, windows, bar)
        losses, divergences = both.losses, both.divergences
    found: dict[str, Any] = {"perplexity": exponential(mean(losses))}
    sizes = bytes_predicted(loaded, text, windows, special=protocol is not None)
    if sizes and any(sizes):
        bits_a_nat = (windows.shape[1] - 1) / math.log(2)
        found["bits a byte"] = ratio([loss * bits_a_nat for loss in losses], sizes)
    if divergences:
        found["KL divergence"] = mean(divergences)
    keys = {"perplexity": "perplexity", "bits a byte": "bits_per_byte", "KL divergence": "kl_divergence"}
    fields: dict[str, Any] = {
        "data": {"name": text.name, "part": text.part, "sha256": text.sha256},
        "protocol": protocol,
        "windows": len(windows),
        "length": windows.shape[1],
    }
    for name, estimate in found.items():
        fields |= {keys[name]: estimate.value, f"{keys[name]}_error": estimate.error}
    if dense is not None:
        fields["against"] = dense.name
    return {**found, "fields": {**fields, "losses": losses}}


def _of_task(scored: Scored) -> dict[str, Any]:
    each = ((name, e) for name, e in scored.measures.items())
    return {"items": scored.items} | {k: v for n, e in each for k, v in ((n, e.value), (f"{n}_error", e.error))}


def _table(shown: list[tuple[str, Estimate, str]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading, justify in (("", "left"), ("value", "right"), ("±", "right"), ("", "left")):
        table.add_column(heading, justify=justify, header_style="dim", overflow="fold")  # type: ignore[arg-type]
    for name, estimate, note in shown:
        error = "" if math.isnan(estimate.error) else f"{estimate.error:.4f}"
        table.add_row(escape(name), f"{estimate.value:.4f}", error, escape(note))
    return table
