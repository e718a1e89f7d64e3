"""`pzc prune`."""

from __future__ import annotations

import shlex
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from pzc.cli import options
from pzc.cli.asked import Asked, opened
from pzc.cli.cautions import NOTABLE, caution, whole_weights
from pzc.cli.console import errors, output, print_json, say, warn
from pzc.cli.models.plan import line

if TYPE_CHECKING:
    from pzc.cli.models.results import Result
    from pzc.runtime.planning.texts import Texts


TOO_MUCH = 0.9
"""A share of a layer that an allocation hardly means to prune: those that a file does not name may come to it."""


@click.command("prune")
@options.pruning
@click.option("--output", "-o", "folder", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@options.overwrite
@options.mask_only
@options.streams
@options.as_json
@options.quiet
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Prune a model with a metric, measure it, and save it as a Hugging Face folder.

    Several sparsities come from one pass over the calibration text, each in a folder of its own inside the output. A
    run that goes block by block (--sequential, --update, --stream) and was cut off goes on at its last finished block
    when the same command is given again.

    \b
    pzc prune --metric wanda --model pocket --output out/wanda50
    pzc prune -f my.pzm:best -m smollm2 -d text.txt --pattern 2:4 --update obs -o out/best24
    pzc prune -f wanda --sparsity 0.3,0.5,0.7 --allocation owl -o out/wanda
    """
    asked = Asked(**given)
    asked.check(ctx)
    request = asked.request()
    from pzc.cli.models.results import Job, check_places, results_of
    from pzc.cli.texts import texts_of
    from pzc.runtime.planning.plan import plan
    from pzc.runtime.pruning.roles import idle_roles

    check_places(asked)
    caution([request.metric])
    model = opened(asked, placeholders=asked.streams)
    request.check(model.layers.layers)
    for sentence in idle_roles(request.metric, model.layers.layers):
        warn(sentence)
    for name in model.layers.others:
        warn(f"{name} holds blocks, too, which stay dense: one list of blocks is pruned")
    texts = texts_of(model.loaded, request.needed, vars(asked))
    length = texts.evaluation_windows.shape[1]
    if not asked.silent:
        planned = plan(
            model.loaded, model.layers, request, windows=asked.windows, eval_windows=asked.eval_windows, length=length,
            mask_only=asked.mask_only,
        )  # fmt: skip
        say(f"plan  {line(planned, 'stream' if asked.streams else 'memory', asked.windows, length)}")
    done: list[Result] = []
    for result in results_of(Job(asked, request, model, texts)):
        done.append(result)
        if asked.as_json:
            print_json({"output": str(result.place), **result.record})
    for sentence in _warnings(asked, done):
        warn(sentence)
    if not asked.as_json:
        output.print(_table(done))
        _say_written(asked, texts, done)


def _warnings(asked: Asked, done: list[Result]) -> list[str]:
    """What a user should know of results that are whole."""
    found: list[str] = []
    if done and done[0].record["perplexity"] and not isfinite(done[0].before):
        found.append("the perplexity of the dense model is not finite: its files may be damaged, or its type too small")
    for result in done:
        wanted, pruned = result.pruned.target.share, result.pruned.sparsity
        if wanted - pruned > NOTABLE or not pruned:
            found.append(whole_weights(wanted, f"{pruned:.2%}"))
    damped = done[0].pruned.damped if done else {}
    if damped:
        layer, most = max(damped.items(), key=lambda item: item[1])
        found.append(
            f"{len(damped)} layers have Hessians that are positive definite only with more damping, up to {most:g} of "
            f"the mean diagonal for {layer}: more calibration text may help"
        )
    for result in done:
        layer, most = max(result.pruned.allocated.items(), key=lambda item: item[1], default=("", 0.0))
        if most > max(TOO_MUCH, result.pruned.target.share):
            found.append(f"--allocation {asked.allocation} prunes {layer} to {most:.1%}")
    if done and asked.allocation != "uniform" and len(set(done[0].pruned.allocated.values())) == 1:
        found.append(f"--allocation {asked.allocation} came to the same share for every layer")
    return found


def _table(done: list[Result]) -> Table:
    names = [f"{result.pruned.target.sparsity:g}" for result in done] if len(done) > 1 else ["pruned"]
    table = Table(box=None, padding=(0, 3, 0, 0))
    for heading in ("", "dense", *names):
        table.add_column(heading, justify="right" if heading else "left", header_style="dim")
    first = done[0]
    table.add_row("sparsity", f"{first.pruned.dense_sparsity:.2%}", *(f"{r.pruned.sparsity:.2%}" for r in done))
    if first.record["perplexity"]:
        table.add_row("perplexity", f"{first.before:.2f}", *(f"{r.after:.2f}" for r in done))
    return table


def _say_written(asked: Asked, texts: Texts, done: list[Result]) -> None:
    """What was measured on, what was written where, and what may come next."""
    from pzc.cli.texts import described
    from pzc.runtime.files import size_text
    from pzc.runtime.planning.commands import options_of

    how = vars(asked)
    errors.print(Text(described(texts, how), "dim"), soft_wrap=True)
    again = {**how, "data": asked.eval_data or asked.data, "eval_windows": asked.eval_windows or None}
    repeated = ["data", "eval_windows", "length", "trust_remote_code"]
    if again["data"] == "self":  # which the dense model writes
        again |= {"against": asked.model, "seed": asked.seed or None}
        repeated += ["against", "dtype", "seed"]
    for place in (result.place for result in done):
        files = [place] if asked.mask_only else [file for file in place.rglob("*") if file.is_file()]
        size = size_text(sum(file.stat().st_size for file in files))
        if asked.mask_only:
            loading = options_of(how, "model", "trust_remote_code")
            following = f"pzc apply {shlex.quote(str(place))}{loading} --output FOLDER"
        else:
            following = f"pzc eval --model {shlex.quote(str(place))}{options_of(again, *repeated)}"
        say(f"wrote {place} ({size})   next: {following}")
