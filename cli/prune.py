"""`pzc prune`."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from pzc.cli import options
from pzc.cli.console import errors, output, print_json, progress, say, warn
from pzc.cli.plan import line
from pzc.compiler.load import load
from pzc.compiler.metric import Metric


@click.command("prune")
@options.metric
@options.parameter
@options.loading
@options.target
@options.per
@click.option("--sequential/--one-shot", default=False, help="Activations after earlier blocks are pruned, or dense.")
@options.calibration
@options.seed
@click.option("--output", "-o", "folder", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--overwrite", is_flag=True, help="Replace the folder if it exists.")
@click.option("--stream", "streams", is_flag=True, help="Hold one decoder block at a time, from shard to shard.")
@options.as_json
@options.quiet
@click.pass_context
def command(
    ctx: click.Context, /, metric: str, settings: dict[str, float], model: str, device: str, dtype: str | None,
    trust_remote_code: bool, folder: Path, overwrite: bool, streams: bool, as_json: bool, quiet: bool, **how: Any,
) -> None:  # fmt: skip
    """Prune a model with a metric, measure it, and save it as a Hugging Face folder.

    With --stream a run that was cut off goes on at its last finished block when the same command is given again.

    \b
    pzc prune --metric wanda --model pocket --output out/wanda50
    pzc prune -f my.pzm:best -m smollm2 -d text.txt --pattern 2:4 --sequential -o out/best24
    pzc prune -f 'abs(W) * X ^ 0.5 per row' -m smollm2 -s 0.6 -o out/mine60
    """
    options.check_pattern(ctx, how["pattern"])
    chosen = load(metric, settings)
    import torch

    from pzc.cli.texts import described, options_of, texts_of
    from pzc.runtime.checkpoint import check_output, described_arms, record, save
    from pzc.runtime.evaluate import perplexity, window_losses
    from pzc.runtime.layers import find_layers
    from pzc.runtime.masks import Target, parse_pattern
    from pzc.runtime.models import load_model
    from pzc.runtime.passes import device_of
    from pzc.runtime.plan import plan
    from pzc.runtime.prune import Pruned, check_sequential, check_target, prune
    from pzc.runtime.roles import idle_roles
    from pzc.runtime.stream import Request, stream, unfinished_beside
    from pzc.runtime.stream_model import open_shell

    pattern = parse_pattern(how["pattern"]) if how["pattern"] else None
    target = Target(how["per"], how["sparsity"], pattern)
    check_target(chosen, target)
    if how["sequential"]:
        check_sequential(chosen, target)
    check_output(folder, overwrite=overwrite)
    shell = None
    if streams:
        options.check_stream(ctx, trust_remote_code, how)
        shell = open_shell(model, device=device, dtype=dtype)
        loaded = shell.loaded
    else:
        loaded = load_model(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    layers = find_layers(loaded.model)
    check_target(chosen, target, layers.layers)
    for sentence in idle_roles(chosen, layers.layers):
        warn(sentence)
    texts = texts_of(loaded, chosen.leaves, how)
    length = texts.evaluation_windows.shape[1]
    if not (quiet or as_json):
        planned = plan(
            loaded, layers, chosen, target, sequential=how["sequential"], windows=how["windows"],
            eval_windows=how["eval_windows"], length=length,
        )  # fmt: skip
        say(f"plan  {line(planned, 'stream' if shell else 'memory', how, length)}")

    def content(pruned: Pruned, before: float, after: float, **seconds: float) -> dict[str, Any]:
        return record(
            metric={**_record(chosen), "arms": described_arms(chosen, target)},
            model=loaded,
            options={
                "model": model,
                "metric": metric,
                "set": settings,
                "device": str(device_of(loaded.model)),
                "threads": torch.get_num_threads(),
                "dtype": dtype,
                "trust_remote_code": trust_remote_code,
                **how,
                "length": length,
                "stream": streams,
            },
            pruned=pruned,
            calibration=texts.calibration,
            evaluation=texts.evaluation,
            perplexity={"before": before, "after": after},
            seconds=seconds,
        )

    if shell:
        request = Request(
            chosen, target, how["sequential"], how["seed"], texts.calibration_windows, texts.evaluation_windows
        )
        for left in unfinished_beside(shell, request, folder):
            warn(f"another run's unfinished work is left in {left}: give its command again, or delete it")
        with (
            progress(quiet or as_json) as bar,
            stream(shell, request, folder, overwrite=overwrite, progress=bar) as done,
        ):
            pruned, before, after = done.pruned, done.before, done.after
            written = content(pruned, before, after)
            done.save(written)
    else:
        with progress(quiet or as_json) as bar:
            start = time.perf_counter()
            before = perplexity(window_losses(loaded.model, texts.evaluation_windows, bar))
            evaluation = time.perf_counter() - start
            pruned = prune(
                loaded.model, chosen, windows=texts.calibration_windows, sparsity=how["sparsity"], pattern=pattern,
                per=how["per"], sequential=how["sequential"], seed=how["seed"], progress=bar,
            )  # fmt: skip
            after = perplexity(window_losses(loaded.model, texts.evaluation_windows, bar))
        written = content(pruned, before, after, evaluation=evaluation)
        save(loaded.model, loaded.tokenizer, written, folder, overwrite=overwrite)
    if as_json:
        print_json({"output": str(folder), **written})
        return
    table = Table(box=None, padding=(0, 3, 0, 0))
    for heading in ("", "dense", "pruned"):
        table.add_column(heading, justify="right" if heading else "left", header_style="dim")
    table.add_row("sparsity", f"{pruned.dense_sparsity:.2%}", f"{pruned.sparsity:.2%}")
    table.add_row("perplexity", f"{before:.2f}", f"{after:.2f}")
    output.print(table)
    errors.print(described(texts, how), style="dim", soft_wrap=True)
    megabytes = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6
    again = {**how, "data": how["eval_data"] or how["data"]}
    following = f"pzc eval --model {folder}{options_of(again, 'data', 'eval_windows', 'length')}"
    say(f"wrote {folder} ({megabytes:.0f} MB)   next: {following}")


def _record(metric: Metric) -> dict[str, Any]:
    return {
        "name": metric.name,
        "source": metric.source,
        "formula": metric.formula,
        "per": metric.per,
        "params": dict(metric.params),
        "leaves": sorted(metric.leaves),
        "keys": asdict(metric.keys),
    }
