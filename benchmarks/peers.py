"""pzc beside llm-compressor on SmolLM2-135M: time, peak memory and perplexity.

    python benchmarks/peers.py wikitext2-raw-valid.txt wikitext2-raw-test.txt [--only wanda] [--target 2:4] [--rounds 3]

The files are WikiText-2's raw validation and test splits. llm-compressor comes from PyPI into an environment of its
own, which the script makes (`--environment FOLDER`). Every cell is a process of its own, the tools by turns.

Both read the same float32 weights and the same 16 windows of 512 tokens, both go block by block through what is pruned
already, and one function measures both: the first 16 windows of 512 tokens of the second file. Time is that of pruning
alone, by the clock and of the processor (all threads together, which other work on the machine disturbs less), medians
over the rounds, and memory the highest resident set of the process until then, imports and loading included. Every
result is measured afterwards by plain transformers. `pzc, streamed` prunes from file to file with one block in memory,
as `--stream --eval-windows 0` does: to read and write weights is in its time.
llm-compressor prunes every `Linear` unless told otherwise, the head too, which is tied to the embedding here:
`--defaults` adds rows in which it does.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

PEER = ("torch==2.13.0", "llmcompressor==0.14.0.1")  # in this order: torch as pzc has it
WINDOWS, LENGTH, AT_ONCE = 16, 512, 128

# method, what is asked for, N:M
CASES = (("wanda", "50%", None), ("wanda", "2:4", "2:4"), ("sparsegpt", "50%", None), ("sparsegpt", "2:4", "2:4"))


def main() -> int:
    """Run every case by each tool and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("calibration")
    parser.add_argument("evaluation")
    parser.add_argument("--environment", type=Path, default=Path(".venv/peers"))
    parser.add_argument("--only", help="measure this method alone")
    parser.add_argument("--target", choices=("50%", "2:4"), help="measure this target alone")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--defaults", action="store_true", help="also llm-compressor without an `ignore` of its user")
    options = parser.parse_args()
    peer = _environment(options.environment.absolute())
    tools = {"pzc": sys.executable, "pzc, streamed": sys.executable, "llm-compressor": peer}
    if options.defaults:
        tools["llm-compressor, defaults"] = peer
    with tempfile.TemporaryDirectory() as scratch:
        tokens = Path(scratch) / "tokens.json"
        model = _tokens(options.calibration, options.evaluation, tokens)
        print("| method | target | tool | s | processor s | peak MB | perplexity | embedding zero |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
        for method, target, pattern in CASES:
            if options.only not in (None, method) or options.target not in (None, target):
                continue
            runs: dict[str, list[dict[str, float]]] = {name: [] for name in tools}
            for _ in range(options.rounds):
                for name, python in tools.items():
                    given = json.dumps([name, method, pattern, model, str(tokens)])
                    found = subprocess.run([python, __file__, "--worker", given], capture_output=True, text=True)
                    if found.returncode:
                        print(found.stderr[-3000:], file=sys.stderr)
                        return 1
                    runs[name].append(json.loads(found.stdout.splitlines()[-1]))
            for name, results in runs.items():
                seconds, cpu, peak = (median(r[key] for r in results) for key in ("seconds", "cpu", "peak"))
                quality, zero = results[0]["perplexity"], results[0]["zero"]
                row = (method, target, name, f"{seconds:.1f}", f"{cpu:.1f}", f"{peak:.0f}", f"{quality:.2f}")
                print(f"| {' | '.join((*row, f'{zero:.1%}'))} |", flush=True)
    return 0


def _environment(folder: Path) -> str:
    """The Python of an environment that holds the peer, made where it is missing."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for package in PEER:
        subprocess.run([*pip, package], check=True, stdout=sys.stderr)
    return str(python)


def _tokens(calibration: str, evaluation: str, to: Path) -> str:
    """Write both texts' windows, and return the folder of the model. By pzc, whose windows both tools read."""
    from pzc.runtime.data.texts import sides
    from pzc.runtime.data.windows import calibration_windows, evaluation_windows, tokenise
    from pzc.runtime.models.loading import load_model
    from pzc.runtime.models.smollm2 import folder

    tokenizer = load_model("smollm2", device="cpu").tokenizer
    first, second = (tokenise(tokenizer, text.text) for text in sides(calibration, evaluation))
    read = calibration_windows(first, WINDOWS, LENGTH), evaluation_windows(second, WINDOWS, LENGTH)
    to.write_text(json.dumps([windows.tolist() for windows in read]))
    return str(folder())


def worker(tool: str, method: str, pattern: str | None, model: str, tokens: str) -> dict[str, float]:
    """Prune once with one tool, in a process of its own."""
    import torch

    calibration, evaluation = (torch.tensor(windows) for windows in json.loads(Path(tokens).read_text()))
    with tempfile.TemporaryDirectory() as scratch:
        if "streamed" in tool:
            loaded, prune = None, _streamed(method, pattern, model, calibration, Path(scratch) / "pruned")
        else:
            loaded = _loaded(model)
            prune = (_pzc if tool == "pzc" else _peer)(loaded, method, pattern, calibration, tool)
        start, cpu = time.perf_counter(), time.process_time()
        prune()
        found = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu, "peak": _peak()}
        if loaded is None:
            loaded = _loaded(str(Path(scratch) / "pruned"))
    losses: list[float] = []
    with torch.no_grad():
        for window in evaluation:
            states = loaded.model(window[None], use_cache=False).last_hidden_state[0, :-1]
            for part, following in zip(states.split(AT_ONCE), window[1:].split(AT_ONCE), strict=True):
                lost = torch.nn.functional.cross_entropy(loaded.lm_head(part).float(), following, reduction="none")
                losses += lost.tolist()
    embedding = loaded.get_input_embeddings().weight
    return found | {"perplexity": math.exp(sum(losses) / len(losses)), "zero": float((embedding == 0).float().mean())}


