"""How far rounding alone moves the perplexity of a pruned model.

    python benchmarks/rounding.py wikitext2-raw-valid.txt wikitext2-raw-test.txt [--only wanda] [--seeds 3]

The files are WikiText-2's raw validation and test splits, the protocol is that of `baselines.py`. Every normalisation
weight of SmolLM2-135M is multiplied by 1 + 1e-6 · z, z normal, which changes the dense model by nothing that counts;
then it is pruned as ever. Two right implementations differ by as much: where a score is nearly that of its neighbour,
rounding decides, and block by block what follows differs more and more.
"""

from __future__ import annotations

import argparse

import torch
from rich.console import Console
from rich.table import Table

from pzc.runtime.data.texts import sides
from pzc.runtime.data.windows import calibration_windows, evaluation_windows, tokenise
from pzc.runtime.evaluation.evaluate import window_losses
from pzc.runtime.evaluation.uncertainty import perplexity
from pzc.runtime.models.loading import load_model
from pzc.runtime.pruning.prune import prune

NUDGE = 1e-6
WINDOWS, LENGTH = 16, 512

# metric, pattern, sequential
CASES = (
    ("wanda", None, False),
    ("wanda", None, True),
    ("wanda", "2:4", False),
    ("wanda", "2:4", True),
    ("sparsegpt", None, True),
    ("sparsegpt", "2:4", True),
)


def main() -> None:
    """Measure every case as it is and nudged, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("calibration")
    parser.add_argument("evaluation")
    parser.add_argument("--only", help="measure this metric alone")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    tokenizer = load_model("smollm2", device="cpu").tokenizer
    calibration, evaluation = (tokenise(tokenizer, t.text) for t in sides(options.calibration, options.evaluation))
    windows = calibration_windows(calibration, WINDOWS, LENGTH)
    held_out = evaluation_windows(evaluation, WINDOWS, LENGTH)
    table = Table("metric", "target", "mode", "as it is", f"nudged by {NUDGE:g}")
    for metric, pattern, sequential in CASES:
        if options.only in (None, metric):
            found = [
                pruned_perplexity(metric, pattern, sequential, seed, windows, held_out)
                for seed in range(options.seeds + 1)
            ]
            mode = "block by block" if sequential else "one-shot"
            table.add_row(
                metric, pattern or "50%", mode, f"{found[0]:.2f}", " ".join(f"{value:.2f}" for value in found[1:])
            )
    Console(width=100).print(table)


def pruned_perplexity(
    metric: str, pattern: str | None, sequential: bool, seed: int, windows: torch.Tensor, held_out: torch.Tensor
) -> float:
    """The perplexity of the model pruned so, nudged unless the seed is 0."""
    model = load_model("smollm2", device="cpu", dtype="float32").model
    random = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if seed and "norm" in name:
            parameter.data.mul_(1 + NUDGE * torch.randn(parameter.shape, generator=random))
    prune(model, metric, windows=windows, pattern=pattern, sequential=sequential)
    return perplexity(window_losses(model, held_out))


if __name__ == "__main__":
    main()
