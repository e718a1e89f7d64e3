"""`pzc eval`."""

from __future__ import annotations

from typing import Any

import click

from pzc.cli import options
from pzc.cli.console import output, print_json, progress, say


@click.command("eval")
@options.loading
@click.option(
    "--data", "-d", default="pydoc", show_default=True, metavar="D", help="pydoc, self, wikitext2, c4, or a file."
)
@click.option(
    "--held-out",
    is_flag=True,
    help="Of a file, read only the last fifth: what `pzc prune` leaves to evaluation when it has one file.",
)
@options.eval_windows
@options.length
@click.option("--against", metavar="M", help="A second model: also print KL(second ‖ first).")
@options.seed
@options.as_json
@options.quiet
def command(
    model: str, device: str, dtype: str | None, trust_remote_code: bool, data: str, held_out: bool, eval_windows: int,
    length: int | None, against: str | None, seed: int, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Measure perplexity: the exponential of the mean cross-entropy over windows that do not overlap.

    The text is tokenised once as one string without special tokens; each window stands alone. A file that
    calibrated the model is read only in its last fifth.

    \b
    pzc eval --model pocket
    pzc eval --model out/wanda50 --data text.txt --eval-windows 64
    pzc eval --model out/wanda50 --against pocket --json
    """
    from pzc.runtime.errors import PruningError
    from pzc.runtime.evaluate import kl_divergence, perplexity, window_losses
    from pzc.runtime.models import load_model
    from pzc.runtime.texts import default_length, evaluation_for, unread_part

    loaded = load_model(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    length = length or default_length(loaded.model)
    if not held_out and unread_part(model, data):
        held_out = True
        say(f"{data} calibrated this model: evaluating on its last fifth")
    text, windows = evaluation_for(loaded, data, held_out=held_out, windows=eval_windows, length=length, seed=seed)
    with progress(quiet or as_json) as bar:
        losses = window_losses(loaded.model, windows, bar)
        divergence = None
        if against is not None:
            second = load_model(against, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
            if second.tokenizer.get_vocab() != loaded.tokenizer.get_vocab():
                raise PruningError(
                    f"{model} and {against} read text in different tokens",
                    hint="compare a model with its own dense one",
                )
            divergence = kl_divergence(loaded.model, second.model, windows, bar)
    result: dict[str, Any] = {
        "model": model,
        "data": {"name": text.name, "part": text.part, "sha256": text.sha256},
        "windows": len(windows),
        "length": length,
        "perplexity": perplexity(losses),
    }
    if divergence is not None:
        result |= {"against": against, "kl_divergence": divergence}
    if as_json:
        print_json(result)
        return
    output.print(
        f"perplexity     {result['perplexity']:.4f}   {text.name} ({text.part}), {len(windows)} × {length} tokens",
        soft_wrap=True,
    )
    if divergence is not None:
        output.print(f"KL divergence  {divergence:.4f}   nats a token, from {against}", soft_wrap=True)