def _loaded(folder: str) -> Any:
    """The model in plain transformers, in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _streamed(method: str, pattern: str | None, model: str, calibration: Any, output: Path) -> Callable[[], object]:
    """Prune from the model's files to others."""
    from pzc.runtime.pruning.request import Request
    from pzc.runtime.streaming.model import open_shell
    from pzc.runtime.streaming.stream import Windows, stream

    request = Request.of(method, pattern=pattern, sequential=True)
    shell = open_shell(model, device="cpu", dtype="float32")

    def prune() -> None:
        with stream(shell, request, Windows(calibration, calibration[:0]), output) as (result,):
            result.save({})

    return prune


def _pzc(model: Any, method: str, pattern: str | None, calibration: Any, tool: str) -> Callable[[], object]:
    from pzc.runtime.pruning.prune import prune

    return lambda: prune(model, method, windows=calibration, pattern=pattern, sequential=True, restores=False)


def _peer(model: Any, method: str, pattern: str | None, calibration: Any, tool: str) -> Callable[[], object]:
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.pruning import SparseGPTModifier, WandaPruningModifier

    ids = calibration.tolist()
    data = Dataset.from_dict({"input_ids": ids, "attention_mask": [[1] * len(window) for window in ids]})
    kind = WandaPruningModifier if method == "wanda" else SparseGPTModifier
    ignore = [] if "defaults" in tool else ["re:.*lm_head"]
    recipe = kind(sparsity=0.5, mask_structure=pattern or "0:0", ignore=ignore)
    return lambda: oneshot(
        model=model, dataset=data, recipe=recipe, num_calibration_samples=len(ids), max_seq_length=len(ids[0]),
        shuffle_calibration_samples=False,
    )  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        print(json.dumps(worker(*json.loads(sys.argv[2]))))
    else:
        sys.exit(main())
